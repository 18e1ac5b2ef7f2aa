"""Named crash points: where tests stop a worker, or a producer, dead, exactly there.

`CORRO_CRASH=before_commit` kills the process with SIGKILL the first time that point is reached; `before_commit:3` the
third time. `CORRO_PAUSE=before_send` stops it with SIGSTOP instead, as a suspended machine would be. Unset, a point
costs a dictionary look-up. A simulation in one process watches the points itself: `with watched(tell): ...`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = {"CORRO_CRASH": signal.SIGKILL, "CORRO_PAUSE": signal.SIGSTOP}


def _armed() -> dict[str, tuple[int, signal.Signals]]:
    """Return the points that the environment names: how often each may still be passed, and what strikes then."""
    armed = {}
    for variable, kind in _SIGNALS.items():
        if value := os.environ.get(variable):
            point, _, count = value.partition(":")
            armed[point] = (int(count or 1), kind)
    return armed


_armed_points: dict[str, tuple[int, signal.Signals]] | None = None


def reached(point: str) -> None:
    """Mark a point in the code where a fault may strike."""
    _strike(point)


@contextmanager
def watched(tell: Callable[[str], None]) -> Iterator[None]:
    """Have `tell` called at every point instead: what it raises ends the step that has come there."""
    global _strike
    before, _strike = _strike, tell
    try:
        yield
    finally:
        _strike = before


def _by_environment(point: str) -> None:
    """Strike where the environment says so."""
    global _armed_points
    if _armed_points is None:
        _armed_points = _armed()
    if point in _armed_points:
        left, kind = _armed_points[point]
        if left <= 1:
            del _armed_points[point]
            # To this very thread: a signal to the process may let this one run on until another has taken it.
            signal.pthread_kill(threading.get_ident(), kind)
        else:
            _armed_points[point] = (left - 1, kind)


_strike: Callable[[str], None] = _by_environment
