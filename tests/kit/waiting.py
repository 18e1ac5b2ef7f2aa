"""Waiting for a condition, and watching that something does not happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(ready: Callable[[], T], timeout: float = 10.0, what: object = "") -> T:
    """Poll until `ready` answers with something true, and return it; fails with `what` when the time is over."""
    deadline, pause = time.monotonic() + timeout, 0.01
    while True:
        value = ready()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what() if callable(what) else what or ready}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.15)


def never(happens: Callable[[], T], seconds: float) -> None:
    """Watch that something does not happen for a while: the only way to see that nothing follows."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = happens()
        assert not value, f"happened: {value}"
        time.sleep(0.05)
