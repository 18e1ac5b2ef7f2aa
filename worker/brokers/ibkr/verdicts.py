"""Which verdict the evidence about one request of ours allows: pure, one table for each kind of request.

Evidence is raw messages only; the SDK's own word is none (docs/facts/ibkr.md#4.1). A verdict counts from a time on,
because evidence to the contrary may still be on its way until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import NamedTuple

from worker.brokers.ibkr import reports
from worker.brokers.ibkr.codes import CANCELED, NOT_CHANGED, Proof, code_of

#: A refusing code waits this long for wire evidence to the contrary, less once the wire itself shows the order dead.
SETTLE_S = 0.5
CONFIRMED_SETTLE_S = 0.05
#: A code that decides nothing waits this long for the wire to decide before the outcome is called unknown.
UNDECIDED_SETTLE_S = 2.0

_DEAD = reports.ENDED | {reports.INACTIVE}


class WireVerdict(StrEnum):
    """What the evidence about a request amounts to."""

    #: Nothing is decided yet.
    WAIT = "wait"
    #: IB has done it: it has, or had, the order; the order has its new terms; the cancel is under way.
    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Ruling(NamedTuple):
    """A verdict, and the loop time from which it counts."""

    verdict: WireVerdict
    since: float = -inf


WAITING = Ruling(WireVerdict.WAIT, inf)


@dataclass(frozen=True, slots=True)
class HeardCode:
    """A code that came under the order's id."""

    number: int
    text: str
    at: float

    @property
    def proof(self) -> Proof:
        """What the code proves about a new order."""
        return code_of(self.number).proof

    def __str__(self) -> str:
        return f"{self.number} {self.text}"


@dataclass(slots=True)
class Evidence:
    """What was told about one request; times are of the loop's clock.

    Args:
        done: the wire showed what was asked for; this never goes back.
        lost: how the way to IB broke meanwhile.
        code: the code that decides, or else the last one that does not.
        status, why_held: of the order, as the wire last showed it.
        shown: the wire showed the order at all.
        ended_at: when the wire first showed that the order is over.
        ended_as: with which status.
        ended_unchanged: it was over with its old terms; a status alone may belong to the new ones.
        unchanged_at: when the wire last showed the order with its old terms.
        second: permId of another order under this order id and reference (docs/facts/ibkr.md#2.4).
    """

    done: bool = False
    lost: str | None = None
    code: HeardCode | None = None
    status: str = ""
    why_held: str = ""
    shown: bool = False
    ended_at: float | None = None
    ended_as: str = ""
    ended_unchanged: bool = False
    unchanged_at: float = -inf
    second: int = 0


def decide_order(told: Evidence) -> Ruling:
    """Decide about a new order.

    | the wire shows the order            | a code          | verdict | counts                     |
    |-------------------------------------|-----------------|---------|----------------------------|
    | alive, held or filled               | any, or none    | DONE    | at once                    |
    | otherwise, and the way to IB is lost | any, or none   | UNKNOWN | at once                    |
    | dead: ended, or Inactive            | refuses         | REFUSED | CONFIRMED_SETTLE_S after it |
    | in any other state                  | refuses         | UNKNOWN | UNDECIDED_SETTLE_S after it |
    | never                               | refuses         | REFUSED | SETTLE_S after the code    |
    | ended                               | decides nothing | DONE    | SETTLE_S after the code    |
    | not ended, or never                 | decides nothing | UNKNOWN | UNDECIDED_SETTLE_S after it |
    | ended                               | none            | DONE    | SETTLE_S after its end     |
    | not ended, or never                 | none            | WAIT    |                            |

    What IB has given a permId and then refused is settled by the wire's own Inactive or Cancelled alone
    (docs/facts/ibkr.md#4.3).
    """
    if told.done:
        return Ruling(WireVerdict.DONE)
    if told.lost:
        return Ruling(WireVerdict.UNKNOWN)
    ended, code = told.ended_at is not None, told.code
    if code is None:
        return WAITING if told.ended_at is None else Ruling(WireVerdict.DONE, told.ended_at + SETTLE_S)
    if code.proof is not Proof.REFUSED:
        done, unknown = code.at + SETTLE_S, code.at + UNDECIDED_SETTLE_S
        return Ruling(WireVerdict.DONE, done) if ended else Ruling(WireVerdict.UNKNOWN, unknown)
    if told.status in _DEAD:
        return Ruling(WireVerdict.REFUSED, code.at + CONFIRMED_SETTLE_S)
    if told.shown:
        return Ruling(WireVerdict.UNKNOWN, code.at + UNDECIDED_SETTLE_S)
    return Ruling(WireVerdict.REFUSED, code.at + SETTLE_S)


