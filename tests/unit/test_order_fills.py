"""What brokers tell of executions: each counts once, as it was told last; what nobody told is marked as inferred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update
from structlog.testing import capture_logs

from models.messages import utcnow
from models.record.batch import Effects, OrderBatch
from models.record.database import Database
from models.record.tables import (
    attempts,
    external_fills,
    external_orders,
    fills,
    order_events,
    orders,
    position_baselines,
)
from models.reports import DONE, BrokerStatus, CommissionReport, FillReport, OrderReport
from models.settings import Settings
from models.vocabulary import LIVE, TERMINAL, Side, Status
from tests.unit.conftest import NOW
from worker.orders.record import Recorder
from worker.positions.external import External
from worker.positions.ledger import Books

Put = Callable[..., None]
D = Decimal
FILLED = BrokerStatus.FILLED


def execution(execution_id: str, quantity: Any, price: Any = "100", up_to: Any = None, **more: Any) -> FillReport:
    return FillReport(
        execution_id=execution_id, quantity=D(quantity), price=None if price is None else D(price), filled_at=NOW,
        broker_client_order_id="o-1", cumulative_quantity=None if up_to is None else D(up_to), **more,
    )  # fmt: skip


def total(filled: Any, status: BrokerStatus = FILLED, mean: Any = None, **more: Any) -> OrderReport:
    return OrderReport(
        broker_order_id="7", status=status, broker_client_order_id="o-1",
        filled_quantity=None if filled is None else D(filled), avg_fill_price=None if mean is None else D(mean), **more,
    )  # fmt: skip


class Record:
    """One order of 10 AAPL at ibkr, and what was told of it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.settings = database, settings

    def pushed(self, *reports: Any) -> Effects:
        return self._told(reports, infer=False)

    def read(self, *reports: Any) -> Effects:
        """The same where the executions were read together with the orders."""
        return self._told(reports, infer=True)

    def _told(self, reports: Any, *, infer: bool) -> Effects:
        with self.database.write() as connection:
            return Recorder(self.settings, "ibkr", dedupes=False).updates(connection, reports, utcnow(), infer=infer)

    @property
    def order(self) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(orders)).mappings().one()

    @property
    def rows(self) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(select(fills).order_by(fills.c.id)).mappings())

    @property
    def standing(self) -> list[tuple[str, Decimal, Decimal | None]]:
        """(execution_id, quantity, price) of what counts."""
        return sorted((r["execution_id"], r["quantity"], r["price"]) for r in self.rows if r["voided_at"] is None)

    def events(self, kind: str) -> list[str]:
        with self.database.read() as connection:
            query = select(order_events.c.detail).where(order_events.c.kind == kind).order_by(order_events.c.id)
            return list(connection.execute(query).scalars())


@pytest.fixture
def record(database: Database, settings: Settings, put: Put) -> Record:
    put(status="accepted", attempt={"outcome": "accepted", "broker_order_id": "7"})
    return Record(database, settings)


GUESS = "inferred:o-1"


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


def test_a_canceled_order_whose_correction_fills_it_is_filled(record: Record) -> None:
    record.pushed(execution("e1", 4, 50), total(4, BrokerStatus.CANCELED))
    record.pushed(execution("e1", 10, 50, revision=1))
    assert record.order["status"] == "filled"


@pytest.mark.parametrize("folded", [False, True])
def test_expected_positions_follow_a_correction_also_where_it_was_folded(record: Record, folded: bool) -> None:
    with record.database.write() as connection:
        Books.open(connection, "ibkr", {})
    record.pushed(execution("e1", 10, 50))
    if folded:
        with record.database.write() as connection:
            connection.execute(update(fills).values(recorded_at=utcnow() - timedelta(hours=1)))
            Books.open(connection, "ibkr", {}).fold()
            assert connection.execute(select(position_baselines.c.quantity)).scalar() == 10
    record.pushed(execution("e1", 6, 50, revision=1))
    with record.database.write() as connection:
        assert Books.open(connection, "ibkr", {}).expected["AAPL"] == 6


def test_the_executions_of_others_are_corrected_and_taken_back_too(database: Database) -> None:
    told = FillReport(
        execution_id="x1", quantity=D(10), price=D(60), filled_at=NOW, symbol="KO", side=Side.SELL, broker_order_id="9",
        currency="USD",
    )  # fmt: skip
    external = External(database, "ibkr")
    with database.write() as connection:
        Books.open(connection, "ibkr", {})
    external.note([told])
    with database.write() as connection:
        connection.execute(update(external_fills).values(recorded_at=utcnow() - timedelta(hours=1)))
        Books.open(connection, "ibkr", {}).fold()
    external.note([replace(told, quantity=D(6), price=D(61), revision=1), told])

    def row() -> Any:
        with database.read() as connection:
            return connection.execute(select(external_fills)).mappings().one()

    assert (row()["quantity"], row()["price"], row()["revision"], row()["currency"]) == (6, 61, 1, "USD")
    with database.write() as connection:
        assert Books.open(connection, "ibkr", {}).expected["KO"] == -6
    external.note([replace(told, revision=2, busted=True)])
    assert (row()["quantity"], row()["voided_at"] is None) == (0, False)
    with database.write() as connection:
        assert Books.open(connection, "ibkr", {}).expected["KO"] == 0


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


