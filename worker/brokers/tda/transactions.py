"""What a TDA or Schwab account was paid, charged or given: its transactions, and the fees of its trades.

Schwab: GET /accounts/{hash}/transactions with startDate, endDate and types, a window of at most a year
(schwab_trader's specification, TransactionType and Transaction; several types are joined by commas, as schwab-py does).
TDA: type=ALL, dates without a time (tda_swagger, Transaction). Both name the shares of a transfer as a signed amount;
that a RECEIVE_AND_DELIVER whose description says so is a split is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from models.errors import UnreadableReply
from models.messages import utcnow
from models.reports import CashEventReport
from models.vocabulary import CashKind
from worker.brokers.oddities import Oddities
from worker.brokers.tda.dialects import TdaDialect
from worker.brokers.tda.rest import TdaRest
from worker.brokers.tda.shapes import name
from worker.brokers.values import UNREADABLE, Raw, identity, moment, number, positive, soft

_TRADE, _CURRENCY = "TRADE", "USD"
_TYPES: Mapping[str, CashKind] = {
    "DIVIDEND_OR_INTEREST": CashKind.DIVIDEND, "RECEIVE_AND_DELIVER": CashKind.TRANSFER,
    "ACH_RECEIPT": CashKind.TRANSFER, "ACH_DISBURSEMENT": CashKind.TRANSFER, "CASH_RECEIPT": CashKind.TRANSFER,
    "CASH_DISBURSEMENT": CashKind.TRANSFER, "ELECTRONIC_FUND": CashKind.TRANSFER, "WIRE_OUT": CashKind.TRANSFER,
    "WIRE_IN": CashKind.TRANSFER, "JOURNAL": CashKind.JOURNAL, "MEMORANDUM": CashKind.OTHER,
    "MARGIN_CALL": CashKind.OTHER, "MONEY_MARKET": CashKind.OTHER, "SMA_ADJUSTMENT": CashKind.OTHER,
}  # fmt: skip
#: Words of a description that say more than the type does, the first that is found.
_WORDS: tuple[tuple[str, str, CashKind], ...] = (
    ("DIVIDEND_OR_INTEREST", "INTEREST", CashKind.INTEREST),
    ("DIVIDEND_OR_INTEREST", "TAX", CashKind.TAX),
    ("RECEIVE_AND_DELIVER", "SPLIT", CashKind.SPLIT),
    ("RECEIVE_AND_DELIVER", "EXPIR", CashKind.EXPIRY),
    ("RECEIVE_AND_DELIVER", "ASSIGN", CashKind.ASSIGNMENT),
    ("RECEIVE_AND_DELIVER", "EXERCISE", CashKind.EXERCISE),
    ("RECEIVE_AND_DELIVER", "MERGER", CashKind.CORPORATE_ACTION),
    ("RECEIVE_AND_DELIVER", "SPIN", CashKind.CORPORATE_ACTION),
    ("RECEIVE_AND_DELIVER", "NAME CHANGE", CashKind.CORPORATE_ACTION),
    ("RECEIVE_AND_DELIVER", "SYMBOL CHANGE", CashKind.CORPORATE_ACTION),
    ("JOURNAL", "FEE", CashKind.FEE),
)
#: What the brokers call a commission among the fees of a trade; the others go to authorities and exchanges.
_COMMISSIONS = frozenset({"COMMISSION", "BASE_CHARGE", "LOW_PROCEEDS_COMMISSION", "commission"})
#: A listing that holds as many may have been cut (schwab_trader's specification, of getTransactionsByPathParam).
MOST_ROWS = 3000
#: The widest window of one listing.
_WIDEST = timedelta(days=360)


class TdaTransactions:
    """The transactions of one account.

    Args:
        rest: the way there.
        dialect: how windows are written.
        path: completes a path under the account.
        odd: is told of rows that cannot be read.
    """

    def __init__(self, rest: TdaRest, dialect: TdaDialect, path: Callable[[str], str], odd: Oddities) -> None:
        self._rest, self._dialect, self._path, self._odd = rest, dialect, path, odd

    def since(self, at: datetime) -> Iterator[CashEventReport]:
        """Yield them from a time on, oldest first.

        Raises:
            BrokerError: they could not be read.
        """
        start, end = at - self._dialect.time_slack, utcnow() + self._dialect.time_slack
        while start < end:
            until = min(start + _WIDEST, end)
            yield from self._between(start, until)
            start = until

    def _between(self, start: datetime, end: datetime) -> Iterator[CashEventReport]:
        """Yield those of a window; a listing that may have been cut is read again in halves, as no page follows it."""
        rows = self._rest.read(self._path("/transactions"), self._query(start, end), list)
        if len(rows) < MOST_ROWS:
            found = [report for row in rows for report in self._events(row)]
            yield from sorted(found, key=lambda report: report.at)
            return
        if end - start < 2 * max(self._dialect.time_slack, timedelta(hours=1)):
            words = f"{self._dialect.name}: more than {MOST_ROWS} transactions within {end - start}"
            raise UnreadableReply(words, broker=self._dialect.name)
        middle = start + (end - start) / 2
        yield from self._between(start, middle)
        yield from self._between(middle, end)

    def _query(self, start: datetime, end: datetime) -> dict[str, str | int | None]:
        first, last = (time.astimezone(UTC).strftime(self._dialect.time_format) for time in (start, end))
        types = {"types": ",".join((_TRADE, *_TYPES))} if self._dialect.hashed_accounts else {"type": "ALL"}
        return {"startDate": first, "endDate": last, **types}

    def _events(self, row: Raw) -> list[CashEventReport]:
        try:
            return events_of(row)
        except UNREADABLE as error:
            named = row.get("activityId") if isinstance(row, dict) else None
            self._odd.note(f"transaction {str(named or row)[:100]}", error)
            return []


def events_of(row: Raw) -> list[CashEventReport]:
    """Read one transaction: what it is, or of a trade what it cost in fees.

    Of one that moves several instruments each is an event of its own, and its money another: whose part it was of is
    told nowhere.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it has no id, no type or no time.
    """
    if row.get("status") in ("INVALID", "PENDING"):
        return []
    id_ = identity(row.get("activityId", row.get("transactionId")))
    at = moment(row.get("time") or row.get("tradeDate") or row.get("transactionDate"))
    if id_ is None or at is None:
        raise ValueError("a transaction without an id, or without a time")
    word = str(row["type"])
    detail = " ".join(filter(None, (word, str(row.get("description") or ""))))
    told = CashEventReport(
        event_id=id_,
        kind=_kind(word, str(row.get("description") or "").upper()),
        at=at,
        amount=number(row.get("netAmount")),
        currency=_CURRENCY,
        account_id=soft(identity, row.get("accountNumber")),
        broker_order_id=soft(_order, row.get("orderId")),
        detail=detail,
    )
    items = list(_moved(row))
    if word == _TRADE:
        trade = _item(told, items[0]) if items else told
        return [_cost(trade, fee, amount) for fee, amount in _fees(row)]
    if len(items) < 2:
        return [_item(told, items[0]) if items else told]
    parts = [
        _item(replace(told, event_id=f"{id_}:{n}" if n else id_, amount=None), item) for n, item in enumerate(items)
    ]
    return [*parts, replace(told, event_id=f"{id_}:money")] if told.amount else parts


def _item(told: CashEventReport, item: Raw) -> CashEventReport:
    """Return what a transaction has moved of one instrument."""
    return replace(
        told,
        symbol=name(item.get("instrument")),
        quantity=number(item.get("amount")) or None,
        price=soft(positive, item.get("price")),
    )


def _cost(trade: CashEventReport, fee: str, amount: Decimal) -> CashEventReport:
    """Return one of the fees of a trade, which itself is an execution and recorded as such."""
    kind = CashKind.FEE if fee in _COMMISSIONS else CashKind.REGULATORY_FEE
    named = f"{trade.event_id}:{fee}"
    return replace(trade, event_id=named, kind=kind, amount=amount, quantity=None, price=None, detail=fee)


def _order(value: object) -> str | None:
    """Return an order's id; TDA writes `T123456` of one whose number the other listings show plainly."""
    found = identity(value)
    return found and found.removeprefix("T").partition(".")[0]


def _kind(word: str, text: str) -> CashKind:
    told = (kind for type_, sign, kind in _WORDS if word == type_ and sign in text)
    return next(told, _TYPES.get(word, CashKind.OTHER))


def _moved(row: Raw) -> Iterator[Raw]:
    """Yield the parts that tell of shares, not of money: a merger takes of one symbol and gives of another."""
    items = row.get("transferItems")
    if items is None and isinstance(item := row.get("transactionItem"), dict):
        items = [item]
    for found in items or ():
        instrument = found.get("instrument")
        if isinstance(instrument, dict) and instrument.get("assetType") not in ("CURRENCY", "CASH_EQUIVALENT"):
            yield found


def _fees(row: Raw) -> Iterator[tuple[str, Decimal]]:
    """Yield what a trade cost besides its price, as money of the account: negative is a cost."""
    for item in row.get("transferItems") or ():
        if (fee := item.get("feeType")) and (amount := number(item.get("cost"))):
            yield str(fee), amount
    fees = row.get("fees")
    for fee, value in fees.items() if isinstance(fees, dict) else ():
        if amount := number(value):
            yield str(fee), -amount
