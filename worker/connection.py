"""Keep one broker connection alive: reconnect with backoff and jitter, reconcile, and only then let orders through."""

from __future__ import annotations

import random
from collections.abc import Callable

import structlog

from models.errors import AccessLost, ConfigurationError, CorroError
from models.settings import TimingSettings
from worker.brokers.base import BrokerInterface
from worker.gate import Gate
from worker.runtime.clock import elapsed

log = structlog.get_logger()

#: Seconds between tries where the settings themselves are wrong.
_MISCONFIGURED_PAUSE_S = 30.0


class Supervisor:
    """Watches the connection; `look` is called twice a second.

    Args:
        broker: the adapter.
        timing: for the backoff.
        gate: opened and closed here.
        after_connect: reads everything that may have been missed; the gate opens when it returns.
        tell: called with (state, detail) for the heartbeat.
    """

    def __init__(
        self,
        broker: BrokerInterface,
        timing: TimingSettings,
        gate: Gate,
        after_connect: Callable[[], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self.broker, self.timing, self.gate = broker, timing, gate
        self._after_connect, self._tell = after_connect, tell
        self._session: object = None
        self._failures = 0
        self._next_try = 0.0

    def look(self) -> None:
        """Check the connection once, and repair it if it is due."""
        session = self.broker.session
        if self.gate.is_open() and session == self._session:
            return
        if self.gate.was_opened:
            log.warning("connection_lost", broker=self.broker.name)
            refusal = self.gate.refusal
            self.gate.close(refusal or "the connection was lost", refused=refusal is not None)
            self._tell("disconnected", refusal or "connection lost")
        if elapsed() >= self._next_try:
            self._repair()

    def _repair(self) -> None:
        try:
            if (refusal := self.gate.refusal) is not None:
                self.broker.disconnect()
                self.gate.close(refusal)
            if not self.broker.is_connected():
                self.broker.connect()
            session = self.broker.session
            self._after_connect()
        except CorroError as error:
            self._later(error)
            return
        self._session, self._failures = session, 0
        self.gate.open()
        self._tell("ready", "")
        log.info("connected", broker=self.broker.name)

    def _later(self, error: CorroError) -> None:
        self._failures += 1
        self.gate.close(str(error), refused=isinstance(error, AccessLost))
        self.gate.has_tried.set()
        pause = min(self.timing.reconnect_first * 2 ** min(self._failures - 1, 10), self.timing.reconnect_longest)
        if isinstance(error, ConfigurationError):
            pause = _MISCONFIGURED_PAUSE_S
        self._next_try = elapsed() + pause * random.uniform(0.7, 1.3)  # noqa: S311  # jitter, no secret
        self._tell("disconnected", str(error))
        if self._failures in (1, 2, 5) or self._failures % 20 == 0:
            log.warning("not_connected", broker=self.broker.name, error=str(error), tries=self._failures)
