"""How far back a reading goes, and how often what stays open is asked for again: pure, and bounded in requests.

A reading goes back to the last complete one, less an overlap: neither the age of the oldest order nor the length of the
history makes it longer. Only the first one of a process goes the long way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable
from datetime import datetime, timedelta

#: Executions are read again this far behind the last complete reading; they dedupe by their ids.
OVERLAP = timedelta(minutes=5)


class Window:
    """Since when executions are read.

    Args:
        lookback: how far back the broker can be asked; None where it does not limit that.
    """

    def __init__(self, lookback: timedelta | None) -> None:
        self.lookback = lookback
        self._complete: datetime | None = None
        #: Somebody asked for a reading from here on; None: the last complete one will do.
        self._wanted: datetime | None = None

    @property
    def is_first(self) -> bool:
        """No reading of this process has been complete yet."""
        return self._complete is None

    @property
    def is_wanted(self) -> bool:
        """A reading is asked for that goes further back than usual."""
        return self._wanted is not None

    def want(self, since: datetime) -> None:
        """Ask for the next reading to go back to a time."""
        self._wanted = min(since, self._wanted or since)

    def done(self, begun: datetime) -> None:
        """Remember a complete reading by when it was begun."""
        self._complete, self._wanted = begun, None

    def since(self, long_way: datetime, now: datetime) -> datetime:
        """Return the time from which to read.

        Args:
            long_way: where the first reading begins.
            now: the time of the reading.
        """
        usual = (self._complete or long_way) - OVERLAP
        return self.capped(min(usual, (self._wanted or now) - OVERLAP), now)

    def capped(self, since: datetime, now: datetime) -> datetime:
        """Return a time that the broker can be asked about."""
        return since if self.lookback is None else max(since, now - self.lookback)


class Patience:
    """Asks again after pauses that double, and from the beginning when something new is open.

    Args:
        first: the first pause, seconds.
        longest: the longest one, seconds.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._pause, self._due = first, 0.0
        self._known: frozenset[str] = frozenset()

    def is_due(self, open_: Collection[str], now: float) -> bool:
        """Tell whether to ask about what is open, and count it as asked.

        Args:
            open_: ids of what is open.
            now: on the elapsed clock, seconds.
        """
        if not open_:
            self._known = frozenset()
            return False
        if not self._known.issuperset(open_):
            self._pause, self._due = self._first, now
        self._known = frozenset(open_)
        if now < self._due:
            return False
        self._due, self._pause = now + self._pause, min(self._pause * 2, self._longest)
        return True


class Pauses:
    """Pauses of many things that are each asked for in vain, doubled with each time.

    Args:
        first: the first pause, seconds.
        longest: the longest one, seconds.
        most: things remembered; of more, those asked for longest ago begin anew.
    """

    def __init__(self, first: float, longest: float, most: int = 10_000) -> None:
        self._first, self._longest, self._most = first, longest, most
        #: How often each was asked for in vain, and when it is due again.
        self._asked: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def is_over(self, key: Hashable, now: float) -> bool:
        """Tell whether a thing may be asked for again; `now` is on the elapsed clock, seconds."""
        return now >= self._asked.get(key, (0, 0.0))[1]

    def begin(self, key: Hashable, now: float) -> None:
        """Count a thing as asked for."""
        times = self._asked.pop(key, (0, 0.0))[0] + 1
        self._asked[key] = (times, now + pause_after(times, self._first, self._longest))
        if len(self._asked) > self._most:
            self._asked.popitem(last=False)


def pause_after(times: int, first: float, longest: float) -> float:
    """Return the pause after a number of looks in vain, seconds: the first one doubled with each."""
    return min(first * float(2 ** min(times - 1, 20)), longest)
