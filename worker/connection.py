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
#: Seconds that a gate has to stay open before its loss is a new one: sooner, it is one more failure of the same kind.
_LASTING_S = 30.0
#: Seconds between two questions whether a connected broker may be used at all.
_OBJECTIONS_EVERY_S = 2.0


class Supervisor:
    """Watches the connection; `look` is called twice a second.

    Args:
        broker: the adapter.
        timing: for the backoff.
        gate: opened and closed here.
        after_connect: reads everything that may have been missed; the gate opens when it returns.
        tell: called with (state, detail) for the heartbeat.
        objection: says why the broker may not be used at all, whatever its connection.
    """

    def __init__(
        self,
        broker: BrokerInterface,
        timing: TimingSettings,
        gate: Gate,
        after_connect: Callable[[], None],
        tell: Callable[[str, str], None],
        objection: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._objection, self._asked_at = objection, 0.0
        self.broker, self.timing, self.gate = broker, timing, gate
        self._after_connect, self._tell = after_connect, tell
        self._session: object = None
        #: Tries that failed, and openings that did not last, in a row.
        self._failures = 0
        self._next_try = 0.0
        self._opened_at = 0.0

    def look(self) -> None:
        """Check the connection once, and repair it if it is due."""
        session = self.broker.session
        if self.gate.is_open() and session == self._session and not self._is_objected():
            return
        if self.gate.was_opened:
            self._lost(self.gate.refusal)
        if elapsed() >= self._next_try:
            self._repair()

    def _is_objected(self) -> bool:
        """Ask now and then whether there is an objection by now; if so, close the gate."""
        if elapsed() - self._asked_at < _OBJECTIONS_EVERY_S:
            return False
        self._asked_at = elapsed()
        if (why := self._objection()) is not None:
            self.gate.refusal = why
        return why is not None

    def _lost(self, refusal: str | None) -> None:
        """Close the gate; what is lost again soon after it was opened is no better than a connect that failed."""
        why = refusal or "the connection was lost"
        if elapsed() - self._opened_at >= _LASTING_S:
            self._failures = 0
        else:
            pause = self._fail()
            why = f"{why} (lost soon after it was connected, failure {self._failures} in a row; again in {pause:.1f} s)"
        if self._is_told():
            log.warning("connection_lost", broker=self.broker.name, error=why)
        self.gate.close(why, refused=refusal is not None)
        self._tell("disconnected", why)

    def _fail(self, pause: float | None = None) -> float:
        """Count a failure; returns the seconds until the next try, which grow with each in a row."""
        self._failures += 1
        growing = self.timing.reconnect_first * 2 ** min(self._failures - 1, 10)
        pause = min(growing, self.timing.reconnect_longest) if pause is None else pause
        pause *= random.uniform(0.7, 1.3)  # noqa: S311  # jitter, no secret
        self._next_try = elapsed() + pause
        return pause

    def _is_told(self) -> bool:
        """Tell whether a failure has a line in the log: of a row of them, few have."""
        return self._failures in (1, 2, 5) or self._failures % 20 == 0

    def _repair(self) -> None:
        try:
            if (refusal := self.gate.refusal) is not None:
                self.broker.disconnect()
                self.gate.close(refusal)
            if (why := self._objection()) is not None:
                raise ConfigurationError(why)
            if not self.broker.is_connected():
                self.broker.connect()
            session = self.broker.session
            self._after_connect()
        except CorroError as error:
            self._later(error)
            return
        self._session, self._opened_at = session, elapsed()
        self.gate.open()
        self._tell("ready", "")
        log.info("connected", broker=self.broker.name)

    def _later(self, error: CorroError) -> None:
        self._fail(_MISCONFIGURED_PAUSE_S if isinstance(error, ConfigurationError) else None)
        self.gate.close(str(error), refused=isinstance(error, AccessLost))
        self.gate.has_tried.set()
        self._tell("disconnected", str(error))
        if self._is_told():
            log.warning("not_connected", broker=self.broker.name, error=str(error), tries=self._failures)
