"""The socket to TWS: either SDK behind one shim, the settings, a loop in its own thread, and complete listings.

The SDK is used as a codec only: handshake, encoding, decoding, contract and data requests. Its order state is
replaced at the wrapper by our own evidence, because it says `Cancelled` for live orders (docs/facts/ibkr.md#4.1), and
its throttle queue is switched off, because it holds orders back after `placeOrder` has returned
(docs/facts/ibkr.md#1.10).
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog

from models.errors import BrokerError, ConfigurationError, NotConnected
from models.settings import BrokerSettings
from worker.brokers.address import real_money
from worker.brokers.ibkr.pacing import PER_10_MINUTES

_log = structlog.get_logger()
T = TypeVar("T")

SDKS = ("ib_insync", "ib_async")
#: TWS and Gateway listen here for real money (docs/facts/ibkr.md#1.9).
LIVE_PORTS = frozenset({7496, 4001})
#: Whether listings that miss an order may prove that it is not there: never, or (at the user's own risk) they do.
ABSENCE = ("never", "listings")


@dataclass(frozen=True, slots=True)
class Sdk:
    """The names used of ib_insync or ib_async."""

    name: str
    IB: Any
    Contract: Any
    Order: Any
    ExecutionFilter: Any
    Ticker: Any
    RequestError: type[Exception]


def load_sdk(wanted: str | None) -> Sdk:
    """Import the SDK; call it on the loop's thread, because eventkit asks for a loop at import.

    Source: docs/facts/ibkr.md#8.2.

    Raises:
        ConfigurationError: the setting names no SDK, or none is installed.
    """
    if wanted not in (None, "", *SDKS):
        raise ConfigurationError(f"brokers.<name>.sdk must be one of {', '.join(SDKS)}, was {wanted!r}")
    for name in (wanted,) if wanted else SDKS:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        error = importlib.import_module(f"{name}.wrapper").RequestError
        return Sdk(name, module.IB, module.Contract, module.Order, module.ExecutionFilter, module.Ticker, error)
    raise ConfigurationError(f"{wanted or ' or '.join(SDKS)} is not installed: pip install 'corro[ibkr]'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The adapter's settings, read once.

    Args:
        broker: name of the broker in the settings, for messages.
        host, port, client_id: where TWS or Gateway listens, and as whom we speak; one live socket per client id.
        account: required only if the login manages several.
        connect_options: sent with the first frame, as `+PACEAPI`; the sandbox's name where it is meant.
        live: real money is meant.
        sdk: ib_insync or ib_async; None takes what is installed.
        timezone: zone of execution times that carry none; set TWS to send its instrument zone, or to UTC.
        connect_timeout_s: for the TCP connect and again for the handshake.
        request_timeout_s: for every single read.
        messages_per_s: of all workers at this TWS; it disconnects above 50.
        history_per_10_minutes: requests for bars of all workers at this TWS; 0 is no limit.
        heartbeat_s: pause between probes of a silent socket; three silent ones end it.
        delayed_quotes: ask for delayed quotes where live ones are not subscribed.
    """

    broker: str
    host: str
    port: int
    client_id: int
    account: str
    connect_options: str
    live: bool
    sdk: str | None
    timezone: tzinfo
    connect_timeout_s: float
    request_timeout_s: float
    messages_per_s: int
    history_per_10_minutes: int
    heartbeat_s: float
    delayed_quotes: bool

    @classmethod
    def read(cls, broker: str, settings: BrokerSettings) -> Options:
        """Read and check the settings.

        Raises:
            ConfigurationError: names the setting; also for a live port without live = true.
        """
        get = settings.get
        try:
            options = cls(
                broker=broker,
                host=str(get("host", "127.0.0.1")),
                port=int(get("port", 7497)),
                client_id=int(get("client_id", 1)),
                account=str(get("account") or ""),
                connect_options=str(get("connect_options") or ""),
                live=settings.live,
                sdk=get("sdk"),
                timezone=ZoneInfo(str(get("timezone", "UTC"))),
                connect_timeout_s=float(get("connect_timeout", 20)),
                request_timeout_s=float(get("request_timeout", 10)),
                messages_per_s=int(get("messages_per_second", 45)),
                history_per_10_minutes=int(get("history_per_10_minutes", PER_10_MINUTES)),
                heartbeat_s=max(float(get("heartbeat", 5)), 0.05),
                delayed_quotes=str(get("delayed_quotes", False)).lower() in ("1", "true", "yes"),
            )
        except (ValueError, ZoneInfoNotFoundError) as error:
            raise ConfigurationError(f"brokers.{broker}: {error}") from None
        if options.messages_per_s < 1 or options.history_per_10_minutes < 0:
            words = "messages_per_second must be above 0, and history_per_10_minutes 0 or more"
            raise ConfigurationError(f"brokers.{broker}: {words}")
        if get("absence", "never") not in ABSENCE:
            words = f"absence must be one of {', '.join(ABSENCE)}, was {get('absence')!r}"
            raise ConfigurationError(f"brokers.{broker}: {words}")
        if options.port in LIVE_PORTS and not options.live:
            raise real_money(f"brokers.{broker}.port", f"the live port {options.port}", "7497 and 4002 are paper")
        return options

    def check_accounts(self, managed: list[str]) -> str:
        """Return the account to trade, or raise ConfigurationError if that is not clear or not allowed."""
        where = f"brokers.{self.broker}.account"
        if self.account and self.account not in managed:
            raise ConfigurationError(f"{where} is {self.account}, but this login manages {', '.join(managed)}")
        if not self.account and len(managed) > 1:
            raise ConfigurationError(f"{where} is missing: this login manages {', '.join(managed)}; name one")
        account = self.account or managed[0]
        if not account.startswith("D") and not self.live:  # DU and DF are paper (docs/facts/ibkr.md#1.9)
            raise real_money(where, f"{account}, a live account", "paper accounts begin with D")
        return account

    @property
    def where(self) -> str:
        """The connection in words."""
        return f"{self.host}:{self.port} (client id {self.client_id})"


