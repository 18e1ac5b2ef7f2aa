"""What the cards stand on: one desk per broker, with its adapter on one side and the broker's own truth on the other.

To run the suite against an adapter, write one subclass of `Desk` and name it: `pytest tests/contract/suite --desk
package.module:MyDesk`. Everything a card knows of a broker it knows from here and from `adapter.capabilities`.
"""

from __future__ import annotations

import socket
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from models.errors import BrokerError, DataError, NotConnected
from models.messages import OrderRequest
from models.reports import BrokerStatus, FillReport, Found, OrderReport, Report, Sighting
from worker.brokers.base import BrokerInterface, Capabilities, OrderRef, Ticket

T = TypeVar("T")

#: Symbols that the cards trade: a desk's broker must know them, and must not know ZZZZ.
SYMBOLS = ("AAPL", "MSFT", "KO", "TSLA", "SPY", "F")
#: A price at which no buy order of the cards is ever filled by itself, whatever the symbol.
FAR = "1.00"


@dataclass(frozen=True)
class Trouble:
    """A fault by its common name, and what it takes: `refuse`, `hang`, `accept_hang`, `accept_drop`, `status` ..."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    #: How many times it strikes; None until it is cleared.
    count: int | None = 1

    def __str__(self) -> str:
        return " ".join([self.kind, *(f"{key}={value}" for key, value in self.options.items())])


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One order as the broker itself has it: evidence that does not come through the adapter."""

    #: What `cancel_outside` takes to mean this order.
    handle: Any
    symbol: str
    #: buy or sell; brokers differ in what they call a short sale.
    side: str
    quantity: Decimal
    filled: Decimal
    #: live, filled, canceled, rejected, expired or replaced.
    state: str
    order_type: str
    time_in_force: str
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    extended_hours: bool = False
    #: Our id as the broker keeps it; None where it keeps none.
    client_order_id: str | None = None


