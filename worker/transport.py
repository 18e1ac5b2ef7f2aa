"""Kombu's Redis transport, with a guard at the door: what is no readable message is set aside, never fatal.

Without it a message that misses its content-type ends the worker, one without an id sends it into an endless reconnect,
and one that is no JSON is lost (QUEUE.md A1). The guard looks at each message before kombu does, and clears the way
where something else than a queue stands at a queue's key.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import Empty
from typing import Any

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from models import wire
from models.messages import MAX_BATCH
from producers.bell import RING
from worker.dead_letters import DeadLetters
from worker.rings import Gather, Rings

#: Longer messages are not even parsed: a hundred orders take 60 kB.
MOST_BYTES = 1_048_576
#: The most that one message may ask for, by argument: more would hold everything else up.
MOST = {"orders": MAX_BATCH, "client_order_ids": 1_000}
#: A worker holds a message until its eta, so it has to come before the message counts as lost and is handed out again.
MOST_ETA_S = 30.0
#: The priorities that kombu makes a key of its own of; BRPOP asks for all of them.
_PRIORITIES = ("", *(f"\x06\x16{step}" for step in (3, 6, 9)))

#: The tasks of the contract, and the argument that each cannot do without.
TASKS = {
    "orders.submit": "orders",
    "orders.cancel": "client_order_ids",
    "orders.replace": "client_order_ids",
    **{f"data.{kind}": "fetch_id" for kind in ("quote", "bars", "account", "positions", "orders")},
}


class Unreadable(ValueError):
    """A message that no worker can take; its text says why.

    Attributes:
        reason: the kind of fault in one word, to count by.
    """

    def __init__(self, why: str, reason: str = "not_a_message") -> None:
        super().__init__(why)
        self.reason = reason


def clean(item: bytes, queue: str | None = None) -> bytes:
    """Check a message and write it anew with what corro reads of it, so that nothing else in it can do harm.

    A worker trusts headers and properties: a time limit that is a word, or a delivery tag that is a list, ends it, and
    a message whose routing key names another queue would be handed back there.

    Args:
        item: the message.
        queue: where it was; None believes its routing key.

    Raises:
        Unreadable: says what is missing or wrong.
    """
    if len(item) > MOST_BYTES:
        raise Unreadable(f"{len(item)} bytes long, at most {MOST_BYTES} are read", "too_large")
    try:
        message = wire.loads(item)
        headers, properties = message["headers"], message["properties"]
        task, args, kwargs = headers["task"], *_body(message, properties)
        _check(task, args, kwargs)
        routing_key = _check_envelope(headers, properties)
        return wire.dumps(
            {
                "body": wire.text([args, kwargs, {}]),
                "content-type": "application/json",
                "content-encoding": "utf-8",
                "headers": ({RING: headers[RING]} if RING in headers else {})
                | {name: headers.get(name) for name in _KEPT}
                | _PLAIN
                | {"root_id": headers["id"]},
                "properties": {
                    "correlation_id": headers["id"],
                    "delivery_mode": 2,
                    "delivery_info": {"exchange": "", "routing_key": queue or routing_key},
                    "priority": 0,
                    "delivery_tag": str(uuid.uuid4()),  # theirs may be used twice
                },
            }
        )
    except Unreadable:
        raise
    except KeyError as error:
        raise Unreadable(f"{error.args[0]} is missing", "field_missing") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(f"not a Celery message: {error}") from error


_KEPT = ("task", "id", "eta", "expires")
_PLAIN = {"lang": "py", "argsrepr": "", "kwargsrepr": "", "ignore_result": True, "retries": 0}


def _body(message: Any, properties: Any) -> tuple[Any, Any]:
    if message.get("content-type") != "application/json":
        words = f"content-type must be application/json, was {message.get('content-type')!r}"
        raise Unreadable(words, "content_type" if "content-type" in message else "field_missing")
    body = message["body"]
    if properties.get("body_encoding") == "base64":
        body = base64.b64decode(body)
    args, kwargs, _ = wire.loads(body)
    return args, kwargs


def _check(task: Any, args: Any, kwargs: Any) -> None:
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unreadable("the body must be [args, kwargs, embed]")
    if task not in TASKS:
        raise Unreadable(f"there is no task {task!r}, there are {', '.join(TASKS)}", "unknown_task")
    needed = TASKS[task]
    if not args and needed not in kwargs:
        raise Unreadable(f"{task} needs the argument {needed!r}, had {sorted(kwargs)}", "arguments")
    if task.startswith("orders.") and set(kwargs) - {needed}:
        raise Unreadable(f"{task} takes {needed!r} only, had {sorted(kwargs)}", "arguments")
    given = args[0] if args else kwargs[needed]
    if needed in MOST and isinstance(given, list | dict) and len(given) > MOST[needed]:
        raise Unreadable(f"{needed}: at most {MOST[needed]} in one message, had {len(given)}", "too_many")


def _check_envelope(headers: Any, properties: Any) -> str:
    """Check what a worker relies on around the body; returns the routing key."""
    routing_key = properties["delivery_info"]["routing_key"]
    texts = {"headers.id": headers["id"], "delivery_tag": properties["delivery_tag"]}
    for name, value in {**texts, "delivery_info.routing_key": routing_key}.items():
        if not isinstance(value, str) or not value:
            raise Unreadable(f"{name} must be text, was {value!r}", "field_type")
    for name in ("eta", "expires"):
        if headers.get(name) is not None:
            _check_time(name, headers[name])
    return str(routing_key)


def _check_time(name: str, value: Any) -> None:
    try:
        when = datetime.fromisoformat(value)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        away = (when - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        raise Unreadable(f"{name} must be an ISO 8601 time, was {value!r}", "time") from None
    if name == "eta" and away > MOST_ETA_S:
        raise Unreadable(f"eta may be at most {MOST_ETA_S:.0f} s away, was {value}: let your own program wait", "time")


def fault(item: bytes) -> str | None:
    """Say what is wrong with a message, or None if a worker can take it."""
    try:
        clean(item)
    except Unreadable as error:
        return str(error)
    return None


class GuardedRedis(redis.Redis):
    """A client whose BRPOP never hands out an unreadable message."""

    #: Takes more rings along with one; set on the client that reads the queues.
    gather: Gather | None = None

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read a reply; an unreadable message is set aside and looks like an empty queue."""
        reply = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name != "BRPOP" or not reply:
            return reply
        key, item = reply
        message = self.readable(key, item)
        if message is None:
            return None
        return key, self.gather(key, message) if self.gather else message

    def readable(self, key: bytes, item: bytes) -> bytes | None:
        """Return a message as a worker may take it; None if it had to be set aside."""
        queue = key.decode(errors="replace").split("\x06")[0]
        try:
            return clean(item, queue)
        except Unreadable as error:
            DeadLetters(redis.Redis(connection_pool=self.connection_pool)).put(queue, item, error.reason, str(error))
            return None


