"""One order of 10 AAPL at ibkr, and short words for what its broker tells of executions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import select, update

from models.messages import utcnow
from models.record.batch import Effects
from models.record.database import Database
from models.record.tables import (
    fills,
    order_events,
    orders,
)
from models.reports import BrokerStatus, FillReport, OrderReport
from models.settings import Settings
from tests.unit.words import NOW
from worker.orders.record import Recorder

D = Decimal
FILLED = BrokerStatus.FILLED


def execution(execution_id: str, quantity: Any, price: Any = "100", up_to: Any = None, **more: Any) -> FillReport:
    return FillReport(
        execution_id=execution_id, quantity=D(quantity), price=None if price is None else D(price), filled_at=NOW,
        broker_client_order_id="o-1", cumulative_quantity=None if up_to is None else D(up_to), **more,
    )  # fmt: skip


def total(filled: Any, status: BrokerStatus = FILLED, mean: Any = None, **more: Any) -> OrderReport:
    return OrderReport(
        broker_order_id="7", status=status, broker_client_order_id="o-1",
        filled_quantity=None if filled is None else D(filled), avg_fill_price=None if mean is None else D(mean), **more,
    )  # fmt: skip


class Record:
    """One order of 10 AAPL at ibkr, and what was told of it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.settings = database, settings

    def pushed(self, *reports: Any) -> Effects:
        return self._told(reports, infer=False)

    def read(self, *reports: Any) -> Effects:
        """The same where the executions were read together with the orders."""
        return self._told(reports, infer=True)

    def _told(self, reports: Any, *, infer: bool) -> Effects:
        with self.database.write() as connection:
            return Recorder(self.settings, "ibkr", dedupes=False).updates(connection, reports, utcnow(), infer=infer)

    def change(self, **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(update(orders).values(**values))

    @property
    def order(self) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(orders)).mappings().one()

    @property
    def rows(self) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(select(fills).order_by(fills.c.id)).mappings())

    @property
    def standing(self) -> list[tuple[str, Decimal, Decimal | None]]:
        """(execution_id, quantity, price) of what counts."""
        return sorted((r["execution_id"], r["quantity"], r["price"]) for r in self.rows if r["voided_at"] is None)

    def events(self, kind: str) -> list[str]:
        with self.database.read() as connection:
            query = select(order_events.c.detail).where(order_events.c.kind == kind).order_by(order_events.c.id)
            return list(connection.execute(query).scalars())


GUESS = "inferred:o-1"
