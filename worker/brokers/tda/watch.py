"""Updates for a broker that pushes none: orders in flight are listed again and again until nothing more will be told.

Young orders are listed every poll, in a window that begins with the oldest of them; older ones, and those that are done
and whose executions are still missing, more seldom, by what reads every order that can change. So the number of
requests does not grow with the age of the oldest order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from models.reports import DONE, OrderReport
from models.troubles import trouble
from worker.brokers.oddities import Oddities
from worker.brokers.tda.groups import with_heir
from worker.brokers.tda.likeness import Terms, could_be, terms
from worker.brokers.tda.reports import is_settled, order_report
from worker.brokers.tda.shapes import flat, order_id, successors
from worker.brokers.values import Raw
from worker.pacing.budget import Use, using

_log = structlog.get_logger(__name__)

_LONGEST_PAUSE_S = 30.0
#: An order that no listing has shown for this long is left to reconciliation.
_NEVER_SEEN_S = 60.0
#: How long an order is young, and how often the others are read.
YOUNG_S, OLD_EVERY_S = 60.0, 5.0
#: Executions that are missing this long after an order was done are left to reconciliation.
_SETTLES_WITHIN_S = 900.0

#: Lists the orders entered since a time; without one, every order that can change.
Listing = Callable[[datetime | None], Iterable[Raw]]


@dataclass(slots=True)
class _Watched:
    wanted: Terms
    since: datetime
    added_at: float = field(default_factory=time.monotonic)
    seen: object = None
    done_at: float | None = None


class OrderWatch:
    """Polls while there is something to watch, and sleeps otherwise.

    Args:
        broker: name for the log.
        listing: reads the orders of the account; raises if that fails.
        push: gets the report of every order that has changed.
        poll_s: seconds between two listings.
        odd: is told of rows that cannot be read.
    """

    def __init__(
        self, broker: str, listing: Listing, push: Callable[[OrderReport], None], poll_s: float, odd: Oddities
    ) -> None:
        self._odd, self._old_at = odd, 0.0
        self._log, self._name = _log.bind(broker=broker), f"{broker}-updates"
        self._listing, self._push, self._poll_s = listing, push, poll_s
        self._orders: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, order_id: str, wanted: Terms, since: datetime) -> None:
        """Watch an order until it is done; terms that differ from `wanted` show another order."""
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
        """Stop and wait, but not for long; the orders are remembered."""
        self._stopping.set()
        self._work.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=3)

    def _run(self, stopping: threading.Event) -> None:
        """Look at orders that may still change, as long as there are any, within what the budget has left for that."""
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
                self._log.warning("poll_failed", error=trouble(error), pause_s=pause)

    def poll(self) -> None:
        """Look once, and push the orders that have changed."""
        with self._lock:
            watched = dict(self._orders)
            if not watched:
                self._work.clear()  # in here: one that is added meanwhile must not be forgotten
                return
        now = time.monotonic()
        young = {key: one for key, one in watched.items() if one.done_at is None and now - one.added_at < YOUNG_S}
        if young:
            self._see(self._listing(min(one.since for one in young.values())), watched)
        if len(young) < len(watched) and now - self._old_at >= OLD_EVERY_S:
            self._old_at = now
            self._see(self._listing(None), watched)
        for key, one in watched.items():
            if one.seen is None and now - one.added_at > _NEVER_SEEN_S:
                self._log.warning("watched_order_not_listed", broker_order_id=key)
                self._forget(key)

    def _see(self, rows: Iterable[Raw], watched: dict[str, _Watched]) -> None:
        found = flat(rows)
        heirs = successors(found)
        for raw in found:
            key = order_id(raw)
            if key in watched:
                self._look(key, watched[key], raw, heirs.get(key))

    def _look(self, key: str, watched: _Watched, raw: Raw, heir: Raw | None) -> None:
        """Tell what has changed of one order since the last look; another order under its id is forgotten."""
        if not could_be(raw, watched.wanted):
            self._log.error("watched_order_is_another", broker_order_id=key)
            self._forget(key)
            return
        report = with_heir(order_report(raw, self._odd), raw, heir, self._odd)
        if heir is not None and report.heir is not None and report.heir.broker_order_id is not None:
            self.add(report.heir.broker_order_id, terms(heir), watched.since)
        prices = [fill.price for fill in report.fills]
        seen = (report.raw_status, report.status, report.filled_quantity, prices)
        if seen != watched.seen:
            self._push(report)
            watched.seen = seen
        if report.status in DONE:
            watched.done_at = watched.done_at or time.monotonic()
            if is_settled(raw) or time.monotonic() - watched.done_at > _SETTLES_WITHIN_S:
                self._forget(key)

    def _forget(self, order_id: str) -> None:
        with self._lock:
            self._orders.pop(order_id, None)
