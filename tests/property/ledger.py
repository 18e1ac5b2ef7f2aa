"""A broker that keeps honest books: what it took, what it filled, and whose it was; and a connection to it.

It stands where a network broker would stand. `Seat` implements the real seam, so corro's code cannot tell the
difference; `Ledger` is the truth that the properties compare corro's books with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from models.errors import (
    ConnectionLost,
    InsufficientFunds,
    NotConnected,
    OrderRejected,
    QuotaExhausted,
    RateLimited,
    ServerError,
    SubmitTimeout,
)
from models.reports import (
    DONE,
    AccountReport,
    Ambiguous,
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
from models.vocabulary import signed
from worker.brokers.base import AbsenceRule, BrokerInterface, Capabilities, OrderRef, Ticket

ZERO, PRICE = Decimal(0), Decimal(100)
#: Bytes that have left arrive within this many seconds: what AbsenceRule.min_age_s allows for.
LONGEST_WAY_S = 9.0

#: The kinds of brokers there are: one dedupes by our id, one keeps it and dedupes nothing, one keeps no id at all.
KINDS: dict[str, Capabilities] = {
    "dedupes": Capabilities(
        dedupes_client_order_id=True, absence=AbsenceRule(min_age_s=10, sightings=3), parallel_orders=1
    ),
    "keeps": Capabilities(absence=AbsenceRule(min_age_s=10, sightings=2), parallel_orders=1, replaces="in_place"),
    "anonymous": Capabilities(
        client_order_id_length=None, absence=AbsenceRule(possible=False), parallel_orders=1
    ),
}  # fmt: skip

#: What may become of a send. Before the first byte:
UNSENT = {
    "not_connected": lambda name: NotConnected("no route to host", broker=name),
    "quota": lambda name: QuotaExhausted("pacing", broker=name, retry_after=3.0),
}
#: The broker says no:
NO = {
    "refuse": lambda name: InsufficientFunds("no money", broker=name),
    "rate_limit": lambda name: RateLimited("slow down", broker=name, code="429", retry_after=2.0),
}
#: The answer is lost, after the broker took the order, or without:
TAKEN_AND_LOST = {
    "hang_taken": lambda name: SubmitTimeout("no answer", broker=name),
    "drop_taken": lambda name: ConnectionLost("reset", broker=name),
    "leak_taken": lambda name: ValueError("what an adapter should not let out"),
}
NOT_TAKEN_AND_LOST = {
    "hang_lost": lambda name: SubmitTimeout("no answer", broker=name),
    "server_error": lambda name: ServerError("500", broker=name),
}
#: The bytes are on their way when the answer is given up: the broker takes them a while later.
ON_ITS_WAY = {"late_2": 2.0, "late_8": 8.0}
#: The broker takes it, and says so:
TAKEN = ("accept", "fill", "part", "reject_later")
ANSWERS = (*TAKEN, *UNSENT, *NO, *TAKEN_AND_LOST, *NOT_TAKEN_AND_LOST, *ON_ITS_WAY)


@dataclass(slots=True)
class Kept:
    """One order in a broker's own books."""

    order_id: str
    ticket: Ticket
    taken_at: datetime
    status: BrokerStatus = BrokerStatus.ACCEPTED
    executions: list[FillReport] = field(default_factory=list)

    @property
    def owner(self) -> str:
        return self.ticket.order.client_order_id

    @property
    def filled(self) -> Decimal:
        return sum((e.quantity for e in self.executions), ZERO)

    @property
    def is_live(self) -> bool:
        return self.status not in DONE

    @property
    def exposure(self) -> Decimal:
        """Shares that it has traded, or still may."""
        return self.ticket.order.quantity if self.is_live else self.filled


