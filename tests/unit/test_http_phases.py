"""What a request that broke proves, by the phase it broke in; the gate, and connections that are kept. Real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from models.errors import (
    BrokerError,
    ConnectionLost,
    NotConnected,
    NotSent,
    Stale,
    SubmitTimeout,
    UnreadableReply,
)
from tests.kit.waiting import eventually
from tests.unit.raw_server import (
    RawServer,
    answer,
    drip,
    drip_the_body,
    failure,
    half_a_body,
    hang,
    hang_up,
    nonsense,
    reset,
)
from worker.brokers.rest.http import (
    Wire,
    exchange,
)


# -- PHASES ---
def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "url",
    [closed_port(), "http://does-not-exist.invalid", "http://", "nonsense", "http://[::1", "ftp://127.0.0.1/"],
    ids=["closed port", "no such host", "no host", "no scheme", "broken address", "other scheme"],
)
def test_what_never_connected_was_never_sent(wire: Wire, url: str) -> None:
    gate_calls: list[None] = []
    found = failure(wire, url, gate=lambda: gate_calls.append(None))
    assert isinstance(found, NotConnected)
    assert not gate_calls


def test_a_failed_tls_handshake_sends_no_order(wire: Wire, serve: Callable[..., RawServer]) -> None:
    server = serve(nonsense)
    found = failure(wire, server.url.replace("http://", "https://"))
    assert isinstance(found, NotConnected)
    assert not any(b"order" in request for request in server.requests)


def test_a_full_backlog_is_a_connect_timeout_and_nothing_was_sent(wire: Wire) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        found = failure(wire, f"http://127.0.0.1:{listener.getsockname()[1]}", deadline_s=0.5)
        for filler in fillers:
            filler.close()
    assert isinstance(found, NotConnected)


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (reset, ConnectionLost),
        (hang_up, ConnectionLost),
        (half_a_body, ConnectionLost),
        (nonsense, ConnectionLost),
        (hang, SubmitTimeout),
        (drip, SubmitTimeout),
        (drip_the_body, SubmitTimeout),
    ],
)
def test_what_breaks_after_the_first_byte_is_unknown_and_ends_in_time(
    wire: Wire, serve: Callable[..., RawServer], behave: Any, kind: type[BrokerError]
) -> None:
    server = serve(behave)
    began = time.monotonic()
    found = failure(wire, server.url, deadline_s=0.6)
    assert type(found) is kind
    assert time.monotonic() - began < 1.2
    assert sum(b"order" in request for request in server.requests) == 1


# -- THE GATE ---
def test_the_gate_is_passed_after_connecting_and_before_the_first_byte(
    wire: Wire, serve: Callable[..., RawServer]
) -> None:
    server = serve(answer)
    seen: list[tuple[int, int]] = []

    def gate() -> None:
        eventually(lambda: server.connections, 2)
        seen.append((server.connections, len(server.requests)))

    assert failure(wire, server.url, gate=gate) is None
    assert seen == [(1, 0)]


def test_a_closed_gate_keeps_the_order_here_and_says_why(wire: Wire, serve: Callable[..., RawServer]) -> None:
    server = serve(answer)

    def gate() -> None:
        raise Stale("too old")

    found = failure(wire, server.url, gate=gate)
    assert type(found) is Stale
    assert server.requests == []
    assert failure(wire, server.url) is None  # the connection that was closed on the way does not hurt the next order


def test_a_gate_that_fails_keeps_the_order_here(wire: Wire, serve: Callable[..., RawServer]) -> None:
    server = serve(answer)

    def gate() -> None:
        raise RuntimeError("the database is away")

    assert isinstance(failure(wire, server.url, gate=gate), NotSent)
    assert server.requests == []


def test_a_deadline_spent_on_connecting_sends_nothing(wire: Wire, serve: Callable[..., RawServer]) -> None:
    server = serve(answer)
    assert isinstance(failure(wire, server.url, deadline_s=0.0), NotSent)
    assert server.requests == []


def test_an_inner_exchange_ends_no_later_than_the_outer_one() -> None:
    with exchange(1.0) as outer, exchange(60.0) as inner:
        assert inner.ends_at == outer.ends_at


# -- KEEP-ALIVE ---
def test_connections_are_kept_and_used_again(wire: Wire, serve: Callable[..., RawServer]) -> None:
    server = serve(answer)
    for _ in range(3):
        assert failure(wire, server.url) is None
    assert server.connections == 1


def test_a_connection_idle_for_too_long_is_not_used_for_an_order(serve: Callable[..., RawServer]) -> None:
    server, wire = serve(answer), Wire(idle_s=0.0)
    for _ in range(2):
        assert failure(wire, server.url) is None
    wire.close()
    assert server.connections == 2


def test_a_connection_that_the_server_closed_is_replaced_and_the_order_sent_once(
    wire: Wire, serve: Callable[..., RawServer]
) -> None:
    ended = threading.Event()

    def once(connection: socket.socket, *_: Any) -> None:
        answer(connection)
        hang_up(connection)  # over loopback the other end has it when this returns
        ended.set()

    server = serve(once)
    assert failure(wire, server.url) is None
    assert ended.wait(5)
    assert failure(wire, server.url) is None
    assert (server.connections, len(server.requests)) == (2, 2)


def test_threads_never_share_a_connection(wire: Wire, serve: Callable[..., RawServer]) -> None:
    together = threading.Barrier(4)

    def slow(connection: socket.socket, *_: Any) -> None:
        together.wait(2)
        answer(connection)

    server, found = serve(slow), []
    threads = [threading.Thread(target=lambda: found.append(failure(wire, server.url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [None] * 4
    assert server.connections == 4


def test_a_redirect_is_not_followed_and_no_answer(wire: Wire, serve: Callable[..., RawServer]) -> None:
    def elsewhere(connection: socket.socket, *_: Any) -> None:
        connection.sendall(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")

    server = serve(elsewhere)
    assert type(failure(wire, server.url)) is UnreadableReply
    assert len(server.requests) == 1
