"""The clocks of the machine: wall time for what is shared, elapsed time for what one process promises to itself.

Whoever reads the time here reads what a simulation makes it: `with ticking(clocks): ...`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

#: Counts on while the machine sleeps, unlike CLOCK_MONOTONIC; not every system has it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clocks:
    """Both clocks of a machine; a subclass may tell another time."""

    def now(self) -> datetime:
        """Return the wall time, aware, UTC."""
        return datetime.now(UTC)

    def wall(self) -> float:
        """Return the wall time, seconds since 1970."""
        return time.time()

    def elapsed(self) -> float:
        """Return seconds on a clock that never jumps and does not stop when the machine is suspended."""
        return time.clock_gettime(_CLOCK)


_clocks = Clocks()


def clocks() -> Clocks:
    """Return the clocks that are read."""
    return _clocks


def utcnow() -> datetime:
    """Return the current wall time, aware, UTC."""
    return _clocks.now()


def elapsed() -> float:
    """Return seconds on a clock that never jumps and does not stop when the machine is suspended."""
    return _clocks.elapsed()


@contextmanager
def ticking(others: Clocks) -> Iterator[None]:
    """Let this process read other clocks for a while."""
    global _clocks
    before, _clocks = _clocks, others
    try:
        yield
    finally:
        _clocks = before
