"""TDA's and Schwab's JSON in corro's words, and when two orders are the same; nothing here talks to anyone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from models.reports import AccountReport, Bar, BrokerStatus, FillReport, OrderReport, PositionReport, QuoteReport
from models.vocabulary import OrderType, Side, TimeInForce
from worker.brokers.values import UNREADABLE, Raw, epoch_ms, moment, needed, number, positive

_ACCEPTED, _CANCELING = BrokerStatus.ACCEPTED, BrokerStatus.PENDING_CANCEL
#: BROKERS.md 4.1; there is no word for a partial fill.
STATUSES: dict[str, BrokerStatus] = {
    "NEW": _ACCEPTED,
    "ACCEPTED": _ACCEPTED,
    "QUEUED": _ACCEPTED,
    "WORKING": _ACCEPTED,
    "PENDING_ACKNOWLEDGEMENT": _ACCEPTED,
    "PENDING_ACTIVATION": _ACCEPTED,
    "PENDING_REPLACE": _ACCEPTED,
    "AWAITING_PARENT_ORDER": _ACCEPTED,
    "AWAITING_CONDITION": _ACCEPTED,
    "AWAITING_STOP_CONDITION": _ACCEPTED,
    "AWAITING_MANUAL_REVIEW": _ACCEPTED,
    "AWAITING_RELEASE_TIME": _ACCEPTED,
    "AWAITING_UR_OUT": _CANCELING,
    "PENDING_CANCEL": _CANCELING,
    "PENDING_RECALL": _CANCELING,
    "FILLED": BrokerStatus.FILLED,
    "CANCELED": BrokerStatus.CANCELED,
    "EXPIRED": BrokerStatus.EXPIRED,
    "REJECTED": BrokerStatus.REJECTED,
    "REPLACED": BrokerStatus.REPLACED,
    "UNKNOWN": BrokerStatus.UNKNOWN,
}
_TYPES = {kind.value.upper(): kind for kind in OrderType}
_ON_CLOSE = {"MARKET_ON_CLOSE": OrderType.MARKET, "LIMIT_ON_CLOSE": OrderType.LIMIT}
_DURATIONS = {
    "DAY": TimeInForce.DAY,
    "GOOD_TILL_CANCEL": TimeInForce.GTC,
    "FILL_OR_KILL": TimeInForce.FOK,
    "IMMEDIATE_OR_CANCEL": TimeInForce.IOC,
}
_SIDES = {side.value.upper(): side for side in Side}
#: The prices that tell orders of a type apart; others the broker fills in by itself.
_PRICES = {
    "LIMIT": ("price",),
    "LIMIT_ON_CLOSE": ("price",),
    "STOP": ("stopPrice",),
    "STOP_LIMIT": ("price", "stopPrice"),
    "TRAILING_STOP": ("stopPriceOffset",),
}
_SHARE_CLASS = re.compile(r"^([A-Z]{1,5})/([A-Z]{1,2})$")
_ORDER_PATH = re.compile(r"/accounts/([^/]+)/orders/(\d+)/?$")

Terms = tuple[Any, ...]
#: Where the quantity is in them.
_SIZE = 2


def from_wire(symbol: str) -> str:
    """Return corro's spelling: share classes with a dot; Schwab writes them BRK/B (`tda_dialects.Dialect.symbol`)."""
    return _SHARE_CLASS.sub(r"\1.\2", symbol)


def terms(raw: Raw) -> Terms:
    """Return what tells an order from another: the same for the body sent and the order listed (BROKERS.md 3.6)."""
    (leg,) = raw["orderLegCollection"]
    kind = raw["orderType"]
    return (
        leg["instrument"]["symbol"],
        leg["instruction"],
        number(leg["quantity"]),
        kind,
        raw["duration"],
        raw["session"],
        *(number(raw.get(name)) for name in _PRICES.get(kind, ())),
        raw.get("stopPriceLinkType") if kind == "TRAILING_STOP" else None,
    )


def is_same(raw: Raw, wanted: Terms) -> bool:
    """Tell whether a listed order has these terms; one of another shape has not."""
    try:
        return terms(raw) == wanted
    except UNREADABLE:
        return False


