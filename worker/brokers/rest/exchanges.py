"""One request over HTTP, watched: when it has to end, how much may come back, and whether its first byte has left.

A connection reports the moment before its first byte, so "nothing was sent" is observed, not guessed from an exception:
DNS, TCP, TLS and proxy failures come before that moment, everything else after it is unknown. Whatever arrives
(status line, headers, body, the sizes of its chunks) passes one counter and one clock, so an answer without an end
ends all the same.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection as _PlainConnection
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import ProxyManager
from urllib3.response import HTTPResponse as WireResponse

from models.errors import NotConnected
from worker.brokers.rest.bodies import TooLarge, most_bytes

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, SupportsRead, WriteableBuffer

#: Bytes on the wire that may come on top of the largest body: status line, headers, sizes of chunks.
_OVERHEAD = 2**20


def passing() -> None:
    """Let every byte pass."""


@dataclass(slots=True)
class Exchange:
    """One request, watched: when it must end, and whether its first byte has left.

    Args:
        ends_at: `time.monotonic()` after which it is over.
        gate: called immediately before the first byte; what it raises keeps the request here.
        most: bytes that the answer's body may have, unpacked; what the request is for decides.
        watched: it went through our connections, so `begun` is an observation.
        begun: the gate has passed; bytes may have left.
    """

    ends_at: float
    gate: Callable[[], None] = passing
    most: int = field(default_factory=most_bytes)
    watched: bool = False
    begun: bool = False

    def left(self) -> float:
        """Return the seconds that remain; never less than a millisecond, because 0 means 'forever' to a socket."""
        return max(self.ends_at - time.monotonic(), 0.001)

    @property
    def is_over(self) -> bool:
        """Whether its time is up; bytes that keep coming do not prolong it."""
        return time.monotonic() >= self.ends_at

    def begin(self) -> None:
        """Pass the gate; from here on the request may have been received."""
        if time.monotonic() >= self.ends_at:
            raise NotConnected("connecting took as long as the whole request may take; nothing was sent")
        self.gate()
        self.begun = True


_HERE = threading.local()


def current() -> Exchange | None:
    """Return the exchange that this thread is in."""
    found: Exchange | None = getattr(_HERE, "exchange", None)
    return found


@contextmanager
def exchange(deadline_s: float, gate: Callable[[], None] = passing) -> Iterator[Exchange]:
    """Watch the one request that this thread makes inside; it ends within `deadline_s`, drip-fed answers too.

    Exchanges nest: an inner one ends no later than the outer one.
    """
    outer, inner = current(), Exchange(time.monotonic() + deadline_s, gate)
    if outer is not None:
        inner.ends_at = min(inner.ends_at, outer.ends_at)
    _HERE.exchange = inner
    try:
        yield inner
    finally:
        _HERE.exchange = outer


class _Bounded(io.RawIOBase):
    """A socket's bytes, until the exchange has to end or too much has come.

    A timeout per recv would let a slow server drip, and a fast one pour, for ever.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, watched: Exchange) -> None:
        self._raw, self._sock, self._watched = raw, sock, watched
        self._come = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self._watched.is_over:
            raise TimeoutError("the answer took as long as the whole exchange may take")
        self._sock.settimeout(self._watched.left())
        count: int | None = self._raw.readinto(buffer)
        self._come += count or 0
        if self._come > self._watched.most + _OVERHEAD:
            raise TooLarge(self._watched.most)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        watched = current()
        if watched is not None:
            self.fp = io.BufferedReader(_Bounded(self.fp.detach(), sock, watched))


class _Gated(_PlainConnection):
    """Connect first, then pass the gate, then send: TLS and proxy handshakes are not the order."""

    response_class = _BoundedResponse
    _opening = False

    def connect(self) -> None:
        self._opening = True
        try:
            super().connect()
        finally:
            self._opening = False

    def send(self, data: SupportsRead[bytes] | Iterable[ReadableBuffer] | ReadableBuffer | str) -> None:
        if not self._opening:
            if self.sock is None:
                self.connect()
            watched = current()
            if watched is not None and not watched.begun:
                watched.begin()
        super().send(data)


class _GatedHTTP(_Gated, HTTPConnection):
    pass


class _GatedHTTPS(_Gated, HTTPSConnection):
    pass


class _WholeResponse(WireResponse):
    """Half a body is an error; requests would return it as if it were whole."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"enforce_content_length": True})


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _GatedHTTP
    ResponseCls = _WholeResponse


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _GatedHTTPS
    ResponseCls = _WholeResponse


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class Adapter(HTTPAdapter):
    """requests' transport over gated connections.

    What goes to a broker in the clear goes to loopback, and a proxy of the environment would carry it elsewhere: it
    gets none.

    Args:
        clear_by_proxy: it gets one all the same.
    """

    def __init__(self, *, clear_by_proxy: bool = False) -> None:
        self._clear_by_proxy = clear_by_proxy
        super().__init__()

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        """Have pools of gated connections."""
        super().init_poolmanager(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: object, **kwargs: object) -> ProxyManager:
        """Have them behind a proxy, too."""
        manager: ProxyManager = super().proxy_manager_for(*args, **kwargs)  # type: ignore[no-untyped-call]
        vars(manager)["pool_classes_by_scheme"] = _POOLS
        return manager

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send it; the exchange of this thread is a watched one from here on."""
        watched = current()
        if watched is not None:
            watched.watched = True
        if (request.url or "").startswith("http://") and not self._clear_by_proxy:
            proxies = {}
        return super().send(request, stream, timeout, verify, cert, proxies)
