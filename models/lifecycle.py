"""The life of an order: one transition table and one pure function.

    held -> queued -> submitted -> accepted -> partially_filled -> filled
       ^          |            |               |
       +--requeue-+------------+         pending_cancel -> canceled
                  +--> rejected, denied, expired

Facts arrive doubled, late and out of order, so `apply` is built to converge: fills add up whatever the status, a fact
that the table does not know from here changes nothing, and what an earlier attempt says cannot move a later one, except
that its fills count. Filled beats every other end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from models.vocabulary import OPEN, TERMINAL, Status

_ZERO = Decimal(0)


class Fact(StrEnum):
    """What can happen to an order."""

    #: It waited for its time, or for somebody's approval: now it may be claimed.
    RELEASED = "released"
    #: A worker took it and is about to send.
    CLAIMED = "claimed"
    #: The attempt ended without an order at the broker: it goes back to the queue, for the same broker or the next.
    REQUEUED = "requeued"
    ACCEPTED = "accepted"
    FILLED = "filled"
    #: An execution counts more or less than it did: its quantity is the difference.
    FILL_CORRECTED = "fill_corrected"
    FILL_BUSTED = "fill_busted"
    #: Its broker calls it filled, whatever we have counted.
    COMPLETED = "completed"
    #: Somebody replaced it at its broker: its rest lives on as an order that is not ours.
    REPLACED_OUTSIDE = "replaced_outside"
    CANCEL_SENT = "cancel_sent"
    CANCEL_REFUSED = "cancel_refused"
    CANCELED = "canceled"
    REJECTED = "rejected"
    DENIED = "denied"
    EXPIRED = "expired"


_S = Status
_AT_BROKER = (_S.SUBMITTED, _S.ACCEPTED, _S.PARTIALLY_FILLED, _S.PENDING_CANCEL)

#: fact -> {status now: status after}. What is not here is not a transition.
TRANSITIONS: dict[Fact, dict[Status, Status]] = {
    Fact.RELEASED: {_S.HELD: _S.QUEUED},
    Fact.CLAIMED: {_S.QUEUED: _S.SUBMITTED},
    # From accepted too: Schwab answers 201 and rejects a moment later (docs/facts/schwab.md#2.3). Never with a fill:
    # see `apply`.
    Fact.REQUEUED: {_S.SUBMITTED: _S.QUEUED, _S.ACCEPTED: _S.QUEUED, _S.QUEUED: _S.QUEUED},
    Fact.ACCEPTED: {_S.SUBMITTED: _S.ACCEPTED},
    Fact.CANCEL_SENT: dict.fromkeys((_S.ACCEPTED, _S.PARTIALLY_FILLED), _S.PENDING_CANCEL),
    Fact.CANCEL_REFUSED: {_S.PENDING_CANCEL: _S.ACCEPTED},
    Fact.CANCELED: dict.fromkeys((_S.HELD, _S.QUEUED, *_AT_BROKER), _S.CANCELED),
    Fact.REPLACED_OUTSIDE: dict.fromkeys(_AT_BROKER, _S.CANCELED),
    Fact.COMPLETED: dict.fromkeys(_AT_BROKER, _S.FILLED),
    Fact.REJECTED: {
        **dict.fromkeys((_S.QUEUED, *_AT_BROKER), _S.REJECTED),
        _S.PARTIALLY_FILLED: _S.CANCELED,  # part of it traded: the rest was ended by the broker
    },
    Fact.DENIED: dict.fromkeys((_S.HELD, _S.QUEUED, _S.SUBMITTED), _S.DENIED),
    Fact.EXPIRED: dict.fromkeys((_S.HELD, _S.QUEUED, *_AT_BROKER), _S.EXPIRED),
}


@dataclass(frozen=True, slots=True)
class State:
    """Where an order stands; quantities in shares."""

    status: Status
    #: None: of an order of money nobody ordered one.
    quantity: Decimal | None
    filled_quantity: Decimal = _ZERO
    #: The attempt that may speak for the order; 0 before the first.
    attempt_no: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A fact, and the attempt it is about (0: about the order itself)."""

    fact: Fact
    attempt_no: int = 0
    #: Shares of a fill, greater than zero; of a correction, what it adds or takes away.
    quantity: Decimal = _ZERO


@dataclass(frozen=True, slots=True)
class Step:
    """What `apply` made of an event."""

    state: State
    #: Something changed.
    changed: bool
    #: A fill after the end, or on an attempt that was believed dead: applied, and somebody should look.
    late: bool = False
    #: More is filled than was ordered.
    overfilled: bool = False


def apply(state: State, event: Event) -> Step:
    """Apply one event.

    Args:
        state: the order now.
        event: what happened. A fill must be new: deduplication by execution_id comes before this.

    Returns:
        The state after, unchanged where the event does not move the order from here.
    """
    if event.fact is Fact.FILLED:
        return _fill(state, event)
    if event.fact in (Fact.FILL_CORRECTED, Fact.FILL_BUSTED):
        return _correct(state, event)
    if event.fact is Fact.CLAIMED:
        if state.status is not Status.QUEUED or event.attempt_no <= state.attempt_no:
            return Step(state, changed=False)
        return Step(State(Status.SUBMITTED, state.quantity, state.filled_quantity, event.attempt_no), changed=True)
    if event.attempt_no and event.attempt_no != state.attempt_no:
        return Step(state, changed=False)
    if event.fact is Fact.REQUEUED and state.filled_quantity:
        return Step(state, changed=False)
    after = TRANSITIONS[event.fact].get(state.status)
    if after is None:
        return Step(state, changed=False)
    if after is Status.ACCEPTED and state.filled_quantity:
        after = Status.PARTIALLY_FILLED
    if after is Status.REJECTED and state.filled_quantity:
        after = Status.CANCELED
    return Step(
        State(after, state.quantity, state.filled_quantity, state.attempt_no), changed=after is not state.status
    )


def _fill(state: State, event: Event) -> Step:
    """Count a fill whatever the status is; one that comes too late, or on an older attempt, is flagged."""
    filled = state.filled_quantity + event.quantity
    late = state.status in TERMINAL or (event.attempt_no != state.attempt_no or state.status is Status.QUEUED)
    after = state.status
    if is_whole(filled, state.quantity):
        after = Status.FILLED
    elif state.status in OPEN and state.status is not Status.PENDING_CANCEL:
        # From queued as well: an attempt that was believed dead lives, so nobody may claim the order again.
        after = Status.PARTIALLY_FILLED
    elif state.status is Status.REJECTED:
        after = Status.CANCELED  # part of it traded after all, as in TRANSITIONS
    return Step(
        replace(state, status=after, filled_quantity=filled),
        changed=True,
        late=late,
        overfilled=_is_over(filled, state),
    )


def is_whole(filled: Decimal, quantity: Decimal | None) -> bool:
    """Tell whether so much fills an order; an order of money never by adding up."""
    return quantity is not None and filled >= quantity


def _is_over(filled: Decimal, state: State) -> bool:
    return state.quantity is not None and filled > state.quantity


def _correct(state: State, event: Event) -> Step:
    """Count an execution anew. An end stays an end: what was filled is told by the quantity, and by the event."""
    filled = state.filled_quantity + event.quantity
    after = state.status
    if is_whole(filled, state.quantity):
        after = Status.FILLED
    elif after in (Status.ACCEPTED, Status.PARTIALLY_FILLED):
        after = Status.PARTIALLY_FILLED if filled else Status.ACCEPTED
    overfilled = _is_over(filled, state) and event.quantity > 0
    return Step(replace(state, status=after, filled_quantity=filled), changed=True, overfilled=overfilled)