def fits(raw: Raw, wanted: Terms) -> bool:
    """Tell whether a listed order has these terms, or is for fewer shares: a replacement trades what was left."""
    try:
        found = terms(raw)
        return found[:_SIZE] + found[_SIZE + 1 :] == wanted[:_SIZE] + wanted[_SIZE + 1 :] and missing(raw, wanted) >= 0
    except UNREADABLE:
        return False


def missing(raw: Raw, wanted: Terms) -> Decimal:
    """Return how many shares fewer an order is for."""
    return Decimal(wanted[_SIZE]) - Decimal(terms(raw)[_SIZE])


def size(raw: Raw) -> Decimal | None:
    """Return what an order trades in all."""
    return number(raw.get("quantity"))


def filled(raw: Raw) -> Decimal:
    """Return what of an order is filled."""
    return number(raw.get("filledQuantity")) or Decimal(0)


def is_replaced(raw: Raw) -> bool:
    """Tell whether an order may have been replaced; some call it canceled (BROKERS.md 3.1)."""
    return raw.get("status") in ("REPLACED", "CANCELED")


def is_kin(raw: Raw, other: Raw) -> bool:
    """Tell whether two orders trade the same symbol in the same direction."""
    try:
        return terms(raw)[:_SIZE] == terms(other)[:_SIZE]
    except UNREADABLE:
        return False


def closed(raw: Raw) -> datetime | None:
    """Return when an order ended, to the second."""
    return moment(raw.get("closeTime"))


def located(location: str | None, account: str) -> str | None:
    """Return the order id that a Location header names; None if there is none or it is in another account."""
    found = _ORDER_PATH.search(location or "")
    return found.group(2) if found and found.group(1) == account else None


def entered(raw: Raw) -> datetime | None:
    """Return when an order was entered, to the second."""
    return moment(raw.get("enteredTime"))


def order_report(raw: Raw) -> OrderReport:
    """Read one order with the executions it carries.

    Raises:
        ValueError, KeyError, TypeError: it is no order.
    """
    leg = raw["orderLegCollection"][0]
    done, kind = number(raw.get("filledQuantity")), raw.get("orderType")
    status = STATUSES.get(raw["status"], BrokerStatus.UNKNOWN)
    if status is _ACCEPTED and done:
        status = BrokerStatus.PARTIALLY_FILLED
    executions = fills(raw)
    return OrderReport(
        broker_order_id=str(raw["orderId"]),
        status=status,
        raw_status=raw["status"],
        symbol=from_wire(leg["instrument"]["symbol"]),
        side=_SIDES.get(leg["instruction"]),
        order_type=_TYPES.get(str(kind)) or _ON_CLOSE.get(str(kind)),
        time_in_force=TimeInForce.CLS if kind in _ON_CLOSE else _DURATIONS.get(str(raw.get("duration"))),
        quantity=number(raw.get("quantity")),
        limit_price=positive(raw.get("price")) if kind != "MARKET" else None,
        stop_price=positive(raw.get("stopPrice")),
        filled_quantity=done,
        avg_fill_price=_average(executions),
        fills=executions,
        message=raw.get("statusDescription"),
        submitted_at=entered(raw),
        updated_at=moment(raw.get("closeTime")) or (executions[-1].filled_at if executions else None),
    )


def fills(raw: Raw) -> tuple[FillReport, ...]:
    """Read the executions of an order, oldest first.

    Several legs of one activity share its id and often their legId, so their place in it completes the execution_id.
    """
    leg = raw["orderLegCollection"][0]
    found: list[tuple[datetime, str, Decimal, Decimal]] = []
    for at, activity in enumerate(raw.get("orderActivityCollection") or ()):
        if activity.get("activityType") != "EXECUTION" or activity.get("executionType", "FILL") != "FILL":
            continue
        for place, part in enumerate(activity.get("executionLegs") or ()):
            when = moment(part.get("time")) or moment(raw.get("closeTime")) or entered(raw)
            if when is None:
                raise ValueError("an execution without a time")
            execution_id = f"{raw['orderId']}:{activity.get('activityId', at)}:{place}"
            found.append((when, execution_id, needed(part, "quantity"), needed(part, "price")))
    reports, total = [], Decimal(0)
    for when, execution_id, quantity, price in sorted(found, key=lambda one: one[0]):
        total += quantity
        reports.append(
            FillReport(
                execution_id=execution_id,
                quantity=quantity,
                price=price,
                filled_at=when,
                symbol=from_wire(leg["instrument"]["symbol"]),
                side=_SIDES.get(leg["instruction"]),
                broker_order_id=str(raw["orderId"]),
                cumulative_quantity=total,
            )
        )
    return tuple(reports)