class Desk(ABC):
    """A broker that does what it is told, and an adapter in front of it.

    A desk is opened for every test in an empty directory, so nothing of one card reaches another.
    """

    #: Shown in the names of the tests.
    name: ClassVar[str]
    #: Troubles after which the broker has the order and the adapter has no answer.
    lost_answers: ClassVar[Sequence[Trouble]] = (Trouble("accept_drop"), Trouble("accept_hang"))
    #: Troubles on the way there: bytes have left, the broker has taken nothing.
    lost_sends: ClassVar[Sequence[Trouble]] = (Trouble("hang"),)
    #: As `lost_answers`, of a replace; empty where the broker has none.
    lost_changes: ClassVar[Sequence[Trouble]] = ()
    #: Troubles that keep a reading from being complete, by reading: find, open (orders), orders (closed ones as well),
    #: fills, quote, bars, positions.
    unreadable: ClassVar[Mapping[str, Sequence[Trouble]]]
    #: Faults that make the broker say things twice.
    repeats: ClassVar[Sequence[str]] = ()
    #: Modules that importing the adapter must not bring along: the SDKs of other brokers, and its own.
    foreign_modules: ClassVar[Sequence[str]] = ("ib_insync", "ib_async", "alpaca_trade_api")

    def __init__(self, home: Path) -> None:
        self.home = home
        self.reports: list[Report] = []
        self._made: list[BrokerInterface] = []
        self.open()
        self.broker = self.adapter()
        self.broker.updates(self.reports.append)

    # -- WHAT A DESK HAS TO SAY ---
    @abstractmethod
    def open(self) -> None:
        """Open the broker."""

    @abstractmethod
    def shut(self) -> None:
        """Shut the broker for good."""

    @abstractmethod
    def make(self, **settings: Any) -> BrokerInterface:
        """Make an adapter for this broker, not connected; `settings` over those it needs."""

    @abstractmethod
    def leading_to(self, port: int) -> BrokerInterface:
        """Make an adapter whose settings lead to another port of this machine."""

    @abstractmethod
    def refused_keys(self) -> BrokerInterface:
        """Make an adapter whose keys, or account, this broker does not accept."""

    @abstractmethod
    def real_money(self) -> BrokerInterface | None:
        """Make an adapter whose settings mean real money without `live = true`; None if it can never be real."""

    @abstractmethod
    def throttled(self) -> BrokerInterface:
        """Make a connected adapter that a limit, the broker's or its own, keeps from sending more than a few orders."""

    @abstractmethod
    def fault(self, kind: str, count: int | None = 1, **options: Any) -> None:
        """Put a fault in force; see `Trouble`. `no_fill`, `partial` and `reject_after_accept` let orders be taken."""

    @abstractmethod
    def clear(self) -> None:
        """Remove every fault."""

    @abstractmethod
    def price(self, symbol: str, price: str) -> None:
        """Pin a price; orders that it makes marketable are filled at once."""

    @abstractmethod
    def hold(self, symbol: str, quantity: int) -> None:
        """Set a position; negative is short."""

    @abstractmethod
    def release(self) -> None:
        """Fill what `no_fill` and `partial` hold back."""

    @abstractmethod
    def cut(self) -> None:
        """Cut every open connection once, and return when it is done."""

    @abstractmethod
    def down(self) -> None:
        """Refuse connections, and cut those there are, until `up`; return when it is so."""

    @abstractmethod
    def up(self) -> None:
        """Clear every fault and return when connections are taken again."""

    @abstractmethod
    def arrivals(self) -> int:
        """Count the orders whose bytes reached the broker, taken or not."""

    @abstractmethod
    def orders(self) -> list[Seen]:
        """Return every order that the broker has taken, oldest first."""

    @abstractmethod
    def cancel_outside(self, seen: Seen) -> None:
        """Cancel an order behind the adapter's back, as the broker or a person may."""

    def ready(self) -> None:
        """Wait until pushed updates arrive, where connect does not."""
        assert self.broker.is_connected()

    def hasten(self, patch: pytest.MonkeyPatch) -> None:
        """Let readings that are never answered end within about a second, where settings cannot."""
        del patch

    # -- WHAT THE CARDS USE ---
    @property
    def can(self) -> Capabilities:
        """What the adapter says it can do."""
        return self.broker.capabilities

    def adapter(self, **settings: Any) -> BrokerInterface:
        """Make an adapter that is closed with the desk."""
        made = self.make(**settings)
        self._made.append(made)
        return made

    def unreachable(self) -> BrokerInterface:
        """Make an adapter whose settings lead to where nobody listens."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return self.leading_to(free.getsockname()[1])

    def connected(self, **settings: Any) -> BrokerInterface:
        """Make an adapter and connect it."""
        made = self.adapter(**settings)
        made.connect()
        return made

    def close(self) -> None:
        """Disconnect every adapter and shut the broker."""
        for made in self._made:
            made.disconnect()
        self.shut()

    def trouble(self, trouble: Trouble) -> None:
        """Put a trouble in force."""
        self.fault(trouble.kind, trouble.count, **trouble.options)

    def place(
        self,
        wanted: OrderRequest,
        *,
        deadline_s: float = 3.0,
        still_mine: Callable[[], None] = lambda: None,
        by: BrokerInterface | None = None,
    ) -> OrderReport:
        """Place an order under its own client_order_id."""
        return (by or self.broker).place_order(ticket(wanted, deadline_s=deadline_s, still_mine=still_mine))

    def find(self, wanted: OrderRequest, *, by: BrokerInterface | None = None, **more: Any) -> Sighting:
        """Look for an order by what was known when it was sent, and no more."""
        return (by or self.broker).find_order(ref(wanted, **more))

    def found(self, wanted: OrderRequest, **more: Any) -> OrderReport:
        """Return the order that is found; anything else fails."""
        sighting = self.find(wanted, **more)
        assert isinstance(sighting, Found), sighting
        return sighting.report

    def settled(self, wanted: OrderRequest, *status: BrokerStatus, **more: Any) -> OrderReport:
        """Wait until an order is found in one of these states."""
        return eventually(lambda: (report := self.found(wanted, **more)).status in status and report)

    def restart(self) -> BrokerInterface:
        """Put a new adapter, which knows nothing, in the place of the old one."""
        self.broker.disconnect()
        self.broker = self.adapter()
        self.broker.updates(self.reports.append)
        reconnect(self.broker)
        return self.broker

    def back(self) -> None:
        """Clear every fault, and connect again if the connection was lost; an answer proves that it is there."""
        self.up()
        reconnect(self.broker)
        self.again(self.broker.get_account_info)

    def again(self, read: Callable[[], T]) -> T:
        """Repeat a reading until it works, connecting where that is needed, as the worker does."""

        def attempt() -> tuple[T] | None:
            try:
                return (read(),)
            except (BrokerError, DataError):
                if not self.broker.is_connected():
                    reconnect(self.broker)
                return None

        return eventually(attempt)[0]  # type: ignore[index]

    def pushed(self, placed: OrderReport) -> list[OrderReport]:
        """Return the states of an order that were told, in order: the answer to the send, then what was pushed."""
        return [placed, *(r for r in self.reports if isinstance(r, OrderReport) and is_of(r, placed))]

    def executions(self, placed: OrderReport) -> list[FillReport]:
        """Return the fills of an order that were told, alone or inside reports, each once, in order."""
        alone = [report for report in self.reports if isinstance(report, FillReport) and is_of(report, placed)]
        inside = [fill for report in self.pushed(placed) for fill in report.fills]
        return distinct([*alone, *inside])

    def at_broker(self, wanted: OrderRequest) -> list[Seen]:
        """Return the orders at the broker that have this symbol and quantity."""
        return [seen for seen in self.orders() if (seen.symbol, seen.quantity) == (wanted.symbol, wanted.quantity)]

    def the_one(self, wanted: OrderRequest) -> Seen:
        """Return the only order at the broker that has this symbol and quantity; two of them fail."""
        (seen,) = self.at_broker(wanted)
        return seen


# -- WORDS ---
def order(symbol: str = "AAPL", side: str = "buy", quantity: Any = 10, **terms: Any) -> OrderRequest:
    """Make a market order; its id is short enough for every broker that keeps ids at all."""
    given = {"symbol": symbol, "side": side, "quantity": quantity, "client_order_id": fresh_id(), **terms}
    return OrderRequest(**given)


def resting(**terms: Any) -> OrderRequest:
    """Make a limit order far from the market."""
    return order(**{"order_type": "limit", "limit_price": FAR, **terms})


def fresh_id() -> str:
    """Return an id that no order has had."""
    return uuid.uuid4().hex[:16]


def ticket(
    wanted: OrderRequest,
    *,
    deadline_s: float = 3.0,
    still_mine: Callable[[], None] = lambda: None,
    our_id: str | None = None,
) -> Ticket:
    """Make a ticket; the broker sees the order's own id unless told otherwise."""
    name = our_id or wanted.client_order_id
    return Ticket(order=wanted, broker_client_order_id=name, deadline_s=deadline_s, still_mine=still_mine)


