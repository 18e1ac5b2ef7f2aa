"""What many ask at once is read once: twenty open pages cost the database what one does."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Seconds for which a reading is good; where it took long, so much longer that no more of all time goes into it than
#: this, up to a minute.
FRESH_S, _SHARE, _MOST_S = 2.0, 0.01, 60.0
#: Readings that are remembered; the one that nobody has asked for longest goes.
_MOST = 32


class Cached(Generic[T]):
    """One value for everybody who asks within some seconds; who asks while it is read waits for it. Thread-safe.

    Args:
        seconds: how long it is good for.
        share: of all time, what reading it may take; so it is good for longer where that takes long.
    """

    def __init__(self, seconds: float, share: float = 1.0) -> None:
        self._seconds, self._share, self._lock = seconds, share, threading.Lock()
        self._found: tuple[T] | None = None
        self._begun = self._good_until = 0.0
        self._failed: tuple[float, Exception] | None = None
        self._made_of: object = None

    def get(self, read: Callable[[], T], *, anew: bool = False, made_of: object = None) -> T:
        """Return it.

        Args:
            read: makes it; what it raises, those who have waited for it meet, too: nobody waits for a sick database in
                turn.
            anew: what was read before this call will not do.
            made_of: another reading that it is made of; one that was made of an earlier one will not do.
        """
        asked = time.monotonic()
        with self._lock:
            if self._failed is not None and self._failed[0] > asked:
                raise self._failed[1]
            is_old = asked > self._good_until or made_of is not self._made_of or (anew and self._begun < asked)
            if self._found is None or is_old:
                self._found, self._made_of = (self._make(read),), made_of
            return self._found[0]

    def _make(self, read: Callable[[], T]) -> T:
        self._begun = time.monotonic()
        try:
            value = read()
        except Exception as error:
            self._failed = time.monotonic(), error
            raise
        took = time.monotonic() - self._begun
        self._good_until = self._begun + max(self._seconds, min(took / self._share, _MOST_S))
        return value

    def forget(self) -> None:
        """Have it read anew: something was changed."""
        with self._lock:
            self._found = None


class Shared:
    """Readings by what was asked for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readings: OrderedDict[str, Cached[Any]] = OrderedDict()

    def get(self, key: str, read: Callable[[], T], *, anew: bool, made_of: object = None) -> T:
        """Return a reading.

        Args:
            key: whoever asks with the same gets the same.
            read: makes it.
            anew: as for `Cached.get`: somebody has come, or come back, to see what is now.
            made_of: as for `Cached.get`.
        """
        with self._lock:
            found = self._readings.setdefault(key, Cached(FRESH_S, _SHARE))
            self._readings.move_to_end(key)
            if len(self._readings) > _MOST:
                self._readings.popitem(last=False)
        value: T = found.get(read, anew=anew, made_of=made_of)
        return value

    def forget(self) -> None:
        """Have everything read anew: something was changed."""
        with self._lock:
            self._readings.clear()
