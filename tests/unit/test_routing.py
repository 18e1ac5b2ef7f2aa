"""Where an order goes next: every branch of the decision, and the one rule that nothing may bend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as rounds
from hypothesis import strategies as st

from models import errors
from models.errors import (
    BrokerError,
    ConnectionLost,
    Denied,
    InstrumentUnknown,
    InsufficientFunds,
    NotConnected,
    NotPermitted,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    QuotaExhausted,
    RateLimited,
    Refused,
    ServerError,
    Stale,
    SubmitTimeout,
    Unmapped,
    UnreadableReply,
    Unsupported,
)
from models.vocabulary import Side, Status
from worker.orders.routing import (
    ROUND_S,
    Absent,
    AwaitEvidence,
    Decision,
    Go,
    NoAnswer,
    RoutingFacts,
    Stop,
    Weight,
    decide,
    is_final,
    may_take,
)

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
LATER = NOW + timedelta(seconds=60)
ROUTE = ("ibkr", "alpaca", "tda")
UNKNOWN = (OutcomeUnknown, SubmitTimeout, ConnectionLost, ServerError, UnreadableReply, Unmapped)
#: Answers to earlier attempts.
NO = NoAnswer(Weight.REFUSED, "ibkr: 200 No security definition", "200")
FORBIDDEN = NoAnswer(Weight.FORBIDDEN, "ibkr holds 0 KO", "no_position")
LIMITED = NoAnswer(Weight.FORBIDDEN, "alpaca: more than 5", "order_quantity")
CANNOT = NoAnswer(Weight.CANNOT, "alpaca does not take asset_class future", "unsupported")
#: Answers that end a broker's part in the order.
FINAL = (Refused, OrderRejected, InsufficientFunds, InstrumentUnknown, NotPermitted, Unsupported)


def facts(error: BrokerError, broker: str = "ibkr", **changes: Any) -> RoutingFacts:
    given = {"route": ROUTE, "side": Side.BUY, "quantity": Decimal(10), "now": NOW, "expires_at": LATER} | changes
    return RoutingFacts(broker=broker, error=error, **given)


def brief(decision: Decision) -> object:
    """Go as (broker, pause), Stop as its status, AwaitEvidence as itself."""
    match decision:
        case AwaitEvidence():
            return AwaitEvidence
        case Go(broker, after_s, _):
            return broker, after_s
        case Stop(status, _):
            return status


SELL = {"side": Side.SELL}
CASES: dict[str, tuple[BrokerError, dict[str, Any], object]] = {
    # -- unknown: hold, whatever else is true
    **{f"{kind.__name__} holds": (kind("?"), {}, AwaitEvidence) for kind in UNKNOWN},
    "unknown holds even when canceled": (SubmitTimeout("?"), {"cancel_requested": True}, AwaitEvidence),
    "unknown holds even when too old": (SubmitTimeout("?"), {"expires_at": NOW}, AwaitEvidence),
    "unknown holds even where the broker dedupes": (ConnectionLost("?"), {"dedupes": True}, AwaitEvidence),
    "unknown holds with a pause named": (ServerError("?", retry_after=1), {}, AwaitEvidence),
    # -- refused, or cannot: the next on the route
    **{f"{kind.__name__} falls back": (kind("no"), {}, ("alpaca", 0.0)) for kind in FINAL},
    "the route goes on from where it is": (OrderRejected("no"), {"broker": "alpaca", "tried": ["ibkr"]}, ("tda", 0.0)),
    "the route wraps round": (OrderRejected("no"), {"broker": "tda"}, ("ibkr", 0.0)),
    "a broker off the route goes to its start": (OrderRejected("no"), {"broker": "other"}, ("ibkr", 0.0)),
    "what has refused before is left out": (OrderRejected("no"), {"refused_by": ["alpaca"]}, ("tda", 0.0)),
    # -- the end of the route
    "all refused: rejected": (
        OrderRejected("no"), {"broker": "tda", "refused_by": ["ibkr", "alpaca"], "earlier": [NO]},
        Status.REJECTED),
    "one broker, refused: rejected": (InsufficientFunds("no"), {"route": ["ibkr"]}, Status.REJECTED),
    "all unsupported: denied": (Unsupported("no"), {"broker": "tda", "refused_by": ["ibkr", "alpaca"]}, Status.DENIED),
    "one broker, unsupported: denied": (Unsupported("no"), {"route": ["ibkr"]}, Status.DENIED),
    "unsupported after a refusal: rejected": (
        Unsupported("no"), {"broker": "tda", "refused_by": ["ibkr", "alpaca"], "earlier": [NO]},
        Status.REJECTED),
    "refused after unsupported: rejected": (
        OrderRejected("no"), {"broker": "tda", "refused_by": ["ibkr", "alpaca"]}, Status.REJECTED),
    # -- out of reach
    "not connected falls back": (NotConnected("down"), {}, ("alpaca", 0.0)),
    "not sent falls back": (NotSent("look-alike"), {}, ("alpaca", 0.0)),
    "nobody connected: the route again, after a pause": (
        NotConnected("down"), {"broker": "tda", "tried": ["ibkr", "alpaca"]}, ("ibkr", 1.0)),
    "the pause is at least the setting's": (
        NotConnected("down", retry_after=0.1), {"broker": "tda", "tried": ["ibkr", "alpaca"]}, ("ibkr", 1.0)),
    "a longer pause asked for is kept": (
        NotConnected("down", retry_after=9), {"broker": "tda", "tried": ["ibkr", "alpaca"]}, ("ibkr", 9)),
    "the only broker is asked again": (NotConnected("down"), {"route": ["ibkr"]}, ("ibkr", 1.0)),
    "who refused stays out of the second round": (
        NotConnected("down"), {"broker": "tda", "tried": ["ibkr", "alpaca"],
            "refused_by": ["ibkr"], "earlier": [NO]},
        ("alpaca", 1.0)),
    "refused last, another out of reach: that one again": (
        OrderRejected("no"), {"broker": "tda", "tried": ["ibkr", "alpaca"]}, ("ibkr", 1.0)),
    # -- soon, at the same broker
    "stale: the same broker": (Stale("old claim"), {}, ("ibkr", 0.0)),
    "stale at the end of the route: the same broker": (Stale("old claim"), {"broker": "tda"}, ("tda", 0.0)),
    # -- the budget of the account is used up
    "a turn within a moment: the same broker": (QuotaExhausted("pace", retry_after=0.4), {}, ("ibkr", 1.0)),
    "a turn at a time not named: the same broker": (QuotaExhausted("pace"), {}, ("ibkr", 1.0)),
    "a turn much later: the next broker, at once": (QuotaExhausted("pace", retry_after=20), {}, ("alpaca", 0.0)),
    "a turn much later, nobody else: the same, then": (
        QuotaExhausted("pace", retry_after=20), {"route": ["ibkr"]}, ("ibkr", 20)),
    "a turn after the order is too old: the next broker": (
        QuotaExhausted("pace", retry_after=70), {}, ("alpaca", 0.0)),
    "a moment is too long for an order about to expire: the next broker": (
        QuotaExhausted("pace", retry_after=0.4), {"expires_at": NOW + timedelta(seconds=0.9)}, ("alpaca", 0.0)),
    "too late everywhere: half of what is left, for the estimate may be wrong": (
        QuotaExhausted("pace", retry_after=70), {"route": ["ibkr"]}, ("ibkr", 30)),
    "used up everywhere: the route again, and not as late as the last one said for itself": (
        QuotaExhausted("pace", retry_after=20), {"broker": "tda", "tried": ["ibkr", "alpaca"]}, ("ibkr", ROUND_S)),
    "an order without an end waits for its turn": (
        QuotaExhausted("pace", retry_after=500), {"route": ["ibkr"], "expires_at": None}, ("ibkr", 500)),
    "a closing order waits where the position is": (
        QuotaExhausted("pace", retry_after=20), {**SELL, "holdings": {"alpaca": Decimal(0), "tda": Decimal(0)}},
        ("ibkr", 20)),
    "a closing order goes where the position is": (
        QuotaExhausted("pace", retry_after=20), {**SELL, "holdings": {"tda": Decimal(10)}}, ("tda", 0.0)),
    "a canceled order does not wait for a turn": (
        QuotaExhausted("pace", retry_after=20), {"cancel_requested": True}, Status.CANCELED),
    "rate limited: the next broker": (RateLimited("429", retry_after=30), {}, ("alpaca", 0.0)),
    "rate limited, nobody else: the same, when it may": (
        RateLimited("429", retry_after=30), {"route": ["ibkr"]}, ("ibkr", 30)),
    "rate limited is no refusal for good": (
        NotConnected("down"), {"broker": "alpaca", "route": ["ibkr", "alpaca"], "tried": ["ibkr"]}, ("ibkr", 1.0)),
    # -- absent
    "absent where ids dedupe: the same broker": (Absent("gone"), {"dedupes": True}, ("ibkr", 0.0)),
    "absent elsewhere: the next broker": (Absent("gone"), {}, ("alpaca", 0.0)),
    "absent, nobody else: the same broker, after a pause": (Absent("gone"), {"route": ["ibkr"]}, ("ibkr", 1.0)),
    "not sent is no proof of absence where ids dedupe": (NotConnected("down"), {"dedupes": True}, ("alpaca", 0.0)),
    # -- wishes and clocks
    **{f"{kind.__name__} and a cancel: canceled": (kind("no"), {"cancel_requested": True}, Status.CANCELED)
       for kind in (OrderRejected, NotConnected, Stale, Absent, RateLimited)},
    **{f"{kind.__name__} and too old: expired": (kind("no"), {"expires_at": NOW}, Status.EXPIRED)
       for kind in (OrderRejected, NotConnected, Stale, Absent, QuotaExhausted)},
    "canceled and too old: canceled": (
        NotConnected("down"), {"expires_at": NOW, "cancel_requested": True}, Status.CANCELED),
    "absent, too old, dedupes: expired": (Absent("gone"), {"dedupes": True, "expires_at": NOW}, Status.EXPIRED),
    "without an expiry it goes on": (NotConnected("down"), {"expires_at": None}, ("alpaca", 0.0)),
    # -- halted brokers
    "a halted broker is skipped": (OrderRejected("no"), {"unavailable": {"alpaca"}}, ("tda", 0.0)),
    "all others halted, refused here: it waits for them": (
        OrderRejected("no"), {"unavailable": {"alpaca", "tda"}}, ("alpaca", 1.0)),
    "all others halted, out of reach here: it waits here": (
        NotConnected("down"), {"unavailable": {"alpaca", "tda"}}, ("ibkr", 1.0)),
    "the second round skips the halted too": (
        NotConnected("down"), {"broker": "tda", "tried": ["ibkr", "alpaca"], "unavailable": {"ibkr"}}, ("alpaca", 1.0)),
    # -- closing orders go only where the position is
    "a sell goes to who holds enough": (
        OrderRejected("no"), SELL | {"holdings": {"alpaca": Decimal(9), "tda": Decimal(10)}}, ("tda", 0.0)),
    "a sell goes nowhere without holdings": (OrderRejected("no"), SELL, Status.REJECTED),
    "a sell goes nowhere where holdings are unknown": (
        OrderRejected("no"), SELL | {"holdings": {"ibkr": Decimal(10)}}, Status.REJECTED),
    "a sell never moves to a short position": (
        OrderRejected("no"), SELL | {"holdings": {"alpaca": Decimal(-10)}}, Status.REJECTED),
    "a sell that nobody can take: denied": (Unsupported("no"), SELL, Status.DENIED),
    "a sell waits where it is when that is out of reach": (NotConnected("down"), SELL, ("ibkr", 1.0)),
    "an absent sell stays as well": (Absent("gone"), SELL, ("ibkr", 1.0)),
    "buy_to_cover goes to who is short": (
        OrderRejected("no"),
        {"side": Side.BUY_TO_COVER, "holdings": {"alpaca": Decimal(10), "tda": Decimal(-10)}}, ("tda", 0.0)),
    "sell_short opens, so it may go anywhere": (OrderRejected("no"), {"side": Side.SELL_SHORT}, ("alpaca", 0.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_decision(name: str) -> None:
    error, changes, expected = CASES[name]
    assert brief(decide(facts(error, **changes))) == expected


def test_the_reason_names_the_broker_and_its_words() -> None:
    decision = decide(facts(InsufficientFunds("buying power 12.30 is not enough")))
    assert decision == Go("alpaca", 0.0, "ibkr: buying power 12.30 is not enough")


@pytest.mark.parametrize(
    ("earlier", "error", "end"),
    [
        ([NO, CANNOT], Unsupported("tda cannot"), (Status.REJECTED, NO.words, None)),
        ([CANNOT, NO], Unsupported("tda cannot"), (Status.REJECTED, NO.words, None)),
        ([NO, FORBIDDEN], Unsupported("tda cannot"), (Status.REJECTED, NO.words, None)),
        ([NO], OrderRejected("tda says no"), (Status.REJECTED, "tda says no", None)),
        ([FORBIDDEN, CANNOT], OrderRejected("tda says no"), (Status.REJECTED, "tda says no", None)),
        ([FORBIDDEN], Unsupported("tda cannot"), (Status.DENIED, FORBIDDEN.words, "no_position")),
        ([CANNOT], Denied("tda holds 0 KO", code="no_position"), (Status.DENIED, "tda holds 0 KO", "no_position")),
        ([CANNOT, FORBIDDEN, LIMITED], Unsupported("tda cannot"), (Status.DENIED, FORBIDDEN.words, "no_position")),
        ([LIMITED, FORBIDDEN], Unsupported("tda cannot"), (Status.DENIED, LIMITED.words, "order_quantity")),
        ([CANNOT], Unsupported("tda cannot"), (Status.DENIED, CANNOT.words, "unsupported")),
    ],
)
def test_the_end_tells_what_tells_most_and_its_code_belongs_to_its_words(
    earlier: list[NoAnswer], error: BrokerError, end: tuple[Status, str, str | None]
) -> None:
    stop = decide(facts(error, "tda", refused_by=["ibkr", "alpaca"], earlier=earlier))
    assert stop == Stop(*end)


# -- PROPERTIES ---
def _tree(kind: type[BrokerError]) -> list[type[BrokerError]]:
    return [kind, *(leaf for sub in kind.__subclasses__() for leaf in _tree(sub))]


BROKERS = st.sampled_from([*ROUTE, "other"])
SOME = st.sets(BROKERS)


@st.composite
def cases(draw: st.DrawFn, *branches: type[BrokerError]) -> RoutingFacts:
    kind = draw(st.sampled_from([leaf for branch in branches for leaf in _tree(branch)]))
    pause = draw(st.none() | st.floats(0, 60))
    return RoutingFacts(
        broker=draw(BROKERS),
        error=kind("words", retry_after=pause),
        route=draw(st.lists(st.sampled_from(ROUTE), min_size=1, unique=True)),
        side=draw(st.sampled_from(Side)),
        quantity=Decimal(draw(st.integers(1, 20))),
        now=NOW,
        refused_by=draw(SOME),
        tried=draw(SOME),
        earlier=draw(st.sampled_from([[], [NO], [FORBIDDEN], [CANNOT, FORBIDDEN]])),
        holdings=draw(st.none() | st.dictionaries(BROKERS, st.integers(-20, 20).map(Decimal))),
        unavailable=draw(SOME),
        expires_at=draw(st.sampled_from([None, NOW, LATER])),
        cancel_requested=draw(st.booleans()),
        dedupes=draw(st.booleans()),
    )


@given(cases(OutcomeUnknown))
@rounds(max_examples=120, deadline=None)
def test_an_unknown_outcome_is_never_resent_nor_ended(found: RoutingFacts) -> None:
    assert isinstance(decide(found), AwaitEvidence)


@given(cases(NotSent, Refused))
@rounds(max_examples=100, deadline=None)
def test_a_known_outcome_never_waits_for_evidence(found: RoutingFacts) -> None:
    assert not isinstance(decide(found), AwaitEvidence)


@given(cases(NotSent, Refused))
@rounds(max_examples=100, deadline=None)
def test_an_order_moves_only_where_it_may(found: RoutingFacts) -> None:
    decision = decide(found)
    if not isinstance(decision, Go):
        return
    assert decision.after_s >= 0
    assert decision.broker in (*found.route, found.broker)
    if decision.broker != found.broker:
        assert decision.broker not in found.refused_by, "it refused before"
        assert may_take(found, decision.broker), "a closing order would open a position there"
    else:
        assert not is_final(found.error), "it has just refused"
    assert decision.after_s > 0 or decision.broker == found.broker or decision.broker not in found.unavailable
    assert not found.cancel_requested
    assert found.expires_at is None or found.now < found.expires_at


@given(cases(NotSent, Refused))
@rounds(max_examples=120, deadline=None)
def test_the_end_has_a_reason_that_fits(found: RoutingFacts) -> None:
    decision = decide(found)
    if not isinstance(decision, Stop):
        return
    match decision.status:
        case Status.CANCELED:
            assert found.cancel_requested
        case Status.EXPIRED:
            assert found.expires_at is not None
            assert found.now >= found.expires_at
        case Status.REJECTED:
            assert isinstance(found.error, Refused) or NO in found.earlier
        case Status.DENIED:
            assert isinstance(found.error, NotSent)
            assert NO not in found.earlier
        case other:
            pytest.fail(f"an order cannot end as {other} here")


def test_an_unreachable_route_is_walked_round_until_the_order_expires() -> None:
    """Nothing loops without a pause: three brokers out of reach cost one pause a round at least."""
    broker, tried, walked = "ibkr", set(), []
    for _ in range(9):
        decision = decide(facts(NotConnected("down"), broker, tried=tried))
        assert isinstance(decision, Go)
        tried.add(broker)
        walked.append((decision.broker, decision.after_s))
        broker = decision.broker
    assert [pause for _, pause in walked[2:]] == [1.0] * 7
    assert {name for name, _ in walked} == set(ROUTE)


def test_every_error_is_in_exactly_one_branch() -> None:
    """A leaf under two branches, or beside them, could be routed by accident."""
    branches = (NotSent, Refused, OutcomeUnknown)
    for leaf in set(_tree(BrokerError)) - {BrokerError}:
        assert sum(issubclass(leaf, branch) for branch in branches) == 1, leaf
    assert {kind.__name__ for kind in _tree(OutcomeUnknown)} >= {kind.__name__ for kind in UNKNOWN}
    assert all(hasattr(errors, kind.__name__) for kind in UNKNOWN)


# -- MISSED BY LISTINGS ---
@pytest.mark.parametrize(
    "error",
    [
        NotConnected("away", broker="ibkr"),
        NotSent("draining", broker="ibkr"),
        QuotaExhausted("no turn", broker="ibkr", retry_after=30),
        RateLimited("429", broker="ibkr", retry_after=1),
        errors.Denied("halted", broker="ibkr", code="halted"),
    ],
)
def test_what_listings_have_missed_stays_with_its_broker(error: BrokerError) -> None:
    """It had left, and may turn up there: at another broker it would be there twice."""
    decision = decide(facts(error, pinned=True))
    assert isinstance(decision, Go)
    assert decision.broker == "ibkr"
    assert decision.after_s > 0


def test_what_listings_have_missed_moves_on_once_its_broker_has_refused_it() -> None:
    assert brief(decide(facts(OrderRejected("no", broker="ibkr"), pinned=True))) == ("alpaca", 0.0)
