"""Stories on an event loop of their own, told within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
#: Seconds for a story, and for one thing in it to happen.
BOUND_S, PATIENCE_S = 10.0, 5.0


def run(story: Callable[[], Awaitable[T]]) -> T:
    """Run a story from its beginning to its end."""

    async def bounded() -> T:
        async with asyncio.timeout(BOUND_S):
            return await story()

    return asyncio.run(bounded())


async def eventually(condition: Callable[[], T], timeout: float = PATIENCE_S) -> T:
    """Wait until the condition gives something true, and return it."""
    async with asyncio.timeout(timeout):
        while not (found := condition()):
            await asyncio.sleep(0.005)
        return found
