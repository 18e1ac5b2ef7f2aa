"""TDA's and Schwab's orders in corro's words; nothing here talks to anyone.

An order with several legs is a package, and an execution belongs to the leg whose legId it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from models.reports import DONE, BrokerStatus, FillReport, OrderReport
from models.vocabulary import OrderType, TimeInForce
from worker.brokers.oddities import Oddities
from worker.brokers.tda.legs import SIGNS, of_leg, package_of, signed_price
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
        units = sum((leg.ratio or Decimal(1) for leg in report.package), Decimal(0)) or Decimal(1)
        if told < units * max(report.filled_quantity or Decimal(0), whole or Decimal(0)):
            return False
    return True


# -- ORDERS ---
def order_report(raw: Raw, odd: Oddities | None = None) -> OrderReport:
    """Read one order with the executions it carries."""
    return order_reports(raw, odd)[0]


def order_reports(raw: Raw, odd: Oddities | None = None) -> list[OrderReport]:
    """Read one order. A group without legs has no report; its members have their own.

    What cannot be read is None, with a status UNKNOWN where the order's fate hangs on it.
    """
    found = legs(raw)
    if not found and raw.get("childOrderStrategies"):
        return []
    if len(found) > 1:
        return [_package(raw, found, odd)]
    return [_report(raw, found[0] if found else None, fills(raw, None, odd), odd)]


def _package(raw: Raw, found: Sequence[Leg], odd: Oddities | None) -> OrderReport:
    """Return an order with several legs: it has no symbol and no side of its own."""
    executions = [fill for leg in found for fill in of_leg(fills(raw, leg, odd), leg)]
    report = _report(raw, None, tuple(sorted(executions, key=lambda fill: fill.filled_at)), odd, several=True)
    kind = raw.get("orderType")
    return replace(
        report,
        package=package_of(raw, found),
        order_type=OrderType.LIMIT if kind in SIGNS else report.order_type,
        limit_price=signed_price(str(kind), report.limit_price),
        avg_fill_price=None,
    )


def _report(
    raw: Raw, leg: Leg | None, executions: tuple[FillReport, ...], odd: Oddities | None, *, several: bool = False
) -> OrderReport:
    """Return an order as a report.

    Args:
        raw: the order as listed.
        leg: its only leg; None where it has none that can be read.
        executions: that it carries.
        odd: takes remarks about what could not be read.
        several: it has more than one leg.
    """
    mine = order_id(raw)
    if odd is not None and not several and (leg is None or leg.symbol is None):
        odd.note(f"order {mine}", "it does not say what it trades")
    found = raw.get("orderType")
    kind, status = found if isinstance(found, str) else None, status_of(raw)
    done = filled(raw)
    if status is _ACCEPTED and done:
        status = BrokerStatus.PARTIALLY_FILLED
    offset, link = soft(positive, raw.get("stopPriceOffset")), raw.get("stopPriceLinkType")
    session, word, message = raw.get("session"), raw.get("status"), raw.get("statusDescription")
    return OrderReport(
        broker_order_id=mine,
        status=status,
        raw_status=word if isinstance(word, str) else None,
        symbol=leg.symbol if leg else None,
        side=leg.side if leg else None,
        order_type=_TYPES.get(str(kind)) or _ON_CLOSE.get(str(kind)),
        time_in_force=TimeInForce.CLS if kind in _ON_CLOSE else _DURATIONS.get(str(raw.get("duration"))),
        quantity=total(raw),
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


# -- EXECUTIONS ---
@dataclass(frozen=True, slots=True)
class _Execution:
    at: datetime
    order: tuple[int, int, int]
    #: Its id is the broker's own number of it.
    numbered: bool
    execution_id: str
    leg_id: str | None
    quantity: Decimal
    price: Decimal | None


def _executions(raw: Raw, odd: Oddities | None = None) -> Iterator[_Execution]:
    """Yield the executions of an order that can be read, each under an id of its own.

    `activityId` is in TDA's recorded answers of 2022, not in those of 2020 nor in Schwab's specification; without it
    what was left after the execution identifies it. Where several left the same, by their words, the earliest has that
    id and the others count on from there; what is told twice in the same words is one.
    """
    found: dict[str, list[_Execution]] = {}
    for one in sorted(_told(raw, odd), key=lambda one: (one.at, one.quantity, one.price or Decimal(0))):
        same = found.setdefault(one.execution_id, [])
        content = (one.at, one.quantity, one.price, one.leg_id)
        if same and one.numbered:  # the later words stand
            same[:] = [one]
            continue
        if content in ((other.at, other.quantity, other.price, other.leg_id) for other in same):
            continue
        same.append(replace(one, execution_id=f"{one.execution_id}+{len(same)}") if same else one)
    yield from (one for same in found.values() for one in same)


def _told(raw: Raw, odd: Oddities | None) -> Iterator[_Execution]:
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
            yield _Execution(
                when, order, told is not None, execution_id, leg_id, quantity, soft(positive, part.get("price"))
            )


def _is_execution(activity: Raw) -> bool:
    """Tell whether an activity is an execution; the kind of execution need not be told, there is only one."""
    return activity.get("activityType") == "EXECUTION" and activity.get("executionType") in (None, "FILL")


def fills(raw: Raw, one_leg: Leg | None = None, odd: Oddities | None = None) -> tuple[FillReport, ...]:
    """Read the executions of an order, or of one of its several legs, oldest first.

    Several legs of one activity share its id and often their legId, so their place in it completes the execution_id.
    A price that is missing, or 0, is None: it is told later.
    """
    leg = one_leg or next(iter(legs(raw)), None)
    mine = [one for one in _executions(raw, odd) if one_leg is None or _belongs(one, one_leg)]
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
                broker_order_id=order_id(raw),
                cumulative_quantity=done,
            )
        )
    return tuple(found)


def _belongs(one: _Execution, leg: Leg) -> bool:
    return one.leg_id == (leg.leg_id or str(leg.place))


def _average(executions: Iterable[FillReport], done: Decimal | None) -> Decimal | None:
    """Return the mean price of everything that is filled; None while a part of it, or its price, was not told."""
    executions = tuple(executions)
    parts = [(fill.quantity, fill.price) for fill in executions if fill.price is not None]
    told = sum((quantity for quantity, _ in parts), Decimal(0))
    if not told or len(parts) < len(executions) or (done is not None and told < done):
        return None  # the mean of a part would be a guess about the whole
    average = sum((quantity * price for quantity, price in parts), Decimal(0)) / told
    return average.quantize(Decimal("0.000001")).normalize() if len(parts) > 1 else parts[0][1]
