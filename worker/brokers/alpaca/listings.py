"""Alpaca's listings: every page of orders, executions and positions, and the rows in them that cannot be read.

One row that nobody can read closes nothing but what it is about: an order is reported by its ids as unknown, an
execution is left to its order's totals, a position is left out. Each is said once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import TypeVar

from models.errors import BrokerError, InstrumentUnknown, UnreadableReply
from models.groups import GroupKind
from models.reports import Ambiguous, BrokerStatus, FillReport, Found, Missing, OrderReport, PositionReport, Sighting
from worker.brokers.alpaca import reports as read
from worker.brokers.alpaca.account import position_report
from worker.brokers.alpaca.executions import Executions, amended, of_activity
from worker.brokers.alpaca.legs import AlpacaLegs
from worker.brokers.alpaca.rest import AlpacaRest
from worker.brokers.base import OrderRef
from worker.brokers.oddities import Oddities, named
from worker.brokers.rest.reading import Paging, Query
from worker.brokers.values import UNREADABLE, Raw, identity, rfc3339, segment, soft

T = TypeVar("T")

#: Orders that are cheaper to look up one by one than in a listing.
_FEW = 3
#: An order was submitted within so much of its send, by two clocks.
_CLOCKS_DIFFER = timedelta(minutes=2)
#: An order with legs is of one day.
_LEGS_LIVE = timedelta(days=1)
_NONE: Mapping[str | None, OrderReport] = {}
#: Rows on a page, as many as Alpaca allows.
ORDERS_PAGE, FILLS_PAGE = 500, 100


class AlpacaListings:
    """The listings of one account.

    Args:
        broker: name from the settings.
        rest: returns the trading API, or raises NotConnected.
        executions: knows what was told before.
        odd: is told of rows that cannot be read.
        legs: knows which orders are legs.
    """

    def __init__(
        self, broker: str, rest: Callable[[], AlpacaRest], executions: Executions, odd: Oddities, legs: AlpacaLegs
    ) -> None:
        self._broker, self._rest, self._executions, self._odd, self._legs = broker, rest, executions, odd, legs

    def orders(self, query: Query, most_pages: int | None = None) -> list[OrderReport]:
        """Read every page, newest first, or the first few; they overlap by a millisecond so that no tie falls between.

        Raises:
            BrokerError: a page could not be read, or there is no end to them.
        """
        found: dict[tuple[str | None, str | None], OrderReport] = {}
        paged: dict[str, str | int | None] = {**query, "limit": ORDERS_PAGE, "direction": "desc", "nested": "true"}
        pages = Paging(self._broker, "orders")
        while True:
            rows = self._rest().read("/orders", paged, list)
            page = [self._order(row) for row in rows]
            before = len(found)
            for order in (one for parent in page for one in (parent, *parent.legs)):
                found.setdefault((order.broker_order_id, order.broker_client_order_id), order)
            most_pages = most_pages and most_pages - 1
            if len(rows) < ORDERS_PAGE or most_pages == 0:
                return self._with_heirs(list(found.values()))
            oldest = min((order.submitted_at for order in page if order.submitted_at), default=None)
            if len(found) == before or oldest is None:
                raise UnreadableReply(
                    f"{self._broker}: a listing repeats its page, so it has no end", broker=self._broker
                )
            paged["until"] = pages.turn(rfc3339(oldest + timedelta(milliseconds=1)))

    def fills(self, since: datetime) -> list[FillReport]:
        """Read the executions since a time from the account's activities, oldest first."""
        found: dict[tuple[str, int], FillReport] = {}
        query: dict[str, str | int | None] = {
            "after": rfc3339(since - timedelta(seconds=1)),
            "direction": "asc",
            "page_size": FILLS_PAGE,
        }
        pages = Paging(self._broker, "activities")
        while True:
            asked_at = monotonic()
            rows = self._rest().read("/account/activities/FILL", query, list)
            beside = {soft(amended, row) for row in rows}
            for fill in self._readable("execution", rows, partial(self._fill, asked_at, beside)):
                if fill.filled_at >= since:
                    found[fill.execution_id, fill.revision] = fill
            if len(rows) < FILLS_PAGE:
                return self._of_packages(sorted(found.values(), key=lambda fill: fill.filled_at), since)
            last = next((name for row in reversed(rows) if (name := soft(lambda one: identity(one["id"]), row))), None)
            query["page_token"] = pages.turn(last)

    def _of_packages(self, fills: list[FillReport], since: datetime) -> list[FillReport]:
        """Return executions of legs as those of their packages; what nobody knows yet is looked up in one listing."""
        if unknown := self._legs.unknown(fills):
            listed = self.orders({"status": "all", "after": rfc3339(since - _LEGS_LIVE)})
            self._legs.are_none(unknown & {order.broker_order_id for order in listed})
        return [self._legs.of_package(fill) for fill in fills]

    def positions(self) -> list[PositionReport]:
        """Read every holding; one whose size or direction cannot be read has none."""
        rows = self._rest().read("/positions", None, list)
        return self._readable("position", rows, self._position)

    def find(self, ref: OrderRef) -> Sighting:
        """Look the order up by the id we gave it; unique at Alpaca for ever."""
        our_id = ref.broker_client_order_id
        try:
            raw = self._rest().read("/orders:by_client_order_id", {"client_order_id": our_id}, dict)
        except InstrumentUnknown as error:
            if error.code != "40410000":
                raise
            return self._listed(ref) or Missing(
                evidence=f"GET orders:by_client_order_id {our_id}: 404 {error.code}, and no listing of that time has it"
            )
        report = self._rest().parse(read.order_report, raw)
        hides = bool(ref.order.legs) and not report.package
        if hides or (report.linked and not report.legs and ref.order.group is not None and ref.order.group.is_lead):
            raw = self._rest().read(f"/orders/{segment(report.broker_order_id or '')}", {"nested": "true"}, dict)
            report = self._rest().parse(read.order_report, raw)
        self._legs.see(raw)
        if report.broker_client_order_id != our_id:
            raise UnreadableReply(
                f"{self._broker}: asked for {our_id}, was shown {report.broker_client_order_id}", broker=self._broker
            )
        return Found(report=self.followed(report))

    def _listed(self, ref: OrderRef) -> Found | None:
        """Look for an order that is not found by its id in the listing of its time: one 404 alone is no proof.

        Alpaca has answered 404, with the code of an order that is not there, where the path was not served for a while
        (docs/facts/alpaca.md#3.8).
        """
        begins, ends = ref.sent_at - _CLOCKS_DIFFER, ref.sent_at + _CLOCKS_DIFFER
        listed = self.orders({"status": "all", "after": rfc3339(begins), "until": rfc3339(ends)})
        ours = [order for order in listed if order.broker_client_order_id == ref.broker_client_order_id]
        return Found(report=ours[0]) if ours else None

    def followed(self, report: OrderReport, shown: Mapping[str | None, OrderReport] = _NONE) -> OrderReport:
        """Return a leg that was replaced together with the order that took its place (docs/facts/alpaca.md#2.10).

        One whose successor cannot be read has a state that nobody knows: it is read again.
        """
        waited_for = bool(report.legs) and report.linked != GroupKind.OCO
        if report.status is not BrokerStatus.REPLACED or not report.linked or waited_for or not report.replaced_by:
            return report
        try:
            heir = shown.get(report.replaced_by) or self._numbered(report.replaced_by)
        except InstrumentUnknown:
            return report
        except BrokerError as error:
            self._odd.note(f"order {report.replaced_by}, in the place of {report.broker_order_id}", str(error))
            return replace(report, status=BrokerStatus.UNKNOWN)
        return replace(report, heir=heir) if heir.replaces == report.broker_order_id else report

    def _numbered(self, order_id: str) -> OrderReport:
        raw = self._rest().read(f"/orders/{segment(order_id)}", None, dict)
        return self._rest().parse(read.order_report, raw)

    def _with_heirs(self, listed: list[OrderReport]) -> list[OrderReport]:
        shown = {order.broker_order_id: order for order in listed}
        followed = {key: self.followed(order, shown) for key, order in shown.items()}
        return [
            replace(followed[order.broker_order_id], legs=tuple(followed[leg.broker_order_id] for leg in order.legs))
            for order in listed
        ]

    def find_several(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        """Look several orders up in one listing, and singly those that its first pages do not show.

        So the number of requests is bounded by that of the orders, however old they are and whatever came since.
        """
        if len(refs) <= _FEW:
            return [self._look(ref) for ref in refs]
        since = min(ref.sent_at for ref in refs) - timedelta(seconds=5)
        listed = self.orders({"status": "all", "after": rfc3339(since)}, most_pages=len(refs) // _FEW)
        shown = {o.broker_client_order_id: o for o in listed if o.status is not BrokerStatus.UNKNOWN}
        seen = [(ref, shown.get(ref.broker_client_order_id)) for ref in refs]
        return [Found(report=order) if order else self._look(ref) for ref, order in seen]

    def _look(self, ref: OrderRef) -> Sighting:
        """Look one of several up: where it cannot be read, the others still can."""
        try:
            return self.find(ref)
        except UnreadableReply as error:
            return Ambiguous(candidates=(), words=str(error))

    def _position(self, row: Raw) -> PositionReport:
        held = position_report(row)
        if held.quantity is None:
            self._odd.note(named("position", row), "it does not say how much is held, or which way")
        return held

    def _order(self, row: Raw) -> OrderReport:
        try:
            self._legs.see(row)
            return read.order_report(row)
        except UNREADABLE as error:
            self._odd.note(named("order", row), error)
        return self._rest().parse(read.ids_of, row)

    def _fill(self, asked_at: float, beside: set[str | None], row: Raw) -> FillReport:
        return self._executions.known(of_activity(row), amended(row), listed_at=asked_at, beside=beside)

    def _readable(self, what: str, rows: list[Raw], reader: Callable[[Raw], T]) -> list[T]:
        """Read the rows that can be read; where none of several can be, it is the listing that cannot.

        Raises:
            UnreadableReply: it says nothing that could be understood.
        """
        return self._rest().parse(lambda every: self._odd.readable(what, every, reader, one_may_be_odd=True), rows)
