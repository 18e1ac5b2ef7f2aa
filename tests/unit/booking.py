"""One transaction over some orders, and short words for what the record has afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from models.messages import utcnow
from models.record.batch import Effects, OrderBatch
from models.record.database import Database
from models.record.tables import fills, order_events, orders
from models.reports import FillReport
from models.settings import Settings
from worker.orders.record import Recorder

NOW = utcnow()
D = Decimal


def execution(
    execution_id: str, quantity: str, price: str = "100", up_to: str | None = None, commission: str | None = None
) -> FillReport:
    return FillReport(
        execution_id=execution_id, quantity=D(quantity), price=D(price), filled_at=NOW, broker_client_order_id="o-1",
        cumulative_quantity=None if up_to is None else D(up_to),
        commission=None if commission is None else D(commission),
    )  # fmt: skip


@contextmanager
def opened(database: Database, *ids: str) -> Iterator[OrderBatch]:
    """One transaction over some orders, written at its end."""
    with database.write() as connection:
        batch = OrderBatch.open(connection, ids or ("o-1",), utcnow())
        yield batch
        batch.write()


def fill(database: Database, *reports: FillReport, attempt_no: int = 1) -> list[bool]:
    with opened(database) as batch:
        return [batch["o-1"].fill(attempt_no, report) for report in reports]


def order(database: Database, client_order_id: str = "o-1") -> dict[str, Any]:
    with database.read() as connection:
        query = select(orders).where(orders.c.client_order_id == client_order_id)
        return dict(connection.execute(query).mappings().one())


def booked(database: Database) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(fills).order_by(fills.c.id)).mappings()]


def kinds(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(order_events.c.kind).order_by(order_events.c.id)).scalars())


def shown(database: Database, settings: Settings, *reports: Any, reading: bool = False) -> Effects:
    """What the updates thread does with reports of ibkr; or with what a reading of all orders shows."""
    with database.write() as connection:
        return Recorder(settings, "ibkr", dedupes=False).updates(connection, reports, utcnow(), infer=reading)
