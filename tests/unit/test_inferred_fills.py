"""What nobody told is inferred from the broker's total, marked so, and gives way to real executions."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update

from models.record.database import Database
from models.record.tables import (
    attempts,
    fills,
    order_events,
    orders,
)
from models.reports import BrokerStatus, CommissionReport, FillReport
from models.vocabulary import TERMINAL
from tests.unit.fills import GUESS, D, Record, execution, total
from tests.unit.words import NOW


# -- INFERRED ---
def test_the_difference_to_the_broker_s_total_is_inferred(record: Record) -> None:
    """IB: 60 % shown, then `Filled`, and no more executions."""
    record.pushed(execution("a", 6, 50, up_to=6), total(10))
    assert record.standing == [("a", 6, 50), (GUESS, 4, None)]
    assert (record.order["status"], record.order["filled_quantity"], record.order["avg_fill_price"]) == (
        "filled", 10, None,
    )  # fmt: skip


@pytest.mark.parametrize("limit", [None, D(55)])
def test_a_price_that_nobody_told_is_neither_zero_nor_the_limit(record: Record, limit: Decimal | None) -> None:
    with record.database.write() as connection:
        connection.execute(update(orders).values(limit_price=limit))
    record.read(total(10))
    assert record.standing == [(GUESS, 10, None)]
    assert record.rows[0]["inferred"]
    record.pushed(execution("a", 10, 54))
    assert record.standing == [("a", 10, 54)]
    assert record.order["avg_fill_price"] == 54


def test_a_mean_that_the_broker_tells_gives_the_price_of_the_rest(record: Record) -> None:
    record.pushed(execution("a", 4, 100, up_to=4), total(10, mean=103))
    assert record.standing == [("a", 4, 100), (GUESS, 6, 105)]
    assert record.order["avg_fill_price"] == 103


def test_real_executions_split_shrink_and_replace_what_was_inferred(record: Record) -> None:
    """Alpaca: found filled with 10 at the mean; the activities show 3 at 100.01 and 7 at 100.07."""
    record.read(total(10, mean="100.052"))
    assert record.pushed(execution("a", 3, "100.01", up_to=3)).unmatched == []
    assert record.standing == [("a", 3, D("100.01")), (GUESS, 7, D("100.07"))]
    record.pushed(execution("b", 7, "100.07", up_to=10))
    assert record.standing == [("a", 3, D("100.01")), ("b", 7, D("100.07"))]
    (guess,) = [row for row in record.rows if row["inferred"]]
    assert (guess["quantity"], guess["voided_at"] is None) == (0, False)
    assert (record.order["filled_quantity"], record.order["avg_fill_price"]) == (10, D("100.052"))
    assert record.events("overfilled") == record.events("late_fill") == []


def test_what_trades_on_after_a_total_was_read_is_added_to_it(record: Record) -> None:
    record.read(total(4, BrokerStatus.PARTIALLY_FILLED))
    record.pushed(execution("c", 3, 100, up_to=7))
    assert record.order["filled_quantity"] == 7
    record.pushed(execution("a", 4, 100, up_to=4))
    assert record.standing == [("a", 4, 100), ("c", 3, 100)]


def test_a_total_that_is_behind_takes_nothing_back(record: Record) -> None:
    record.read(total(8, BrokerStatus.PARTIALLY_FILLED))
    record.read(total(4, BrokerStatus.PARTIALLY_FILLED))
    assert record.order["filled_quantity"] == 8
    record.pushed(execution("a", 4, up_to=4), total(2, BrokerStatus.CANCELED))
    assert (record.order["status"], record.order["filled_quantity"]) == ("canceled", 4)


def test_a_filled_order_without_a_total_counts_its_whole_size_once_executions_were_read(record: Record) -> None:
    record.pushed(total(None))
    assert record.order["filled_quantity"] == 0
    record.read(total(None))
    assert (record.order["status"], record.standing) == ("filled", [(GUESS, 10, None)])


def test_a_filled_order_counts_what_its_broker_counts_though_that_is_less_than_was_ordered(record: Record) -> None:
    """Schwab: FILLED with a filledQuantity of 6 of 10; four more would be a guess."""
    record.read(execution("a", 6, 50, up_to=6), total(6, quantity=D(10)))
    assert (record.order["status"], record.order["filled_quantity"]) == ("filled", 6)
    assert record.standing == [("a", 6, 50)]


def test_what_is_left_over_by_a_float_is_no_execution(record: Record) -> None:
    record.read(execution("a", "0.1", 50, up_to="0.1"), execution("b", "0.2", 50))
    record.read(total("0.30000000000000004", BrokerStatus.CANCELED), total("0.3", BrokerStatus.CANCELED))
    assert [name for name, *_ in record.standing] == ["a", "b"]
    assert record.order["filled_quantity"] == D("0.3")


def test_a_price_that_comes_later_is_taken_over(record: Record) -> None:
    record.pushed(execution("a", 10, None))
    assert record.order["avg_fill_price"] is None
    record.pushed(execution("a", 10, 50))
    assert record.order["avg_fill_price"] == 50
    record.pushed(execution("a", 10, None))
    assert record.standing == [("a", 10, 50)]


def test_a_commission_has_its_currency(record: Record) -> None:
    record.pushed(execution("a", 10, 50, currency="USD"))
    record.pushed(CommissionReport(execution_id="a", commission=D(150), currency="JPY"))
    (row,) = record.rows
    assert (row["currency"], row["commission"], row["commission_currency"]) == ("USD", 150, "JPY")


# -- WHATEVER THE ORDER ---
ORIGINALS = [execution("e1", 4, 50, up_to=4), execution("e2", 3, 51, up_to=7), execution("e3", 3, 52, up_to=10)]


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """Everything a broker told of an order, in any order; and what its listings show in the end."""
    told: list[Any] = [*ORIGINALS]
    end = {e.execution_id: e for e in ORIGINALS}
    for original in ORIGINALS:
        what = draw(st.sampled_from(["nothing", "price", "size", "bust", "price, then bust"]))
        if what.startswith("price"):
            end[original.execution_id] = replace(original, price=D(40), revision=1)
        elif what == "size":
            end[original.execution_id] = replace(original, quantity=D(2), cumulative_quantity=None, revision=1)
        if what == "price, then bust":
            told.append(end[original.execution_id])
        if what.endswith("bust"):
            end[original.execution_id] = replace(original, busted=True, revision=2)
        told.append(end[original.execution_id])
    told.append(total(10, mean=51))
    left = sum((e.quantity for e in end.values() if not e.busted), D(0))
    listing = [*end.values(), total(left)]
    return draw(st.permutations(told + draw(st.lists(st.sampled_from(told), max_size=3)))), listing


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from models.record.database import upgrade
    from models.settings import load_settings

    home: Path = tmp_path_factory.mktemp("shuffled")
    database = Database(f"sqlite:///{home / 'corro.db'}")
    upgrade(database)
    yield Record(database, load_settings(home=home))
    database.close()


@given(story=stories())
@with_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_inferred_real_corrected_and_busted_executions_end_in_one_record_whatever_their_order(
    shuffled: Record, story: tuple[list[Any], list[Any]]
) -> None:
    told, listing = story
    with shuffled.database.write() as connection:
        for table in (fills, order_events, attempts, orders):
            connection.execute(delete(table))
        connection.execute(insert(orders).values(
            client_order_id="o-1", symbol="AAPL", side="buy", quantity=10, order_type="market", time_in_force="day",
            status="accepted", broker="ibkr", route=["ibkr"], attempt_no=1, body_hash="x", available_at=NOW,
            created_at=NOW, updated_at=NOW,
        ))  # fmt: skip
        connection.execute(insert(attempts).values(
            client_order_id="o-1", attempt_no=1, broker="ibkr", broker_client_order_id="o-1", broker_order_id="7",
            outcome="accepted", worker="w", started_at=NOW, lease_until=NOW,
        ))  # fmt: skip
    for report in told:
        shuffled.pushed(report)
    shuffled.read(*listing)
    expected = sorted(
        (e.execution_id, e.quantity, e.price) for e in listing if isinstance(e, FillReport) and not e.busted
    )
    assert shuffled.standing == expected
    assert shuffled.order["filled_quantity"] == sum((quantity for _, quantity, _ in expected), D(0))
    assert shuffled.order["status"] in TERMINAL
