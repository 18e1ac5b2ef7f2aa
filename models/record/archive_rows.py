"""The rows of `models.record.archive_tables`, typed as those of `models.record.rows`."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TypedDict


class ArchiveRow(TypedDict):
    """A run of the archive."""

    id: int
    name: str
    directory: str
    before: datetime
    made_at: datetime
    written_at: datetime | None
    done_at: datetime | None
    counts: dict[str, int] | None
    left: int
    digest: str | None
    first_id: int
    last_id: int
    head: str
    kept_count: int | None
    kept_digest: str | None


class ArchivedOrderRow(TypedDict):
    """What stays of an archived order."""

    client_order_id: str
    body_hash: str
    status: str
    archive: int
    strategy: str | None
    symbol: str | None
    asset_class: str | None
    currency: str | None
    side: str | None
    quantity: Decimal | None
    order_type: str | None
    route: list[str] | None
    broker: str | None
    account: str | None
    broker_order_id: str | None
    filled_quantity: Decimal
    avg_fill_price: Decimal | None
    created_at: datetime
    closed_at: datetime | None


class ArchivedFillRow(TypedDict):
    """What stays of an execution of an archived order."""

    id: int
    broker: str
    account: str | None
    execution_id: str
    strategy: str | None
    symbol: str | None
    side: str | None
    quantity: Decimal
    price: Decimal | None
    currency: str | None
    multiplier: Decimal | None
    commission: Decimal | None
    commission_currency: str | None
    filled_at: datetime
