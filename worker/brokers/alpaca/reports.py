"""Alpaca's JSON in corro's words; nothing here talks to anyone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from models.errors import Unsupported
from models.messages import OrderRequest, plain
from models.reports import DONE, AccountReport, Bar, BrokerStatus, OrderReport, PositionReport, QuoteReport
from models.timeframes import NEW_YORK
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.values import UNREADABLE, Raw, count, identity, moment, needed, number, positive, size, soft

_ACCEPTED = BrokerStatus.ACCEPTED
#: docs/facts/alpaca.md#2.9; done_for_day and calculated are no end: a GTC order lives on, a day order expires next.
STATUSES: dict[str, BrokerStatus] = {
    "pending_new": _ACCEPTED,
    "accepted": _ACCEPTED,
    "accepted_for_bidding": _ACCEPTED,
    "pending_review": _ACCEPTED,
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
#: What the record takes as a symbol and as a currency.
_SYMBOL, _CURRENCY = re.compile(r"[!-~]{1,64}"), re.compile(r"[A-Z]{3}")
#: Fields of an order, and what they are in every order that corro sends.
_NEVER_OURS: dict[str, tuple[Any, ...]] = {
    "asset_class": (None, "", "us_equity"),
    "notional": (None, ""),
    "order_class": (None, "", "simple"),
    "legs": (None, []),
}


def check_terms(order: OrderRequest, broker: str) -> None:
    """Raise Unsupported for what Alpaca takes in no form; called before anything is sent.

    Source: docs/facts/alpaca.md#2.3, #2.7.
    """
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
    return kind(value) if isinstance(value, str) and value in set(kind) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _id(raw: Raw, key: str, longest: int = 64) -> str:
    """Return an id that must be there, no longer than the record keeps ids."""
    found = identity(raw[key])
    if found is None or len(found) > longest:
        raise ValueError(f"{key} is no id, was {str(raw[key])[:80]!r}")
    return found


def order_report(raw: Raw) -> OrderReport:
    """Read one order; an end that does not say how much was filled before it is no end yet: it is read again.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no order.
    """
    filled, word = size(raw.get("filled_qty")), raw["status"]
    status = STATUSES.get(word, BrokerStatus.UNKNOWN)
    if status is _ACCEPTED and filled:
        status = BrokerStatus.PARTIALLY_FILLED
    if (status in DONE and filled is None) or (status is BrokerStatus.FILLED and not filled):
        status = BrokerStatus.UNKNOWN
    return OrderReport(
        broker_order_id=_id(raw, "id"),
        broker_client_order_id=identity(raw.get("client_order_id")),
        status=status,
        raw_status=str(word),
        symbol=symbol_of(raw),
        side=_word(Side, raw.get("side")),
        order_type=_word(OrderType, raw.get("type") or raw.get("order_type")),
        time_in_force=_word(TimeInForce, raw.get("time_in_force")),
        quantity=positive(raw.get("qty")),
        limit_price=positive(raw.get("limit_price")),
        stop_price=positive(raw.get("stop_price")),
        trail_amount=positive(raw.get("trail_price")),
        trail_percent=positive(raw.get("trail_percent")),
        extended_hours=raw["extended_hours"] if isinstance(raw.get("extended_hours"), bool) else None,
        replaces=identity(raw.get("replaces")),
        replaced_by=identity(raw.get("replaced_by")),
        unlike_ours=unlike_ours(raw),
        filled_quantity=filled,
        avg_fill_price=positive(raw.get("filled_avg_price")),
        # Of an order that lives, a reason is one of the past.
        message=_text(raw.get("reject_reason")) if status in DONE else None,
        submitted_at=moment(raw.get("submitted_at") or raw.get("created_at")),
        updated_at=moment(raw.get("updated_at")),
    )


def unlike_ours(raw: Raw) -> tuple[str, ...]:
    """Return what an order has that no order of corro's has: whatever id it carries, it is not ours."""
    terms = {"type": OrderType, "side": Side, "time_in_force": TimeInForce}
    strange = [key for key, usual in _NEVER_OURS.items() if raw.get(key) not in usual]
    strange += [key for key, known in terms.items() if raw.get(key) and _word(known, raw[key]) is None]
    strange += ["qty"] if positive(raw.get("qty")) is None else []
    return tuple(f"{key} {str(raw.get(key))[:60]}" for key in strange)


def symbol_of(raw: Raw) -> str | None:
    """Return a symbol, qualified where a plain ticker would mean something else: `CRYPTO:BTCUSD`; None if it is absent.

    Raises:
        ValueError: it is no name that the record takes.
    """
    symbol, kind = raw.get("symbol"), raw.get("asset_class")
    if symbol in (None, ""):
        return None
    if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"symbol is {str(symbol)[:100]!r}")
    if kind in (None, "", "us_equity", "us_option") or "/" in symbol:
        return symbol
    return f"{str(kind).upper()}:{symbol}"[:64]


