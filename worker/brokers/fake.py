"""A broker in this process, for the unit tests of a strategy or of whatever speaks to an adapter: no network, no SDK.

`FakeAccount` is the broker's side: prices, positions, orders and what is to go wrong with the next ones. `FakeBroker`
is an adapter in front of it, complete by the contract suite. Several adapters may share an account, as workers do.

Rehearsals against real wire protocols are the sandbox's (`corro sandbox`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from models.errors import (
    BrokerError,
    ConfigurationError,
    ConnectionLost,
    DataError,
    InstrumentUnknown,
    InsufficientFunds,
    NoData,
    NoSuchSymbol,
    NotConnected,
    OrderRejected,
    RateLimited,
    UnreadableReply,
    Unsupported,
)
from models.reports import (
    DONE,
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
from models.settings import BrokerSettings
from models.terms import contradictions
from worker.brokers.base import AbsenceRule, BrokerInterface, Capabilities, OrderRef, Ticket
from worker.brokers.fake_account import FakeAccount, Fault, Reading

_SPREAD = Decimal("0.01")
_ZERO = Decimal(0)


class FakeBroker(BrokerInterface):
    """An adapter for a `FakeAccount`.

    Args:
        name: of the broker.
        settings: None is a table without keys.
        account: the broker's side; None makes one.
    """

    keys = frozenset[str]()
    capabilities = Capabilities(
        fractional=True,
        dedupes_client_order_id=True,
        absence=AbsenceRule(min_age_s=0.1, sightings=2),
        replaces="in_place",
        timeframes=("1Day",),
    )

    def __init__(
        self, name: str = "fake", settings: BrokerSettings | None = None, account: FakeAccount | None = None
    ) -> None:
        super().__init__(name, settings or BrokerSettings(adapter="fake"))
        self.account = account or FakeAccount()
        self._callback: Callable[[Report], None] = lambda _: None
        self.failed_callbacks = 0

    # -- CONNECTION ---
    def connect(self) -> None:
        """Listen to the account."""
        if self.settings.live:
            raise ConfigurationError(f"brokers.{self.name}: a fake broker has no real money")
        if not self.account.is_up:
            raise NotConnected(f"{self.name}: the fake broker is down", broker=self.name)
        if not self.is_connected():
            self.session += 1
            self.account.listeners.append(self._hear)

    def disconnect(self) -> None:
        """Stop listening."""
        self.account.listeners[:] = [found for found in self.account.listeners if found != self._hear]

    def is_connected(self) -> bool:
        """Tell whether the account is up and listened to."""
        return self.account.is_up and self._hear in self.account.listeners

    def updates(self, callback: Callable[[Report], None]) -> None:
        """Register the callback; it is called by whoever makes something happen."""
        self._callback = callback

    def _hear(self, report: Report) -> None:
        try:
            self._callback(report)
        except Exception:
            self.failed_callbacks += 1

    # -- ORDERS ---
    def place_order(self, ticket: Ticket) -> OrderReport:
        """Send one order; see `BrokerInterface.place_order`."""
        self.capabilities.check(ticket.order, self.name)
        account, order = self._reached(), ticket.order
        ticket.still_mine()
        fault = account.faults.popleft() if account.faults else None
        if account.is_limited:
            raise RateLimited(f"{self.name}: too many orders", broker=self.name)
        account.arrived += 1
        if known := account.named(ticket.broker_client_order_id):
            if against := contradictions(order, known):
                words = f"{self.name}: {ticket.broker_client_order_id} names another order: {'; '.join(against)}"
                raise UnreadableReply(words, broker=self.name)
            return known
        self._refuse(fault)
        if order.symbol not in account.prices:
            raise InstrumentUnknown(f"{self.name} does not trade {order.symbol}", broker=self.name)
        if order.units * account.prices[order.symbol] > 4 * account.cash:
            raise InsufficientFunds(f"{self.name}: not enough money", broker=self.name)
        report = account.take(ticket.broker_client_order_id, order, fault)
        self._answer(fault, ticket.deadline_s)
        return report

    def cancel_order(self, ref: OrderRef) -> None:
        """Cancel a live order."""
        account, order_id = self._reached(), self._live(ref)
        account.end(order_id, BrokerStatus.CANCELED)

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Change a live order in its place; see `BrokerInterface.replace_order`."""
        self.capabilities.check(ticket.order, self.name)
        account, order_id = self._reached(), self._live(ref)
        ticket.still_mine()
        fault = account.faults.popleft() if account.faults else None
        self._refuse(fault)
        if ticket.order.units <= (account.orders[order_id].filled_quantity or _ZERO):
            raise OrderRejected(f"{self.name}: that much is filled already", broker=self.name)
        report = account.alter(order_id, ticket.order, fault)
        self._answer(fault, ticket.deadline_s)
        return report

    def find_order(self, ref: OrderRef) -> Sighting:
        """Look for an order by the id we gave it."""
        found = self._read("orders").named(ref.broker_client_order_id)
        if found is None:
            return Missing(evidence=f"the account has no order {ref.broker_client_order_id}")
        return Found(report=found)

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        """Return the account's orders, newest last."""
        found = list(self._read("orders").orders.values())
        oldest = since or datetime.min.replace(tzinfo=UTC)
        return [o for o in found if o.status not in DONE or not (open_only or (o.submitted_at or oldest) < oldest)]

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        """Return the account's executions since a time, oldest first."""
        return [fill for fill in list(self._read("fills").fills) if fill.filled_at >= since]

    # -- DATA ---
    def get_account_info(self) -> AccountReport:
        """Return the money."""
        cash = self._reached().cash
        return AccountReport(account_id="FAKE", buying_power=4 * cash, cash=cash, equity=cash, paper=True)

    def get_positions(self) -> Sequence[PositionReport]:
        """Return what is held."""
        held = dict(self._read("positions").positions)
        return [PositionReport(symbol=symbol, quantity=size, currency="USD") for symbol, size in held.items() if size]

    def get_market_data(self, symbol: str) -> QuoteReport:
        """Return a quote of one cent around the price."""
        price = self._price("quote", symbol)
        return QuoteReport(symbol=symbol, bid=price - _SPREAD, ask=price + _SPREAD, last=price, at=datetime.now(UTC))

    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return one flat bar for each day."""
        if timeframe not in self.capabilities.timeframes:
            raise Unsupported(f"{self.name} has {self.capabilities.timeframes} only", broker=self.name)
        price, day = self._price("bars", symbol), timedelta(days=1)
        first = (start + day - timedelta.resolution).replace(hour=0, minute=0, second=0, microsecond=0)
        count = -(-(min(end, datetime.now(UTC)) - first) // day)
        if count <= 0:
            raise NoData(f"{self.name} has no bars of {symbol} in that range")
        flat = {"open": price, "high": price, "low": price, "close": price, "volume": Decimal(1)}
        return [Bar(start=first + number * day, **flat) for number in range(count)]

    # -- INSIDE ---
    def _reached(self) -> FakeAccount:
        if not self.is_connected():
            raise NotConnected(f"{self.name}: not connected", broker=self.name)
        return self.account

    def _read(self, what: Reading) -> FakeAccount:
        account = self._reached()
        if what in account.unreadable:
            raise BrokerError(f"{self.name}: {what} cannot be read, on purpose", broker=self.name)
        return account

    def _price(self, what: Reading, symbol: str) -> Decimal:
        try:
            price = self._read(what).prices.get(symbol)
        except BrokerError as error:
            raise DataError(str(error)) from error
        if price is None:
            raise NoSuchSymbol(f"{self.name} does not know {symbol}")
        return price

    def _live(self, ref: OrderRef) -> str:
        """Return the broker's id of an order that can be changed."""
        found = self.find_order(ref)
        if not isinstance(found, Found) or found.report.status in DONE:
            words = found.report.status if isinstance(found, Found) else "not there"
            raise OrderRejected(f"{self.name}: {ref.broker_client_order_id} is {words}", broker=self.name)
        return str(found.report.broker_order_id)

    def _refuse(self, fault: Fault | None) -> None:
        if fault == "refuse":
            raise OrderRejected(f"{self.name}: {self.account.refusal}", broker=self.name, code="FAKE")
        if fault == "lose_order":
            raise ConnectionLost(f"{self.name}: the order was lost, on purpose", broker=self.name)

    def _answer(self, fault: Fault | None, deadline_s: float) -> None:
        time.sleep(min(self.account.delay_s, deadline_s))
        if fault == "lose_answer" or self.account.delay_s > deadline_s:
            raise ConnectionLost(f"{self.name}: the answer was lost, on purpose", broker=self.name)
