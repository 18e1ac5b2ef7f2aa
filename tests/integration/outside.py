"""A program in another house: Celery alone, none of our packages on its path; good, odd and wrong messages."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from producers.bell import envelope
from tests.kit import World

#: A strategy in another house: Celery alone, none of our packages on its path.
BARE = """
import json, sys
from celery import Celery
assert not any(name.split(".")[0] in ("models", "producers", "worker") for name in sys.modules)
url, task, queue, kwargs = sys.argv[1:]
app = Celery(broker=url)
app.send_task(task, kwargs=json.loads(kwargs), queue=queue)
app.close()
"""


def body(**changes: Any) -> dict[str, Any]:
    """Return an order object as the contract has it."""
    now = datetime.now(UTC)
    order = {
        "version": 1, "client_order_id": f"outside-{uuid.uuid4().hex[:12]}", "symbol": "AAPL", "side": "buy",
        "quantity": "3", "order_type": "market", "time_in_force": "day", "created_at": now.isoformat(),
        "expires_at": (now + timedelta(seconds=60)).isoformat(),
    }  # fmt: skip
    return {key: value for key, value in {**order, **changes}.items() if value is not ...}


def push(world: World, *orders: Any, queue: str = "orders.alpaca", task: str = "orders.submit") -> None:
    """Put a well-formed message with these order objects on the queue."""
    world.fleet.queue.lpush(queue, envelope(task, queue, {"orders": list(orders)}))


def send_bare(world: World, task: str, queue: str, kwargs: dict[str, Any]) -> None:
    """Send a task as a program does that has Celery alone."""
    said = world.script(BARE, world.settings.queue_url, task, queue, json.dumps(kwargs))
    assert said.status == 0, said


def message(**changes: Any) -> dict[str, Any]:
    """Return a good message with changes at `part.key`; ... takes the key away."""
    made = json.loads(envelope("orders.submit", "orders.alpaca", {"orders": [body()]}))
    for path, value in changes.items():
        *parents, key = path.split("__")
        place = made
        for parent in parents:
            place = place[parent]
        if value is ...:
            place.pop(key)
        else:
            place[key] = value
    return made


def b64(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


UNREADABLE: dict[str, bytes] = {
    "garbage": b"\x00\xff\xfe garbage \x80",
    "empty": b"",
    "a word": b"hello",
    "a number": b"42",
    "a list": b"[1, 2, 3]",
    "null": b"null",
    "an empty object": b"{}",
    "cut off": json.dumps(message()).encode()[:200],
    "no headers": json.dumps(message(headers=...)).encode(),
    "headers null": json.dumps(message(headers=None)).encode(),
    "no content-type": json.dumps(message(**{"content-type": ...})).encode(),
    "pickle": json.dumps(message(**{"content-type": "application/x-python-serialize"})).encode(),
    "no task": json.dumps(message(headers__task=...)).encode(),
    "no id": json.dumps(message(headers__id=...)).encode(),
    "id is a number": json.dumps(message(headers__id=7)).encode(),
    "no properties": json.dumps(message(properties=...)).encode(),
    "no delivery_tag": json.dumps(message(properties__delivery_tag=...)).encode(),
    "no delivery_info": json.dumps(message(properties__delivery_info=...)).encode(),
    "no body": json.dumps(message(body=...)).encode(),
    "body is no JSON": json.dumps(message(body="{")).encode(),
    "body is an object": json.dumps(message(body="{}")).encode(),
    "body is too short": json.dumps(message(body="[[], {}]")).encode(),
    "body is bad base64": json.dumps(message(body="%%%", properties__body_encoding="base64")).encode(),
    "args are an object": json.dumps(message(body=b64([{}, {}, {}]), properties__body_encoding="base64")).encode(),
    "kwargs are a list": json.dumps(message(body="[[], [], {}]")).encode(),
}


#: Readable for the transport, but nothing that this worker does; dropped or logged, never fatal.
ODD: dict[str, bytes] = {
    "unknown task": json.dumps(message(headers__task="orders.destroy")).encode(),
    "content-encoding missing": json.dumps(message(**{"content-encoding": ...})).encode(),
    "content-encoding unknown": json.dumps(message(**{"content-encoding": "klingon"})).encode(),
    "retries is a word": json.dumps(message(headers__retries="many")).encode(),
    "eta is a word": json.dumps(message(headers__eta="soon")).encode(),
    "expires is a word": json.dumps(message(headers__expires="soon")).encode(),
    "expires long ago": json.dumps(message(headers__expires="2020-01-01T00:00:00+00:00")).encode(),
    "timelimit is a word": json.dumps(message(headers__timelimit="long")).encode(),
    "embed is null": json.dumps(message(body='[[], {"orders": []}, null]')).encode(),
    "embed is a list": json.dumps(message(body='[[], {"orders": []}, []]')).encode(),
    "embed with a chain": json.dumps(message(body='[[], {"orders": []}, {"chain": ["x"]}]')).encode(),
    "priority is a word": json.dumps(message(properties__priority="high")).encode(),
    "delivery_info is a word": json.dumps(message(properties__delivery_info="here")).encode(),
    "delivery_tag is a list": json.dumps(message(properties__delivery_tag=["x"])).encode(),
    "body is a number": json.dumps(message(body=7)).encode(),
    "no arguments": json.dumps(message(body="[[], {}, {}]")).encode(),
    "an argument too many": json.dumps(message(body='[[], {"orders": [], "more": 1}, {}]')).encode(),
    "orders is a number": json.dumps(message(body='[[], {"orders": 7}, {}]')).encode(),
    "orders is null": json.dumps(message(body='[[], {"orders": null}, {}]')).encode(),
}


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "quantity NaN": ({"quantity": "NaN"}, ["quantity", "NaN"]),
    "quantity infinite": ({"quantity": "Infinity"}, ["quantity", "Infinity"]),
    "quantity negative": ({"quantity": "-5"}, ["quantity", "-5"]),
    "quantity zero": ({"quantity": "0"}, ["quantity", "0"]),
    "quantity true": ({"quantity": True}, ["quantity", "was true"]),
    "quantity a word": ({"quantity": "ten"}, ["quantity", "ten"]),
    "quantity missing": ({"quantity": ...}, ["quantity", "required"]),
    "quantity a list": ({"quantity": [1]}, ["quantity", "[1]"]),
    "quantity too long": ({"quantity": "1" * 40}, ["quantity", "1" * 40]),
    "side unknown": ({"side": "hold"}, ["side", "hold"]),
    "side missing": ({"side": ...}, ["side", "required"]),
    "type unknown": ({"order_type": "iceberg"}, ["order_type", "iceberg"]),
    "tif unknown": ({"time_in_force": "forever"}, ["time_in_force", "forever"]),
    "limit without price": ({"order_type": "limit"}, ["limit_price", "none"]),
    "market with price": ({"limit_price": "5"}, ["limit_price", "5"]),
    "limit price NaN": ({"order_type": "limit", "limit_price": "nan"}, ["limit_price", "nan"]),
    "unknown broker": ({"route": ["alpaca", "robinhood"]}, ["route", "robinhood"]),
    "empty route": ({"route": []}, ["route"]),
    "route a word": ({"route": "alpaca"}, ["route", "alpaca"]),
    "symbol a number": ({"symbol": 7}, ["symbol", "7"]),
    "symbol SQL": ({"symbol": "A'; DROP TABLE orders;--"}, ["symbol", "DROP"]),
    "symbol missing": ({"symbol": ...}, ["symbol", "required"]),
    "version 3": ({"version": 3}, ["version", "3"]),
    "unknown field": ({"quantitty": "3"}, ["quantitty"]),
    "created_at naive": ({"created_at": "2026-01-05T10:00:00"}, ["created_at", "zone"]),
    "expires before created": ({"expires_at": "2001-01-01T00:00:00Z"}, ["expires_at", "2001"]),
    "strategy a number": ({"strategy": 9}, ["strategy", "9"]),
    "tags nested": ({"tags": {"a": {"b": 1}}}, ["tags"]),
}
