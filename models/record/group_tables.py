"""The table of linked orders, and the columns by which an order belongs to a group."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, String, Table

from models.record.columns import UtcTime, Words, metadata

order_groups = Table(
    "order_groups",
    metadata,
    Column("group_id", String(64), primary_key=True),
    #: bracket, oco or oto.
    Column("kind", String(16), nullable=False),
    #: As its legs make it: see `models.groups.status_of`.
    Column("status", String(16), nullable=False),
    #: Why it is broken; null where it is not.
    Column("reason", Words()),
    #: What was wrong with it when a person had dealt with it, as `models.groups.mark_of` has it: as long as nothing
    #: else is, it stays closed.
    Column("settled", Words()),
    Column("created_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    Column("updated_at", UtcTime, nullable=False),
    Index("ix_order_groups_status_created_at", "status", "created_at"),
)


def membership() -> list[Any]:
    """Return the columns of an order that say which leg of which group it is; null in an order on its own."""
    return [
        Column("group_id", String(64)),
        Column("group_kind", String(16)),
        Column("leg", String(16)),
        Index("ix_orders_group_id", "group_id"),
    ]
