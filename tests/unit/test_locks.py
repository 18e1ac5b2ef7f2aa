"""What a reading of positions may conclude, and which orders pass a lock: the tables of worker/positions/locks.py."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vocabulary import Side
from worker.positions.locks import READINGS, Doubt, judge, may_pass

D = Decimal
AFTER = 15.0
BEFORE = Doubt(D(100), READINGS - 1, since=0.0)

#: difference, doubt, restless, complete, now -> verdict, doubt after
TABLE = [
    (D(0), None, False, False, 0.0, "explained", None),
    (D(0), BEFORE, False, True, 99.0, "explained", None),
    (D(0), BEFORE, True, True, 99.0, "wait", BEFORE),
    (D(100), None, False, False, 7.0, "wait", Doubt(D(100), 1, 7.0)),
    (D(100), None, True, True, 7.0, "wait", None),
    (D(100), BEFORE, True, True, 99.0, "wait", BEFORE),
    (D(100), BEFORE, False, False, 99.0, "wait", BEFORE),
    (D(90), BEFORE, False, True, 99.0, "wait", Doubt(D(90), 1, 99.0)),
    (D(100), BEFORE, False, True, AFTER - 0.1, "wait", Doubt(D(100), READINGS, 0.0)),
    (D(100), BEFORE, False, True, AFTER, "lock", Doubt(D(100), READINGS, 0.0)),
    (D(100), Doubt(D(100), 1, 0.0), False, True, 99.0, "wait", Doubt(D(100), 2, 0.0)),
    (D(-100), Doubt(D(-100), READINGS, 0.0), False, True, AFTER, "lock", Doubt(D(-100), READINGS + 1, 0.0)),
]


@pytest.mark.parametrize(("difference", "doubt", "restless", "complete", "now", "verdict", "after"), TABLE)
def test_row(
    difference: Decimal,
    doubt: Doubt | None,
    restless: bool,
    complete: bool,
    now: float,
    verdict: str,
    after: Doubt | None,
) -> None:
    found = judge(difference, doubt, restless=restless, complete=complete, now=now, lock_after=AFTER)
    assert found == (verdict, after)


_READING = st.tuples(
    st.sampled_from([D(0), D(5), D(-5)]),
    st.booleans(),
    st.booleans(),
    st.floats(0, 20),
)


@given(st.lists(_READING, max_size=12))
def test_a_lock_needs_three_quiet_readings_of_one_difference_and_time(
    readings: list[tuple[Decimal, bool, bool, float]],
) -> None:
    """Whatever comes in whatever order: no lock without its proofs."""
    doubt, now = None, 0.0
    same: list[tuple[Decimal, float]] = []
    for difference, restless, complete, pause in readings:
        now += pause
        if not restless:
            counts = difference and (not same or complete)
            if not difference or (same and same[0][0] != difference):
                same = []
                counts = bool(difference)
            if counts:
                same.append((difference, now))
        verdict, doubt = judge(difference, doubt, restless=restless, complete=complete, now=now, lock_after=AFTER)
        if verdict == "lock":
            assert not restless
            assert complete
            assert len(same) >= READINGS
            assert now - same[0][1] >= AFTER
        if verdict == "explained":
            assert not difference


@pytest.mark.parametrize(
    ("side", "quantity", "found", "busy", "passes"),
    [
        (Side.SELL, 100, 100, 0, True),
        (Side.SELL, 101, 100, 0, False),
        (Side.SELL, 100, 100, 1, False),
        (Side.SELL, 1, 0, 0, False),
        (Side.SELL, 1, -5, 0, False),
        (Side.BUY_TO_COVER, 5, -5, 0, True),
        (Side.BUY_TO_COVER, 6, -5, 0, False),
        (Side.BUY_TO_COVER, 5, -5, 2, False),
        (Side.BUY_TO_COVER, 1, 5, 0, False),
        (Side.BUY, 1, -5, 0, False),
        (Side.SELL_SHORT, 1, 5, 0, False),
    ],
)
def test_only_what_makes_the_position_smaller_passes_a_lock(
    side: Side, quantity: int, found: int, busy: int, passes: bool
) -> None:
    assert may_pass(side, D(quantity), D(found), D(busy)) is passes
