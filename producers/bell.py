"""The bell: put a wake-up call on a broker's queue, and never wait long for a sick Redis.

The database is the record; a ring that is lost only costs the two seconds until the sweep looks. So a ring is an LPUSH
with short timeouts and no repeats, whose answer nobody waits for, and after a failure the bell stays silent for a
moment instead of making every submit pay the timeout.

The message is Celery's protocol 2, written out here in one tested function: `apply_async` costs five times as much a
message and brings Celery into every strategy process (docs/facts/celery.md#4.1).
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection

from models import encoding
from models.errors import CorroError, QueueUnavailable
from models.queue_url import QueueAddress
from models.settings import Settings
from models.troubles import trouble

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
    delivery_tag the message is lost (docs/facts/celery.md#1.1).

    Args:
        task: name of the task.
        queue: name of the queue.
        kwargs: of the task; decimals and times are written as they travel.
        ring: what is asked is in the database already, and the message may be lost (worker/messaging/rings.py).
    """
    message_id = str(uuid.uuid4())
    mark = {RING: len(kwargs.get("orders", ()))} if ring else {}
    return encoding.dumps(
        {
            "body": encoding.text([[], kwargs, {}]),
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

    #: Seconds of silence after a failure.
    silence_s = SILENCE_S

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None
        self._line: Any = None
        #: When each command was sent whose answer has not been read.
        self._owed = deque[float]()
        self._silent_until = 0.0

    def ring(self, messages: Sequence[tuple[str, str, Mapping[str, object]]]) -> bool:
        """Put messages on their queues; never raises, because what they ring for is committed.

        Args:
            messages: (task, queue, kwargs) each.

        Returns:
            Whether they are on their way. False is no loss: the sweep finds what the database holds.
        """
        return self.put(_rings(messages), len(messages))

    def put(self, commands: Iterable[tuple[str | bytes, ...]], count: int) -> bool:
        """Send commands whose answers nobody waits for; never raises.

        Args:
            commands: of Redis; asked for only where the queue is not sick.
            count: how many messages that is.

        Returns:
            Whether they are on their way.
        """
        if not count:
            return True
        if time.monotonic() < self._silent_until:
            return False
        with self._lock:
            try:
                self._listen()
                for command in commands:
                    self._line.send_command(*command)
                    self._owed.append(time.monotonic())
            except Exception as error:  # a server may answer anything, and redis-py may stumble over it anyhow
                self._hang_up()
                self._silent_until = time.monotonic() + self.silence_s
                self._failed(error, count)
                return False
        return True

    def _failed(self, error: Exception, count: int) -> None:
        hint = "recorded all the same: the sweep of a worker finds what no message tells"
        log.warning("bell_silent", error=trouble(error), messages=count, hint=hint)

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
        client, self._client, self._line = self._client, None, None
        self._owed.clear()
        if client is not None:
            with suppress(Exception):
                client.close()  # and with it the line

    def close(self) -> None:
        """Wait for the answers under way, and close the connection."""
        with self._lock:
            with suppress(Exception):
                while self._owed:
                    self._line.read_response()
                    self._owed.popleft()
            self._hang_up()


def _rings(messages: Sequence[tuple[str, str, Mapping[str, object]]]) -> Iterator[tuple[str | bytes, ...]]:
    """Yield one command for each queue."""
    rings: dict[str, list[bytes]] = {}
    for task, queue, kwargs in messages:
        rings.setdefault(queue, []).append(envelope(task, queue, kwargs, ring=True))
    for queue, found in rings.items():
        yield ("LPUSH", queue, *found)


@contextmanager
def asking_the_queue() -> Iterator[None]:
    """Ask the queue something: whatever it answers, and whatever redis-py raises over it, is no answer.

    Raises:
        QueueUnavailable: with the words of what was raised.
    """
    try:
        yield
    except CorroError:
        raise
    except Exception as error:  # a server may answer anything, and redis-py may stumble over it anyhow
        raise QueueUnavailable(f"the queue does not answer: {trouble(error)}") from error


def connect(settings: Settings, *, connect_s: float, answer_s: float) -> redis.Redis:
    """Return a client of the queue; it never repeats a command by itself.

    Raises:
        ConfigurationError: the embedded queue's socket is in a folder of somebody else.
    """
    settings.must_own_socket()
    return redis.Redis.from_pool(pool_of(settings.queue_address, settings.redis_master, connect_s, answer_s))


@contextmanager
def asking(settings: Settings, answer_s: float) -> Iterator[redis.Redis]:
    """Yield a client of the queue that waits so many seconds for an answer, as `asking_the_queue`.

    Raises:
        QueueUnavailable: with the words of what was raised.
    """
    with asking_the_queue(), connect(settings, connect_s=min(answer_s, 1.0), answer_s=answer_s) as client:
        yield client


def pool_of(
    address: QueueAddress,
    master: str,
    connect_s: float,
    answer_s: float,
    made_of: Callable[[type], type] = lambda connection: connection,
    **more: Any,
) -> redis.ConnectionPool:
    """Return connections to the queue: one function for strategies and workers, so that none is verified less.

    Args:
        address: of the queue.
        master: the name that sentinels know it by.
        connect_s: seconds for one connect.
        answer_s: seconds for one answer.
        made_of: makes the connections' class from the one that fits the address.
        more: for redis-py's connections, beside these.
    """
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "socket_timeout": answer_s,
        "retry": Retry(NoBackoff(), 0),
        "client_name": f"corro@{socket.gethostname()}",
        **more,
    }
    if address.kind == "socket":  # it connects at once, or not at all
        options.pop("socket_keepalive", None)
        kind = made_of(redis.UnixDomainSocketConnection)
        return redis.ConnectionPool(connection_class=kind, path=address.path, **options)
    options["socket_connect_timeout"] = connect_s
    if address.kind == "sentinel":
        ask = {name: value for name, value in options.items() if name.startswith("socket")}
        sentinels: Any = Sentinel(address.hosts, sentinel_kwargs=ask)  # type: ignore[no-untyped-call]
        kind = made_of(SentinelManagedConnection)
        found: redis.ConnectionPool = sentinels.master_for(master, connection_class=kind, **options).connection_pool
        return found
    ((host, port),) = address.hosts
    kind = made_of(redis.Connection if address.tls is None else redis.SSLConnection)
    return redis.ConnectionPool(connection_class=kind, host=host, port=port, **(address.tls or {}), **options)
