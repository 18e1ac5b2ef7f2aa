"""Keep one broker connection alive: reconnect with backoff and jitter, reconcile, and only then let orders through."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import structlog

from models.errors import AccessLost, ConfigurationError, CorroError
from models.settings import TimingSettings
from worker.brokers.base import BrokerInterface
from worker.runtime.clock import elapsed

log = structlog.get_logger()

#: Seconds between tries where the settings themselves are wrong.
_MISCONFIGURED_PAUSE_S = 30.0


class Supervisor:
    """Watches the connection; `look` is called twice a second.

    Args:
        broker: the adapter.
        timing: for the backoff.
        after_connect: reads everything that may have been missed; the gate opens when it returns.
        tell: called with (state, detail) for the heartbeat.
    """

    def __init__(
        self,
        broker: BrokerInterface,
        timing: TimingSettings,
        after_connect: Callable[[], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self.broker, self.timing = broker, timing
        self._after_connect, self._tell = after_connect, tell
        self._open = threading.Event()
        #: Set once the first connect has succeeded or failed: until then orders wait instead of falling back.
        self.has_tried = threading.Event()
        self._session: object = None
        self._failures = 0
        self._next_try = 0.0
        self._why = "the first connect is under way"
        #: Why the connection that stands is of no use; None while it is.
        self._lost: str | None = None

    def is_open(self) -> bool:
        """Tell whether orders may be sent: connected, and reconciled since."""
        return self._open.is_set() and self._lost is None and self.broker.is_connected()

    def why_closed(self) -> str | None:
        """Say why no order may be sent now; None if one may."""
        return None if self.is_open() else self._lost or self._why

    def lost(self, reason: str) -> None:
        """Close the gate at once: the broker answers, but refuses us; the next look goes through connect again."""
        if self._open.is_set() and self._lost is None:
            self._lost = reason
            log.error("access_lost", broker=self.broker.name, error=reason)

    def look(self) -> None:
        """Check the connection once, and repair it if it is due."""
        session = self.broker.session
        if self.is_open() and session == self._session:
            return
        if self._open.is_set():
            log.warning("connection_lost", broker=self.broker.name)
            self._open.clear()
            self._tell("disconnected", self._lost or "connection lost")
        if elapsed() >= self._next_try:
            self._repair()

    def _repair(self) -> None:
        try:
            if self._lost is not None:
                self.broker.disconnect()
                self._why, self._lost = self._lost, None
            if not self.broker.is_connected():
                self.broker.connect()
            session = self.broker.session
            self._after_connect()
        except CorroError as error:
            self._later(error)
            return
        self._session, self._failures = session, 0
        self._open.set()
        self._why = "the connection was lost"
        self.has_tried.set()
        self._tell("ready", "")
        log.info("connected", broker=self.broker.name)

    def _later(self, error: CorroError) -> None:
        self._failures += 1
        self._why = str(error)
        if isinstance(error, AccessLost):
            self._lost = self._why
        self.has_tried.set()
        pause = min(self.timing.reconnect_first * 2 ** min(self._failures - 1, 10), self.timing.reconnect_longest)
        if isinstance(error, ConfigurationError):
            pause = _MISCONFIGURED_PAUSE_S
        self._next_try = elapsed() + pause * random.uniform(0.7, 1.3)  # noqa: S311  # jitter, no secret
        self._tell("disconnected", str(error))
        if self._failures in (1, 2, 5) or self._failures % 20 == 0:
            log.warning("not_connected", broker=self.broker.name, error=str(error), tries=self._failures)
