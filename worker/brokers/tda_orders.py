"""Reading an account's orders at TDA or Schwab: one by its id, many by when they were entered, and look-alikes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from models.errors import NotPermitted, UnreadableReply
from models.messages import utcnow
from models.reports import OrderReport
from worker.brokers import tda_reports as read
from worker.brokers.base import OrderRef
from worker.brokers.tda_dialects import Dialect
from worker.brokers.tda_rest import TdaRest
from worker.brokers.values import Raw, segment

#: An order is looked for from this long before its send, for clocks that differ, until this long after it.
BEFORE, AFTER = timedelta(seconds=5), timedelta(seconds=120)
#: A listing that holds as many may have been cut.
MAX_RESULTS = 3000


class OrderBook:
    """The orders of one account.

    Args:
        broker: name from the settings.
        rest: the way there.
        dialect: how windows are written.
        path: completes a path under the account.
    """

    def __init__(self, broker: str, rest: TdaRest, dialect: Dialect, path: Callable[[str], str]) -> None:
        self._broker, self._rest, self._dialect, self.path = broker, rest, dialect, path

    def by_id(self, order_id: str) -> Raw | None:
        """Read one order; None if the broker does not know the id."""
        try:
            return self._rest.read(self.path(f"/orders/{segment(order_id)}"), None, dict)
        except NotPermitted as error:
            if error.code != "404":
                raise
            return None

    def around(self, refs: Sequence[OrderRef]) -> list[Raw]:
        """Read the orders entered when these may have been."""
        return self._entered(
            min(ref.sent_at for ref in refs) - BEFORE, min(max(ref.sent_at for ref in refs), utcnow()) + AFTER
        )

    def candidates(self, ref: OrderRef, wanted: read.Terms) -> list[Raw]:
        """Return what an order could be: the one with its id, or else those that look like it."""
        raw = self.by_id(ref.broker_order_id) if ref.broker_order_id else None
        if raw is not None and read.fits(raw, wanted):
            return [raw]
        return self.look_alikes(ref, wanted, self.around([ref]))

    def the_one(self, ref: OrderRef, wanted: read.Terms) -> Raw | None:
        """Return the one order that is meant; None if there is none, or more than one."""
        found = self.candidates(ref, wanted)
        return found[0] if len(found) == 1 else None

    def look_alikes(self, ref: OrderRef, wanted: read.Terms, rows: Sequence[Raw]) -> list[Raw]:
        """Return the orders around a send that have its terms and belong to nobody else (BROKERS.md 3.6).

        An order made by a replace trades only what the old one had left: if nothing has the terms exactly, those count
        that want fewer shares, as far as orders replaced around that time have filled the rest.
        """
        free = self._free(ref, rows)
        same = [raw for raw in free if read.is_same(raw, wanted)]
        parts = [raw for raw in free if read.fits(raw, wanted)]
        if same or not parts:
            return same
        filled = self._filled_by_replaced(ref, parts[0])
        return [raw for raw in parts if read.missing(raw, wanted) <= filled]

    def _filled_by_replaced(self, ref: OrderRef, heir: Raw) -> Decimal:
        """Return what replaced orders of the same symbol and side have filled, if one was replaced around that time."""
        start, end = self._window(ref)
        rows = self.entered_since(ref.sent_at - self._dialect.longest_window)
        kin = [raw for raw in rows if read.is_replaced(raw) and read.is_kin(raw, heir)]
        if not any(start <= (read.closed(raw) or start) <= end for raw in kin):
            return Decimal(0)
        return sum((read.filled(raw) for raw in kin), Decimal(0))

    @staticmethod
    def _window(ref: OrderRef) -> tuple[datetime, datetime]:
        return (ref.sent_at - BEFORE).replace(microsecond=0), ref.sent_at + AFTER

    def _free(self, ref: OrderRef, rows: Sequence[Raw]) -> list[Raw]:
        start, end = self._window(ref)
        others = ref.known | ref.baseline
        return [
            raw
            for raw in rows
            if str(raw.get("orderId")) not in others and start <= (read.entered(raw) or start) <= end
        ]

    def reports(self, start: datetime) -> list[OrderReport]:
        """Read every order entered since, oldest first."""
        rows = self.entered_since(start)
        found = self._rest.parse(lambda them: [read.order_report(row) for row in them if _is_plain(row)], rows)
        return sorted(found, key=lambda order: (order.submitted_at or start, str(order.broker_order_id)))

    def entered_since(self, start: datetime) -> list[Raw]:
        """Read every order entered since a time."""
        return self._entered(start, utcnow() + BEFORE)

    def _entered(self, start: datetime, end: datetime) -> list[Raw]:
        found: dict[str, Raw] = {}
        while start < end:
            until = min(start + self._dialect.longest_window, end)
            found |= {str(raw.get("orderId")): raw for raw in self._listed(start, until)}
            start = until
        return list(found.values())

    def _listed(self, start: datetime, end: datetime) -> list[Raw]:
        """Read one listing; one that may have been cut is read again in halves."""
        query = {"maxResults": MAX_RESULTS, **self._dialect.window(start, end)}
        rows = self._rest.read(self.path("/orders"), query, list)
        if any(not isinstance(row, dict) for row in rows):
            raise UnreadableReply(f"{self._broker}: a listing of orders holds something else", broker=self._broker)
        if len(rows) < MAX_RESULTS:
            return rows
        if end - start < timedelta(hours=1):
            raise UnreadableReply(f"{self._broker}: more than {MAX_RESULTS} orders in one listing", broker=self._broker)
        middle = start + (end - start) / 2
        return self._listed(start, middle) + self._listed(middle, end)


def _is_plain(raw: Raw) -> bool:
    """Tell whether an order has a leg of its own; a bracket made by hand in the broker's own tools may not."""
    return bool(raw.get("orderLegCollection"))