def ids_of(raw: Any) -> OrderReport:
    """Read of an order that cannot be read which one it is: its state is unknown, and it is nobody else's affair.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: not even that can be read, so it may be any order.
    """
    ours = soft(lambda row: _id(row, "client_order_id", 128), raw)
    theirs = soft(lambda row: _id(row, "id"), raw)
    if ours is None and theirs is None:
        raise ValueError("an order without an id")
    return OrderReport(
        broker_order_id=theirs,
        broker_client_order_id=ours,
        status=BrokerStatus.UNKNOWN,
        raw_status="unreadable",
    )


def account_report(raw: Raw, *, paper: bool) -> AccountReport:
    """Read the account; the day trading fields are absent since 2026 (docs/facts/alpaca.md#1.6).

    An amount that cannot be read is None.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is no account, or its currency cannot be read.
    """
    currency = raw.get("currency") or "USD"
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise ValueError(f"currency is {str(currency)[:60]!r}")
    equity, worth = soft(number, raw.get("equity")), soft(number, raw.get("portfolio_value"))
    cash = soft(number, raw.get("cash"))
    return AccountReport(
        account_id=soft(lambda row: _id(row, "account_number"), raw) or _id(raw, "id"),
        currency=currency,
        buying_power=soft(number, raw.get("buying_power")),
        cash=cash,
        equity=equity,
        portfolio_value=equity if worth is None else worth,
        total_liquidity=cash,
        day_trade_count=soft(count, raw.get("daytrade_count")),
        paper=paper,
    )


def position_report(raw: Raw) -> PositionReport:
    """Read one holding; its quantity is None where its size or its direction cannot be read, never 0.

    Short ones are negative whichever way Alpaca writes them.

    Raises:
        ValueError, AttributeError: it names nothing.
    """
    symbol = symbol_of(raw)
    if symbol is None:
        raise ValueError(f"a position without a symbol: {raw.get('symbol')!r}")
    return PositionReport(
        symbol=symbol,
        quantity=_held(raw),
        avg_price=soft(positive, raw.get("avg_entry_price")),
        market_value=soft(number, raw.get("market_value")),
        unrealized_pnl=soft(number, raw.get("unrealized_pl")),
        currency="USD",
    )


def _held(raw: Raw) -> Decimal | None:
    quantity, side = soft(number, raw.get("qty")), raw.get("side")
    if quantity is None or (side == "long" and quantity < 0):
        return None
    if quantity > 0 and side not in ("long", "short"):
        return None
    return -abs(quantity) if side == "short" else quantity


def quote_report(symbol: str, snapshot: Raw) -> QuoteReport:
    """Read a snapshot: the latest quote and trade, and the volume of the day they belong to.

    Sizes of quotes are the feed's own numbers. They were round lots of 100 shares (Alpaca's staff in
    forum.alpaca.markets/t/16000); since round lots have been 100, 40, 10 or 1 shares by price, and the tapes publish
    shares (SEC release 34-101070, in force since 2025-11-03), no factor holds for every feed and day.
    """
    quote, trade, day = (_part(snapshot, key) for key in ("latestQuote", "latestTrade", "dailyBar"))
    at = soft(moment, quote.get("t")) or soft(moment, trade.get("t"))
    opened = soft(moment, day.get("t"))
    is_today = at and opened and at.astimezone(NEW_YORK).date() == opened.astimezone(NEW_YORK).date()
    return QuoteReport(
        symbol=symbol,
        bid=soft(positive, quote.get("bp")),
        ask=soft(positive, quote.get("ap")),
        last=soft(positive, trade.get("p")),
        bid_size=soft(positive, quote.get("bs")),
        ask_size=soft(positive, quote.get("as")),
        last_size=soft(positive, trade.get("s")),
        size_unit="unspecified",
        volume=soft(positive, day.get("v")) if is_today else None,
        at=at,
    )


def _part(raw: Raw, key: str) -> Raw:
    found = raw.get(key)
    return found if isinstance(found, dict) else {}


def bars(rows: Iterable[Any], start: datetime, end: datetime) -> tuple[list[Bar], list[Any]]:
    """Read candles with start <= bar.start < end, and return those that cannot be read beside them.

    A candle without its prices, or its time, says nothing; nothing is made up for it.
    """
    found, unreadable = [], []
    for row in rows:
        try:
            at = moment(row["t"])
            if at is None:
                raise ValueError("a bar without a time")
            open_, high, low, close = (needed(row, key, positive) for key in "ohlc")
            bar = Bar(start=at, open=open_, high=high, low=low, close=close, volume=needed(row, "v", size))
        except UNREADABLE:
            unreadable.append(row)
            continue
        if start <= at < end:
            found.append(bar)
    return sorted(found, key=lambda bar: bar.start), unreadable
