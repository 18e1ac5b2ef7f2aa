"""How this worker stands with its queue: what the queue last said no to, since when, and how long to leave it alone.

Whatever Redis answers (READONLY after a failover, OOM, MISCONF, NOPERM, LOADING ...), and whatever redis-py raises over
an answer, is the same as an outage: nothing is consumed for a while, and everything that needs no queue goes on.
"""

from __future__ import annotations

import random
import threading
import time

import redis
import structlog

from models.troubles import trouble

log = structlog.get_logger()

#: First and longest pause before the queue is tried again, seconds.
FIRST_S, LONGEST_S = 0.5, 5.0
#: The same trouble is told again after so long, seconds.
_TOLD_EVERY_S = 60.0
#: Characters of what the queue said.
_LONGEST = 200


class QueueHealth:
    """What is known of the queue; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: What it said no with, for `corro fleet`; empty while it is well.
        self.trouble = ""
        self._pause = FIRST_S
        self._told, self._told_at = "", 0.0

    def failed(self, error: BaseException) -> float:
        """Note that the queue failed; returns the seconds for which to leave it alone."""
        words = trouble(error)[:_LONGEST]
        with self._lock:
            self.trouble = f"the queue is sick: {words}"
            pause, self._pause = self._pause, min(2 * self._pause, LONGEST_S)
            now = time.monotonic()
            tell = words != self._told or now - self._told_at > _TOLD_EVERY_S
            if tell:
                self._told, self._told_at = words, now
        if tell:
            ours = not isinstance(error, (redis.RedisError, OSError))
            hint = "orders go on from the database, at the sweep's pace; nothing is consumed until the queue answers"
            log.error("queue_sick", reply=words, hint=hint, exc_info=error if ours else None)
        return pause * random.uniform(0.8, 1.2)  # noqa: S311  # a fleet does not come back in step

    def answered(self) -> None:
        """Note that the queue gave an answer as it should."""
        if not self.trouble:
            return
        with self._lock:
            self.trouble, self._pause, self._told = "", FIRST_S, ""
        log.info("queue_well")


#: Of this process, which has one queue.
health = QueueHealth()
