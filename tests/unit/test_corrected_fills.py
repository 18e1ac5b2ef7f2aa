"""An execution that its broker corrects or takes back counts as it was told last, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from models.messages import utcnow
from models.record.database import Database
from models.record.tables import (
    external_fills,
    fills,
    position_baselines,
)
from models.reports import BrokerStatus, FillReport
from models.vocabulary import Side
from tests.unit.fills import GUESS, D, Record, execution, total
from tests.unit.words import NOW
from worker.positions.external import External
from worker.positions.ledger import PositionLedger


# -- CORRECTED AND TAKEN BACK ---
def test_a_correction_stands_in_place_of_what_it_corrects_and_both_are_told(record: Record) -> None:
    record.pushed(execution("e1", 10, 50))
    record.pushed(execution("e1", 6, 49, revision=1, commission=D("1.25")))
    assert record.standing == [("e1", 6, 49)]
    assert (record.order["filled_quantity"], record.order["avg_fill_price"]) == (6, 49)
    assert record.rows[0]["commission"] == D("1.25")
    assert record.events("fill_corrected") == ["execution e1: 10 @ 50 at ibkr is 6 @ 49 now"]


@pytest.mark.parametrize("busted", [False, True])
@pytest.mark.parametrize("booked", [None, "told by the other feed"])
def test_a_change_to_an_execution_that_the_record_does_not_have_books_nothing(
    record: Record, busted: bool, booked: str | None
) -> None:
    if booked:
        record.pushed(execution(booked, 10, 50, up_to=10))
    before = record.standing
    change = execution("e1", 6, 49, amends=True, busted=busted, revision=9)
    after = record.pushed(change)
    assert after.unmatched == [change]
    record.pushed(total(None, BrokerStatus.ACCEPTED, fills=(change,)))
    assert record.standing == before
    assert len(record.rows) == len(before)


@pytest.mark.parametrize("busted", [False, True])
def test_a_change_that_overtakes_its_execution_is_applied_when_that_has_come(record: Record, busted: bool) -> None:
    change = execution("e1", 6, 49, amends=True, busted=busted, revision=9)
    assert record.pushed(change).unmatched == [change]
    record.pushed(execution("e1", 10, 50))
    assert record.pushed(change).unmatched == []
    assert record.standing == ([] if busted else [("e1", 6, 49)])


@pytest.mark.parametrize("busted", [False, True])
def test_a_change_to_a_strangers_execution_that_nobody_told_is_none_of_its_own(record: Record, busted: bool) -> None:
    external = External(record.database, "ibkr")
    told = replace(execution("x", 6, 49, amends=True, busted=busted, revision=9), broker_client_order_id="theirs")
    external.note([replace(told, broker_order_id="99", symbol="KO", side=Side.BUY)])
    with record.database.read() as connection:
        assert connection.execute(select(external_fills)).all() == []


def test_a_correction_of_the_price_moves_the_mean_and_nothing_else(record: Record) -> None:
    record.pushed(execution("e1", 4, 50), execution("e2", 6, 50))
    record.pushed(execution("e1", 4, 49, revision=1))
    assert (record.order["status"], record.order["filled_quantity"]) == ("filled", 10)
    assert record.order["avg_fill_price"] == D("49.6")


def test_a_correction_may_overtake_what_it_corrects(record: Record) -> None:
    record.pushed(execution("e1", 4, 49, revision=2))
    record.pushed(execution("e1", 10, 50), execution("e1", 5, 48, revision=1), execution("e1", 4, 49, revision=2))
    assert record.standing == [("e1", 4, 49)]
    assert record.events("fill_corrected") == []


def test_a_listing_that_shows_other_content_under_the_same_id_corrects_it(record: Record) -> None:
    """It was corrected while this worker was down, so nobody counted a revision."""
    record.pushed(execution("e1", 10, "50"))
    record.pushed(execution("e1", 10, "49"))  # a push may be old: it does not decide
    assert record.standing == [("e1", D(10), D(50))]
    record.read(execution("e1", 10, "49", listed=True))
    assert record.standing == [("e1", D(10), D(49))]
    assert record.order["avg_fill_price"] == D(49)
    assert "10 @ 50" in record.events("fill_corrected")[0]
    record.read(execution("e1", 6, "49", listed=True))
    assert record.order["filled_quantity"] == D(6)
    record.read(execution("e1", 6, None, listed=True))
    assert record.standing == [("e1", D(6), D(49))]


def test_an_execution_that_is_taken_back_counts_no_more(record: Record) -> None:
    record.pushed(execution("e1", 4, 50, up_to=4), execution("e2", 3, 51, up_to=7))
    record.pushed(execution("e1", 4, 50, up_to=4, busted=True))
    assert record.standing == [("e2", 3, 51)]
    assert (record.order["filled_quantity"], record.order["avg_fill_price"]) == (3, 51)
    assert record.order["status"] == "partially_filled"
    (row,) = [r for r in record.rows if r["voided_at"] is not None]
    assert (row["execution_id"], row["quantity"]) == ("e1", 0)
    assert record.events("fill_busted") == ["execution e1: 4 @ 50 at ibkr is taken back"]
    record.pushed(execution("e1", 4, 50, up_to=4), execution("other-feed", 4, 50, up_to=4))
    assert record.order["filled_quantity"] == 3


def test_what_is_taken_back_before_it_was_told_does_not_count_when_it_is(record: Record) -> None:
    record.pushed(execution("e1", 4, 50, busted=True))
    record.pushed(execution("e1", 4, 50))
    assert (record.standing, record.order["filled_quantity"]) == ([], 0)
    assert len(record.events("fill_busted")) == 1


def test_what_is_taken_back_before_it_was_told_is_in_what_was_inferred(record: Record) -> None:
    record.read(total(10, mean=50))
    record.pushed(execution("e1", 10, 50, busted=True))
    assert (record.standing, record.order["filled_quantity"]) == ([], 0)
    assert record.order["avg_fill_price"] is None
    assert len(record.events("fill_busted")) == 1


def test_an_order_whose_only_execution_was_taken_back_before_it_was_told_ends_with_nothing(record: Record) -> None:
    with_nothing = total(0, BrokerStatus.UNKNOWN, raw_status="filled")  # as Alpaca's adapter reads it
    record.read(with_nothing)
    assert record.order["status"] == "accepted"  # so far nothing explains that
    record.read(execution("e1", 10, 50, busted=True), with_nothing)
    assert (record.order["status"], record.order["filled_quantity"], record.standing) == ("filled", 0, [])
    assert "0 of 10 stand" in record.order["reason"]


def test_a_total_of_before_does_not_bring_back_what_was_taken_back(record: Record) -> None:
    record.pushed(execution("e1", 10, 50))
    record.pushed(execution("e1", 10, 50, revision=1, busted=True))
    record.pushed(total(10, mean=50))
    record.read(total(10, mean=50))
    assert (record.standing, record.order["filled_quantity"]) == ([], 0)


def test_of_what_was_inferred_only_what_is_taken_back_is_gone(record: Record) -> None:
    record.read(total(10, mean=50))
    record.pushed(execution("e1", 4, 50, busted=True))
    assert (record.standing, record.order["filled_quantity"]) == ([(GUESS, 6, 50)], 6)
    record.pushed(execution("e2", 6, 50))
    assert (record.standing, record.order["filled_quantity"]) == ([("e2", 6, 50)], 6)


def test_an_order_that_was_filled_stays_ended_and_its_quantity_tells_the_truth(record: Record) -> None:
    record.pushed(execution("e1", 10, 50))
    record.pushed(execution("e1", 10, 50, revision=1, busted=True))
    assert (record.order["status"], record.order["filled_quantity"], record.order["avg_fill_price"]) == (
        "filled", 0, None,
    )  # fmt: skip
    assert record.order["closed_at"] is not None
    assert record.order["reason"] == (
        "its broker ended it as filled, and 0 of 10 stand: execution e1: 10 @ 50 at ibkr is taken back"
    )


def test_a_filled_order_says_how_much_of_it_stands_until_all_of_it_does(record: Record) -> None:
    record.pushed(execution("e1", 10, 50))
    assert record.order["reason"] is None
    record.pushed(execution("e1", 6, 50, revision=1))
    assert "6 of 10 stand" in record.order["reason"]
    record.pushed(execution("e1", 10, 50, revision=2))
    assert (record.order["status"], record.order["reason"]) == ("filled", None)


def test_an_order_that_fills_after_its_end_says_how_it_came_and_not_why_it_had_ended(record: Record) -> None:
    record.pushed(total(0, BrokerStatus.CANCELED, message="canceled"))
    record.pushed(execution("e1", 4, 50))
    assert (record.order["status"], record.order["reason"]) == ("canceled", "canceled")
    record.pushed(execution("e2", 6, 50))
    assert record.order["status"] == "filled"
    assert record.order["reason"] == "filled after it had ended as canceled (canceled)"


def test_an_order_that_trades_in_part_after_its_rejection_says_so(record: Record) -> None:
    record.change(status="rejected", reason="HTTP 422: invalid qty", reason_code="unsupported")
    record.pushed(execution("e1", 4, 50))
    assert (record.order["status"], record.order["reason_code"]) == ("canceled", None)
    assert record.order["reason"] == "part of it was filled after it had ended as rejected (HTTP 422: invalid qty)"


@pytest.mark.parametrize("when", ["before its fills", "after they were taken back"])
def test_a_filled_order_with_nothing_left_says_which_end_its_broker_told_last(record: Record, when: str) -> None:
    canceled = total(0, BrokerStatus.CANCELED, message="canceled")
    if when == "before its fills":
        record.pushed(canceled)
    record.pushed(execution("e1", 10, 50))
    record.pushed(execution("e1", 10, 50, revision=1, busted=True))
    if when == "after they were taken back":
        assert record.order["reason"].startswith("its broker ended it as filled")
        for _ in range(2):
            record.pushed(canceled)
    assert (record.order["status"], record.order["filled_quantity"]) == ("filled", 0)
    assert record.order["reason"].startswith("its broker ended it as canceled, and 0 of 10 stand: execution e1")
    assert len(record.events("canceled")) == 1


def test_a_canceled_order_whose_correction_fills_it_is_filled(record: Record) -> None:
    record.pushed(execution("e1", 4, 50), total(4, BrokerStatus.CANCELED))
    record.pushed(execution("e1", 10, 50, revision=1))
    assert record.order["status"] == "filled"


@pytest.mark.parametrize("folded", [False, True])
def test_expected_positions_follow_a_correction_also_where_it_was_folded(record: Record, folded: bool) -> None:
    with record.database.write() as connection:
        PositionLedger.open(connection, "ibkr", {})
    record.pushed(execution("e1", 10, 50))
    if folded:
        with record.database.write() as connection:
            connection.execute(update(fills).values(recorded_at=utcnow() - timedelta(hours=1)))
            PositionLedger.open(connection, "ibkr", {}).fold()
            assert connection.execute(select(position_baselines.c.quantity)).scalar() == 10
    record.pushed(execution("e1", 6, 50, revision=1))
    with record.database.write() as connection:
        assert PositionLedger.open(connection, "ibkr", {}).expected["AAPL"] == 6


def test_the_executions_of_others_are_corrected_and_taken_back_too(database: Database) -> None:
    told = FillReport(
        execution_id="x1", quantity=D(10), price=D(60), filled_at=NOW, symbol="KO", side=Side.SELL, broker_order_id="9",
        currency="USD",
    )  # fmt: skip
    external = External(database, "ibkr")
    with database.write() as connection:
        PositionLedger.open(connection, "ibkr", {})
    external.note([told])
    with database.write() as connection:
        connection.execute(update(external_fills).values(recorded_at=utcnow() - timedelta(hours=1)))
        PositionLedger.open(connection, "ibkr", {}).fold()
    external.note([replace(told, quantity=D(6), price=D(61), revision=1), told])

    def row() -> Any:
        with database.read() as connection:
            return connection.execute(select(external_fills)).mappings().one()

    assert (row()["quantity"], row()["price"], row()["revision"], row()["currency"]) == (6, 61, 1, "USD")
    with database.write() as connection:
        assert PositionLedger.open(connection, "ibkr", {}).expected["KO"] == -6
    external.note([replace(told, revision=2, busted=True)])
    assert (row()["quantity"], row()["voided_at"] is None) == (0, False)
    with database.write() as connection:
        assert PositionLedger.open(connection, "ibkr", {}).expected["KO"] == 0


@pytest.mark.parametrize("price", ["1e-25", "0.00000000123", "0.0000012345", "0.5", "123.45"])
def test_a_mean_price_is_never_rounded_to_nothing(record: Record, price: str) -> None:
    record.pushed(execution("e1", 10, price))
    assert record.order["avg_fill_price"] == D(price)
