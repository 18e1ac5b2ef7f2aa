"""The gate of one broker: may orders be claimed, may one be sent?

Everything that can forbid a send is asked here: the connection, whether all was read again since it was lost, whether
the broker refuses us, whether this process is stopping, and the controls.
"""

from __future__ import annotations

import threading
from typing import TypeVar

import structlog

from models.errors import AccessLost, NotConnected
from models.record.database import Database
from worker.brokers.base import BrokerInterface
from worker.control.brake import Brake
from worker.runtime.clock import Stopwatch

log = structlog.get_logger()
_A = TypeVar("_A")

#: Seconds between looks whether the process stops, while the first connect is waited for.
_STOP_LOOK_S = 0.1


class Gate:
    """Closed at first; `worker.connection.Supervisor` opens and closes it.

    Args:
        database: the record, for the controls.
        broker: the adapter.
        stopping: set when the process has been told to end.
    """

    def __init__(self, database: Database, broker: BrokerInterface, stopping: threading.Event | None = None) -> None:
        self.broker, self.brake = broker, Brake(database, broker.name)
        self.stopping = stopping or threading.Event()
        #: Set once the first connect has succeeded or failed: until then orders wait instead of falling back.
        self.has_tried = threading.Event()
        self._open = threading.Event()
        self._why = "the first connect is under way"
        #: Why the broker refuses us altogether; None while it does not.
        self.refusal: str | None = None

    # -- WHAT SENDERS ASK ---
    def may_claim(self) -> bool:
        """Tell whether orders may be taken at all: also while the gate is closed, since then they go on to others."""
        return self.has_tried.is_set() and not self.stopping.is_set()

    def await_first_try(self, patience_s: float) -> None:
        """Wait until the first connect has succeeded or failed: what rings before that would be left to the sweep."""
        waiting = Stopwatch()
        while not self.has_tried.wait(_STOP_LOOK_S) and not self.stopping.is_set() and waiting.age() < patience_s:
            pass

    def is_open(self) -> bool:
        """Tell whether orders may be sent: connected, and reconciled since."""
        return self._open.is_set() and self.refusal is None and self.broker.is_connected()

    def why_closed(self) -> str | None:
        """Say why no order may be sent now; None if one may."""
        return None if self.is_open() else self.refusal or self._why

    def must_be_open(self) -> None:
        """Raise NotConnected while the connection is down or not reconciled yet."""
        if closed := self.why_closed():
            raise NotConnected(f"{self.broker.name} is not connected: {closed}", broker=self.broker.name)

    def heeded(self, answer: _A) -> _A:
        """Hand an answer on; one that says that our access is lost closes the gate first, for every thread."""
        if isinstance(answer, AccessLost) and self._open.is_set() and self.refusal is None:
            self.refusal = str(answer)
            log.error("access_lost", broker=self.broker.name, error=str(answer))
        return answer

    # -- WHAT THE CONNECTION SAYS ---
    @property
    def was_opened(self) -> bool:
        """Whether it has been opened and not closed since, whatever the connection does."""
        return self._open.is_set()

    def open(self) -> None:
        """Let orders through: the connection stands, and everything was read again."""
        self._why, self.refusal = "the connection was lost", None  # by the time that anybody asks
        self._open.set()
        self.has_tried.set()

    def close(self, why: str, *, refused: bool = False) -> None:
        """Let nothing through, and say why; `refused`: a connection that stands would be of no use."""
        self._open.clear()
        self._why, self.refusal = why, why if refused else None