class BrokerLedger:
    """One broker: its orders, its positions, and what is on its way to it.

    Args:
        name: as in the settings.
        kind: a key of KINDS.
        clock: has `now()` (aware) and `advance(seconds)`.
    """

    def __init__(self, name: str, kind: str, clock: Any) -> None:
        self.name, self.capabilities, self.clock = name, KINDS[kind], clock
        self.orders: list[Kept] = []
        self.on_the_way: list[tuple[datetime, Ticket]] = []
        self.seats: list[Seat] = []
        self.is_up = True
        self.readings_fail = False
        #: What the next sends meet, first one first; "accept" when it is empty.
        self.answers: list[str] = []
        self.held: dict[str, Decimal] = {}
        self._ids = itertools.count(1)

    @property
    def anonymous(self) -> bool:
        return self.capabilities.client_order_id_length is None

    # -- ORDERS ---
    def take(self, ticket: Ticket) -> Kept:
        same = [k for k in self.orders if k.ticket.broker_client_order_id == ticket.broker_client_order_id]
        if same and self.capabilities.dedupes_client_order_id:
            return same[0]  # refused as a duplicate, and looked up by the adapter: it is the same order
        kept = Kept(f"{self.name}-{next(self._ids)}", ticket, self.clock.now())
        self.orders.append(kept)
        return kept

    def arrive(self) -> None:
        """Take what was on its way and is due."""
        due = [t for at, t in self.on_the_way if at <= self.clock.now()]
        self.on_the_way = [(at, t) for at, t in self.on_the_way if at > self.clock.now()]
        for ticket in due:
            self.say(self.take(ticket))

    def fill(self, kept: Kept, quantity: Decimal) -> None:
        """Fill some of an order, and tell everybody who is connected."""
        order = kept.ticket.order
        quantity = min(quantity, order.quantity - kept.filled)
        if not kept.is_live or not quantity:
            return
        number = len(kept.executions) + 1
        execution = FillReport(
            execution_id=f"{kept.order_id}/{number}", quantity=quantity, price=PRICE, filled_at=self.clock.now(),
            symbol=order.symbol, side=order.side, broker_order_id=kept.order_id,
            broker_client_order_id=None if self.anonymous else kept.ticket.broker_client_order_id,
            cumulative_quantity=kept.filled + quantity,
        )  # fmt: skip
        kept.executions.append(execution)
        self.held[order.symbol] = self.held.get(order.symbol, ZERO) + signed(order.side) * quantity
        whole = kept.filled >= order.quantity
        kept.status = BrokerStatus.FILLED if whole else BrokerStatus.PARTIALLY_FILLED
        self.push(execution)
        self.say(kept)

    def end(self, kept: Kept, status: BrokerStatus) -> None:
        """End an order, unless it has ended."""
        if kept.is_live:
            kept.status = status
            self.say(kept)

    # -- WHAT IT SAYS ---
    def report(self, kept: Kept) -> OrderReport:
        order = kept.ticket.order
        return OrderReport(
            broker_order_id=kept.order_id, status=kept.status, symbol=order.symbol, side=order.side,
            broker_client_order_id=None if self.anonymous else kept.ticket.broker_client_order_id,
            quantity=order.quantity, filled_quantity=kept.filled, avg_fill_price=PRICE if kept.filled else None,
            submitted_at=kept.taken_at, updated_at=self.clock.now(),
        )  # fmt: skip

    def say(self, kept: Kept) -> None:
        self.push(self.report(kept))

    def push(self, report: Report) -> None:
        for seat in self.seats:
            if seat.connected and seat.callback is not None:
                seat.callback(report)

    def find(self, ref: OrderRef) -> Sighting:
        if ref.broker_order_id is not None:
            found = [k for k in self.orders if k.order_id == ref.broker_order_id]
        elif not self.anonymous:
            found = [k for k in self.orders if k.ticket.broker_client_order_id == ref.broker_client_order_id][-1:]
        else:
            others = ref.baseline | ref.known
            found = [k for k in self.orders if k.order_id not in others and _terms(k.ticket.order) == _terms(ref.order)]
        if len(found) > 1:
            return Ambiguous(candidates=tuple(self.report(k) for k in found))
        return Found(report=self.report(found[0])) if found else Missing(evidence="every order it has")


def _terms(order: Any) -> tuple[Any, ...]:
    return order.symbol, order.side, order.quantity, order.order_type


