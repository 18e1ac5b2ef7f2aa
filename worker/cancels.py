"""Cancel orders at the broker: those somebody wants canceled, and those that should not be there.

A cancel that was requested is a wish on the row; asking the broker may be repeated until it has an effect, because a
cancel of an order that is gone changes nothing. "Requested" is not "canceled": the end is what the broker reports.

Cancels go out like orders: many at a time, each with its own outcome, waiting for their turn in the account's budget.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, or_, select

from models.book import Book
from models.database import Database
from models.errors import BrokerError, CorroError, NotSent, OutcomeUnknown, Unmapped
from models.evidence import LOST_AFTER
from models.lifecycle import Fact
from models.reports import Found, OrderReport, Report
from models.tables import attempts, orders
from worker.apart import apart
from worker.brokers.base import BrokerInterface, OrderRef
from worker.clock import Stopwatch, utcnow
from worker.patience import in_turn, written
from worker.readings import order_ref
from worker.reconcile import Reconciler
from worker.volley import Volley

log = structlog.get_logger()

#: A cancel that was sent and had no effect is sent again after this.
_AGAIN_S = 10.0
#: A cancel waits so long for its turn in the account's budget; then the next look at the wishes takes it up.
_PATIENCE_S = 30.0

Asked = tuple[OrderRef, BrokerError | None]


class Cancels:
    """Cancels at one broker."""

    def __init__(self, database: Database, broker: BrokerInterface, reconciler: Reconciler) -> None:
        self.database, self.broker, self.reconciler = database, broker, reconciler
        self.execution = reconciler.execution
        #: Orders whose cancel is on its way from this process: a message and the regular look may meet.
        self._under_way: set[str] = set()
        self._lock = threading.Lock()

    def send(self, ids: Sequence[str] | None = None, *which: Any) -> None:
        """Ask the broker to cancel live orders whose cancel was requested and not yet sent.

        Args:
            ids: only these; None means all that are due, also those whose cancel was sent long ago without effect.
            which: narrows the orders and attempts further.
        """
        due = [
            orders.c.cancel_requested_at.is_not(None),
            or_(orders.c.cancel_sent_at.is_(None), orders.c.cancel_sent_at < utcnow() - timedelta(seconds=_AGAIN_S)),
            attempts.c.missing < LOST_AFTER,  # what no listing has any more is a question, and no daily refusal
            *which,
        ]
        if ids is not None:
            due.append(orders.c.client_order_id.in_(list(ids)))
        with self.database.read() as connection:
            refs = self._take(self.reconciler.live(connection, *due))
        try:
            self._send(refs)
        finally:
            with self._lock:
                self._under_way -= {_id(ref) for ref in refs}

    def _take(self, refs: Sequence[OrderRef]) -> list[OrderRef]:
        with self._lock:
            mine = [ref for ref in refs if _id(ref) not in self._under_way]
            self._under_way |= {_id(ref) for ref in mine}
        return mine

    def _send(self, refs: Sequence[OrderRef]) -> None:
        for came in Volley(refs, self.ask, self.execution.changers, self.broker.capabilities.parallel_orders):
            self._conclude(came)

    def ask(self, ref: OrderRef) -> BrokerError | None:
        """Ask the broker to cancel one order; returns None where it took the request, else why not."""
        watch = Stopwatch()
        try:
            in_turn(lambda: self.broker.cancel_order(ref), lambda: _PATIENCE_S - watch.age())
        except BrokerError as error:
            return self.execution.heeded(error)
        except Exception as error:
            log.exception("adapter_leaked", broker=self.broker.name, client_order_id=_id(ref))
            return Unmapped(f"{self.broker.name}: {type(error).__name__}: {error}", broker=self.broker.name)
        return None

    # -- WHAT CAME OF IT ---
    def _conclude(self, came: Sequence[Asked]) -> None:
        for ref, error in came:
            if isinstance(error, NotSent):
                log.warning("cancel_not_sent", client_order_id=_id(ref), error=str(error))
        told = [(ref, error) for ref, error in came if not isinstance(error, NotSent)]
        if not told:
            return
        event = "cancel_not_recorded"
        written(lambda: apart(self._record, told, event), event, [_id(ref) for ref, _ in told])
        # Too late, or not known under this id: what it is now, only the broker can tell.
        self.read_again([ref for ref, error in told if error is not None])

    def _record(self, told: Sequence[Asked]) -> None:
        def work(connection: Connection) -> None:
            book = Book.open(connection, [_id(ref) for ref, _ in told], utcnow())
            for ref, error in told:
                entry = book[_id(ref)]
                entry.set(cancel_sent_at=entry.now)
                if error is None:
                    entry.happen(Fact.CANCEL_SENT, attempt_no=entry.order["attempt_no"])
                else:
                    kind = "cancel_unknown" if isinstance(error, OutcomeUnknown) else "cancel_refused"
                    entry.note(kind, str(error))
            book.write()

        self.database.transact(work)

    def read_again(self, refs: Sequence[OrderRef]) -> None:
        """Read orders again and apply what they are now."""
        if not refs:
            return
        try:
            sightings = self.broker.find_orders(refs)
        except CorroError as error:
            log.warning("cannot_read_again", broker=self.broker.name, error=str(self.execution.heeded(error)))
            return
        found: list[Report] = [
            _named(seen.report, ref) for ref, seen in zip(refs, sightings, strict=True) if isinstance(seen, Found)
        ]
        self.reconciler.apply(found)

    def stray(self, client_order_id: str, attempt_no: int) -> None:
        """Cancel an order that is alive on an attempt which had been given up."""
        o, a = orders.c, attempts.c
        mine = (a.client_order_id == client_order_id) & (a.attempt_no == attempt_no)
        with self.database.read() as connection:
            order = connection.execute(select(orders).where(o.client_order_id == client_order_id)).mappings().one()
            attempt = connection.execute(select(attempts).where(mine)).mappings().one()
        log.error("stray_order", client_order_id=client_order_id, broker=self.broker.name, attempt_no=attempt_no)
        if error := self.ask(order_ref(order, attempt)):
            log.error("stray_not_canceled", client_order_id=client_order_id, error=str(error))


def _id(ref: OrderRef) -> str:
    return ref.order.client_order_id


def _named(report: OrderReport, ref: OrderRef) -> OrderReport:
    """Give a report our id where the broker has none of its own to match by."""
    if report.broker_client_order_id or report.broker_order_id == ref.broker_order_id:
        return report
    return replace(report, broker_client_order_id=ref.broker_client_order_id)
