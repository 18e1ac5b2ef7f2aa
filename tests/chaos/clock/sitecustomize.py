"""On the path of a worker of test_clock_steps: its wall clock is off by the seconds that a file says, at any moment."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import time_machine

_FILE = Path(os.environ["WALL_CLOCK_FILE"])
_PAUSE = threading.Event()  # waits by the monotonic clock, which nobody sets


def _follow() -> None:
    offset, clock = 0.0, time_machine.travel(time.time(), tick=True).start()
    while not _PAUSE.wait(0.01):
        before, offset = offset, float(_FILE.read_text())
        if offset == before:
            continue
        clock.move_to(time_machine.escape_hatch.time.time() + offset)


threading.Thread(target=_follow, name="clock", daemon=True).start()
