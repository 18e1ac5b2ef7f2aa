"""A machine's clocks, moved by hand."""

from __future__ import annotations

from datetime import UTC, datetime

from models.clock import Clocks


class MovedClocks(Clocks):
    """Both clocks of a machine, moved by hand."""

    def __init__(self) -> None:
        self.on_the_wall, self.since_boot = 1_800_000_000.0, 5_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.on_the_wall, UTC)

    def wall(self) -> float:
        return self.on_the_wall

    def elapsed(self) -> float:
        return self.since_boot

    def pass_(self, seconds: float) -> None:
        self.on_the_wall += seconds
        self.since_boot += seconds
