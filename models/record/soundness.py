"""Whether the row of an order is one that `OrderRequest` would have made: whoever may write the table writes rows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from models.errors import InvalidOrder
from models.lifecycle import Fact
from models.messages import OrderRequest, plain
from models.record.intake import body_of
from models.record.rows import AnyOrder, by_name
from models.troubles import trouble
from models.vocabulary import UNSENT, Denial

if TYPE_CHECKING:
    from models.record.order import OrderRecord

_TIMES = ("created_at", "expires_at", "not_before", "available_at", "updated_at")
#: Years in which the times of an order are.
_AGE = range(2000, 2200)
_UNSENT = frozenset(map(str, UNSENT))


def unsound(row: AnyOrder) -> str | None:
    """Say why an order that nobody has tried yet cannot be sent as its row is written; None if it can."""
    try:
        columns = by_name(row)
        for name in _TIMES:
            value = columns[name]
            if isinstance(value, datetime) and value.year not in _AGE:
                raise InvalidOrder(f"{name}: must be a time of this age, was {value.isoformat()}")
        if not row["broker"]:
            raise InvalidOrder("broker: must name one, was none")
        if row["filled_quantity"]:
            raise InvalidOrder(f"filled_quantity: nothing has been sent of it, was {plain(row['filled_quantity'])}")
        # How long it may wait counts from its release, so that is no term of the order.
        request = OrderRequest(**(body_of(row) | {"expires_at": None}))
        if columns["currency"] not in (None, request.instrument.currency):
            raise InvalidOrder(
                f"currency: of {request.symbol} is {request.instrument.currency}, was {columns['currency']}"
            )
    except Exception as error:  # whatever a row from outside makes its reader raise
        return f"its row is no order: {error if isinstance(error, InvalidOrder) else trouble(error)}"
    return None


def is_new(row: AnyOrder) -> bool:
    """Tell whether nobody has looked at an order yet: it waits, and was never tried."""
    return row["status"] in _UNSENT and row["attempt_no"] == 0


def deny(entry: OrderRecord, why: str) -> None:
    """End an order that is none, and take it out of its group, which may be somebody else's."""
    entry.happen(Fact.DENIED, attempt_no=entry.order["attempt_no"], detail=why)
    entry.set(reason_code=str(Denial.INVALID), held_for=None, group_id=None, group_kind=None, leg=None)
