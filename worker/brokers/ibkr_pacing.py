"""How often Interactive Brokers may be asked for bars (BROKERS.md 1.10).

IB allows fewer than six requests for one contract within 2 s, and no identical request within 15 s. (Its third limit,
60 requests in 10 minutes, is for bars of 30 s and less, which corro does not offer.) One connection is one process, so
the counts are kept here; what another program of the same login asks for comes back as a PacingViolation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

#: Requests for one contract, and the seconds they are counted over; a little more than IB's, whose clock is not ours.
BURST, BURST_S = 5, 2.1
#: Within these seconds the answer to an identical request is given again.
SAME_S = 15.5


class HistoryPace:
    """Takes the requests for bars of one connection in turn; used on its loop only.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sent: dict[Hashable, deque[float]] = {}
        self._answers: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}

    async def ask(self, contract: Hashable, terms: Hashable, request: Callable[[], Awaitable[Any]]) -> Any:
        """Make a request in its turn, or give the answer that an identical one got a moment ago.

        Args:
            contract: whose bars.
            terms: everything else that makes two requests identical.
            request: makes it; what it raises is raised, and not remembered.
        """
        now = self._clock()
        self._answers = {key: kept for key, kept in self._answers.items() if now - kept[0] < SAME_S and _good(kept[1])}
        key = (contract, terms)
        if key not in self._answers:
            self._answers[key] = (now, asyncio.ensure_future(self._in_turn(contract, request)))
        return await asyncio.shield(self._answers[key][1])

    async def _in_turn(self, contract: Hashable, request: Callable[[], Awaitable[Any]]) -> Any:
        sent = self._sent.setdefault(contract, deque())
        while (left := self._left(sent)) > 0:
            await asyncio.sleep(left)
        sent.append(self._clock())
        return await request()

    def _left(self, sent: deque[float]) -> float:
        now = self._clock()
        while sent and now - sent[0] >= BURST_S:
            sent.popleft()
        return 0.0 if len(sent) < BURST else sent[0] + BURST_S - now


def _good(task: asyncio.Task[Any]) -> bool:
    return not task.done() or not (task.cancelled() or task.exception())
