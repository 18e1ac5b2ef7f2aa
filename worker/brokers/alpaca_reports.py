"""Alpaca's JSON in corro's words; nothing here talks to anyone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from models.errors import Unsupported
from models.messages import OrderRequest, plain
from models.reports import AccountReport, Bar, BrokerStatus, FillReport, OrderReport, PositionReport, QuoteReport
from models.timeframes import NEW_YORK
from models.vocabulary import OrderType, Side, TimeInForce, signed
from worker.brokers.values import Raw, moment, needed, number, positive

_ACCEPTED = BrokerStatus.ACCEPTED
#: BROKERS.md 2.3 and 4.1; done_for_day and calculated are no end: a GTC order lives on, a day order expires next.
STATUSES: dict[str, BrokerStatus] = {
    "pending_new": _ACCEPTED,
    "accepted": _ACCEPTED,
    "accepted_for_bidding": _ACCEPTED,
    "held": _ACCEPTED,
    "new": _ACCEPTED,
    "stopped": _ACCEPTED,
    "suspended": _ACCEPTED,
    "done_for_day": _ACCEPTED,
    "calculated": _ACCEPTED,
    "pending_replace": _ACCEPTED,
    "partially_filled": BrokerStatus.PARTIALLY_FILLED,
    "pending_cancel": BrokerStatus.PENDING_CANCEL,
    "filled": BrokerStatus.FILLED,
    "canceled": BrokerStatus.CANCELED,
    "expired": BrokerStatus.EXPIRED,
    "rejected": BrokerStatus.REJECTED,
    "replaced": BrokerStatus.REPLACED,
}
#: Alpaca has no word for opening or closing: short is a sell without a position.
_SIDES = {Side.BUY: "buy", Side.SELL: "sell", Side.SELL_SHORT: "sell", Side.BUY_TO_COVER: "buy"}
_PRICES = (
    ("limit_price", "limit_price"),
    ("stop_price", "stop_price"),
    ("trail_price", "trail_amount"),
    ("trail_percent", "trail_percent"),
)
#: Quote sizes come in round lots of the tape (BROKERS.md 2.2).
ROUND_LOT = Decimal(100)


def check_terms(order: OrderRequest, broker: str) -> None:
    """Raise Unsupported for what Alpaca takes in no form (BROKERS.md 2.3); called before anything is sent."""
    whole = order.quantity == order.quantity.to_integral_value()
    tif, kind = order.time_in_force, order.order_type
    rules = (
        (whole or tif is TimeInForce.DAY, f"takes fractional quantities with time_in_force day only, was {tif} with"),
        (whole or kind is not OrderType.TRAILING_STOP, "takes no fractional trailing stops, was"),
        (
            not order.extended_hours or (kind is OrderType.LIMIT and tif is TimeInForce.DAY),
            f"trades extended hours with limit day orders only, was {kind} {tif},",
        ),
        (
            tif not in (TimeInForce.OPG, TimeInForce.CLS) or kind in (OrderType.MARKET, OrderType.LIMIT),
            f"takes {tif} for market and limit orders only, was {kind},",
        ),
        (
            kind is not OrderType.TRAILING_STOP or tif in (TimeInForce.DAY, TimeInForce.GTC),
            f"takes trailing stops as day or gtc only, was {tif},",
        ),
    )
    for holds, words in rules:
        if not holds:
            raise Unsupported(f"{broker} {words} {plain(order.quantity)}", broker=broker)


def order_body(order: OrderRequest, client_order_id: str) -> dict[str, Any]:
    """Return the order as Alpaca takes it: exact decimal strings, never floats."""
    body: dict[str, Any] = {
        "symbol": order.symbol,
        "qty": plain(order.quantity),
        "side": _SIDES[order.side],
        "type": order.order_type.value,
        "time_in_force": order.time_in_force.value,
        "client_order_id": client_order_id,
    }
    for theirs, ours in _PRICES:
        price = getattr(order, ours)
        if price is not None:
            body[theirs] = plain(price)
    if order.extended_hours:
        body["extended_hours"] = True
    return body


def _word(kind: Any, value: Any) -> Any:
    """Return the enum member of a word, None for a word corro has not."""
    return kind(value) if value in set(kind) else None


def order_report(raw: Raw) -> OrderReport:
    """Read one order.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no order.
    """
    filled = number(raw.get("filled_qty"))
    status = STATUSES.get(raw["status"], BrokerStatus.UNKNOWN)
    if status is _ACCEPTED and filled:
        status = BrokerStatus.PARTIALLY_FILLED
    return OrderReport(
        broker_order_id=str(raw["id"]),
        broker_client_order_id=raw.get("client_order_id"),
        status=status,
        raw_status=raw["status"],
        symbol=raw.get("symbol"),
        side=_word(Side, raw.get("side")),
        order_type=_word(OrderType, raw.get("type") or raw.get("order_type")),
        time_in_force=_word(TimeInForce, raw.get("time_in_force")),
        quantity=number(raw.get("qty")),
        limit_price=number(raw.get("limit_price")),
        stop_price=number(raw.get("stop_price")),
        filled_quantity=filled,
        avg_fill_price=positive(raw.get("filled_avg_price")),
        message=raw.get("reject_reason") or None,
        submitted_at=moment(raw.get("submitted_at") or raw.get("created_at")),
        updated_at=moment(raw.get("updated_at")),
    )


def same_terms(report: OrderReport, order: OrderRequest) -> bool:
    """Tell whether an order at Alpaca is the one we mean: same symbol, direction, size, type, prices and time."""
    return (
        report.symbol == order.symbol
        and report.side is not None
        and signed(report.side) == signed(order.side)
        and report.quantity == order.quantity
        and report.order_type == order.order_type
        and report.time_in_force == order.time_in_force
        and report.limit_price == order.limit_price
        and (order.order_type is OrderType.TRAILING_STOP or report.stop_price == order.stop_price)
    )


def stream_fill(event: Raw, order: OrderReport) -> FillReport:
    """Read the execution in a fill or partial_fill event of the stream."""
    at = moment(event.get("timestamp")) or order.updated_at
    if at is None:
        raise ValueError("a fill without a time")
    return FillReport(
        execution_id=str(event["execution_id"]),
        quantity=needed(event, "qty"),
        price=needed(event, "price"),
        filled_at=at,
        symbol=order.symbol,
        side=order.side,
        broker_client_order_id=order.broker_client_order_id,
        broker_order_id=order.broker_order_id,
        cumulative_quantity=order.filled_quantity,
    )


def activity_fill(raw: Raw) -> FillReport:
    """Read one FILL of the account's activities; its id differs from the stream's, its cum_qty does not."""
    at = moment(raw["transaction_time"])
    if at is None:
        raise ValueError("a fill without a time")
    return FillReport(
        execution_id=str(raw["id"]),
        quantity=needed(raw, "qty"),
        price=needed(raw, "price"),
        filled_at=at,
        symbol=raw.get("symbol"),
        side=_word(Side, raw.get("side")),
        broker_order_id=raw.get("order_id"),
        cumulative_quantity=number(raw.get("cum_qty")),
    )


def account_report(raw: Raw, *, paper: bool) -> AccountReport:
    """Read the account; the day trading fields are absent since 2026 (BROKERS.md 2.1)."""
    trades = raw.get("daytrade_count")
    return AccountReport(
        account_id=str(raw.get("account_number") or raw["id"]),
        currency=raw.get("currency") or "USD",
        buying_power=number(raw.get("buying_power")),
        cash=number(raw.get("cash")),
        equity=number(raw.get("equity")),
        portfolio_value=number(raw.get("portfolio_value") or raw.get("equity")),
        total_liquidity=number(raw.get("cash")),
        day_trade_count=int(trades) if trades is not None else None,
        paper=paper,
    )


def position_report(raw: Raw) -> PositionReport:
    """Read one holding; short ones are negative whichever way Alpaca writes them."""
    quantity = needed(raw, "qty")
    return PositionReport(
        symbol=raw["symbol"],
        quantity=-abs(quantity) if raw.get("side") == "short" else quantity,
        avg_price=number(raw.get("avg_entry_price")),
        market_value=number(raw.get("market_value")),
        unrealized_pnl=number(raw.get("unrealized_pl")),
    )


def _shares(lots: Any) -> Decimal | None:
    found = positive(lots)
    return found * ROUND_LOT if found is not None else None


def quote_report(symbol: str, snapshot: Raw) -> QuoteReport:
    """Read a snapshot: the latest quote and trade, and the volume of the day they belong to."""
    quote, trade, day = (snapshot.get(key) or {} for key in ("latestQuote", "latestTrade", "dailyBar"))
    at = moment(quote.get("t") or trade.get("t"))
    opened = moment(day.get("t"))
    is_today = at and opened and at.astimezone(NEW_YORK).date() == opened.astimezone(NEW_YORK).date()
    return QuoteReport(
        symbol=symbol,
        bid=positive(quote.get("bp")),
        ask=positive(quote.get("ap")),
        last=positive(trade.get("p")),
        bid_size=_shares(quote.get("bs")),
        ask_size=_shares(quote.get("as")),
        last_size=positive(trade.get("s")),
        volume=positive(day.get("v")) if is_today else None,
        at=at,
    )


def bars(rows: Iterable[Raw], start: datetime, end: datetime) -> list[Bar]:
    """Read candles with start <= bar.start < end."""
    found = []
    for row in rows:
        at = moment(row["t"])
        if at is not None and start <= at < end:
            open_, high, low, close, volume = (needed(row, key) for key in "ohlcv")
            found.append(Bar(start=at, open=open_, high=high, low=low, close=close, volume=volume))
    return sorted(found, key=lambda bar: bar.start)
