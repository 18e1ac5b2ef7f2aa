"""Rows of a broker that nobody can read: skipped, and said once with their ids, so that one such row closes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from models.troubles import trouble
from worker.brokers.values import UNREADABLE
from worker.runtime.said import Said

V = TypeVar("V")
T = TypeVar("T")

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
        self._said.once("unreadable_row", row, row=row, why=self.clean(trouble(why)))

    def readable(self, what: str, rows: Iterable[V], read: Callable[[V], T]) -> list[T]:
        """Read the rows that can be read, and tell of the others.

        Raises:
            ValueError: none of them can be: then it is the listing that cannot.
        """
        found: list[T] = []
        lost: list[tuple[str, Exception]] = []
        for row in rows:
            try:
                found.append(read(row))
            except UNREADABLE as error:
                lost.append((f"{what} {str(row)[:100]}", error))
        if lost and not found:
            raise ValueError(f"no {what} can be read: {trouble(lost[0][1])}")
        for row_, why in lost:
            self.note(row_, why)
        return found
