"""One order of ours on its way: the evidence between its first byte and IB's answer, and the verdict on it.

Fed by raw messages only, like the book in `ibkr_evidence`; the SDK's word is no evidence (docs/facts/ibkr.md#4.1).
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from enum import StrEnum

from models.errors import BrokerError, ConnectionLost, SubmitTimeout, UnreadableReply
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.codes import Proof, code_of, order_error

#: A refusing code waits this long for wire evidence to the contrary, less once the wire itself shows the order dead.
SETTLE_S = 0.5
CONFIRMED_SETTLE_S = 0.05
#: A code that decides nothing waits this long for the wire to decide before the outcome is called unknown.
UNDECIDED_SETTLE_S = 2.0


class Verdict(StrEnum):
    """What a flight's evidence amounts to."""

    WAIT = "wait"
    #: IB has, or had, the order.
    SEEN = "seen"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Departure:
    """What is common to an order and to the change of one, between its first byte and IB's answer.

    Shared between the caller's thread, which may give up, and the loop, which sends.
    """

    ref: str
    broker: str
    order_id: int = 0
    perm_id: int = 0
    lost: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _sent: bool = False
    _given_up: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take_off(self) -> bool:
        """Mark the send as begun; False when the caller has given up on it."""
        with self._lock:
            self._sent = not self._given_up
            return self._sent

    def stay(self) -> None:
        """Take the mark back: provably no byte left."""
        self._sent = False

    @property
    def sent(self) -> bool:
        """Whether bytes may have left."""
        return self._sent

    def give_up(self) -> bool:
        """Forbid a send that has not begun; return whether it has."""
        with self._lock:
            self._given_up = True
            return self._sent

    def lose(self, why: str) -> None:
        """Take in that the way to IB broke while this was on its way."""
        self.lost = why
        self.changed.set()


@dataclass(slots=True)
class Flight(Departure):
    """One order of ours between its first byte and IB's answer."""

    #: Last wire status, and why the order is held, if it is.
    status: str = ""
    why_held: str = ""
    #: The wire showed it alive, held or filled; this never goes back.
    alive: bool = False
    #: Any openOrder or orderStatus was seen.
    shown: bool = False
    #: The code that decides, or the last one that does not: number, text, time of arrival.
    code: tuple[int, str, float] | None = None
    ended_at: float | None = None
    #: place_order has answered "unknown"; a refusal that still comes is reported as an update.
    lingers: bool = False

    def see(self, status: str, why_held: str, perm_id: int, now: float) -> None:
        """Take in a wire status of this order."""
        if self.perm_id and perm_id and perm_id != self.perm_id:
            return  # another order under a reissued order id (docs/facts/ibkr.md#2.3)
        self.perm_id = perm_id or self.perm_id
        self.status, self.why_held, self.shown = status, why_held, True
        if self.perm_id and terms.is_alive(status, why_held):
            self.alive = True
        if status in terms.ENDED:
            self.ended_at = now if self.ended_at is None else self.ended_at
        self.changed.set()

    def suspect(self, status: str, why_held: str) -> None:
        """Take in a status under this order id of an order that was not shown: ids are reissued, it may be another's.

        It ends nothing and confirms nothing; unless it is an end, it keeps a refusing code from deciding.
        """
        if status not in terms.ENDED and (status != terms.INACTIVE or why_held):
            self.status, self.shown = "held" if status == terms.INACTIVE else status, True

    def hear(self, number: int, text: str, now: float) -> None:
        """Take in an error code under this order's id; a deciding code is not replaced by an undecided one."""
        proof = code_of(number).proof
        if proof in (Proof.LIVES, Proof.CANCEL_FAILED, Proof.DATA):
            return
        if self.code is None or code_of(self.code[0]).proof is not Proof.REFUSED:
            self.code = (number, text, now)
        self.changed.set()

    def judge(self, now: float) -> tuple[Verdict, float | None]:
        """Return the verdict, and for WAIT the time at which it may change by itself."""
        if self.alive:
            return Verdict.SEEN, None
        if self.lost:
            return Verdict.UNKNOWN, None
        if self.code is not None:
            return self._judge_code(self.code[0], self.code[2], now)
        if self.ended_at is not None:
            return when(now, self.ended_at + SETTLE_S, Verdict.SEEN)
        return Verdict.WAIT, None

    def _judge_code(self, number: int, heard_at: float, now: float) -> tuple[Verdict, float | None]:
        confirmed = self.status in terms.ENDED | {terms.INACTIVE}
        if code_of(number).proof is not Proof.REFUSED:
            verdict = Verdict.SEEN if self.ended_at is not None else Verdict.UNKNOWN
            return when(now, heard_at + (SETTLE_S if self.ended_at is not None else UNDECIDED_SETTLE_S), verdict)
        if self.shown and not confirmed:
            # IB has given it a permId and then said no: only the wire's own Inactive or Cancelled settles that (4.3).
            return when(now, heard_at + UNDECIDED_SETTLE_S, Verdict.UNKNOWN)
        return when(now, heard_at + (CONFIRMED_SETTLE_S if confirmed else SETTLE_S), Verdict.REFUSED)

    def error(self, verdict: Verdict, waited_s: float) -> BrokerError:
        """Return the error of a verdict; WAIT means that the deadline passed."""
        where = f"{self.broker}: order {self.order_id}"
        if self.lost:
            return ConnectionLost(f"{where} had left when {self.lost}", broker=self.broker)
        if self.code is None or verdict is Verdict.WAIT:
            status = self.status or "no status"
            code = f", {self.code[0]} {self.code[1]}" if self.code else ""
            message = f"{where} was not answered within {waited_s:.1f} s (seen: {status}{code})"
            return SubmitTimeout(message, broker=self.broker, code=str(self.code[0]) if self.code else None)
        number, text, _ = self.code
        if verdict is Verdict.UNKNOWN and code_of(number).proof is Proof.REFUSED:
            message = f"{where}: {number} {text}, but IB shows it as {self.status}"
            return UnreadableReply(message, broker=self.broker, code=str(number))
        return order_error(number, text, self.broker)


def when(now: float, at: float, verdict: Verdict) -> tuple[Verdict, float | None]:
    """Return the verdict once its time has come, and until then WAIT and that time."""
    return (verdict, None) if now >= at else (Verdict.WAIT, at)


@dataclass(slots=True)
class CancelWatch:
    """One cancel request between its bytes and the first word about it."""

    code: tuple[int, str] | None = None
    seen: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, number: int, text: str) -> None:
        """Take in a code under the order's id: 202 says that it is canceled."""
        if number == 202:
            self.seen = True
        elif code_of(number).proof is not Proof.LIVES:
            self.code = (number, text)
        self.changed.set()

    def see(self, status: str) -> None:
        """Take in a wire status; any that a cancel leads to, or overtakes it, will do."""
        if status in terms.ENDED | {"PendingCancel", "Filled"}:
            self.seen = True
            self.changed.set()
