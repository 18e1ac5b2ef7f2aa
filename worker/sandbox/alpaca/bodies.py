"""Alpaca's trading bodies: what the market knows, in the exact keys and spellings of the real service.

Key sets and number formats follow recorded paper traffic of 2026-10-08 (docs/facts/alpaca.md#2.12): numbers are
strings, times have nine digits after the second. The data API is in :mod:`worker.sandbox.alpaca.data`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from worker.sandbox.market.listed import listed, multiplier
from worker.sandbox.market.market import Account, MarketOrder, Position, Trade

NEW_YORK = ZoneInfo("America/New_York")
NAMESPACE = uuid.UUID("6f9619ff-8b86-4d01-b42d-00c04fc964ff")
OPENING_BELL, CLOSING_BELL = time(9, 30), time(16, 0)
ARCA = frozenset({"SPY", "IWM", "DIA", "VTI", "VOO", "GLD", "SLV", "XLF", "XLK", "XLE", "EFA", "EEM", "AGG"})
NASDAQ = frozenset({"AAPL", "MSFT", "AMZN", "GOOGL", "GOOG", "META", "NVDA", "TSLA", "PEP", "COST", "NFLX", "ADBE"})
NASDAQ |= {"INTC", "AMD", "CSCO", "QQQ", "TLT", "IEF"}
#: Market side to what Alpaca calls the intent; on the wire the side itself is only buy or sell.
INTENTS = {
    "buy": "buy_to_open",
    "buy_to_cover": "buy_to_close",
    "sell": "sell_to_close",
    "sell_short": "sell_to_open",
}
#: What trades here, besides shares, and what Alpaca calls it.
CLASSES = {"option": "us_option", "crypto": "crypto"}
#: Market event kind to the time it sets in the order body.
CLOSING_TIMES = {"canceled": "canceled_at", "expired": "expired_at", "rejected": "failed_at", "replaced": "replaced_at"}

Json = dict[str, Any]


def plain(number: Decimal) -> str:
    """Return a number as Alpaca prints it: no exponent, no trailing zeros."""
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def plain_or_none(number: Decimal | None) -> str | None:
    """Return the number as text, None for None."""
    return None if number is None else plain(number)


def stamp(at: datetime, salt: int = 0) -> str:
    """Return a time with nine digits; the last three are made up from `salt` but always the same for it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}{nanoseconds(salt):03d}Z"


def nanoseconds(salt: int) -> int:
    """Return the invented last three digits of a time: 101 to 899, never ending in zero."""
    digits = 101 + salt * 37 % 798
    return digits + (digits % 10 == 0)


def stamp_or_none(at: datetime | None, salt: int = 0) -> str | None:
    """Return the time as text, None for None."""
    return None if at is None else stamp(at, salt)


def short_stamp(at: datetime) -> str:
    """Return a time without a fraction, as bars and session ends carry it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def order_id(order: MarketOrder) -> str:
    """Return the order's UUID; it never repeats, also not after the sandbox was started again."""
    return str(uuid.uuid5(NAMESPACE, f"{order.door}:{order.number}:{order.received_at.isoformat()}"))


def execution_uuid(execution: Trade) -> str:
    """Return the UUID of one fill, the same in the stream and in the activities."""
    return str(uuid.uuid5(NAMESPACE, f"{execution.execution_id}:{execution.at.isoformat()}"))


def amendment_uuid(execution: Trade) -> str:
    """Return the UUID of the event that put a fill right or took it back last."""
    return str(uuid.uuid5(NAMESPACE, f"{execution_uuid(execution)}:{execution.revision}"))


def asset_id(symbol: str) -> str:
    """Return the asset's UUID."""
    return str(uuid.uuid5(NAMESPACE, f"asset:{symbol}"))


def exchange(symbol: str) -> str:
    """Return the listing exchange in Alpaca's words."""
    return "ARCA" if symbol in ARCA else "NASDAQ" if symbol in NASDAQ else "NYSE"


def asset_class(symbol: str) -> str:
    """Return Alpaca's word for what a symbol is."""
    thing = listed(symbol)
    return CLASSES.get(thing.kind, "us_equity") if thing is not None else "us_equity"


def joined(symbol: str) -> str:
    """Return the name of a coin as positions and activities have it: BTCUSD."""
    return symbol.replace("/", "")


def is_fractionable(symbol: str) -> bool:
    """Whether parts of a share are sold: all but SIM900 to SIM999, which also cannot be sold short."""
    return not symbol.startswith("SIM9")


def status(order: MarketOrder) -> str:
    """Return Alpaca's word for where the order stands."""
    if not order.is_live:
        return order.state
    if order.extra.get("pending_cancel"):
        return "pending_cancel"
    if order.waits:
        return "held"
    if order.state == "new" and not order.extra.get("accepted"):
        return "pending_new"
    return order.state


def session_end(order: MarketOrder) -> datetime:
    """Return when the order dies by itself: the next closing bell, or 90 days later for gtc."""
    local = order.received_at.astimezone(NEW_YORK)
    end = datetime.combine(local.date(), CLOSING_BELL, NEW_YORK)
    if order.time_in_force == "gtc":
        return end + timedelta(days=90)
    while end <= local or end.weekday() > 4:
        end += timedelta(days=1)
    return end


