"""Whether an order falls back, waits or ends after an attempt that left no order: a pure decision, no I/O, no clock.

| answer         | what follows                                                                                  |
|----------------|-----------------------------------------------------------------------------------------------|
| OutcomeUnknown | hold: reconcile, never resend, never fall back                                                |
| NotSent, stale        | the same broker again, soon                                                            |
| NotSent, budget used  | the same broker, if a turn comes within a moment and before the order expires; else as below |
| Denied, everywhere    | denied: no broker may have it                                                          |
| NotSent, other | the next broker on the route; at the end of the route, those that were only out of reach again |
| Refused        | the next broker on the route; at its end, rejected                                            |
| the route is used up  | the reason is what tells most: a broker's no, else our first rule, else that it cannot |
| absent         | the same broker under the same id where it dedupes by id, else like NotSent                   |
| NotSent or 429, absent before | that broker again: its listings missed the order, which may turn up there after all |

A closing order (sell, buy_to_cover) moves only to a broker that holds the position: anywhere else it would open one.
Of those left on the route the first that is known to hold it comes before one whose position is in doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum

from models.destinations import broker_of
from models.errors import (
    AccessLost,
    BrokerError,
    Denied,
    NotConnected,
    NotSent,
    OutcomeUnknown,
    QuotaExhausted,
    RateLimited,
    Stale,
    Unsupported,
)
from models.vocabulary import CLOSING, Denial, Side, Status
from worker.orders.windows import pause_after

#: Answers that leave a broker a candidate for a second round of the route.
OUT_OF_REACH = (NotConnected, RateLimited, QuotaExhausted)
#: Longest pause before a broker is asked again that has not said itself when to come, seconds.
ROUND_S = 10.0
#: Longest pause of an order or a wish that is refused as if everything were, while its broker answers others, seconds.
ALONE_S = 600.0
#: Code of attempts whose answer was that our access is lost.
ACCESS_LOST = "access_lost"


class Absent(NotSent):
    """A send whose answer was lost has come to nothing: reconciliation or an operator has established it."""


@dataclass(frozen=True, slots=True)
class AwaitEvidence:
    """Do nothing until evidence arrives."""

    reason: str


@dataclass(frozen=True, slots=True)
class Go:
    """Queue the order for a broker, not to be claimed before `after_s` seconds have passed."""

    broker: str
    after_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End the order."""

    status: Status
    reason: str
    #: Why, as one word that a program can rely on; None where there is none.
    code: str | None = None


Decision = AwaitEvidence | Go | Stop


class Weight(IntEnum):
    """How much an answer tells of why an order went nowhere: least, that a broker does not take such orders at all."""

    PASSING = 0
    CANNOT = 1
    FORBIDDEN = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why an attempt came to nothing, in words that begin with its broker, and with the code that it carries."""

    weight: Weight
    words: str
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingFacts:
    """What the decision is made from.

    A broker here is a destination: a broker, or one of several accounts behind its login (`models.destinations`).

    Args:
        broker: the one whose attempt just ended.
        error: how it ended.
        route: brokers in order.
        refused_by: brokers that refused the order or cannot take it at all, from earlier attempts.
        tried: brokers of earlier attempts.
        earlier: why earlier attempts came to nothing, oldest first.
        side: of the order.
        quantity: shares still to do.
        holdings: broker -> position in the symbol, free of other open orders; a missing broker is not known.
        doubtful: brokers that see for themselves whether they hold enough, by a reading of their own.
        unavailable: brokers that take nothing now (halted, draining, no live worker).
        expires_at: when the order goes stale.
        cancel_requested: somebody asked for a cancel meanwhile.
        dedupes: the broker refuses a second order under the same id.
        pinned: an earlier attempt left for this broker and was missing in its listings.
        shut_out: broker -> how many earlier attempts it answered as if our access were lost.
        now: the time.
        retry_pause: seconds before a broker that was out of reach is asked again.
    """

    broker: str
    error: BrokerError
    route: Sequence[str]
    side: Side
    quantity: Decimal
    now: datetime
    refused_by: Collection[str] = ()
    tried: Collection[str] = ()
    earlier: Sequence[NoAnswer] = ()
    holdings: Mapping[str, Decimal] | None = None
    doubtful: Collection[str] = ()
    unavailable: Collection[str] = ()
    expires_at: datetime | None = None
    cancel_requested: bool = False
    dedupes: bool = False
    pinned: bool = False
    shut_out: Mapping[str, int] = field(default_factory=dict)
    retry_pause: float = 1.0


def decide(facts: RoutingFacts) -> Decision:
    """Decide what follows an attempt."""
    error, reason = facts.error, said_by(facts.broker, str(facts.error))
    if isinstance(error, OutcomeUnknown):
        return AwaitEvidence(reason)
    if facts.cancel_requested:
        return Stop(Status.CANCELED, f"canceled before it reached a broker ({reason})")
    if facts.expires_at is not None and facts.now >= facts.expires_at:
        return Stop(Status.EXPIRED, f"too old to be sent again ({reason})")
    if isinstance(error, Denied) and error.everywhere:
        return Stop(Status.DENIED, reason, error.code)
    if isinstance(error, Stale) or (isinstance(error, Absent) and facts.dedupes):
        return Go(facts.broker, _pause(facts), reason)
    if facts.pinned and isinstance(error, (NotSent, RateLimited)) and not isinstance(error, Absent):
        return Go(facts.broker, max(_pause(facts), ROUND_S, _shut_out_for(facts, facts.broker)), reason)
    if isinstance(error, QuotaExhausted) and comes_soon(facts):
        return Go(facts.broker, max(_pause(facts), facts.retry_pause), reason)
    return _onward(facts, reason)


def comes_soon(facts: RoutingFacts) -> bool:
    """Tell whether a turn at this broker comes within a moment, and before the order is too old.

    An order whose turn comes later is better off at the next broker; where there is none it waits for that turn.
    """
    pause = max(_pause(facts), facts.retry_pause)
    in_time = facts.expires_at is None or facts.now + timedelta(seconds=pause) < facts.expires_at
    return in_time and _pause(facts) <= facts.retry_pause


def _onward(facts: RoutingFacts, reason: str) -> Decision:
    """Return where the order goes: first whom it has not tried, then whoever was merely out of reach, else its end."""
    out = set(facts.refused_by) | ({facts.broker} if is_final(facts.error) else set())
    candidates = [b for b in _after(facts) if b not in out and b not in facts.unavailable and may_take(facts, b)]
    fresh = [b for b in candidates if b not in facts.tried and b != facts.broker]
    if fresh:
        return Go(next((b for b in fresh if may_close(facts, b)), fresh[0]), 0.0, reason)
    # The route is through: whoever was merely out of reach is asked again, until the order expires.
    waiting = [b for b in _after(facts) if b not in out and (b == facts.broker or may_take(facts, b))]
    if waiting:
        reachable = [b for b in waiting if b not in facts.unavailable]
        following = (reachable or waiting)[0]
        return Go(following, _rest(facts, following), reason)
    said = [*facts.earlier, NoAnswer(_weight(facts.error), reason, code_of(facts.error))]
    if refusals := [answer for answer in said if answer.weight is Weight.REFUSED]:
        return Stop(Status.REJECTED, refusals[-1].words)
    why = max(said, key=lambda answer: answer.weight)  # the first of the most telling: its code is the order's
    return Stop(Status.DENIED, why.words, why.code)


def said_by(broker: str, words: str) -> str:
    """Return words that begin with who they are about."""
    return words if words.startswith(broker_of(broker)) else f"{broker}: {words}"


def _weight(error: BrokerError) -> Weight:
    if not isinstance(error, NotSent):
        return Weight.REFUSED
    if isinstance(error, Denied):
        return Weight.FORBIDDEN
    return Weight.CANNOT if isinstance(error, Unsupported) else Weight.PASSING


def code_of(error: BrokerError) -> str | None:
    """Return the code that an attempt carries: the broker's own, or why it did not get through to the broker."""
    if isinstance(error, AccessLost):
        return ACCESS_LOST
    return str(Denial.UNSUPPORTED) if isinstance(error, Unsupported) else error.code


