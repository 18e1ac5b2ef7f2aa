"""One order whose outcome is unknown, and a broker that is looked at for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import insert, select

from models.errors import BrokerError
from models.record.database import Database
from models.record.tables import attempts, orders
from models.reports import Missing, Sighting
from models.settings import Settings
from tests.open_desk import open_desk
from worker.brokers.base import AbsenceRule, Capabilities
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.orders.reconcile import Reconciler
from worker.runtime.clock import utcnow


class LookedAtBroker:
    """As much of a broker as looking for orders asks."""

    name = "alpaca"
    order_session = None
    capabilities = Capabilities(absence=AbsenceRule(min_age_s=10, sightings=2))

    def __init__(self) -> None:
        self.answer: Sighting | BrokerError = Missing(evidence="read everything")
        self.while_looking: Callable[[], None] = lambda: None

    def find_orders(self, refs: Any) -> list[Sighting]:
        self.while_looking()
        if isinstance(self.answer, BrokerError):
            raise self.answer
        return [self.answer for _ in refs]


class LookScene:
    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.paper, self.at = database, LookedAtBroker(), utcnow()
        me = Identity("alpaca")
        Heartbeat(database, me, settings.timing).beat()
        desk = open_desk(settings, database, self.paper, me)
        self.reconciler = Reconciler(
            settings, self.paper, desk.gate, desk.batches, desk.recorder, desk.deputies, me,  # type: ignore[arg-type]
            clock=lambda: self.at,
        )  # fmt: skip
        with database.write() as connection:
            connection.execute(
                insert(orders).values(
                    client_order_id="o1", symbol="KO", side="buy", quantity=3, order_type="limit", limit_price=60,
                    time_in_force="day", status="submitted", broker="alpaca", route=["alpaca"], body_hash="x",
                    available_at=self.at, created_at=self.at, updated_at=self.at, attempt_no=1,
                )
            )  # fmt: skip
            connection.execute(
                insert(attempts).values(
                    client_order_id="o1", attempt_no=1, broker="alpaca", broker_client_order_id="o1", outcome="unknown",
                    worker="w", started_at=self.at, sent_at=self.at, ended_at=self.at, lease_until=self.at,
                    message="no answer within 10 s", code="504",
                )
            )  # fmt: skip

    def look(self) -> None:
        self.reconciler.unknown(everything=True)

    @property
    def attempt(self) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(attempts)).mappings().one()
