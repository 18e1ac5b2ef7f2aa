"""An order on its whole way through the routing: any answers, halts, positions and pauses, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import (
    BrokerError,
    InsufficientFunds,
    NotConnected,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    QuotaExhausted,
    RateLimited,
    Refused,
    Stale,
    SubmitTimeout,
    Unmapped,
    Unsupported,
)
from models.vocabulary import CLOSING, Side, Status
from worker.orders.routing import (
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

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
ROUTES = st.permutations(["a", "b", "c", "d"]).flatmap(lambda names: st.integers(1, 4).map(lambda n: names[:n]))
FINAL = (OrderRejected, InsufficientFunds, Unsupported)
PASSING = (NotConnected, NotSent, RateLimited, Stale, QuotaExhausted, Absent)
LOST = (SubmitTimeout, Unmapped)
TEN = Decimal(10)


@dataclass
class Walk:
    """An order's way, remembered as the attempts' rows remember it."""

    route: list[str]
    side: Side
    held: dict[str, Decimal]
    expires_at: datetime | None = None
    now: datetime = START
    tried: list[tuple[str, BrokerError]] = field(default_factory=list)
    decision: Decision | None = None

    @property
    def broker(self) -> str:
        return self.decision.broker if isinstance(self.decision, Go) else self.route[0]

    def answer(
        self, error: BrokerError, *, halted: Any = (), canceled: bool = False, dedupes: bool = False
    ) -> Decision:
        facts = RoutingFacts(
            broker=self.broker, error=error, route=self.route, side=self.side, quantity=TEN, now=self.now,
            refused_by={b for b, e in self.tried if is_final(e)}, tried={b for b, _ in self.tried},
            earlier=[NoAnswer(Weight.REFUSED, str(e)) for _, e in self.tried if isinstance(e, Refused)],
            unavailable=set(halted) - {self.broker},
            holdings=self.held if self.side in CLOSING else None, expires_at=self.expires_at,
            cancel_requested=canceled, dedupes=dedupes,
        )  # fmt: skip
        self.check(facts, decide(facts))
        self.tried.append((facts.broker, error))
        assert self.decision is not None
        if isinstance(self.decision, Go):
            self.now += timedelta(seconds=self.decision.after_s)
        return self.decision

    def check(self, facts: RoutingFacts, decision: Decision) -> None:
        """What holds after any history."""
        self.decision = decision
        assert isinstance(decision, AwaitEvidence) == isinstance(facts.error, OutcomeUnknown)
        if facts.cancel_requested and not isinstance(decision, AwaitEvidence):
            assert decision == Stop(Status.CANCELED, decision.reason)
        elif facts.expires_at is not None and facts.now >= facts.expires_at and not isinstance(decision, AwaitEvidence):
            assert decision == Stop(Status.EXPIRED, decision.reason)
        if isinstance(decision, Stop) and decision.status in (Status.REJECTED, Status.DENIED):
            said_no = any(isinstance(e, Refused) for _, e in [*self.tried, (facts.broker, facts.error)])
            assert (decision.status is Status.REJECTED) == said_no
        if isinstance(decision, Go):
            self.check_next(facts, decision)

    def check_next(self, facts: RoutingFacts, go: Go) -> None:
        no = {b for b, e in [*self.tried, (facts.broker, facts.error)] if is_final(e)}
        assert go.broker not in no, "it has refused, or cannot do it"
        assert go.broker == facts.broker or may_take(facts, go.broker), "nothing to close there"
        fresh = [b for b in self.route if b not in {*facts.tried, facts.broker, *no, *facts.unavailable}]
        fresh = [b for b in fresh if may_take(facts, b)]
        stays = isinstance(facts.error, (Stale, QuotaExhausted)) or (isinstance(facts.error, Absent) and facts.dedupes)
        if fresh and not stays:
            assert go.broker in fresh, f"{go.broker}, though {fresh} have not been asked"
        if go.broker in facts.unavailable:
            assert not [b for b in self.route if b not in no | set(facts.unavailable) and may_take(facts, b)]
            assert go.after_s > 0, "a broker that takes nothing is not asked without a pause"


SIDES = st.sampled_from([Side.BUY, Side.BUY, Side.SELL, Side.BUY_TO_COVER])
HELD = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([-10, -9, 0, 9, 10, 11]).map(Decimal))
SOME = st.sets(st.sampled_from("abcd"))


@given(ROUTES, SIDES, HELD, st.integers(1, 90), st.data())
@settings(max_examples=200, deadline=None)
def test_any_history_leads_only_where_the_order_may_go(
    route: list[str], side: Side, held: dict[str, Decimal], patience: int, data: st.DataObject
) -> None:
    walk = Walk(route, side, held, expires_at=START + timedelta(seconds=patience))
    answers = st.sampled_from([*FINAL, *PASSING, *PASSING, *LOST])
    pause = st.none() | st.floats(0, 20)
    for _ in range(15):
        kind, wait = data.draw(answers), data.draw(pause)
        more = {
            "halted": data.draw(SOME),
            "canceled": data.draw(st.integers(0, 9)) == 9,
            "dedupes": data.draw(st.booleans()),
        }
        if not isinstance(walk.answer(kind("words", retry_after=wait), **more), Go):
            return


@given(ROUTES, SIDES, HELD, st.lists(st.sampled_from(FINAL), min_size=4, max_size=4), SOME)
@settings(max_examples=100, deadline=None)
def test_brokers_that_all_say_no_are_asked_once_each(
    route: list[str], side: Side, held: dict[str, Decimal], kinds: list[type[BrokerError]], halted: set[str]
) -> None:
    walk = Walk(route, side, held)
    for kind in kinds[: len(route)]:
        if isinstance(walk.answer(kind("no"), halted=halted), Stop):
            break
        if walk.broker in halted:
            return  # it waits for the halt to end
    assert isinstance(walk.decision, Stop), walk.tried
    assert len({b for b, _ in walk.tried}) == len(walk.tried)
    refused = any(issubclass(kind, Refused) for kind in kinds[: len(walk.tried)])
    assert walk.decision.status is (Status.REJECTED if refused else Status.DENIED)


@given(ROUTES, SIDES, HELD, st.lists(st.sampled_from([NotConnected, NotSent, RateLimited]), min_size=60, max_size=60))
@settings(max_examples=60, deadline=None)
def test_brokers_out_of_reach_are_asked_until_the_order_is_too_old(
    route: list[str], side: Side, held: dict[str, Decimal], kinds: list[type[BrokerError]]
) -> None:
    """Each round of the route costs a pause: the number of sends is bounded by the clock, not by luck."""
    walk = Walk(route, side, held, expires_at=START + timedelta(seconds=10))
    for kind in kinds:
        if isinstance(walk.answer(kind("away")), Stop):
            break
    assert isinstance(walk.decision, Stop)
    assert walk.decision.status is Status.EXPIRED
    assert len(walk.tried) <= 10 + len(route)
