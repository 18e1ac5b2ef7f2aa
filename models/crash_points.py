"""Named crash points: where tests stop a worker, or a producer, dead, exactly there.

`CORRO_CRASH=before_commit` kills the process with SIGKILL the first time that point is reached; `before_commit:3` the
third time. `CORRO_PAUSE=before_send` stops it with SIGSTOP instead, as a suspended machine would be. Unset, a point
costs a dictionary look-up.
"""

from __future__ import annotations

import os
import signal
import threading

_SIGNALS = {"CORRO_CRASH": signal.SIGKILL, "CORRO_PAUSE": signal.SIGSTOP}


def _armed() -> dict[str, tuple[int, signal.Signals]]:
    armed = {}
    for variable, kind in _SIGNALS.items():
        if value := os.environ.get(variable):
            point, _, count = value.partition(":")
            armed[point] = (int(count or 1), kind)
    return armed


_armed_points: dict[str, tuple[int, signal.Signals]] | None = None


def reached(point: str) -> None:
    """Mark a point in the code where a fault may strike."""
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
