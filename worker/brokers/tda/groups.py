"""Linked orders at TDA and Schwab: several orders in one request and under one Location. Pure.

Source: Schwab's Trader API documents, order examples (TRIGGER with a child, TRIGGER with an OCO of two, OCO of two);
the shapes as docs/facts/tda.md#2.4 has them. An order that triggers is a row of its own with an id, a status and legs;
those that it triggers are inside it, each with an id of its own. An OCO by itself is a row without terms: its first
order is the lead, found by its own terms and those of the order beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from models.groups import GroupKind
from models.messages import OrderRequest, utcnow
from models.reports import BrokerStatus, OrderReport
from models.vocabulary import OrderType, TimeInForce
from worker.brokers.lookups import LinkRule
from worker.brokers.oddities import Oddities
from worker.brokers.rest.reading import Body
from worker.brokers.tda.dialects import TdaDialect
from worker.brokers.tda.likeness import Likeness, Terms, compare, terms
from worker.brokers.tda.reports import order_report
from worker.brokers.tda.shapes import BESIDE, PARENT, beside, closed, flat, inner, order_id, successors
from worker.brokers.tda.terms import order_body
from worker.brokers.values import Raw

#: After so long a listing shows what was taken (docs/facts/schwab.md#2.18), with a margin for clocks that differ.
LISTED_WITHIN = timedelta(seconds=10)
#: What both link by themselves and corro can find again.
KINDS = frozenset(GroupKind)
TRIGGER, OCO = "TRIGGER", "OCO"
_TIMES = (TimeInForce.DAY, TimeInForce.GTC)
_RULES: Sequence[LinkRule] = (
    (
        lambda lead, legs: all(one.time_in_force in _TIMES for one in (lead, *legs)),
        "links orders that are day or gtc only",
    ),
    (lambda lead, legs: not any(one.extended_hours for one in (lead, *legs)), "links no orders in extended hours"),
    (
        lambda lead, legs: all(one.order_type is not OrderType.TRAILING_STOP for one in (lead, *legs)),
        "is not asked to link trailing stops",
    ),
)
#: Of the adapter: what each kind of group has to be.
LINK_RULES = dict.fromkeys(GroupKind, _RULES)


def group_body(orders: Sequence[OrderRequest], dialect: TdaDialect, broker: str) -> Body:
    """Return linked orders, the lead first, as the broker takes them; one on its own is a single one.

    Raises:
        Unsupported: one of them cannot be said in this dialect.
    """
    body, *others = (order_body(one, dialect, broker) for one in orders)
    if not others:
        return body
    children: list[object] = [*others]
    if _excludes(orders[0]):
        return {"orderStrategyType": OCO, "childOrderStrategies": [body, *children]}
    if len(children) > 1:
        children = [{"orderStrategyType": OCO, "childOrderStrategies": children}]
    return body | {"orderStrategyType": TRIGGER, "childOrderStrategies": children}


def group_terms(orders: Sequence[OrderRequest], dialect: TdaDialect, broker: str) -> Terms:
    """Return the terms by which the lead of a group, or an order on its own, is told from others."""
    if len(orders) > 1 and _excludes(orders[0]):
        first, second = (order_body(one, dialect, broker) for one in orders)
        return terms(beside(first, second)[0])
    return terms(group_body(orders, dialect, broker))


def lead_in(raw: Raw, wanted: Terms) -> Raw:
    """Return the lead of a group of which one order cancels the other; any other row as it is."""
    if raw.get("orderStrategyType") != OCO:
        return raw
    return next((row for row in flat([raw]) if BESIDE in row and compare(row, wanted) is Likeness.SAME), raw)


def _excludes(order: OrderRequest) -> bool:
    return order.group is not None and order.group.kind is GroupKind.OCO


def with_legs(report: OrderReport, raw: Raw, odd: Oddities | None = None) -> OrderReport:
    """Return the report of an order that triggers others, or cancels one, with theirs; any other as it is."""
    if BESIDE in raw:
        return replace(report, linked=OCO, legs=(order_report(raw[BESIDE], odd),))
    if raw.get("orderStrategyType") != TRIGGER:
        return report
    rows = inner(raw)
    heirs = successors(rows)
    legs = (with_heir(order_report(row, odd), row, heirs.get(order_id(row) or ""), odd) for row in rows)
    return replace(report, linked=TRIGGER, legs=tuple(legs))


def with_heir(report: OrderReport, raw: Raw, heir: Raw | None, odd: Oddities | None = None) -> OrderReport:
    """Return the report of a replaced order with the one that took its place; any other as it is.

    | the replaced order | its successor      | what is told                                                        |
    |--------------------|--------------------|---------------------------------------------------------------------|
    | in a group         | in the same group  | the successor itself: it stands where the old one stood             |
    | in a group         | not there, lately  | nothing yet: listings lag (docs/facts/schwab.md#2.18), read it again |
    | in a group         | not there          | that it was replaced, and by which order where that is named        |
    | in none            | any                | the successor's id: it is somebody else's order                     |
    """
    if raw.get("status") != "REPLACED":
        return report
    is_beside = heir is not None and PARENT in heir and heir[PARENT] == raw.get(PARENT)
    ended = closed(raw)
    if not is_beside and PARENT in raw and ended is not None and utcnow() - ended < LISTED_WITHIN:
        return replace(report, status=BrokerStatus.UNKNOWN)
    if heir is None:
        return report
    return replace(report, replaced_by=order_id(heir), heir=order_report(heir, odd) if is_beside else None)
