"""The lifecycle: one table, and what holds whatever order the facts arrive in."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.lifecycle import TRANSITIONS, Event, Fact, State, Step, apply
from models.vocabulary import LIVE, OPEN, TERMINAL, Status

TEN = Decimal(10)
S, F = Status, Fact


def state(status: Status, filled: int = 0, attempt_no: int = 1) -> State:
    return State(status, TEN, Decimal(filled), attempt_no)


def after(start: State, *events: Event) -> State:
    for event in events:
        start = apply(start, event).state
    return start


def fill(quantity: int, attempt_no: int = 1) -> Event:
    return Event(F.FILLED, attempt_no, Decimal(quantity))


# -- THE TABLE ---
#: Every pair that moves an unfilled order; every other pair must leave it alone.
MOVES = {
    (S.HELD, F.RELEASED): S.QUEUED,
    (S.HELD, F.CANCELED): S.CANCELED,
    (S.HELD, F.DENIED): S.DENIED,
    (S.HELD, F.EXPIRED): S.EXPIRED,
    (S.QUEUED, F.CANCELED): S.CANCELED,
    (S.QUEUED, F.REJECTED): S.REJECTED,
    (S.QUEUED, F.DENIED): S.DENIED,
    (S.QUEUED, F.EXPIRED): S.EXPIRED,
    (S.SUBMITTED, F.REQUEUED): S.QUEUED,
    (S.SUBMITTED, F.ACCEPTED): S.ACCEPTED,
    (S.SUBMITTED, F.CANCELED): S.CANCELED,
    (S.SUBMITTED, F.REJECTED): S.REJECTED,
    (S.SUBMITTED, F.DENIED): S.DENIED,
    (S.SUBMITTED, F.EXPIRED): S.EXPIRED,
    (S.ACCEPTED, F.REQUEUED): S.QUEUED,
    (S.ACCEPTED, F.CANCEL_SENT): S.PENDING_CANCEL,
    (S.ACCEPTED, F.CANCELED): S.CANCELED,
    (S.ACCEPTED, F.REJECTED): S.REJECTED,
    (S.ACCEPTED, F.EXPIRED): S.EXPIRED,
    (S.PENDING_CANCEL, F.CANCEL_REFUSED): S.ACCEPTED,
    (S.PENDING_CANCEL, F.CANCELED): S.CANCELED,
    (S.PENDING_CANCEL, F.REJECTED): S.REJECTED,
    (S.PENDING_CANCEL, F.EXPIRED): S.EXPIRED,
    (S.SUBMITTED, F.COMPLETED): S.FILLED,
    (S.SUBMITTED, F.REPLACED_OUTSIDE): S.CANCELED,
    (S.ACCEPTED, F.COMPLETED): S.FILLED,
    (S.ACCEPTED, F.REPLACED_OUTSIDE): S.CANCELED,
    (S.PENDING_CANCEL, F.COMPLETED): S.FILLED,
    (S.PENDING_CANCEL, F.REPLACED_OUTSIDE): S.CANCELED,
}
#: What an execution moves is told by quantities, not by the table.
COUNTED = (F.FILL_CORRECTED, F.FILL_BUSTED)


@pytest.mark.parametrize(
    ("status", "fact"), [(s, f) for s in S if s not in (S.PARTIALLY_FILLED, S.FILLED) for f in F if f not in COUNTED]
)
def test_only_the_listed_facts_move_an_unfilled_order(status: Status, fact: Fact) -> None:
    if fact in (F.FILLED, F.CLAIMED, *COUNTED):
        return
    step = apply(state(status), Event(fact, 1))
    assert step.state == state(MOVES.get((status, fact), status))
    assert step.changed == ((status, fact) in MOVES)
    assert not step.late
    assert not step.overfilled


PARTLY = {
    (S.PARTIALLY_FILLED, F.CANCEL_SENT): S.PENDING_CANCEL,
    (S.PARTIALLY_FILLED, F.CANCELED): S.CANCELED,
    (S.PARTIALLY_FILLED, F.REJECTED): S.CANCELED,
    (S.PARTIALLY_FILLED, F.EXPIRED): S.EXPIRED,
    (S.PARTIALLY_FILLED, F.COMPLETED): S.FILLED,
    (S.PARTIALLY_FILLED, F.REPLACED_OUTSIDE): S.CANCELED,
    (S.PENDING_CANCEL, F.CANCEL_REFUSED): S.PARTIALLY_FILLED,
    (S.PENDING_CANCEL, F.CANCELED): S.CANCELED,
    (S.PENDING_CANCEL, F.REJECTED): S.CANCELED,
    (S.PENDING_CANCEL, F.EXPIRED): S.EXPIRED,
    (S.PENDING_CANCEL, F.COMPLETED): S.FILLED,
    (S.PENDING_CANCEL, F.REPLACED_OUTSIDE): S.CANCELED,
}


@pytest.mark.parametrize(("status", "fact"), [(s, f) for s in (S.PARTIALLY_FILLED, S.PENDING_CANCEL) for f in F])
def test_only_the_listed_facts_move_a_partly_filled_order(status: Status, fact: Fact) -> None:
    if fact in (F.FILLED, F.CLAIMED, *COUNTED):
        return
    step = apply(state(status, 4), Event(fact, 1))
    assert step.state == state(PARTLY.get((status, fact), status), 4)


def test_no_fact_of_the_table_starts_in_a_terminal_state() -> None:
    assert not [(fact, status) for fact, row in TRANSITIONS.items() for status in row if status in TERMINAL]


def test_every_status_is_either_open_or_terminal() -> None:
    assert set(S) == OPEN | TERMINAL
    assert not OPEN & TERMINAL
    assert LIVE < OPEN


# -- CLAIMS ---
@pytest.mark.parametrize("status", [s for s in S if s is not S.QUEUED])
def test_only_a_queued_order_can_be_claimed(status: Status) -> None:
    assert not apply(state(status, attempt_no=1), Event(F.CLAIMED, 2)).changed


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_claim_takes_a_new_attempt_number(number: int) -> None:
    assert not apply(state(S.QUEUED, attempt_no=2), Event(F.CLAIMED, number)).changed
    assert apply(state(S.QUEUED, attempt_no=2), Event(F.CLAIMED, number + 3)).changed


def test_a_claim_makes_its_attempt_the_one_that_speaks() -> None:
    assert after(state(S.QUEUED, attempt_no=1), Event(F.CLAIMED, 2)) == state(S.SUBMITTED, attempt_no=2)


def test_an_order_claimed_twice_is_claimed_once() -> None:
    first = apply(state(S.QUEUED, attempt_no=0), Event(F.CLAIMED, 1))
    again = apply(first.state, Event(F.CLAIMED, 1))
    assert first.changed
    assert not again.changed


# -- FILLS ---
@pytest.mark.parametrize("status", list(S))
def test_the_last_share_fills_the_order_from_every_status(status: Status) -> None:
    assert after(state(status), fill(10)).status is S.FILLED


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("quantity", [3, 10])
def test_a_fill_after_the_end_is_applied_and_flagged(status: Status, quantity: int) -> None:
    step = apply(state(status), fill(quantity))
    assert step.changed
    assert step.late
    assert step.state.filled_quantity == quantity


@pytest.mark.parametrize("status", [S.SUBMITTED, S.ACCEPTED, S.PARTIALLY_FILLED])
def test_part_of_an_order_makes_it_partially_filled(status: Status) -> None:
    step = apply(state(status), fill(3))
    assert step.state == state(S.PARTIALLY_FILLED, 3)
    assert not step.late


def test_a_partial_fill_does_not_end_the_wait_for_a_cancel() -> None:
    assert after(state(S.PENDING_CANCEL), fill(3)) == state(S.PENDING_CANCEL, 3)


def test_a_fill_of_a_queued_order_takes_it_out_of_the_queue() -> None:
    """The attempt that was believed dead lives: nobody may claim the order again."""
    step = apply(state(S.QUEUED, attempt_no=1), fill(3))
    assert step.late
    assert step.state.status is S.PARTIALLY_FILLED
    assert not apply(step.state, Event(F.CLAIMED, 2)).changed


def test_more_than_ordered_is_said_aloud() -> None:
    step = apply(state(S.ACCEPTED, 8), fill(3))
    assert step.overfilled
    assert step.state == state(S.FILLED, 11)
    assert not apply(state(S.ACCEPTED, 8), fill(2)).overfilled


@pytest.mark.parametrize("status", [S.SUBMITTED, S.ACCEPTED, S.QUEUED])
def test_an_order_with_a_fill_is_never_requeued(status: Status) -> None:
    assert not apply(state(status, 1), Event(F.REQUEUED, 1)).changed
    assert not apply(state(status, 1), Event(F.REQUEUED)).changed


# -- ATTEMPTS ---
@pytest.mark.parametrize("fact", [f for f in F if f not in (F.FILLED, F.CLAIMED, *COUNTED)])
@pytest.mark.parametrize("status", sorted(OPEN))
@pytest.mark.parametrize("number", [1, 3])
def test_only_the_current_attempt_moves_the_order(fact: Fact, status: Status, number: int) -> None:
    now = state(status, attempt_no=2)
    assert apply(now, Event(fact, number)) == Step(now, changed=False)


def test_a_fill_of_an_older_attempt_counts_and_is_flagged() -> None:
    step = apply(state(S.ACCEPTED, attempt_no=2), fill(4, attempt_no=1))
    assert step.late
    assert step.state == state(S.PARTIALLY_FILLED, 4, attempt_no=2)


# -- WHATEVER THE ORDER OF THINGS ---
#: What a broker says of one order: accepted, fills of up to ten shares, a cancel on its way, and one end.
ENDS = (F.CANCELED, F.EXPIRED, F.REJECTED, None)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    fills = draw(st.lists(st.integers(1, 5), max_size=4).filter(lambda parts: sum(parts) <= 10))
    facts = [F.ACCEPTED, *draw(st.sampled_from([(), (F.CANCEL_SENT,)]))]
    end = None if sum(fills) == 10 else draw(st.sampled_from(ENDS))
    events = [*(Event(fact, 1) for fact in facts), *(fill(part) for part in fills)]
    return [*events, Event(end, 1)] if end else events


def known(events: list[tuple[int, Event]]) -> list[Event]:
    """Drop the second report of an execution, as the book does by its id."""
    seen: set[int] = set()
    return [e for i, e in events if e.fact is not F.FILLED or not (i in seen or seen.add(i))]


@given(histories(), st.data())
@settings(max_examples=150, deadline=None)
def test_shuffled_and_doubled_reports_converge(history: list[Event], data: st.DataObject) -> None:
    numbered = list(enumerate(history))
    doubled = numbered + data.draw(st.lists(st.sampled_from(numbered), max_size=6))
    shuffled = known(data.draw(st.permutations(doubled)))
    expected, found = after(state(S.SUBMITTED), *history), after(state(S.SUBMITTED), *shuffled)
    assert found.filled_quantity == expected.filled_quantity
    if expected.status in TERMINAL:
        assert found.status is expected.status
    else:
        assert found.status in LIVE


@given(histories(), st.data())
@settings(max_examples=150, deadline=None)
def test_what_is_dropped_and_read_again_converges(history: list[Event], data: st.DataObject) -> None:
    """Some reports are lost, all are read again later, as reconciliation does: nothing shows of the loss."""
    numbered = list(enumerate(history))
    some = data.draw(st.lists(st.sampled_from(numbered), max_size=len(numbered), unique=True))
    expected = after(state(S.SUBMITTED), *history)
    found = after(state(S.SUBMITTED), *known(some + numbered))
    assert found.filled_quantity == expected.filled_quantity
    assert (found.status in TERMINAL) == (expected.status in TERMINAL)
    if expected.status in TERMINAL:
        assert found.status is expected.status


@pytest.mark.parametrize("end", [F.CANCELED, F.EXPIRED, F.REJECTED])
def test_an_end_and_a_partial_fill_lead_to_the_same_state_in_either_order(end: Fact) -> None:
    one_way = after(state(S.ACCEPTED), fill(4), Event(end, 1))
    the_other = after(state(S.ACCEPTED), Event(end, 1), fill(4))
    assert one_way == the_other


@given(histories(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_filled_order_ends_filled_whatever_else_was_said(history: list[Event], data: st.DataObject) -> None:
    rest = TEN - sum(e.quantity for e in history if e.fact is F.FILLED)
    whole = [*history, Event(F.FILLED, 1, rest)] if rest else history
    assert after(state(S.SUBMITTED), *data.draw(st.permutations(whole))).status is S.FILLED


#: Without what moves quantities, and without a broker's word that all is filled: that one ends an order uncounted.
HEARD = [f for f in F if f not in (F.FILLED, F.CLAIMED, F.COMPLETED, *COUNTED)]


class OrderMachine(RuleBasedStateMachine):
    """Any facts, about any attempt, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = State(S.QUEUED, TEN)
        self.before = self.now

    def happen(self, event: Event) -> Step:
        self.before, step = self.now, apply(self.now, event)
        self.now = step.state
        assert step.changed == (self.now != self.before), "a step says whether it changed anything"
        return step

    @rule(ahead=st.integers(-1, 2))
    def claim(self, ahead: int) -> None:
        step = self.happen(Event(F.CLAIMED, self.now.attempt_no + ahead))
        assert step.changed == (self.before.status is S.QUEUED and ahead > 0)

    @rule(fact=st.sampled_from(HEARD), back=st.integers(0, 2))
    def hear(self, fact: Fact, back: int) -> None:
        number = max(self.now.attempt_no - back, 0)
        step = self.happen(Event(fact, number))
        if number not in (0, self.before.attempt_no):
            assert not step.changed, "an older attempt cannot move the order"
        if fact is F.REQUEUED and self.before.filled_quantity:
            assert not step.changed, "an order with a fill never goes back to the queue"

    @precondition(lambda self: self.now.attempt_no)
    @rule(quantity=st.integers(1, 6), back=st.integers(0, 2))
    def trade(self, quantity: int, back: int) -> None:
        number = max(self.now.attempt_no - back, 1)
        step = self.happen(Event(F.FILLED, number, Decimal(quantity)))
        assert self.now.filled_quantity == self.before.filled_quantity + quantity
        assert step.late or (self.before.status in OPEN and number == self.before.attempt_no)
        assert step.overfilled == (self.now.filled_quantity > TEN)

    @invariant()
    def fills_only_add_up(self) -> None:
        assert self.now.filled_quantity >= self.before.filled_quantity
        assert self.now.attempt_no >= self.before.attempt_no
        assert self.now.quantity == TEN

    @invariant()
    def filled_means_filled(self) -> None:
        assert (self.now.status is S.FILLED) == (self.now.filled_quantity >= TEN)

    @invariant()
    def the_end_is_the_end(self) -> None:
        was, is_now = self.before.status, self.now.status
        if was in TERMINAL and is_now is not was:
            # A late fill tells that a "rejected" order had traded in part: it may then read as canceled.
            assert is_now is S.FILLED or (was, is_now) == (S.REJECTED, S.CANCELED)
            assert self.now.filled_quantity > self.before.filled_quantity
        if was is S.FILLED:
            assert is_now is S.FILLED

    @invariant()
    def a_queued_order_has_no_fill(self) -> None:
        if self.now.status is S.QUEUED:
            assert self.now == replace(self.now, filled_quantity=Decimal(0))


TestOrder = OrderMachine.TestCase
TestOrder.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


# -- CORRECTIONS ---
@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("fact", COUNTED)
def test_a_correction_takes_back_shares_and_no_end(status: Status, fact: Fact) -> None:
    step = apply(state(status, 10), Event(fact, 1, Decimal(-4)))
    assert (step.state.status, step.state.filled_quantity) == (status, 6)


@pytest.mark.parametrize(
    ("before", "change", "after_"), [(4, -4, S.ACCEPTED), (4, -1, S.PARTIALLY_FILLED), (4, 6, S.FILLED)]
)
def test_a_correction_of_a_live_order_moves_it_as_its_quantity_says(before: int, change: int, after_: Status) -> None:
    assert after(state(S.PARTIALLY_FILLED, before), Event(F.FILL_CORRECTED, 1, Decimal(change))).status is after_
