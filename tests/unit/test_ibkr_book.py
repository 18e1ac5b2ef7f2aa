"""What IB's messages amount to: a code that the wire outlives decides nothing, the highest revision counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import OrderRejected, Refused, Unmapped, Unsupported
from models.messages import OrderRequest
from models.reports import BrokerStatus, CommissionReport, FillReport, LegReport, OrderReport, Report
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.base import OrderRef
from worker.brokers.ibkr import orders
from worker.brokers.ibkr import replace as ibkr_replace
from worker.brokers.ibkr.days import same_day, zones_of
from worker.brokers.ibkr.evidence import OrderBook, filled_of
from worker.brokers.ibkr.pending import PendingOrder
from worker.brokers.ibkr.reports import ComboPart, OrderLine, WireExecution, completed_status, split_execution_id
from worker.brokers.ibkr.spoiled import Rows, spoiled
from worker.brokers.ibkr.terms import check_listed
from worker.brokers.ibkr.verdicts import WireVerdict

NOW = datetime(2026, 11, 27, 16, 0, tzinfo=UTC)
PERM = 77
LINE = OrderLine(
    perm_id=PERM, order_id=5, client_id=1, ref="s-1", account="DU1", symbol="AAPL", status="Submitted", side=Side.BUY,
    order_type=OrderType.LIMIT, time_in_force=TimeInForce.DAY, quantity=Decimal(100), limit_price=Decimal(50),
    stop_price=None, session="1",
)  # fmt: skip


class ToldBook:
    """An order book, and what it told about its one order."""

    def __init__(self, status: str = "PreSubmitted") -> None:
        self.told: list[Report] = []
        self.book = OrderBook("ib", self.told.append, lambda: 0.0)
        self.book.client_id = 1
        self.book.on_order(LINE)
        self.status(status)

    def status(self, status: str, filled: int = 0, average: float = 0, why_held: str = "") -> None:
        self.book.on_status(5, 1, PERM, status, why_held, filled, average)

    def code(self, number: int) -> None:
        self.book.on_error(5, number, "words")

    def executed(self, exec_id: str, quantity: int, price: str, cumulative: int | None = None) -> None:
        name, revision = split_execution_id(exec_id)
        total = None if cumulative is None else Decimal(cumulative)
        fill = FillReport(
            execution_id=name, revision=revision, quantity=Decimal(quantity), price=Decimal(price), filled_at=NOW,
            broker_client_order_id="s-1", broker_order_id=str(PERM), cumulative_quantity=total, busted=not quantity,
        )  # fmt: skip
        ids: Any = {"perm_id": PERM, "order_id": 5, "client_id": 1, "account": "DU1"}
        self.book.on_execution(WireExecution(fill=fill, avg_price=Decimal(price), **ids))

    @property
    def now(self) -> OrderReport:
        known = self.book.by_perm_id(PERM)
        assert known is not None
        return self.book.report(known)


def test_ib_s_own_word_is_read_without_a_write_of_its_own_and_is_none_of_an_end_that_executions_show() -> None:
    wire = ToldBook("PreSubmitted")
    wire.status("PreSubmitted")
    wire.status("Submitted")
    assert wire.now.word == "Submitted"
    wire.executed("0000e0d5.69dd7411.01.01", 100, "50", 100)
    wire.status("Filled", 100, 50)
    words = [(report.status, report.word) for report in wire.told if isinstance(report, OrderReport)]
    works, done = BrokerStatus.ACCEPTED, BrokerStatus.FILLED
    assert words[-2:] == [(works, "Submitted"), (done, None)]
    assert wire.now.word == "Filled"


# -- CODES ---
@pytest.mark.parametrize("number", [201, 110, 203, 460])
@pytest.mark.parametrize("alive", ["Submitted", "PreSubmitted", "PendingCancel"])
def test_a_code_is_forgotten_as_soon_as_the_order_is_shown_alive_after_it(number: int, alive: str) -> None:
    wire = ToldBook("Submitted")
    wire.code(number)
    wire.status(alive)
    wire.status("Cancelled")
    wire.code(202)
    assert (wire.now.status, wire.now.code) == (BrokerStatus.CANCELED, "202")
    assert BrokerStatus.REJECTED not in [r.status for r in wire.told if isinstance(r, OrderReport)]


@pytest.mark.parametrize("number", [201, 110, 460])
def test_cancelled_is_never_a_rejection_whatever_code_came_before(number: int) -> None:
    wire = ToldBook("Submitted")
    wire.code(number)
    wire.status("Cancelled")
    assert wire.now.status is BrokerStatus.CANCELED


def test_inactive_with_a_refusing_code_is_a_rejection_until_the_order_works_again() -> None:
    """The core cancels such an order and waits for IB's answer before another broker gets it."""
    wire = ToldBook()
    wire.status("Inactive")
    assert wire.now.status is BrokerStatus.UNKNOWN
    wire.code(201)
    assert (wire.now.status, wire.now.raw_status, wire.now.code) == (BrokerStatus.REJECTED, "Inactive", "201")
    wire.status("Submitted")
    assert (wire.now.status, wire.now.code) == (BrokerStatus.ACCEPTED, None)
    wire.status("Inactive")  # the code was about the time before
    assert wire.now.status is BrokerStatus.UNKNOWN


