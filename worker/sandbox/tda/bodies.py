"""TDA's and Schwab's bodies for orders, positions and accounts: numbers are JSON numbers, times end in `+0000`.

Quotes and candles are in :mod:`worker.sandbox.tda.data`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from worker.sandbox.market.listed import listed, multiplier
from worker.sandbox.market.market import Account, MarketOrder, Position, Trade
from worker.sandbox.tda.dialect import FUNDS, OPTION_INSTRUCTIONS, DoorDialect, Json, correlation

#: Market state to wire status, for orders that ended.
ENDED = {
    "filled": "FILLED",
    "canceled": "CANCELED",
    "rejected": "REJECTED",
    "expired": "EXPIRED",
    "replaced": "REPLACED",
}
OPENING = frozenset({"buy", "sell_short"})
_OPTION_WORDS = {side: word for word, side in OPTION_INSTRUCTIONS.items()}


def stamp(at: datetime) -> str:
    """Return a time with whole seconds, as orders carry it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}+0000"


def number_of(order: MarketOrder) -> int:
    """Return the order's id: 13 digits, given by the door when it took the order."""
    return int(str(order.extra["order_id"]))


def instrument_id(symbol: str) -> int:
    """Return the number Schwab knows an instrument by."""
    return int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:4], "big")


def instrument_json(symbol: str, dialect: DoorDialect) -> Json:
    """Return the instrument of a leg or a position."""
    fund = dialect.fund_type if symbol in FUNDS else "EQUITY"
    body: Json = {
        "assetType": fund if listed(symbol) is None else "OPTION",
        "cusip": f"{instrument_id(symbol) % 10**9:09d}",
        "symbol": dialect.theirs(symbol),
    }
    if dialect.name == "schwab":
        body["description"] = f"{symbol} COMMON STOCK"
        body["instrumentId"] = instrument_id(symbol)
    return body


def status(order: MarketOrder, dialect: DoorDialect) -> str:
    """Return the wire's word for where the order stands; there is none for a partial fill."""
    if not order.is_live:
        return ENDED[order.state]
    if order.extra.get("pending_cancel"):
        return "PENDING_CANCEL"
    if not order.extra.get("accepted"):
        return dialect.received
    if order.waits:
        return "AWAITING_PARENT_ORDER"
    if order.order_type in ("stop", "stop_limit", "trailing_stop") and not order.triggered:
        return dialect.waiting
    return "WORKING"


def order_json(order: MarketOrder, dialect: DoorDialect) -> Json:
    """Return an order as the real service lists it; keys without a value are left out."""
    wire = order.extra.get("wire")
    assert isinstance(wire, dict)
    live = order.is_live
    body: Json = {
        "complexOrderStrategyType": "NONE",
        **wire,
        "quantity": float(order.quantity),
        "filledQuantity": float(order.filled_quantity),
        "remainingQuantity": float(order.remaining_quantity) if live else 0.0,
        "requestedDestination": "AUTO",
        "destinationLinkName": "AutoRoute",
        "orderLegCollection": [_leg_json(leg, dialect, n) for n, leg in enumerate(order.legs or [order], 1)],
        "orderStrategyType": "SINGLE",
        "orderId": number_of(order),
        "cancelable": live,
        "editable": live,
        "status": status(order, dialect),
        "enteredTime": stamp(order.received_at),
        **({"tag": tag} if (tag := order.extra.get("tag", dialect.tag)) else {}),
        dialect.account_key: int(order.account),
    }
    if order.stop_price is not None:
        body["stopPrice"] = float(order.stop_price)
    if order.closed_at is not None:
        body["closeTime"] = stamp(order.closed_at)
    if order.reason:
        body["statusDescription"] = order.reason
    if order.executions:
        body["orderActivityCollection"] = [_activity_json(order, n, dialect) for n in range(len(order.executions))]
    return body


def _leg_json(order: MarketOrder, dialect: DoorDialect, number: int) -> Json:
    """Return a leg of an order: what it trades itself, or one of its several."""
    return {
        "orderLegType": "EQUITY" if listed(order.symbol) is None else "OPTION",
        "legId": number,
        "instrument": instrument_json(order.symbol, dialect),
        "instruction": order.side.upper() if listed(order.symbol) is None else _OPTION_WORDS[order.side],
        "positionEffect": "OPENING" if order.side in OPENING else "CLOSING",
        "quantity": float(order.quantity),
    }


def _activity_json(order: MarketOrder, index: int, dialect: DoorDialect) -> Json:
    """Return one execution as an activity of its order; numbers are JSON numbers at both brokers."""
    execution: Trade = order.executions[index]
    parts = enumerate(order.legs or [order], 1)
    return {
        "activityType": "EXECUTION",
        "activityId": number_of(order) * 100 + index + 1,
        "executionType": "FILL",
        "quantity": float(execution.quantity),
        "orderRemainingQuantity": float(order.quantity - execution.cumulative),
        "executionLegs": [_execution_json(leg, leg.executions[index], number, dialect) for number, leg in parts],
    }


def _execution_json(leg: MarketOrder, execution: Trade, number: int, dialect: DoorDialect) -> Json:
    """Return what one leg traded in an execution."""
    body: Json = {
        "legId": number,
        "quantity": float(execution.quantity),
        "mismarkedQuantity": 0.0,
        "price": float(execution.price),
        "time": stamp(execution.at),
    }
    return body | ({"instrumentId": instrument_id(leg.symbol)} if dialect.name == "schwab" else {})


