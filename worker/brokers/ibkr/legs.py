"""Orders with legs at IB: a contract of secType BAG whose comboLegs are conIds, and how such orders are read. Pure.

Source: the documentation of IB's API on spreads, `Contract.comboLegs` and `ComboLeg` (specified; no live recording). A
package is bought as it is written, at a limit that is below zero where it is received. IB reports an execution of the
BAG beside those of its legs: the BAG's is none, as only the legs move positions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

from models.instruments import Instrument
from models.messages import OrderRequest
from models.reports import LegReport
from models.vocabulary import Side
from worker.brokers.ibkr.instruments import to_ib_symbol
from worker.brokers.ibkr.reports import ComboPart, WireExecution
from worker.brokers.ibkr.sdk import Sdk, SdkContract

BAG = "BAG"
#: Legs of one order (assumed: TWS shows as many).
MOST = 6


async def bag_of(order: OrderRequest, sdk: Sdk, of: Callable[[Instrument], Awaitable[SdkContract]]) -> SdkContract:
    """Return the contract of a package.

    Args:
        order: with its legs.
        sdk: makes the objects.
        of: looks up the contract of an instrument.
    """
    found = [(leg, await of(leg.instrument)) for leg in order.legs or ()]
    legs = [
        sdk.ComboLeg(conId=contract.conId, ratio=leg.ratio, action=str(leg.side).upper(), exchange="SMART")
        for leg, contract in found
    ]
    contract: SdkContract = sdk.Contract(
        secType=BAG, symbol=to_ib_symbol(order.symbol), currency="USD", exchange="SMART", comboLegs=legs
    )
    return contract


def package_of(
    parts: Sequence[ComboPart], side: Side | None, called: Callable[[int], str | None]
) -> tuple[LegReport, ...] | None:
    """Return the legs that an order shows; None while one has no name yet.

    Args:
        parts: as the message has them.
        side: of the order: who sells a package trades each leg the other way.
        called: returns what a conId is called.
    """
    names = [called(part.con_id) for part in parts]
    if None in names:
        return None
    turned = {Side.BUY: Side.SELL, Side.SELL: Side.BUY} if side is Side.SELL else {}
    return tuple(
        LegReport(symbol=name, side=part.side and turned.get(part.side, part.side), ratio=part.ratio)
        for part, name in zip(parts, names, strict=True)
    )


def packages_filled(package: Sequence[LegReport], executions: Sequence[WireExecution]) -> Decimal:
    """Return how many whole packages the executions of its legs make."""
    return min((_filled(leg, executions) for leg in package), default=Decimal(0))


def _filled(leg: LegReport, executions: Sequence[WireExecution]) -> Decimal:
    done = sum((e.fill.quantity for e in executions if e.fill.symbol == leg.symbol), Decimal(0))
    return done // leg.ratio if leg.ratio else Decimal(0)


def shown_by(order: OrderRequest, executions: Sequence[WireExecution]) -> tuple[LegReport, ...]:
    """Return the legs of which executions tell, in the ratios that were ordered where they are in proportion."""
    sides = {e.fill.symbol: e.fill.side for e in executions}
    ordered = {leg.symbol: Decimal(leg.ratio) for leg in order.legs or ()}
    return tuple(LegReport(symbol=symbol, side=side, ratio=ordered.get(symbol or "")) for symbol, side in sides.items())