@pytest.mark.parametrize("number", [135, 161, 10147, 10148])
def test_a_rejection_from_before_our_cancel_counts_once_ib_has_answered_the_cancel(number: int) -> None:
    """Silence about the cancel of an Inactive order proves nothing: it may work again, and be canceled then."""
    wire = ToldBook("Submitted")
    wire.status("Inactive")
    wire.code(201)
    known = wire.book.by_perm_id(PERM)
    assert known is not None
    known.ask_for_end()
    assert (wire.now.status, wire.now.raw_status) == (BrokerStatus.UNKNOWN, "Inactive")
    wire.code(number)
    assert (wire.now.status, wire.now.code) == (BrokerStatus.REJECTED, "201")
    known.ask_for_end()  # each cancel wants an answer of its own
    assert wire.now.status is BrokerStatus.UNKNOWN
    wire.status("Cancelled")
    assert wire.now.status is BrokerStatus.CANCELED


def test_an_order_held_for_a_locate_is_alive_whatever_code_came_before() -> None:
    wire = ToldBook()
    wire.code(201)
    wire.status("Inactive", why_held="locate")
    assert wire.now.status is BrokerStatus.ACCEPTED


# -- EXECUTIONS ---
@pytest.mark.parametrize(
    ("correction", "filled", "average"),
    [
        ((100, "49", 100), 100, "49"),
        ((60, "49", 60), 60, "49"),
        ((60, "49", None), 60, "49"),
        ((0, "0", None), 0, None),
    ],
)
def test_the_highest_revision_of_an_execution_counts(correction: Any, filled: int, average: str | None) -> None:
    wire = ToldBook("Submitted")
    wire.executed("0001.02.01.01", 100, "50", 100)
    wire.executed("0001.02.01.02", *correction)
    wire.executed("0001.02.01.01", 100, "50", 100)  # read again in a listing
    assert wire.now.filled_quantity == filled
    assert wire.now.avg_fill_price == (None if average is None else Decimal(average))
    fills = [r for r in wire.told if isinstance(r, FillReport)]
    assert [(f.execution_id, f.revision) for f in fills] == [("0001.02.01", 1), ("0001.02.01", 2)]
    assert fills[-1].busted is (filled == 0)


def test_a_correction_of_one_execution_leaves_the_others() -> None:
    """Running totals that were told before the correction count no more."""
    wire = ToldBook("Submitted")
    wire.executed("0001.02.01.01", 60, "50", 60)
    wire.executed("0001.02.02.01", 40, "50", 100)
    wire.executed("0001.02.01.02", 30, "50")
    assert wire.now.filled_quantity == 70


@pytest.mark.parametrize(("low", "packages"), [(8, 8), (0, 0)])
def test_a_correction_of_a_leg_counts_against_the_total_of_its_package(low: int, packages: int) -> None:
    """IB's total of the package speaks of what was before the correction."""
    bought, sold = (LegReport(symbol=name, side=side, ratio=Decimal(1)) for name, side in (("L", "buy"), ("H", "sell")))
    parts = (ComboPart(1, Side.BUY, Decimal(1)), ComboPart(2, Side.SELL, Decimal(1)))
    line = replace(LINE, symbol=None, combo=parts, package=(bought, sold))
    rows = [leg_execution("L", "1.01", 10), leg_execution("H", "2.01", 10)]
    assert filled_of(line, rows, Decimal(10)) == 10
    corrected = [leg_execution("L", "1.02", low), rows[1]]
    assert filled_of(line, corrected, Decimal(10)) == packages
    assert filled_of(replace(line, package=()), corrected, Decimal(10)) is None