class _Careful(kombu_redis.QoS):
    """Kombu's book of the messages in hand, which survives that somebody else has written in it."""

    channel: Any

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message as taken; where the notes are kept, nothing else may stand."""
        with self.channel.cleared():
            super().append(message, delivery_tag)
            return
        super().append(message, delivery_tag)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Hand out again what nobody has acknowledged."""
        with self.channel.cleared():
            super().restore_visible(*args, **kwargs)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Hand one message out again; one that cannot be read would stop all those behind it."""
        try:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            with self.channel.conn_or_acquire(client) as found:
                note = found.hget(self.unacked_key, tag) or b""
            self._remove_from_indices(tag).execute()  # type: ignore[attr-defined]
            self.channel.dead_letters(found).put(self.unacked_key, note, "not_a_message", f"not a note: {error}")


class QoS(Rings, _Careful):
    """The book of the messages in hand, without rings, and whatever somebody has written in it."""


class Channel(kombu_redis.Channel):
    """Kombu's channel with the guarded client, rings, and one client instead of one for every operation."""

    QoS = QoS
    _sync_client: redis.Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return a client; for plain operations the same one, as long as its pool is the channel's (QUEUE.md B3)."""
        if asynchronous:
            client = super()._create_client(asynchronous=True)  # type: ignore[misc]
            client.gather = Gather(self, client.readable)
            return client
        if self._sync_client is None or self._sync_client.connection_pool is not self.pool:
            self._sync_client = super()._create_client()  # type: ignore[misc]
        return self._sync_client

    def dead_letters(self, client: redis.Redis) -> DeadLetters:
        """Return where messages are set aside, over a connection of this channel."""
        return DeadLetters(redis.Redis(connection_pool=client.connection_pool))

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Move keys of a wrong type out of the way of what happens inside, which is then over for this time."""
        try:
            yield
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            queues = {f"{queue}{step}": "list" for queue in self.active_queues for step in _PRIORITIES}
            notes = {self.unacked_key: "hash", self.unacked_index_key: "zset", self.unacked_mutex_key: "string"}
            with self.conn_or_acquire() as client:
                self.dead_letters(client).displace(queues | notes)

    def _brpop_read(self, **options: Any) -> Any:
        with self.cleared():
            return super()._brpop_read(**options)  # type: ignore[misc]
        raise Empty  # it looks again

    def _connparams(self, asynchronous: bool = False) -> Any:
        """Say that a given-up channel has no connection, as an error that Celery knows.

        A task that ends while the queue dies acknowledges on a channel whose connection is gone already; kombu then
        trips over None, and an AttributeError ends the worker instead of only losing the acknowledgement.
        """
        if self.connection is None or self.connection.client is None:
            raise redis.ConnectionError("the connection of this channel was given up")
        return super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]

    def _get_client(self) -> Any:
        client = super()._get_client()  # type: ignore[misc]
        return GuardedRedis if client is redis.Redis else client


class Transport(kombu_redis.Transport):
    """Kombu's transport with the guarded channel."""

    Channel = Channel


def install() -> None:
    """Have every redis:// connection of this process use the guard."""
    for alias in ("redis", "rediss", "redis+socket"):
        TRANSPORT_ALIASES[alias] = "worker.transport:Transport"
