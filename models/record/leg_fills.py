"""Executions of orders with legs: which leg each is of, and what whole packages they make (`models.legs`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from models.legs import PackageLeg, net_of, place_of_leg, whole_packages
from models.record.linked import legs_of
from models.record.rows import FillRow
from models.reports import FillReport, LegReport, OrderReport

if TYPE_CHECKING:
    from models.record.order import OrderRecord

_ZERO = Decimal(0)


def leg_of(entry: OrderRecord, report: FillReport) -> int | None:
    """Return the number of the leg that an execution is of; None in an order of one instrument."""
    legs = legs_of(entry.order)
    return None if legs is None else place_of_leg(legs, report.symbol)


def is_nowhere(entry: OrderRecord, report: FillReport) -> bool:
    """Tell whether nobody knows which leg an execution is of: it moves nothing, and its order's total tells it."""
    return bool(entry.order["legs"]) and leg_of(entry, report) is None


def of_its_leg(entry: OrderRecord, broker: str, report: FillReport) -> FillReport:
    """Return an execution under an id of its own, where its broker names those of several legs alike.

    An execution is told from others by broker, id and leg; the id of the first leg that was told stays as it is.
    """
    number = leg_of(entry, report)
    theirs = (broker, report.execution_id)
    others = (row["leg"] for row in entry.fills if (row["broker"], row["execution_id"]) == theirs)
    if number is None or next(others, number) == number:
        return report
    return replace(report, execution_id=f"{report.execution_id}/{number}")


def traded(entry: OrderRecord, report: FillReport) -> tuple[str, int | None, str | None]:
    """Return what an execution trades, as its row has it: the symbol, the leg and its side."""
    legs = legs_of(entry.order)
    if legs is None or (number := place_of_leg(legs, report.symbol)) is None:
        return entry.order["symbol"], None, None
    return legs[number - 1].symbol, number, str(legs[number - 1].side)


def counted(entry: OrderRecord, change: Decimal) -> Decimal:
    """Return what a change of an order's executions adds to its filled quantity: of an order with legs, packages.

    Args:
        entry: the order; its executions are as they are after the change.
        change: units of the instrument, or of the leg.
    """
    legs = legs_of(entry.order)
    return change if legs is None else packages(entry.fills, legs) - entry.order["filled_quantity"]


def packages(rows: Sequence[FillRow], legs: Sequence[PackageLeg]) -> Decimal:
    """Return how many whole packages executions make."""
    return whole_packages(legs, [_filled(rows, number) for number, _ in enumerate(legs, 1)])


def mean_net(rows: Sequence[FillRow], legs: Sequence[PackageLeg]) -> Decimal | None:
    """Return what a package has cost, by the mean price of each leg; None while one has none, or an unknown one."""
    prices = [_mean(rows, number) for number, _ in enumerate(legs, 1)]
    known = [price for price in prices if price is not None]
    return round(net_of(legs, known), 8) if len(known) == len(legs) else None


def by_legs(entry: OrderRecord, report: OrderReport) -> list[tuple[int | None, OrderReport]]:
    """Return what a broker shows of each leg, as of an order of its own; of an order of one instrument, the report."""
    legs = legs_of(entry.order)
    if legs is None:
        return [(None, report)]
    shown = {one.symbol: one for one in report.package}
    ordered = report.quantity or entry.order["quantity"] or _ZERO
    return [(number, _part(report, leg, shown.get(leg.symbol), ordered)) for number, leg in enumerate(legs, 1)]


def _part(report: OrderReport, leg: PackageLeg, shown: LegReport | None, ordered: Decimal) -> OrderReport:
    filled = shown.filled_quantity if shown is not None else None
    if filled is None and report.filled_quantity is not None:
        filled = report.filled_quantity * leg.ratio
    return replace(
        report,
        symbol=leg.symbol,
        quantity=ordered * leg.ratio,
        filled_quantity=filled,
        avg_fill_price=shown.avg_fill_price if shown is not None else None,
        currency=None,
        multiplier=None,
        package=(),
    )


def _filled(rows: Sequence[FillRow], number: int) -> Decimal:
    return sum((row["quantity"] for row in rows if row["leg"] == number), _ZERO)


def _mean(rows: Sequence[FillRow], number: int) -> Decimal | None:
    """Return the mean price of a leg; None while it has no execution, or one without a price."""
    mine = [row for row in rows if row["leg"] == number and row["quantity"]]
    worth = [row["quantity"] * row["price"] for row in mine if row["price"] is not None]
    return sum(worth, _ZERO) / _filled(mine, number) if mine and len(worth) == len(mine) else None