def order_json(order: MarketOrder, legs: Sequence[MarketOrder] = ()) -> Json:
    """Return the order with exactly the keys of a recorded paper order, and the orders that belong to it as asked."""
    changed = order.updated_at or order.received_at
    filled_at = order.executions[-1].at if order.state == "filled" else None
    ends = {name: stamp(changed, order.number) for state, name in CLOSING_TIMES.items() if state == order.state}
    notional = order.extra.get("notional")
    return {
        "asset_class": asset_class(order.symbol),
        "asset_id": asset_id(order.symbol),
        "canceled_at": ends.get("canceled_at"),
        "client_order_id": order.client_order_id,
        "created_at": stamp(order.received_at, order.number),
        "expired_at": ends.get("expired_at"),
        "expires_at": short_stamp(session_end(order)),
        "extended_hours": order.extended_hours,
        "failed_at": ends.get("failed_at"),
        "filled_at": stamp_or_none(filled_at, order.number),
        "filled_avg_price": plain_or_none(order.avg_fill_price),
        "filled_qty": plain(order.filled_quantity),
        "hwm": plain_or_none(order.high_water),
        "id": order_id(order),
        "legs": [order_json(leg) for leg in legs] or None,
        "limit_price": plain_or_none(order.limit_price),
        "notional": notional,
        "order_class": order.extra.get("order_class", ""),
        "order_type": order.order_type,
        "position_intent": INTENTS[order.side],
        "qty": None if notional else plain(order.quantity),
        "replaced_at": ends.get("replaced_at"),
        "replaced_by": order.extra.get("replaced_by"),
        "replaces": order.extra.get("replaces"),
        "side": order.side.partition("_")[0],
        "source": None,
        "status": status(order),
        "stop_price": plain_or_none(order.stop_price),
        "submitted_at": stamp(order.received_at, order.number),
        "subtag": None,
        "symbol": order.symbol,
        "time_in_force": order.time_in_force,
        "trail_percent": plain_or_none(order.trail_percent),
        "trail_price": plain_or_none(order.trail_amount),
        "type": order.order_type,
        "updated_at": stamp(changed + timedelta(microseconds=865), order.number + 3),
    } | _of_package(order)


def _of_package(order: MarketOrder) -> Json:
    """Return what a package, and each of its legs, says otherwise: words of one are empty in the other."""
    if order.extra.get("package"):
        return dict.fromkeys(("symbol", "asset_class", "asset_id", "side", "position_intent"), "")
    if "leg" in order.extra:
        return {"type": "", "order_type": "", "ratio_qty": plain(Decimal(str(order.extra["ratio"])))}
    return {}


def activity_json(order: MarketOrder, index: int) -> Json:
    """Return one fill as the account's activities list it; one that was taken back as the bust (assumed)."""
    execution = order.executions[index]
    if execution.taken_back:
        return _bust(order, execution)
    leaves = order.quantity - execution.cumulative
    return {
        "activity_type": "FILL",
        "cum_qty": plain(execution.cumulative),
        "id": activity_id(execution.at, execution_uuid(execution)),
        "leaves_qty": plain(leaves),
        "order_id": order_id(order),
        "order_status": "partially_filled" if leaves else "filled",
        "price": plain(execution.price),
        "qty": plain(execution.quantity),
        "side": "sell_short" if order.side == "sell_short" else order.side.partition("_")[0],
        "symbol": joined(order.symbol),
        "transaction_time": f"{execution.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
        "type": "partial_fill" if leaves else "fill",
    }


def _bust(order: MarketOrder, execution: Trade) -> Json:
    """Return the activity by which Alpaca takes an execution back: the same price, the negative quantity, its id."""
    at = execution.listed_at
    return {
        "activity_type": "FILL",
        "cum_qty": plain(execution.cumulative),
        "id": activity_id(at, amendment_uuid(execution)),
        "order_id": order_id(order),
        "previous_execution_id": execution_uuid(execution),
        "price": plain(execution.price),
        "qty": plain(-execution.taken_back),
        "side": order.side.partition("_")[0],
        "symbol": joined(order.symbol),
        "transaction_time": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
        "type": "trade_bust",
    }


def activity_id(at: datetime, name: str) -> str:
    """Return the id of an activity: its time in New York, to the millisecond, and a name."""
    at = at.astimezone(NEW_YORK)
    return f"{at:%Y%m%d%H%M%S}{at.microsecond // 1000:03d}::{name}"


