"""The rows of linked orders: for the type checker, as in `models.record.rows`."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict


class GroupRow(TypedDict):
    """A group of linked orders."""

    group_id: str
    kind: str
    status: str
    reason: str | None
    settled: str | None
    created_at: datetime
    closed_at: datetime | None
    updated_at: datetime


class _OfGroup(TypedDict):
    """By which an order belongs to a group."""

    group_id: str | None
    group_kind: str | None
    leg: str | None
