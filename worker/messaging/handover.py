"""Rings are handed to threads that claim and send by the thread that reads the queue: none becomes a Celery request.

All that a ring asks is in the database, so what Celery does for a message (a request of its own, prefetching, an
acknowledgement) is done for nothing. A ring that finds these threads busy takes Celery's way after all: what waits is
then gathered into large claims, and reading stops when Celery's hands are full.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

#: So many at once, beside those of Celery's pool.
THREADS = 2

Bodies = Sequence[Mapping[str, object]]
Begin = Callable[[str, Bodies], bool]


class Handover:
    """The way past Celery; thread-safe, and closed until `start`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._begin: Begin | None = None
        self._busy = 0
        self._left: list[tuple[str, Bodies]] = []

    @property
    def is_busy(self) -> bool:
        """Whether a ring is being worked on: those that come meanwhile may as well come together."""
        return self._busy > 0

    def start(self, begin: Begin) -> None:
        """Take rings from now on.

        Args:
            begin: claims and sends the orders that rang in a queue; False: it has not begun, as the process ends.
        """
        self._begin, self._threads = begin, ThreadPoolExecutor(THREADS, thread_name_prefix="ring")

    def offer(self, queue: str, bodies: Bodies) -> bool:
        """Hand over the orders of a ring; False where they have to take Celery's way."""
        with self._lock:
            if self._threads is None or self._busy == THREADS:
                return False
            self._busy += 1
            self._threads.submit(self._run, queue, bodies)
        return True

    def _run(self, queue: str, bodies: Bodies) -> None:
        assert self._begin is not None
        try:
            if not self._begin(queue, bodies):
                self._left.append((queue, bodies))
        finally:
            with self._lock:
                self._busy -= 1

    def stop(self) -> list[tuple[str, Bodies]]:
        """Take no more, wait for what was begun, and return what was not."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True)
        left, self._left = self._left, []
        return left


#: Of this process: the transport offers, the engine takes.
handover = Handover()
