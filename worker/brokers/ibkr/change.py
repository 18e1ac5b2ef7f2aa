"""One change of a live order on its way to IB: its evidence, and the verdict on it.

IB changes an order in place: placeOrder with the order id it has, from the client id that placed it
(docs/facts/ibkr.md#2.7). corro changes quantity, prices and time in force only, though IB takes another order type too
(docs/facts/ibkr.md#2.8). `totalQuantity` is the new total, what is filled included. Evidence of success is an openOrder
on the wire with the new terms; codes that say no leave the original order as it was, and what the SDK makes of them
locally (Cancelled) is no evidence at all (docs/facts/ibkr.md#4.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from models.errors import BrokerError, ConnectionLost, OrderRejected, SubmitTimeout, Unmapped
from models.messages import OrderRequest
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.codes import NOT_CHANGED, Proof, change_error, code_of
from worker.brokers.ibkr.flight import SETTLE_S, UNDECIDED_SETTLE_S, Departure, Verdict, when
from worker.brokers.ibkr.terms import OrderLine

_OVER = terms.ENDED | {"Filled"}


@dataclass(slots=True)
class Change(Departure):
    """One change of ours between its first byte and IB's answer; `perm_id` is that of the order to be changed."""

    wanted: OrderRequest | None = None
    #: The wire showed the order with its new terms; this never goes back.
    done: bool = False
    #: Another order turned up under this order id and reference (docs/facts/ibkr.md#2.4): both may be live.
    second: int = 0
    code: tuple[int, str, float] | None = field(default=None)
    #: The order's end as the wire showed it, and when.
    ended: tuple[str, float] | None = field(default=None)
    #: It was shown with its old terms then; a status alone may belong to the new ones.
    ended_unchanged: bool = False
    _unchanged_at: float = 0.0

    def see_order(self, line: OrderLine, now: float) -> None:
        """Take in an openOrder under this order id."""
        if line.ref != self.ref or self.wanted is None:
            return
        if line.perm_id and line.perm_id != self.perm_id:
            self.second = line.perm_id
        elif terms.has_terms(line, self.wanted):
            self.done = True
        else:
            self._unchanged_at = now
            self._end(line.status, now)
            self.ended_unchanged |= line.status in _OVER
        self.changed.set()

    def see_status(self, status: str, perm_id: int, now: float) -> None:
        """Take in an orderStatus; it carries no terms, so it can only tell that the order is over."""
        if perm_id == self.perm_id:
            self._end(status, now)
            self.ended_unchanged |= status in terms.ENDED  # whatever its terms were, it is gone
            self.changed.set()

    def hear(self, number: int, text: str, now: float) -> None:
        """Take in an error code under this order id; one that decides is not replaced by one that does not."""
        if code_of(number).proof in (Proof.LIVES, Proof.CANCEL_FAILED, Proof.DATA) and number not in NOT_CHANGED:
            return
        if self.code is None or self.code[0] not in NOT_CHANGED:
            self.code = (number, text, now)
        self.changed.set()

    @property
    def undecided(self) -> bool:
        """Whether a code was heard that does not tell: a look at the open orders will."""
        return self.code is not None and self.code[0] not in NOT_CHANGED

    def judge(self, now: float) -> tuple[Verdict, float | None]:
        """Return the verdict, and for WAIT the time at which it may change by itself."""
        if self.second or (self.lost and not self.done):
            return Verdict.UNKNOWN, None
        if self.done:
            return Verdict.SEEN, None
        if self.code is not None and not self.undecided:
            return when(now, self.code[2] + SETTLE_S, Verdict.REFUSED)
        if self.ended is not None and self.ended_unchanged:
            return when(now, self.ended[1] + SETTLE_S, Verdict.REFUSED)
        if self.ended is not None:
            return when(now, self.ended[1] + UNDECIDED_SETTLE_S, Verdict.UNKNOWN)
        if self.code is None:
            return Verdict.WAIT, None
        # IB complained, and has shown the order as it was after that: it was not changed.
        verdict = Verdict.REFUSED if self._unchanged_at > self.code[2] else Verdict.UNKNOWN
        return when(now, self.code[2] + (SETTLE_S if verdict is Verdict.REFUSED else UNDECIDED_SETTLE_S), verdict)

    def error(self, verdict: Verdict, waited_s: float) -> BrokerError:
        """Return the error of a verdict; WAIT means that the deadline passed."""
        where, broker = f"{self.broker}: the change of order {self.order_id}", self.broker
        code = str(self.code[0]) if self.code else None
        words = f"{self.code[0]} {self.code[1]}" if self.code else ""
        if self.second:
            both = f"it stands as {self.perm_id} and as {self.second}"
            return Unmapped(f"{where} has left two orders, {both}: look at both", broker=broker)
        if verdict is Verdict.REFUSED and self.code:
            return change_error(self.code[0], self.code[1], broker)
        if verdict is Verdict.REFUSED and self.ended:
            return OrderRejected(f"{where} came too late, it was {self.ended[0]}; read it again", broker=broker)
        if self.lost:
            return ConnectionLost(f"{where} had left when {self.lost}", broker=broker)
        if verdict is Verdict.UNKNOWN:
            words = words or f"the order is {self.ended[0] if self.ended else 'gone'}"
            return Unmapped(f"{where}: {words}; either terms may stand", broker=broker, code=code)
        return SubmitTimeout(
            f"{where} was not shown within {waited_s:.1f} s {words}".rstrip(), broker=broker, code=code
        )

    def _end(self, status: str, now: float) -> None:
        if status in _OVER and self.ended is None:
            self.ended = (status, now)
