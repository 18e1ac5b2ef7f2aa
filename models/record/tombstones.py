"""What stays of archived orders: enough to tell whoever comes again with an id whether it is the same order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import cast

from sqlalchemy import Connection, and_, or_, select

from models.encoding import plain
from models.errors import NotFound
from models.record.archive_rows import ArchivedOrderRow
from models.record.archive_tables import archived_fills, archived_orders, archives
from models.record.rows import OrderRow
from models.record.statements import Query, among
from models.record.tables import orders
from models.record.unreadable import claim_of
from models.reports import FillReport, OrderReport

_ARCHIVED = Query(select(archived_orders).where(among(archived_orders.c.client_order_id, "ids")), ArchivedOrderRow)
#: Columns of an order that are not null, and that nothing is left of.
_BLANK = {"version": 1, "extended_hours": False, "attempt_no": 0}
#: What the row of an archived order has as its reason.
ARCHIVED = "archived"


def archived_rows(connection: Connection, ids: Sequence[str]) -> dict[str, OrderRow]:
    """Return what is left of the orders of these ids that are archived, as rows of orders."""
    return {row["client_order_id"]: _as_order(row) for row in _ARCHIVED.rows(connection, ids=list(ids))}


def not_there(connection: Connection, client_order_id: str) -> NotFound:
    """Return the error about an order that the record has not, or has no more of than that it is archived."""
    o, a = archived_orders.c, archives.c
    query = select(archived_orders, a.name.label("folder")).join_from(archived_orders, archives, o.archive == a.id)
    row = connection.execute(query.where(o.client_order_id == client_order_id)).first()
    if row is None:
        told = denied_as(connection, client_order_id)
        return NotFound(f"no order has the client_order_id {client_order_id!r}{told}")
    what = f"{row.side} {plain(row.quantity)} {row.symbol}" if row.quantity is not None else row.symbol or "no order"
    done = f"{plain(row.filled_quantity)} filled" if row.filled_quantity else "nothing filled"
    return NotFound(
        f"order {client_order_id!r} is archived ({what}: {row.status}, {done}): its attempts, fills and events are in "
        f"the folder {row.folder} of the archives"
    )


def denied_as(connection: Connection, client_order_id: str) -> str:
    """Say under which id an order was denied that called itself so and could not be read."""
    o = orders.c
    mine = o.client_order_id.startswith("invalid-") & o.reason.endswith(claim_of(client_order_id), autoescape=True)
    found = connection.execute(select(o.client_order_id, o.reason).where(mine).limit(1)).first()
    return "" if found is None else f"; {found.client_order_id} is denied: {found.reason}"


def _as_order(row: ArchivedOrderRow) -> OrderRow:
    """Return the row of an order that has ended, with nothing in it that was not kept."""
    found: dict[str, object] = dict.fromkeys((column.name for column in orders.c), None)
    found |= _BLANK | {name: value for name, value in row.items() if name in found}
    last = row["closed_at"] or row["created_at"]
    found |= {"available_at": row["created_at"], "updated_at": last, "reason": f"{ARCHIVED} ({row['archive']})"}
    found["quantity"] = row["quantity"] if row["quantity"] is not None else Decimal(0)
    return cast("OrderRow", found)


# -- REPORTS ---
def parted_by_archive(
    connection: Connection, broker: str, reports: Sequence[OrderReport | FillReport]
) -> list[tuple[OrderReport | FillReport, bool]]:
    """Return reports that no order in the record explains, each with whether it is about what is archived.

    A report on an order that tells archived executions and new ones is two: each execution counts once. What they say
    otherwise of an archived execution, `models.record.archived_changes` books.

    | it tells                                                     | it is archived                        |
    |--------------------------------------------------------------|---------------------------------------|
    | an execution that is archived, whatever it says of it        | yes                                   |
    | a stretch of an archived order within what was filled of it  | yes: another feed names it otherwise  |
    | any other execution                                          | no: nobody had told it, it is external |
    | an order of ours, filled no further, and nothing but those   | yes                                   |
    """
    if not reports or connection.execute(select(archived_orders.c.archive).limit(1)).first() is None:
        return [(report, False) for report in reports]
    ids = {fill.execution_id for report in reports for fill in fills_in(report)}
    f, o = archived_fills.c, archived_orders.c
    query = select(f.execution_id).where(f.broker == broker, f.execution_id.in_(sorted(ids)))
    known = set(connection.execute(query).scalars())
    by_us = {_own_id(report) for report in reports} - {""}
    by_them = {id_ for report in reports if (id_ := report.broker_order_id)}
    named = or_(o.client_order_id.in_(sorted(by_us)), and_(o.broker == broker, o.broker_order_id.in_(sorted(by_them))))
    filled: dict[str, Decimal] = {}
    for id_, broker_id, quantity in connection.execute(
        select(o.client_order_id, o.broker_order_id, o.filled_quantity).where(named)
    ):
        filled |= dict.fromkeys(filter(None, (id_, broker_id)), quantity)
    return [part for report in reports for part in _parted(report, known, filled)]


def fills_in(report: OrderReport | FillReport) -> Sequence[FillReport]:
    """Return the executions that a report tells."""
    return [report] if isinstance(report, FillReport) else report.fills


def _own_id(report: OrderReport | FillReport) -> str:
    return (report.broker_client_order_id or "").split("~", 1)[0]


def _parted(
    report: OrderReport | FillReport, known: Collection[str], filled: Mapping[str, Decimal]
) -> list[tuple[OrderReport | FillReport, bool]]:
    before = filled.get(_own_id(report), filled.get(report.broker_order_id or ""))
    if isinstance(report, FillReport):
        return [(report, _is_archived(report, known, before))]
    old = tuple(fill for fill in report.fills if _is_archived(fill, known, before))
    new = tuple(fill for fill in report.fills if fill not in old)
    if not new and before is not None and (report.filled_quantity or Decimal(0)) <= before:
        return [(report, True)]
    return [*((fill, True) for fill in old), (replace(report, fills=new), False)]


def _is_archived(fill: FillReport, known: Collection[str], before: Decimal | None) -> bool:
    """Tell whether an execution is archived; `before`: what was filled of its order, where that is archived."""
    if fill.execution_id in known:
        return True
    if before is None or fill.leg is not None or fill.amends or fill.busted:
        return False
    return fill.cumulative_quantity is not None and fill.cumulative_quantity <= before
