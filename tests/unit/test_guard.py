"""The guard at the queue's door: what would hurt a worker is named and set aside, what a worker can take passes."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Connection, Consumer, Queue
from kombu.exceptions import DecodeError

from models import encoding as wire
from models.errors import InvalidOrder
from models.messages import OrderRequest
from producers.bell import envelope
from worker.messaging.guard import MOST_BYTES, Unreadable, clean, fault

Message = dict[str, Any]


def message() -> Message:
    found: Message = json.loads(envelope("orders.submit", "orders.ibkr", {"orders": []}))
    return found


def changed(*path: str, to: Any = ...) -> bytes:
    """A good message with one field changed, or dropped."""
    whole = message()
    part = whole
    for name in path[:-1]:
        part = part[name]
    if to is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = to
    return json.dumps(whole).encode()


def b64(text: bytes) -> str:
    return base64.b64encode(text).decode()


def with_body(body: Any, encoding: str | None = "base64") -> bytes:
    whole = message()
    whole["body"] = body
    if encoding:
        whole["properties"]["body_encoding"] = encoding
    return json.dumps(whole).encode()


GOOD_BODY = json.dumps([[], {"orders": []}, {}]).encode()

GOOD: dict[str, bytes] = {
    "ours": json.dumps(message()).encode(),
    "base64, as apply_async writes it": with_body(b64(GOOD_BODY)),
    "arguments by position": with_body(json.dumps([[[]], {}, {}]), None),
    "embed null": with_body(json.dumps([[], {"orders": []}, None]), None),
    "no content-encoding": changed("content-encoding"),
    "no correlation_id": changed("properties", "correlation_id"),
    "no priority": changed("properties", "priority"),
    "no root_id": changed("headers", "root_id"),
    **{f"a signed {kind}": envelope(f"orders.{kind}", "control.ibkr", {"signed": "{}", "key": "k", "sig": "s"})
       for kind in ("cancel", "replace")},
    "the smallest that a worker runs": json.dumps({
        "body": '[[], {"orders": []}, {}]', "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": "orders.submit", "id": "1"},
        "properties": {"delivery_info": {"exchange": "", "routing_key": "orders.ibkr"}, "delivery_tag": "1"},
    }).encode(),
}  # fmt: skip

#: name -> message, word that the verdict must hold
BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", ""),
    "no JSON": (b"buy 10 AAPL", ""),
    "cut off": (envelope("orders.submit", "q", {})[:-20], ""),
    "no text": (b"\xff\xfe\x00", ""),
    "pickle": (b"\x80\x04\x95\x0b", ""),
    "null": (b"null", ""),
    "a number": (b"7", ""),
    "a list": (b"[]", ""),
    "a bare order": (b'{"symbol": "AAPL"}', "headers"),
    "too deep": (b"[" * 100_000, ""),
    "deep and closed": (b"[" * 100_000 + b"]" * 100_000, ""),
    "body too deep": (with_body("[" * 100_000, None), ""),
    **{f"no {name}": (changed(name), name) for name in ("body", "content-type", "headers", "properties")},
    **{f"no {name}": (changed("properties", name), name) for name in ("delivery_tag", "delivery_info")},
    **{f"no headers.{name}": (changed("headers", name), name) for name in ("id", "task")},
    "no routing_key": (changed("properties", "delivery_info", "routing_key"), "routing_key"),
    **{f"{name} null": (changed(name, to=None), "") for name in ("body", "content-type", "headers", "properties")},
    **{f"{name} a number": (changed(name, to=7), "") for name in ("body", "content-type", "headers", "properties")},
    **{f"headers.{n} {v!r}": (changed("headers", n, to=v), "") for n in ("id", "task") for v in (None, 7, [], {})},
    "delivery_tag null": (changed("properties", "delivery_tag", to=None), "delivery_tag"),
    "delivery_tag empty": (changed("properties", "delivery_tag", to=""), "delivery_tag"),
    "delivery_tag a list": (changed("properties", "delivery_tag", to=["x"]), "delivery_tag"),
    "delivery_tag an object": (changed("properties", "delivery_tag", to={"x": 1}), "delivery_tag"),
    "delivery_info null": (changed("properties", "delivery_info", to=None), ""),
    "delivery_info text": (changed("properties", "delivery_info", to="orders"), ""),
    "pickled content": (changed("content-type", to="application/x-python-serialize"), "content-type"),
    "yaml content": (changed("content-type", to="application/x-yaml"), "content-type"),
    "body an object": (changed("body", to={"orders": []}), ""),
    "body no JSON": (changed("body", to="buy"), ""),
    "body empty": (changed("body", to=""), ""),
    "body not base64": (with_body("***"), ""),
    "body base64 of nothing": (with_body(""), ""),
    "body base64 of no JSON": (with_body(b64(b"buy")), ""),
    "body base64 cut off": (with_body(b64(GOOD_BODY)[:-3]), ""),
    "body base64 of no text": (with_body(b64(b"\xff\xfe")), ""),
    "body kwargs only": (changed("body", to='{"orders": []}'), ""),
    "body of two": (changed("body", to="[[], {}]"), ""),
    "body of four": (changed("body", to="[[], {}, {}, {}]"), ""),
    "args no list": (changed("body", to="[{}, {}, {}]"), "body"),
    "kwargs no object": (changed("body", to="[[], [], {}]"), "body"),
    "a signed cancel with ids beside": (
        envelope("orders.cancel", "q", {"signed": "{}", "key": "k", "sig": "s", "client_order_ids": []}),
        "only",
    ),
    "a signed cancel with more": (envelope("orders.cancel", "q", {"signed": "{}", "key": "k", "all": True}), "only"),
    "an unknown task": (changed("headers", "task", to="os.system"), "os.system"),
    "a task without its argument": (changed("body", to="[[], {}, {}]"), "orders"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_worker_may_take(name: str) -> None:
    assert fault(GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_is_set_aside(name: str) -> None:
    item, word = BAD[name]
    why = fault(item)
    assert why, "it would reach the worker"
    assert word in why, why


def orders_of(count: int) -> bytes:
    return envelope("orders.submit", "orders.ibkr", {"orders": [{}] * count})


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


#: name -> message, the word by which it is counted
REASONS: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"buy 10 AAPL", "not_a_message"),
    "a header missing": (changed("headers", "id"), "field_missing"),
    "no content-type": (changed("content-type"), "field_missing"),
    "a header of the wrong type": (changed("headers", "id", to=7), "field_type"),
    "pickle": (changed("content-type", to="application/x-python-serialize"), "content_type"),
    "unknown task": (changed("headers", "task", to="os.system"), "unknown_task"),
    "argument missing": (changed("body", to="[[], {}, {}]"), "arguments"),
    "argument twice": (with_body(json.dumps([[[]], {"orders": []}, {}]), None), "arguments"),
    "two by position": (with_body(json.dumps([[[], []], {}, {}]), None), "arguments"),
    "one order too many": (orders_of(101), "too_many"),
    "a dictionary of many": (envelope("orders.submit", "q", {"orders": dict.fromkeys(range(101))}), "too_many"),
    "many by position": (changed("body", to=json.dumps([[[{}] * 101], {}, {}])), "too_many"),
    "too many cancels": (envelope("orders.cancel", "q", {"client_order_ids": ["x"] * 1001}), "too_many"),
    "too long": (b"[" + b" " * MOST_BYTES, "too_large"),
    "eta a word": (changed("headers", "eta", to="soon"), "time"),
    "eta a number": (changed("headers", "eta", to=7), "time"),
    "eta in the year 9999": (changed("headers", "eta", to="9999-12-31T23:59:59-14:00"), "time"),
    "eta in an hour": (changed("headers", "eta", to=in_seconds(3600)), "time"),
    "expires a list": (changed("headers", "expires", to=[1]), "time"),
    "compressed": (changed("headers", "compression", to="application/x-gzip"), "content_type"),
    "an argument written twice": (with_body('[[], {"orders": [], "orders": []}, {}]', None), "arguments"),
    "an argument that Celery takes itself": (envelope("data.quote", "q", {"fetch_id": "f", "self": 1}), "arguments"),
    **{
        f"a fetch called {name!r:.20}": (envelope("data.quote", "q", {"fetch_id": name, "symbol": "KO"}), "arguments")
        for name in (None, {"a": 1}, "", "x" * 65, "a b", "a\x00b", ["f"])
    },
}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_set_aside_is_counted_by_a_word(name: str) -> None:
    item, reason = REASONS[name]
    with pytest.raises(Unreadable) as caught:
        clean(item)
    assert caught.value.reason == reason


def test_what_a_message_may_ask_for() -> None:
    assert fault(orders_of(100)) is None
    assert fault(changed("headers", "eta", to=in_seconds(10))) is None
    assert fault(changed("headers", "eta", to="0001-01-01T00:00:00+14:00")) is None
    assert fault(envelope("orders.cancel", "q", {"client_order_ids": ["x"] * 1000})) is None


def test_a_message_is_handed_back_to_the_queue_it_came_from() -> None:
    elsewhere = changed("properties", "delivery_info", "routing_key", to="nobody.reads.this")
    assert json.loads(clean(elsewhere, "orders.ibkr"))["properties"]["delivery_info"]["routing_key"] == "orders.ibkr"


def first_order(fields: str) -> dict[str, Any]:
    """What a worker gets of an order object with these fields."""
    found = clean(with_body(f'[[], {{"orders": [{{{fields}}}]}}, {{}}]', None))
    order: dict[str, Any] = json.loads(json.loads(found)["body"])[1]["orders"][0]
    return order


@pytest.mark.parametrize("name", ["quantity", "client_order_id", "symbol", "side", "strategy", "tags", "route"])
def test_no_reader_chooses_between_two_values_of_one_field(name: str) -> None:
    order = {"client_order_id": "k", "symbol": "KO", "side": "buy", "quantity": "1"}
    twice = json.dumps(order)[1:-1] + f', "{name}": "1", "{name}": "1000"'
    with pytest.raises(InvalidOrder, match=f"{name}.*(given more than once|must be|valid string)"):
        OrderRequest(**first_order(twice))


@pytest.mark.parametrize(
    "number", ["0.1", "45.12345678901234567", "1e400", "9" * 5000, "12345678901234567890", "NaN", "-Infinity"]
)
def test_a_number_comes_in_as_it_was_written(number: str) -> None:
    assert first_order(f'"quantity": {number}') == {"quantity": number}


@given(st.binary(max_size=200))
@settings(max_examples=120, deadline=None)
def test_any_bytes_are_judged_without_an_exception(item: bytes) -> None:
    assert fault(item)


# -- WHAT THE GUARD LETS THROUGH CANNOT HURT A WORKER ---
def _celery() -> Celery:
    app = Celery("guarded", set_as_current=False)
    app.conf.update(accept_content=["json"])

    @app.task(name="orders.submit", shared=False)
    def submit(orders: object) -> None: ...

    app.finalize()
    return app


APP = _celery()


def consume(item: bytes) -> None:
    """Do with a message what a worker does before the task runs; what a worker survives is no failure."""
    item = clean(item)
    with Connection("memory://") as connection, connection.channel() as channel:
        name = uuid.uuid4().hex
        queue = Queue(name, channel=channel, auto_delete=True)
        taken: list[Any] = []
        survived: list[Exception] = []
        with Consumer(
            channel, [queue], accept=["json"], on_message=taken.append,
            on_decode_error=lambda message, error: survived.append(error),
        ):  # fmt: skip
            channel._put(name, json.loads(item))
            connection.drain_events(timeout=1)
        for found in taken:
            try:
                request = Request(found, app=APP, task=APP.tasks["orders.submit"])
                assert isinstance(request.kwargs, dict)
            except (InvalidTaskError, DecodeError) as error:
                survived.append(error)
        assert taken or survived


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
FIELDS: list[tuple[str, ...]] = [
    ("body",), ("content-type",), ("content-encoding",), ("headers",), ("properties",),
    *(("headers", n) for n in ("task", "id", "eta", "expires", "retries", "timelimit", "root_id", "parent_id",
                               "group", "lang", "argsrepr", "kwargsrepr", "ignore_result", "compression", "stamps")),
    *(("properties", n) for n in ("correlation_id", "delivery_mode", "delivery_info", "priority", "delivery_tag",
                                  "body_encoding", "reply_to")),
    ("properties", "delivery_info", "exchange"), ("properties", "delivery_info", "routing_key"),
]  # fmt: skip


@given(st.sampled_from(FIELDS), ANYTHING | st.just(...))
@settings(max_examples=150, deadline=None)
def test_a_garbled_message_is_set_aside_or_harmless(path: tuple[str, ...], value: Any) -> None:
    if value is ... and path[-1] not in _part(message(), path):
        return
    item = changed(*path, to=value)
    if fault(item) is None:
        consume(item)


def _part(whole: Message, path: tuple[str, ...]) -> Message:
    for name in path[:-1]:
        whole = whole[name]
    return whole


@pytest.mark.parametrize("name", GOOD)
def test_good_messages_become_requests(name: str) -> None:
    consume(GOOD[name])


@given(st.dictionaries(st.text(max_size=5), ANYTHING, max_size=3))
@settings(max_examples=100, deadline=None)
def test_what_is_written_anew_says_the_same(order: dict[str, Any]) -> None:
    before = json.loads(envelope("orders.submit", "orders.ibkr", {"orders": [order]}))
    after = json.loads(clean(json.dumps(before).encode()))
    assert wire.exactly(after["body"]) == wire.exactly(before["body"])  # numbers as they were written
    for name in ("id", "task"):
        assert after["headers"][name] == before["headers"][name]
    assert after["properties"]["delivery_tag"] != before["properties"]["delivery_tag"]  # theirs may not be unique
    assert after["properties"]["delivery_info"]["routing_key"] == "orders.ibkr"
    assert fault(clean(json.dumps(after).encode())) is None


SURE: list[Callable[[], bytes]] = [
    lambda: changed("content-encoding", to=5),
    lambda: changed("content-encoding", to="klingon"),
    lambda: changed("headers", "compression", to="zzz"),
    lambda: changed("properties", "body_encoding", to="rot13"),
    lambda: changed("properties", "delivery_tag", to=7),
    lambda: changed("headers", "eta", to="soon"),
    lambda: changed("headers", "expires", to=[1]),
    lambda: changed("headers", "timelimit", to=5),
]


@pytest.mark.parametrize("make", SURE, ids=range(len(SURE)))
def test_what_kombu_stumbles_over_is_set_aside_or_harmless(make: Callable[[], bytes]) -> None:
    if fault(make()) is None:
        consume(make())


@pytest.mark.parametrize("id_", ["\u0000", "\ud800", "", "a b", "x" * 65, "o-1~2"], ids=ascii)
def test_a_ring_that_names_what_no_order_can_be_called_is_garbage(id_: str) -> None:
    ring = envelope("orders.submit", "orders.ibkr", {"orders": [{"client_order_id": "PUT"}]}, ring=True)
    assert fault(ring) is None
    escaped = json.dumps(json.dumps(id_)[1:-1])[1:-1]  # the body is JSON inside JSON
    assert "no client_order_id" in str(fault(ring.replace(b"PUT", escaped.encode())))
