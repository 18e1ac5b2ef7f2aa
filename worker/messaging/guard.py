"""The guard at the queue's door: what is no readable message is named, and what is one is written anew.

A worker trusts headers and properties: without content-type it exits, without an id it reconnects for ever, a time
limit that is a word or a delivery tag that is a list ends it.
"""

from __future__ import annotations

import base64
import re
import uuid
from datetime import UTC, datetime
from typing import cast, get_args

from models import encoding
from models.explaining import shown
from models.groups import split_group
from models.messages import MAX_BATCH, FetchKind, is_id
from models.record.rows import Json
from producers.bell import RING

#: Longer messages are not even parsed: a hundred orders take 60 kB.
MOST_BYTES = 1_048_576
#: The most that one message may ask for, by argument: more would hold everything else up.
MOST = {"orders": MAX_BATCH, "client_order_ids": 1_000}
#: A worker holds a message until its eta, so it has to come before the message counts as lost and is handed out again.
MOST_ETA_S = 30.0

#: What takes the place of the ids of a cancel or a replace that is signed (models/signing.py).
SIGNED = frozenset({"signed", "key", "sig", "deployment"})
_MAY_BE_SIGNED = frozenset({"orders.cancel", "orders.replace"})

#: What names a request for data.
FETCH_ID = re.compile(r"[!-~]{1,64}")
#: Celery hands the task itself over under this name.
_RESERVED = {"self"}

