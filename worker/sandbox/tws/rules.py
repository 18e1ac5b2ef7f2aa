"""What TWS complains about before it takes an order: pure checks, each with the code and the words it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal

from worker.sandbox.market.market import Market, OrderTerms
from worker.sandbox.tws.market_rules import step_at
from worker.sandbox.tws.messages import ACCOUNT
from worker.sandbox.tws.packages import complaint_about_legs, market_legs
from worker.sandbox.tws.wire import PlaceOrder

#: IB order type → ours; MOC and LOC are market and limit orders for the close.
ORDER_TYPES = {
    "MKT": "market",
    "LMT": "limit",
    "STP": "stop",
    "STP LMT": "stop_limit",
    "TRAIL": "trailing_stop",
    "MOC": "market",
    "LOC": "limit",
    "TRAIL LIMIT": "trail_limit",
    "MIT": "if_touched",
    "LIT": "limit_if_touched",
}
LIMITED = ("LMT", "LOC", "STP LMT", "LIT")
TRIGGERED = ("STP", "STP LMT", "MIT", "LIT")
TRAILING = ("TRAIL", "TRAIL LIMIT")
_GOOD_TILL = "%Y%m%d-%H:%M:%S"
SIDES = {"BUY": "buy", "SELL": "sell", "SSHORT": "sell_short"}
TIFS = {"": "day", "DAY": "day", "GTC": "gtc", "IOC": "ioc", "FOK": "fok", "OPG": "opg", "GTD": "gtd", "DTC": "day"}
_POOR = (
    "Order rejected - reason:YOUR ORDER IS NOT ACCEPTED. IN ORDER TO OBTAIN THE DESIRED POSITION YOUR EQUITY WITH LOAN "
    "VALUE MUST EXCEED THE INITIAL MARGIN"
)
_UNKNOWN = "No security definition has been found for the request"
_FRACTION = "Fractional-sized order cannot be placed via API. Please use desktop version to place the order."
Complaint = tuple[int, str]


def accounts_of(market: Market, door: str) -> tuple[str, ...]:
    """Return the numbers of the accounts behind the login, as managedAccounts tells them."""
    return market.books.numbers(door) or (ACCOUNT,)


def order_terms(door: str, request: PlaceOrder, client_id: int) -> OrderTerms:
    """Return the order in the market's words; what has no word there passes as it came."""
    closing = request.order_type in ("MOC", "LOC")
    trailing, stops = request.order_type in TRAILING, request.order_type in TRIGGERED
    limits, begins = request.order_type in LIMITED, request.order_type == "TRAIL LIMIT"
    return {
        "door": door,
        "account": request.account,
        "client_order_id": request.order_ref or None,
        "symbol": request.contract.market_symbol or request.contract.symbol,
        "side": SIDES.get(request.action, request.action),
        "quantity": request.quantity,
        "order_type": ORDER_TYPES.get(request.order_type, request.order_type),
        "time_in_force": "cls" if closing else TIFS.get(request.tif, request.tif),
        "limit_price": request.limit_price if limits else None,
        "stop_price": request.aux_price if stops else request.trail_stop_price if begins else None,
        "trail_amount": request.aux_price if trailing and not request.trailing_percent else None,
        "trail_percent": request.trailing_percent if trailing else None,
        "extended_hours": request.outside_rth,
        "extra": {
            "client_id": client_id,
            "order_id": request.order_id,
            "request": asdict(request),
            "limit_offset": request.limit_offset,
        },
    }


def complaint_about(market: Market, request: PlaceOrder, fields: OrderTerms, next_id: int) -> Complaint | None:
    """Return code and text of the error that answers a bad order.

    Args:
        market: where it would be placed.
        request: as it was sent.
        fields: the same in the market's words.
        next_id: the lowest order id that the client may use.
    """
    if request.order_id < next_id:
        return 103, "Duplicate order id"
    if (wrong := about_account(request.account, accounts_of(market, fields["door"]))) is not None:
        return wrong
    if request.legs:
        legs, limit = market_legs(request.legs, request.action), fields["limit_price"]
        return complaint_about_legs(market, fields["door"], request.account, legs, request.quantity, limit)
    if request.contract.market_symbol is None or not market.exists(fields["symbol"]):
        return 200, _UNKNOWN
    if request.order_type not in ORDER_TYPES:
        return 321, "Error validating request.-'bF' : cause - Invalid order type was entered"  # recorded
    if request.action not in SIDES or request.tif not in TIFS:
        return 111, "The order TIF and the order type are incompatible"
    return _about_numbers(market, request, fields)


def about_account(number: str, known: Sequence[str]) -> Complaint | None:
    """Return TWS's complaint about the account of an order; the words are recorded (swigibpy#43, qtpylib#79)."""
    if not number:
        return 321, "Error validating request.-'bN' : cause - You must specify an account."
    if number not in known:
        return 321, f"Error validating request.-'bN' : cause - Invalid account code '{number}'."
    return None


def _about_numbers(market: Market, request: PlaceOrder, fields: OrderTerms) -> Complaint | None:
    """Return TWS's complaint about size and prices, as code and words; None where there is none."""
    if request.quantity <= 0:
        return 434, "The order size cannot be zero"
    if request.quantity != request.quantity.to_integral_value() and request.contract.sec_type != "CRYPTO":
        return 10243, _FRACTION
    if any(_is_off(fields[name], fields["symbol"]) for name in ("limit_price", "stop_price", "trail_amount")):
        return 110, "The price does not conform to the minimum price variation for this contract"
    if request.order_type in LIMITED and not request.limit_price:
        return 321, "Error validating request.-'bN' : cause - Please enter a valid limit price"
    if request.order_type in TRIGGERED and not request.aux_price:
        return 321, "Error validating request.-'bN' : cause - Please enter a valid stop price"
    if request.order_type == "TRAIL LIMIT" and not (request.limit_offset and request.trail_stop_price):
        return 321, "Error validating request.-'bN' : cause - Please enter a valid stop price and limit offset"
    if request.display_size >= request.quantity:
        return 321, "Error validating request.-'bN' : cause - Display size must be less than the order's size"
    if (request.tif == "GTD") != bool(request.good_till) or (request.good_till and seconds_left(request) <= 0):
        return 321, "Error validating request.-'bN' : cause - The good till date is invalid"
    kind = market.refusal(**fields)
    if kind is None or (kind == "insufficient_funds" and request.parent_id):  # it closes what its parent opens
        return None
    return 201, _POOR if kind == "insufficient_funds" else f"Order rejected - reason:{kind}"


def seconds_left(request: PlaceOrder) -> float:
    """Return how long an order is good for: less than 0 where its time cannot be read."""
    try:
        until = datetime.strptime(request.good_till, _GOOD_TILL).replace(tzinfo=UTC)
    except ValueError:
        return -1.0
    return (until - datetime.now(UTC)).total_seconds()


def is_off_the_tick(request: PlaceOrder) -> bool:
    """Tell whether a change names a price between two ticks."""
    symbol = request.contract.market_symbol or ""
    return _is_off(request.limit_price, symbol) or _is_off(request.aux_price, symbol)


def _is_off(price: Decimal | None, symbol: str) -> bool:
    return price is not None and bool(price % step_at(symbol, price))
