"""Cancel orders at the broker: those somebody wants canceled, and those that should not be there.

A cancel that was requested is a wish on the row; asking the broker may be repeated until it has an effect, because a
cancel of an order that is gone changes nothing. "Requested" is not "canceled": the end is what the broker reports.

Cancels go out like orders: many at a time, each with its own outcome, waiting for their turn in the account's budget.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, or_, select

from models.errors import BrokerError, CorroError, NotSent, OutcomeUnknown, Unmapped
from models.lifecycle import Fact
from models.record.batch import OrderBatch
from models.record.database import Database
from models.record.evidence import LOST_AFTER
from models.record.tables import STRAY, attempts, orders
from models.reports import Found, OrderReport, Report, Sighting
from worker.brokers.base import BrokerInterface, OrderRef
from worker.orders.catch_up import readable
from worker.orders.in_parallel import Volley
from worker.orders.patience import in_turn, written
from worker.orders.reconcile import Reconciler
from worker.runtime.clock import Stopwatch, utcnow
from worker.runtime.isolate import isolate

log = structlog.get_logger()

#: A cancel that was sent and had no effect is sent again after this.
_AGAIN_S = 10.0
#: A cancel waits so long for its turn in the account's budget; then the next look at the wishes takes it up.
_PATIENCE_S = 30.0

Asked = tuple[OrderRef, BrokerError | None]
#: client_order_id and attempt_no.
Stray = tuple[str, int]


class Cancels:
    """Cancels at one broker."""

    def __init__(self, database: Database, broker: BrokerInterface, reconciler: Reconciler) -> None:
        self.database, self.broker, self.reconciler = database, broker, reconciler
        self.execution, self.deputies = reconciler.execution, reconciler.deputies
        #: Orders whose cancel is on its way from this process: a message and the regular look may meet.
        self._under_way: set[str] = set()
        self._lock = threading.Lock()

    def send(self, ids: Sequence[str] | None = None) -> None:
        """Ask the broker to cancel live orders whose cancel was requested and not yet sent, as far as they are ours.

        Args:
            ids: only these; None means all that are due, also those whose cancel was sent long ago without effect.
        """
        due = [
            orders.c.cancel_requested_at.is_not(None),
            or_(orders.c.cancel_sent_at.is_(None), orders.c.cancel_sent_at < utcnow() - timedelta(seconds=_AGAIN_S)),
            attempts.c.missing < LOST_AFTER,  # what no listing has any more is a question, and no daily refusal
        ]
        if ids is not None:
            due.append(orders.c.client_order_id.in_(list(ids)))
        with self.database.read() as connection:
            live = self.reconciler.live(connection, *due)
        mine = self.deputies.mine(((ref.session, ref) for ref in live), free=ids is not None)
        for session, refs in mine.items():
            with self._taken(refs) as taken:
                self.deputies.carry_out("cancel", session, [_id(ref) for ref in taken], partial(self._send, taken))

    @contextlib.contextmanager
    def _taken(self, refs: Sequence[OrderRef]) -> Iterator[list[OrderRef]]:
        with self._lock:
            taken = [ref for ref in refs if _id(ref) not in self._under_way]
            self._under_way |= {_id(ref) for ref in taken}
        try:
            yield taken
        finally:
            with self._lock:
                self._under_way -= {_id(ref) for ref in taken}

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
        written(lambda: isolate(self._record, told, event), event, [_id(ref) for ref, _ in told])
        # Too late, or not known under this id: what it is now, only the broker can tell.
        self.read_again([ref for ref, error in told if error is not None])

    def _record(self, told: Sequence[Asked]) -> None:
        def work(connection: Connection) -> None:
            batch = OrderBatch.open(connection, [_id(ref) for ref, _ in told], utcnow())
            for ref, error in told:
                entry = batch[_id(ref)]
                entry.set(cancel_sent_at=entry.now)
                entry.waits_no_more()
                if error is None:
                    entry.happen(Fact.CANCEL_SENT, attempt_no=entry.order["attempt_no"])
                else:
                    kind = "cancel_unknown" if isinstance(error, OutcomeUnknown) else "cancel_refused"
                    entry.note(kind, str(error))
            batch.write()

        self.database.transact(work)

    def read_again(self, refs: Sequence[OrderRef]) -> Sequence[Sighting]:
        """Read orders again and apply what they are now; returns what was seen, nothing where they cannot be read."""
        if not refs:
            return ()
        try:
            sightings = self.broker.find_orders(refs)
        except CorroError as error:
            log.warning("cannot_read_again", broker=self.broker.name, error=str(self.execution.heeded(error)))
            return ()
        found: list[Report] = [
            _named(seen.report, ref) for ref, seen in zip(refs, sightings, strict=True) if isinstance(seen, Found)
        ]
        self.reconciler.apply(found)
        return sightings

    # -- STRAYS ---
    def strays(self, *, told: bool = False) -> None:
        """Cancel orders that are alive on attempts which had been given up, as far as they are ours, until they end.

        Args:
            told: this worker has just seen one: what any connection may cancel, it need not leave to the leader.
        """
        with self.database.read() as connection:
            rows = self._strays(connection)
        found = {_stray(row): ref for row in rows if (ref := readable(row)) is not None}
        mine = self.deputies.mine(((ref.session, (stray, ref)) for stray, ref in found.items()), free=told)
        for session, work in mine.items():
            with self._taken([ref for _, ref in work]) as taken:
                self._cancel_strays(session, {stray: ref for stray, ref in work if ref in taken})

    def _strays(self, connection: Connection) -> list[Any]:
        o, a = orders.c, attempts.c
        query = (
            select(orders, attempts)
            .join_from(attempts, orders, a.client_order_id == o.client_order_id)
            .where(STRAY, a.broker == self.broker.name, a.stray_at <= utcnow())
        )
        return list(connection.execute(query).mappings())

    def _cancel_strays(self, session: str | None, strays: dict[Stray, OrderRef]) -> None:
        log.error("stray_orders", broker=self.broker.name, orders=[f"{id_}, attempt {no}" for id_, no in strays])
        try:
            with self.deputies.acting_as(session):
                for (id_, _), ref in strays.items():
                    if error := self.ask(ref):
                        log.error("stray_not_canceled", client_order_id=id_, error=str(error))
        except NotSent as away:
            log.error("stray_not_canceled", orders=[id_ for id_, _ in strays], error=str(away))
        self._look_again(strays, self.read_again(list(strays.values())))

    def _look_again(self, strays: dict[Stray, OrderRef], seen: Sequence[Sighting]) -> None:
        """Ask again later for what may be alive; what no listing has any more, some looks long, is no stray."""
        missing = {stray for stray, sighting in zip(strays, seen, strict=False) if not isinstance(sighting, Found)}

        def work(connection: Connection) -> None:
            batch = OrderBatch.open(connection, {id_ for id_, _ in strays}, utcnow())
            for id_, number in strays:
                entry, attempt = batch[id_], batch[id_].attempts[number]
                if attempt["stray_at"] is None:
                    continue  # its end has been told
                looks = attempt["missing"] + 1 if (id_, number) in missing else 0
                again = None if looks >= LOST_AFTER else entry.now + timedelta(seconds=_AGAIN_S)
                entry.set_attempt(number, missing=looks, stray_at=again)
                if again is None:
                    entry.note("stray_gone", f"attempt {number} at {self.broker.name}: in no listing any more")
            batch.write()

        self.database.transact(work)


def _id(ref: OrderRef) -> str:
    return ref.order.client_order_id


def _named(report: OrderReport, ref: OrderRef) -> OrderReport:
    """Give a report our id where the broker has none of its own to match by."""
    if report.broker_client_order_id or report.broker_order_id == ref.broker_order_id:
        return report
    return replace(report, broker_client_order_id=ref.broker_client_order_id)


def _stray(row: Any) -> Stray:
    return row[attempts.c.client_order_id], row[attempts.c.attempt_no]
