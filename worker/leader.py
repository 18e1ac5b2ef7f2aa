"""What the leader of a broker does besides its own orders: the sweep, stranded orders, and the regular questions."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, select

from models.errors import NotConnected
from models.messages import MAX_BATCH
from models.record.batch import OrderBatch
from models.record.groups import IS_LED
from models.record.rows import ReadableOrder
from models.record.statements import Query
from models.record.tables import orders
from models.vocabulary import Status
from worker.fleet.liveness import alive_brokers
from worker.orders.desk import BrokerDesk
from worker.risk.recount import UsageKeeper
from worker.runtime.clock import elapsed, utcnow

log = structlog.get_logger()


#: Orders that have waited so long leave a broker whose workers are provably dead, seconds: by then, whoever is started
#: again at once has taken them.
_PROVEN_S = 1.0
#: Open orders are read this often while the broker's stream is down.
_WITHOUT_PUSH_S = 2.0

#: Seconds between looks at packages that have ended.
_PACKAGES_S = 10.0
#: Groups that left a position open, of which somebody may have closed it, are looked at this often.
_LEFT_OPEN_S = 1.0


class Leader:
    """Heals what this broker's workers, or other brokers' dead ones, left behind.

    Args:
        desk: this worker's.
    """

    def __init__(self, desk: BrokerDesk) -> None:
        self.desk, self.timing = desk, desk.settings.timing
        self.database, self.broker, self.pulse, self.gate = desk.database, desk.broker, desk.pulse, desk.gate
        self.positions, self.readings, self.reconciler = desk.positions, desk.readings, desk.reconciler
        self.usage = UsageKeeper(desk.database, desk.limiter)
        self._due: dict[str, float] = {}
        self._closed_at: datetime | None = None

    def sweep(self) -> None:
        """Claim from the database what the queue lost, here and for brokers without a worker."""
        self.desk.releases.look()
        self.desk.place.sweep()
        self.stranded()

    def stranded(self) -> None:
        """Move queued orders away from brokers whose workers are all dead: queued is provably not sent."""
        tenure, now = self.pulse.tenure, utcnow()
        patience = self.timing.strand_after
        proven_s = min(patience, _PROVEN_S)
        old = now - timedelta(seconds=proven_s)
        with self.database.read() as connection:
            waiting = select(orders.c.broker).where(orders.c.status == Status.QUEUED, orders.c.available_at <= old)
            names = set(connection.execute(waiting.distinct()).scalars()) - {self.broker.name}
            if not names:
                return
            dead = self.pulse.witness.dead(connection, names, now)
            names -= alive_brokers(connection, now, self.timing.dead_after, but=dead)
        for name in names:
            self._move_from(name, tenure, proven_s if name in dead.values() else patience)

    def _move_from(self, name: str, tenure: datetime | None, patience_s: float) -> None:
        now = utcnow()
        old = now - timedelta(seconds=patience_s)
        waiting = Query(
            select(orders)
            .where(orders.c.status == Status.QUEUED, orders.c.broker == name, orders.c.available_at <= old)
            .where(~IS_LED)  # it goes where its lead goes
            .order_by(orders.c.available_at)
            .limit(MAX_BATCH)
            .with_for_update(skip_locked=True, key_share=True),
            ReadableOrder,
        )

        def opened(connection: Connection) -> OrderBatch:
            leads = self.pulse.still_leads(connection, tenure)  # whoever was dead when we looked may be alive by now
            return OrderBatch.of(connection, waiting.rows(connection) if leads else (), now)

        def work(batch: OrderBatch) -> None:
            for entry in batch.entries.values():
                self.desk.recorder.turn_away(entry, NotConnected(f"no worker of {name} is alive", broker=name))

        _, effects = self.desk.batches.over(opened, work)
        if effects.rings:
            log.warning("orders_moved", broker=name, to={b: len(ids) for b, ids in effects.rings.items()})
        self.desk.batches.follow_up(effects)

    # -- REGULAR QUESTIONS ---
    def heal(self) -> None:
        """Ask the broker what is due: unknown outcomes, open orders, positions."""
        self.usage.look()
        is_open = self.gate.is_open()
        self.readings.loose_ends.alarm(None if is_open else self._closed())
        if not is_open:
            return
        self._closed_at = None
        self.reconciler.unknown()
        every = self.timing.open_orders_every
        if self._is_due("others", self.timing.positions_every):
            self.readings.read()
        elif self._is_due("open_orders", every if self.broker.is_streaming else min(every, _WITHOUT_PUSH_S)):
            self.readings.open_orders()
        if self.positions.is_due():
            self.positions.read()
        self.desk.protections.look()
        if self._is_due("packages", _PACKAGES_S):
            self.desk.uneven.look()
        self.desk.kills.settle()
        if self._is_due("left_open", _LEFT_OPEN_S):
            self.desk.closed_since.look()

    def _closed(self) -> str:
        """Say since when this broker cannot be asked: an alarm does not wait for the answer that is missing."""
        self._closed_at = self._closed_at or utcnow()
        return f"{self.broker.name} is disconnected since {self._closed_at:%H:%M:%SZ}"

    def _is_due(self, what: str, every: float) -> bool:
        if elapsed() < self._due.get(what, 0.0):
            return False
        self._due[what] = elapsed() + every
        return True

    def after_connect(self) -> None:
        """Read everything that may have been missed while the connection was down; the gate opens when this returns.

        Executions, open and completed orders, unknown outcomes, positions, in this order: each explains the next.

        Raises:
            CorroError: something could not be read: a reading that failed is no empty one, so the gate stays closed.
        """
        self.readings.read(everything=True)
        self.reconciler.unknown(everything=True)
        self.positions.read()
        self._is_due("others", self.timing.positions_every)
        self._is_due("open_orders", self.timing.open_orders_every)
