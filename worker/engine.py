"""The world of one worker: built from the settings in one function, started and stopped as a whole.

Threads: the pulse (heartbeat and leadership), the supervisor (connection), the sweep, the healer (questions to the
broker), the wishes (cancels and replaces), the brake (controls), the updates (reports from it), the balances (kept for
analysts), the cash (what accounts were paid), instruments (what was told of them), news and post (where people are to
be told) and two that claim and send what rings. What finds these busy, and every other message, comes by Celery's
threads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import structlog
from celery.exceptions import Reject

from models.errors import AccessLost, DatabaseUnavailable, InvalidOrder, NotRecorded, Untrusted
from models.record.database import Database, open_database
from models.record.keeping import keep
from models.record.key_rows import KeyRow
from models.reports import Report
from models.settings import Settings
from producers.bell import Bell
from worker import brokers
from worker.brokers.base import BrokerInterface
from worker.connection import Supervisor
from worker.data.arrivals import Arrivals
from worker.data.fetching import Fetcher
from worker.data.instruments import KnownInstruments
from worker.fleet.chaining import chain_journals
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.fleet.one_fleet import must_be_one
from worker.leader import Leader
from worker.messaging import unread
from worker.messaging.announcer import Announcer
from worker.messaging.asked import AskedFor
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.messaging.handover import Bodies, handover
from worker.messaging.queue_health import health as queue_health
from worker.notify.notifier import Notifier
from worker.orders.command import Claimed
from worker.orders.desk import BrokerDesk
from worker.orders.updates import Updates
from worker.positions.cash import CashReader
from worker.risk.live import objection
from worker.runtime.clock import Stopwatch, utcnow
from worker.runtime.loops import Loop

log = structlog.get_logger()

#: Seconds between looks at the list on which messages stand that name no queue.
_UNREAD_EVERY_S = 5.0
#: Seconds between links of the chain over the journals.
_CHAIN_EVERY_S = 30.0
#: Seconds between looks at the log of an SQLite database.
_TIDY_EVERY_S = 0.5
#: Seconds between looks at the controls.
_BRAKE_EVERY_S = 0.1
#: Seconds between turns that write down what old executions come to.
_BALANCES_EVERY_S = 10.0
#: Seconds between turns that keep what was told of instruments.
_INSTRUMENTS_EVERY_S = 1.0
#: Seconds between looks whether cash events are to be read.
_CASH_LOOK_S = 5.0
#: Pause between two turns while there is much to write: the fleet's own writes come between.
_BALANCES_PAUSE_S = 0.05
#: Seconds a starting worker waits for its database.
_DATABASE_START_S = 30.0
#: Pause between its looks.
_DATABASE_LOOK_S = 0.2
#: Pause between tries of a message whose database is away.
_DATABASE_PAUSE_S = 1.0
#: Seconds that the threads of a stopping worker have for what they are at, together.
_LOOPS_STOP_S = 30.0


class Engine:
    """Everything that one worker process runs.

    Args:
        settings: the settings.
        broker: the broker this process is bound to, by name; or its adapter, where that is there already.

    Raises:
        ConfigurationError: from `start` too; the process exits 2.
    """

    def __init__(self, settings: Settings, broker: str | BrokerInterface) -> None:
        self.settings = settings
        self.broker = brokers.load(settings, broker) if isinstance(broker, str) else broker
        self.me = Identity(self.broker.name)
        self.queue = EmbeddedQueue(settings) if settings.embedded_queue else None
        self.bell = Bell(settings)
        #: Set when the process has been told to end.
        self.stopping = threading.Event()

    def start(self) -> None:
        """Open the database, start the threads, begin to connect; returns before the broker answers."""
        settings, timing = self.settings, self.settings.timing
        self._open()
        self.announcer = Announcer(settings, self.database.deployment)
        self.announcer.start()
        self.database.after_commit = self.announcer.committed
        self.pulse = Heartbeat(self.database, self.me, timing, remark=self._remark, trouble=self._trouble)
        self.pulse.session = self.broker.order_session
        self.arrivals = Arrivals(self.database, self.broker, settings.history.arrival)
        desk = BrokerDesk(
            settings,
            self.database,
            self.broker,
            self.me,
            self.bell,
            self.pulse,
            self.stopping,
            arrived=self._arrived,
        )
        self.desk, self.gate = desk, desk.gate
        self.instruments = KnownInstruments(self.database, self.broker)
        self.fetcher = Fetcher(
            settings, self.database, self.broker, self.me.name, self.bell, self.gate, self.instruments
        )  # fmt: skip
        self.leader = Leader(desk)
        self.cash = CashReader(self.database, self.broker, settings.history)
        may_be_used = partial(objection, settings, self.database, self.broker.name)
        self.supervisor = Supervisor(self.broker, timing, self.gate, self.leader.after_connect, self._tell, may_be_used)
        self.updates = Updates(self._apply, desk.readings.leave)
        self.broker.updates(self.updates.put)
        wishes = Loop("wishes", 0.5, self._wishes)
        self.loops = [
            Loop("pulse", timing.heartbeat_every, self._beat),
            Loop("supervisor", 0.25, self.supervisor.look),
            Loop("sweep", timing.sweep_every, self._lead(self.leader.sweep, self.fetcher.sweep)),
            Loop("healer", 0.5, self._lead(self.leader.heal)),
            wishes,
            Loop("brake", _BRAKE_EVERY_S, self._watch(wishes)),
            Loop("unread", _UNREAD_EVERY_S, self._lead(lambda: unread.look(self.settings))),
            Loop("chain", _CHAIN_EVERY_S, self._lead(lambda: chain_journals(self.database))),
            Loop("tidy", _TIDY_EVERY_S, self.database.tidy),
            Loop("balances", _BALANCES_EVERY_S, self._lead(self._keep_balances)),
            Loop("instruments", _INSTRUMENTS_EVERY_S, self.instruments.write),
            Loop("cash", _CASH_LOOK_S, self._lead(self._read_cash)),
            *Notifier(settings, self.database, self.me.name, self.stopping).loops(self._lead),
        ]
        with contextlib.suppress(DatabaseUnavailable):  # locked just now: the loop beats again
            self.pulse.beat()
        self.updates.start()
        handover.start(self._begin)
        for loop in self.loops:
            loop.start()
        log.info("worker_started", worker=self.me.name, broker=self.broker.name)

    def stop(self) -> None:
        """Finish what is under way, say good-bye, close everything."""
        self.stopping.set()
        left = handover.stop()
        self.bell.ring([("orders.submit", queue, {"orders": bodies}) for queue, bodies in left])
        pulse, *others = self.loops  # the heart beats until the others are done
        for loop in others:
            loop.ask_to_stop()
        patience = Stopwatch()
        for loop in (*others, pulse):
            loop.stop(max(0.0, _LOOPS_STOP_S - patience.age()))
        self.desk.close()
        self.fetcher.close()
        self.arrivals.close()
        self.broker.disconnect()
        self.updates.stop()
        try:
            self.pulse.stop()
        except Exception as error:
            log.warning("no_good_bye", error=str(error))
        self.announcer.close()
        self.bell.close()
        self.broker.limits.close()
        self.database.close()
        if self.queue:
            self.queue.release()
        log.info("worker_stopped", worker=self.me.name)

    def patiently(self, work: Callable[[], None]) -> None:
        """Do what a message asks; without a database, wait for it, because the message may be all there is.

        Raises:
            Reject: the worker is stopping; the message goes back to its queue.
        """
        while True:
            if self.stopping.is_set():  # nothing is begun any more
                raise Reject("the worker is stopping", requeue=True)
            try:
                return work()
            except DatabaseUnavailable as error:
                log.error("message_waits_for_database", error=str(error))
                if self.stopping.wait(_DATABASE_PAUSE_S):
                    raise Reject(str(error), requeue=True) from error

    def do(self, asked: AskedFor, work: Callable[[], None]) -> None:
        """Do what a message asks; one that makes the work fail is kept for a person, because nobody else has it.

        Raises:
            Reject: the worker is stopping; the message goes back to its queue.
        """
        try:
            self.patiently(work)
        except Reject:
            raise
        except InvalidOrder as error:
            code = str(error.code) if isinstance(error, Untrusted) else "arguments"
            log.warning("wish_not_taken", task=asked.task, id=asked.id, code=code, reason=str(error))
            asked.set_aside(self.settings, code, error)
        except NotRecorded as error:
            asked.set_aside(self.settings, "not_recorded", error)
        except Exception as error:
            log.exception("task_failed", task=asked.task, id=asked.id)
            asked.set_aside(self.settings, "task_failed", error)

    def _begin(self, queue: str, bodies: Bodies) -> bool:
        """Execute orders that rang; False: not begun, as the worker is stopping."""
        try:
            self.do(AskedFor("orders.submit", queue, {"orders": bodies}), lambda: self.submit(bodies, recorded=True))
        except Reject:
            return False
        return True

    def submit(self, bodies: Sequence[Mapping[str, object]], *, recorded: bool = False) -> None:
        """Execute the orders of one message (see `worker.orders.place.Place.submit`).

        A ring that a starting worker reads before its broker is connected waits, as long as the sweep would be later.
        """
        if recorded:
            self.gate.await_first_try(self.settings.timing.sweep_after)
        self.desk.place.submit(bodies, recorded=recorded)

    def cancel(self, ids: Sequence[str], key: KeyRow | None = None) -> None:
        """Cancel orders: those still queued at once, live ones at the broker, others when their fate is known.

        Args:
            ids: client_order_ids.
            key: of a signed cancel, whose it is.
        """
        elsewhere = self.desk.wishes.record(ids, key)
        if self.gate.is_open():
            self.desk.cancels.carry_out(ids)
        self.bell.ring(
            [("orders.cancel", f"control.{b}", {"client_order_ids": found}) for b, found in elsewhere.items()]
        )
        if come := self.desk.wishes.wait_for_orders(ids, key):
            self.cancel(come, key)

    def take_signed(self, kind: Literal["cancel", "replace"], body: object) -> None:
        """Take a signed cancel or replace from a message.

        Raises:
            Untrusted: nobody who may trade stands behind it.
            InvalidOrder: it cannot be read.
        """
        wish = self.desk.wishes.judge(kind, body)
        if kind == "cancel":
            self.cancel(wish.ids, wish.key)
            return
        elsewhere = self.desk.wishes.record_replace(wish)
        self.replace(wish.ids)
        self.bell.ring(
            [("orders.replace", f"control.{b}", {"client_order_ids": found}) for b, found in elsewhere.items()]
        )

    def replace(self, ids: Sequence[str]) -> None:
        """Carry out the replaces that are recorded on these orders."""
        if self.gate.is_open():
            self.desk.replacements.carry_out(ids)

    def _open(self) -> None:
        """Open queue and database, and see that they belong together; none stays open if they do not."""
        with contextlib.ExitStack() as undo:
            if self.queue:
                self.queue.acquire()
                undo.callback(self.queue.release)
            self.database = self._open_database()
            undo.callback(self.database.close)
            must_be_one(self.settings, self.database)
            undo.pop_all()

    def _open_database(self) -> Database:
        """Open the database; one that is away, or goes away meanwhile, is waited for."""
        watch = Stopwatch()
        while True:
            try:
                return open_database(self.settings)
            except DatabaseUnavailable:
                if watch.age() > _DATABASE_START_S:
                    raise
                time.sleep(_DATABASE_LOOK_S)

    def _remark(self) -> str:
        """Say when the broker last answered, and what is left of its budgets."""
        at = self.broker.answered_at
        age = f"answered {max((utcnow() - at).total_seconds(), 0):.0f} s ago" if at is not None else ""
        return "; ".join(words for words in (age, self.broker.limits.words()) if words)

    def _trouble(self) -> str:
        """Say what is wrong although the connection stands, what cannot be read first."""
        unread = self.desk.reads.trouble() if self.gate.is_open() else ""
        return "; ".join(filter(None, (unread, queue_health.trouble)))

    def _beat(self) -> None:
        self.desk.reconciler.steps.look()  # a worker that leads only later has to know as well
        self.pulse.beat()

    def _wishes(self) -> None:
        """Do what is to be done to live orders: the leader, and whose session alone may (`worker.orders.owners`)."""
        if self.stopping.is_set() or not self.gate.is_open():
            return
        if self.pulse.leads or self.broker.order_session is not None:
            self.desk.kills.wish()
            self.desk.wishes.take_left()
            self.desk.cancels.carry_out()
            self.desk.replacements.carry_out()
            self.desk.cancels.strays()
            self.desk.reconciler.doubted()

    def _watch(self, wishes: Loop) -> Callable[[], None]:
        """Return the regular look at the controls: senders need not read them, and a new kill is begun at once."""
        seen = set[int]()

        def look() -> None:
            self.gate.brake.refresh()
            news = {row["generation"] for row in self.desk.kills.in_force()} - seen
            if news:
                seen.update(news)
                wishes.nudge()

        return look

    def _arrived(self, item: Claimed) -> None:
        order = item.order
        has_decision = order.decision_price is not None
        self.arrivals.note(order.client_order_id, item.attempt_no, order.symbol, has_decision=has_decision)

    def _keep_balances(self) -> None:
        """Keep balances until none is old enough; a reader reckons the rest."""
        while keep(self.database, utcnow()) and not self.stopping.wait(_BALANCES_PAUSE_S):
            pass

    def _read_cash(self) -> None:
        if self.gate.is_open():
            self.cash.look()

    def _lead(self, *duties: Callable[[], None]) -> Callable[[], None]:
        def work() -> None:
            for duty in duties:
                if self.pulse.leads and not self.stopping.is_set():
                    try:
                        duty()
                    except AccessLost as error:
                        raise self.gate.heeded(error) from None

        return work

    def _apply(self, reports: Sequence[Report]) -> Sequence[Report]:
        effects = self.database.transact(lambda c: self.desk.recorder.updates(c, reports, utcnow()))
        self.desk.batches.follow_up(effects)
        return effects.unmatched

    def _tell(self, state: str, detail: str) -> None:
        self.pulse.state, self.pulse.detail = state, detail[:500]
        for loop in self.loops:
            if loop.name == "pulse":
                loop.nudge()
