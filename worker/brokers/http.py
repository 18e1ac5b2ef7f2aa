"""HTTP for the adapters: the one place that knows whether a request left this process.

A connection reports the moment before its first byte, so "nothing was sent" is observed, not guessed from an exception:
DNS, TCP, TLS and proxy failures come before that moment, everything else after it is unknown (BROKERS.md 4.3, phases A
and B). Nothing here repeats a send; `patiently` repeats reads.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection as _PlainConnection
from http.client import HTTPResponse
from typing import Any, TypeVar

import requests
import tenacity
from requests import exceptions as failed
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.response import HTTPResponse as WireResponse

from models.errors import (
    BrokerError,
    ConnectionLost,
    CorroError,
    DataError,
    DataNotPermitted,
    InstrumentUnknown,
    NoData,
    NotConnected,
    NotPermitted,
    OutcomeUnknown,
    PacingViolation,
    QuotaExhausted,
    RateLimited,
    ServerError,
    SubmitTimeout,
    Unmapped,
    UnreadableReply,
)
from worker.limits import Budget

T = TypeVar("T")

CONNECT_S = 3.05
READ_S = 10.0
#: A kept-alive connection idle for longer is closed instead of used: the other end may be closing it right now.
IDLE_S = 15.0

#: What an exception means once bytes have left. Every subclass of RequestException is here, and a test walks them.
AFTER_THE_FIRST_BYTE: dict[type[Exception], type[OutcomeUnknown]] = {
    failed.RequestException: Unmapped,
    failed.Timeout: SubmitTimeout,
    failed.ReadTimeout: SubmitTimeout,
    failed.ConnectTimeout: SubmitTimeout,
    failed.ConnectionError: ConnectionLost,
    failed.SSLError: ConnectionLost,
    failed.ProxyError: ConnectionLost,
    failed.ChunkedEncodingError: ConnectionLost,
    failed.StreamConsumedError: ConnectionLost,
    failed.ContentDecodingError: UnreadableReply,
    failed.InvalidJSONError: UnreadableReply,
    failed.JSONDecodeError: UnreadableReply,
    failed.TooManyRedirects: UnreadableReply,
    failed.HTTPError: Unmapped,
    failed.RetryError: Unmapped,
    failed.InvalidHeader: Unmapped,
    failed.InvalidSchema: Unmapped,
    failed.InvalidURL: Unmapped,
    failed.InvalidProxyURL: Unmapped,
    failed.MissingSchema: Unmapped,
    failed.URLRequired: Unmapped,
    failed.UnrewindableBodyError: Unmapped,
}
#: Raised before a connection exists, whoever looks.
_BEFORE_THE_FIRST_BYTE = (
    failed.ConnectTimeout,
    failed.InvalidHeader,
    failed.InvalidSchema,
    failed.InvalidURL,
    failed.MissingSchema,
    failed.URLRequired,
)


def passing() -> None:
    """Let every byte pass."""


@dataclass(slots=True)
class Exchange:
    """One request, watched: when it must end, and whether its first byte has left.

    Args:
        ends_at: `time.monotonic()` after which it is over.
        gate: called immediately before the first byte; what it raises keeps the request here.
        watched: it went through our connections, so `begun` is an observation.
        begun: the gate has passed; bytes may have left.
    """

    ends_at: float
    gate: Callable[[], None] = passing
    watched: bool = False
    begun: bool = False

    def left(self) -> float:
        """Return the seconds that remain; never less than a millisecond, because 0 means 'forever' to a socket."""
        return max(self.ends_at - time.monotonic(), 0.001)

    def begin(self) -> None:
        """Pass the gate; from here on the request may have been received."""
        if time.monotonic() >= self.ends_at:
            raise NotConnected("connecting took as long as the whole request may take; nothing was sent")
        self.gate()
        self.begun = True


_HERE = threading.local()


def _exchange() -> Exchange | None:
    found: Exchange | None = getattr(_HERE, "exchange", None)
    return found


@contextmanager
def exchange(deadline_s: float, gate: Callable[[], None] = passing) -> Iterator[Exchange]:
    """Watch the one request that this thread makes inside; it ends within `deadline_s`, drip-fed answers too.

    Exchanges nest: an inner one ends no later than the outer one.
    """
    outer, inner = _exchange(), Exchange(time.monotonic() + deadline_s, gate)
    if outer is not None:
        inner.ends_at = min(inner.ends_at, outer.ends_at)
    _HERE.exchange = inner
    try:
        yield inner
    finally:
        _HERE.exchange = outer


class _Bounded(io.RawIOBase):
    """A socket's bytes, until the exchange has to end: a timeout per recv would let a slow server drip for ever."""

    def __init__(self, raw: Any, sock: Any, watched: Exchange) -> None:
        self._raw, self._sock, self._watched = raw, sock, watched

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._watched.left())
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        current = _exchange()
        if current is not None:
            plain: Any = self.fp
            self.fp = io.BufferedReader(_Bounded(plain.detach(), sock, current))


class _Gated(_PlainConnection):
    """Connect first, then pass the gate, then send: TLS and proxy handshakes are not the order."""

    response_class = _BoundedResponse
    _opening = False
    sock: Any

    def connect(self) -> None:
        self._opening = True
        try:
            super().connect()
        finally:
            self._opening = False

    def send(self, data: Any) -> None:
        if not self._opening:
            if self.sock is None:
                self.connect()
            current = _exchange()
            if current is not None and not current.begun:
                current.begin()
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


