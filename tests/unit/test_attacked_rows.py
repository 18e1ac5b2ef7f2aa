"""Whoever can write to the table of signed orders, and has no key, trades nothing else than was signed, and not twice.

Each attack is one UPDATE of a row that a key has signed, and then a real claim.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from models.errors import DataError, Denied, OrderRejected, Untrusted
from models.messages import OrderRequest
from models.record.batch import OrderBatch
from models.record.holders import Closing
from models.record.order import has_ended
from models.record.replaces import tell
from models.record.tables import attempts, orders
from models.settings import load_settings
from models.vocabulary import Side
from tests.open_desk import open_desk
from tests.unit.trust_desk import LOW, SECRET, Make, TrustDesk, order, sealed, signer, wish
from worker.control.kill import closing_id


def later(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.fixture
def house(make: Make) -> TrustDesk:
    desk = make(require="all")
    desk.key()
    return desk


def queued(desk: TrustDesk, **terms: Any) -> None:
    desk.desk.place.intake.take([sealed(signer(), order(**terms))], "alpaca")


def forge(desk: TrustDesk, **columns: Any) -> None:
    with desk.database.write() as connection:
        connection.execute(update(orders).values(**columns))


#: What was signed beside the usual, and what is written over its row.
ATTACKS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"quantity": 500}),
    ({}, {"quantity": 500, "amended_at": later(-1)}),
    (LOW, {"limit_price": 900, "time_in_force": "gtc", "amended_at": later(-1)}),
    ({}, {"notional": 500, "quantity": None}),
    ({}, {"symbol": "PEP"}),
    ({}, {"side": "sell_short"}),
    ({}, {"strategy": "other"}),
    ({}, {"strategy": None}),
    ({}, {"tags": ["hedge"]}),
    ({}, {"asset_class": "crypto"}),
    ({}, {"currency": "EUR"}),
    ({}, {"extended_hours": True}),
    ({}, {"decision_price": 3}),
    ({}, {"expires_at": later(3_000)}),
    ({}, {"expires_at": None}),
    ({}, {"created_at": later(-3_000)}),
    ({}, {"group_id": "g-1", "group_kind": "oco", "leg": "first"}),
    ({}, {"account": "ira"}),
    ({}, {"filled_quantity": 4}),
    ({}, {"filled_quantity": -4}),
    (LOW, {"limit_price": 900}),
    (LOW, {"order_type": "market", "limit_price": None}),
    (LOW, {"time_in_force": "gtc"}),
    (LOW, {"hidden": True, "version": 2}),
    (LOW, {"display_quantity": 1, "version": 2}),
    (LOW, {"algo": {"name": "adaptive"}, "version": 2}),
    (LOW, {"time_in_force": "gtd", "good_till": later(90_000), "version": 2}),
    ({"version": 2, "session": "any"}, {"session": None}),
    ({}, {"not_before": later(-5), "version": 2}),
]


@pytest.mark.parametrize(("signed", "forged"), ATTACKS, ids=lambda one: ",".join(one) or "plain")
def test_no_column_of_a_signed_row_can_be_changed(
    house: TrustDesk, signed: dict[str, Any], forged: dict[str, Any]
) -> None:
    queued(house, **signed)
    forge(house, **forged)
    house.desk.place.work(["o-1"])
    status, code = house.stands()
    assert (status, code) in {("denied", "bad_signature"), ("denied", "invalid")}, house.row()["reason"]
    assert not house.broker.get_orders(open_only=False), "nothing was sent"


@pytest.mark.parametrize("route", [{"route": ["alpaca", "tda"]}, {}])
def test_a_worker_whose_settings_lack_a_later_broker_sends_what_was_signed(
    house: TrustDesk, route: dict[str, Any]
) -> None:
    queued(house, **route)
    assert house.row()["route"] == ["alpaca", "tda"]
    known = {"home": house.home, "redis_url": house.settings.redis_url, "security": house.settings.security}
    worker = open_desk(load_settings(**known, brokers={"alpaca": {"adapter": "fake"}}), house.database, house.broker)
    worker.place.work(["o-1"])
    worker.close()
    assert house.stands() == ("filled", None), house.row()["reason"]


def replaced(desk: TrustDesk, **terms: str) -> None:
    """Let the order's key replace it."""
    desk.desk.wishes.record_replace(
        desk.desk.wishes.judge("replace", wish(signer(), "replace", client_order_id="o-1", **terms).to_wire())
    )


