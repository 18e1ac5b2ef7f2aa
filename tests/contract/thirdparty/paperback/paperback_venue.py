"""A broker in memory: orders, prices and one account. It can be told to misbehave."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from models.messages import OrderRequest
from models.vocabulary import Side, TimeInForce

PRICES = {"AAPL": 230, "MSFT": 430, "KO": 68, "TSLA": 260, "SPY": 575, "F": 11}


class VenueRefusal(Exception):
    """The venue's own refusal: a code and words."""


@dataclass
class PaperOrder:
    """One order at the venue."""

    number: int
    name: str
    order: OrderRequest
    quantity: Decimal
    limit: Decimal | None
    at: datetime
    state: str = "live"
    fills: list[tuple[str, Decimal, Decimal, datetime]] = field(default_factory=list)
    #: How much may be filled for now.
    cap: Decimal | None = None
    reason: str | None = None

    @property
    def filled(self) -> Decimal:
        return sum((fill[1] for fill in self.fills), Decimal(0))


class Venue:
    """Orders, prices and one account; every adapter that names it trades here."""

    known: ClassVar[dict[str, Venue]] = {}

    def __init__(self) -> None:
        self.papers: list[PaperOrder] = []
        self.prices = {symbol: Decimal(price) for symbol, price in PRICES.items()}
        self.positions: dict[str, Decimal] = {}
        self.faults: list[dict[str, Any]] = []
        self.arrived = 0
        self.is_up = True
        self.listeners: list[Callable[[PaperOrder, bool], None]] = []
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    @classmethod
    def at(cls, name: str) -> Venue | None:
        """Return the venue of that name; the one called `demo` is always there."""
        if name == "demo":
            cls.known.setdefault(name, cls())
        return cls.known.get(name)

    def take(self, kind: str, operation: str) -> dict[str, Any] | None:
        """Use up one count of a fault; without an operation of its own it strikes at orders."""
        with self._lock:
            for fault in self.faults:
                if fault["kind"] == kind and fault.get("operation", "place") == operation:
                    if fault["count"] is not None:
                        fault["count"] -= 1
                        if not fault["count"]:
                            self.faults.remove(fault)
                    return fault
        return None

    def cut(self) -> None:
        """Forget every listener: whoever was connected is so no more."""
        self.listeners = []

    def call(self, operation: str, timeout: float, work: Callable[[], Any]) -> Any:
        """Do one request over the wire that is no wire, with what can go wrong on one."""
        if not self.is_up:
            raise ConnectionRefusedError("nobody listens")
        if self.take("hang", operation):
            self.arrived += operation == "place"
            time.sleep(timeout)
            raise TimeoutError
        self.arrived += operation == "place" and not self.limited()
        refuse = self.take("refuse", operation)
        if refuse:
            raise VenueRefusal("P1", refuse.get("text", "no"))
        answer = work()
        if self.take("accept_drop", operation):
            self.cut()
            raise ConnectionResetError("cut")
        slow = self.take("slow", operation)
        wait = timeout if self.take("accept_hang", operation) else slow["seconds"] if slow else 0
        time.sleep(min(wait, timeout))
        if wait >= timeout:
            raise TimeoutError
        return answer

    def limited(self) -> bool:
        return any(fault["kind"] == "rate_limit" for fault in self.faults)

    def place(self, name: str, order: OrderRequest) -> PaperOrder:
        """Take an order, and fill it if the market is there."""
        if self.limited():
            raise VenueRefusal("P9", "too many orders")
        if order.symbol not in self.prices:
            raise VenueRefusal("P2", f"{order.symbol} is not traded here")
        if order.quantity * self.prices[order.symbol] > 4_000_000:
            raise VenueRefusal("P3", "not enough money")
        with self._lock:
            paper = PaperOrder(next(self._numbers), name, order, order.quantity, order.limit_price, datetime.now(UTC))
            self.papers.append(paper)
        if self.take("no_fill", "place"):
            paper.cap = Decimal(0)
        elif self.take("partial", "place"):
            paper.cap = order.quantity // 2
        rejected = self.take("reject_after_accept", "place")
        if rejected:
            paper.state, paper.reason = "rejected", rejected.get("text", "no")
        self.tell(paper, False)
        self.look(paper)
        if paper.state == "live" and order.time_in_force is TimeInForce.IOC:
            self.end(paper, "canceled")
        return paper

    def look(self, paper: PaperOrder) -> None:
        """Fill what can be filled."""
        with self._lock:
            price, buys = self.prices[paper.order.symbol], is_buy(paper.order)
            reached = paper.limit is None or (price <= paper.limit if buys else price >= paper.limit)
            size = (paper.quantity if paper.cap is None else min(paper.cap, paper.quantity)) - paper.filled
            if paper.state != "live" or not reached or size <= 0:
                return
            name = f"{paper.number}-{len(paper.fills) + 1}"
            paper.fills.append((name, size, price, datetime.now(UTC)))
            held = self.positions.get(paper.order.symbol, Decimal(0)) + (size if buys else -size)
            self.positions[paper.order.symbol] = held
            if paper.filled == paper.quantity:
                paper.state = "filled"
        self.tell(paper, True)

    def end(self, paper: PaperOrder, state: str) -> None:
        """Close a live order."""
        with self._lock:
            if paper.state != "live":
                raise VenueRefusal("P4", f"it is {paper.state}")
            paper.state = state
        self.tell(paper, False)

    def change(self, paper: PaperOrder, quantity: Decimal, limit: Decimal | None) -> None:
        """Change a live order in its place."""
        with self._lock:
            if paper.state != "live" or quantity <= paper.filled:
                raise VenueRefusal("P4", f"it is {paper.state}")
            paper.quantity, paper.limit = quantity, limit
            held = self.take("no_fill", "place")
            paper.cap = paper.filled if held else paper.cap
        self.tell(paper, False)
        self.look(paper)

    def named(self, name: str) -> PaperOrder | None:
        return next((paper for paper in self.papers if paper.name == name), None)

    def tell(self, paper: PaperOrder, filled: bool) -> None:
        twice = self.take("echo", "place") is not None
        for listener in list(self.listeners) * (2 if twice else 1):
            listener(paper, filled)


def is_buy(order: OrderRequest) -> bool:
    return order.side in (Side.BUY, Side.BUY_TO_COVER)
