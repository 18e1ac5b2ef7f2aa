"""What a failed request means: proved unsent, refused, or unknown. Real sockets on loopback, no broker."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from alpaca_trade_api.rest import APIError

from models.errors import (
    BrokerError,
    ConnectionLost,
    DataError,
    DataNotPermitted,
    InstrumentUnknown,
    InsufficientFunds,
    NoSuchSymbol,
    NotConnected,
    NotPermitted,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    PacingViolation,
    RateLimited,
    Refused,
    ServerError,
    Stale,
    SubmitTimeout,
    Unmapped,
    UnreadableReply,
)
from worker.brokers.alpaca import codes as alpaca_codes
from worker.brokers.rest.http import (
    AFTER_THE_FIRST_BYTE,
    Exchange,
    Wire,
    as_data_error,
    classify,
    exchange,
    lost_after,
    patiently,
    retry_after,
)
from worker.brokers.tda import rest as tda_rest

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"


class RawServer:
    """Hands every request of every connection to `behave(connection, request, number)`."""

    def __init__(self, behave: Callable[[socket.socket, bytes, int], None]) -> None:
        self.behave = behave
        self.requests: list[bytes] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            while request := connection.recv(65536):
                while request.startswith(b"POST") and not request.endswith(b"}"):
                    request += connection.recv(65536)
                self.requests.append(request)
                self.behave(connection, request, len(self.requests))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    servers: list[RawServer] = []

    def start(behave: Callable[[socket.socket, bytes, int], None]) -> RawServer:
        servers.append(RawServer(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    found = Wire(connect_s=0.5, read_s=1.0)
    yield found
    found.close()


def reset(connection: socket.socket, *_: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang_up(connection: socket.socket, *_: Any) -> None:
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def hang(*_: Any) -> None:
    """Never answer."""


def half_a_body(connection: socket.socket, *_: Any) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    hang_up(connection)


def drip(connection: socket.socket, *_: Any) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def drip_the_body(connection: socket.socket, *_: Any) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    drip(connection)


def nonsense(connection: socket.socket, *_: Any) -> None:
    connection.sendall(b"220 mail.example.com ESMTP\r\n")
    hang_up(connection)


def answer(connection: socket.socket, *_: Any) -> None:
    connection.sendall(ANSWER)


def failure(
    wire: Wire, url: str, deadline_s: float = 2.0, gate: Callable[[], None] = lambda: None
) -> BrokerError | None:
    with exchange(deadline_s, gate) as watched:
        try:
            wire.request("POST", url, json={"an": "order"})
        except Exception as error:
            return classify(error, watched, "broker")
    return None


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
        end = time.monotonic() + 2
        while not server.connections and time.monotonic() < end:
            time.sleep(0.005)
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


# -- THE TABLES ---
def descendants(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(descendants(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(descendants(requests.RequestException), key=lambda k: k.__name__))
def test_every_exception_of_requests_is_classified(kind: type[Exception]) -> None:
    if kind.__module__.startswith("requests"):
        assert kind in AFTER_THE_FIRST_BYTE, f"{kind.__name__} is new: say what it means after the first byte"
    error = kind.__new__(kind)
    later = time.monotonic() + 60
    assert isinstance(classify(error, Exchange(later, watched=True), "broker"), NotSent)
    assert isinstance(classify(error, Exchange(later, watched=True, begun=True), "broker"), OutcomeUnknown)


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), RuntimeError("x"), OSError("x"), AssertionError()])
def test_an_exception_nobody_knows_is_unmapped_once_bytes_have_left(error: Exception) -> None:
    assert type(classify(error, Exchange(0, begun=True), "broker")) is Unmapped


def test_an_unwatched_connection_error_proves_nothing() -> None:
    assert isinstance(classify(requests.ConnectionError("x"), Exchange(time.monotonic() + 9), "b"), OutcomeUnknown)
    assert isinstance(classify(requests.ConnectTimeout("x"), Exchange(0), "b"), NotSent)


def test_the_sdk_error_without_a_response_is_unmapped() -> None:
    error = APIError({"message": "internal server error", "code": 50010000})
    assert type(classify(error, Exchange(0, watched=True, begun=True), "alpaca")) is Unmapped


def test_no_failure_after_the_send_may_call_itself_unsent() -> None:
    assert isinstance(lost_after(NotConnected("looking it up failed"), "b"), OutcomeUnknown)
    assert isinstance(lost_after(RateLimited("looking it up failed"), "b"), OutcomeUnknown)
    assert type(lost_after(ServerError("x"), "b")) is ServerError


def response(status: int, body: Any = None, **headers: str) -> requests.Response:
    found = requests.Response()
    found.status_code = status
    found._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found.headers.update(headers)
    return found


def coded(code: int, message: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "message": message, **more}


HTML = b"<html><h1>502 Bad Gateway</h1></html>"
ALPACA = [
    (400, coded(40010000, "request body format is invalid"), OrderRejected),
    (401, {"message": "unauthorized."}, alpaca_codes.KeysRefused),
    (401, HTML, alpaca_codes.KeysRefused),
    (403, {"message": "forbidden."}, alpaca_codes.Forbidden),
    (403, coded(40300000, "forbidden"), alpaca_codes.Forbidden),
    (403, coded(40310000, "insufficient buying power", buying_power="1"), InsufficientFunds),
    (403, coded(40310000, "insufficient qty available for order", existing_qty="0"), InsufficientFunds),
    (403, coded(40310000, 'asset "OCGN" is not fractionable'), OrderRejected),
    (403, coded(40310000, "account is not allowed to short"), OrderRejected),
    (403, coded(40310000, "potential wash trade detected. use complex orders"), OrderRejected),
    (403, coded(40310100, "trade denied due to pattern day trading protection"), NotPermitted),
    (404, coded(40410000, "asset not found for X"), InstrumentUnknown),
    (422, coded(40010001, "client_order_id must be unique"), alpaca_codes.Duplicate),
    (422, coded(40010001, "client_order_id must be no more than 128 characters"), OrderRejected),
    (422, coded(40010001, "qty or notional is required"), OrderRejected),
    (422, coded(42210000, "invalid limit_price 1.005. sub-penny increment"), OrderRejected),
    (422, coded(42210000, "asset ZZZZ is not active"), InstrumentUnknown),
    (422, coded(40010001, 'asset "ZZZZ" not found'), InstrumentUnknown),
    (429, coded(42910000, "rate limit exceeded"), RateLimited),
    (429, HTML, RateLimited),
    (500, coded(50010000, "internal server error occurred"), ServerError),
    (502, HTML, ServerError),
    (504, HTML, ServerError),
    (529, b"", ServerError),
    # What no row names is unknown, not refused.
    (403, HTML, Unmapped),
    (404, HTML, Unmapped),
    (404, {"message": "endpoint not found."}, Unmapped),
    (404, [], Unmapped),
    (408, coded(40810000, "request timeout"), Unmapped),
    (409, coded(40910000, "conflict"), Unmapped),
    (418, b"", Unmapped),
    (422, b"", Unmapped),
]


@pytest.mark.parametrize(("status", "body", "kind"), ALPACA)
def test_alpaca_answers_are_classified_by_status_and_code(status: int, body: Any, kind: type[BrokerError]) -> None:
    found = alpaca_codes.refusal(response(status, body), "alpaca")
    assert type(found) is kind
    assert found.broker == "alpaca"
    assert found.code == str(body["code"] if isinstance(body, dict) and "code" in body else status)


@pytest.mark.parametrize("status", range(400, 600))
def test_alpaca_never_refuses_by_a_status_without_a_row(status: int) -> None:
    for body in (b"", HTML, {"message": "x"}, coded(status * 100_000, "x")):
        found = alpaca_codes.refusal(response(status, body), "alpaca")
        assert isinstance(found, OutcomeUnknown) or status in {key[0] for key in alpaca_codes.ERRORS}


VALIDATION = "A validation error occurred while processing the request."
TDA = [
    (400, {"error": "The quantity is wrong"}, OrderRejected),
    (400, {"message": VALIDATION, "errors": ["quantity must be a whole number"]}, OrderRejected),
    (400, {"message": VALIDATION, "errors": ["Invalid symbol: ZZZZ"]}, InstrumentUnknown),
    (400, {"error": "You do not have enough available cash/buying power for this order."}, InsufficientFunds),
    (401, {"error": "The access token being passed has expired or is invalid."}, NotPermitted),
    (401, b"", NotPermitted),
    (403, {"error": "restricted"}, NotPermitted),
    (404, {"message": "Account not found", "errors": []}, NotPermitted),
    (429, {"error": "Individual App's transactions per seconds restriction reached."}, RateLimited),
    (429, HTML, RateLimited),
    (500, {"error": "oops"}, ServerError),
    (503, HTML, ServerError),
    (400, HTML, Unmapped),
    (403, HTML, Unmapped),
    (404, b"", Unmapped),
    (404, {"errors": 7}, Unmapped),
    (405, {"error": "x"}, Unmapped),
    (409, {"error": "x"}, Unmapped),
    (422, {"error": "x"}, Unmapped),
]


@pytest.mark.parametrize(("status", "body", "kind"), TDA)
def test_tda_and_schwab_answers_are_classified_by_status(status: int, body: Any, kind: type[BrokerError]) -> None:
    found = tda_rest.refusal(response(status, body), "tda")
    assert type(found) is kind
    assert found.code == str(status)


@pytest.mark.parametrize("kind", [*alpaca_codes.ERRORS.values(), *tda_rest.ERRORS.values(), alpaca_codes.Duplicate])
def test_no_answer_of_a_broker_claims_that_nothing_was_sent(kind: type[BrokerError]) -> None:
    assert issubclass(kind, (Refused, OutcomeUnknown))


# -- WAITING AND READING ---
def test_a_throttled_answer_says_how_long_to_wait() -> None:
    assert retry_after({"Retry-After": "3"}) == 3.0
    assert retry_after({"X-RateLimit-Reset": "1"}) == 0.0
    assert 8 < (retry_after({"X-RateLimit-Reset": str(time.time() + 10)}) or 0) <= 10
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RateLimited("x", retry_after=2), PacingViolation),
        (NotPermitted("x"), DataNotPermitted),
        (NotPermitted("x", code="404"), NoSuchSymbol),
        (InstrumentUnknown("x"), NoSuchSymbol),
        (alpaca_codes.Forbidden("x"), DataNotPermitted),
        (ServerError("x"), DataError),
        (NotConnected("x"), DataError),
    ],
)
def test_a_failed_read_of_market_data_is_a_data_error(error: BrokerError, kind: type[Exception]) -> None:
    assert type(as_data_error(error)) is kind


def test_reads_that_failed_on_their_way_are_repeated_and_refusals_are_not() -> None:
    calls: list[int] = []

    def shaky() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionLost("x")
        return 7

    def refused() -> int:
        calls.append(1)
        raise NotPermitted("x")

    assert patiently(shaky) == 7
    calls.clear()
    with pytest.raises(NotPermitted):
        patiently(refused)
    assert len(calls) == 1
