"""Listings that carry no request id, whole or not at all: open orders, completed orders, positions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from models.errors import BrokerError, NotConnected


@dataclass(slots=True)
class UnnumberedReading:
    """One un-numbered listing under way; TWS answers them in the order they were asked."""

    done: asyncio.Future[None]
    rows: dict[object, Any] = field(default_factory=dict)
    abandoned_at: float | None = None


class Unnumbered:
    """Readings of one kind (open orders, completed orders, positions) that carry no request id.

    The SDKs give all askers one future and one list, so an answer that comes late is cut in half and looks complete.
    Here an abandoned reading keeps its place in the queue until its end message arrives, and blocks new ones.
    """

    #: An answer overdue for this long means that the connection has lost its place.
    OVERDUE_S = 30.0

    def __init__(self, what: str, clock: Callable[[], float]) -> None:
        self.what = what
        self._clock = clock
        self._queue: deque[UnnumberedReading] = deque()
        self._lock = asyncio.Lock()

    def row(self, key: object, row: object) -> None:
        """Take in one row; rows pushed outside of a reading are nobody's."""
        if self._queue:
            self._queue[0].rows[key] = row

    def end(self) -> None:
        """Take in the end message."""
        if self._queue and not (reading := self._queue.popleft()).done.done():
            reading.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Fail every reading under way."""
        while self._queue:
            if not (reading := self._queue.popleft()).done.done():
                reading.done.set_exception(error)

    @property
    def overdue(self) -> bool:
        """Whether an abandoned reading has gone unanswered for too long."""
        at = self._queue[0].abandoned_at if self._queue else None
        return at is not None and self._clock() - at > self.OVERDUE_S

    async def read(self, ask: Callable[[], Awaitable[None]], timeout_s: float) -> dict[object, Any]:
        """Ask, and return every row up to the end message.

        Raises:
            NotConnected: an earlier reading is still unanswered.
            BrokerError: no end message in time.
        """
        async with self._lock:
            if self._queue:
                raise NotConnected(f"an earlier reading of {self.what} is still unanswered")
            await ask()
            reading = UnnumberedReading(asyncio.get_running_loop().create_future())
            self._queue.append(reading)
            try:
                async with asyncio.timeout(timeout_s):
                    await reading.done
            except TimeoutError:
                reading.abandoned_at = self._clock()
                raise BrokerError(f"TWS did not list its {self.what} within {timeout_s:g} s") from None
            except asyncio.CancelledError:
                reading.abandoned_at = self._clock()
                raise
        return reading.rows
