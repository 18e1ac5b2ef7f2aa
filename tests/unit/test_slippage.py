"""What an execution cost: the decision price travels with the order, the quote at arrival is read beside its way."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, update

from models.errors import InvalidOrder, QuotaExhausted
from models.history import History, v_tca
from models.messages import OrderRequest
from models.record.database import Database
from models.record.intake import Intake, body_of, request_of
from models.record.tables import attempts, bars, fills
from models.reports import QuoteReport
from models.vocabulary import ArrivalQuotes
from tests.kit import eventually
from tests.unit.trades import MadeTrade, TradeLedger
from tests.unit.words import NOW, Put
from worker.data.arrivals import Arrivals

D = Decimal


# -- THE ORDER OBJECT ---
def test_a_decision_price_makes_an_order_object_of_version_2() -> None:
    plain = OrderRequest(symbol="KO", side="buy", quantity=1)
    decided = OrderRequest(symbol="KO", side="buy", quantity=1, decision_price="60.01")
    assert (plain.version, "decision_price" in plain.to_wire()) == (1, False), "a worker of before can read it"
    assert (decided.version, decided.to_wire()["decision_price"]) == (2, "60.01")
    assert OrderRequest(**decided.to_wire()) == decided
    with pytest.raises(InvalidOrder, match="decision_price: only"):
        OrderRequest(version=1, symbol="KO", side="buy", quantity=1, decision_price=1)
    with pytest.raises(InvalidOrder, match="decision_price"):
        OrderRequest(symbol="KO", side="buy", quantity=1, decision_price=0)


def test_the_same_order_decided_at_another_price_is_the_same_order() -> None:
    first, second = (OrderRequest(symbol="KO", side="buy", quantity=1, decision_price=p) for p in (60, 61))
    assert first.body_hash == second.body_hash == OrderRequest(symbol="KO", side="buy", quantity=1).body_hash


def test_it_is_recorded_and_travels_from_the_record(intake: Intake, database: Database) -> None:
    request = OrderRequest(symbol="KO", side="buy", quantity=1, decision_price="60.01")
    (row,) = intake.record([request])
    assert (row["decision_price"], body_of(row)["decision_price"]) == (D("60.01"), D("60.01"))
    assert request_of(row).decision_price == D("60.01")
    (row,) = intake.record([OrderRequest(symbol="KO", side="buy", quantity=1)])
    assert "decision_price" not in body_of(row)


# -- WHAT IT COST ---
@pytest.mark.parametrize(
    ("shares", "price", "decision", "bid", "ask", "money", "bps", "arrival", "arrival_bps"),
    [
        (100, "10.10", "10", "10.02", "10.06", "10", "100", "6", "59.7610"),
        (-100, "9.95", "10", "9.94", "9.98", "5", "50", "1", "10.0402"),  # sold below
        (100, "9.90", "10", None, None, "-10", "-100", None, None),  # better than decided
        (100, "10", None, "9", "11", None, None, "0", "0"),
    ],
)
def test_a_cost_is_positive(
    database: Database, shares: int, price: str, decision: str | None, bid: str | None, ask: str | None,
    money: str | None, bps: str | None, arrival: str | None, arrival_bps: str | None, put: Put,
) -> None:  # fmt: skip
    told = {"decision_price": decision and D(decision), "arrival_bid": bid and D(bid), "arrival_ask": ask and D(ask)}
    put("o-1", attempt=told, side="buy" if shares > 0 else "sell")
    TradeLedger(database).trade(MadeTrade(shares, price))
    with database.write() as connection:
        connection.execute(update(fills).values(client_order_id="o-1"))
    (row,) = History(database).rows(v_tca)
    names = ("slippage_decision", "slippage_decision_bps", "slippage_arrival", "slippage_arrival_bps")
    right = (money, bps, arrival, arrival_bps)
    assert [row[name] for name in names] == [value and D(value) for value in right]


@pytest.mark.parametrize("price", ["-10", "0"])
def test_prices_below_zero_cost_as_much_and_of_zero_there_are_no_basis_points(
    database: Database, put: Put, price: str
) -> None:
    put("o-1", attempt={"decision_price": D(price), "arrival_bid": D(price), "arrival_ask": D(price)})
    booked(database, D(price) + D("0.1"), NOW)
    (row,) = History(database).rows(v_tca)
    points = None if price == "0" else 100
    assert (row["slippage_decision"], row["slippage_decision_bps"]) == (1, points)
    assert (row["slippage_arrival"], row["slippage_arrival_bps"]) == (1, points)


def booked(database: Database, price: Decimal, *moments: datetime) -> None:
    """Ten shares of `o-1` at each moment."""
    with database.write() as connection:
        for number, at in enumerate(moments):
            connection.execute(
                insert(fills).values(
                    client_order_id="o-1", attempt_no=1, broker="ibkr", execution_id=f"e{number}", symbol="AAPL",
                    quantity=10, price=price, filled_at=at, recorded_at=at,
                )
            )  # fmt: skip


#: High, low, close and volume of each minute from that of the send on: 100 shares at 10 and 300 at 11 are 10.75.
TWO_MINUTES = [("10.2", "9.8", "10", 100), ("11.1", "10.9", "11", 300)]


@pytest.mark.parametrize(
    ("minutes", "vwap"),
    [
        (TWO_MINUTES, "10.75"),
        (TWO_MINUTES[:1], None),  # of the second minute nobody knows
        ([*TWO_MINUTES[:1], (*TWO_MINUTES[1], False)], None),  # told while it formed
        ([], None),
        ([("10", "10", "10", 0)] * 2, None),  # nothing was traded
    ],
)
def test_the_mean_of_the_market_is_told_where_every_minute_of_the_order_has_its_bar(
    database: Database, put: Put, minutes: list[Any], vwap: str | None
) -> None:
    put("o-1", attempt={"started_at": NOW + timedelta(seconds=20)})
    booked(database, D(11), NOW + timedelta(seconds=30), NOW + timedelta(seconds=80))
    same = {"symbol": "AAPL", "open": D(10)}
    told = [
        {
            "high": D(high),
            "low": D(low),
            "close": D(close),
            "volume": D(volume),
            "start": NOW + timedelta(minutes=place),
            "complete": not forming,
        }
        for place, (high, low, close, volume, *forming) in enumerate(minutes)
    ]
    others = [row | {"broker": "ibkr", "timeframe": "5Min", "close": D(99)} for row in told[:1]]
    others += [row | {"broker": "alpaca", "timeframe": "1Min", "close": D(99)} for row in told]
    with database.write() as connection:
        for row in [*others, *(one | {"broker": "ibkr", "timeframe": "1Min"} for one in told)]:
            connection.execute(insert(bars).values(same | row))
    for row in History(database).rows(v_tca):  # both executions are held against the same mean: their order's
        right = (None, None, None) if vwap is None else (D(vwap), D("2.5"), D("232.5581"))
        assert (row["interval_vwap"], row["slippage_vwap"], row["slippage_vwap_bps"]) == right


# -- THE QUOTE AT ARRIVAL ---
@dataclass
class SlowQuotes:
    """A broker whose quotes come when they are let."""

    name: str = "alpaca"
    let: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    error: Exception | None = None

    def get_market_data(self, symbol: str) -> QuoteReport:
        self.asked.append(symbol)
        assert self.let.wait(10)
        if self.error is not None:
            raise self.error
        return QuoteReport(symbol=symbol, bid=D(10), ask=D(11), last=None, at=NOW)


def arrivals(database: Database, broker: Any, which: ArrivalQuotes = ArrivalQuotes.ASKED) -> Arrivals:
    return Arrivals(database, broker, which)


def told(database: Database, client_order_id: str) -> tuple[Any, ...]:
    with database.read() as connection:
        a = attempts.c
        found = connection.execute(attempts.select().where(a.client_order_id == client_order_id)).one()
    return found.arrival_bid, found.arrival_ask, found.arrival_at


def test_a_send_does_not_wait_for_its_quote_and_a_symbol_is_asked_for_once_a_second(
    database: Database, put: Put
) -> None:
    broker = SlowQuotes()
    found = arrivals(database, broker)
    started = time.monotonic()
    for number in range(3):
        put(f"o-{number}")
        found.note(f"o-{number}", 1, "KO", has_decision=True)
    assert told(database, "o-0") == (None, None, None), "the broker has not answered, and nobody waits"
    broker.let.set()
    assert time.monotonic() - started < 5
    for number in range(3):
        eventually(lambda id_=f"o-{number}": told(database, id_) == (10, 11, NOW), 10)
    assert broker.asked == ["KO"]
    found.close()


def test_only_orders_with_a_decision_price_are_asked_for_unless_settings_say_otherwise(
    database: Database, put: Put
) -> None:
    for which, has_decision, asks in [
        (ArrivalQuotes.ASKED, False, False), (ArrivalQuotes.NEVER, True, False), (ArrivalQuotes.ALWAYS, False, True),
    ]:  # fmt: skip
        broker = SlowQuotes()
        broker.let.set()
        found = arrivals(database, broker, which)
        found.note("o-1", 1, "KO", has_decision=has_decision)
        assert (found._thread is not None) is asks, "who never asks has no thread"
        if asks:
            eventually(lambda broker=broker: broker.asked == ["KO"], 10)
        found.close()


def test_a_quote_that_cannot_be_had_leaves_the_arrival_unknown(database: Database, put: Put) -> None:
    broker = SlowQuotes(error=QuotaExhausted("no budget", broker="alpaca"))
    broker.let.set()
    found = arrivals(database, broker)
    put("o-1")
    found.note("o-1", 1, "KO", has_decision=True)
    eventually(lambda: broker.asked == ["KO"], 10)
    broker.error = None
    put("o-2")
    found.note("o-2", 1, "PEP", has_decision=True)
    eventually(lambda: told(database, "o-2") == (10, 11, NOW), 10)
    assert told(database, "o-1") == (None, None, None)
    found.close()
