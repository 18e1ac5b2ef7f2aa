"""A worker's desk in this process, whose gate is open: what tests of its parts begin with."""

from __future__ import annotations

from typing import Any

from models.record.database import Database
from models.settings import Settings
from producers.bell import Bell
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.orders.desk import BrokerDesk


def open_desk(
    settings: Settings, database: Database, broker: Any, me: Identity | None = None, *, leads: bool = True
) -> BrokerDesk:
    """Build a desk over a broker that may be as little as a test needs."""
    me = me or Identity(broker.name)
    pulse = Heartbeat(database, me, settings.timing)
    pulse.leads = leads
    desk = BrokerDesk(settings, database, broker, me, Bell(settings), pulse)
    desk.gate.open()
    return desk
