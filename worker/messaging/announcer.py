"""What this worker has just committed is said on a channel, so that who waits for it looks at once (`producers.ear`).

Never in an order's way: the thread that has committed leaves the ids and goes on; another one says them, those of
several commits together where they come quicker than Redis takes them. A dead or refusing Redis silences it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

import structlog

from models import encoding
from models.settings import Settings
from models.troubles import trouble
from producers.bell import Bell
from producers.ear import channel

log = structlog.get_logger()

#: Ids in one message.
_MOST = 500


class _Voice(Bell):
    """A bell whose failures are nobody's loss: who waits looks by itself."""

    silence_s = 5.0
    _told = ""

    def _failed(self, error: Exception, count: int) -> None:
        words = trouble(error)
        if words != self._told:  # once, not every five seconds
            log.info("commits_not_announced", error=words, hint="who waits looks by itself")
        self._told = words


class Announcer:
    """Says what was committed; a thread of its own.

    Args:
        settings: where the queue is.
        deployment: the id of the database.
    """

    def __init__(self, settings: Settings, deployment: str | None) -> None:
        self._voice, self._channel = _Voice(settings), channel(deployment)
        self._lock = threading.Lock()
        self._ids: set[str] = set()
        self._has_news, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def committed(self, ids: Collection[str]) -> None:
        """Leave ids to be said; returns at once."""
        with self._lock:
            self._ids.update(ids)
        self._has_news.set()

    def close(self) -> None:
        """Say what is left, and hang up."""
        self._stopping.set()
        self._has_news.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._voice.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._has_news.wait()
            self._has_news.clear()
            with self._lock:
                ids, self._ids = list(self._ids), set()
            parts = [ids[at : at + _MOST] for at in range(0, len(ids), _MOST)]
            self._voice.put((("PUBLISH", self._channel, encoding.dumps(part)) for part in parts), len(parts))
