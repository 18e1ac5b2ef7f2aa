"""What goes wrong is told in words: what, where, what to look at; nothing of Python's own."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import redis
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from models.errors import BrokerError, ConnectionLost, CorroError, InvalidOrder, NotConnected, SubmitTimeout
from models.explaining import shown
from models.messages import OrderRequest
from models.troubles import trouble
from worker.brokers.rest.http import Wire, classify, exchange

#: Classes, objects and tuples as Python writes them.
PYTHONS = re.compile(r"\w+(Error|Exception|Pool)\(|<[\w.]+ object|0x[0-9a-f]{4}|\[Errno|Decimal\(")
HEAD = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """Serve one answer to whoever connects, on a port of its own; None: none at all."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as lines:

        def serve() -> None:
            try:
                while True:
                    line = lines.enter_context(server.accept()[0])
                    line.recv(1000)
                    if answer is not None:
                        line.sendall(answer)
                        line.close()
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def failure(url: str) -> BrokerError:
    with exchange(0.4) as watched, pytest.raises(Exception) as failed:  # noqa: PT011 -- whatever it is
        Wire(connect_s=0.3, read_s=0.3).request("GET", url)
    return classify(failed.value, watched, "alpaca")


@pytest.mark.parametrize(
    ("scheme", "answer", "kind", "words"),
    [
        ("http", None, SubmitTimeout, "no answer in time"),
        ("http", b"", ConnectionLost, "the other side closed the connection without an answer"),
        ("http", b"garbage\r\n", ConnectionLost, "the answer is no HTTP"),
        ("http", HEAD + b"Content-Length: 9\r\n\r\nabc", ConnectionLost, "after 3 bytes, 6 more were to come"),
        ("https", b"garbage", NotConnected, "no TLS is spoken there (is it the right port, and https?)"),
    ],
)
def test_a_broker_that_does_not_answer_well_is_told_in_words(
    scheme: str, answer: bytes | None, kind: type[BrokerError], words: str
) -> None:
    with answering(answer) as port:
        found = failure(f"{scheme}://127.0.0.1:{port}/v2/account")
    assert isinstance(found, kind)
    assert words in str(found)
    assert PYTHONS.search(str(found)) is None


def test_a_port_where_nobody_listens_is_named_with_what_to_look_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    refused = f"{place}: connection refused (is it running there?)"
    assert str(failure(f"http://{place}/v2/account")) == f"alpaca: {refused}; nothing was sent"
    host, port = place.split(":")
    assert _told(lambda: redis.Redis(host, int(port)).ping()) == refused
    assert _told(lambda: asyncio.run(asyncio.open_connection(host, int(port)))) == refused


def _told(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as failed:  # noqa: PT011 -- whatever it is
        call()
    return trouble(failed.value)


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: json.loads("x"), "no JSON: expecting value: line 1 column 1 (char 0)"),
        (lambda: Path("/nosuch/file").read_text(), "/nosuch/file: no such file or directory"),
        (lambda: {}["price"], "price is missing"),
        (lambda: Decimal("x"), "no number"),
        (lambda: b"\xff".decode(), "the text is no UTF-8"),
        (lambda: _raise(TimeoutError()), "no answer in time"),
        (lambda: _raise(ConnectionResetError(104, "Connection reset by peer")), "connection reset by the other side"),
        (lambda: _raise(redis.exceptions.OutOfMemoryError("command not allowed")), "OOM command not allowed"),
        (lambda: _raise(redis.exceptions.ReadOnlyError("You can't write")), "READONLY You can't write"),
        (lambda: _raise(InvalidOrder("side: is required")), "side: is required"),
        (lambda: _raise(asyncio.CancelledError()), "cancelled error"),
    ],
)  # fmt: skip
def test_an_error_of_a_library_is_told_in_words(call: Callable[[], object], words: str) -> None:
    with pytest.raises(BaseException) as failed:  # noqa: PT011 -- whatever it is
        call()
    assert trouble(failed.value) == words


@pytest.mark.parametrize(
    ("outer", "cause", "words"),
    [
        (ConnectionClosedError(Close(1008, "not authorized"), None), ConnectionResetError(104, "reset"),
         "received 1008 (policy violation) not authorized; no close frame sent: connection reset by the other side"),
        (ValueError("order 4711"), KeyError("permId"), "order 4711: permId is missing"),
        (ValueError("[Errno 104] reset"), ConnectionResetError(104, "reset"), "connection reset by the other side"),
        (RuntimeError(), KeyError("permId"), "permId is missing"),
        (ValueError("order 4711: permId is missing"), KeyError("permId"), "order 4711: permId is missing"),
        (ValueError("order 4711: 'permId'"), KeyError("permId"), "order 4711: permId is missing"),
        (ValueError("page 3: no reply"), ValueError("no reply"), "page 3: no reply"),
        (ValueError("the row: [Errno 104] reset"), ConnectionResetError(104, "reset"),
         "the row: connection reset by the other side"),
    ],
)  # fmt: skip
def test_words_of_an_error_stand_before_those_of_the_one_that_it_was_raised_from(
    outer: Exception, cause: Exception, words: str
) -> None:
    outer.__cause__ = cause
    assert trouble(outer) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"), (True, "true"), (Decimal("1.50"), "1.5"), ({"a": [None, Decimal(1)]}, '{"a":[null,"1"]}'),
        ("KO", "'KO'"), (object(), "a value of the kind object"),
    ],
)  # fmt: skip
def test_a_value_is_shown_as_it_is_written(value: object, words: str) -> None:
    assert shown(value) == words


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"side": "b"}, "side: must be 'buy', 'sell', 'sell_short' or 'buy_to_cover', was 'b'"),
        ({"quantity": True}, "quantity: must be a decimal number, was true"),
        ({"extended_hours": "often"}, "extended_hours: must be true or false, was 'often'"),
        ({"quantity": Decimal(-1)}, "quantity: must be greater than zero, was -1"),
    ],
)
def test_a_field_that_is_refused_is_told_without_pydantics_words(terms: dict[str, object], words: str) -> None:
    given: dict[str, object] = {"symbol": "KO", "side": "buy", "quantity": "1", **terms}
    with pytest.raises(CorroError, match=re.escape(words)):
        OrderRequest(**given)