def position_json(symbol: str, position: Position, price: Decimal, dialect: DoorDialect) -> Json:
    """Return a position; what is short counts in `shortQuantity`, never as a negative number."""
    quantity, entry = position.quantity, float(position.avg_price)
    long, short = float(max(quantity, Decimal(0))), float(max(-quantity, Decimal(0)))
    word, size = "Long" if quantity >= 0 else "Short", multiplier(symbol)
    body: Json = {
        "shortQuantity": short,
        "averagePrice": entry,
        "currentDayProfitLoss": 0.0,
        "currentDayProfitLossPercentage": 0.0,
        "longQuantity": long,
        "settledLongQuantity": long,
        "settledShortQuantity": short,
        "instrument": instrument_json(symbol, dialect),
        "marketValue": float(quantity * price * size),
    }
    if dialect.name == "schwab":
        gain = round(float((price - position.avg_price) * quantity * size), 2)
        body["maintenanceRequirement"] = round(abs(float(quantity * price * size)) * 0.3, 2)
        body[f"average{word}Price"] = body[f"taxLotAverage{word}Price"] = entry
        body[f"{word.lower()}OpenProfitLoss"] = gain
        body[f"previousSession{word}Quantity"] = long or short
        body["currentDayCost"] = 0.0
    return body


def account_json(
    account: Account, dialect: DoorDialect, number: str, prices: dict[str, Decimal], fields: set[str]
) -> Json:
    """Return one account; `positions` is absent when not asked for and when there are none.

    Args:
        account: the account as it stands.
        dialect: whose words.
        number: account number.
        prices: last price of every symbol held.
        fields: what the client asked for besides balances.
    """
    inner: Json = {
        "type": "MARGIN",
        dialect.account_key: number,
        "roundTrips": 0,
        "isDayTrader": False,
        "isClosingOnlyRestricted": False,
    }
    if dialect.name == "schwab":
        inner["pfcbFlag"] = False
    if "positions" in fields and account.positions:
        held = sorted(account.positions.items())
        inner["positions"] = [position_json(symbol, p, prices[symbol], dialect) for symbol, p in held]
    values = [p.quantity * prices[symbol] * multiplier(symbol) for symbol, p in account.positions.items()]
    inner |= _balances(account, [float(v) for v in values], dialect.name == "schwab")
    body: Json = {"securitiesAccount": inner}
    if dialect.name == "schwab":
        worth = float(account.equity)
        body["aggregatedBalance"] = {"currentLiquidationValue": worth, "liquidationValue": worth}
    return body


def _balances(account: Account, values: list[float], schwab: bool) -> Json:
    """Return an account's balances; Schwab names fewer of them."""
    cash, equity, power = float(account.cash), float(account.equity), float(account.buying_power)
    long, short = sum(v for v in values if v > 0), sum(v for v in values if v < 0)
    common: Json = {
        "accruedInterest": 0.0,
        "cashBalance": cash,
        "cashReceipts": 0.0,
        "longOptionMarketValue": 0.0,
        "liquidationValue": equity,
        "longMarketValue": long,
        "moneyMarketFund": 0.0,
        "shortMarketValue": short,
    }
    funds: Json = {
        "availableFunds": equity,
        "availableFundsNonMarginableTrade": cash,
        "buyingPower": power,
        "buyingPowerNonMarginableTrade": cash,
        "dayTradingBuyingPower": power,
        "equity": equity,
        "equityPercentage": 100.0,
        "longMarginValue": long,
        "maintenanceCall": 0.0,
        "maintenanceRequirement": round(0.3 * (long - short), 2),
        "regTCall": 0.0,
        "shortBalance": -short,
        "shortMarginValue": short,
        "sma": equity,
    }
    first = {
        "accountValue": equity,
        "isInCall": 0.0 if schwab else False,
        "longStockValue": long,
        "shortStockValue": short,
    }
    first |= {"totalCash": cash, "marginBalance": 0.0, "buyingPower": power, "equity": equity, "cashBalance": cash}
    return {
        "initialBalances": first,
        "currentBalances": {**common, **funds},
        "projectedBalances": {**funds, "isInCall": 0.0 if schwab else False, "stockBuyingPower": power},
    }


def preferences_json(accounts: Sequence[str]) -> Json:
    """Return the preferences: the accounts of the login, and where the streamer would be."""
    shown = [
        {"accountNumber": one, "primaryAccount": one == accounts[0], "type": "BROKERAGE", "nickName": "Sandbox",
         "accountColor": "Green", "displayAcctId": f"...{one[-3:]}", "autoPositionEffect": True}
        for one in accounts
    ]  # fmt: skip
    streamer = {"streamerSocketUrl": "", "schwabClientCustomerId": "sandbox", "schwabClientChannel": "N9"}
    streamer |= {
        "schwabClientCorrelId": correlation()["Schwab-Client-CorrelId"],
        "schwabClientFunctionId": "APIAPP",
    }
    offer = {"level2Permissions": False, "mktDataPermission": "NP"}
    return {"accounts": shown, "streamerInfo": [streamer], "offers": [offer]}
