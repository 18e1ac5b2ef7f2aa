"""A lane to a broker: how many requests go at once, and how many orders may be claimed for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext

from worker.orders.selection import Selection
from worker.runtime.clock import elapsed

#: Makes so many threads of a name.
Threads = Callable[[int, str], Executor]
#: How much the last request counts in how long one takes.
_WEIGHT = 0.2
#: Before the first request is through: so many for each place.
_ROUNDS = 8
#: Shares of several orders at once: one is claimed while another is sent. More take the interpreter from each other.
_AT_ONCE = 2
#: So long a share waits for its turn, seconds: orders that hang at their broker do not hold up those of other shares.
_TURN_S = 0.25


class Lane:
    """So many requests at once; a single one need not change threads.

    A claim is good for seconds. Orders that are claimed for a slow broker and have to wait longer than that are given
    back and claimed again, each time with an attempt that nothing came of. So only as many are claimed as can be sent
    meanwhile, by how long the last requests took; the others stay queued. Shares of several orders take turns.

    Args:
        name: of its threads.
        most: as many as the broker takes from one worker.
        threads: makes them.
    """

    def __init__(self, name: str, most: int, threads: Threads) -> None:
        self.most = most
        self.threads = threads(most, name)
        self._places = threading.BoundedSemaphore(most)
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._changed = threading.Condition()
        #: Orders that a share was given for and that are not through yet.
        self._ahead = 0
        #: How long a request takes, seconds; None before the first.
        self._takes: float | None = None

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for the length of a request."""
        with self._places:
            began = elapsed()
            try:
                yield
            finally:
                took = elapsed() - began
                self._takes = took if self._takes is None else self._takes + _WEIGHT * (took - self._takes)

    def shares(self, which: Selection, within_s: float) -> Iterator[Selection]:
        """Split the orders that a selection names into shares that can be sent in time; the next when there is room.

        A share takes half of the room at most, so that another is ready when it is through.

        Args:
            which: orders; those that nobody has named are one share.
            within_s: in how many seconds the last order of a share has to be on its way; also how long a share waits
                for room.
        """
        left = list(which.ids)
        if not left:
            with self._turn():
                yield which
        while left:
            size = self._enter(len(left), within_s)
            share, left = left[:size], left[size:]
            try:
                with self._turn() if size > 1 else nullcontext():
                    yield which.only(share) if left or size < len(which.ids) else which
            finally:
                self._leave(size)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the turn of several orders, though not for ever; a single order needs none, as nobody is quicker."""
        has_turn = self._turns.acquire(timeout=_TURN_S)
        try:
            yield
        finally:
            if has_turn:
                self._turns.release()

    def room(self, within_s: float) -> int:
        """Return how many orders can be sent in so many seconds: one for each place at least."""
        rounds = within_s / self._takes if self._takes else _ROUNDS
        return self.most * max(2, int(rounds))

    def _enter(self, wanted: int, within_s: float) -> int:
        with self._changed:
            size = min(wanted, self.room(within_s) // 2)
            self._changed.wait_for(lambda: self._ahead + size <= self.room(within_s), within_s)
            self._ahead += size
            return size

    def _leave(self, size: int) -> None:
        with self._changed:
            self._ahead -= size
            self._changed.notify_all()