@pytest.mark.parametrize("forged", [{"quantity": 5}, {"quantity": 9}, {"quantity": 5, "amended_at": None}])
def test_a_signed_replace_is_what_counts_and_not_the_row(house: TrustDesk, forged: dict[str, Any]) -> None:
    queued(house, **LOW)
    replaced(house, quantity="2")
    forge(house, **forged)
    house.desk.place.work(["o-1"])
    assert house.stands() == ("denied", "bad_signature")


def test_an_order_is_sent_on_the_terms_of_its_signed_replaces(house: TrustDesk) -> None:
    queued(house, **LOW)
    replaced(house, quantity="2")
    replaced(house, limit_price="1.25", quantity="3")
    house.desk.place.work(["o-1"])
    assert house.stands() == ("accepted", None), house.row()["reason"]
    (sent,) = house.broker.get_orders(open_only=False)
    assert (sent.quantity, sent.limit_price) == (3, Decimal("1.25"))


def test_a_wish_that_nobody_has_signed_changes_no_order_at_its_broker(house: TrustDesk) -> None:
    queued(house, **LOW)
    house.desk.place.work(["o-1"])
    forge(house, replace_request={"quantity": "500"}, available_at=later(-1))
    house.desk.replacements.carry_out()
    assert house.row()["replace_request"] is None
    assert ("replace_refused", "nobody is known to have asked for it: quantity 500") in house.events()
    replaced(house, quantity="2")
    forge(house, replace_request={"quantity": "500"}, available_at=later(-1))
    house.desk.replacements.carry_out()
    assert [order.quantity for order in house.broker.get_orders(open_only=False)] == [5]
    replaced(house, quantity="3")
    house.desk.replacements.carry_out()
    assert [order.quantity for order in house.broker.get_orders()] == [3]


def test_nor_does_one_on_a_row_from_which_the_key_was_taken(house: TrustDesk) -> None:
    queued(house, **LOW)
    house.desk.place.work(["o-1"])
    forge(house, key_id=None, signed_text=None, signature=None, replace_request={"quantity": "500"})
    forge(house, available_at=later(-1))
    house.desk.replacements.carry_out()
    assert [order.quantity for order in house.broker.get_orders()] == [5]
    assert ("replace_refused", "nobody is known to have asked for it: quantity 500") in house.events()


def test_a_cancel_that_nobody_has_asked_for_ends_no_signed_order(house: TrustDesk) -> None:
    queued(house)
    forge(house, cancel_requested_at=later(-1))
    house.desk.wishes.record(["o-1"])
    assert house.stands()[0] == "queued", "a ring without a signature does not make it one"
    house.desk.place.work(["o-1"])
    assert house.stands() == ("filled", None)
    assert ("cancel_refused", "nobody is known to have asked for it") in house.events()


@pytest.mark.parametrize("key_id", ["k-1", None])
def test_nor_one_that_lives_at_its_broker(house: TrustDesk, key_id: str | None) -> None:
    queued(house, **LOW)
    house.desk.place.work(["o-1"])
    forge(house, cancel_requested_at=later(-1), key_id=key_id)
    for ids in (["o-1"], None):
        house.desk.cancels.carry_out(ids)
    assert (house.stands()[0], house.row()["cancel_requested_at"]) == ("accepted", None)
    assert len(house.broker.get_orders()) == 1


@pytest.mark.parametrize("forged", [{"cancel_requested_at": None}, {"cancel_sent_at": later(3_600)}])
def test_a_cancel_that_its_key_has_asked_for_is_carried_out_whatever_the_row_says(
    house: TrustDesk, forged: dict[str, Any]
) -> None:
    queued(house, **LOW)
    house.desk.place.work(["o-1"])
    asked = house.desk.wishes.judge("cancel", wish(signer(), "cancel", client_order_ids=["o-1"]).to_wire())
    house.desk.wishes.record(asked.ids, asked.key)
    forge(house, **forged)
    house.desk.cancels.carry_out()
    assert house.broker.get_orders() == []
    assert "cancel_sent" in dict(house.events())


