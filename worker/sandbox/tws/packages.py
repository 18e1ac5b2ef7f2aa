"""Orders with legs at the TWS door: a contract of secType BAG, by the documentation of IB's API.

The legs are conIds with ratio and action. Executions are told of the BAG and of each leg, under the same ids; the
order's own sizes count packages. Every price of a package is allowed, zero and below as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from worker.sandbox.market.market import Market, MarketOrder
from worker.sandbox.market.packages import is_too_dear
from worker.sandbox.tws.contracts import symbol_of

if TYPE_CHECKING:
    from worker.sandbox.tws.wire import Fields

#: The conId under which IB shows every BAG in dollars.
_BAG = 28812380
_STEP = Decimal("0.01")
_SIDES = {"BUY": "buy", "SELL": "sell"}
_OTHER = {"buy": "sell", "sell": "buy"}
#: A leg as a message has it: conId, ratio, action, exchange.
ComboLeg = dict[str, Any]


def read_legs(fields: Fields) -> list[ComboLeg]:
    """Read the legs of a placeOrder message, with what follows them."""
    legs = []
    for _ in range(fields.integer()):
        legs.append(
            {
                "con_id": fields.integer(), "ratio": fields.integer(), "action": fields.text(),
                "exchange": fields.text(),
            }
        )  # fmt: skip
        fields.skip(4)  # openClose, shortSaleSlot, designatedLocation, exemptCode
    fields.skip_pairs(1)
    fields.skip_pairs(2)
    return legs


def market_legs(legs: Sequence[ComboLeg], action: str) -> list[ComboLeg]:
    """Return the legs in the market's words; who sells a package trades each the other way."""
    sides = [_SIDES.get(leg["action"], "") for leg in legs]
    sides = [_OTHER.get(side, side) for side in sides] if action == "SELL" else sides
    return [
        {"symbol": symbol_of(leg["con_id"]), "side": side, "ratio": leg["ratio"]}
        for leg, side in zip(legs, sides, strict=True)
    ]


def complaint_about_legs(
    market: Market, door: str, account: str, legs: Sequence[ComboLeg], quantity: Decimal, limit: Decimal | None
) -> tuple[int, str] | None:
    """Return code and text of the error that answers a bad package."""
    if len(legs) < 2 or any(leg["symbol"] is None or not market.exists(leg["symbol"]) for leg in legs):
        return 200, "No security definition has been found for the request"
    if any(leg["side"] not in _OTHER or leg["ratio"] <= 0 for leg in legs):
        return 321, "Error validating request.-'bN' : cause - Invalid combo leg"
    if quantity <= 0 or quantity != quantity.to_integral_value():
        return 434, "The order size cannot be zero"
    if limit is not None and limit % _STEP:
        return 110, "The price does not conform to the minimum price variation for this contract"
    if is_too_dear(market, door, legs, quantity, account):
        return 201, "Order rejected - reason:insufficient_funds"
    return None


def bag_fields(symbol: str, exchange: str) -> list[object]:
    """Return the eleven contract fields of a BAG."""
    return [_BAG, symbol, "BAG", "", "0", "?", "", exchange, "USD", str(_BAG), "COMB"]


def combo_fields(legs: Sequence[ComboLeg]) -> list[str]:
    """Return the legs as an openOrder or completedOrder shows them after their number."""
    return [
        text
        for leg in legs
        for text in (str(leg["con_id"]), str(leg["ratio"]), leg["action"], leg["exchange"], "0", "0", "", "-1")
    ]


def traded(order: MarketOrder) -> Iterator[MarketOrder]:
    """Yield an order and its legs, if it has any: each has executions of its own."""
    yield from order.legs
    yield order
