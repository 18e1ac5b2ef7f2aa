"""Orders as they are recorded first, and found again by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sqlalchemy import ColumnElement, Connection, FromClause, Insert, func, insert, literal, select

from models.clock import utcnow
from models.record.groups import insert_groups
from models.record.keys import HAS_KEYS
from models.record.rows import NewOrder, OrderRow
from models.record.statements import Query, among, insert_told
from models.record.tables import order_events, orders
from models.record.tombstones import archived_rows

_MINE = among(orders.c.client_order_id, "ids")
_ORDERS = Query(select(orders).where(_MINE), OrderRow)
IDS = Query(select(orders.c.client_order_id).where(_MINE))
#: The same, and whether there are keys, in one question: the answer has a row even where no order is found.
_ONE = select(literal(1).label("one")).subquery("o")
_ORDERS_AND_KEYS = Query(select(HAS_KEYS.label("keyed"), orders).select_from(_ONE.outerjoin(orders, _MINE)))


def insert_orders(connection: Connection, rows: Sequence[NewOrder]) -> int:
    """Insert the rows whose id is new, with their first event; returns how many were new."""
    new = insert_told(connection, orders, rows, _first_event)
    if any(row["group_id"] is not None for row in rows):
        insert_groups(connection, rows)
    return new


def _first_event(of: FromClause) -> Insert:
    """Return the INSERT of the event with which each of these orders begins."""
    o = of.c
    told: dict[str, ColumnElement[object]] = {
        "client_order_id": o.client_order_id,
        "at": o.updated_at,
        "kind": o.status,
        "to_status": o.status,
        "detail": func.coalesce(func.nullif(o.reason, ""), literal("for ") + o.broker),
    }
    return insert(order_events).from_select(list(told), select(*told.values()), include_defaults=False)


def whole_rows(connection: Connection, ids: Sequence[str]) -> dict[str, OrderRow]:
    """Return the orders of these ids that are not archived."""
    return {row["client_order_id"]: row for row in _ORDERS.rows(connection, ids=ids)}


def stored_rows(connection: Connection, ids: Sequence[str]) -> dict[str, OrderRow]:
    """Return the orders of these ids, of archived ones what is left; those that no order has are left out."""
    found = whole_rows(connection, ids)
    if missing := [id_ for id_ in ids if id_ not in found]:
        found |= archived_rows(connection, missing)
    return found


def stored_and_keyed(connection: Connection, ids: Sequence[str]) -> tuple[dict[str, OrderRow], bool]:
    """Return the orders of these ids, and whether anybody has a key."""
    rows = _ORDERS_AND_KEYS.rows(connection, ids=ids)
    keyed = [row.pop("keyed") for row in rows]
    found = [cast("OrderRow", row) for row in rows if row["client_order_id"] is not None]
    return {row["client_order_id"]: row for row in found}, any(keyed)


def note(connection: Connection, client_order_id: str, status: str, kind: str, detail: str) -> None:
    """Add an event that changes nothing; an archived order has no journal any more."""
    if not IDS.rows(connection, ids=[client_order_id]):
        return
    connection.execute(
        insert(order_events).values(
            client_order_id=client_order_id,
            at=utcnow(),
            kind=kind,
            from_status=status,
            to_status=status,
            detail=detail,
        )
    )
