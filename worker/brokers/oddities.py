"""What a broker sent and nobody can read: skipped, and said once with its ids, so that one such row closes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

_log = structlog.get_logger(__name__)

#: How many rows are remembered as told; beyond them the oldest is told again.
_MOST = 10_000


class Oddities:
    """Remembers which unreadable rows of one broker were told of.

    Args:
        broker: name from the settings.
        clean: what every text passes before it is logged, or told in a report.
    """

    def __init__(self, broker: str, clean: Callable[[str], str] = str) -> None:
        self._log, self.clean = _log.bind(broker=broker), clean
        self._told: dict[str, None] = {}
        self._lock = threading.Lock()

    def note(self, row: str, why: object) -> None:
        """Say that a row cannot be read.

        Args:
            row: its kind and ids, such as `order 1000436258264`; what is the same row the next time has the same words.
            why: the error, or words.
        """
        row = self.clean(row)
        with self._lock:
            if row in self._told:
                return
            self._told[row] = None
            if len(self._told) > _MOST:
                del self._told[next(iter(self._told))]
        self._log.warning("unreadable_row", row=row, why=self.clean(str(why))[:300])
