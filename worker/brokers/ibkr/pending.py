"""One request of ours between its first byte and IB's answer: an order, the change of one, or its cancel.

All three live alike: begun just before the bytes, fed with raw messages by the book (`evidence`), judged by the table
of their kind (`verdicts`), forgotten with the answer. The kinds differ in the messages that count.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import inf

from models.errors import (
    BrokerError,
    ConnectionLost,
    OrderRejected,
    Refused,
    SubmitTimeout,
    Unmapped,
    UnreadableReply,
)
from models.messages import OrderRequest
from worker.brokers.ibkr import reports
from worker.brokers.ibkr.codes import CANCELED, NOT_CHANGED, Proof, change_error, order_error
from worker.brokers.ibkr.reports import OrderLine
from worker.brokers.ibkr.verdicts import (
    Evidence,
    HeardCode,
    Ruling,
    WireVerdict,
    decide_cancel,
    decide_change,
    decide_order,
)

#: Codes that say nothing of a new order, nor of new terms.
_OF_OTHER_THINGS = frozenset({Proof.LIVES, Proof.CANCEL_FAILED, Proof.DATA})
_OVER = reports.ENDED | {"Filled"}


@dataclass(slots=True)
class Pending(ABC):
    """A request that has not been answered, shared between its caller's thread, which may give up, and the loop.

    Args:
        ref: the orderRef of the order.
        broker: name from the settings.
        until: loop time at which an answer must have come.
        order_id, perm_id: of the order; 0 while they are not known.
    """

    ref: str
    broker: str
    until: float = inf
    order_id: int = 0
    perm_id: int = 0
    told: Evidence = field(default_factory=Evidence)
    #: Set by everything that is told.
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    #: Its caller was answered "unknown": a refusal that still comes is reported as an update.
    lingers: bool = False
    _begun: bool = False
    _given_up: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # -- SENDING ---
    def begin(self) -> bool:
        """Mark the send as begun; False when the caller has given up."""
        with self._lock:
            self._begun = not self._given_up
            return self._begun

    def take_back(self) -> None:
        """Take the mark back: provably no byte left."""
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether bytes may have left."""
        return self._begun

    def give_up(self) -> bool:
        """Forbid a send that has not begun; return whether it has."""
        with self._lock:
            self._given_up = True
            return self._begun

    # -- EVIDENCE ---
    def lose(self, why: str) -> None:
        """Take in that the way to IB broke while this was pending."""
        self.told.lost = why
        self.changed.set()

    def see_order(self, line: OrderLine, why_held: str, now: float) -> None:
        """Take in an openOrder under this order id."""
        return

    @abstractmethod
    def see_status(self, status: str, why_held: str, perm_id: int, ref: str | None, now: float) -> None:
        """Take in an orderStatus under this order id; `ref` is None while its order was never shown."""

    def see_execution(self, ref: str | None, perm_id: int, now: float) -> None:
        """Take in an execDetails under this order id."""
        return

    def hear(self, number: int, text: str, now: float) -> None:
        """Take in a code under this order id; one that decides is not replaced by another."""
        code = HeardCode(number, text, now)
        if not self._concerns(code):
            return
        if self.told.code is None or not self._decides(self.told.code):
            self.told.code = code
        self.changed.set()

    @abstractmethod
    def _concerns(self, code: HeardCode) -> bool:
        """Tell whether a code says anything about this request."""

    @abstractmethod
    def _decides(self, code: HeardCode) -> bool:
        """Tell whether a code that concerns this request decides about it."""

    # -- VERDICT ---
    @property
    @abstractmethod
    def ruling(self) -> Ruling:
        """The verdict that the evidence allows, and from when on."""

    def verdict(self, now: float) -> WireVerdict:
        """Return the verdict at a loop time."""
        verdict, since = self.ruling
        return verdict if now >= since else WireVerdict.WAIT

    @property
    def is_undecided(self) -> bool:
        """Whether a code was heard that decides nothing: a look at the open orders may."""
        return self.told.code is not None and not self._decides(self.told.code)

    @abstractmethod
    def error(self, verdict: WireVerdict, waited_s: float) -> BrokerError:
        """Return the error of a verdict; WAIT means that the deadline passed."""

    # -- INSIDE ---
    def _end(self, status: str, now: float) -> None:
        if self.told.ended_at is None:
            self.told.ended_at, self.told.ended_as = now, status