def test_an_order_that_is_to_be_canceled_is_not_sent_again_though_its_row_is_silent(house: TrustDesk) -> None:
    queued(house, **LOW)
    house.desk.place.work(["o-1"])
    asked = house.desk.wishes.judge("cancel", wish(signer(), "cancel", client_order_ids=["o-1"]).to_wire())
    house.desk.wishes.record(asked.ids, asked.key)
    forge(house, cancel_requested_at=None)
    late = OrderRejected("no", broker="alpaca")
    house.desk.batches.change(["o-1"], lambda batch: house.desk.recorder.end(batch["o-1"], 1, late))
    assert house.stands()[0] == "queued"
    doubt(house)  # as the claim at the next broker asks
    house.desk.batches.change(["o-1"], lambda batch: has_ended(batch["o-1"]))
    assert house.stands()[0] == "canceled"


def test_a_cancel_is_in_the_journal_though_somebody_has_forged_one_before(house: TrustDesk) -> None:
    """Else it would be taken for the forged one, and never be carried out."""
    queued(house, **LOW)
    house.desk.place.work(["o-1"])
    forge(house, cancel_requested_at=later(-1))
    asked = house.desk.wishes.judge("cancel", wish(signer(), "cancel", client_order_ids=["o-1"]).to_wire())
    house.desk.wishes.record(asked.ids, asked.key)
    house.desk.wishes.record(asked.ids, asked.key)
    assert [kind for kind, _ in house.events()].count("cancel_requested") == 1


def test_an_order_whose_cancel_was_forged_goes_on_along_its_route(house: TrustDesk) -> None:
    queued(house, route=["alpaca", "tda"], **LOW)
    house.desk.place.work(["o-1"])
    forge(house, cancel_requested_at=later(-1))
    late = OrderRejected("no", broker="alpaca")
    house.desk.batches.change(["o-1"], lambda batch: house.desk.recorder.end(batch["o-1"], 1, late))
    assert (house.stands()[0], house.row()["broker"]) == ("queued", "tda")


def doubt(desk: TrustDesk) -> Denied | None:
    """Return why the order may not be sent as its row is, if it may not."""

    def judge(batch: OrderBatch) -> Denied | None:
        ask = desk.desk.vouching.over(batch, guarded=True)
        return None if ask is None else ask(batch["o-1"])

    return desk.desk.batches.change(["o-1"], judge)[0]


def test_an_order_goes_on_along_its_route_on_the_terms_that_its_broker_had_confirmed(house: TrustDesk) -> None:
    queued(house, **LOW)
    house.desk.place.work(["o-1"])
    for quantity in ("4", "3"):
        replaced(house, quantity=quantity)
        house.desk.replacements.carry_out()
    late = OrderRejected("no", broker="alpaca")
    house.desk.batches.change(["o-1"], lambda batch: house.desk.recorder.end(batch["o-1"], 3, late))
    assert (house.row()["status"], house.row()["broker"], house.row()["quantity"]) == ("queued", "tda", 3)
    assert doubt(house) is None
    forge(house, quantity=5)
    assert doubt(house) is not None


def test_terms_that_a_broker_has_taken_back_are_those_of_before() -> None:
    changes: list[tuple[int, dict[str, str]]] = []
    for kind, detail in (
        ("replaced", "before it was sent: quantity 8, limit_price 1"),
        ("replaced", "attempt 2 at alpaca: quantity 7"),
        ("replaced", "attempt 3 at alpaca: quantity 6, limit_price 2"),
        ("replace_refused", "attempt 4 at alpaca: no"),
        ("replace_refused", "attempt 3 at alpaca: after it was taken: no"),
        ("replaced", "before it was sent: limit_price 3"),
    ):
        tell(changes, kind, detail)
    assert [terms for _, terms in changes] == [
        {"quantity": "8", "limit_price": "1"},
        {"quantity": "7"},
        {"limit_price": "3"},
    ]


