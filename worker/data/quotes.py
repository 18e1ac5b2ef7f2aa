"""What leaves an adapter as a quote is cleaned here, whoever wrote the adapter: a missing value is None."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from models.errors import NoData
from models.reports import QuoteReport

_NUMBERS = ("bid", "ask", "last", "bid_size", "ask_size", "last_size", "volume")


def clean(quote: QuoteReport) -> QuoteReport:
    """Return the quote with None for what is no number, 0 or less: brokers' words for 'none'.

    Raises:
        NoData: no price is left.
    """
    values: dict[str, Decimal | None] = {name: getattr(quote, name) for name in _NUMBERS}
    found = replace(quote, **{n: v if v is not None and v.is_finite() and v > 0 else None for n, v in values.items()})  # type: ignore[arg-type]
    if found.bid is found.ask is found.last is None:
        raise NoData(f"no prices of {quote.symbol}")
    return found
