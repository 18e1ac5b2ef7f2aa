"""The lifecycle over several attempts: our own facts come in order, what brokers say of any attempt at any time."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from models.lifecycle import Event, Fact, State, Step, apply
from models.vocabulary import LIVE, TERMINAL, Status

TEN = Decimal(10)
ENDS = (Fact.CANCELED, Fact.EXPIRED, Fact.REJECTED)


@dataclass
class Told:
    """An order, and what was told of it."""

    state: State
    late: int = 0

    def tell(self, *events: Event) -> Told:
        for event in events:
            before, step = self.state, apply(self.state, event)
            self.state = step.state
            self.late += step.late
            self.judge(before, event, step)
        return self

    def judge(self, before: State, event: Event, step: Step) -> None:
        is_fill = event.fact is Fact.FILLED
        if event.attempt_no not in (0, before.attempt_no) and event.fact is not Fact.CLAIMED:
            assert step.changed == is_fill, "an earlier attempt moves the order by its fills alone"
        if before.status in TERMINAL:
            assert step.changed == is_fill, "nothing but a fill touches an order that has ended"
            assert step.late == is_fill
        if is_fill and event.attempt_no != before.attempt_no:
            assert step.late
        assert step.state.filled_quantity == before.filled_quantity + (event.quantity if is_fill else 0)
        assert step.overfilled == (is_fill and step.state.filled_quantity > before.quantity)


def begun(attempts: int) -> list[Event]:
    """Attempts that came to nothing, and the last one, claimed."""
    facts = [e for n in range(1, attempts) for e in (Event(Fact.CLAIMED, n), Event(Fact.REQUEUED, n))]
    return [*facts, Event(Fact.CLAIMED, attempts)]


@st.composite
def stories(draw: st.DrawFn) -> tuple[int, list[Event]]:
    """How many attempts there were, and what their brokers say of them: fills of up to ten shares, and ends."""
    attempts = draw(st.integers(1, 4))
    parts = draw(st.lists(st.integers(1, 4), max_size=5).filter(lambda parts: sum(parts) <= 10))
    fills = [Event(Fact.FILLED, draw(st.integers(1, attempts)), Decimal(part)) for part in parts]
    facts = [Event(Fact.ACCEPTED, draw(st.integers(1, attempts))) for _ in range(draw(st.integers(0, 2)))]
    ends = [Event(draw(st.sampled_from(ENDS)), n) for n in range(1, attempts) if draw(st.booleans())]
    return attempts, [*fills, *facts, *ends]


@given(stories(), st.sampled_from([*ENDS, None]), st.data())
@settings(max_examples=150, deadline=None)
def test_reports_of_all_attempts_in_any_order_come_to_the_same(
    story: tuple[int, list[Event]], end: Fact | None, data: st.DataObject
) -> None:
    attempts, said = story
    said = [*said, Event(end, attempts)] if end else said
    one_way = Told(State(Status.QUEUED, TEN)).tell(*begun(attempts), *said)
    another = Told(State(Status.QUEUED, TEN)).tell(*begun(attempts), *data.draw(st.permutations(said)))
    filled = sum((e.quantity for e in said if e.fact is Fact.FILLED), Decimal(0))
    assert one_way.state.filled_quantity == another.state.filled_quantity == filled
    if filled == TEN:
        assert one_way.state.status is another.state.status is Status.FILLED
    elif end:
        assert one_way.state.status is another.state.status
        assert one_way.state.status in TERMINAL - {Status.FILLED}
    else:
        assert {one_way.state.status, another.state.status} <= LIVE | {Status.SUBMITTED}


@given(stories(), st.data())
@settings(max_examples=150, deadline=None)
def test_reports_between_our_own_steps_lose_no_share(story: tuple[int, list[Event]], data: st.DataObject) -> None:
    """A broker may speak of an attempt any time after its claim; what it says twice is said with no new fill."""
    attempts, said = story
    told, waiting = Told(State(Status.QUEUED, TEN)), list(said)
    for ours in begun(attempts):
        told.tell(ours)
        heard = [e for e in waiting if e.attempt_no <= told.state.attempt_no and data.draw(st.booleans())]
        waiting = [e for e in waiting if not any(e is h for h in heard)]
        told.tell(*heard, *(e for e in heard if e.fact is not Fact.FILLED))
        if told.state.filled_quantity:
            assert told.state.status is not Status.QUEUED, "an order that has traded is claimed by nobody"
    told.tell(*waiting)
    filled = sum((e.quantity for e in said if e.fact is Fact.FILLED), Decimal(0))
    assert told.state.filled_quantity == filled
    assert (told.state.status is Status.FILLED) == (filled == TEN)


@given(stories(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_fill_of_an_earlier_attempt_is_always_flagged(story: tuple[int, list[Event]], data: st.DataObject) -> None:
    attempts, said = story
    fills = data.draw(st.permutations([e for e in said if e.fact is Fact.FILLED]))
    told = Told(State(Status.QUEUED, TEN)).tell(*begun(attempts), *fills)
    assert told.late == sum(e.attempt_no < attempts for e in fills)
