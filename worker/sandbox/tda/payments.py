"""What a TDA or Schwab account was paid, charged or given, and what its trades cost: the bodies of transactions.

Source: the specifications tda_swagger (Transaction) and schwab_trader (Transaction, TransferItem).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta

from worker.sandbox.market.accounts import Payment
from worker.sandbox.market.market import MarketOrder, Trade
from worker.sandbox.tda.bodies import instrument_json, number_of, stamp
from worker.sandbox.tda.dialect import DoorDialect, Json

_TYPES = {
    "dividend": "DIVIDEND_OR_INTEREST", "interest": "DIVIDEND_OR_INTEREST", "fee": "JOURNAL", "deposit": "ACH_RECEIPT",
    "withdrawal": "ACH_DISBURSEMENT", "split": "RECEIVE_AND_DELIVER", "transfer": "RECEIVE_AND_DELIVER",
}  # fmt: skip
#: What a description says where nobody gives one.
_TEXTS = {"dividend": "ORDINARY DIVIDEND", "interest": "CREDIT INTEREST", "fee": "SERVICE FEE", "split": "STOCK SPLIT"}
MOST_ROWS = 3000
_LONGEST = timedelta(days=366)


def payment_json(payment: Payment, dialect: DoorDialect, account: str) -> Json:
    """Return a payment as a transaction."""
    kind, amount = _TYPES.get(payment.kind, "MEMORANDUM"), float(payment.amount)
    text = payment.text or _TEXTS.get(payment.kind, payment.kind.upper())
    item: Json = {}
    if payment.symbol is not None:
        shares = float(payment.quantity) if payment.moves and payment.quantity is not None else 0.0
        item = {"instrument": instrument_json(payment.symbol, dialect), "amount": shares, "cost": 0.0, "price": 0.0}
    if dialect.name == "tda":
        body = {"type": kind, "transactionId": payment.number, "transactionDate": stamp(payment.at),
                "netAmount": amount, "description": text, "fees": {}}  # fmt: skip
        return body | ({"transactionItem": item} if item else {})
    return _schwab(payment.number, payment.at, kind, amount, account) | {
        "description": text, "transferItems": [item] if item else [],
    }  # fmt: skip


def trade_json(order: MarketOrder, trade: Trade, dialect: DoorDialect, account: str) -> Json:
    """Return an execution as a transaction; it costs no commission here."""
    signed = float(trade.quantity) * (1 if order.is_buy else -1)
    net, number = round(-signed * float(trade.price), 2), number_of(order) * 100 + order.executions.index(trade)
    item = {"instrument": instrument_json(order.symbol, dialect), "amount": signed, "cost": net,
            "price": float(trade.price)}  # fmt: skip
    if dialect.name == "tda":
        return {"type": "TRADE", "transactionId": number, "transactionDate": stamp(trade.at), "netAmount": net,
                "orderId": f"T{number_of(order)}", "fees": {"commission": 0.0, "regFee": 0.0},
                "transactionItem": item}  # fmt: skip
    fees = [{"instrument": {"assetType": "CURRENCY", "symbol": "CURRENCY_USD"}, "amount": 0.0, "cost": 0.0,
             "feeType": "COMMISSION"}]  # fmt: skip
    return _schwab(number, trade.at, "TRADE", net, account) | {
        "orderId": number_of(order), "transferItems": [*fees, item | {"positionEffect": "OPENING"}],
    }  # fmt: skip


def _schwab(number: int, at: datetime, kind: str, amount: float, account: str) -> Json:
    return {"activityId": number, "time": stamp(at), "accountNumber": account, "type": kind, "status": "VALID",
            "subAccount": "MARGIN", "tradeDate": stamp(at), "netAmount": amount}  # fmt: skip


def transactions(
    orders: Iterable[MarketOrder],
    payments: Iterable[Payment],
    query: Mapping[str, str],
    dialect: DoorDialect,
    account: str,
) -> list[Json]:
    """Return the transactions that a query asks for, newest first, `MOST_ROWS` of them at most.

    Raises:
        Refusal: a window or a type that is missing, or none.
    """
    first, last = _window(query, dialect)
    named = query.get("types" if dialect.name == "schwab" else "type")
    if not named:
        raise dialect.no(400, "Bad Request", "types is required" if dialect.name == "schwab" else "type is required")
    wanted = set(named.split(","))
    found = [(paid.at, payment_json(paid, dialect, account)) for paid in payments]
    found += [(one.at, trade_json(o, one, dialect, account)) for o in orders for one in o.executions if one.quantity]
    kept = [(at, row) for at, row in found if first <= at <= last and ("ALL" in wanted or row["type"] in wanted)]
    return [row for _, row in sorted(kept, key=lambda pair: pair[0], reverse=True)][:MOST_ROWS]


def _window(query: Mapping[str, str], dialect: DoorDialect) -> tuple[datetime, datetime]:
    try:
        first, last = _time(query["startDate"], time.min), _time(query["endDate"], time.max)
    except (KeyError, ValueError):
        raise dialect.no(400, "Bad Request", "startDate and endDate are required") from None
    if first > last or last - first > _LONGEST:
        raise dialect.no(400, "Bad Request", "The date range must be 0 to 365 days long")
    return first, last


def _time(text: str, of_day: time) -> datetime:
    if len(text) == len("2026-01-31"):
        return datetime.combine(date.fromisoformat(text), of_day, UTC)
    at = datetime.fromisoformat(text.replace(" ", "+"))
    if at.tzinfo is None:
        raise ValueError(text)
    return at
