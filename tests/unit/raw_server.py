"""A raw HTTP server on loopback that misbehaves as told, and what the wire makes of it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from models.errors import (
    BrokerError,
)
from worker.brokers.rest.http import (
    Wire,
    classify,
    exchange,
)

#: Seconds between two bytes of a server that drips: a whole answer outlasts every deadline.
DRIP_S = 0.05
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
        time.sleep(DRIP_S)


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