def position_json(symbol: str, position: Position, price: Decimal, held: Decimal) -> Json:
    """Return a position with exactly the keys of a recorded one; short positions have negative sizes.

    Args:
        symbol: the asset.
        position: what the account holds.
        price: last price of the asset.
        held: shares that open orders already claim.
    """
    quantity, entry = position.quantity, position.avg_price
    cost, value = quantity * entry * multiplier(symbol), quantity * price * multiplier(symbol)
    gain = value - cost
    share = gain / abs(cost) if cost else Decimal(0)
    available = quantity - held if quantity > 0 else quantity + held
    money, ratio = Decimal("0.000001"), Decimal("0.0000000000000001")
    return {
        "asset_class": asset_class(symbol),
        "asset_id": asset_id(symbol),
        "asset_marginable": True,
        "avg_entry_price": plain(entry.quantize(money)),
        "change_today": "0",
        "cost_basis": plain(cost.quantize(money)),
        "current_price": plain(price),
        "exchange": exchange(symbol),
        "lastday_price": plain(price),
        "market_value": plain(value.quantize(money)),
        "qty": plain(quantity),
        "qty_available": plain(available),
        "side": "long" if quantity >= 0 else "short",
        "symbol": joined(symbol),
        "unrealized_intraday_pl": plain(gain.quantize(money)),
        "unrealized_intraday_plpc": plain(share.quantize(ratio)),
        "unrealized_pl": plain(gain.quantize(money)),
        "unrealized_plpc": plain(share.quantize(ratio)),
    }


def account_json(account: Account, number: str, long_value: Decimal, short_value: Decimal) -> Json:
    """Return the account with exactly the keys of a recorded one.

    Args:
        account: cash, equity and buying power.
        number: account number.
        long_value: market value of long positions.
        short_value: market value of short positions, zero or negative.
    """
    power, equity, cash = (plain(n) for n in (account.buying_power, account.equity, account.cash))
    margin = plain(((long_value - short_value) * Decimal("0.5")).quantize(Decimal("0.01")))
    return {
        "account_blocked": False,
        "account_number": number,
        "accrued_fees": "0",
        "admin_configurations": {},
        "balance_asof": (datetime.now(NEW_YORK) - timedelta(days=1)).date().isoformat(),
        "buying_power": power,
        "cash": cash,
        "created_at": "2026-09-25T03:19:55.183221Z",
        "crypto_status": "ACTIVE",
        "crypto_tier": 1,
        "currency": "USD",
        "effective_buying_power": power,
        "equity": equity,
        "id": asset_id(f"account {number}"),
        "initial_margin": margin,
        "intraday_adjustments": "0",
        "last_equity": equity,
        "last_maintenance_margin": "0",
        "long_market_value": plain(long_value),
        "maintenance_margin": margin,
        "multiplier": "4" if account.buying_power > account.equity else "1",
        "non_marginable_buying_power": cash,
        "options_approved_level": 3,
        "options_buying_power": cash,
        "options_trading_level": 3,
        "pending_reg_taf_fees": "0",
        "portfolio_value": equity,
        "position_market_value": plain(long_value + short_value),
        "regt_buying_power": power,
        "short_market_value": plain(short_value),
        "shorting_enabled": True,
        "sma": equity,
        "status": "ACTIVE",
        "trade_suspended_by_user": False,
        "trading_blocked": False,
        "transfers_blocked": False,
        "user_configurations": None,
    }


def asset_json(symbol: str) -> Json:
    """Return an asset with exactly the keys of a recorded one."""
    whole_only = not is_fractionable(symbol)
    return {
        "attributes": ["has_options", "overnight_tradable"] if whole_only else ["fractional_eh_enabled", "has_options"],
        "borrow_status": "hard_to_borrow" if whole_only else "easy_to_borrow",
        "class": asset_class(symbol),
        "easy_to_borrow": not whole_only,
        "exchange": exchange(symbol),
        "fractionable": not whole_only,
        "id": asset_id(symbol),
        "maintenance_margin_requirement": 30,
        "margin_requirement_long": "30",
        "margin_requirement_short": "30",
        "marginable": True,
        "name": f"{symbol} Common Stock",
        "shortable": not whole_only,
        "status": "active",
        "symbol": symbol,
        "tradable": True,
    }


def clock_json(now: datetime, *, is_open: bool) -> Json:
    """Return the clock. The simulated market closes by a fault alone; the bells are those of weekdays in New York."""
    local = now.astimezone(NEW_YORK)
    return {
        "timestamp": local.isoformat(timespec="microseconds"),
        "is_open": is_open,
        "next_open": _next_bell(local, OPENING_BELL).isoformat(),
        "next_close": _next_bell(local, CLOSING_BELL).isoformat(),
    }


def _next_bell(local: datetime, bell: time) -> datetime:
    at = datetime.combine(local.date(), bell, NEW_YORK)
    while at <= local or at.weekday() > 4:
        at = datetime.combine(at.date() + timedelta(days=1), bell, NEW_YORK)
    return at


def calendar_json(first: date, last: date) -> list[Json]:
    """Return the sessions from first to last, both included: weekdays, without holidays."""
    days = (first + timedelta(days=n) for n in range(max((last - first).days + 1, 0)))
    return [
        {
            "date": day.isoformat(),
            "open": "09:30",
            "close": "16:00",
            "session_open": "0400",
            "session_close": "2000",
            "settlement_date": (day + timedelta(days=3 if day.weekday() == 4 else 1)).isoformat(),
        }
        for day in days
        if day.weekday() < 5
    ]
