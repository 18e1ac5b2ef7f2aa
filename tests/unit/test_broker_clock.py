"""A broker's clock, known from whole seconds in the Date of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.brokers.broker_clock import Age, BrokerClock, Span, age

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def answered(clock: BrokerClock, asked: float, took: float, ahead: float) -> None:
    """Have an answer come whose Date was written halfway, by a clock that is so far ahead of ours."""
    told = at(asked + took / 2 + ahead).replace(microsecond=0)
    clock.hear(format_datetime(told, usegmt=True), at(asked), at(asked + took))


def test_a_clock_that_no_answer_has_told_is_not_known() -> None:
    clock = BrokerClock()
    for date in (None, "", "today", "Mon, 99 Nov 2026 12:00:00 GMT", "0", "\x00"):
        clock.hear(date, at(0), at(0))
    assert clock.read(NOON) is None


times = st.floats(0, 90, allow_nan=False)


@given(st.lists(st.tuples(times, st.floats(0, 2)), min_size=1, max_size=60), st.floats(-9000, 9000), times)
def test_the_true_time_always_lies_between(asked: Sequence[tuple[float, float]], ahead: float, moment: float) -> None:
    clock = BrokerClock()
    for begun, took in sorted(asked):
        answered(clock, begun, took, ahead)
    span = clock.read(at(moment))
    assert span is not None
    slack = timedelta(milliseconds=1)
    assert span.earliest - slack <= at(moment + ahead) <= span.latest + slack


@pytest.mark.parametrize("ahead", [0.0, 3.7, -61.2])
def test_answers_at_many_moments_tell_it_within_the_time_that_one_takes(ahead: float) -> None:
    clock = BrokerClock()
    for number in range(60):
        answered(clock, number * 1.07, 0.05, ahead)
    span = clock.read(at(30))
    assert span is not None
    assert span.latest - span.earliest < timedelta(seconds=0.2)


def test_a_clock_that_was_set_is_read_from_what_came_after_it() -> None:
    clock = BrokerClock()
    for number in range(10):
        answered(clock, number, 0.01, 0)
    answered(clock, 10, 0.01, -3600)
    span = clock.read(at(10))
    assert span is not None
    assert span.latest < at(-3000)


def test_what_a_thousand_answers_of_a_second_told_is_not_forgotten() -> None:
    clock = BrokerClock()
    answered(clock, 0.95, 0.01, 0)
    answered(clock, 1.02, 0.01, 0)
    for number in range(1000):
        answered(clock, 1.1 + number / 2000, 0.01, 0)
    span = clock.read(at(1))
    assert span is not None
    assert span.latest - span.earliest < timedelta(seconds=0.15)


@pytest.mark.parametrize(
    ("entered", "sent", "seen"),
    [
        (None, (0.5, 0.6), Age.OPEN),
        (0.0, (0.5, 0.6), Age.SINCE),  # whole seconds: of the same one
        (-1.0, (0.5, 0.6), Age.BEFORE),
        (0.0, (0.98, 1.02), Age.SINCE),  # ours may have been entered before the second was over
        (0.0, (0.98, 1.98), Age.OPEN),  # known to no second: somebody else's may be as young
        (1.0, (0.98, 1.98), Age.SINCE),
        (-1.0, (0.98, 1.02), Age.BEFORE),
        (-2.0, (0.98, 1.98), Age.BEFORE),
    ],
)
def test_an_order_is_from_before_a_send_or_since_then_to_the_second(
    entered: float | None, sent: tuple[float, float], seen: Age
) -> None:
    span = Span(at(sent[0]), at(sent[1]))
    assert age(None if entered is None else at(entered), span, at(0.98)) is seen


def test_an_order_that_is_late_by_our_clock_alone_may_be_ours() -> None:
    """Our clock was set back after the send: what it says of the send is not what the broker's says."""
    assert age(at(-3), Span(at(0.5), at(0.6)), at(-5)) is Age.OPEN
