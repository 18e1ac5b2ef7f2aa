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
#: Fields that say which row one is.
_IDS = ("id", "client_order_id", "order_id", "symbol")


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

    def readable(
        self, what: str, rows: Iterable[V], read: Callable[[V], T], *, one_may_be_odd: bool = False
    ) -> list[T]:
        """Read the rows that can be read, and tell of the others.

        Args:
            what: a row is.
            rows: of a listing.
            read: reads one.
            one_may_be_odd: a single row that cannot be read is an odd row; else the listing of nothing else is odd.

        Raises:
            ValueError: none of them can be: then it is the listing that cannot.
        """
        found: list[T] = []
        lost: list[tuple[V, Exception]] = []
        for row in rows:
            try:
                found.append(read(row))
            except UNREADABLE as error:
                lost.append((row, error))
        if not found and len(lost) > one_may_be_odd:
            raise ValueError(f"no {what} can be read: {trouble(lost[0][1])}")
        for row, why in lost:
            self.note(named(what, row), why)
        return found


def named(what: str, row: object) -> str:
    """Return what a row is called: by the ids it has, else by its beginning."""
    ids = [f"{key} {str(row[key])[:80]}" for key in _IDS if row.get(key) is not None] if isinstance(row, dict) else []
    return f"{what} ({', '.join(ids)})" if ids else f"{what} {str(row)[:100]}"
