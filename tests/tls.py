"""TLS in front of a server that has none: the bundled Valkey is built without it."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

#: Made for tests alone, see its README.
CERTIFICATES = Path(__file__).parent / "certificates"
CA, OTHER_CA, CLIENT, CLIENT_KEY = (CERTIFICATES / name for name in ("ca.pem", "other.pem", "client.pem", "client.key"))


class TlsFront:
    """A port that speaks TLS and passes what it hears on to a unix socket.

    Args:
        target: the socket of the real server.
        asks_for_a_certificate: let in only clients whose certificate `ca.pem` has signed.

    Attributes:
        port: where it listens, on 127.0.0.1.
        heard: bytes that came through a handshake.
    """

    def __init__(self, target: Path, *, asks_for_a_certificate: bool = False) -> None:
        self._target = target
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
        if asks_for_a_certificate:
            self._context.load_verify_locations(CA)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, bare: socket.socket) -> None:
        with (
            suppress(OSError),
            bare,
            self._context.wrap_socket(bare, server_side=True) as near,
            socket.socket(socket.AF_UNIX) as far,
        ):
            far.connect(str(self._target))
            threading.Thread(target=self._answer, args=(far, near), daemon=True).start()
            while data := near.recv(65_536):
                self.heard += len(data)
                far.sendall(data)

    def _answer(self, far: socket.socket, near: ssl.SSLSocket) -> None:
        with suppress(OSError):
            while data := far.recv(65_536):
                near.sendall(data)
        with suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
