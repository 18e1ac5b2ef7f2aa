"""An event loop in a thread of its own, for an SDK that needs one in a worker that has none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import TypeVar

from models.errors import NotConnected

T = TypeVar("T")


class LoopThread:
    """An event loop that always runs, in a daemon thread of this process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    @property
    def alive(self) -> bool:
        """Whether the thread runs in this very process; after a fork it does not."""
        return self._thread is not None and self._thread.is_alive() and self._pid == os.getpid()

    def start(self) -> None:
        """Start the thread unless it runs."""
        if self.alive:
            return
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
        self._loop, self._pid = loop, os.getpid()
        self._thread.start()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        # The SDKs ask the policy for "the" loop of their thread (docs/facts/ibkr.md#8.1).
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(_let_go())
        finally:
            loop.close()

    def call(self, work: Coroutine[object, None, T], timeout_s: float) -> T:
        """Run a coroutine on the loop and wait for it from another thread.

        Raises:
            NotConnected: there is no running loop.
            TimeoutError: it did not end in time, or before the loop ended; it is canceled, and may have begun.
        """
        loop = self._loop
        if not self.alive or loop is None:
            work.close()
            raise NotConnected(f"{self._name}: not connected; call connect() in this process first")
        try:
            future = asyncio.run_coroutine_threadsafe(work, loop)
        except RuntimeError:  # the loop was closed a moment ago
            work.close()
            raise NotConnected(f"{self._name}: not connected any more") from None
        try:
            return future.result(timeout_s)
        except CancelledError:
            raise TimeoutError(f"{self._name}: the connection was closed before it ended") from None
        finally:
            future.cancel()

    def stop(self) -> None:
        """End the loop and its thread; whoever waits for something that runs on it hears so at once."""
        if self.alive and self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
        self._loop = self._thread = None


async def _let_go() -> None:
    """Cancel whatever runs on this loop, and what was handed to it in its last moment."""
    await asyncio.sleep(0)
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
