"""Whose an order is: the table of worker/positions/external.py, row by row; and what is kept of others' orders."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, select
from structlog.testing import capture_logs

from models.record.database import Database
from models.record.tables import attempts, external_fills, external_orders, orders
from models.reports import BrokerStatus, CommissionReport, FillReport, OrderReport
from models.vocabulary import Side
from tests.unit.words import NOW
from worker.positions.disowned import disown
from worker.positions.external import External, whose_order

OURS, THEIRS = {"mine-1"}, {"77"}


def report(
    broker_order_id: str | None = "5", ours: str | None = None, symbol: str | None = "KO", **more: Any
) -> OrderReport:
    values = {"status": BrokerStatus.ACCEPTED, **more}
    return OrderReport(broker_order_id=broker_order_id, broker_client_order_id=ours, symbol=symbol, **values)


def fill(execution_id: str = "e1", broker_order_id: str = "5", **more: Any) -> FillReport:
    values: dict[str, Any] = {"quantity": Decimal(3), "price": Decimal(60), "filled_at": NOW, "symbol": "KO"}
    return FillReport(
        execution_id=execution_id, broker_order_id=broker_order_id, **{"side": Side.BUY, **values, **more}
    )


@pytest.mark.parametrize(
    ("found", "unsettled", "whose"),
    [
        (report("77"), set(), "ours"),
        (report("77"), {"KO"}, "ours"),
        (report("5", "mine-1"), set(), "ours"),
        (report(None, "mine-1"), set(), "ours"),
        (report("5", "yours-1"), {"KO"}, "external"),
        (report("5"), set(), "external"),
        (report("5"), {"PEP"}, "external"),
        (report("5"), {"KO"}, "open"),
        (report("5", symbol=None), {"PEP"}, "open"),
        (report("5", symbol=None), set(), "external"),
        (report(None), set(), "open"),
        (report(None, "yours-1"), set(), "open"),
        (fill(), {"KO"}, "open"),
        (fill(), set(), "external"),
        (fill(broker_order_id="77"), {"KO"}, "ours"),
    ],
)
def test_row(found: OrderReport | FillReport, unsettled: set[str], whose: str) -> None:
    assert whose_order(found, OURS, THEIRS, unsettled) == whose


@pytest.fixture
def external(database: Database) -> External:
    return External(database, "tda")


def rows(database: Database, table: Any = external_orders) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def give_attempt(database: Database, outcome: str, broker_order_id: str | None = None, symbol: str = "KO") -> None:
    with database.write() as connection:
        connection.execute(
            insert(orders).values(
                client_order_id="o1", symbol=symbol, side="buy", quantity=3, status="submitted", broker="tda",
                body_hash="x", available_at=NOW, created_at=NOW, updated_at=NOW, attempt_no=1,
            )
        )  # fmt: skip
        connection.execute(
            insert(attempts).values(
                client_order_id="o1", attempt_no=1, broker="tda", broker_client_order_id="o1", outcome=outcome,
                broker_order_id=broker_order_id, worker="w", started_at=NOW, lease_until=NOW,
            )
        )  # fmt: skip


def test_an_order_is_kept_with_its_terms_and_followed_to_its_end(external: External, database: Database) -> None:
    assert external.note([report(quantity=Decimal(3), side=Side.BUY, limit_price=Decimal(60), submitted_at=NOW)])
    (row,) = rows(database)
    assert (row["broker_order_id"], row["quantity"], row["side"], row["status"]) == ("5", 3, "buy", "accepted")
    assert external.vanished({"5": None}) == ([], None)
    assert external.vanished({}) == (["5"], NOW)

    assert external.note([report(status=BrokerStatus.CANCELED, filled_quantity=Decimal(0))])
    assert external.note([report()])  # read before, written after
    (row,) = rows(database)
    assert (row["status"], row["quantity"], row["limit_price"]) == ("canceled", 3, 60)
    assert external.vanished({}) == ([], None)


def test_a_report_that_cannot_be_written_leaves_the_reading_open_and_is_said_once(
    external: External, database: Database
) -> None:
    given = [fill("odd", filled_at=NOW.replace(tzinfo=None)), fill("e2", "6")]  # no column takes a time without a zone
    with capture_logs() as logs:
        assert [external.note(given), external.note(given)] == [False, False]
    assert [row["execution_id"] for row in rows(database, external_fills)] == ["e2"]
    told = [line for line in logs if line["event"] == "external_not_recorded"]
    assert [("odd" in line["item"], line["log_level"]) for line in told] == [(True, "error")]


def test_an_order_that_is_shown_nowhere_any_more_is_unknown(external: External, database: Database) -> None:
    external.note([report(), report("6", status=BrokerStatus.FILLED)])
    external.lose(["5", "6"])
    assert {row["broker_order_id"]: row["status"] for row in rows(database)} == {"5": "unknown", "6": "filled"}


def test_executions_are_kept_once_whatever_feed_names_them(external: External, database: Database) -> None:
    first = fill("stream-1", cumulative_quantity=Decimal(3))
    again = fill("activity-1", cumulative_quantity=Decimal(3))
    second = fill("activity-2", cumulative_quantity=Decimal(6))
    external.note([first])
    external.note([first, again, second])
    external.note([CommissionReport(execution_id="stream-1", commission=Decimal("0.35"))])
    found = rows(database, external_fills)
    assert [(row["execution_id"], row["commission"]) for row in found] == [
        ("stream-1", Decimal("0.35")),
        ("activity-2", None),
    ]
    (row,) = rows(database)  # only executions told of it, so that is all that is known
    assert (row["status"], row["filled_quantity"], row["quantity"]) == ("unknown", 6, None)


@pytest.mark.parametrize("outcome", ["sending", "unknown"])
def test_what_may_be_ours_is_left_open(external: External, database: Database, outcome: str) -> None:
    give_attempt(database, outcome)
    assert not external.note([report(), fill()])
    assert rows(database) == rows(database, external_fills) == []
    assert external.note([report("9", symbol="PEP")])
    assert [row["symbol"] for row in rows(database)] == ["PEP"]


def test_what_is_adopted_is_external_no_more(external: External, database: Database) -> None:
    assert external.note([report("5", fills=(fill(),)), report("6")])
    give_attempt(database, "accepted", "5")
    with database.write() as connection:
        disown(connection, "tda")
    assert [row["broker_order_id"] for row in rows(database)] == ["6"]
    assert rows(database, external_fills) == []
    assert external.note([report("5"), fill()])
    assert [row["broker_order_id"] for row in rows(database)] == ["6"]


def test_an_order_that_is_seen_again_is_dated_again_now_and_then(external: External, database: Database) -> None:
    external.note([report()])
    with database.write() as connection:
        past = NOW - timedelta(days=1)
        connection.execute(external_orders.update().values(first_seen_at=past, last_seen_at=past))
    external.note([report()])
    (row,) = rows(database)
    assert row["first_seen_at"] == NOW - timedelta(days=1)
    assert row["last_seen_at"] > NOW


def test_an_order_of_somebody_else_is_warned_of_once_also_where_its_row_comes_and_goes(database: Database) -> None:
    """An answer that named a stranger's order as ours has its row taken back at every judging of positions."""
    external = External(database, "ibkr")
    with capture_logs() as lines:
        for _ in range(3):
            external.note([report("5", side=Side.BUY)])
            with database.write() as connection:
                connection.execute(external_orders.delete())
    assert [line["event"] for line in lines] == ["external_order"]
    assert lines[0]["broker_order_id"] == "5"