def _average(executions: Iterable[FillReport]) -> Decimal | None:
    executions = tuple(executions)
    parts = [(fill.quantity, fill.price) for fill in executions if fill.price is not None]
    if len(parts) < len(executions):
        return None  # the mean of a part would be a guess about the whole
    total = sum((quantity for quantity, _ in parts), Decimal(0))
    if not total:
        return None
    average = sum((quantity * price for quantity, price in parts), Decimal(0)) / total
    return average.quantize(Decimal("0.000001")).normalize() if len(parts) > 1 else parts[0][1]


def account_report(raw: Raw, account_key: str) -> AccountReport:
    """Read the money of an account; a cash account has cashAvailableForTrading instead of buyingPower."""
    account = raw["securitiesAccount"]
    now = account.get("currentBalances") or {}
    cash = number(now.get("cashBalance", now.get("totalCash")))
    return AccountReport(
        account_id=str(account[account_key]),
        buying_power=number(now.get("buyingPower", now.get("cashAvailableForTrading"))),
        cash=cash,
        equity=number(now.get("equity", now.get("liquidationValue"))),
        portfolio_value=number(now.get("liquidationValue")),
        total_liquidity=cash,
        day_trade_count=account.get("roundTrips"),
    )


def position_reports(raw: Raw, account_key: str) -> list[PositionReport]:
    """Read the holdings of an account; the key is absent when there are none."""
    account = raw["securitiesAccount"]
    return [_position(row, str(account[account_key])) for row in account.get("positions") or ()]


def _position(row: Raw, account_id: str) -> PositionReport:
    gains = [number(row.get(key)) for key in ("longOpenProfitLoss", "shortOpenProfitLoss")]
    known = [gain for gain in gains if gain is not None]
    sizes = [number(row.get(key)) for key in ("longQuantity", "shortQuantity")]
    if sizes == [None, None]:
        raise ValueError("a position without its size")
    return PositionReport(
        symbol=from_wire(row["instrument"]["symbol"]),
        quantity=(sizes[0] or Decimal(0)) - (sizes[1] or Decimal(0)),
        avg_price=number(row.get("averagePrice")),
        market_value=number(row.get("marketValue")),
        unrealized_pnl=sum(known, Decimal(0)) if known else None,
        account_id=account_id,
    )


def quote_report(symbol: str, raw: Raw) -> QuoteReport:
    """Read a quote: flat at TDA, nested at Schwab, otherwise the same."""
    inner = raw.get("quote") or raw
    return QuoteReport(
        symbol=symbol,
        bid=positive(inner.get("bidPrice")),
        ask=positive(inner.get("askPrice")),
        last=positive(inner.get("lastPrice")),
        bid_size=positive(inner.get("bidSize")),
        ask_size=positive(inner.get("askSize")),
        last_size=positive(inner.get("lastSize")),
        volume=number(inner.get("totalVolume")),
        at=epoch_ms(inner.get("quoteTime") or inner.get("quoteTimeInLong")),
        delayed=bool(raw.get("delayed")) or raw.get("realtime") is False,
    )


def bars(rows: Iterable[Raw], start: datetime, end: datetime) -> list[Bar]:
    """Read candles with start <= bar.start < end, each start once."""
    found: dict[datetime, Bar] = {}
    for row in rows:
        at = epoch_ms(row["datetime"])
        if at is not None and start <= at < end:
            open_, high, low, close, volume = (needed(row, key) for key in ("open", "high", "low", "close", "volume"))
            found[at] = Bar(start=at, open=open_, high=high, low=low, close=close, volume=volume)
    return [found[at] for at in sorted(found)]
