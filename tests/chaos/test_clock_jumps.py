"""Clocks that jump and machines that sleep: a claim may look older than it is, never younger."""

from __future__ import annotations

import itertools
import math

import pytest

from tests.kit.clocks import MovedClocks
from worker.runtime.clock import Stopwatch


@pytest.fixture
def clocks() -> MovedClocks:
    return MovedClocks()


def test_time_that_passes_shows_in_full(clocks: MovedClocks) -> None:
    watch = Stopwatch(clocks)
    clocks.pass_(3.5)
    assert watch.age() == pytest.approx(3.5)


def test_a_wall_clock_set_forward_ages_the_claim(clocks: MovedClocks) -> None:
    watch = Stopwatch(clocks)
    clocks.on_the_wall += 3600
    assert watch.age() == pytest.approx(3600)


def test_a_wall_clock_set_back_makes_the_claim_too_old_to_send(clocks: MovedClocks) -> None:
    watch = Stopwatch(clocks)
    clocks.pass_(1)
    clocks.on_the_wall -= 3600  # our lease, written by the wall clock, may be over for the others
    assert watch.age() == math.inf


def test_a_slewing_wall_clock_does_not_frighten_anybody(clocks: MovedClocks) -> None:
    watch = Stopwatch(clocks)
    clocks.pass_(2)
    clocks.on_the_wall -= 0.2
    assert watch.age() == pytest.approx(2)


def test_a_suspended_machine_ages_its_claims(clocks: MovedClocks) -> None:
    watch = Stopwatch(clocks)
    clocks.since_boot += 600  # CLOCK_BOOTTIME counts on; the wall clock is not corrected yet
    assert watch.age() == pytest.approx(600)


def test_no_sequence_of_jumps_makes_a_claim_younger_than_it_is(clocks: MovedClocks) -> None:
    jumps = (0.0, 5.0, -5.0, 3600.0, -3600.0)
    for sequence in itertools.product(jumps, repeat=3):
        watch, passed = Stopwatch(clocks), 0.0
        for jump in sequence:
            clocks.pass_(1.0)
            passed += 1.0
            clocks.on_the_wall += jump
            assert watch.age() >= passed - 1e-6, sequence