@pytest.mark.parametrize("how", [{"not_before": later(86_400).isoformat(), "version": 2}, {"needs": True}])
def test_an_order_does_not_leave_its_hold_by_an_update(make: Make, how: dict[str, Any]) -> None:
    desk = make(require="all")
    desk.key(needs_approval="needs" in how)
    queued(desk, **{name: value for name, value in how.items() if name != "needs"})
    assert desk.stands()[0] == "held"
    forge(desk, status="queued", held_for=None, available_at=later(-1))
    desk.desk.place.work(["o-1"])
    assert desk.stands()[0] == "denied"
    assert not desk.broker.get_orders(open_only=False)


@pytest.mark.parametrize("attempt_no", [0, 1])
def test_an_order_that_has_ended_is_not_sent_again(house: TrustDesk, attempt_no: int) -> None:
    queued(house)
    house.desk.place.work(["o-1"])
    assert house.stands()[0] == "filled"
    forge(house, status="queued", filled_quantity=0, attempt_no=attempt_no, closed_at=None, available_at=later(-1))
    if not attempt_no:
        with house.database.write() as connection:
            connection.execute(update(attempts).values(attempt_no=9))
    house.desk.place.work(["o-1"])
    assert house.stands()[0] == "denied"
    assert len(house.broker.get_orders(open_only=False)) == 1


# -- WHAT A WORKER ORDERS ITSELF ---
def closing(**terms: Any) -> OrderRequest:
    return OrderRequest(
        **{"symbol": "KO", "side": "buy", "quantity": 5, "strategy": "dip", "route": ["alpaca"]} | terms
    )


@pytest.fixture
def signing(make: Make, tmp_path: Path) -> TrustDesk:
    path = tmp_path / "own.secret"
    path.write_bytes(SECRET)
    return make(require="all", key="k-1", key_file=str(path))


def test_what_a_worker_orders_itself_is_signed_with_its_own_key(signing: TrustDesk) -> None:
    signing.key()
    (row,) = signing.desk.kills.own.record([closing(client_order_id="o-1")])
    assert (row["key_id"], bool(row["signature"])) == ("k-1", True)
    signing.desk.place.work(["o-1"])
    assert signing.stands() == ("filled", None)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (None, "there is no key"),
        ({"strategies": ["other"]}, "not for dip"),
        ({"symbols": ["PEP"]}, "not for KO"),
        ({"brokers": ["tda"]}, "not for alpaca"),
        ({"needs_approval": True}, "need somebody's approval"),
        ({"not_after": later(-1)}, "not_after"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_its_key_is_not_good_for_is_not_recorded(
    signing: TrustDesk, bounds: dict[str, Any] | None, words: str
) -> None:
    if bounds is not None:
        signing.key(**bounds)
    with pytest.raises(Untrusted, match=words):
        signing.desk.kills.own.record([closing()])
    assert signing.rows() == []


@pytest.mark.parametrize("forged", [{"limit_price": 900}, {"strategy": "other"}, {"key_id": None, "signed_text": None}])
def test_a_worker_signs_no_exits_for_a_group_that_somebody_has_forged(house: TrustDesk, forged: dict[str, Any]) -> None:
    queued(house, **LOW)
    own = house.desk.protections.own
    own.must_be_vouched_for([house.row()])  # type: ignore[list-item]
    forge(house, **forged)
    with pytest.raises(Untrusted):
        own.must_be_vouched_for([house.row()])  # type: ignore[list-item]


@pytest.mark.parametrize(("key_id", "gives_up"), [(None, False), ("k-1", True)])
def test_nobody_uses_up_the_closing_orders_of_a_kill_without_a_key(
    signing: TrustDesk, key_id: str | None, gives_up: bool
) -> None:
    signing.key()
    about, control = Closing("KO", Side.SELL, Decimal(5), "dip", "alpaca"), {"generation": 7, "kill": {"flatten": True}}
    names = {"symbol": "KO", "side": "sell", "strategy": "dip", "broker": "alpaca", "account": None}
    before: Any = [
        {**names, "client_order_id": closing_id(7, about, no), "key_id": key_id, "status": "denied", "reason": "x"}
        for no in (1, 2, 3)
    ]
    ask = partial(signing.desk.kills._request, control, about, before)  # type: ignore[arg-type]
    if gives_up:
        with pytest.raises(DataError, match="3 closing orders have ended"):
            ask()
    else:
        assert ask().client_order_id == closing_id(7, about, 4)
