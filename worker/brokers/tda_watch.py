"""Updates for a broker that pushes none: orders in flight are listed again and again until they are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from models.reports import DONE, OrderReport
from worker.brokers.tda_reports import Terms, is_same, order_report
from worker.limits import Use, using

_log = structlog.get_logger(__name__)

_LONGEST_PAUSE_S = 30.0
#: An order that no listing has shown for this long is left to reconciliation.
_NEVER_SEEN_S = 60.0

#: Lists the orders entered since a time.
Listing = Callable[[datetime], Iterable[Mapping[str, Any]]]


@dataclass(slots=True)
class _Watched:
    wanted: Terms
    since: datetime
    added_at: float = field(default_factory=time.monotonic)
    seen: object = None


class OrderWatch:
    """Polls while there is something to watch, and sleeps otherwise.

    Args:
        broker: name for the log.
        listing: reads the orders of the account; raises if that fails.
        push: gets the report of every order that has changed.
        poll_s: seconds between two listings.
    """

    def __init__(self, broker: str, listing: Listing, push: Callable[[OrderReport], None], poll_s: float) -> None:
        self._log, self._name = _log.bind(broker=broker), f"{broker}-updates"
        self._listing, self._push, self._poll_s = listing, push, poll_s
        self._orders: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, order_id: str, wanted: Terms, since: datetime) -> None:
        """Watch an order until it is done; terms that differ from `wanted` show that it is not the one meant."""
        with self._lock:
            self._orders.setdefault(order_id, _Watched(wanted, since))
            self._work.set()

    def start(self) -> None:
        """Begin; does nothing if it runs already."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stopping,), name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait, but not for long; what was watched is remembered."""
        self._stopping.set()
        self._work.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=3)

    def _run(self, stopping: threading.Event) -> None:
        pause = self._poll_s
        while not stopping.is_set():
            self._work.wait()
            if stopping.wait(pause):
                return
            try:
                with using(Use.WATCH):
                    self.poll()
                pause = self._poll_s
            except Exception as error:
                pause = min(max(pause, 0.5) * 2, _LONGEST_PAUSE_S)
                self._log.warning("poll_failed", error=str(error), pause_s=pause)

    def poll(self) -> None:
        """Look once, and push what has changed."""
        with self._lock:
            watched = dict(self._orders)
            if not watched:
                self._work.clear()  # in here: one that is added meanwhile must not be forgotten
                return
        for raw in self._listing(min(one.since for one in watched.values())):
            order_id = str(raw.get("orderId"))
            if order_id in watched:
                self._look(order_id, watched[order_id], raw)
        for order_id, one in watched.items():
            if one.seen is None and time.monotonic() - one.added_at > _NEVER_SEEN_S:
                self._log.warning("watched_order_not_listed", broker_order_id=order_id)
                self._forget(order_id)

    def _look(self, order_id: str, watched: _Watched, raw: Mapping[str, Any]) -> None:
        if not is_same(raw, watched.wanted):
            self._log.error("watched_order_is_another", broker_order_id=order_id)
            self._forget(order_id)
            return
        report = order_report(raw)
        seen = (report.raw_status, report.filled_quantity, len(report.fills))
        if seen != watched.seen:
            self._push(report)
            watched.seen = seen
        if report.status in DONE:
            self._forget(order_id)

    def _forget(self, order_id: str) -> None:
        with self._lock:
            self._orders.pop(order_id, None)
