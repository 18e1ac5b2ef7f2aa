"""Kombu's Redis transport, with a guard at the door: what is no readable message is set aside, never fatal.

Without it a message that misses its content-type ends the worker, one without an id sends it into an endless reconnect,
and one that is no JSON is lost (QUEUE.md A1). The guard looks at each message before kombu does.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import redis
import structlog
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from producers.bell import RING
from worker.rings import Gather, QoS

log = structlog.get_logger()

#: Where unreadable messages are kept, newest first, for a person to look at.
SET_ASIDE = "corro.set_aside"
_KEEP = 10_000


#: The tasks of the contract, and the argument that each cannot do without.
TASKS = {
    "orders.submit": "orders",
    "orders.cancel": "client_order_ids",
    "orders.replace": "client_order_ids",
    **{f"data.{kind}": "fetch_id" for kind in ("quote", "bars", "account", "positions", "orders")},
}


class Unreadable(ValueError):
    """A message that no worker can take; its text says why."""


def clean(item: bytes) -> bytes:
    """Check a message and write it anew with what corro reads of it, so that nothing else in it can do harm.

    A worker trusts headers and properties: a time limit that is a word, or a delivery tag that is a list, ends it.

    Raises:
        Unreadable: says what is missing or wrong.
    """
    try:
        message = json.loads(item)
        headers, properties = message["headers"], message["properties"]
        task, args, kwargs = headers["task"], *_body(message, properties)
        _check(headers, properties, task, args, kwargs)
        return json.dumps(
            {
                "body": json.dumps([args, kwargs, {}]),
                "content-type": "application/json",
                "content-encoding": "utf-8",
                "headers": {name: headers[name] for name in headers if name in _MARKS}
                | {name: headers.get(name) for name in _KEPT}
                | _PLAIN
                | {"root_id": headers["id"]},
                "properties": {
                    "correlation_id": headers["id"],
                    "delivery_mode": 2,
                    "delivery_info": {"exchange": "", "routing_key": properties["delivery_info"]["routing_key"]},
                    "priority": 0,
                    "delivery_tag": properties["delivery_tag"],
                },
            }
        ).encode()
    except KeyError as error:
        raise Unreadable(f"{error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(str(error) if isinstance(error, Unreadable) else f"not a Celery message: {error}") from error


_KEPT = ("task", "id", "eta", "expires")
_MARKS = frozenset({RING})
_PLAIN = {"lang": "py", "argsrepr": "", "kwargsrepr": "", "ignore_result": True, "retries": 0}


def _body(message: Any, properties: Any) -> tuple[Any, Any]:
    if message.get("content-type") != "application/json":
        raise Unreadable(f"content-type must be application/json, was {message.get('content-type')!r}")
    body = message["body"]
    if properties.get("body_encoding") == "base64":
        body = base64.b64decode(body)
    args, kwargs, _ = json.loads(body)
    return args, kwargs


def _check(headers: Any, properties: Any, task: Any, args: Any, kwargs: Any) -> None:
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unreadable("the body must be [args, kwargs, embed]")
    if task not in TASKS:
        raise Unreadable(f"there is no task {task!r}, there are {', '.join(TASKS)}")
    if not args and TASKS[task] not in kwargs:
        raise Unreadable(f"{task} needs the argument {TASKS[task]!r}, had {sorted(kwargs)}")
    if task.startswith("orders.") and set(kwargs) - {TASKS[task]}:
        raise Unreadable(f"{task} takes {TASKS[task]!r} only, had {sorted(kwargs)}")
    texts = {"headers.id": headers["id"], "delivery_tag": properties["delivery_tag"]}
    texts["delivery_info.routing_key"] = properties["delivery_info"]["routing_key"]
    for name, value in texts.items():
        if not isinstance(value, str) or not value:
            raise Unreadable(f"{name} must be text, was {value!r}")
    for name in ("eta", "expires"):
        if headers.get(name) is not None:
            datetime.fromisoformat(headers[name])


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
        queue, item = reply
        message = self.readable(queue, item)
        if message is None:
            return None
        return queue, self.gather(queue, message) if self.gather else message

    def readable(self, queue: bytes, item: bytes) -> bytes | None:
        """Return a message as a worker may take it; None if it had to be set aside."""
        try:
            return clean(item)
        except Unreadable as error:
            why = str(error)
        log.error("message_set_aside", queue=queue.decode(errors="replace"), why=why, message=repr(item[:300]))
        self._set_aside(queue, item, why)
        return None

    def _set_aside(self, queue: bytes, item: bytes, why: str) -> None:
        kept = json.dumps(
            {"queue": queue.decode(errors="replace"), "why": why, "message": item.decode(errors="replace")}
        )
        try:
            aside = redis.Redis(connection_pool=self.connection_pool)
            aside.lpush(SET_ASIDE, kept)
            aside.ltrim(SET_ASIDE, 0, _KEEP - 1)
        except redis.RedisError as error:
            log.error("message_not_kept", error=str(error), message=kept)


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