def leg_execution(symbol: str, text: str, shares: int) -> WireExecution:
    id_, revision = split_execution_id(text)
    quantity = Decimal(shares)
    fill = FillReport(execution_id=id_, revision=revision, quantity=quantity, price=Decimal(1), filled_at=NOW)
    fill = replace(fill, symbol=symbol, busted=not shares)
    return WireExecution(fill=fill, perm_id=PERM, order_id=5, client_id=1, account="DU1", avg_price=None)


def test_the_commission_of_the_newest_revision_counts() -> None:
    wire = ToldBook("Submitted")
    wire.executed("0001.02.01.01", 100, "50", 100)
    wire.book.on_commission("0001.02.01.01", Decimal(1), "USD")
    wire.executed("0001.02.01.02", 100, "49", 100)
    wire.book.on_commission("0001.02.01.02", Decimal("1.25"), "USD")
    wire.book.on_commission("0001.02.01.01", Decimal(1), "USD")  # told again with a listing
    told = [r for r in wire.told if isinstance(r, CommissionReport)]
    assert [(r.execution_id, r.commission, r.currency) for r in told] == [
        ("0001.02.01", Decimal(1), "USD"), ("0001.02.01", Decimal("1.25"), "USD"),
    ]  # fmt: skip
    (execution,) = wire.book.executions_of(PERM)
    assert (wire.book.fill(execution).commission, wire.book.fill(execution).price) == (Decimal("1.25"), 49)


def test_the_brokers_total_counts_where_executions_are_missing() -> None:
    wire = ToldBook("Submitted")
    wire.executed("0001.02.01.01", 60, "50", 60)
    wire.status("Filled", 100, 50.5)
    assert (wire.now.status, wire.now.filled_quantity, wire.now.avg_fill_price) == (
        BrokerStatus.FILLED, 100, Decimal("50.5"),
    )  # fmt: skip


def test_a_report_carries_every_term_and_its_session() -> None:
    report = ToldBook("Submitted").now
    assert (report.order_type, report.time_in_force, report.limit_price) == ("limit", "day", 50)
    assert (report.symbol, report.side, report.quantity, report.session) == ("AAPL", "buy", 100, "1")


# -- ORDER TYPES ---
@pytest.mark.parametrize("listed", ["", "DAY,IOC,LMT,MKT"])
def test_an_order_type_that_the_contract_does_not_list_is_not_sent(listed: str) -> None:
    order = OrderRequest(
        symbol="AAPL", side="buy", quantity=1, order_type="limit", limit_price="1", time_in_force="fok"
    )
    with pytest.raises(Unsupported, match="FOK"):
        check_listed(order, frozenset(filter(None, listed.split(","))), "ib")


# -- DAYS ---
def test_the_zone_of_tws_is_read_from_its_clock_whatever_its_name() -> None:
    """Recorded: 16:28:40Z, in summer, under a name that says winter."""
    at = datetime(2026, 4, 15, 16, 28, 40, tzinfo=UTC)
    zones = zones_of("200\0" + "20260415 18:28:40 Central European Standard Time\0", at)
    assert [at.astimezone(zone).hour for zone in zones] == [17, 18, 19]


def test_a_day_ends_at_the_midnight_of_tws_too() -> None:
    """TWS in Hong Kong: sent 15:50Z, looked for at 16:05Z, which is the next day there."""
    sent, looked = datetime(2026, 11, 27, 15, 50, tzinfo=UTC), datetime(2026, 11, 27, 16, 5, tzinfo=UTC)
    hong_kong = zones_of("176\0" + "20261127 23:50:00 HKT\0", sent)
    assert not same_day(sent, looked, [UTC, *hong_kong])
    assert same_day(sent, looked, [UTC, *zones_of("176\0" + "20261127 10:50:00 EST\0", sent)])


@pytest.mark.parametrize(
    "greeting", ["", "176\0\0", "176\0soon\0", "176\0" + "20261340 99:00:00\0", "176\0" + "20200101 00:00:00\0"]
)
def test_without_the_zone_of_tws_no_two_moments_are_the_same_day(greeting: str) -> None:
    assert not same_day(NOW, NOW + timedelta(seconds=1), zones_of(greeting, NOW))


# -- ROWS THAT CANNOT BE READ ---
def a_ref(ref: str = "s-1", broker_order_id: str | None = None) -> OrderRef:
    order = OrderRequest(symbol="AAPL", side="buy", quantity=1)
    return OrderRef(order=order, broker_client_order_id=ref, broker_order_id=broker_order_id, sent_at=NOW)


def an_open_order(**changed: str) -> list[str]:
    fields = ["5", *("?" for _ in range(30))]
    ids = {"order_id": "9", "account": "DU1", "ref": "theirs", "client_id": "4", "perm_id": "1234"} | changed
    for name, place in (("order_id", 1), ("account", 20), ("ref", 23), ("client_id", 24), ("perm_id", 25)):
        fields[place] = ids[name]
    return fields


