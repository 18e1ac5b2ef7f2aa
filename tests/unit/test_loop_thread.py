"""The thread with an event loop: who waits for it is let go when it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.errors import NotConnected
from worker.brokers.ibkr.loop import LoopThread


def test_who_waits_when_the_loop_ends_hears_so_at_once() -> None:
    """A thread that waited on until its own time was over kept a worker from ending."""
    thread, begun = LoopThread("ibkr"), threading.Event()
    thread.start()

    async def long() -> None:
        begun.set()
        await asyncio.sleep(60)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(thread.call, long(), 60.0)
        assert begun.wait(10)
        started = time.monotonic()
        thread.stop()
        with pytest.raises(TimeoutError, match="closed before it ended"):
            waiting.result(10)
    assert time.monotonic() - started < 10


def test_an_ended_loop_takes_nothing_more() -> None:
    thread = LoopThread("ibkr")
    thread.start()
    thread.stop()

    async def never() -> None:
        raise AssertionError("it ran")

    with pytest.raises(NotConnected):
        thread.call(never(), 1.0)
