"""Several requests about orders on their way to a broker at once, and their answers as they come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

Sent = TypeVar("Sent")
Came = TypeVar("Came")
#: While others are on their way, answers are gathered this long, seconds: a few commits instead of one for each.
_GATHER_S = 0.02
#: A broker that answers at once needs one thread: each more costs changes between them. Twice as many every so often.
_GROW_S = 0.001


@dataclass(frozen=True, slots=True)
class _End:
    """What ended a thread: no answer."""

    error: BaseException


def in_parallel(
    items: Sequence[Sent], send: Callable[[Sent], Came], threads: Executor, most: int
) -> Iterator[list[tuple[Sent, Came]]]:
    """Send orders, cancels or changes by several threads, and yield the answers as they come, some at a time.

    Args:
        items: the orders; a single one is sent by the thread of the caller.
        send: sends one; called by several threads at once.
        threads: where they run.
        most: how many may send at once.

    Raises:
        BaseException: whatever `send` lets out.
    """
    if len(items) == 1:
        yield [(items[0], send(items[0]))]
    else:
        yield from _Parallel(items, send, threads, most)


class _Parallel(Generic[Sent, Came]):
    """Several threads that send, one iteration over their answers."""

    def __init__(self, items: Sequence[Sent], send: Callable[[Sent], Came], threads: Executor, most: int) -> None:
        self._send, self._threads, self._most = send, threads, min(most, len(items))
        self._waiting, self._total = deque(items), len(items)
        self._answers = deque[tuple[Sent, Came | _End]]()
        self._count = 0
        self._lock, self._some, self._all = threading.Lock(), threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[list[tuple[Sent, Came]]]:
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
        """Send one order after the other, until none is left."""
        while self._waiting:
            try:
                one = self._waiting.popleft()
            except IndexError:
                return  # another thread took the last one
            try:
                self._put(one, self._send(one))
            except BaseException as end:  # this thread ends, and so does who waits for it
                self._put(one, _End(end))
                raise

    def _put(self, one: Sent, answer: Came | _End) -> None:
        """Hand over an answer, and wake who waits for it."""
        self._answers.append((one, answer))
        with self._lock:
            self._count += 1
            whole = self._count == self._total
        if whole:
            self._all.set()
        self._some.set()

    def _take(self) -> list[tuple[Sent, Came]]:
        """Return the answers that have come.

        Raises:
            BaseException: what ended a thread.
        """
        found: list[tuple[Sent, Came]] = []
        while self._answers:
            one, answer = self._answers.popleft()
            if isinstance(answer, _End):
                raise answer.error
            found.append((one, answer))
        return found
