"""Orders with legs at TDA and Schwab: a single order with several legs, whose price is net. Pure.

Source: Schwab's Trader API documents, order examples (vertical call spread, custom spread), and both specifications'
`complexOrderStrategyType`; that a covered call is `COVERED` with its shares as a leg is specified, not recorded. Each
leg of an option has to say whether it opens or closes: what is left out opens. The quantity of a leg is of the whole
order, in the order's own `quantity` are packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from models.instruments import Instrument
from models.legs import PackageLeg
from models.messages import OrderRequest
from models.reports import FillReport, LegReport
from models.vocabulary import AssetClass, OrderType, Side
from worker.brokers.rest.reading import Body
from worker.brokers.tda.dialects import TdaDialect
from worker.brokers.tda.shapes import Leg, total
from worker.brokers.values import Raw

#: Legs of one order (assumed: no document names a number).
MOST = 4
DEBIT, CREDIT, EVEN = "NET_DEBIT", "NET_CREDIT", "NET_ZERO"
#: Words for limits of packages -> the sign of their price.
SIGNS = {DEBIT: 1, CREDIT: -1, EVEN: 0}
_TIME = "%Y-%m-%dT%H:%M:%S+0000"
#: Options have instructions of their own (docs/facts/schwab.md#4.6).
_INSTRUCTIONS = {
    Side.BUY: "BUY_TO_OPEN", Side.SELL: "SELL_TO_CLOSE", Side.SELL_SHORT: "SELL_TO_OPEN",
    Side.BUY_TO_COVER: "BUY_TO_CLOSE",
}  # fmt: skip


def package_body(order: OrderRequest, dialect: TdaDialect) -> Body:
    """Return a package as the broker takes it: the same order for what is paid, what is received, and for nothing."""
    return {
        "session": "NORMAL",
        "duration": dialect.durations.get(order.time_in_force, "DAY"),
        **ends(order),
        **_price(order),
        "complexOrderStrategyType": strategy_of(order.legs or ()),
        "quantity": int(order.units),
        "orderLegCollection": [
            leg_body(leg.instrument, leg.alone, order.units * leg.ratio, dialect) for leg in order.legs or ()
        ],
        "orderStrategyType": "SINGLE",
    }


def ends(order: OrderRequest) -> Body:
    """Return until when an order is good, where it says so."""
    return {} if order.good_till is None else {"cancelTime": order.good_till.strftime(_TIME)}


def _price(order: OrderRequest) -> Body:
    limit = order.limit_price
    if order.order_type is OrderType.MARKET or limit is None:
        return {"orderType": "MARKET"}
    if not limit:
        return {"orderType": EVEN}
    return {"orderType": DEBIT if limit > 0 else CREDIT, "price": f"{abs(limit):.2f}"}


def leg_body(instrument: Instrument, side: Side, quantity: Decimal, dialect: TdaDialect) -> Body:
    """Return what is traded of one instrument, as an order's body has it."""
    is_option = instrument.asset_class is AssetClass.OPTION
    return {
        "instruction": _INSTRUCTIONS[side] if is_option else side.value.upper(),
        "instrument": {"assetType": "OPTION" if is_option else "EQUITY", "symbol": dialect.symbol(instrument.symbol)},
        "quantity": int(quantity),
    }


def strategy_of(legs: Sequence[PackageLeg]) -> str:
    """Return the broker's word for a package; what none of the plain words names is CUSTOM."""
    things = [leg.instrument for leg in legs]
    if len(legs) != 2:
        return "CUSTOM"
    if AssetClass.US_EQUITY in [thing.asset_class for thing in things]:
        return "COVERED"
    (one, two), alike = things, legs[0].ratio == legs[1].ratio
    same_day, same_way = one.expiry == two.expiry, legs[0].side is legs[1].side
    if alike and one.right == two.right and not same_way:
        return "VERTICAL" if same_day else "CALENDAR" if one.strike == two.strike else "DIAGONAL"
    if alike and one.right != two.right and same_way and same_day:
        return "STRADDLE" if one.strike == two.strike else "STRANGLE"
    return "CUSTOM"


# -- READING ---
def package_of(raw: Raw, legs: Sequence[Leg]) -> tuple[LegReport, ...]:
    """Return the legs of an order that has several."""
    whole = total(raw)
    return tuple(
        LegReport(
            symbol=leg.symbol, side=leg.side, ratio=leg.quantity / whole if leg.quantity and whole else None
        )
        for leg in legs
    )  # fmt: skip


def of_leg(fills: Sequence[FillReport], leg: Leg) -> tuple[FillReport, ...]:
    """Return executions as those of one leg."""
    return tuple(replace(fill, leg=leg.place) for fill in fills)


def signed_price(kind: str | None, price: Decimal | None) -> Decimal | None:
    """Return the limit of a package with its sign; None where it has none."""
    if kind == EVEN:
        return Decimal(0)
    return None if kind not in SIGNS or price is None else SIGNS[kind] * price
