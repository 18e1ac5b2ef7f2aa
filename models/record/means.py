"""The mean prices of an order's executions; the mean of a part would be a guess about the whole."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from models.record.leg_fills import mean_net
from models.record.linked import legs_of
from models.record.rows import FillRow
from models.record.spending import see_that_it_fits

if TYPE_CHECKING:
    from models.record.order import OrderRecord


def rest_price(rows: Iterable[FillRow], total: Decimal, mean: Decimal | None, missing: Decimal) -> Decimal | None:
    """Return the mean price of what is missing, where it follows from the mean of the whole and the known parts."""
    known = worth_of(row for row in rows if not row["inferred"] and row["quantity"])
    if mean is None or not missing or known is None:
        return None
    rest = (mean * total - known) / missing
    return rounded(rest, 6) if rest > 0 else None


def average(entry: OrderRecord) -> None:
    """Keep the order's mean price; the mean of a part would be a guess about the whole."""
    rows = [row for row in entry.fills if row["quantity"]]
    if (legs := legs_of(entry.order)) is not None:
        entry.set(avg_fill_price=mean_net(rows, legs))
        return
    total = sum((row["quantity"] for row in rows), Decimal(0))
    worth = worth_of(rows)
    entry.set(avg_fill_price=rounded(worth / total, 8) if total and worth is not None else None)
    see_that_it_fits(entry, worth)


def worth_of(rows: Iterable[FillRow]) -> Decimal | None:
    """Return quantity times price, added up; None where a price is not known."""
    worth = Decimal(0)
    for row in rows:
        if row["price"] is None:
            return None
        worth += row["quantity"] * row["price"]
    return worth


def rounded(price: Decimal, places: int) -> Decimal:
    """Round a price to decimal places, and never to 0: a small one keeps its leading digits."""
    return round(price, max(places, places // 2 - price.adjusted()))
