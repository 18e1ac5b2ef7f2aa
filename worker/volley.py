"""Several orders on their way to a broker at once, and their answers as they come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

from models.errors import BrokerError
from models.reports import OrderReport
from worker.claiming import Claimed

Answer = OrderReport | BrokerError
#: While others are on their way, answers are gathered this long, seconds: a few commits instead of one for each.
_GATHER_S = 0.02
#: A broker that answers at once needs one thread: each more costs changes between them. Twice as many every so often.
_GROW_S = 0.001


class Volley:
    """Sends orders by several threads; iterate over it for the answers, some at a time.

    Args:
        claimed: the orders.
        send: sends one; called by several threads at once.
        threads: where they run.
        most: how many may send at once.
    """

    def __init__(
        self, claimed: Sequence[Claimed], send: Callable[[Claimed], Answer], threads: Executor, most: int
    ) -> None:
        self._send, self._threads, self._most = send, threads, min(most, len(claimed))
        self._waiting, self._total = deque(claimed), len(claimed)
        self._answers = deque[tuple[Claimed, Answer | BaseException]]()
        self._count = 0
        self._lock, self._some, self._all = threading.Lock(), threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[list[tuple[Claimed, Answer]]]:
        """Send, and hand over what came back; an exception that is no answer goes on to the caller."""
        lines, left = 0, self._total
        while left:
            for _ in range(min(max(lines, 1), self._most - lines)):
                self._threads.submit(self._run)
                lines += 1
            if self._some.wait(_GROW_S if lines < self._most else None):
                self._all.wait(_GATHER_S)
                self._some.clear()
                came = self._take()
                left -= len(came)
                if came:
                    yield came

    def _run(self) -> None:
        while self._waiting:
            try:
                one = self._waiting.popleft()
            except IndexError:
                return  # another thread took the last one
            try:
                self._put(one, self._send(one))
            except BaseException as end:  # this thread ends, and so does who waits for it
                self._put(one, end)
                raise

    def _put(self, one: Claimed, answer: Answer | BaseException) -> None:
        self._answers.append((one, answer))
        with self._lock:
            self._count += 1
            whole = self._count == self._total
        if whole:
            self._all.set()
        self._some.set()

    def _take(self) -> list[tuple[Claimed, Answer]]:
        found: list[tuple[Claimed, Answer]] = []
        while self._answers:
            one, answer = self._answers.popleft()
            if isinstance(answer, BaseException) and not isinstance(answer, BrokerError):
                raise answer
            found.append((one, answer))
        return found
