"""When bytes came, as far as a process can know that was itself held up.

A door that counts messages by the moment it handles them counts its own delays: on a busy machine half a second of
orders is read at once and looks like a burst. What can be known is a pair of times: bytes that are read now were not
there when the loop looked at its sockets before, so they came between that look and now: after this look too, for a
socket is read a moment after it was seen to have something.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from time import monotonic
from typing import Any


class Polls(selectors.DefaultSelector):
    """A selector that remembers when it looked last, and when before that; monotonic seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.before = self.last = monotonic()

    def select(self, timeout: float | None = None) -> Any:
        """Wait for what can be read or written, as the selector of the platform does."""
        found = super().select(timeout)
        self.before, self.last = self.last, monotonic()
        return found


class PolledLoop(asyncio.SelectorEventLoop):
    """A loop whose looks at its sockets can be asked for."""

    def __init__(self) -> None:
        self.polls = Polls()
        super().__init__(self.polls)


class StampedReader(asyncio.StreamReader):
    """A stream that knows for each of its bytes between which times it came; outside a `PolledLoop` both are now."""

    def __init__(self, limit: int = 2**16) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(limit=limit, loop=loop)
        self._polls = loop.polls if isinstance(loop, PolledLoop) else None
        self._fed = self._taken = 0
        #: Where a piece ends, and between which times it came.
        self._stamps: deque[tuple[int, float, float]] = deque()

    def feed_data(self, data: Any) -> None:
        """Take what was read from the socket."""
        now = monotonic()
        self._fed += len(data)
        polls = self._polls
        self._stamps.append((self._fed, polls.before if polls else now, now))
        super().feed_data(data)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly so many bytes."""
        data = await super().readexactly(n)
        self._taken += n
        while len(self._stamps) > 1 and self._stamps[0][0] < self._taken:
            self._stamps.popleft()
        return data

    def came(self) -> tuple[float, float]:
        """Return between which times the last byte came that was taken."""
        return self._stamps[0][1:] if self._stamps else (monotonic(), monotonic())
