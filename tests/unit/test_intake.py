"""How an order gets its row: one id is one order, and what cannot be read is denied where everybody can see it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as rounds
from hypothesis import strategies as st
from sqlalchemy import select, update

from models.errors import IdempotencyConflict, InvalidOrder
from models.lifetimes import expiry
from models.messages import OrderRequest, utcnow
from models.record.batch import OrderBatch
from models.record.database import Database
from models.record.intake import Intake, request_of, row_of
from models.record.replaces import request_replace
from models.record.tables import order_events, orders
from models.risk.names import Limit
from models.settings import Settings
from models.signing import Signer
from tests.traced import executions, traced
from worker.risk.changes import set_limit

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
Body = dict[str, Any]


def request(client_order_id: str = "o-1", **changes: Any) -> OrderRequest:
    terms = {"symbol": "AAPL", "side": "buy", "quantity": 10, "client_order_id": client_order_id}
    return OrderRequest(**terms | changes)


def body(client_order_id: str = "o-1", **changes: Any) -> Body:
    return json.loads(json.dumps(request(client_order_id).to_wire())) | changes


def stored(database: Database) -> dict[str, Body]:
    with database.read() as connection:
        rows = connection.execute(select(orders)).mappings()
        return {row["client_order_id"]: dict(row) for row in rows}


def kinds(database: Database, client_order_id: str = "o-1") -> list[str]:
    with database.read() as connection:
        query = select(order_events.c.kind).where(order_events.c.client_order_id == client_order_id)
        return list(connection.execute(query.order_by(order_events.c.id)).scalars())


# -- THE CLIENT'S WAY ---
def test_a_new_order_is_queued_for_the_first_broker_of_its_route(intake: Intake, database: Database) -> None:
    intake.record([request(route=["tda", "ibkr"]), request("o-2")])
    rows = stored(database)
    assert [(r["status"], r["broker"], r["attempt_no"]) for r in rows.values()] == [
        ("queued", "tda", 0), ("queued", "ibkr", 0),
    ]  # fmt: skip
    assert rows["o-1"]["route"] == ["tda", "ibkr"]
    assert rows["o-2"]["route"] == ["ibkr", "alpaca", "tda"]
    assert kinds(database) == ["queued"]


def test_a_request_of_a_row_is_the_one_that_pydantic_would_construct() -> None:
    asked = OrderRequest(symbol="AAPL", side="buy", quantity=1, order_type="limit", limit_price="1.5", route=["ibkr"])
    found = request_of(row_of(asked, ["ibkr"], asked.created_at))
    same = OrderRequest.model_construct(**{name: getattr(found, name) for name in found.model_fields_set})
    assert found == same == asked.model_copy(update={"expires_at": found.expires_at})
    assert found.model_fields_set == same.model_fields_set
    assert list(vars(found)) == list(vars(same))
    assert found.body_hash == asked.body_hash


def test_the_same_order_again_is_the_same_order(intake: Intake, database: Database) -> None:
    first = intake.record([request()])
    with database.write() as connection:
        connection.execute(update(orders).values(status="filled", filled_quantity=Decimal(10)))
    again = intake.record([request(created_at=NOW, quantity="10.0")])
    assert again[0]["status"] == "filled", "the answer is the order as it is now"
    assert first[0]["client_order_id"] == again[0]["client_order_id"]
    assert len(stored(database)) == 1
    assert kinds(database) == ["queued"]


@pytest.mark.parametrize("change", [{"quantity": 11}, {"side": "sell"}, {"symbol": "MSFT"}, {"strategy": "x"},
                                    {"order_type": "limit", "limit_price": 1}, {"time_in_force": "gtc"}])  # fmt: skip
def test_another_order_under_the_same_id_is_a_conflict(intake: Intake, database: Database, change: Body) -> None:
    intake.record([request()])
    before = stored(database)
    with pytest.raises(IdempotencyConflict) as caught:
        intake.record([request("o-2"), request(**change)])
    assert "'o-1'" in str(caught.value)
    assert "AAPL" in str(caught.value)
    assert stored(database) == before, "neither the old order nor its new neighbours"
    assert kinds(database) == ["queued"]


def test_two_orders_under_one_id_in_one_call_are_a_conflict(intake: Intake, database: Database) -> None:
    with pytest.raises(IdempotencyConflict):
        intake.record([request(), request(quantity=11)])
    assert stored(database) == {}


def test_one_order_twice_in_one_call_is_one_order(intake: Intake, database: Database) -> None:
    rows = intake.record([request(), request(), request("o-2")])
    assert [row["client_order_id"] for row in rows] == ["o-1", "o-1", "o-2"]
    assert set(stored(database)) == {"o-1", "o-2"}
    assert kinds(database) == ["queued"]


def test_another_route_is_another_order(intake: Intake, database: Database) -> None:
    intake.record([request(route=["ibkr"])])
    with pytest.raises(IdempotencyConflict, match="ibkr"):
        intake.record([request(route=["alpaca"])])
    assert stored(database)["o-1"]["route"] == ["ibkr"]


def test_without_a_route_of_its_own_the_same_order_is_recognised(intake: Intake) -> None:
    intake.record([request(route=["tda"])])
    assert intake.record([request()])[0]["broker"] == "tda"


def test_a_route_to_nowhere_is_refused_and_nothing_recorded(intake: Intake, database: Database) -> None:
    with pytest.raises(InvalidOrder, match=r"route: .*'etrade'.*alpaca"):
        intake.record([request(), request("o-2", route=["ibkr", "etrade"])])
    assert stored(database) == {}


def test_many_at_once_under_one_id_are_one_order(intake: Intake, database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: intake.record([request()])[0]["client_order_id"], range(16)))
    assert answers == ["o-1"] * 16
    assert kinds(database) == ["queued"]


# -- THE QUEUE'S WAY ---
def test_an_order_without_a_row_gets_one(intake: Intake, database: Database) -> None:
    assert intake.take([body(), body("o-2", route=["tda"])], "alpaca") == {"o-1": "alpaca", "o-2": "tda"}
    assert stored(database)["o-1"]["route"] == ["alpaca", "ibkr", "tda"]


def test_a_copy_of_a_message_changes_nothing(intake: Intake, database: Database) -> None:
    first = intake.take([body()], "ibkr")
    before = stored(database)
    assert intake.take([body(), body()], "ibkr") == first
    assert stored(database) == before
    assert kinds(database) == ["queued"]


def test_a_conflicting_message_is_noted_and_does_nothing(intake: Intake, database: Database) -> None:
    intake.take([body()], "ibkr")
    before = stored(database)
    assert intake.take([body(quantity="11"), body("o-2")], "ibkr") == {"o-2": "ibkr"}
    assert stored(database)["o-1"] == before["o-1"]
    assert kinds(database) == ["queued", "conflict"]


def test_two_orders_under_one_id_in_one_message_are_a_conflict(intake: Intake, database: Database) -> None:
    intake.take([body(), body(quantity="11")], "ibkr")
    assert stored(database)["o-1"]["quantity"] == 10
    assert kinds(database) == ["queued", "conflict"]


def test_what_the_client_recorded_is_recognised_in_its_message(intake: Intake, database: Database) -> None:
    (row,) = intake.record([request(tags={"a": "b"}, expires_at=datetime.now(UTC) + timedelta(hours=1))])
    assert intake.take([json.loads(json.dumps(request_of(row).to_wire()))], "ibkr") == {"o-1": "ibkr"}
    assert intake.take([request_of(stored(database)["o-1"]).to_wire()], "ibkr") == {"o-1": "ibkr"}
    assert kinds(database) == ["queued"]


@given(tags=st.sampled_from([[], {}, ["a"], {"a": "b"}, {"": ""}]), strategy=st.sampled_from([None, "", "s"]))
@rounds(max_examples=30, deadline=None)
def test_a_row_gives_back_the_request_it_records(tags: Any, strategy: str | None) -> None:
    made = request(tags=tags, strategy=strategy)
    back = request_of(row_of(made, ["ibkr"], datetime.now(UTC)))
    assert back.body_hash == made.body_hash


def test_an_order_with_new_terms_is_recognised_by_its_row_and_by_its_first_message(
    intake: Intake, database: Database
) -> None:
    """Replaced while it was queued: its own ring must not look like another order."""
    intake.record([request()])
    with database.write() as connection:
        batch = OrderBatch.open(connection, ["o-1"], datetime.now(UTC))
        request_replace(batch["o-1"], {"quantity": 5})
        batch.write()
    row = stored(database)["o-1"]
    assert row["quantity"] == 5
    assert intake.take([request_of(row).to_wire()], "ibkr") == {"o-1": "ibkr"}
    assert intake.take([body()], "ibkr") == {"o-1": "ibkr"}
    assert stored(database)["o-1"]["quantity"] == 5
    assert "conflict" not in kinds(database)


BROKEN: list[tuple[Body, tuple[str, ...]]] = [
    (body(side="hold"), ("side", "'hold'")),
    (body(quantity="-1"), ("quantity", "'-1'")),
    (body(quantity="nan"), ("quantity", "'nan'")),
    (body(quantity=float("inf")), ("quantity", "inf")),
    (body(quantity="1e9999999"), ("quantity", "'1e9999999'")),
    (body(quantity=None), ("quantity", "required")),
    (body(quantity={"$gt": 0}), ("quantity", "$gt")),
    (body(order_type="limit"), ("limit_price", "none")),
    (body(order_type="limit", limit_price="1e9999999"), ("limit_price", "'1e9999999'")),
    (body(created_at="2026-01-05T14:30:00"), ("created_at", "time zone")),
    (body(created_at="9999-12-31T23:59:59Z", expires_at=None), ("created_at", "9999")),
    (body(created_at="0001-01-01T00:00:00+14:00"), ("created_at", "0001")),
    (body(route=["etrade"]), ("route", "'etrade'")),
    (body(price="5"), ("price", "'5'")),
    (body(symbol="\ud800"), ("symbol", "ud800")),
    (body(symbol="A\x00"), ("symbol", "x00")),
    (body(strategy="\ud800"), ("strategy", "ud800")),
    (body(strategy="a\x00"), ("strategy", "x00")),
    (body(side="\ud800"), ("side", "ud800")),
    (body(symbol=["AAPL"]), ("symbol", "AAPL")),
    (body(symbol="x" * 500), ("symbol", "xxx")),
    (body(strategy="x" * 500), ("strategy", "xxx")),
    (body(version=3), ("version", "3")),
    (body(self=1), ("self", "")),
]  # fmt: skip


@pytest.mark.parametrize("broken", [b for b, _ in BROKEN], ids=[f"{i}-{w[0]}" for i, (_, w) in enumerate(BROKEN)])
def test_a_malformed_order_is_denied_with_field_and_value(intake: Intake, database: Database, broken: Body) -> None:
    """And its neighbours in the message go their way."""
    words = next(w for b, w in BROKEN if b is broken)
    assert intake.take([body("before"), broken, body("after")], "ibkr") == {"before": "ibkr", "after": "ibkr"}
    ((id_, row),) = ((id_, row) for id_, row in stored(database).items() if id_ not in ("before", "after"))
    assert id_.startswith("invalid-"), "an id belongs to an order that can be read"
    assert "o-1" in row["reason"]
    assert (row["status"], row["broker"], row["filled_quantity"]) == ("denied", "ibkr", 0)
    assert row["closed_at"] is not None
    assert all(word in row["reason"] for word in words), row["reason"]
    assert kinds(database, id_) == ["denied"]
    for name in ("symbol", "side", "strategy", "reason"):
        text = row[name] or ""
        assert text.isprintable(), f"{name}: PostgreSQL takes no NUL, no database a lone surrogate"


@pytest.mark.parametrize("given_id", [None, "", 7, "a b", "x" * 65, "\ud800", "a\x00b", ["o-1"], {}])
def test_an_order_without_a_usable_id_is_one_row_however_often_it_comes(
    intake: Intake, database: Database, given_id: Any
) -> None:
    broken = body() | {"client_order_id": given_id}
    assert intake.take([broken], "ibkr") == {}
    assert intake.take([dict(reversed(broken.items()))], "ibkr") == {}
    ((client_order_id, row),) = stored(database).items()
    assert row["status"] == "denied"
    assert "client_order_id" in row["reason"]
    assert client_order_id.isascii()
    assert client_order_id.isprintable()
    assert kinds(database, client_order_id) == ["denied", "denied_copy"]


@pytest.mark.parametrize("given_bodies", [None, 7, "buy 10 AAPL", {}, [None], [[]], ["AAPL"], {"o-1": {}}])
def test_what_is_no_list_of_orders_is_denied_too(intake: Intake, database: Database, given_bodies: Any) -> None:
    assert intake.take(given_bodies, "ibkr") == {}
    ((_, row),) = stored(database).items()
    assert row["status"] == "denied"


def test_a_single_order_that_is_no_list_is_taken(intake: Intake) -> None:
    assert intake.take(body(), "ibkr") == {"o-1": "ibkr"}  # type: ignore[arg-type]


def test_no_orders_are_no_work(intake: Intake, database: Database) -> None:
    assert intake.take([], "ibkr") == {}
    assert stored(database) == {}


def test_a_broken_copy_cannot_deny_a_good_order(intake: Intake, database: Database) -> None:
    intake.take([body()], "ibkr")
    before = stored(database)["o-1"]
    assert intake.take([body(quantity="-5")], "ibkr") == {}
    assert stored(database)["o-1"] == before
    assert kinds(database) == ["queued"]


GARBAGE: list[Any] = [
    {"client_order_id": "o-1"}, body(quantity="-5"), body(version=9), body(symbol=7), body(tags=["x" * 129]),
    body(route=["etrade"]), body(more="fields"), body(tags={"a": "\0"}), body(strategy="\u202e"),
    body(created_at="soon"),
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_never_takes_the_id_of_an_order_that_can_be_read(
    intake: Intake, database: Database, garbage: Any
) -> None:
    assert intake.take([garbage], "ibkr") == {}
    (row,) = intake.record([request()])
    assert row["status"] == "queued"
    assert intake.take([garbage], "ibkr") == {}
    assert intake.take([body()], "ibkr") == {"o-1": "ibkr"}
    assert intake.record([request()])[0]["client_order_id"] == "o-1"
    assert kinds(database) == ["queued"]


# -- A PRODUCER'S CLOCK ---
def at(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("created", "expires", "word"),
    [
        (3600.0, 3660.0, "created_at"), (9.0, 60.0, "created_at"), (-8e8, 2.5e11, "expires_at"),
        (-8e8, 3600.0, "expires_at"), (0.0, 86_500.0, "expires_at"), (-86_500.0, 100.0, "expires_at"),
    ],
)  # fmt: skip
def test_an_order_from_a_clock_that_is_wrong_is_not_sent(
    intake: Intake, database: Database, created: float, expires: float, word: str
) -> None:
    def times() -> dict[str, datetime]:
        return {"created_at": at(created), "expires_at": at(expires)}

    with pytest.raises(InvalidOrder, match=word):
        intake.record([request("by-client", **times())])
    assert stored(database) == {}
    intake.take([body(**{name: value.isoformat() for name, value in times().items()}), body("good")], "ibkr")
    rows = stored(database)
    assert (rows["o-1"]["status"], rows["good"]["status"]) == ("denied", "queued")
    assert word in rows["o-1"]["reason"]
    assert rows["o-1"]["created_at"] <= at(0), "else it would be the first of every listing for ever"


def test_a_clock_may_be_five_seconds_ahead_and_no_more() -> None:
    now = at(0)
    lives = timedelta(seconds=60)
    assert expiry(now + timedelta(seconds=5), now + timedelta(seconds=5) + lives, now, 86_400) == now + lives
    with pytest.raises(InvalidOrder, match="created_at"):
        expiry(now + timedelta(seconds=5.1), now + timedelta(seconds=5.1) + lives, now, 86_400)


def test_an_order_lives_from_its_creation_or_from_our_first_sight(intake: Intake, database: Database) -> None:
    intake.take([body(created_at=at(4).isoformat(), expires_at=at(64).isoformat())], "ibkr")
    assert stored(database)["o-1"]["expires_at"] <= at(60)
    old = request("old", created_at=at(-50), expires_at=at(10))
    assert intake.record([old])[0]["expires_at"] == old.expires_at
    intake.record([request("a-day", expires_at=at(86_399))])


def test_one_order_that_the_database_refuses_holds_back_no_other(intake: Intake, database: Database) -> None:
    """Whatever a database refuses that the door lets through: here, by a trigger."""
    with database.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER odd BEFORE INSERT ON orders WHEN NEW.client_order_id = 'odd' "
            "BEGIN SELECT RAISE(ABORT, 'no such order'); END"
        )
    assert intake.take([body("before"), body("odd"), body("after")], "ibkr") == {"before": "ibkr", "after": "ibkr"}
    ((id_, row),) = ((id_, row) for id_, row in stored(database).items() if id_ not in ("before", "after"))
    assert id_.startswith("invalid-")
    assert row["status"] == "denied"
    assert "no such order" in row["reason"]
    with pytest.raises(InvalidOrder, match=r"odd.*nothing was recorded"):
        intake.record([request("fine"), request("odd")])
    assert "fine" not in stored(database)


@pytest.mark.parametrize("count", [1, 100])
def test_a_batch_is_recorded_in_as_many_statements_as_one_order(intake: Intake, database: Database, count: int) -> None:
    intake.limits.approval(OrderRequest(**body("m")), utcnow())  # once in two seconds the limits are read
    with traced(database) as seen:
        intake.take([body(f"m-{n}") for n in range(count)], "ibkr")
    assert len(executions(seen)) == 4, seen
    assert len(stored(database)) == count


def test_a_limit_of_the_key_is_said_when_its_order_is_recorded(settings: Settings, database: Database) -> None:
    limit = Limit("key", "dip", "max_quantity", Decimal(5), set_by="ana")
    set_limit(database, settings.risk, limit, reason="small")
    here = Intake(settings, database)
    (over,) = here.record([request("over")], Signer("dip", "hmac-sha256", b"0" * 32, "prod"))
    (other,) = here.record([request("other")], Signer("dap", "hmac-sha256", b"0" * 32, "prod"))
    assert (over["status"], other["status"]) == ("denied", "queued")
    assert "max_quantity" in str(over["reason"])
