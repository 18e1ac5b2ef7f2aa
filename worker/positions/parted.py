"""Other people's orders with legs: each leg is recorded as an order of its own, `1000436258264/2`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from models.reports import FillReport, LegReport, OrderReport


def parted(report: OrderReport | FillReport) -> list[OrderReport | FillReport]:
    """Return the legs of an order as orders of their own; any other report as it is."""
    if isinstance(report, FillReport):
        return [_of_leg(report)]
    if not report.package:
        return [report]
    return [_leg(report, leg, number) for number, leg in enumerate(report.package, 1)]


def part_ids(reports: Iterable[OrderReport]) -> set[str | None]:
    """Return the ids under which orders may be recorded that a broker lists."""
    return {id_ for report in reports for id_ in (report.broker_order_id, *(_ids(report)))}


def _ids(report: OrderReport) -> list[str]:
    return [f"{report.broker_order_id}/{number}" for number, _ in enumerate(report.package, 1)]


def _of_leg(fill: FillReport) -> FillReport:
    if fill.leg is None or fill.broker_order_id is None:
        return fill
    return replace(fill, broker_order_id=f"{fill.broker_order_id}/{fill.leg}")


def _leg(report: OrderReport, leg: LegReport, number: int) -> OrderReport:
    """Return one leg as an order; what is filled of it is in proportion where its broker counts packages alone."""
    mine = tuple(fill for fill in report.fills if fill.leg == number)
    told = sum((fill.quantity for fill in mine), Decimal(0))
    of_packages = None if None in (leg.ratio, report.filled_quantity) else leg.ratio * report.filled_quantity  # type: ignore[operator]
    filled = leg.filled_quantity if leg.filled_quantity is not None else of_packages
    return replace(
        report,
        broker_order_id=None if report.broker_order_id is None else f"{report.broker_order_id}/{number}",
        symbol=leg.symbol,
        side=leg.side,
        quantity=None if None in (leg.ratio, report.quantity) else leg.ratio * report.quantity,  # type: ignore[operator]
        filled_quantity=max(filled, told) if filled is not None else (told or None),
        avg_fill_price=leg.avg_fill_price,
        fills=tuple(_of_leg(fill) for fill in mine),
        package=(),
    )