# -- ENDS ---
@pytest.mark.parametrize("status", [*sorted(LIVE), Status.SUBMITTED])
@pytest.mark.parametrize("end", sorted(DONE))
@pytest.mark.parametrize("filled", [None, 0, 4])
def test_every_end_that_a_broker_tells_ends_the_order_from_every_open_status(
    database: Database, settings: Settings, put: Put, status: Status, end: BrokerStatus, filled: int | None
) -> None:
    done = D(4) if status is Status.PARTIALLY_FILLED else D(0)
    put(status=str(status), filled_quantity=done, attempt={"outcome": "accepted", "broker_order_id": "7"}, route=[])
    record = Record(database, settings)
    if done:
        with database.write() as connection:
            connection.execute(update(orders).values(filled_quantity=0, status="accepted"))
        record.pushed(execution("a", 4, 50, up_to=4))
    record.read(total(filled, end))
    if record.order["status"] not in TERMINAL:  # a refusal after acceptance: the broker is asked before it counts
        assert (end, filled or 0, done) == (BrokerStatus.REJECTED, 0, 0)
        with database.write() as connection:
            batch = OrderBatch.open(connection, ["o-1"], utcnow())
            assert batch["o-1"].attempts[1]["outcome"] == "unknown"
            Recorder(settings, "ibkr", dedupes=False).settle(batch["o-1"], 1, total(filled, end))
            batch.write()
    assert record.order["status"] in TERMINAL, record.order["status"]


def test_an_order_that_somebody_replaced_at_its_broker_is_canceled_and_names_its_heir(record: Record) -> None:
    record.read(execution("a", 4, 50, up_to=4), total(4, BrokerStatus.REPLACED, replaced_by="B"))
    assert (record.order["status"], record.order["filled_quantity"]) == ("canceled", 4)
    assert record.events("replaced_outside") == ["replaced at ibkr by order B, which is not ours: it is external"]
    heir = OrderReport(
        broker_order_id="B", status=BrokerStatus.ACCEPTED, broker_client_order_id="theirs", symbol="AAPL",
        side=Side.BUY, quantity=D(6), replaces="7",
    )  # fmt: skip
    assert record.read(heir).unmatched == [heir]
    External(record.database, "ibkr").note([heir])
    with record.database.read() as connection:
        assert connection.execute(select(external_orders.c.broker_order_id)).scalar() == "B"


@pytest.mark.parametrize("outcome", ["sending", "unknown", "accepted"])
def test_an_order_that_we_replaced_is_not_replaced_from_outside(record: Record, outcome: str) -> None:
    with record.database.write() as connection:
        connection.execute(insert(attempts).values(
            client_order_id="o-1", attempt_no=2, broker="ibkr", broker_client_order_id="o-1~2", broker_order_id="B",
            outcome=outcome, worker="w", started_at=NOW, lease_until=NOW, replaces=1, terms={"quantity": "12"},
        ))  # fmt: skip
    record.read(total(0, BrokerStatus.REPLACED, replaced_by="B"))
    assert record.order["status"] == "accepted"


def test_a_book_changes_an_execution_in_one_statement_however_often_it_changed(record: Record) -> None:
    record.pushed(execution("a", 10, 50))
    with record.database.write() as connection:
        batch = OrderBatch.open(connection, ["o-1"], utcnow())
        (row,) = batch["o-1"].fills
        for price in (51, 52, 53):
            batch["o-1"].change_fill(row, price=D(price))
        assert batch["o-1"].fill_changes() == [({"broker": "ibkr", "execution_id": "a"}, {"price": 53})]
        batch.write()
    assert record.standing == [("a", 10, 53)]


def test_every_step_of_an_order_is_one_log_line_with_its_id(record: Record) -> None:
    with capture_logs() as lines:
        record.pushed(execution("a", 4, 50), execution("b", 3, 50), total(7, BrokerStatus.CANCELED))
    told = [(line["event"], line["client_order_id"]) for line in lines]
    assert told == [("order_filled", "o-1"), ("order_filled", "o-1"), ("order_canceled", "o-1")]
