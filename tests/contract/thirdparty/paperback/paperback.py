"""Corro's adapter for a broker in memory: the smallest complete example of an adapter in a package of its own.

`PaperbackBroker` is written against `worker/brokers/base.py` and docs/adapters.md alone; the broker, `Venue`, is in
paperback_venue.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from paperback_venue import PaperOrder, Venue, VenueRefusal

from models.errors import (
    BrokerError,
    ConfigurationError,
    ConnectionLost,
    DataError,
    InstrumentUnknown,
    InsufficientFunds,
    NoData,
    NotConnected,
    OrderRejected,
    RateLimited,
    SubmitTimeout,
    Unmapped,
    Unsupported,
)
from models.reports import (
    AccountReport,
    Bar,
    BrokerStatus,
    FillReport,
    Found,
    Missing,
    OrderReport,
    PositionReport,
    QuoteReport,
    Report,
    Sighting,
)
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.base import AbsenceRule, BrokerInterface, Capabilities, OrderRef, Ticket

#: The venue's codes and what they say of an order.
CODES: dict[str, type[BrokerError]] = {
    "P1": OrderRejected,
    "P2": InstrumentUnknown,
    "P3": InsufficientFunds,
    "P4": OrderRejected,
    "P9": RateLimited,
}


STATES = {"live": BrokerStatus.ACCEPTED, **{word: BrokerStatus(word) for word in ("filled", "canceled", "rejected")}}


class PaperbackBroker(BrokerInterface):
    """One account at a venue. Settings: venue (default demo), key, read_s, live."""

    keys = frozenset({"venue", "key", "read_s"})
    capabilities = Capabilities(
        sides=frozenset({Side.BUY, Side.SELL}),
        order_types=frozenset({OrderType.MARKET, OrderType.LIMIT}),
        times_in_force=frozenset({TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC}),
        extended_hours=False,
        client_order_id_length=24,
        absence=AbsenceRule(min_age_s=1.0, sightings=2),
        replaces="in_place",
        parallel_orders=4,
        timeframes=("1Day",),
    )

    def __init__(self, name: str, settings: Any) -> None:
        super().__init__(name, settings)
        self.session = 0
        self._venue: Venue | None = None
        self._callback: Callable[[Report], None] = lambda report: None

    def connect(self) -> None:
        where = self.settings.get("venue", "demo")
        if where == "wall-street" and not self.settings.live:
            raise ConfigurationError(f"brokers.{self.name}.venue is real money: set live = true")
        if self.settings.get("key") == "wrong":
            raise ConfigurationError(f"brokers.{self.name}.key is refused")
        venue = Venue.at(where)
        if venue is None or not venue.is_up:
            raise NotConnected(f"{self.name}: there is no venue {where}", broker=self.name)
        if not self.is_connected():
            self._venue, self.session = venue, self.session + 1
            venue.listeners = [*venue.listeners, self._hear]

    def disconnect(self) -> None:
        venue, self._venue = self._venue, None
        if venue is not None:
            venue.listeners = [listener for listener in venue.listeners if listener != self._hear]

    def is_connected(self) -> bool:
        return self._venue is not None and self._venue.is_up and self._hear in self._venue.listeners

    def updates(self, callback: Callable[[Report], None]) -> None:
        self._callback = callback

    # -- ORDERS ---
    def place_order(self, ticket: Ticket) -> OrderReport:
        self.capabilities.check(ticket.order, self.name)
        venue = self._connected()
        ticket.still_mine()
        work = lambda: venue.place(ticket.broker_client_order_id, ticket.order)  # noqa: E731
        return self._report(self._send("place", ticket.deadline_s, work))

    def cancel_order(self, ref: OrderRef) -> None:
        self._send("cancel", self._read_s, lambda: self._connected().end(self._paper(ref), "canceled"))

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        self.capabilities.check(ticket.order, self.name)
        venue = self._connected()
        paper = self._paper(ref)
        ticket.still_mine()
        work = lambda: venue.change(paper, ticket.order.quantity, ticket.order.limit_price)  # noqa: E731
        self._send("replace", ticket.deadline_s, work)
        return self._report(paper)

    def find_order(self, ref: OrderRef) -> Sighting:
        paper = self._read("list", lambda venue: venue.named(ref.broker_client_order_id))
        if paper is None:
            return Missing(evidence=f"the venue's list has no {ref.broker_client_order_id}")
        return Found(report=self._report(paper))

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        papers = self._read("list", lambda venue: list(venue.papers))
        recent = [paper for paper in papers if not open_only and (since is None or paper.at >= since)]
        return [self._report(paper) for paper in papers if paper.state == "live" or paper in recent]

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        papers = self._read("fills", lambda venue: list(venue.papers))
        fills = [fill for paper in papers for fill in self._fills(paper) if fill.filled_at >= since]
        return sorted(fills, key=lambda fill: fill.filled_at)

    # -- DATA ---
    def get_account_info(self) -> AccountReport:
        self._connected()
        money = Decimal(1_000_000)
        return AccountReport(account_id="PAPER1", buying_power=4 * money, cash=money, equity=money, paper=True)

    def get_positions(self) -> Sequence[PositionReport]:
        held = self._read("positions", lambda venue: dict(venue.positions))
        return [PositionReport(symbol=symbol, quantity=size) for symbol, size in held.items() if size]

    def get_market_data(self, symbol: str) -> QuoteReport:
        price = self._data("quote", symbol)
        return QuoteReport(symbol=symbol, bid=price - 1, ask=price + 1, last=price, at=datetime.now(UTC))

    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        if timeframe not in self.capabilities.timeframes:
            raise Unsupported(f"{self.name} has 1Day bars only", broker=self.name)
        price = self._data("bars", symbol)
        first = (start + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        days = [first + timedelta(days=number) for number in range(max((end - first).days + 1, 0))]
        bars = [Bar(start=d, open=price, high=price, low=price, close=price, volume=Decimal(1)) for d in days]
        past = [bar for bar in bars if start <= bar.start < min(end, datetime.now(UTC))]
        if not past:
            raise NoData(f"{self.name} has no bars of {symbol} in that range")
        return past

    # -- INSIDE ---
    @property
    def _read_s(self) -> float:
        return float(self.settings.get("read_s", 5))

    def _connected(self) -> Venue:
        if self._venue is None or not self.is_connected():
            raise NotConnected(f"{self.name}: not connected", broker=self.name)
        return self._venue

    def _send(self, operation: str, deadline_s: float, work: Callable[[], Any]) -> Any:
        """Make one request that changes something, and say which of the three answers it got."""
        venue = self._connected()
        try:
            return venue.call(operation, deadline_s, work)
        except ConnectionRefusedError as error:
            raise NotConnected(f"{self.name}: {error}; nothing was sent", broker=self.name) from error
        except TimeoutError as error:
            raise SubmitTimeout(f"{self.name}: no answer in {deadline_s} s", broker=self.name) from error
        except ConnectionResetError as error:
            raise ConnectionLost(f"{self.name}: {error}", broker=self.name) from error
        except VenueRefusal as error:
            code, words = error.args
            raise CODES.get(code, Unmapped)(f"{self.name}: {words}", broker=self.name, code=code) from error

    def _read(self, operation: str, work: Callable[[Venue], Any]) -> Any:
        venue = self._connected()
        try:
            return venue.call(operation, self._read_s, lambda: work(venue))
        except OSError as error:  # TimeoutError is one
            raise BrokerError(f"{self.name}: {operation}: {error!r}", broker=self.name) from error

    def _data(self, operation: str, symbol: str) -> Decimal:
        try:
            price: Decimal | None = self._read(operation, lambda venue: venue.prices.get(symbol))
        except BrokerError as error:
            raise DataError(str(error)) from error
        if price is None:
            raise NoData(f"{self.name} does not know {symbol}")
        return price

    def _paper(self, ref: OrderRef) -> PaperOrder:
        sighting = self.find_order(ref)
        if isinstance(sighting, Missing):
            raise OrderRejected(f"{self.name}: {sighting.evidence}", broker=self.name)
        found = self._connected().named(ref.broker_client_order_id)
        assert found is not None
        return found

    def _hear(self, paper: PaperOrder, filled: bool) -> None:
        for report in ([self._fills(paper)[-1]] if filled else []) + [self._report(paper)]:
            try:
                self._callback(report)
            except Exception as error:
                print(f"{self.name}: the callback failed: {error!r}")

    def _fills(self, paper: PaperOrder) -> list[FillReport]:
        totals = itertools.accumulate(size for _, size, _, _ in paper.fills)
        return [
            FillReport(
                execution_id=name,
                quantity=size,
                price=price,
                filled_at=at,
                symbol=paper.order.symbol,
                side=paper.order.side,
                broker_client_order_id=paper.name,
                broker_order_id=str(paper.number),
                cumulative_quantity=total,
            )
            for (name, size, price, at), total in zip(paper.fills, totals, strict=True)
        ]

    def _report(self, paper: PaperOrder) -> OrderReport:
        filled, fills = paper.filled, self._fills(paper)
        status = STATES[paper.state]
        paid = sum((fill.quantity * fill.price for fill in fills), Decimal(0))
        return OrderReport(
            broker_order_id=str(paper.number),
            status=BrokerStatus.PARTIALLY_FILLED if filled and paper.state == "live" else status,
            broker_client_order_id=paper.name,
            symbol=paper.order.symbol,
            side=paper.order.side,
            order_type=paper.order.order_type,
            time_in_force=paper.order.time_in_force,
            quantity=paper.quantity,
            limit_price=paper.limit,
            filled_quantity=filled,
            avg_fill_price=paid / filled if filled else None,
            message=paper.reason,
            raw_status=paper.state,
            submitted_at=paper.at,
        )
