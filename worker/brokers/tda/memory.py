"""Which orders of an account can have changed since a time, without reading its whole history again and again.

Neither broker lists what has changed, or what is open: a listing is a window of entry times, at most a year (Schwab) or
sixty days (TDA) back, with or without one status. So everything is read once, and from then on

* what was entered since the newest order seen, with an overlap: one request;
* what was open before: one request for each status that such orders have;
* what is in none of these any more, or is a group of which only a part is done: by its id, or all in one window.

The number of requests depends neither on the age of the oldest order nor on the length of the history.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from models.messages import utcnow
from models.reports import DONE
from worker.brokers.tda.reports import is_settled, status_of
from worker.brokers.tda.shapes import closed, entered, flat, legs, order_id
from worker.brokers.values import Raw

#: Entry times are compared with each other, never with our clock, and listings lag.
OVERLAP = timedelta(minutes=10)
#: Executions of an order that is done are waited for this long.
SETTLES_WITHIN = timedelta(minutes=15)
#: Ended orders are kept this long, and at most so many, for whoever asks for changes.
KEPT_FOR, MOST_KEPT = timedelta(hours=24), 3000
#: More orders than this are read in one window instead of one by one.
SINGLY = 4
_SECOND = timedelta(seconds=1)
_CLOCKS_DIFFER = timedelta(days=1)
#: A listing reaches this far beyond our clock: the broker's may be ahead.
_AHEAD = timedelta(seconds=5)

#: Lists the orders entered in a window, of one status or of all.
Listing = Callable[[datetime, datetime, str | None], list[Raw]]


class OrderMemory:
    """The orders of one account that can still change, and those that ended lately.

    Args:
        listing: reads a window, whole; raises if that fails, and then nothing is remembered.
        by_id: reads one order; None if the broker does not know it.
        lookback: how old an order may be to be listed at all.
    """

    def __init__(self, listing: Listing, by_id: Callable[[str], Raw | None], lookback: timedelta) -> None:
        self._listing, self._by_id, self._lookback = listing, by_id, lookback
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Begin anew: the next reading takes the long way."""
        self._open: dict[str, Raw] = {}
        self._ended: dict[str, tuple[datetime, Raw]] = {}
        self._newest: datetime | None = None
        self._complete_from: datetime | None = None
        self._wanted: datetime | None = None

    def read(self, since: datetime | None = None) -> list[Raw]:
        """Return every order that is open, or has ended since a time, the outermost ones; None asks for the open ones.

        Raises:
            BrokerError: they could not be read.
        """
        with self._lock:
            now = utcnow()
            if since is not None:
                self._wanted = since
                if self._complete_from is None or since < self._complete_from:
                    self._newest = None  # as much was not kept: the long way, once
            self._remember(self._fresh(now), now)
            if since is None:
                return list(self._open.values())
            ended = [row for at, row in self._ended.values() if at >= since]
            return [*self._open.values(), *ended]

    # -- READ ---
    def _fresh(self, now: datetime) -> dict[str, Raw]:
        """Read what may be new since the last look, and each order that was open then."""
        horizon = now - self._lookback
        first = horizon if self._newest is None else max(self._newest - OVERLAP, horizon)
        rows = _by_id(self._listing(first, now + _AHEAD, None))
        if self._newest is None:
            return rows
        # One whose id cannot be read cannot be asked for: whichever listing shows it, shows it anew.
        named = {key: row for key, row in self._open.items() if order_id(row) is not None}
        older = {key: row for key, row in named.items() if key not in rows and (entered(row) or first) > horizon}
        for status in sorted({word for row in older.values() if (word := _filter_word(row)) is not None}):
            begins = [entered(row) or horizon for row in older.values() if _filter_word(row) == status]
            rows |= _by_id(self._listing(min(begins) - _SECOND, first, status))
        left = {key: row for key, row in older.items() if key not in rows}
        if len(left) > SINGLY:
            listed = _by_id(self._listing(min(entered(row) or horizon for row in left.values()) - _SECOND, first, None))
            return rows | {key: row for key, row in listed.items() if key in left}
        for key in left:
            if (row := self._by_id(key)) is not None:
                rows[key] = row
        return rows

    # -- REMEMBER ---
    def _remember(self, rows: dict[str, Raw], now: datetime) -> None:
        """Keep what is still open, and for a while what has ended."""
        is_long_way = self._newest is None
        self._open = {key: row for key, row in rows.items() if not _is_over(row, now)}
        for key, row in rows.items():
            if key in self._open:
                self._ended.pop(key, None)
                continue
            # An order that the long way shows ended at its closeTime; a new one ended after the last look.
            told = closed(row) if is_long_way else None
            known = self._ended.get(key)
            self._ended[key] = (known[0] if known else told or now, row)
        floor = min(now - KEPT_FOR, self._wanted or now)
        kept = sorted((one for one in self._ended.items() if one[1][0] >= floor), key=lambda one: one[1][0])
        self._ended = dict(kept[-MOST_KEPT:])
        begins = floor if is_long_way or self._complete_from is None else max(self._complete_from, floor)
        dropped = len(kept) > MOST_KEPT
        self._complete_from = max(begins, kept[-MOST_KEPT][1][0]) if dropped else begins
        found = [at for row in rows.values() if (at := entered(row)) is not None]
        # Clocks differ by less than a day: every order that was entered earlier has been read.
        self._newest = max([*found, self._newest or now - self._lookback, now - _CLOCKS_DIFFER])


def _by_id(rows: Iterable[Raw]) -> dict[str, Raw]:
    return {order_id(row) or f"?{id(row)}": row for row in rows}


def _filter_word(row: Raw) -> str | None:
    """Return the status to list an order by; None where it has to be read by its id: a group may be half done."""
    word = row.get("status")
    return word if isinstance(word, str) and word.replace("_", "").isalpha() and status_of(row) not in DONE else None


def _is_over(row: Raw, now: datetime) -> bool:
    """Tell whether nothing of an order, or of the orders inside it, can change any more."""
    return all(_has_ended(one, now) for one in flat([row]))


def _has_ended(row: Raw, now: datetime) -> bool:
    if status_of(row) not in DONE:
        return False
    ended = closed(row)
    is_old = ended is None or now - ended > SETTLES_WITHIN
    return is_old or not legs(row) or is_settled(row)
