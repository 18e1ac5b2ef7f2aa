"""HTTP for the adapters: requests that end, and the proof in their failures.

`exchanges` watches the one request of a thread, `bodies` reads what comes back within its bounds, `headers` reads what
an answer says of the broker's limits. Nothing here repeats a send; `patiently` repeats reads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests
import tenacity
from requests import exceptions as failed
from urllib3.exceptions import NewConnectionError

from models.errors import (
    AccessLost,
    BrokerError,
    ConnectionLost,
    CorroError,
    DataError,
    DataNotPermitted,
    InstrumentUnknown,
    NoSuchSymbol,
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
from models.troubles import trouble
from worker.brokers.rest.bodies import ENCODINGS, TooLarge, read_whole
from worker.brokers.rest.exchanges import Adapter, current
from worker.brokers.rest.exchanges import Exchange as Exchange
from worker.brokers.rest.exchanges import exchange as exchange
from worker.brokers.rest.exchanges import passing as passing
from worker.brokers.rest.headers import pass_on
from worker.brokers.rest.headers import retry_after as retry_after
from worker.pacing.budget import Budget

T = TypeVar("T")

CONNECT_S = 3.05
READ_S = 10.0
#: A kept-alive connection idle for longer is closed instead of used: the other end may be closing it right now.
IDLE_S = 15.0

#: What an exception means once bytes have left. Every subclass of RequestException is here, and a test walks them.
AFTER_THE_FIRST_BYTE: dict[type[Exception], type[OutcomeUnknown]] = {
    TooLarge: UnreadableReply,
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
        """Make one request; never follows a redirect, always ends, and its answer is here as a whole.

        Raises:
            QuotaExhausted: its turn does not come soon enough; nothing was sent.
            TooLarge: the answer is no answer to what was asked.
            requests.RequestException: whatever else fails; a redirect too, which would carry the keys elsewhere.
        """
        watched = current()
        if watched is None:
            with exchange(self._connect_s + self._read_s):
                return self.request(method, url, **options)
        if self.budget is not None:
            self.budget.spend(watched.left())
        left = watched.left()
        options |= {"allow_redirects": False, "stream": True, "timeout": (min(self._connect_s, left), left)}
        session = self._borrow()
        try:
            response = session.request(method, url, **options)
            _complete(response, watched)
        finally:
            self._give_back(session)
        if self.budget is not None:
            pass_on(response, self.budget)
        return response

    def close(self) -> None:
        """Close every idle connection; the wire can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, session in idle:
            session.close()

    def _borrow(self) -> requests.Session:
        """Return a connection that was used a moment ago, or a new one: servers close idle ones without a word."""
        with self._lock:
            fresh = bool(self._idle) and time.monotonic() - self._idle[-1][0] < self._idle_s
            if fresh:
                return self._idle.pop()[1]
        self.close()  # the newest idle one is too old, so all are
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, Adapter())
        session.headers["Accept-Encoding"] = ENCODINGS
        return session

    def _give_back(self, session: requests.Session) -> None:
        with self._lock:
            self._idle.append((time.monotonic(), session))


def _complete(response: requests.Response, watched: Exchange) -> None:
    """Read an answer to its end, and refuse one that is none."""
    try:
        response._content = read_whole(response, watched.most, lambda: watched.is_over)
    except BaseException:
        response.close()  # whatever is left of it must not be taken for the next answer
        raise
    if not (200 <= response.status_code < 300 or response.status_code >= 400):
        raise failed.TooManyRedirects(f"HTTP {response.status_code} is no answer to it", response=response)


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
    text = f"{broker}: {trouble(error)}"
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
    return Unmapped(f"{broker}: after the order was sent: {trouble(error)}", broker=broker)


def _may_pass(error: BaseException) -> bool:
    """Tell whether the same question may be answered a moment later."""
    return isinstance(error, (ConnectionLost, ServerError, NotConnected)) and not isinstance(error, AccessLost)


def patiently(read: Callable[[], T], tries: int = 3) -> T:
    """Repeat a read that failed on its way; only for reads."""
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(tries),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=0.5),
        reraise=True,
    )
    return attempts(read)


_AS_DATA: dict[type[BrokerError], type[DataError]] = {
    NotPermitted: DataNotPermitted,
    InstrumentUnknown: NoSuchSymbol,
}


def as_data_error(error: CorroError) -> CorroError:
    """Say of a failed read of market data that it is one; reads may always be repeated."""
    if not isinstance(error, BrokerError) or isinstance(error, AccessLost):
        return error
    if isinstance(error, (RateLimited, QuotaExhausted)):
        ours = isinstance(error, QuotaExhausted)
        return PacingViolation(str(error), retry_after=error.retry_after, ours=ours)
    if str(error.code).startswith("404"):
        return NoSuchSymbol(str(error))
    leaf = next((_AS_DATA[kind] for kind in type(error).__mro__ if kind in _AS_DATA), DataError)
    return leaf(str(error))
