"""Reading an account's orders at TDA or Schwab: one by its id, many by when they were entered, and look-alikes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

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
        self._broker, self._rest, self._dialect, self._path = broker, rest, dialect, path

    def by_id(self, order_id: str) -> Raw | None:
        """Read one order; None if the broker does not know the id."""
        try:
            return self._rest.read(self._path(f"/orders/{segment(order_id)}"), None, dict)
        except NotPermitted as error:
            if error.code != "404":
                raise
            return None

    def around(self, refs: Sequence[OrderRef]) -> list[Raw]:
        """Read the orders entered when these may have been."""
        return self._entered(
            min(ref.sent_at for ref in refs) - BEFORE, min(max(ref.sent_at for ref in refs), utcnow()) + AFTER
        )

    def look_alikes(self, ref: OrderRef, wanted: read.Terms, rows: Sequence[Raw]) -> list[Raw]:
        """Return the orders around a send that have its terms and belong to nobody else (BROKERS.md 3.6)."""
        start, end = (ref.sent_at - BEFORE).replace(microsecond=0), ref.sent_at + AFTER
        others = ref.known | ref.baseline
        return [
            raw
            for raw in rows
            if str(raw.get("orderId")) not in others
            and read.is_same(raw, wanted)
            and start <= (read.entered(raw) or start) <= end
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
        rows = self._rest.read(self._path("/orders"), query, list)
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
