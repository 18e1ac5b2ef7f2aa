"""Celery's consumer, patient with a sick queue: it leaves it alone for a while and tries again, for ever.

Celery's own tries an outage again and ends over everything else, such as the reply READONLY after a failover; then
sweep, healer, heartbeat and updates would end with it.
"""

from __future__ import annotations

import time
from contextlib import suppress

from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection
from kombu.exceptions import OperationalError

from worker.messaging.queue_health import health

#: Seconds that the end of a line may take.
_COLLECT_S = 1.0
#: Seconds between two looks whether the process has been told to end.
_LOOK_S = 0.1


class QueueConsumer(Consumer):
    """Consumes the queues of one broker."""

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect; what fails comes to the same place as everything else that fails, without pauses of kombu's."""
        try:
            return conn.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        except OperationalError as error:  # kombu's wrapping, which keeps the words and not the class
            raise error.__cause__ or error from None

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Wait before the next try."""
        self._leave_alone(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Give up the line, and wait before the next try; messages in hand are worked on meanwhile."""
        connection = self.connection
        self.connection = None
        if connection is not None:
            with suppress(Exception):
                connection.collect(socket_timeout=_COLLECT_S)
            with suppress(Exception):
                connection.close()
        self._leave_alone(exc)

    def _leave_alone(self, exc: Exception) -> None:
        until = time.monotonic() + health.failed(exc)
        while time.monotonic() < until:
            state.maybe_shutdown()
            time.sleep(_LOOK_S)