@dataclass(slots=True)
class PendingOrder(Pending):
    """A new order."""

    #: It is one of a group: until that is answered, its end is told by the answer alone.
    linked: bool = False

    @property
    def ruling(self) -> Ruling:
        """See `decide_order`."""
        return decide_order(self.told)

    def see_order(self, line: OrderLine, why_held: str, now: float) -> None:
        """Take in an openOrder with our reference."""
        if line.ref == self.ref:
            self.see(line.status, why_held, line.perm_id, now)

    def see_status(self, status: str, why_held: str, perm_id: int, ref: str | None, now: float) -> None:
        """Take in an orderStatus of an order that was shown with our reference.

        Order ids are reissued, so that of an order that was never shown may be another's: it ends nothing and confirms
        nothing, but unless it is an end it keeps a refusing code from deciding.
        """
        if ref == self.ref:
            self.see(status, why_held, perm_id, now)
        elif ref is None and status not in reports.ENDED and (status != reports.INACTIVE or why_held):
            self.told.status, self.told.shown = "held" if status == reports.INACTIVE else status, True

    def see_execution(self, ref: str | None, perm_id: int, now: float) -> None:
        """Take in an execution with our reference."""
        if ref == self.ref:
            self.see("Filled", "", perm_id, now)

    def see(self, status: str, why_held: str, perm_id: int, now: float) -> None:
        """Take in a wire status of this very order."""
        if self.perm_id and perm_id and perm_id != self.perm_id:
            return  # another order under a reissued order id (docs/facts/ibkr.md#2.3)
        self.perm_id = perm_id or self.perm_id
        self.told.status, self.told.why_held, self.told.shown = status, why_held, True
        if self.perm_id and reports.is_alive(status, why_held):
            self.told.done = True
        if status in reports.ENDED:
            self._end(status, now)
        self.changed.set()

    def _concerns(self, code: HeardCode) -> bool:
        return code.proof not in _OF_OTHER_THINGS

    def _decides(self, code: HeardCode) -> bool:
        return code.proof is Proof.REFUSED

    def error(self, verdict: WireVerdict, waited_s: float) -> BrokerError:
        """Return the error of a verdict."""
        where, code = f"{self.broker}: order {self.order_id}", self.told.code
        if self.told.lost:
            return ConnectionLost(f"{where} had left when {self.told.lost}", broker=self.broker)
        if code is None or verdict is WireVerdict.WAIT:
            seen = f"{self.told.status or 'no status'}{f', {code}' if code else ''}"
            message = f"{where} was not answered within {waited_s:.1f} s (seen: {seen})"
            return SubmitTimeout(message, broker=self.broker, code=str(code.number) if code else None)
        if verdict is WireVerdict.UNKNOWN and code.proof is Proof.REFUSED:
            message = f"{where}: {code}, but IB shows it as {self.told.status}"
            return UnreadableReply(message, broker=self.broker, code=str(code.number))
        return order_error(code.number, code.text, self.broker)


@dataclass(slots=True)
class PendingChange(Pending):
    """New terms of a live order, whose permId `perm_id` is.

    IB changes an order in place: placeOrder with the order id it has, from the client id that placed it
    (docs/facts/ibkr.md#2.7). corro changes quantity, prices and time in force only, though IB takes another order type
    too (docs/facts/ibkr.md#2.8). `totalQuantity` is the new total, the filled part included.
    """

    #: The whole order with its new terms.
    wanted: OrderRequest | None = None

    @property
    def ruling(self) -> Ruling:
        """See `decide_change`."""
        return decide_change(self.told)

    def see_order(self, line: OrderLine, why_held: str, now: float) -> None:
        """Take in an openOrder with our reference: the only message that shows terms."""
        if line.ref != self.ref or self.wanted is None:
            return
        if line.perm_id and line.perm_id != self.perm_id:
            self.told.second = line.perm_id
        elif reports.has_terms(line, self.wanted):
            self.told.done = True
        else:
            self.told.unchanged_at = now
            if line.status in _OVER:
                self._end(line.status, now)
                self.told.ended_unchanged = True
        self.changed.set()

    def see_status(self, status: str, why_held: str, perm_id: int, ref: str | None, now: float) -> None:
        """Take in an orderStatus; it shows no terms, so it can only tell that the order is over."""
        if perm_id != self.perm_id:
            return
        if status in _OVER:
            self._end(status, now)
        self.told.ended_unchanged |= status in reports.ENDED  # whatever its terms were, it is gone
        self.changed.set()

    def _concerns(self, code: HeardCode) -> bool:
        return self._decides(code) or code.proof not in _OF_OTHER_THINGS

    def _decides(self, code: HeardCode) -> bool:
        return code.number in NOT_CHANGED

    def error(self, verdict: WireVerdict, waited_s: float) -> BrokerError:
        """Return the error of a verdict."""
        where, code, ended = f"{self.broker}: the change of order {self.order_id}", self.told.code, self.told.ended_as
        if self.told.second:
            both = f"it stands as {self.perm_id} and as {self.told.second}"
            return Unmapped(f"{where} has left two orders, {both}: look at both", broker=self.broker)
        if verdict is WireVerdict.REFUSED and code:
            return change_error(code.number, code.text, self.broker)
        if verdict is WireVerdict.REFUSED and ended:
            return OrderRejected(f"{where} came too late, it was {ended}; read it again", broker=self.broker)
        if self.told.lost:
            return ConnectionLost(f"{where} had left when {self.told.lost}", broker=self.broker)
        number = str(code.number) if code else None
        if verdict is WireVerdict.UNKNOWN:
            words = str(code) if code else f"the order is {ended or 'gone'}"
            return Unmapped(f"{where}: {words}; either terms may stand", broker=self.broker, code=number)
        words = f"{where} was not shown within {waited_s:.1f} s {code or ''}".rstrip()
        return SubmitTimeout(words, broker=self.broker, code=number)


@dataclass(slots=True)
class PendingCancel(Pending):
    """The cancel of an order."""

    @property
    def ruling(self) -> Ruling:
        """See `decide_cancel`."""
        return decide_cancel(self.told)

    def see_status(self, status: str, why_held: str, perm_id: int, ref: str | None, now: float) -> None:
        """Take in an orderStatus: any to which a cancel leads, or which overtakes it, will do."""
        if status in _OVER | {"PendingCancel"}:
            self.told.done = True
            self.changed.set()

    def _concerns(self, code: HeardCode) -> bool:
        return code.proof is not Proof.LIVES

    def _decides(self, code: HeardCode) -> bool:
        return code.number == CANCELED

    def error(self, verdict: WireVerdict, waited_s: float) -> BrokerError:
        """Return the error of a verdict; WAIT has none, because silence means that the cancel is requested."""
        code = self.told.code
        if code is None:
            words = f"{self.told.lost or 'the connection was lost'} after the cancel had left"
            return ConnectionLost(f"{self.broker}: {words}", broker=self.broker)
        kind = Refused if verdict is WireVerdict.REFUSED else Unmapped
        return kind(f"{self.broker}: {code}; read the order again", broker=self.broker, code=str(code.number))