class DecoderWatch:
    """Stands in for the SDK decoder's logger: it swallows unreadable frames, and a listing must not."""

    def __init__(self, logger: Any, tell: Callable[[str], None]) -> None:
        self._logger = logger
        self._tell = tell

    def exception(self, message: str, *_: Any) -> None:
        """Report a frame that could not be decoded, inside its except block."""
        self._tell(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)


class LoopThread:
    """An event loop that always runs, in a daemon thread of this process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    @property
    def alive(self) -> bool:
        """Whether the thread runs in this very process; after a fork it does not."""
        return self._thread is not None and self._thread.is_alive() and self._pid == os.getpid()

    def start(self) -> None:
        """Start the thread unless it runs."""
        if self.alive:
            return
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
        self._loop, self._pid = loop, os.getpid()
        self._thread.start()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        # The SDKs ask the policy for "the" loop of their thread (docs/facts/ibkr.md#8.1).
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run a coroutine on the loop and wait for it from another thread.

        Raises:
            NotConnected: there is no running loop.
            TimeoutError: it did not end in time; it is canceled.
        """
        if not self.alive or self._loop is None:
            work.close()
            raise NotConnected(f"{self._name}: not connected; call connect() in this process first")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        finally:
            future.cancel()

    def stop(self) -> None:
        """End the loop and its thread."""
        if self.alive and self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
        self._loop = self._thread = None


@dataclass(slots=True)
class Listing:
    """One un-numbered listing under way; TWS answers them in the order they were asked."""

    done: asyncio.Future[None]
    rows: dict[object, Any] = field(default_factory=dict)
    abandoned_at: float | None = None


class Listings:
    """Readings of one kind (open orders, completed orders, positions) that carry no request id.

    The SDKs give all askers one future and one list, so an answer that comes late is cut in half and looks complete.
    Here an abandoned reading keeps its place in the queue until its end message arrives, and blocks new ones.
    """

    #: An answer overdue for this long means that the connection has lost its place.
    OVERDUE_S = 30.0

    def __init__(self, what: str, clock: Callable[[], float]) -> None:
        self.what = what
        self._clock = clock
        self._queue: deque[Listing] = deque()
        self._lock = asyncio.Lock()

    def row(self, key: object, row: Any) -> None:
        """Take in one row; rows pushed outside of a reading are nobody's."""
        if self._queue:
            self._queue[0].rows[key] = row

    def end(self) -> None:
        """Take in the end message."""
        if self._queue and not (listing := self._queue.popleft()).done.done():
            listing.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Fail every reading under way."""
        while self._queue:
            if not (listing := self._queue.popleft()).done.done():
                listing.done.set_exception(error)

    @property
    def overdue(self) -> bool:
        """Whether an abandoned reading has gone unanswered for too long."""
        at = self._queue[0].abandoned_at if self._queue else None
        return at is not None and self._clock() - at > self.OVERDUE_S

    async def read(self, ask: Callable[[], Awaitable[None]], timeout_s: float) -> dict[object, Any]:
        """Ask, and return every row up to the end message.

        Raises:
            NotConnected: an earlier reading is still unanswered.
            BrokerError: no end message in time.
        """
        async with self._lock:
            if self._queue:
                raise NotConnected(f"an earlier reading of {self.what} is still unanswered")
            await ask()
            listing = Listing(asyncio.get_running_loop().create_future())
            self._queue.append(listing)
            try:
                async with asyncio.timeout(timeout_s):
                    await listing.done
            except TimeoutError:
                listing.abandoned_at = self._clock()
                raise BrokerError(f"TWS did not list its {self.what} within {timeout_s:g} s") from None
            except asyncio.CancelledError:
                listing.abandoned_at = self._clock()
                raise
        return listing.rows
