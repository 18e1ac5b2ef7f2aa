"""Services that people are told by, and the heartbeat's receiver, whose answers have no end."""

from __future__ import annotations

import gzip
import resource
import socket
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.raw_server import RawServer, answer, drip
from worker.notify import sending
from worker.notify.post import MOST_MEMORY, post

Behave = Callable[..., None]
Serve = Callable[[Behave], RawServer]
OK = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(2**24)) * 64  # 1 GB in 1 MB
PACKED = f"Content-Encoding: gzip\r\nContent-Length: {len(BOMB)}\r\n\r\n".encode() + BOMB


def pouring(begin: bytes) -> Behave:
    def behave(connection: socket.socket, *_: Any) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(b"z" * 65536)

    return behave


def moved(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\n".encode()


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        pytest.param(drip, "no answer in time", id="a head that drips"),
        pytest.param(pouring(OK + b"X-Long: "), "header", id="a head without an end"),
        pytest.param(pouring(OK + b"\r\n"), None, id="a body without an end"),
        pytest.param(pouring(moved("/again") + b"\r\n"), "moved more than", id="moved, with a body without an end"),
        pytest.param(
            lambda connection, *_: connection.sendall(moved("/again") + PACKED), "moved more than", id="moved, packed"
        ),
    ],
)
def test_a_heartbeat_ends_in_time_and_in_little_memory(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, behave: Behave, words: str | None
) -> None:
    monkeypatch.setattr(sending, "_HEARTBEAT_S", 0.5)
    server, began = serve(behave), time.monotonic()
    tracemalloc.start()
    try:
        said = sending.beat(f"{server.url}/T0pS3cretPathToken")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (said is None) if words is None else (words in str(said) and "T0pS3cret" not in str(said))
    assert time.monotonic() - began < 2
    assert peak < 8 * 2**20


def test_a_heartbeat_goes_where_its_address_has_moved_to(serve: Serve) -> None:
    there = serve(answer)
    here = serve(lambda connection, *_: connection.sendall(moved(f"{there.url}/b") + b"Content-Length: 0\r\n\r\n"))
    assert sending.beat(f"{here.url}/a") is None
    assert there.requests[0].startswith(b"GET /b ")


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(pouring(OK + b"\r\n"), id="a body without an end"),
        pytest.param(lambda connection, *_: connection.sendall(OK + PACKED), id="packed"),
    ],
)
def test_a_service_takes_no_memory_of_the_process_that_tells_it(serve: Serve, behave: Behave) -> None:
    pytest.importorskip("apprise")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    url = serve(behave).url.replace("http://", "json://")
    said = sending.send(f"{url}/T0pS3cretPathToken", "a title", "a body", sending.WARNING)
    assert said is not None
    assert "T0pS3cret" not in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 2 * MOST_MEMORY


def test_a_service_that_never_ends_its_answer_is_left(serve: Serve) -> None:
    pytest.importorskip("apprise")
    server, began = serve(drip), time.monotonic()
    said = post(server.url.replace("http://", "json://"), "a title", "a body", sending.WARNING, within_s=3.0)
    assert said == "it took longer than 3 s"
    assert time.monotonic() - began < 6
