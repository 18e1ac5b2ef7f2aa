"""Rows of a broker that nobody can read: skipped, and said once with their ids, so that one such row closes nothing."""

from __future__ import annotations

from collections.abc import Callable

from worker.runtime.said import Said

#: Rows remembered as told; beyond them the oldest is told again.
_MOST = 10_000


class Oddities:
    """Tells of the unreadable rows of one broker.

    Args:
        broker: name from the settings.
        clean: every text passes it before it is logged, or told in a report.
    """

    def __init__(self, broker: str, clean: Callable[[str], str] = str) -> None:
        self.clean, self._said = clean, Said(broker, most=_MOST)

    def note(self, row: str, why: object) -> None:
        """Say that a row cannot be read.

        Args:
            row: its kind and ids, such as `order 1000436258264`; the same row has the same words the next time.
            why: the error, or words.
        """
        row = self.clean(row)
        self._said.once("unreadable_row", row, row=row, why=self.clean(str(why))[:300])
