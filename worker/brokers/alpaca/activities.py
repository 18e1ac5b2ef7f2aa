"""What an Alpaca account was paid, charged or given: the activities that are no trades.

GET /v2/account/activities with category=non_trade_activity lists them with `activity_type`, `date`, `net_amount`, and,
where they are about a symbol, `symbol`, `qty`, `per_share_amount` (Alpaca's API reference, Account Activities). That
the qty of a split, a transfer or a reorganisation is the change of the position is assumed: it explains a position only
where it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime

from models.record.trading_days import begin_of, day_of
from models.reports import CashEventReport
from models.vocabulary import CashKind
from worker.brokers.alpaca.account import currency_of
from worker.brokers.alpaca.rest import AlpacaRest
from worker.brokers.alpaca.symbols import symbol_of
from worker.brokers.oddities import Oddities
from worker.brokers.rest.reading import Paging
from worker.brokers.values import UNREADABLE, Raw, identity, moment, number, positive, soft

#: Rows on a page, as many as Alpaca allows.
PAGE = 100
#: The documented types (docs/facts/alpaca.md#4.8); those that begin so, such as DIVNRA, where a whole family is alike.
_KINDS: dict[str, CashKind] = {
    "CFEE": CashKind.FEE,
    "CSD": CashKind.TRANSFER, "CSW": CashKind.TRANSFER, "TRANS": CashKind.TRANSFER,
    "ACATC": CashKind.TRANSFER, "ACATS": CashKind.TRANSFER,
    "DIVFEE": CashKind.FEE, "DIVFT": CashKind.TAX, "DIVNRA": CashKind.TAX, "DIVTW": CashKind.TAX,
    "DIVWH": CashKind.TAX, "WH": CashKind.TAX, "PTR": CashKind.FEE, "VOF": CashKind.FEE,
    "FEE": CashKind.FEE, "PTC": CashKind.FEE, "REG": CashKind.REGULATORY_FEE, "TAF": CashKind.REGULATORY_FEE,
    "INT": CashKind.INTEREST, "INTNRA": CashKind.TAX, "INTTW": CashKind.TAX,
    "JNL": CashKind.JOURNAL, "JNLC": CashKind.JOURNAL, "JNLS": CashKind.JOURNAL,
    "EXTRD": CashKind.TRANSFER,
    "SPLIT": CashKind.SPLIT, "SSP": CashKind.SPLIT,
    "MA": CashKind.CORPORATE_ACTION, "NC": CashKind.CORPORATE_ACTION, "REORG": CashKind.CORPORATE_ACTION,
    "SC": CashKind.CORPORATE_ACTION, "SSO": CashKind.CORPORATE_ACTION, "SPIN": CashKind.CORPORATE_ACTION,
    "OPCA": CashKind.CORPORATE_ACTION, "WRM": CashKind.CORPORATE_ACTION,
    "OPEXC": CashKind.EXERCISE, "OPXRC": CashKind.EXERCISE, "OPTRD": CashKind.EXERCISE,
    "OPASN": CashKind.ASSIGNMENT, "OPEXP": CashKind.EXPIRY,
}  # fmt: skip
_DIVIDENDS = "DIV"
#: The shares that an exercise or an assignment brings; Alpaca's documentation shows it with the id of that.
_UNDERLYING = "OPTRD"


class AlpacaActivities:
    """The activities of one account that are no trades.

    Args:
        broker: name from the settings.
        rest: returns the trading API, or raises NotConnected.
        odd: is told of rows that cannot be read.
    """

    def __init__(self, broker: str, rest: Callable[[], AlpacaRest], odd: Oddities) -> None:
        self._broker, self._rest, self._odd = broker, rest, odd

    def since(self, at: datetime) -> Iterator[CashEventReport]:
        """Yield them from a day on, oldest first; each page is asked for when it is needed.

        Raises:
            BrokerError: a page could not be read.
        """
        query: dict[str, str | int | None] = {
            "category": "non_trade_activity", "after": f"{day_of(at):%Y-%m-%d}T00:00:00Z", "direction": "asc",
            "page_size": PAGE,
        }  # fmt: skip
        pages = Paging(self._broker, "activities")
        while True:
            rows = self._rest().read("/account/activities", query, list)
            yield from filter(None, map(self._event, rows))
            if len(rows) < PAGE:
                return
            last = next((name for row in reversed(rows) if (name := soft(_id, row))), None)
            query["page_token"] = pages.turn(last)

    def _event(self, row: Raw) -> CashEventReport | None:
        try:
            return None if row.get("activity_type") == "FILL" or row.get("status") == "canceled" else event_of(row)
        except UNREADABLE as error:
            self._odd.note(f"activity {soft(_id, row) or str(row)[:100]}", error)
            return None


def event_of(row: Raw) -> CashEventReport:
    """Read one activity.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it has no id, no type or no date, or its currency is none.
    """
    word = str(row["activity_type"])
    kind = _KINDS.get(word, CashKind.DIVIDEND if word.startswith(_DIVIDENDS) else CashKind.OTHER)
    named = soft(symbol_of, row)
    return CashEventReport(
        event_id=_id(row) if word != _UNDERLYING else f"{_id(row)}:{word}"[:128],
        kind=kind,
        at=_at(row),
        amount=number(row.get("net_amount")),
        currency=currency_of(row),
        symbol=named,
        quantity=number(row.get("qty")),
        price=soft(positive, row.get("price") if row.get("price") is not None else row.get("per_share_amount")),
        broker_order_id=soft(identity, row.get("order_id")),
        detail=" ".join(filter(None, (word, str(row.get("description") or "")))),
    )


def _id(row: Raw) -> str:
    found = identity(row["id"])
    if found is None or len(found) > 128:
        raise ValueError(f"an activity without an id: {str(row.get('id'))[:100]!r}")
    return found


def _at(row: Raw) -> datetime:
    """Return when it was; a date alone is the beginning of that day in New York."""
    exact = soft(moment, row.get("created_at"))
    return exact if exact is not None else begin_of(date.fromisoformat(str(row["date"])[:10]))
