"""Orders that a thread of this process is dealing with, so that another one that has found them as well leaves them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from worker.runtime.clock import elapsed

#: Nobody looks for longer before he takes orders up.
_KEPT_S = 60.0


class UnderWay:
    """Orders by their ids; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = set[str]()
        #: When somebody was done with an order, by its id; the latest at the end.
        self._done: OrderedDict[str, float] = OrderedDict()

    @contextmanager
    def taken(self, ids: Collection[str], looked_at: float) -> Iterator[set[str]]:
        """Take those orders that nobody else has taken since a look, for the length of the block.

        Args:
            ids: found by the look.
            looked_at: before the look, by `worker.runtime.clock.elapsed`: what was done since may not be seen in it.
        """
        with self._lock:
            mine = {id_ for id_ in ids if id_ not in self._now and self._done.get(id_, looked_at) <= looked_at}
            self._now |= mine
        try:
            yield mine
        finally:
            with self._lock:
                self._now -= mine
                self._end(mine, elapsed())

    def _end(self, ids: Collection[str], now: float) -> None:
        for id_ in ids:
            self._done[id_] = now
            self._done.move_to_end(id_)
        while self._done and now - next(iter(self._done.values())) > _KEPT_S:
            self._done.popitem(last=False)
