"""A Redis that says no when it is told to: a port in front of a real one that answers some commands by itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

Address = tuple[str, int] | Path
#: Lengths that stand in front of so many elements, by RESP's first byte; a map has two for each.
_NESTED = {b"*": 1, b"~": 1, b">": 1, b"%": 2}
_BULK = (b"$", b"=", b"!")


def _connect(where: Address) -> socket.socket:
    if not isinstance(where, Path):
        return socket.create_connection(where)
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(where))
    return made


def _whole(source: BinaryIO) -> bytes:
    """Read one value of RESP, as bytes."""
    line = source.readline()
    if not line:
        raise EOFError
    kind, length = line[:1], line[1:].strip()
    if kind in _BULK and int(length) >= 0:
        return line + source.read(int(length) + 2)
    if kind in _NESTED and int(length) >= 0:
        return line + b"".join(_whole(source) for _ in range(_NESTED[kind] * int(length)))
    return line


def _command(request: bytes) -> list[bytes]:
    return request.split(b"\r\n")[2::2]


class Refusing:
    """Passes everything on but the commands for which `rule` has a reply.

    Args:
        target: the real Redis.
        path: listen on this unix socket instead of a port.

    Attributes:
        rule: called with a command's words, name in capitals; returns an error reply such as `READONLY no`, or None.
        refused: how many commands were answered here.
    """

    def __init__(self, target: Address, path: Path | None = None) -> None:
        self.target = target
        self.rule: Callable[[list[bytes]], bytes | None] = lambda _: None
        self.refused, self.port = 0, 0
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if near.family == socket.AF_INET:
                    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with suppress(OSError, EOFError, ValueError), near, _connect(self.target) as far:
            asked, answers = near.makefile("rb"), far.makefile("rb")
            spoilt = False  # a transaction that begins again, as in Redis: EXECABORT
            while True:
                request = _whole(asked)
                words = _command(request)
                name = words[0].upper()
                reply = self.rule([name, *words[1:]])
                if name == b"EXEC" and spoilt and reply is None:
                    far.sendall(b"*1\r\n$7\r\nDISCARD\r\n")
                    _whole(answers)
                    reply, spoilt = b"EXECABORT Transaction discarded because of previous errors.", False
                elif reply is not None:
                    self.refused += 1
                    spoilt = True
                if reply is None:
                    far.sendall(request)
                    reply = _whole(answers)
                else:
                    reply = b"-" + reply + b"\r\n" if not reply.startswith(b"+") else reply + b"\r\n"
                if name in (b"MULTI", b"DISCARD"):
                    spoilt = False
                near.sendall(reply)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()
