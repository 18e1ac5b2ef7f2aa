"""What an Alpaca account was paid, charged or given, in the bodies of its activities that are no trades.

Source: Alpaca's API reference, Account Activities: NonTradeActivities. That a split's qty is the change of the position
is assumed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

from worker.sandbox.alpaca.bodies import NEW_YORK, Json, activity_id, plain
from worker.sandbox.market.accounts import Payment

#: The market's word to Alpaca's type.
_TYPES = {
    "dividend": "DIV", "interest": "INT", "fee": "FEE", "deposit": "CSD", "withdrawal": "CSW", "split": "SPLIT",
    "transfer": "ACATS",
}  # fmt: skip
#: Whose numbers are the same in every run.
_NAMES = uuid.UUID("5f0d2c3e-6f1f-4b53-9a2b-3a8c1c0d7e11")


def payment_json(payment: Payment) -> Json:
    """Return a payment as the account's activities list it."""
    kind = _TYPES.get(payment.kind, payment.kind.upper())
    body: Json = {
        "activity_type": kind,
        "date": payment.at.astimezone(NEW_YORK).date().isoformat(),
        "description": payment.text,
        "id": activity_id(payment.at, str(uuid.uuid5(_NAMES, str(payment.number)))),
        "net_amount": plain(payment.amount),
        "status": "executed",
    }
    if payment.symbol is not None:
        body["symbol"] = payment.symbol
    if payment.quantity is not None:
        body["qty"] = plain(payment.quantity)
        if kind == "DIV" and payment.quantity:
            body["per_share_amount"] = plain((payment.amount / payment.quantity).quantize(Decimal("0.0001")))
    return body


def listed(payments: Iterable[Payment], query: Mapping[str, str], kinds: set[str], when: When) -> list[Json]:
    """Return those that a query asks for, oldest first: its types or its category, and its days in New York.

    Args:
        payments: of the account.
        query: `category`, `date`, `after`, `until`.
        kinds: activity types that are asked for; none asks for all.
        when: reads a time of the query.
    """
    if query.get("category", "non_trade_activity") != "non_trade_activity":
        return []
    first = when(query.get("after"), datetime.min.replace(tzinfo=UTC)).date()
    last = when(query.get("until"), datetime.max.replace(tzinfo=UTC)).date()
    day = query.get("date", "")[:10]
    found = []
    for payment in payments:
        row, local = payment_json(payment), payment.at.astimezone(NEW_YORK).date()
        is_asked = not kinds or row["activity_type"] in kinds
        if is_asked and first <= local <= last and (not day or local == date.fromisoformat(day)):
            found.append(row)
    return found


#: Reads a time of a query; the second is for where there is none.
When = Callable[[str | None, datetime], datetime]
