"""The other way round: workers say on a Redis channel what they have just committed, and whoever waits looks at once.

What is heard is no news, only a reason to look: the database says what is true. A waiter looks every now and then
anyhow, so a queue that is dead, refuses, or loses a message costs a moment and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import redis
import structlog
from redis.client import PubSub

from models import encoding
from models.record.stream import EventRow, EventStream
from models.settings import Settings
from models.troubles import trouble
from producers.bell import ANSWER_S, CONNECT_S, connect

log = structlog.get_logger()

#: A waiter under this name is woken by every commit.
EVERYTHING = ""
#: Seconds without a word after which the queue is asked for one, and within which it has to give it.
_IDLE_S = 20.0
#: First and longest pause before the queue is tried again, seconds.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
#: Seconds between looks for events while nothing is heard.
_PAUSE_S = 0.1


def channel(deployment: str | None) -> str:
    """Return the channel of a fleet: fleets that share a server share none, whatever their database numbers."""
    return f"corro.changed.{deployment}"


class Ear:
    """Hears what was committed; a thread and a connection of its own, from the first time that somebody waits.

    Args:
        settings: where the queue is.
        deployment: the id of the database.
    """

    def __init__(self, settings: Settings, deployment: str | None) -> None:
        self._settings, self._channel = settings, channel(deployment)
        self._lock = threading.Lock()
        self._waiting: dict[str, list[threading.Event]] = {}
        self._thread: threading.Thread | None = None
        self._client: redis.Redis | None = None
        self._closed = threading.Event()
        #: Set while the queue would tell.
        self.hears = threading.Event()

    @contextmanager
    def listening(self, key: str) -> Iterator[threading.Event]:
        """Have an event set whenever a commit has changed an order or a data request.

        Clear it before you look, and nothing can happen between look and wait without waking you.

        Args:
            key: its id, or EVERYTHING.
        """
        heard = threading.Event()
        with self._lock:
            self._waiting.setdefault(key, []).append(heard)
            self._begin()
        try:
            yield heard
        finally:
            with self._lock:
                self._waiting[key].remove(heard)
                if not self._waiting[key]:
                    del self._waiting[key]

    def close(self) -> None:
        """Hang up; who still waits goes on looking."""
        with self._lock:
            self._closed.set()
            self._hang_up()

    # -- THE THREAD ---
    def _begin(self) -> None:
        alive = self._thread is not None and self._thread.is_alive()  # not in a process that was forked off
        if not alive and not self._closed.is_set():
            self._thread = threading.Thread(target=self._run, name="ear", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._closed.is_set():
            try:
                said = self._subscribed()
                self.hears.set()
                pause = _FIRST_PAUSE_S
                self._wake()  # whatever was said before
                self._listen(said)
            except Exception as error:  # a server may answer anything, and redis-py may stumble over it anyhow
                if not self._closed.is_set():
                    log.info("ear_deaf", error=trouble(error), hint="who waits looks by itself")
            finally:
                self.hears.clear()
                self._hang_up()
            self._closed.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _subscribed(self) -> PubSub:
        client = connect(self._settings, connect_s=CONNECT_S, answer_s=ANSWER_S)
        with self._lock:
            if self._closed.is_set():
                client.close()
                raise redis.ConnectionError("closed")
            self._client = client
        said: PubSub = client.pubsub()  # type: ignore[no-untyped-call]
        said.subscribe(self._channel)
        if said.get_message(timeout=ANSWER_S) is None:
            raise redis.TimeoutError(f"the queue has not answered for {ANSWER_S} s")
        return said

    def _listen(self, said: PubSub) -> None:
        asked = False
        while not self._closed.is_set():
            try:
                message = said.get_message(timeout=_IDLE_S)
            except redis.ResponseError:  # it may not be asked so: an answer
                message = {}
            if message is None:
                if asked:
                    raise redis.TimeoutError(f"the queue has not answered for {_IDLE_S:g} s")
                said.ping()
            asked = message is None
            if message and message["type"] == "message":
                self._hear(message["data"])

    def _hear(self, data: bytes) -> None:
        found: object = None
        with suppress(ValueError, RecursionError):  # whatever somebody says there
            found = encoding.loads(data)
        ids = found if isinstance(found, list) else []
        self._wake(*(id_ for id_ in ids if isinstance(id_, str)), EVERYTHING)

    def _wake(self, *keys: str) -> None:
        """Wake who waits for these; everybody where none is named."""
        with self._lock:
            for key in keys or list(self._waiting):
                for heard in self._waiting.get(key, ()):
                    heard.set()

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()  # and with it the line


def follow(stream: EventStream, ear: Ear, timeout: float | None) -> Iterator[EventRow]:
    """Yield the events behind a place as they come, until none has come for so many seconds (None: for ever)."""
    with ear.listening(EVERYTHING) as heard:
        quiet_since = time.monotonic()
        while True:
            heard.clear()
            if found := stream.look():
                yield from found
                quiet_since = time.monotonic()
                continue
            left = _PAUSE_S if timeout is None else quiet_since + timeout - time.monotonic()
            if left <= 0:
                return
            heard.wait(min(_PAUSE_S, left))
