"""The way of an order through a worker: ingest, claim, send, record.

The order of things is the safety: the row is committed as `submitted` with an attempt `sending` before a byte leaves,
the claim is checked again at the last moment, and what came back is committed before anything else happens to the
order. A process that dies in between leaves an attempt `sending`, which reconciliation settles by asking the broker.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection

from models.crash_points import reached
from models.errors import (
    AccessLost,
    BrokerError,
    CorroError,
    DatabaseUnavailable,
    NotConnected,
    NotRecorded,
    NotSent,
    QueueUnavailable,
    Stale,
    Unmapped,
)
from models.messages import MAX_BATCH
from models.record.batch import Effects, OrderBatch
from models.record.database import Database
from models.record.intake import Intake
from models.record.order import cancel
from models.reports import OrderReport
from models.settings import Settings
from models.vocabulary import OPEN
from producers.bell import Bell
from worker.brokers.base import BrokerInterface, Ticket
from worker.fleet.halts import Brake
from worker.orders.claiming import Claimed, Claims, Which, overdue, these
from worker.orders.early_cancels import EarlyCancels
from worker.orders.in_parallel import Answer, Volley
from worker.orders.marks import Marks
from worker.orders.patience import NEAR_S, in_turn, written
from worker.orders.record import Recorder
from worker.positions.closing import Asked
from worker.runtime.clock import Stopwatch, utcnow
from worker.runtime.isolate import isolate

log = structlog.get_logger()
_A = TypeVar("_A")


class Execution:
    """Executes orders at one broker.

    Args:
        settings: the settings.
        database: the record.
        broker: the adapter, connected or not.
        worker: this worker's name.
        bell: rings the next broker after a fallback.
        after_commit: called with what has to be done after a recording (cancel strays).
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: BrokerInterface,
        worker: str,
        bell: Bell,
        after_commit: Callable[[Effects], None] | None = None,
    ) -> None:
        self.settings, self.timing = settings, settings.timing
        self.database, self.broker, self.worker, self.bell = database, broker, worker, bell
        self.after_commit = after_commit
        self.capabilities = broker.capabilities
        self.intake = Intake(settings, database)
        self.early_cancels = EarlyCancels(settings)
        self.recorder = Recorder(
            settings,
            broker.name,
            dedupes=self.capabilities.dedupes_client_order_id,
            rewrites=self.capabilities.rewrites,
        )
        self.claims = Claims(database, broker, worker, self.timing, self.recorder, self.ring)
        self.brake = Brake(database, broker.name)
        #: False while the first connect is under way, and orders wait for it instead of falling back; and while the
        #: process ends.
        self.may_claim: Callable[[], bool] = lambda: True
        #: Reads and stores the broker's positions; returns the symbols whose size could not be read.
        self.read_positions: Callable[[], Collection[str]] = lambda: ()
        #: Told why the broker refuses us altogether.
        self.lost: Callable[[str], None] = lambda _: None
        self._senders = ThreadPoolExecutor(self.capabilities.parallel_orders, thread_name_prefix="send")
        #: Cancels and replaces have threads of their own: they do not wait behind orders.
        self.changers = ThreadPoolExecutor(self.capabilities.parallel_orders, thread_name_prefix="change")
        self._lines = threading.BoundedSemaphore(self.capabilities.parallel_orders)

    def close(self) -> None:
        """Wait for sends under way and stop."""
        self._senders.shutdown(wait=True)
        self.changers.shutdown(wait=True)
        self.early_cancels.close()

    # -- FROM A MESSAGE ---
    def submit(self, bodies: Sequence[Mapping[str, Any]], *, recorded: bool = False) -> None:
        """Execute the orders of one message; orders without a row get one, copies change nothing.

        Args:
            bodies: order objects.
            recorded: their producer has recorded and checked them, so they have rows and need no second look.

        Raises:
            NotRecorded: they have none here. Their rows are in another database, whose own fleet may send them too.
        """
        if recorded and (ids := _ids(bodies)):
            left = set(ids) - set(self.work(ids))
            if left and (lost := self.intake.without_row(list(left))):
                raise NotRecorded(
                    f"{', '.join(sorted(lost))}: recorded by a producer, but not in this database "
                    f"({self.database.url!r}, deployment {self.database.deployment}). That producer works on another "
                    "one: compare database_url, CORRO_HOME and its working directory"
                )
            return
        known = self.intake.take(bodies, queue_broker=self.broker.name)
        self._cancel_early(list(known))
        elsewhere = Effects()
        for client_order_id, broker in known.items():
            if broker != self.broker.name:
                elsewhere.ring(broker, client_order_id)
        self.work([i for i, broker in known.items() if broker == self.broker.name])
        self.ring(elsewhere)

    # -- FROM THE DATABASE ---
    def work(self, ids: Sequence[str]) -> list[str]:
        """Claim and execute these orders; returns those that were claimed."""
        if not ids:
            return []
        return self._rounds(these(ids), len(ids))

    def sweep(self) -> list[str]:
        """Claim and execute what has waited too long for its message, or whose pause is over; returns their ids."""
        which = overdue(self.timing.sweep_after)
        return self._rounds(which) if self.claims.is_overdue(which) else []

    def _rounds(self, which: Which, most: float = math.inf) -> list[str]:
        done: list[str] = []
        more, asked = True, Asked()
        while more and self.may_claim():  # what is not claimed now, the sweep finds later
            watch = Stopwatch()  # from before the claim: a pause behind it counts as well
            claimed = self.claims.claim(which, asked)
            done += [c.id for c in claimed]
            self.send(claimed, watch)
            # A full batch has left some behind; so has a broker where look-alikes go one after the other.
            full = len(claimed) == MAX_BATCH and len(done) < most
            more = full or (self.claims.anonymous and bool(claimed))
        return done + self._once_more(list(asked.ids))

    def _once_more(self, ids: Sequence[str]) -> list[str]:
        """Claim and execute orders that close a position of which it was not known whether it is there."""
        if not ids:
            return []
        done, asked = list[str](), Asked(since=utcnow())
        try:
            asked.unread = self.read_positions()
        except DatabaseUnavailable:
            raise
        except CorroError as error:
            asked.error = str(self.heeded(error))
            log.warning("positions_unreadable", broker=self.broker.name, error=asked.error)
        more = True
        while more and self.may_claim():
            watch = Stopwatch()
            claimed = self.claims.claim(these(ids), asked)
            done += [c.id for c in claimed]
            self.send(claimed, watch)
            more = self.claims.anonymous and bool(claimed)
        return done

    # -- CANCEL ---
    def request_cancel(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Record that cancels are wanted; what is still queued is canceled at once.

        Returns:
            Ids whose order is at another broker, by broker.
        """
        elsewhere: dict[str, list[str]] = {}
        for found in isolate(self._wish_cancels, ids, "cancel_not_recorded"):
            for broker, theirs in found.items():
                elsewhere.setdefault(broker, []).extend(theirs)
        return elsewhere

    def cancel_when_they_come(self, ids: Sequence[str]) -> list[str]:
        """Remember the cancels of orders that have no row yet; returns those whose row has come meanwhile.

        Raises:
            QueueUnavailable: nobody would remember them.
        """
        early = self.intake.without_row(ids)
        if not early:
            return []
        self.early_cancels.remember(sorted(early))
        return sorted(early - self.intake.without_row(sorted(early)))

    def _cancel_early(self, ids: Sequence[str]) -> None:
        """End orders from a message whose cancel was read before them; they have a row, and nobody has claimed them."""
        try:
            if early := self.early_cancels.of(ids):
                self.request_cancel(early)
                self.early_cancels.forget(early)
        except QueueUnavailable as error:  # they are executed as if nobody had wished a cancel, as far as anybody knows
            log.warning("early_cancels_not_known", error=str(error), orders=len(ids))

    def _wish_cancels(self, ids: Sequence[str]) -> dict[str, list[str]]:
        def work(connection: Connection) -> OrderBatch:
            batch = OrderBatch.open(connection, ids, utcnow())
            for entry in batch.entries.values():
                cancel(entry)
            batch.write()
            return batch

        entries = self.database.transact(work).entries
        elsewhere: dict[str, list[str]] = {}
        for entry in entries.values():
            if entry.status in OPEN and entry.order["broker"] != self.broker.name:
                elsewhere.setdefault(entry.order["broker"], []).append(entry.id)
        return elsewhere

    # -- SEND ---
    def send(self, claimed: Sequence[Claimed], watch: Stopwatch) -> None:
        """Send what was claimed, many at a time, and record answers as they come, several per transaction."""
        marks = Marks(self.database, self.broker.name, claimed, self.capabilities.parallel_orders)
        send = partial(self._send_one, watch=watch, marks=marks)
        if len(claimed) == 1:  # alone it need not change threads
            self.record([(claimed[0], send(claimed[0]))])
            return
        for came in Volley(claimed, send, self._senders, self.capabilities.parallel_orders):
            self.record(came)

    def _send_one(self, claimed: Claimed, watch: Stopwatch, marks: Marks) -> Answer:
        def fresh() -> None:
            if watch.age() > self.timing.fresh:
                raise Stale(
                    f"{self.broker.name}: claimed {watch.age():.1f} s ago, too long to send under that claim",
                    broker=self.broker.name,
                )

        def still_mine() -> None:
            self.brake.gate()
            fresh()
            reached("before_send")

        def place() -> OrderReport:
            self.capabilities.check(claimed.order, self.broker.name)
            self.must_be_open()
            self.brake.look()
            fresh()  # before a turn is waited for, too: it may have stood in a row for long
            if self.capabilities.marks_sends:
                marks.mark(claimed)
            ticket = Ticket(
                order=claimed.order,
                broker_client_order_id=claimed.broker_client_order_id,
                deadline_s=self.timing.deadline,
                still_mine=still_mine,
            )
            # A turn that is near is waited for under this claim, instead of giving the order back.
            left = lambda: min(NEAR_S, self.timing.fresh - watch.age())  # noqa: E731
            report = in_turn(partial(self.broker.place_order, ticket), left)
            reached("after_send")
            return report

        with self._lines:
            return self.heeded(answer_of(place, self.broker.name, claimed.id))

    def heeded(self, answer: _A) -> _A:
        """Hand an answer on; one that says that our access is lost closes the gate first, for every thread."""
        if isinstance(answer, AccessLost):
            self.lost(str(answer))
        return answer

    def must_be_open(self) -> None:
        """Raise NotConnected while the connection is down or not reconciled yet."""
        if closed := self.claims.closed():
            raise NotConnected(f"{self.broker.name} is not connected: {closed}", broker=self.broker.name)

    # -- RECORD ---
    def record(self, answers: Iterable[tuple[Claimed, Answer]]) -> None:
        """Commit what became of sends, then ring whoever is next."""
        answers, event = list(answers), "answer_not_recorded"
        for effects in written(lambda: isolate(self._record, answers, event), event, [c.id for c, _ in answers]):
            self.finish(effects)

    def _record(self, answers: Sequence[tuple[Claimed, Answer]]) -> Effects:
        kept = {c.id: c.entry for c, _ in answers}

        def work(connection: Connection) -> Effects:
            batch = OrderBatch.open(connection, kept, utcnow(), kept=kept)
            for claimed, answer in answers:
                self.recorder.settle(batch[claimed.id], claimed.attempt_no, answer)
            reached("before_commit")
            batch.write()
            return batch.effects

        effects = self.database.transact(work)
        reached("after_commit")
        for claimed, answer in answers:
            _tell(claimed, answer, self.broker.name)
        return effects

    def finish(self, effects: Effects) -> None:
        """Do what follows a commit: ring the brokers that are next, and cancel strays."""
        self.ring(effects)
        if effects.strays and self.after_commit:
            self.after_commit(effects)

    def ring(self, effects: Effects) -> None:
        """Wake the brokers that are next; the order travels as its id, the row has the rest."""
        if not effects.rings:
            return
        bodies = self.intake.bodies([i for found in effects.rings.values() for i in found])
        self.bell.ring(
            [
                ("orders.submit", f"orders.{broker}", {"orders": [bodies[i] for i in found if i in bodies]})
                for broker, found in effects.rings.items()
            ]
        )


def _ids(bodies: Any) -> list[str] | None:
    """Return the ids of order objects, or None where they are no such things."""
    if not isinstance(bodies, list) or not all(isinstance(body, dict) for body in bodies):
        return None
    ids = [body.get("client_order_id") for body in bodies]
    return ids if all(isinstance(id_, str) for id_ in ids) else None


def answer_of(call: Callable[[], OrderReport], broker: str, client_order_id: str) -> Answer:
    """Make a call to an adapter and return its answer; what an adapter should not have let out is unknown."""
    try:
        return call()
    except BrokerError as error:
        return error
    except DatabaseUnavailable as error:
        return NotSent(f"not sent, the database is away: {error}", broker=broker)
    except Exception as error:
        log.exception("adapter_leaked", broker=broker, client_order_id=client_order_id)
        return Unmapped(f"{broker}: {type(error).__name__}: {error}", broker=broker)


def _tell(claimed: Claimed, answer: Answer, broker: str) -> None:
    """One log line per answer; loud where a person may be needed."""
    context = {"client_order_id": claimed.id, "broker": broker, "attempt_no": claimed.attempt_no}
    if isinstance(answer, OrderReport):
        log.info("order_accepted", status=str(answer.status), broker_order_id=answer.broker_order_id, **context)
    else:
        log.warning("order_not_accepted", kind=type(answer).__name__, error=str(answer), **context)
