"""Time for leases: wall time for what is shared through the database, elapsed time for what this process promised."""

from __future__ import annotations

import time
from datetime import UTC, datetime

#: Counts on while the machine sleeps, unlike CLOCK_MONOTONIC; not every system has it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def utcnow() -> datetime:
    """Return the current wall time, aware, UTC."""
    return datetime.now(UTC)


def elapsed() -> float:
    """Return seconds on a clock that never jumps and does not stop when the machine is suspended."""
    return time.clock_gettime(_CLOCK)


class Stopwatch:
    """How old a promise is, by both clocks: a pause shows in one of them, a jump of the wall clock in the other."""

    __slots__ = ("_elapsed", "_wall")

    def __init__(self) -> None:
        self._elapsed, self._wall = elapsed(), time.time()

    def age(self) -> float:
        """Return the age in seconds: the larger of the two clocks' answers, and infinite if the wall went back."""
        wall = time.time() - self._wall
        return max(elapsed() - self._elapsed, wall if wall > -1.0 else float("inf"))
