"""Linked orders on their way into the record: the columns of a leg, and the rows of a group that begin alike.

The legs of a package, which is one order, are a column of its own (`models.legs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sqlalchemy import Connection, select

from models.groups import GroupKind, Membership, objection
from models.legs import PackageLeg, stored_legs
from models.messages import OrderRequest
from models.record.rows import AnyOrder, NewOrder, by_name
from models.record.tables import orders
from models.vocabulary import Status

_ALIKE = ("status", "held_for", "reason", "reason_code", "closed_at", "available_at")


def columns_of(linked: Membership | None) -> dict[str, str | None]:
    """Return the columns by which an order belongs to a group; null in an order on its own."""
    if linked is None:
        return {"group_id": None, "group_kind": None, "leg": None}
    return {"group_id": linked.id, "group_kind": str(linked.kind), "leg": linked.leg}


def membership_of(row: AnyOrder) -> Membership | None:
    """Return which leg of which group a row is."""
    if row["group_id"] is None:
        return None
    return Membership(row["group_id"], GroupKind(str(row["group_kind"])), str(row["leg"]))


def legs_of(row: AnyOrder) -> tuple[PackageLeg, ...] | None:
    """Return the legs of the package that a row orders; None where it orders one instrument."""
    return stored_legs(row["legs"]) or None


def on_the_wire(row: AnyOrder) -> dict[str, object]:
    """Return the fields `group` and `legs` of the order object that a row records, those that it has."""
    linked, legs = membership_of(row), row["legs"]
    return ({} if linked is None else {"group": linked.to_wire()}) | ({"legs": legs} if legs else {})


def alike(rows: Sequence[NewOrder]) -> list[NewOrder]:
    """Let the legs of a group begin alike: what denies one of them denies all, what holds one of them holds all."""
    decisive: dict[str, NewOrder] = {}
    for row in rows:
        if row["group_id"] is None or row["status"] == Status.QUEUED:
            continue
        first = decisive.setdefault(row["group_id"], row)
        if first["status"] != row["status"] == Status.DENIED:
            decisive[row["group_id"]] = row
    return [_like(decisive.get(row["group_id"] or ""), row) for row in rows]


def _like(first: NewOrder | None, row: NewOrder) -> NewOrder:
    if first is None or first is row or (first["status"] == row["status"] and row["held_for"] == first["held_for"]):
        return row
    given = by_name(first)
    words = f"with the {first['leg']} of its group: {first['reason']}"
    return cast("NewOrder", by_name(row) | {name: given[name] for name in _ALIKE} | {"reason": words})


def strange_legs(connection: Connection, requests: Sequence[OrderRequest]) -> set[str]:
    """Return the ids of groups that have other legs in the record than these: their names are taken."""
    given: dict[str, set[str]] = {}
    for request in requests:
        if request.group is not None:
            given.setdefault(request.group.id, set()).add(request.client_order_id)
    if not given:
        return set()
    o = orders.c
    known = connection.execute(select(o.group_id, o.client_order_id).where(o.group_id.in_(sorted(given))))
    return {group_id for group_id, id_ in known if id_ not in given[group_id]}


def wrong_groups(connection: Connection, requests: Sequence[OrderRequest]) -> dict[str, str]:
    """Return the legs that cannot be recorded, by their client_order_ids: their group is not whole, or is another's."""
    groups: dict[str, list[OrderRequest]] = {}
    for request in requests:
        groups.setdefault(request.group.id if request.group else "", []).append(request)
    taken = strange_legs(connection, requests)
    words = {id_: f"group {id_} has other orders" if id_ in taken else objection(legs) for id_, legs in groups.items()}
    return {leg.client_order_id: why for id_, legs in groups.items() if (why := words[id_]) for leg in legs}
