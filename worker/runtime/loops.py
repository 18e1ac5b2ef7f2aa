"""Threads that do one thing again and again, and outlive whatever goes wrong in it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from models.errors import CorroError

log = structlog.get_logger()


class Loop:
    """Calls a function every so often in a thread of its own, until stopped.

    Args:
        name: of the thread, and in the log.
        every: seconds from the end of one call to the start of the next.
        work: what to do; an exception is logged and the loop goes on.
    """

    def __init__(self, name: str, every: float, work: Callable[[], object]) -> None:
        self.name, self.every, self.work = name, every, work
        self._stop, self._nudge = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._failing = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def nudge(self) -> None:
        """Have the next call happen now."""
        self._nudge.set()

    def ask_to_stop(self) -> None:
        """End after the call under way, without waiting for it."""
        self._stop.set()
        self._nudge.set()

    def stop(self, patience: float = 30.0) -> None:
        """End after the call under way; waits for it."""
        self.ask_to_stop()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(patience)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._once()
            self._nudge.wait(self.every)
            self._nudge.clear()

    def _once(self) -> None:
        try:
            self.work()
            if self._failing:
                log.info("loop_recovered", loop=self.name)
            self._failing = ""
        except CorroError as error:
            if str(error) != self._failing:  # say it once, not twice a second
                log.warning("loop_failing", loop=self.name, error=str(error))
            self._failing = str(error)
        except Exception:
            log.exception("loop_error", loop=self.name)
