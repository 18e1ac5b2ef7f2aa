"""The columns of what few orders say: how long they live, how they show themselves, who works them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict

from sqlalchemy import JSON, Boolean, Column

from models.record.columns import Money, UtcTime


def rare_terms() -> list[Any]:
    """Return those columns of an order; null in most orders. `models.kinds` says what they mean."""
    return [
        Column("good_till", UtcTime),
        Column("limit_offset", Money),
        Column("display_quantity", Money),
        Column("hidden", Boolean),
        Column("algo", JSON(none_as_null=True)),
    ]


class _OfKind(TypedDict):
    """The same for the type checker."""

    good_till: datetime | None
    limit_offset: Decimal | None
    display_quantity: Decimal | None
    hidden: bool | None
    algo: dict[str, str] | None
