"""How often Interactive Brokers may be asked for bars.

IB's documentation ("Pacing Limitations for Small Bars") allows fewer than six requests for one contract within 2 s and
no identical request within 15 s. Its 60 requests in 10 minutes are for bars of 30 s and less, which corro does not ask
for: that limit is a setting, for a login under which other programs do. IB counts what a login asks for, so the workers
of one TWS count together in Redis; each of them also counts for itself, which is what holds while Redis is away. What
another program of the same login asks for comes back as a PacingViolation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from models.errors import PacingViolation
from worker.pacing.window import Away, MovingWindow, SharedCount

T = TypeVar("T")

#: Requests for one contract, and the seconds they are counted over; a little more than IB's, whose clock is not ours.
BURST, BURST_S = 5, 2.1
#: Within these seconds the answer to an identical request is given again.
SAME_S = 15.5
#: Requests for any contract, 0 for no limit, and the seconds they are counted over.
PER_10_MINUTES, TEN_MINUTES_S = 0, 601.0


class HistoryPace:
    """Takes the requests for bars of one connection in turn; used on its loop only.

    Args:
        clock: monotonic seconds.
        shared: counts the requests of all workers of this TWS.
        per_10_minutes: of any contract; 0 is no limit.
        sleep: waits so many seconds of that clock.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        shared: SharedCount | None = None,
        per_10_minutes: int = PER_10_MINUTES,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep, self._shared, self._per_10_minutes = clock, sleep, shared, per_10_minutes
        self._sent: dict[Hashable, deque[float]] = {}
        self._all = MovingWindow(TEN_MINUTES_S)
        self._answers: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}

    async def ask(self, contract: Hashable, terms: Hashable, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request in its turn, or give the answer that an identical one got a moment ago.

        Args:
            contract: whose bars.
            terms: everything else that makes two requests identical.
            request: makes it; what it raises is raised, and not remembered.

        Raises:
            PacingViolation: the ten minutes are used up.
        """
        now = self._clock()
        self._answers = {key: kept for key, kept in self._answers.items() if now - kept[0] < SAME_S and _good(kept[1])}
        key = (contract, terms)
        if key not in self._answers:
            self._answers[key] = (now, asyncio.ensure_future(self._in_turn(contract, terms, request)))
        answer: T = await asyncio.shield(self._answers[key][1])
        return answer

    async def _in_turn(self, contract: Hashable, terms: Hashable, request: Callable[[], Awaitable[T]]) -> T:
        """Wait for the turns of this contract and of all, then ask; see docs/facts/ibkr.md for the limits."""
        sent = self._sent.setdefault(contract, deque())
        while (left := self._left(sent)) > 0:
            await self._sleep(left)
        if self._per_10_minutes and (left := self._all.wait(self._per_10_minutes, self._clock())) > 0:
            raise _used_up(self._per_10_minutes, left)
        sent.append(self._clock())
        self._all.add(self._clock())
        if self._shared is not None:
            await self._together(self._shared, contract, terms)
        return await request()

    def _left(self, sent: deque[float]) -> float:
        now = self._clock()
        while sent and now - sent[0] >= BURST_S:
            sent.popleft()
        return 0.0 if len(sent) < BURST else sent[0] + BURST_S - now

    async def _together(self, shared: SharedCount, contract: Hashable, terms: Hashable) -> None:
        """Wait until no rule is broken by the requests of other workers of this TWS."""
        rules: list[Callable[[], float]] = [
            lambda: shared.once(f"{contract} {terms}", SAME_S),
            lambda: shared.take(1, BURST, BURST_S, f"contract {contract}").wait_s,
        ]
        if self._per_10_minutes:
            rules.append(lambda: shared.take(1, self._per_10_minutes, TEN_MINUTES_S, "all").wait_s)
        for rule in rules:
            try:
                while (wait := await asyncio.to_thread(rule)) > 0:
                    if wait > SAME_S:  # too long to hold a lane: to be asked again then
                        raise _used_up(self._per_10_minutes, wait)
                    await self._sleep(wait)
            except Away:
                return


def _used_up(limit: int, seconds: float) -> PacingViolation:
    words = f"{limit} requests for bars in 10 minutes are used up (history_per_10_minutes)"
    return PacingViolation(f"{words}; the next turn is in {seconds:.0f} s", retry_after=seconds, ours=True)


def _good(task: asyncio.Task[Any]) -> bool:
    return not task.done() or not (task.cancelled() or task.exception())
