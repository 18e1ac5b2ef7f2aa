"""Linked orders on their way into the record: the columns of a leg, and the rows of a group that begin alike.

The legs of a package, which is one order, are a column of its own (`models.legs`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from sqlalchemy import Connection, select

from models.errors import IdempotencyConflict
from models.groups import GroupKind, Membership, membership, objection
from models.legs import PackageLeg, stored_legs
from models.messages import OrderRequest
from models.record.archive_tables import archived_orders
from models.record.group_tables import order_groups
from models.record.rows import AnyOrder, NewOrder, by_name
from models.record.tables import orders
from models.record.unreadable import content_of
from models.vocabulary import Status

#: An order object of a message that cannot be recorded, and why not.
Lost = tuple[object, str]
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
    """Return the ids of groups that have other legs than these, in the record or archived: their names are taken.

    A group's row stays for ever; once its legs are archived, their ids are all that is left of them.
    """
    given: dict[str, set[str]] = {}
    for request in requests:
        if request.group is not None:
            given.setdefault(request.group.id, set()).add(request.client_order_id)
    if not given:
        return set()
    o, g, a = orders.c, order_groups.c, archived_orders.c
    rows = connection.execute(select(o.group_id, o.client_order_id).where(o.group_id.in_(sorted(given)))).all()
    there = set(connection.execute(select(g.group_id).where(g.group_id.in_(sorted(given)))).scalars())
    if gone := there - {row.group_id for row in rows}:
        ids = sorted(id_ for group_id in gone for id_ in given[group_id])
        archived = set(connection.execute(select(a.client_order_id).where(a.client_order_id.in_(ids))).scalars())
        gone = {group_id for group_id in gone if not given[group_id] <= archived}
    return gone | {row.group_id for row in rows if row.client_order_id not in given[row.group_id]}


def must_be_free(connection: Connection, requests: Sequence[OrderRequest]) -> None:
    """See that the groups of new orders have no other orders; raises IdempotencyConflict.

    Asked before they are inserted, and again after it: then whoever came at the same time can be seen.
    """
    if taken := strange_legs(connection, requests):
        raise IdempotencyConflict(f"group {taken.pop()!r} has other orders. Use a new id for a new group.")


def lost_legs(lost: Iterable[Lost]) -> dict[str, str]:
    """Return why legs of a message take their groups along, by the groups' ids."""
    found: dict[str, str] = {}
    for body, why in lost:
        with suppress(ValueError):
            if (linked := membership(content_of(body).get("group"))) is not None:
                found.setdefault(linked.id, f"group {linked.id}: its {linked.leg} cannot be recorded: {why}")
    return found


def signed_apart(group_id: str, keys: Collection[str | None]) -> str | None:
    """Say that a group is not signed by one key alone, or as a whole by none; None where it is.

    Its legs stand for each other: who signs a stop_loss decides what the entry of somebody else may lose, and a key
    that is revoked, killed or may cancel its own orders alone would take half of a group away.
    """
    if len(set(keys)) == 1:
        return None
    told = ", ".join("none" if key is None else repr(key) for key in sorted(set(keys), key=lambda key: key or ""))
    return f"group {group_id}: one key signs all its legs, these are signed by {told}"


def wrong_groups(connection: Connection, requests: Sequence[OrderRequest], lost: Mapping[str, str]) -> dict[str, str]:
    """Return the legs that cannot be recorded, by their client_order_ids: their group is not whole, or is another's.

    Args:
        connection: to read by.
        requests: every leg of a message that can be read.
        lost: groups of which a leg cannot be recorded, with the words for it.
    """
    groups: dict[str, list[OrderRequest]] = {}
    for request in requests:
        groups.setdefault(request.group.id if request.group else "", []).append(request)
    taken = strange_legs(connection, requests)
    words = {
        id_: lost.get(id_) or (f"group {id_} has other orders" if id_ in taken else objection(legs))
        for id_, legs in groups.items()
    }
    return {leg.client_order_id: why for id_, legs in groups.items() if (why := words[id_]) for leg in legs}