class Seat(BrokerInterface):
    """One worker's connection to a ledger.

    Args:
        ledger: the broker.
        point: called where a fault may strike, with a name; it may raise.
        on_wire: called with the ticket when its first byte leaves.
    """

    def __init__(self, ledger: BrokerLedger, point: Callable[[str], None], on_wire: Callable[[Ticket], None]) -> None:
        super().__init__(ledger.name, BrokerSettings(adapter="model"))
        self.ledger, self.point, self.on_wire = ledger, point, on_wire
        self.capabilities = ledger.capabilities
        self.connected = False
        self.callback: Callable[[Report], None] | None = None
        ledger.seats.append(self)

    # -- CONNECTION ---
    def connect(self) -> None:
        self._reach()
        self.connected = True

    def disconnect(self) -> None:
        self.connected = False

    def is_connected(self) -> bool:
        return self.connected and self.ledger.is_up

    def updates(self, callback: Callable[[Report], None]) -> None:
        self.callback = callback

    def _reach(self) -> None:
        if not self.ledger.is_up:
            raise NotConnected(f"{self.name} is down", broker=self.name)

    def _read(self, name: str) -> None:
        self.point(name)
        self._reach()
        if self.ledger.readings_fail:
            raise ServerError("a reading failed half-way", broker=self.name)

    # -- ORDERS ---
    def place_order(self, ticket: Ticket) -> OrderReport:
        ledger, name = self.ledger, self.name
        self._reach()
        answer = ledger.answers.pop(0) if ledger.answers else "accept"
        if answer in UNSENT:
            raise UNSENT[answer](name)
        ticket.still_mine()
        self.on_wire(ticket)
        if answer in NO:
            raise NO[answer](name)
        if answer in ON_ITS_WAY:
            ledger.on_the_way.append((ledger.clock.later(ON_ITS_WAY[answer]), ticket))
            raise ConnectionLost("reset", broker=name)
        if answer in NOT_TAKEN_AND_LOST:
            ledger.clock.advance(ticket.deadline_s if answer.startswith("hang") else 0.0)
            raise NOT_TAKEN_AND_LOST[answer](name)
        kept = ledger.take(ticket)
        if answer in TAKEN_AND_LOST:
            ledger.clock.advance(ticket.deadline_s if answer.startswith("hang") else 0.0)
            raise TAKEN_AND_LOST[answer](name)
        said = ledger.report(kept)
        if answer in ("fill", "part"):
            ledger.fill(kept, kept.ticket.order.quantity if answer == "fill" else Decimal(1))
            said = ledger.report(kept)
        elif answer == "reject_later":
            ledger.end(kept, BrokerStatus.REJECTED)
        return said

    def cancel_order(self, ref: OrderRef) -> None:
        self.point("cancel")
        self._reach()
        seen = self.ledger.find(ref)
        kept = next((k for k in self.ledger.orders if isinstance(seen, Found)
                     and k.order_id == seen.report.broker_order_id), None)  # fmt: skip
        if kept is None or not kept.is_live:
            raise OrderRejected("too late to cancel, or not known", broker=self.name)
        self.ledger.end(kept, BrokerStatus.CANCELED)

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Change an order in place."""
        self.point("replace")
        self._reach()
        ticket.still_mine()
        answer = self.ledger.answers.pop(0) if self.ledger.answers else "accept"
        if no := (UNSENT | NO | NOT_TAKEN_AND_LOST).get(answer):
            raise no(self.name)
        (kept,) = [k for k in self.ledger.orders if k.order_id == ref.broker_order_id]
        kept.ticket = ticket
        if answer in TAKEN_AND_LOST:
            raise TAKEN_AND_LOST[answer](self.name)
        return self.ledger.report(kept)

    def find_order(self, ref: OrderRef) -> Sighting:
        return self.find_orders([ref])[0]

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        self._read("ask")
        found = [self.ledger.find(ref) for ref in refs]
        self.point("asked")
        return found

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        self._read("list")
        found = [self.ledger.report(k) for k in self.ledger.orders if k.is_live or not open_only]
        self.point("listed")
        return found

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        self._read("fills")
        return [e for k in self.ledger.orders for e in k.executions if e.filled_at >= since]

    # -- DATA ---
    def get_account_info(self) -> AccountReport:
        self._reach()
        return AccountReport(account_id="model")

    def get_positions(self) -> Sequence[PositionReport]:
        self._read("positions")
        return [PositionReport(symbol=symbol, quantity=held) for symbol, held in self.ledger.held.items()]

    def get_market_data(self, symbol: str) -> QuoteReport:
        raise NotImplementedError

    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        raise NotImplementedError
