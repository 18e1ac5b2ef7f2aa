"""Answers without an end: every one of them is over in time, in little memory, and says that it could not be read."""

from __future__ import annotations

import gzip
import socket
import time
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests

from models.errors import OutcomeUnknown, SubmitTimeout, UnreadableReply
from tests.unit.raw_server import RawServer, failure
from worker.brokers.rest.bodies import MOST_BYTES
from worker.brokers.rest.headers import pass_on, retry_after
from worker.brokers.rest.http import Wire
from worker.pacing.budget import LONGEST_PAUSE_S, Budget, Use, using
from worker.pacing.window import Rate

Serve = Callable[..., RawServer]
OK = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(2**24)) * 16  # 256 MB in 256 kB


def saying(*pieces: bytes) -> Callable[..., None]:
    def behave(connection: socket.socket, *_: Any) -> None:
        for piece in pieces:
            connection.sendall(piece)
        connection.close()

    return behave


def pouring(begin: bytes, piece: bytes, pause_s: float = 0.0) -> Callable[..., None]:
    def behave(connection: socket.socket, *_: Any) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(piece)
            time.sleep(pause_s)

    return behave


def whole(head: bytes, body: bytes) -> Callable[..., None]:
    return saying(OK + head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)


FLOODS = {
    "gzip": (whole(b"Content-Encoding: gzip\r\n", BOMB), UnreadableReply),
    "zlib": (whole(b"Content-Encoding: deflate\r\n", zlib.compress(bytes(2**26))), UnreadableReply),
    "endless body": (pouring(OK + b"\r\n", b"[" * 65536), UnreadableReply),
    "endless chunks": (
        pouring(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n%s\r\n" % (b" " * 65536)),
        UnreadableReply,
    ),
    "endless size of a chunk": (pouring(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65536), OutcomeUnknown),
    "endless header": (pouring(OK + b"X-Long: ", b"x" * 65536), OutcomeUnknown),
    "endless interim answers": (pouring(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), OutcomeUnknown),
    "too long by its own word": (
        pouring(OK + b"Content-Length: 99999999999999\r\n\r\n", b" " * 65536),
        UnreadableReply,
    ),
    "drips": (pouring(OK + b"\r\n", b" ", 0.001), SubmitTimeout),
    "drips in chunks": (pouring(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.001), SubmitTimeout),
}


@pytest.mark.parametrize("name", FLOODS)
def test_an_answer_without_an_end_ends_in_time_and_in_little_memory(wire: Wire, serve: Serve, name: str) -> None:
    behave, expected = FLOODS[name]
    server, began = serve(behave), time.monotonic()
    tracemalloc.start()
    try:
        found = failure(wire, server.url, deadline_s=1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found, expected)
    assert time.monotonic() - began < 1.5
    assert peak < 5 * MOST_BYTES


@pytest.mark.parametrize("use", [Use.ORDER, Use.STATUS, Use.URGENT, Use.DATA])
def test_only_market_data_may_be_large(wire: Wire, serve: Serve, use: Use) -> None:
    server = serve(whole(b"", b" " * (MOST_BYTES + 1)))
    with using(use):
        assert (failure(wire, server.url) is None) is (use is Use.DATA)


@pytest.mark.parametrize(
    ("packing", "body"),
    [
        (b"gzip", gzip.compress(b'{"id": 1}')),
        (b"GZIP", gzip.compress(b'{"id"') + gzip.compress(b": 1}")),
        (b"x-gzip", gzip.compress(b'{"id": 1}')),
        (b"deflate", zlib.compress(b'{"id": 1}')),
        (b"identity", b'{"id": 1}'),
    ],
    ids=["gzip", "members", "x-gzip", "zlib", "plain"],
)
def test_a_packed_answer_is_read(wire: Wire, serve: Serve, packing: bytes, body: bytes) -> None:
    server = serve(whole(b"Content-Encoding: " + packing + b"\r\n", body))
    assert wire.request("GET", server.url).json() == {"id": 1}
    assert b"Accept-Encoding: gzip\r\n" in server.requests[0]


@pytest.mark.parametrize(
    ("packing", "body"),
    [
        (b"gzip", b"no gzip"),
        (b"gzip", gzip.compress(b'{"id": 1}')[:-9]),
        (b"br", b"x"),
        (b"gzip, gzip", gzip.compress(b"{}")),
    ],
    ids=["no gzip", "half", "br", "twice"],
)
def test_an_answer_that_cannot_be_unpacked_is_unreadable(wire: Wire, serve: Serve, packing: bytes, body: bytes) -> None:
    server = serve(whole(b"Content-Encoding: " + packing + b"\r\n", body))
    assert type(failure(wire, server.url)) is UnreadableReply


def test_what_is_left_of_a_flood_is_not_the_next_answer(wire: Wire, serve: Serve) -> None:
    def behave(connection: socket.socket, _: bytes, number: int) -> None:
        (FLOODS["endless body"][0] if number == 1 else whole(b"", b'{"id": 2}'))(connection)

    server = serve(behave)
    assert isinstance(failure(wire, server.url), UnreadableReply)
    assert wire.request("GET", server.url).json() == {"id": 2}
    assert server.connections == 2


def test_no_proxy_carries_what_goes_in_the_clear(serve: Serve, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(whole(b"", b"{}")), serve(whole(b"", b'{"id": 3}'))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert wire.request("GET", server.url).json() == {"id": 3}
    assert proxy.requests == []


# -- HEADERS ---
STRANGE = [
    "inf",
    "-inf",
    "nan",
    "1e12",
    "-1e12",
    "-5",
    "1e999",
    "9" * 400,
    "0x10",
    "",
    " ",
    "soon",
    "1,5",
    "\u0663",
    "5 s",
]
DATES = [
    "Wed, 21 Oct 2015 07:28:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Mon, 01 Jan 0001 00:00:00 GMT",
    "Mon, 99 Foo 2026 99:99:99 GMT",
    "Mon, 01 Jan 99999999 00:00:00 -9999",
]


@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Reset"])
@pytest.mark.parametrize("text", STRANGE + DATES)
def test_a_wait_that_a_header_asks_for_is_between_nothing_and_five_minutes(name: str, text: str) -> None:
    found = retry_after({name: text})
    assert found is None or 0 <= found <= LONGEST_PAUSE_S


def test_a_wait_is_read_from_seconds_from_a_date_and_from_the_reset() -> None:
    assert retry_after({"Retry-After": "7"}) == 7
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < (retry_after({"Retry-After": soon}) or 0) <= 90
    assert retry_after({"Retry-After": "inf"}) == LONGEST_PAUSE_S
    assert retry_after({"Retry-After": "-5"}) == 0
    assert 20 < (retry_after({"Retry-After": "soon", "X-RateLimit-Reset": str(time.time() + 30)}) or 0) <= 30
    assert [retry_after({"Retry-After": text}) for text in ("nan", "soon", "")] == [None, None, None]


@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("text", STRANGE + DATES)
@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"])
def test_no_header_holds_an_account_up_for_more_than_five_minutes(name: str, text: str, status: int) -> None:
    now = 1000.0
    budget = Budget("x", Rate(190, 60.0), clock=lambda: now)
    answer = requests.Response()
    answer.status_code = status
    answer.headers.update(
        {"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(time.time() + 9)}
    )
    answer.headers[name] = text
    pass_on(answer, budget)
    assert 0 <= budget.try_spend(Use.URGENT) <= LONGEST_PAUSE_S
