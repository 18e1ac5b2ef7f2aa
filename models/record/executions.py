"""Our executions, whether their orders are in the record or archived: what is held is the sum of all of them."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, FromClause, Subquery, select, union_all

from models.record.archive_tables import archived_fills
from models.record.tables import SIDE_OF_FILL, fills, orders


def all_executions(where: Callable[[FromClause], ColumnElement[bool]]) -> Subquery:
    """Return strategy, symbol, side and quantity of every execution for which a condition holds.

    Args:
        where: makes the condition for `fills` and for `archived_fills`.
    """
    f, a = fills.c, archived_fills.c
    own = select(f.strategy, f.symbol, SIDE_OF_FILL.label("side"), f.quantity)
    own = own.join_from(fills, orders, f.client_order_id == orders.c.client_order_id).where(where(fills))
    gone = select(a.strategy, a.symbol, a.side, a.quantity).where(where(archived_fills))
    return union_all(own, gone).subquery()
