"""TDA's and Schwab's orders in corro's words; nothing here talks to anyone.

An order with several legs is as many orders here, one a leg, `1000436258264/2`: each has its own symbol, side and
quantity, and an execution belongs to the leg whose legId it names. An order of one leg is itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from models.reports import DONE, BrokerStatus, FillReport, OrderReport
from models.vocabulary import OrderType, TimeInForce
from worker.brokers.oddities import Oddities
from worker.brokers.tda.shapes import Leg, closed, entered, filled, legs, order_id, rows_in, total
from worker.brokers.values import Raw, identity, moment, positive, size, soft

_ACCEPTED, _CANCELING = BrokerStatus.ACCEPTED, BrokerStatus.PENDING_CANCEL
#: The 21 words of Schwab's specification, the first 15 of which TDA had; there is no word for a partial fill.
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
#: Words after which the broker does nothing more.
ENDS = frozenset(word for word, status in STATUSES.items() if status in DONE)
_TYPES = {kind.value.upper(): kind for kind in OrderType}
_ON_CLOSE = {"MARKET_ON_CLOSE": OrderType.MARKET, "LIMIT_ON_CLOSE": OrderType.LIMIT}
_DURATIONS = {
    "DAY": TimeInForce.DAY,
    "GOOD_TILL_CANCEL": TimeInForce.GTC,
    "FILL_OR_KILL": TimeInForce.FOK,
    "IMMEDIATE_OR_CANCEL": TimeInForce.IOC,
}
#: Activities that change an order and trade nothing.
_NO_EXECUTIONS = ("ORDER_ACTION",)
#: Types that have no price of that kind, although a listing may show one that the broker made: the trail's stop.
_NO_LIMIT, _NO_STOP = frozenset({"MARKET", "STOP", "TRAILING_STOP", "MARKET_ON_CLOSE"}), frozenset({"TRAILING_STOP"})
_ORDER_PATH = re.compile(r"/accounts/([^/]+)/orders/(\d+)/?$")


def located(location: str | None, account: str) -> str | None:
    """Return the order id that a Location header names; None if there is none or it is in another account."""
    found = _ORDER_PATH.search(location or "")
    return found.group(2) if found and found.group(1) == account else None


# -- STATUS ---
def status_of(raw: Raw) -> BrokerStatus:
    """Return where an order stands.

    An end that does not say how much was filled before it, or is called filled with nothing, is no end yet: it is read
    again.
    """
    word = raw.get("status")
    found = STATUSES.get(word, BrokerStatus.UNKNOWN) if isinstance(word, str) else BrokerStatus.UNKNOWN
    done = filled(raw)
    if found in DONE and done is None and legs(raw):
        return BrokerStatus.UNKNOWN
    if found is BrokerStatus.FILLED and done == 0 and next(_executions(raw), None) is None:
        return BrokerStatus.UNKNOWN
    return found


def is_settled(raw: Raw) -> bool:
    """Tell whether nothing more will be told of an order: it is done, and its executions are all that is filled.

    Status and filledQuantity can be there seconds before the executions. A group without legs has none to wait for.
    """
    if status_of(raw) not in DONE:
        return False
    for report in order_reports(raw):
        told = sum((fill.quantity for fill in report.fills), Decimal(0))
        whole = report.quantity if report.status is BrokerStatus.FILLED else None
        if told < max(report.filled_quantity or Decimal(0), whole or Decimal(0)):
            return False
    return True


# -- ORDERS ---
def order_report(raw: Raw, odd: Oddities | None = None) -> OrderReport:
    """Read one order with the executions it carries: of one with several legs, the first."""
    return order_reports(raw, odd)[0]


def order_reports(raw: Raw, odd: Oddities | None = None) -> list[OrderReport]:
    """Read one order: a report for each leg. A group without legs has none; its members have their own.

    What cannot be read is None, with a status UNKNOWN where the order's fate hangs on it.
    """
    found = legs(raw)
    if not found and raw.get("childOrderStrategies"):
        return []
    if len(found) < 2:
        return [_report(raw, found[0] if found else None, None, odd)]
    return [_report(raw, leg, str(leg.place), odd) for leg in found]


def _report(raw: Raw, leg: Leg | None, part: str | None, odd: Oddities | None) -> OrderReport:
    """Return an order, or one leg of it, as a report.

    Args:
        raw: the order as listed.
        leg: the leg that it is about; None where it has none that can be read.
        part: the leg's name, where an order has several.
        odd: takes remarks about what could not be read.
    """
    mine = order_id(raw)
    if odd is not None and (leg is None or leg.symbol is None):
        odd.note(f"order {mine}", "it does not say what it trades")
    found = raw.get("orderType")
    kind, status = found if isinstance(found, str) else None, status_of(raw)
    executions = fills(raw, leg, part, odd)
    done = filled(raw) if part is None else _filled_of_leg(raw, leg, executions)
    if status is _ACCEPTED and done:
        status = BrokerStatus.PARTIALLY_FILLED
    offset, link = soft(positive, raw.get("stopPriceOffset")), raw.get("stopPriceLinkType")
    session, word, message = raw.get("session"), raw.get("status"), raw.get("statusDescription")
    return OrderReport(
        broker_order_id=_named(mine, part),
        status=status,
        raw_status=word if isinstance(word, str) else None,
        symbol=leg.symbol if leg else None,
        side=leg.side if leg else None,
        order_type=_TYPES.get(str(kind)) or _ON_CLOSE.get(str(kind)),
        time_in_force=TimeInForce.CLS if kind in _ON_CLOSE else _DURATIONS.get(str(raw.get("duration"))),
        quantity=leg.quantity if part is not None and leg else total(raw),
        limit_price=soft(positive, raw.get("price")) if kind not in _NO_LIMIT else None,
        stop_price=soft(positive, raw.get("stopPrice")) if kind not in _NO_STOP else None,
        trail_amount=offset if link == "VALUE" else None,
        trail_percent=offset if link == "PERCENT" else None,
        extended_hours=session != "NORMAL" if isinstance(session, str) else None,
        filled_quantity=done,
        avg_fill_price=_average(executions, done),
        fills=executions,
        message=(odd.clean(message) if odd else message) if isinstance(message, str) else None,
        submitted_at=entered(raw),
        updated_at=closed(raw) or (executions[-1].filled_at if executions else None),
    )


def _named(mine: str | None, part: str | None) -> str | None:
    return mine if part is None or mine is None else f"{mine}/{part}"


def _filled_of_leg(raw: Raw, leg: Leg | None, executions: Iterable[FillReport]) -> Decimal | None:
    """Return how much of one leg is filled: the order counts spreads, so its own count is taken in proportion."""
    done, whole = filled(raw), total(raw)
    told = sum((fill.quantity for fill in executions), Decimal(0))
    if done is None or whole is None or leg is None or leg.quantity is None:
        return told or None
    return max(told, done * leg.quantity / whole)


# -- EXECUTIONS ---
@dataclass(frozen=True, slots=True)
class _Execution:
    at: datetime
    order: tuple[int, int, int]
    execution_id: str
    leg_id: str | None
    quantity: Decimal
    price: Decimal | None


def _executions(raw: Raw, odd: Oddities | None = None) -> Iterator[_Execution]:
    """Yield the executions of an order that can be read.

    `activityId` is in TDA's recorded answers of 2022, not in those of 2020 nor in Schwab's specification; without it
    what was left after the execution identifies it.
    """
    for at, activity in enumerate(rows_in(raw.get("orderActivityCollection"))):
        if not _is_execution(activity):
            if odd is not None and activity.get("activityType") not in _NO_EXECUTIONS:
                words = {key: activity.get(key) for key in ("activityType", "executionType")}
                odd.note(f"activity {at + 1} of order {order_id(raw)}", words)
            continue
        left = soft(size, activity.get("orderRemainingQuantity"))
        told = soft(identity, activity["activityId"]) if activity.get("activityId") is not None else None
        key = told or (f"left{left.normalize():f}" if left is not None else str(at))
        for place, part in enumerate(rows_in(activity.get("executionLegs"))):
            execution_id = f"{order_id(raw)}:{key}:{place}"
            when = soft(moment, part.get("time")) or closed(raw) or entered(raw)
            quantity = soft(positive, part.get("quantity"))
            if when is None or quantity is None:
                if odd is not None:
                    odd.note(f"execution {execution_id}", f"quantity {part.get('quantity')!r}, {part.get('time')!r}")
                continue
            leg_id = soft(identity, part["legId"]) if part.get("legId") is not None else None
            order = (int(told) if told and told.isdecimal() else 0, at, place)
            yield _Execution(when, order, execution_id, leg_id, quantity, soft(positive, part.get("price")))


def _is_execution(activity: Raw) -> bool:
    """Tell whether an activity is an execution; the kind of execution need not be told, there is only one."""
    return activity.get("activityType") == "EXECUTION" and activity.get("executionType") in (None, "FILL")


def fills(
    raw: Raw, leg: Leg | None = None, part: str | None = None, odd: Oddities | None = None
) -> tuple[FillReport, ...]:
    """Read the executions of an order, or of one of its legs, oldest first.

    Several legs of one activity share its id and often their legId, so their place in it completes the execution_id.
    A price that is missing, or 0, is None: it is told later.
    """
    leg = leg or next(iter(legs(raw)), None)
    mine = [one for one in _executions(raw, odd) if part is None or _belongs(one, leg)]
    found: list[FillReport] = []
    done = Decimal(0)
    for one in sorted(mine, key=lambda one: (one.at, one.order)):
        done += one.quantity
        found.append(
            FillReport(
                execution_id=one.execution_id,
                quantity=one.quantity,
                price=one.price,
                filled_at=one.at,
                symbol=leg.symbol if leg else None,
                side=leg.side if leg else None,
                broker_order_id=_named(order_id(raw), part),
                cumulative_quantity=done,
            )
        )
    return tuple(found)


def _belongs(one: _Execution, leg: Leg | None) -> bool:
    return leg is not None and one.leg_id == (leg.leg_id or str(leg.place))


def _average(executions: Iterable[FillReport], done: Decimal | None) -> Decimal | None:
    """Return the mean price of everything that is filled; None while a part of it, or its price, was not told."""
    executions = tuple(executions)
    parts = [(fill.quantity, fill.price) for fill in executions if fill.price is not None]
    told = sum((quantity for quantity, _ in parts), Decimal(0))
    if not told or len(parts) < len(executions) or (done is not None and told < done):
        return None  # the mean of a part would be a guess about the whole
    average = sum((quantity * price for quantity, price in parts), Decimal(0)) / told
    return average.quantize(Decimal("0.000001")).normalize() if len(parts) > 1 else parts[0][1]
