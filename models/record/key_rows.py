"""The rows of the tables about who may trade: for the type checker, as in `models.record.rows`."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict


class KeyRow(TypedDict):
    """Who may trade, and within which bounds."""

    key_id: str
    alg: str
    public_key: str | None
    secret_ref: str | None
    digest: str | None
    operator: bool
    owner: str
    strategies: list[str] | None
    symbols: list[str] | None
    brokers: list[str] | None
    may_cancel: str
    needs_approval: bool
    may_approve: bool
    not_before: datetime | None
    not_after: datetime | None
    added_at: datetime
    revoked_at: datetime | None


class ChainRow(TypedDict):
    """A link of the chain over a journal."""

    journal: str
    first_id: int
    last_id: int
    count: int
    digest: str
    head: str
    at: datetime


class DeploymentRow(TypedDict):
    """Which fleet a database belongs to."""

    id: str
    created_at: datetime