#: The tasks of the contract, and the argument that each cannot do without.
TASKS = {
    "orders.submit": "orders",
    "orders.cancel": "client_order_ids",
    "orders.replace": "client_order_ids",
    **{f"data.{kind}": "fetch_id" for kind in get_args(FetchKind)},
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
        message = encoding.loads(item)
        headers, properties = message["headers"], message["properties"]
        task, args, kwargs = headers["task"], *_body(message, properties)
        _check(task, args, kwargs)
        routing_key = _check_envelope(headers, properties)
        mark = _mark(headers.get(RING), task, args, kwargs)
        if not mark and task == "orders.submit" and (words := split_group(_given(args, kwargs))):
            raise Unreadable(words, "group")
        return encoding.dumps(
            {
                "body": encoding.text([args, kwargs, {}]),
                "content-type": "application/json",
                "content-encoding": "utf-8",
                "headers": mark | {name: headers.get(name) for name in _KEPT} | _PLAIN | {"root_id": headers["id"]},
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
    except Exception as error:  # whatever a foreign message makes a reader raise
        raise Unreadable(f"not a Celery message: {error}") from error


_KEPT = ("task", "id", "eta", "expires")
_PLAIN = {"lang": "py", "argsrepr": "", "kwargsrepr": "", "ignore_result": True, "retries": 0}


def _body(message: Json, properties: Json) -> tuple[object, object]:
    """Return the arguments of a message.

    Raises:
        Unreadable: it is no JSON, or is compressed.
    """
    if message.get("content-type") != "application/json":
        words = f"content-type must be application/json, was {message.get('content-type')!r}"
        raise Unreadable(words, "content_type" if "content-type" in message else "field_missing")
    if packing := message["headers"].get("compression"):
        raise Unreadable(f"the body must not be compressed, was {shown(packing)}", "content_type")
    body = message["body"]
    if properties.get("body_encoding") == "base64":
        body = base64.b64decode(body)
    args, kwargs, _ = encoding.exactly(body)
    return args, kwargs


def _check(task: object, args: object, kwargs: object) -> None:
    """See that a message is for one of our tasks, with the arguments that it takes.

    Raises:
        Unreadable: with the reason under which it is counted.
    """
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unreadable("the body must be [args, kwargs, embed]")
    if task not in TASKS:
        raise Unreadable(f"there is no task {task!r}, there are {', '.join(TASKS)}", "unknown_task")
    needed = TASKS[task]
    if task in _MAY_BE_SIGNED and "signed" in kwargs and needed not in kwargs and not args:
        needed = "signed"
    if not args and needed not in kwargs:
        raise Unreadable(f"{task} needs the argument {needed!r}, had {', '.join(sorted(kwargs))}", "arguments")
    if len(args) > 1 or (args and needed in kwargs):
        raise Unreadable(
            f"{task} takes {needed!r} once, had {len(args)} positional and {', '.join(sorted(kwargs))}", "arguments"
        )
    if task.startswith("orders.") and set(kwargs) - (SIGNED if needed == "signed" else {needed}):
        raise Unreadable(f"{task} takes {needed!r} only, had {', '.join(sorted(kwargs))}", "arguments")
    if twice := [name for name, value in kwargs.items() if isinstance(value, encoding.Twice)]:
        raise Unreadable(f"{task}: {', '.join(twice)} given more than once", "arguments")
    given = args[0] if args else kwargs[needed]
    if needed == "fetch_id" and not (isinstance(given, str | int) and FETCH_ID.fullmatch(str(given))):
        raise Unreadable(f"fetch_id: must be 1 to 64 characters without blanks, was {shown(given)}", "arguments")
    if reserved := _RESERVED & set(kwargs):
        raise Unreadable(f"{task} takes no argument {reserved.pop()!r}", "arguments")
    if needed in MOST and isinstance(given, list | dict) and len(given) > MOST[needed]:
        raise Unreadable(f"{needed}: at most {MOST[needed]} in one message, had {len(given)}", "too_many")


def _mark(given: object, task: str, args: object, kwargs: object) -> dict[str, int]:
    """Return the mark of a ring where it fits the message; anybody may write one, and rings are not acknowledged.

    A message whose mark does not fit is a message like any other.

    Raises:
        Unreadable: it names what no order can be called.
    """
    if type(given) is not int or args or not isinstance(kwargs, dict):
        return {}
    orders = kwargs["orders"] if task == "orders.submit" else []
    fits = isinstance(orders, list) and len(orders) == given and all(map(_has_id, orders))
    if fits and (odd := [one["client_order_id"] for one in orders if not is_id(one["client_order_id"])]):
        raise Unreadable(f"a ring names {ascii(odd[0])[:100]}, which is no client_order_id", "arguments")
    return {RING: given} if fits else {}


def _has_id(order: object) -> bool:
    return isinstance(order, dict) and isinstance(order.get("client_order_id"), str)


def _given(args: object, kwargs: object) -> object:
    """Return the order objects of a message whose arguments were checked."""
    return args[0] if isinstance(args, list) and args else cast("Json", kwargs).get("orders")


def _check_envelope(headers: Json, properties: Json) -> str:
    """Check what a worker relies on around the body; returns the routing key."""
    routing_key = properties["delivery_info"]["routing_key"]
    texts = {"headers.id": headers["id"], "delivery_tag": properties["delivery_tag"]}
    for name, value in {**texts, "delivery_info.routing_key": routing_key}.items():
        if not isinstance(value, str) or not value:
            raise Unreadable(f"{name} must be text, was {shown(value)}", "field_type")
    for name in ("eta", "expires"):
        if headers.get(name) is not None:
            _check_time(name, headers[name])
    return str(routing_key)


def _check_time(name: str, value: object) -> None:
    """See that a header is a time, and an eta no later than a message may wait.

    Raises:
        Unreadable: it is none, or is too far away.
    """
    try:
        when = datetime.fromisoformat(cast("str", value))
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        away = (when - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        raise Unreadable(f"{name} must be an ISO 8601 time, was {shown(value)}", "time") from None
    if name == "eta" and away > MOST_ETA_S:
        raise Unreadable(f"eta may be at most {MOST_ETA_S:.0f} s away, was {value}: let your own program wait", "time")


def fault(item: bytes) -> str | None:
    """Say what is wrong with a message, or None if a worker can take it."""
    try:
        clean(item)
    except Unreadable as error:
        return str(error)
    return None
