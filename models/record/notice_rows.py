"""The rows of the tables of notifications: for the type checker, as in `models.record.rows`."""

from __future__ import annotations

from datetime import datetime
from typing import NotRequired, TypedDict


class IncidentRow(TypedDict):
    """Something that a person should know of."""

    kind: str
    subject: str
    since: datetime
    words: str
    told_at: datetime | None
    over_at: datetime | None


class NotificationRow(TypedDict):
    """A message to people."""

    id: NotRequired[int]
    kind: str
    title: str
    body: str
    made_at: datetime
    try_at: datetime
    tries: int
    left: list[str] | None
    done_at: datetime | None
