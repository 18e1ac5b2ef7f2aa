"""What Schwab says of an order that is not placed, by its previewOrder; TD Ameritrade had no such thing. Pure but one.

Source: docs/facts/schwab.md#2.20. It tells no margin, so none is reported: the buying power that is left says less.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from models.lookups import PreviewReport
from worker.brokers.rest.reading import READ_WITHIN_S, Body
from worker.brokers.tda.rest import TdaRest, decoded
from worker.brokers.values import Raw, fee, soft

#: Lists of what a validation says besides refusing.
_WARNINGS = ("alerts", "reviews", "warns")
_MOST_WORDS = 300


def preview(rest: TdaRest, account_path: str, body: Body, broker: str) -> PreviewReport:
    """Ask for a preview; it may be asked for again, as nothing comes of it.

    Raises:
        Refused: the order does not pass validation. BrokerError: it could not be asked, or not be read.
    """
    answer = rest.send("POST", f"{account_path}/previewOrder", body, deadline_s=READ_WITHIN_S)
    return rest.parse(read_preview, decoded(answer, broker))  # type: ignore[arg-type]  # what is no object is unreadable


def read_preview(raw: Raw) -> PreviewReport:
    """Read the answer.

    Raises:
        ValueError, TypeError, AttributeError: it is none.
    """
    found = raw.get("orderValidationResult") or {}
    refused = list(_words(found.get("rejects")))
    costs = raw.get("commissionAndFee") or {}
    amounts = [*_amounts(costs.get("commission")), *_amounts(costs.get("fee"))]
    known = [amount for amount in amounts if amount is not None]
    told = sum(known, Decimal(0)) if len(known) == len(amounts) else None  # a part is not what the order costs
    commission = told if amounts else _projected(raw)
    return PreviewReport(
        commission=commission,
        currency="USD",
        warnings=tuple(words for name in _WARNINGS for words in _words(found.get(name))),
        refused="; ".join(refused) or None,
    )


def _words(rows: object) -> Iterator[str]:
    for row in rows if isinstance(rows, list) else ():
        words = row.get("activityMessage") or row.get("message") or row.get("validationRuleName")
        yield str(words or "no reason given")[:_MOST_WORDS]


def _amounts(costs: Raw | None) -> Iterator[Decimal | None]:
    """Yield the amounts of commission or fees, leg by leg; None of one that cannot be read."""
    for kind in ("commission", "fee"):
        for leg in (costs or {}).get(f"{kind}Legs") or ():
            for each in leg.get(f"{kind}Values") or ():
                yield soft(fee, each.get("value"))


def _projected(raw: Raw) -> Decimal | None:
    balance = (raw.get("orderStrategy") or {}).get("orderBalance") or {}
    return soft(fee, balance.get("projectedCommission"))
