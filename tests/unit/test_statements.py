"""The prepared statements do what SQLAlchemy's own do, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select

from models.messages import OrderRequest, utcnow
from models.record.database import Database, open_database, upgrade
from models.record.intake import Intake, row_of
from models.record.statements import insert_many, update_many
from models.record.stored import insert_orders
from models.record.tables import attempts, order_events, orders
from models.settings import Settings, load_settings
from tests.kit import PostgresServer

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def row(id_: str, **more: Any) -> dict[str, Any]:
    usual = {
        "client_order_id": id_, "version": 1, "symbol": "AAPL", "quantity": Decimal("10.50"), "status": "queued",
        "route": ["ibkr", "alpaca"], "tags": {"a": "b"}, "attempt_no": 0, "filled_quantity": Decimal(0),
        "extended_hours": False, "body_hash": "x", "available_at": NOON, "created_at": NOON, "updated_at": NOON,
    }  # fmt: skip
    return {**usual, **more}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('s') / 'corro.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.fresh()
    empty = Database(url)
    upgrade(empty)
    empty.close()
    made = open_database(load_settings(database_url=url, home=Path(tmp_path_factory.mktemp("h"))))
    yield made
    made.close()


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.write() as opened:
        yield opened
        opened.execute(delete(attempts))
        opened.execute(delete(orders))


def stored(connection: Connection, table: Any = orders) -> list[dict[str, Any]]:
    return [dict(r) for r in connection.execute(select(table).order_by(table.c.client_order_id)).mappings()]


def test_rows_come_back_as_core_would_have_stored_them(connection: Connection) -> None:
    odd = timezone(timedelta(hours=2))
    given = [
        row("a", limit_price=Decimal("1.1"), expires_at=NOON.astimezone(odd)),
        row("b", limit_price=None, expires_at=NOON + timedelta(microseconds=7), tags=[]),
        row("c", filled_quantity=Decimal("0.000000001"), replace_request={"quantity": "7"}),
    ]
    insert_many(connection, orders, given)
    ours = stored(connection)
    connection.execute(delete(orders))
    for one in given:
        connection.execute(insert(orders).values(one))
    assert ours == stored(connection)
    assert [r["client_order_id"] for r in ours] == ["a", "b", "c"]


def test_each_row_changes_its_own_columns_and_no_others(connection: Connection) -> None:
    insert_many(connection, orders, [row("a"), row("b"), row("c")])
    update_many(
        connection,
        orders,
        [
            ({"client_order_id": "a"}, {"status": "submitted", "reason": "why"}),
            ({"client_order_id": "b"}, {"reason": "other", "status": "filled"}),
            ({"client_order_id": "c"}, {"quantity": Decimal("3.25"), "replace_request": None}),
            ({"client_order_id": "nobody"}, {"status": "filled"}),
        ],
    )
    expected = [
        row("a", status="submitted", reason="why"), row("b", status="filled", reason="other"),
        row("c", quantity=Decimal("3.25")),
    ]  # fmt: skip
    assert [{name: value for name, value in r.items() if value is not None} for r in stored(connection)] == expected


def test_a_key_may_change_too_and_may_have_several_columns(connection: Connection) -> None:
    insert_many(connection, orders, [row("a")])
    begun = {"broker": "x", "broker_client_order_id": "a", "worker": "w", "started_at": NOON, "lease_until": NOON}
    begun |= {"client_order_id": "a", "outcome": "sending", "checks": 0, "missing": 0}
    insert_many(connection, attempts, [{**begun, "attempt_no": 1}, {**begun, "attempt_no": 2, "baseline": ["7"]}])
    news = {"attempt_no": 3, "outcome": "absent"}
    update_many(connection, attempts, [({"client_order_id": "a", "attempt_no": 2}, news)])
    found = [(r["attempt_no"], r["outcome"], r["baseline"]) for r in stored(connection, attempts)]
    assert sorted(found) == [(1, "sending", None), (3, "absent", ["7"])]


def test_a_column_that_cannot_be_null_must_be_given(database: Database) -> None:
    driver: Any = database.engine.dialect.loaded_dbapi
    with pytest.raises(driver.IntegrityError), database.write() as connection:
        insert_many(connection, attempts, [{"client_order_id": "a", "attempt_no": 1}])


def test_a_time_without_a_zone_is_refused(connection: Connection) -> None:
    with pytest.raises(ValueError, match="zone"):
        insert_many(connection, orders, [row("a", created_at=datetime(2026, 1, 5))])  # noqa: DTZ001


@pytest.mark.parametrize("ids", [["one"], ["many-1", "many-2", "many-3"]], ids=["one", "many"])
def test_an_order_begins_with_the_same_event_on_both_databases(database: Database, ids: list[str]) -> None:
    intake = Intake(Settings.model_construct(brokers={}), database)
    requests = [OrderRequest(client_order_id=i, symbol="KO", side="buy", quantity=1, route=["ibkr"]) for i in ids]
    rows = intake.record(requests)
    assert [row["client_order_id"] for row in intake.record(requests)] == ids  # they are there: nothing is told again
    with database.read() as connection:
        told = connection.execute(select(order_events).order_by(order_events.c.id)).mappings().all()
    assert sorted(event["client_order_id"] for event in told if event["client_order_id"] in ids) == sorted(ids)
    for row in rows:
        (event,) = (event for event in told if event["client_order_id"] == row["client_order_id"])
        assert {name: event[name] for name in event if name not in ("id", "client_order_id")} == {
            "at": row["updated_at"], "kind": "queued", "from_status": None, "to_status": "queued", "detail": "for ibkr",
        }  # fmt: skip
    with database.write() as connection:
        connection.execute(delete(order_events))
        connection.execute(delete(orders))


def test_of_a_batch_with_copies_only_what_is_new_is_told(database: Database) -> None:
    requests = [OrderRequest(client_order_id=id_, symbol="KO", side="buy", quantity=1) for id_ in "abc"]
    made = [row_of(request, ["ibkr"], utcnow()) for request in requests]
    with database.write() as connection:
        assert [insert_orders(connection, made[:2]), insert_orders(connection, made)] == [2, 1]
        told = connection.execute(select(order_events.c.client_order_id).order_by(order_events.c.id)).scalars()
        assert sorted(told) == ["a", "b", "c"]
        connection.execute(delete(order_events))
        connection.execute(delete(orders))