def decide_change(told: Evidence) -> Ruling:
    """Decide about new terms of a live order.

    | the wire shows                          | a code          | verdict | counts                           |
    |-----------------------------------------|-----------------|---------|----------------------------------|
    | a second order under the reference      | any, or none    | UNKNOWN | at once: both may be live        |
    | the new terms                           | any, or none    | DONE    | at once                          |
    | anything else, and the way to IB is lost | any, or none   | UNKNOWN | at once                          |
    | anything else                           | `NOT_CHANGED`   | REFUSED | SETTLE_S after the code          |
    | the end of the order with its old terms | no deciding one | REFUSED | SETTLE_S after its end           |
    | the end of the order, and no terms      | no deciding one | UNKNOWN | UNDECIDED_SETTLE_S after its end |
    | the old terms after the code            | decides nothing | REFUSED | SETTLE_S after the code          |
    | nothing after the code                  | decides nothing | UNKNOWN | UNDECIDED_SETTLE_S after it      |
    | nothing new                             | none            | WAIT    |                                  |
    """
    if told.second or (told.lost and not told.done):
        return Ruling(WireVerdict.UNKNOWN)
    if told.done:
        return Ruling(WireVerdict.DONE)
    code = told.code
    if code is not None and code.number in NOT_CHANGED:
        return Ruling(WireVerdict.REFUSED, code.at + SETTLE_S)
    if told.ended_at is not None:
        refused, unknown = told.ended_at + SETTLE_S, told.ended_at + UNDECIDED_SETTLE_S
        return Ruling(WireVerdict.REFUSED, refused) if told.ended_unchanged else Ruling(WireVerdict.UNKNOWN, unknown)
    if code is None:
        return WAITING
    if told.unchanged_at > code.at:
        return Ruling(WireVerdict.REFUSED, code.at + SETTLE_S)
    return Ruling(WireVerdict.UNKNOWN, code.at + UNDECIDED_SETTLE_S)


def decide_cancel(told: Evidence) -> Ruling:
    """Decide about the cancel of an order; each verdict counts at once.

    | the wire shows                              | a code                                    | verdict |
    |---------------------------------------------|-------------------------------------------|---------|
    | PendingCancel, an end or a fill             | any, or none                              | DONE    |
    | nothing of these                            | 202: canceled                             | DONE    |
    | nothing of these, and the way to IB is lost | any other, or none                        | UNKNOWN |
    | nothing of these                            | refuses, or says that a cancel has failed | REFUSED |
    | nothing of these                            | any other                                 | UNKNOWN |
    | nothing of these                            | none                                      | WAIT    |

    Silence until the deadline means that the cancel is requested: the order's status will tell.
    """
    code = told.code
    if told.done or (code is not None and code.number == CANCELED):
        return Ruling(WireVerdict.DONE)
    if told.lost:
        return Ruling(WireVerdict.UNKNOWN)
    if code is None:
        return WAITING
    says_no = code.proof in (Proof.CANCEL_FAILED, Proof.REFUSED)
    return Ruling(WireVerdict.REFUSED if says_no else WireVerdict.UNKNOWN)
