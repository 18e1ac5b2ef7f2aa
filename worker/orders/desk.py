"""Everything of one worker that handles orders, built in one place, each part after those that it needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from models.record.database import Database
from models.record.intake import Intake
from models.settings import Settings
from producers.bell import Bell
from worker.brokers.base import BrokerInterface
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.fleet.reads import Reads
from worker.gate import Gate
from worker.orders.batches import Batches
from worker.orders.cancel import Cancels
from worker.orders.catch_up import CatchUp
from worker.orders.closed_since import ClosedSince
from worker.orders.command import Claimed
from worker.orders.deputies import Deputies
from worker.orders.kills import Kills
from worker.orders.lane import Threads
from worker.orders.own import OwnOrders
from worker.orders.place import Place
from worker.orders.protection import Protections
from worker.orders.reconcile import Reconciler
from worker.orders.record import Recorder
from worker.orders.releases import Releases
from worker.orders.replace import Replacements
from worker.orders.uneven import UnevenPackages
from worker.orders.vouching import Vouching
from worker.orders.way import Way
from worker.orders.wishes import Wishes
from worker.positions.reading import PositionReader
from worker.risk.limiter import Limiter


class BrokerDesk:
    """One broker's orders.

    Args:
        settings: the settings.
        database: the record.
        broker: the adapter, connected or not.
        me: this worker.
        bell: rings the brokers that are next.
        pulse: this worker's heartbeat, which knows whether it leads.
        stopping: set when the process has been told to end.
        threads: makes those that send.
        arrived: takes note of a send that was answered, without waiting.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: BrokerInterface,
        me: Identity,
        bell: Bell,
        pulse: Heartbeat,
        stopping: threading.Event | None = None,
        threads: Threads = ThreadPoolExecutor,
        arrived: Callable[[Claimed], None] | None = None,
    ) -> None:
        self.settings, self.database, self.broker, self.pulse = settings, database, broker, pulse
        timing, capabilities = settings.timing, broker.capabilities
        self.gate = Gate(database, broker, stopping)
        # A stray is found by whoever records a report, and canceled by the last part that is built.
        self.batches = Batches(database, Intake(settings, database), bell, lambda: self.cancels.strays(told=True))
        self.recorder = Recorder(
            settings, broker.name, dedupes=capabilities.dedupes_client_order_id, rewrites=capabilities.rewrites
        )
        self.limiter = Limiter(settings, broker.name)
        self.reads = Reads()
        self.readings = CatchUp(settings, broker, self.gate, self.batches, self.recorder, self.reads)
        self.positions = PositionReader(database, broker, me.name, timing, pulse, self.readings.read, reads=self.reads)
        self.deputies = Deputies(self.batches, broker, timing, pulse)
        self.reconciler = Reconciler(
            settings, broker, self.gate, self.batches, self.recorder, self.deputies, me
        )  # fmt: skip
        self.way = Way(broker, timing, self.gate, self.batches, threads)
        self.vouching = Vouching(database, settings)
        self.wishes = Wishes(settings, self.batches, broker.name, self.vouching)
        self.place = Place(
            settings, database, broker, me.name, self.gate, self.batches, self.recorder, self.way, self.wishes,
            self.positions.read_anew, self.limiter, self.vouching, arrived or (lambda _: None),
        )  # fmt: skip
        self.releases = Releases(settings, database, self.batches)
        self.replacements = Replacements(
            timing, database, broker, me.name, self.batches, self.recorder, self.way, self.readings, self.deputies,
            self.limiter,
        )  # fmt: skip
        self.cancels = Cancels(database, broker, self.batches, self.way, self.readings, self.deputies, self.vouching)
        own = OwnOrders(settings, broker.name, self.batches, self.vouching)
        self.protections = Protections(settings, broker, self.batches, self.positions, own)
        self.uneven = UnevenPackages(broker.name, self.batches)
        self.closed_since = ClosedSince(broker.name, self.batches)
        self.kills = Kills(broker, self.gate, self.batches, self.readings, self.positions, pulse, own)

    def close(self) -> None:
        """Wait for what is on its way to the broker."""
        self.way.close()
        self.wishes.close()
