"""Apply what the broker pushes: reports are queued by the adapter's thread and applied here, many per transaction."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

import structlog

from models.errors import DatabaseUnavailable
from models.reports import Report
from worker.runtime.clock import elapsed

log = structlog.get_logger()

_AT_ONCE = 500
#: A report may come before the answer to the send that tells us the broker's id; it is tried again for this long.
_UNMATCHED_S = 5.0
_DATABASE_PAUSE_S = 0.5


class Updates:
    """The applier's thread.

    Args:
        apply: applies reports in one transaction; returns those that matched no order.
        give_up: gets those that still match none after a while: orders of others, perhaps.
    """

    def __init__(
        self,
        apply: Callable[[Sequence[Report]], Sequence[Report]],
        give_up: Callable[[Sequence[Report]], object],
    ) -> None:
        self._apply, self._give_up = apply, give_up
        self._queue: queue.SimpleQueue[tuple[float, Report] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)
        self._stopping = threading.Event()

    def put(self, report: Report) -> None:
        """Take a report; never blocks."""
        self._queue.put((elapsed(), report))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, patience: float = 5.0) -> None:
        """Apply what is queued, then end."""
        self._stopping.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(patience)

    def _run(self) -> None:
        """Apply what is pushed, some at a time; what finds no order yet is tried again for a while."""
        waiting: list[tuple[float, Report]] = []
        while True:
            batch, ended = self._next(0.2 if waiting else None)
            batch = waiting + batch
            waiting = self._try(batch) if batch else []
            if ended:
                return

    def _next(self, timeout: float | None) -> tuple[list[tuple[float, Report]], bool]:
        """Return what has come, and whether that was the end."""
        batch: list[tuple[float, Report]] = []
        try:
            item = self._queue.get(timeout=timeout)
            while item is not None:
                batch.append(item)
                if len(batch) >= _AT_ONCE:
                    return batch, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _try(self, batch: list[tuple[float, Report]]) -> list[tuple[float, Report]]:
        """Apply a batch; returns what has to be tried again."""
        try:
            unmatched = {id(report) for report in self._apply([report for _, report in batch])}
            young = elapsed() - _UNMATCHED_S
            waiting = [(at, report) for at, report in batch if id(report) in unmatched and at > young]
            if given_up := [report for at, report in batch if id(report) in unmatched and at <= young]:
                self._give_up(given_up)
        except DatabaseUnavailable as error:
            log.warning("updates_waiting", reports=len(batch), error=str(error))
            self._stopping.wait(_DATABASE_PAUSE_S)
            return batch if not self._stopping.is_set() else []  # they are read again after the next start
        except Exception:
            log.exception("update_not_applied", reports=len(batch))
            return self._try_singly(batch) if len(batch) > 1 else []
        return waiting

    def _try_singly(self, batch: list[tuple[float, Report]]) -> list[tuple[float, Report]]:
        """One report that cannot be applied must not take the others with it."""
        return [again for item in batch for again in self._try([item])]
