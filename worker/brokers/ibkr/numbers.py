"""Order ids leave in the order in which they are given: TWS refuses one below an id that it has had (103)."""

from __future__ import annotations

import asyncio
import contextlib

#: Ids that are reserved, and not sent after so many seconds, hold nobody up any more.
HELD_S = 1.0


class NumberLane:
    """While ids are reserved for a group and have not left, nothing else of this connection takes one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._holder: int | None = None
        self._held_until = 0.0
        self._left = asyncio.Event()

    async def free(self) -> None:
        """Wait until nobody holds the lane; whoever goes on without another await has it to itself."""
        while (left := self._held_until - self._loop.time()) > 0:
            self._left.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._left.wait()

    def hold(self, first: int) -> None:
        """Keep everybody else from taking an id, for `HELD_S` at most; `first`: of the ids that are reserved."""
        self._holder, self._held_until = first, self._loop.time() + HELD_S

    def leave(self, first: int) -> None:
        """Let the others go on, unless the lane is somebody else's by now."""
        if first == self._holder:
            self._held_until = 0.0
            self._left.set()