def _after(facts: RoutingFacts) -> list[str]:
    """The route from behind the current broker, round to the current broker itself."""
    route = list(facts.route)
    if facts.broker not in route:
        return [*route, facts.broker]
    here = route.index(facts.broker) + 1
    return route[here:] + route[:here]


def _pause(facts: RoutingFacts) -> float:
    return facts.error.retry_after if facts.error.retry_after is not None else 0.0


def _rest(facts: RoutingFacts, following: str) -> float:
    """Return the pause before another round; of one that the order would not outlive, half its life is left to use.

    When to come again, a broker says for itself: another one is asked sooner.
    """
    asked_for = _pause(facts) if following == facts.broker else min(_pause(facts), ROUND_S)
    pause = max(asked_for, facts.retry_pause, _shut_out_for(facts, following))
    if facts.expires_at is None or facts.now + timedelta(seconds=pause) < facts.expires_at:
        return pause
    return max((facts.expires_at - facts.now).total_seconds() / 2, facts.retry_pause)


def _shut_out_for(facts: RoutingFacts, broker: str) -> float:
    """Return the pause of an order that a broker answers as if our access were lost, seconds.

    Access that is really lost closes the gate, and nothing is sent. An order that is sent and answered so again meets a
    broker that lets others in, so it waits the longer the more often that was said.
    """
    times = facts.shut_out.get(broker, 0) + (broker == facts.broker and isinstance(facts.error, AccessLost))
    return pause_after(times, facts.retry_pause, ALONE_S) if times else 0.0


def is_final(error: BrokerError) -> bool:
    """Tell whether this answer takes the broker off the order's route for good."""
    return not isinstance(error, (Stale, *OUT_OF_REACH, Absent)) and (
        isinstance(error, (Unsupported, Denied)) or not isinstance(error, NotSent)
    )


def may_be_asked_again(error: BrokerError) -> bool:
    """Tell whether this answer decided nothing: the same broker may be asked the very same thing again.

    | answer                                            | again |
    |---------------------------------------------------|-------|
    | NotSent, absent                                   | yes   |
    | NotSent because it cannot, or our rules forbid it | no    |
    | RateLimited                                       | yes   |
    | Refused                                           | no    |
    | OutcomeUnknown                                    | no    |
    """
    return isinstance(error, (NotSent, RateLimited)) and not isinstance(error, (Unsupported, Denied))


def may_take(facts: RoutingFacts, broker: str) -> bool:
    """Tell whether a closing order may move to this broker: where the position is, or where somebody looks first."""
    return may_close(facts, broker) or broker in facts.doubtful


def is_known(facts: RoutingFacts, broker: str) -> bool:
    """Tell whether a broker that may take a closing order holds the position by its last reading, or by our books."""
    return may_take(facts, broker) and broker in (facts.holdings or {})


def may_close(facts: RoutingFacts, broker: str) -> bool:
    """Tell whether an order opens a position, or the broker is known to hold what it closes."""
    if facts.side not in CLOSING:
        return True
    held = (facts.holdings or {}).get(broker)
    if held is None:
        return False
    return (held if facts.side is Side.SELL else -held) >= facts.quantity