class _Adapter(HTTPAdapter):
    """requests' transport over gated connections."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)  # type: ignore[no-untyped-call]
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        current = _exchange()
        if current is not None:
            current.watched = True
        return super().send(*args, **kwargs)


class Wire:
    """Kept-alive requests, safe to use from many threads; it can stand in for an SDK's `requests.Session`.

    Each request borrows a session of its own, so two threads never share a connection.
    """

    def __init__(self, *, connect_s: float = CONNECT_S, read_s: float = READ_S, idle_s: float = IDLE_S) -> None:
        self._connect_s, self._read_s, self._idle_s = connect_s, read_s, idle_s
        self._idle: list[tuple[float, requests.Session]] = []
        self._lock = threading.Lock()
        #: Every request pays from it, before anything leaves.
        self.budget: Budget | None = None

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """Make one request; never follows a redirect, always ends.

        Raises:
            QuotaExhausted: its turn does not come soon enough; nothing was sent.
        """
        current = _exchange()
        if current is None:
            with exchange(self._connect_s + self._read_s):
                return self.request(method, url, **options)
        if self.budget is not None:
            self.budget.spend(current.left())
        left = current.left()
        options |= {"allow_redirects": False, "timeout": (min(self._connect_s, left), left)}
        session = self._borrow()
        try:
            response = session.request(method, url, **options)
        finally:
            self._give_back(session)
        if self.budget is not None:
            _pass_on(response, self.budget)
        return response

    def close(self) -> None:
        """Close every idle connection; the wire can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, session in idle:
            session.close()

    def _borrow(self) -> requests.Session:
        with self._lock:
            fresh = bool(self._idle) and time.monotonic() - self._idle[-1][0] < self._idle_s
            if fresh:
                return self._idle.pop()[1]
        self.close()  # the newest idle one is too old, so all are
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        return session

    def _give_back(self, session: requests.Session) -> None:
        with self._lock:
            self._idle.append((time.monotonic(), session))


def never_left(error: Exception, watched: Exchange) -> bool:
    """Tell whether it is proved that nothing of the request left this process."""
    if watched.begun:
        return False
    if watched.watched or isinstance(error, _BEFORE_THE_FIRST_BYTE):
        return True
    # A wrapped "connection refused" that came by another transport than ours.
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, failed.ConnectionError) and isinstance(reason, NewConnectionError)


def classify(error: Exception, watched: Exchange, broker: str) -> BrokerError:
    """Turn any exception of a request into NotSent or OutcomeUnknown, by phase.

    Answers that carry an HTTP status are for the adapter's own table; here they are Unmapped.
    """
    if isinstance(error, BrokerError):
        return error
    text = f"{broker}: {type(error).__name__}: {str(error)[:300]}"
    if never_left(error, watched):
        return NotConnected(f"{text}; nothing was sent", broker=broker)
    leaf = next((AFTER_THE_FIRST_BYTE[kind] for kind in type(error).__mro__ if kind in AFTER_THE_FIRST_BYTE), Unmapped)
    if leaf is ConnectionLost and time.monotonic() >= watched.ends_at:
        leaf = SubmitTimeout  # requests calls a timeout inside the body a ConnectionError
    return leaf(f"{text}; it may have been received", broker=broker)


def lost_after(error: Exception, broker: str) -> OutcomeUnknown:
    """Wrap a failure that came after the order had left: whatever it says of itself, the order's outcome is unknown."""
    if isinstance(error, OutcomeUnknown):
        return error
    return Unmapped(f"{broker}: after the order was sent: {error}", broker=broker)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a throttled answer asks to wait: Retry-After, or X-RateLimit-Reset (epoch seconds)."""
    try:
        if "Retry-After" in headers:
            return max(float(headers["Retry-After"]), 0.0)
        if "X-RateLimit-Reset" in headers:
            return max(float(headers["X-RateLimit-Reset"]) - time.time(), 0.0)
    except ValueError:
        return None
    return None


def _pass_on(response: requests.Response, budget: Budget) -> None:
    """Tell the budget what the broker says of it: 429, or its own count in X-RateLimit-Limit, -Remaining and -Reset."""
    headers = response.headers
    if response.status_code == 429:
        budget.limited(retry_after(headers))
        return
    try:
        left, limit = float(headers["X-RateLimit-Remaining"]), float(headers["X-RateLimit-Limit"])
        seconds = float(headers["X-RateLimit-Reset"]) - time.time()
    except (KeyError, ValueError):
        return
    if limit > 0:
        budget.hear(min(max(left / limit, 0.0), 1.0), seconds)


def patiently(read: Callable[[], T], tries: int = 3) -> T:
    """Repeat a read that failed on its way; only for reads."""
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((ConnectionLost, ServerError, NotConnected)),
        stop=tenacity.stop_after_attempt(tries),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=0.5),
        reraise=True,
    )
    return attempts(read)


_AS_DATA: dict[type[BrokerError], type[DataError]] = {
    NotPermitted: DataNotPermitted,
    InstrumentUnknown: NoData,
}


def as_data_error(error: CorroError) -> CorroError:
    """Say of a failed read of market data that it is one; reads may always be repeated."""
    if not isinstance(error, BrokerError):
        return error
    if isinstance(error, (RateLimited, QuotaExhausted)):
        ours = isinstance(error, QuotaExhausted)
        return PacingViolation(str(error), retry_after=error.retry_after, ours=ours)
    if str(error.code).startswith("404"):
        return NoData(str(error))
    return _AS_DATA.get(type(error), DataError)(str(error))
