"""Time for leases: wall time for what is shared through the database, elapsed time for what this process promised."""

from __future__ import annotations

import structlog

from models.clock import Clocks, clocks
from models.clock import elapsed as elapsed
from models.clock import utcnow as utcnow

log = structlog.get_logger()


class Stopwatch:
    """How old a promise is, by both clocks: a pause shows in one of them, a jump of the wall clock in the other."""

    __slots__ = ("_clocks", "_elapsed", "_wall")

    def __init__(self, read: Clocks | None = None) -> None:
        self._clocks = read or clocks()
        self._elapsed, self._wall = self._clocks.elapsed(), self._clocks.wall()

    def age(self) -> float:
        """Return the age in seconds: the larger of the two clocks' answers, and infinite if the wall went back."""
        wall = self._clocks.wall() - self._wall
        return max(self._clocks.elapsed() - self._elapsed, wall if wall > -1.0 else float("inf"))


class StepWatch:
    """Notices that the wall clock was set: what was written before and what is read after cannot be subtracted then.

    Args:
        calm_s: seconds of doubt after a step; everything that was under way then has ended by the time they are over.
        hint: for the log: what is not done meanwhile.
    """

    #: Seconds by which the two clocks may part between two looks: slewing is slower, setting a clock is faster.
    TOLERANCE_S = 1.0

    def __init__(self, calm_s: float, hint: str = "no absence is concluded for a while") -> None:
        self._calm_s, self._hint = calm_s, hint
        self._apart = clocks().wall() - elapsed()
        self._doubtful_until = 0.0

    def look(self) -> bool:
        """Compare the clocks; tells whether the wall clock was set since the last look."""
        apart = clocks().wall() - elapsed()
        step, self._apart = apart - self._apart, apart
        if abs(step) <= self.TOLERANCE_S:
            return False
        self._doubtful_until = elapsed() + self._calm_s
        log.warning("clock_stepped", seconds=round(step, 1), hint=self._hint)
        return True

    def doubtful(self) -> bool:
        """Tell whether ages by the wall clock may be wrong: it was set a short while ago."""
        self.look()
        return elapsed() < self._doubtful_until
