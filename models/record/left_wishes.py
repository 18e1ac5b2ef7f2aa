"""Wishes of producers that may not change orders: left on the row by one function of the database, judged by workers.

`deploy/roles.sql` makes the function `corro_wish` and takes the right to UPDATE orders from producers. Where a producer
has that right, as on SQLite, it records its wish itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, text

from models import encoding


def may_change_orders(connection: Connection) -> bool:
    """Tell whether this connection's role may change orders."""
    if connection.dialect.name == "sqlite":
        return True
    return bool(connection.execute(text("SELECT has_table_privilege('orders', 'UPDATE')")).scalar())


def leave_wish(connection: Connection, client_order_id: str, wish: Mapping[str, object]) -> bool:
    """Leave a wish on an order; returns whether there is such an order.

    Args:
        connection: of a transaction.
        client_order_id: the order.
        wish: `kind` (cancel or replace), `terms` of a replace, or the envelope of a signed one.
    """
    call = text("SELECT corro_wish(:id, CAST(:wish AS jsonb))")
    return bool(connection.execute(call, {"id": client_order_id, "wish": encoding.text(wish)}).scalar())