def ref(wanted: OrderRequest, broker_order_id: str | None = None, **more: Any) -> OrderRef:
    """Make a reference as the worker would: what was sent, when, and under which id."""
    fields: dict[str, Any] = {"order": wanted, "broker_client_order_id": wanted.client_order_id}
    fields |= {"broker_order_id": broker_order_id, "sent_at": wanted.created_at}
    return OrderRef(**(fields | more))


def is_of(report: OrderReport | FillReport, placed: OrderReport) -> bool:
    """Tell whether a report speaks of the order that place_order returned."""
    ours = placed.broker_client_order_id
    same = ours is not None and report.broker_client_order_id == ours
    return same or report.broker_order_id == placed.broker_order_id


def distinct(fills: Sequence[FillReport]) -> list[FillReport]:
    """Keep every execution once: by its id, and by the running total where two feeds name it differently."""
    found: dict[Any, FillReport] = {}
    known: set[Any] = set()
    for fill in fills:
        total = (fill.broker_order_id, fill.cumulative_quantity)
        if fill.execution_id not in found and (fill.cumulative_quantity is None or total not in known):
            found[fill.execution_id] = fill
            known.add(total)
    return sorted(found.values(), key=lambda fill: (fill.cumulative_quantity or Decimal(0), fill.filled_at))


def reconnect(broker: BrokerInterface) -> None:
    """Connect until it works, as the worker does."""

    def connects() -> bool:
        try:
            broker.connect()
        except NotConnected:
            return False
        return broker.is_connected()

    eventually(connects)


def eventually(look: Callable[[], T], timeout: float = 8.0) -> T:
    """Return what `look` returns as soon as it is true; fail after the timeout."""
    end = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


#: Brokers tell times in whole seconds, and clocks differ: readings `since` a time begin this much earlier.
SLACK = timedelta(seconds=2)


def now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


def needs(capability: object, words: str) -> None:
    """Skip the card unless the adapter has the capability: the only reason for a card to be skipped."""
    if not capability:
        pytest.skip(f"capability: {words}")