def test_an_unreadable_row_with_foreign_ids_is_nobody_of_ours() -> None:
    row = spoiled(an_open_order())
    assert row is not None
    assert not row.may_be(a_ref())
    assert "'theirs'" in str(row)
    assert "'1234'" in str(row)


@pytest.mark.parametrize(
    ("fields", "ref"),
    [
        (an_open_order(ref="s-1"), a_ref()),
        (an_open_order(perm_id="77"), a_ref(broker_order_id="77")),
        (an_open_order(ref="s-1", perm_id="x"), a_ref()),
        (["5", "garbage"], a_ref()),
    ],
)
def test_an_unreadable_row_that_may_be_ours_is_taken_for_it(fields: list[str], ref: OrderRef) -> None:
    row = spoiled(fields)
    assert row is not None
    assert row.may_be(ref)


def test_an_execution_that_cannot_be_read_has_the_same_words_at_every_reading() -> None:
    """The id of the request that listed it is another one each time, and two executions of one order are two rows."""

    def words(request_id: str, execution_id: str) -> str:
        fields = ["11", request_id, "9", *("?" for _ in range(30))]
        fields[14] = execution_id
        return str(spoiled(fields))

    assert words("7", "0001.01") == words("8", "0001.01") != words("8", "0001.02")
    assert "0001.01" in words("7", "0001.01")


def test_an_order_in_another_account_is_told_as_there() -> None:
    async def story(line: OrderLine, act: Callable[..., Awaitable[object]]) -> None:
        async def open_orders() -> Rows[OrderLine]:
            return Rows([line])

        session: Any = SimpleNamespace(
            options=SimpleNamespace(broker="ib"), open_orders=open_orders, check=lambda: None, book=ToldBook().book
        )
        await act(session, replace(a_ref(), order=a_ref().order.model_copy(update={"account": "main"})))

    theirs = replace(LINE, owner="ira")
    with pytest.raises(Unmapped, match="not canceled, its reference is in account ira"):
        asyncio.run(story(theirs, orders._listed_order_ids))
    with pytest.raises(OrderRejected, match="not changed, its reference is in account ira"):
        asyncio.run(story(theirs, ibkr_replace._live))
    with pytest.raises(Refused, match="not among the open orders"):
        asyncio.run(story(replace(theirs, ref="another"), orders._listed_order_ids))


# -- REISSUED ORDER IDS ---
def placing() -> tuple[OrderBook, PendingOrder]:
    book = OrderBook("ib", lambda _: None, lambda: 0.0)
    book.client_id = 1
    pending = PendingOrder("s-1", "ib")
    book.begin(pending, 5)
    return book, pending


@pytest.mark.parametrize("status", ["Filled", "Cancelled", "Submitted", "Inactive"])
def test_a_status_under_a_reissued_order_id_is_not_ours(status: str) -> None:
    """Yesterday's order had the same order id; ours is told by its reference, which comes with an openOrder."""
    book, pending = placing()
    book.on_status(5, 1, 11, status, "", 0, 0)
    assert pending.verdict(1.0) is WireVerdict.WAIT
    book.on_order(LINE)
    assert (pending.verdict(1.0), pending.perm_id) == (WireVerdict.DONE, PERM)


def test_a_refusing_code_does_not_decide_against_a_status_that_is_alive() -> None:
    book, pending = placing()
    book.on_status(5, 1, 11, "Submitted", "", 0, 0)
    book.on_error(5, 201, "Order rejected")
    assert pending.verdict(60.0) is WireVerdict.UNKNOWN


def test_an_inactive_order_with_a_refusing_code_may_come_alive_again() -> None:
    wire = ToldBook()
    wire.status("Inactive")
    wire.code(201)
    assert wire.now.dormant
    wire.status("Cancelled")
    assert (wire.now.dormant, wire.now.status) == (False, BrokerStatus.CANCELED)


@pytest.mark.parametrize(
    ("prose", "status"),
    [
        ("Cancelled by Trader: change rejected before", BrokerStatus.CANCELED),
        ("Cancelled", BrokerStatus.CANCELED),
        ("Rejected by System: no funds", BrokerStatus.REJECTED),
    ],
)
def test_what_was_canceled_is_no_rejection_whatever_its_reason_says(prose: str, status: BrokerStatus) -> None:
    line = replace(LINE, status="Cancelled", completed_status=prose)
    assert completed_status(line) is status
