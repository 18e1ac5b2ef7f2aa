"""What was called external and has turned out to be ours: an attempt bears its broker's order id by now."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Table, delete, exists

from models.destinations import broker_of
from models.record.destinations import is_at
from models.record.tables import attempts, external_fills, external_orders


def turned_out_ours(table: Table, where: str) -> ColumnElement[bool]:
    """Say of a row of external orders or fills at a destination that an attempt of ours bears its broker's order id."""
    a = attempts.c
    ours = exists().where(a.broker == broker_of(where), a.broker_order_id == table.c.broker_order_id)
    return is_at(table, where) & ours


def disown(connection: Connection, where: str) -> None:
    """Take back what was called external at a destination and has turned out to be ours."""
    for table in (external_fills, external_orders):
        connection.execute(delete(table).where(turned_out_ours(table, where)))
