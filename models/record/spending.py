"""Orders of money in the record: when their broker's word ends them, and what they may not spend."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from models.encoding import plain
from models.reports import BrokerStatus, OrderReport
from models.sizes import CENT
from models.vocabulary import OPEN

if TYPE_CHECKING:
    from models.record.order import OrderRecord

#: Less than this is how a database rounds.
_FINEST = Decimal("1E-8")


def is_over(entry: OrderRecord, report: OrderReport, *, complete: bool) -> bool:
    """Tell whether an open order is filled because its broker says so, whatever its executions add up to.

    Args:
        entry: the order.
        report: of it.
        complete: the executions were read before this report; without that an order of money is over once all that its
            broker counts is booked, and one of a quantity by that alone.
    """
    if report.status is not BrokerStatus.FILLED or entry.status not in OPEN:
        return False
    if complete or entry.order["notional"] is None or not report.filled_quantity:
        return complete
    return entry.order["filled_quantity"] >= report.filled_quantity - _FINEST


def see_that_it_fits(entry: OrderRecord, worth: Decimal | None) -> None:
    """Say that a broker has bought for more money than was ordered; rounding to a cent is no more.

    Args:
        entry: the order.
        worth: of all its executions; None: not known.
    """
    limit = entry.order["notional"]
    if limit is not None and worth is not None and worth > limit + CENT:
        entry.note_once("overfilled", f"bought for {plain(round(worth, 2))} instead of {plain(limit)}")
