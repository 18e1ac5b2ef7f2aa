"""The bell: put a wake-up call on a broker's queue, and never wait long for a sick Redis.

The database is the record; a ring that is lost only costs the two seconds until the sweep looks. So a ring is an LPUSH
with short timeouts and no repeats, whose answer nobody waits for, and after a failure the bell stays silent for a
moment instead of making every submit pay the timeout.

The message is Celery's protocol 2, written out here in one tested function: `apply_async` costs five times as much a
message and brings Celery into every strategy process (QUEUE.md B2).
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from models import wire
from models.errors import ConfigurationError
from models.settings import Settings

#: Seconds for one connect and for one answer; together below the second a strategy may be held up.
CONNECT_S = 0.3
ANSWER_S = 0.5
#: Seconds of silence after a failed ring.
SILENCE_S = 1.0

log = structlog.get_logger()

#: Header of a message that only rings: how many orders it submits, all of which have rows; 0 for other wishes.
RING = "corro-ring"
#: How the header of a ring for one order stands in a message.
SINGLE_RING = b'"corro-ring":1,'


def envelope(task: str, queue: str, kwargs: Mapping[str, Any], *, ring: bool = False) -> bytes:
    """Write one message as Celery's protocol 2 wants it (docs.celeryq.dev, internals/protocol).

    Every field here is needed: without content-type a worker exits, without headers.id it reconnects for ever, without
    delivery_tag the message is lost (QUEUE.md A1).

    Args:
        task: name of the task.
        queue: name of the queue.
        kwargs: of the task; decimals and times are written as they travel.
        ring: what is asked is in the database already, and the message may be lost (worker/rings.py).
    """
    message_id = str(uuid.uuid4())
    mark = {RING: len(kwargs.get("orders", ()))} if ring else {}
    return wire.dumps(
        {
            "body": wire.text([[], kwargs, {}]),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {
                **mark,
                "lang": "py",
                "task": task,
                "id": message_id,
                "root_id": message_id,
                "argsrepr": "",
                "kwargsrepr": "",
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": message_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )


class Bell:
    """Rings queues; thread-safe; opens its connection at the first ring.

    A ring does not wait for Redis to answer: the answers are read before the next ring, and one that is owed for too
    long, or says no, means that the queue is sick.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None
        self._line: Any = None
        #: When each command was sent whose answer has not been read.
        self._owed = deque[float]()
        self._silent_until = 0.0

    def ring(self, messages: Sequence[tuple[str, str, Mapping[str, Any]]]) -> bool:
        """Put messages on their queues.

        Args:
            messages: (task, queue, kwargs) each.

        Returns:
            Whether they are on their way. False is no loss: the sweep finds what the database holds.
        """
        if not messages:
            return True
        if time.monotonic() < self._silent_until:
            return False
        rings: dict[str, list[bytes]] = {}
        for task, queue, kwargs in messages:
            rings.setdefault(queue, []).append(envelope(task, queue, kwargs, ring=True))
        with self._lock:
            try:
                self._listen()
                for queue, found in rings.items():
                    self._line.send_command("LPUSH", queue, *found)
                    self._owed.append(time.monotonic())
            except (redis.RedisError, OSError) as error:
                self._hang_up()
                self._silent_until = time.monotonic() + SILENCE_S
                hint = "the sweep will find the orders"
                log.warning("bell_silent", error=str(error), messages=len(messages), hint=hint)
                return False
        return True

    def _listen(self) -> None:
        """See that there is a line, and read the answers that have come."""
        if self._line is not None:
            try:
                while self._line.can_read(0):  # an end of the line, too, can be read
                    self._line.read_response()
                    self._owed.popleft()
            except (redis.ConnectionError, IndexError):  # it went away, or says more than it was asked
                self._hang_up()
        if self._owed and time.monotonic() - self._owed[0] > ANSWER_S:
            raise redis.TimeoutError(f"the queue has not answered for {ANSWER_S} s")
        if self._line is None:
            self._client = self._client or connect(self._settings, connect_s=CONNECT_S, answer_s=ANSWER_S)
            self._line = self._client.connection_pool.get_connection()

    def _hang_up(self) -> None:
        self._owed.clear()
        if self._line is not None:
            self._line.disconnect()
            self._line = None

    def close(self) -> None:
        """Wait for the answers under way, and close the connection."""
        with self._lock:
            with suppress(redis.RedisError, OSError):
                while self._owed:
                    self._line.read_response()
                    self._owed.popleft()
            self._hang_up()
            if self._client is not None:
                self._client.close()
                self._client = None


def connect(settings: Settings, *, connect_s: float, answer_s: float) -> redis.Redis:
    """Return a client for any URL that the settings may hold; it never repeats a command by itself.

    Raises:
        ConfigurationError: the URL is of no kind that corro knows.
    """
    url = settings.queue_url
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_s,
        "socket_timeout": answer_s,
        "retry": Retry(NoBackoff(), 0),
        "client_name": f"corro@{socket.gethostname()}",
    }
    scheme = urlsplit(url).scheme
    if scheme in ("redis", "rediss"):
        return redis.Redis.from_url(url, **options)
    if scheme in ("redis+socket", "unix", "socket"):
        query = parse_qs(urlsplit(url).query)
        db = int(query.get("virtual_host", query.get("db", ["0"]))[0])
        return redis.Redis(unix_socket_path=urlsplit(url).path, db=db, **options)
    if scheme == "sentinel":
        return _through_sentinel(url, settings.redis_master, options)
    raise ConfigurationError(
        f"redis_url has the unknown scheme {scheme!r}; known are redis, rediss, redis+socket and sentinel"
    )


def _through_sentinel(url: str, master: str, options: dict[str, Any]) -> redis.Redis:
    """`sentinel://host:port/db;sentinel://host:port`, as Celery writes it."""
    parts = [urlsplit(part) for part in url.split(";") if part]
    hosts = [(part.hostname or "127.0.0.1", part.port or 26379) for part in parts]
    password = next((part.password for part in parts if part.password), None)
    db = int(parts[0].path.strip("/") or 0)
    sentinel_options = {key: value for key, value in options.items() if key.startswith("socket")}
    sentinel: Any = Sentinel(hosts, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinel.master_for(master, password=password, db=db, **options)
    return client
