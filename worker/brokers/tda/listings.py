"""Reading an account's orders at TDA or Schwab: one by its id, many by when they were entered, and look-alikes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from models.errors import NotPermitted, UnreadableReply
from models.messages import utcnow
from models.reports import OrderReport
from models.troubles import trouble
from worker.brokers.base import OrderRef
from worker.brokers.broker_clock import Age, Span, age
from worker.brokers.oddities import Oddities
from worker.brokers.tda import shapes
from worker.brokers.tda.dialects import TdaDialect
from worker.brokers.tda.groups import with_heir
from worker.brokers.tda.likeness import Likeness, Terms, compare, could_be, is_kin, missing
from worker.brokers.tda.memory import OrderMemory
from worker.brokers.tda.reports import order_reports
from worker.brokers.tda.rest import TdaRest
from worker.brokers.values import UNREADABLE, Raw, segment

#: An order is looked for from this long before its send, for clocks that differ, until this long after it.
BEFORE, AFTER = timedelta(seconds=5), timedelta(seconds=120)
#: A listing that holds as many may have been cut.
MAX_RESULTS = 3000
#: What is not sure about a look-alike.
NOT_COMPARED = "not every term can be compared: unreadable, or part of a group"
NOT_DATED = "it may have been entered before the send: the broker's clock is not known to the second"
BEFORE_IT = "entered before the send, so it is another order, unless the broker's clocks differ"
ELSEWHERE = "entered through another application than our orders, by its tag or without one, so it is another order"
#: Some call a replaced order canceled.
_REPLACED = ("REPLACED", "CANCELED")


class TdaListings:
    """The orders of one account.

    Args:
        broker: name from the settings.
        rest: the way there.
        dialect: how windows are written.
        path: completes a path under the account.
        odd: is told of rows that cannot be read.
    """

    def __init__(
        self, broker: str, rest: TdaRest, dialect: TdaDialect, path: Callable[[str], str], odd: Oddities
    ) -> None:
        self._broker, self._rest, self._dialect, self.path, self._odd = broker, rest, dialect, path, odd
        self.memory = OrderMemory(self._entered, self.by_id, dialect.lookback)
        #: Tags of orders that answers have proved to be ours.
        self.our_tags: set[str] = set()

    # -- ONE ---
    def by_id(self, order_id: str) -> Raw | None:
        """Read one order, also one inside another; None if the broker does not know the id."""
        try:
            raw = self._rest.read(self.path(f"/orders/{segment(order_id)}"), None, dict)
        except NotPermitted as error:
            if error.code != "404":
                raise
            return None
        named = [row for row in shapes.flat([raw]) if shapes.order_id(row) in (order_id, None)]
        return named[0] if named else None

    def the_one(self, ref: OrderRef, wanted: Terms) -> Raw | None:
        """Return the order that is meant; None if there is none, or several, or only a doubtful candidate."""
        found, doubt = self.candidates(ref, wanted)
        return found[0] if not doubt and len(found) == 1 else None

    def is_elsewhere(self, raw: Raw, more: Collection[str] = ()) -> bool:
        """Tell whether an order was entered through another application than ours (docs/facts/schwab.md#2.19).

        Args:
            raw: as it is listed.
            more: tags of ours, beside those that answers have shown; with none at all nobody can tell.
        """
        ours = self.our_tags.union(more)
        return bool(ours) and shapes.tag(raw) not in ours

    # -- LOOK-ALIKES ---
    def candidates(self, ref: OrderRef, wanted: Terms) -> tuple[list[Raw], str]:
        """Return the candidates for an order, by its id or else by its terms, and any doubt about them in words."""
        raw = self.by_id(ref.broker_order_id) if ref.broker_order_id else None
        if raw is not None and could_be(raw, wanted):
            return [raw], ""
        return self.look_alikes(ref, wanted, self.around([ref]))

    def look_alikes(self, ref: OrderRef, wanted: Terms, rows: Sequence[Raw]) -> tuple[list[Raw], str]:
        """Return the orders around a send that have its terms and belong to nobody else, and any doubt in words.

        An order made by a replace trades only what the old one had left: if nothing has the terms exactly, those count
        that want fewer shares, as far as orders replaced around that time have filled the rest.

        | terms          | entered, by the broker's clock | it is                                           |
        |----------------|--------------------------------|-------------------------------------------------|
        | compared       | at or after the send           | a candidate                                     |
        | compared       | perhaps before it              | perhaps the order: shown, never taken for it    |
        | not all        | any                            | perhaps the order: shown, never taken for it    |
        | compared       | before it                      | another order: shown if there is nothing else   |

        Where our other orders show the tag of their application, one with another tag, or with none, as a person's
        has none, is another order, too (docs/facts/schwab.md#2.19).
        """
        found: dict[Likeness, list[Raw]] = {kind: [] for kind in Likeness}
        mine = {tag for raw in rows if shapes.order_id(raw) in ref.known and (tag := shapes.tag(raw))}
        theirs: list[Raw] = []
        for raw in self._free(ref, rows):
            likeness = compare(raw, wanted)
            if self.is_elsewhere(raw, mine):
                theirs += [raw] if likeness in (Likeness.SAME, Likeness.MAYBE) else []
            else:
                found[likeness].append(raw)
        likely, doubtful = found[Likeness.SAME], found[Likeness.MAYBE]
        if not likely and (parts := found[Likeness.PART]):
            done = self._filled_by_replaced(ref, parts[0])
            likely = [raw for raw in parts if missing(raw, wanted) <= done]
        aged = {each: [raw for raw in likely if self._age(ref, raw) is each] for each in Age}
        if aged[Age.OPEN] or doubtful:
            why = NOT_COMPARED if doubtful else NOT_DATED
            return [*aged[Age.SINCE], *aged[Age.OPEN], *doubtful], why
        if aged[Age.SINCE]:
            return aged[Age.SINCE], ""
        if aged[Age.BEFORE]:
            return aged[Age.BEFORE], BEFORE_IT
        return theirs, ELSEWHERE if theirs else ""

    def _age(self, ref: OrderRef, raw: Raw) -> Age:
        sent = self._rest.clock.read(ref.sent_at) or Span(ref.sent_at, ref.sent_at)
        return age(shapes.entered(raw), sent, ref.sent_at)

    def around(self, refs: Sequence[OrderRef]) -> list[Raw]:
        """Read the orders entered when these may have been, those inside others as well."""
        windows = sorted(self.window(ref.sent_at) for ref in refs)
        joined: list[tuple[datetime, datetime]] = []
        for start, end in windows:
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        return shapes.flat(row for start, end in joined for row in self._entered(start, end))

    def _filled_by_replaced(self, ref: OrderRef, heir: Raw) -> Decimal:
        """Return how much replaced orders of the same symbol and side have filled, if any was replaced around then."""
        start, end = self.window(ref.sent_at)
        rows = shapes.flat(self.entered_since(ref.sent_at - self._dialect.longest_window))
        kin = [raw for raw in rows if raw.get("status") in _REPLACED and is_kin(raw, heir)]
        if not any(start <= (shapes.closed(raw) or start) <= end for raw in kin):
            return Decimal(0)
        return sum((shapes.filled(raw) or Decimal(0) for raw in kin), Decimal(0))

    def window(self, sent_at: datetime) -> tuple[datetime, datetime]:
        """Return between which times an order may have been entered whose send began then, wide enough for both clocks.

        Ours may have been set since, so its own time of the send counts as well as the broker's.
        """
        sent = self._rest.clock.read(sent_at) or Span(sent_at, sent_at)
        start = min(sent_at, sent.earliest) - BEFORE
        return start.replace(microsecond=0), max(min(sent_at, utcnow()), sent.latest) + AFTER

    def _free(self, ref: OrderRef, rows: Sequence[Raw]) -> list[Raw]:
        start, end = self.window(ref.sent_at)
        others = ref.known | ref.baseline
        return [
            raw
            for raw in rows
            if shapes.order_id(raw) not in others
            and start <= (shapes.entered(raw) or start) <= end
            and (shapes.legs(raw) or not raw.get("childOrderStrategies"))  # a group trades nothing itself
        ]

    # -- MANY ---
    def reports(self, rows: Iterable[Raw]) -> list[OrderReport]:
        """Read orders, and those inside them, oldest first; unreadable ones are told of and skipped."""
        nodes = shapes.flat(rows)
        heirs = shapes.successors(nodes)
        forebears = {shapes.order_id(new): old for old, new in heirs.items()}
        found: list[OrderReport] = []
        for raw in nodes:
            mine = shapes.order_id(raw)
            try:
                if mine is None:
                    raise ValueError("an order without an id")
                told = (with_heir(one, raw, heirs.get(mine), self._odd) for one in order_reports(raw, self._odd))
                found += [replace(report, replaces=forebears.get(mine)) for report in told]
            except UNREADABLE as error:
                self._odd.note(f"order {mine or raw.get('enteredTime')}", trouble(error))
        first = datetime.min.replace(tzinfo=utcnow().tzinfo)
        return sorted(found, key=lambda order: (order.submitted_at or first, str(order.broker_order_id)))

    def followed(self, report: OrderReport, raw: Raw) -> OrderReport:
        """Return the report of a replaced order with what can be told of the one that took its place.

        One in a group is looked for there: the group was entered when it was sent, however late somebody changes it.
        """
        mine, ended = shapes.order_id(raw), shapes.closed(raw)
        if mine is None or ended is None:
            return report
        second = timedelta(seconds=1)
        groups = {shapes.order_id(row): row for row in shapes.flat(self.memory.read(ended - second))}
        if shapes.PARENT in (grouped := groups.get(mine, raw)):
            heir = shapes.successors(list(groups.values())).get(mine)
            return with_heir(report, grouped, heir, self._odd)
        rows = self._entered(ended - second, ended + 2 * second)
        return with_heir(report, raw, shapes.successors(shapes.flat([raw, *rows])).get(mine), self._odd)

    def entered_since(self, start: datetime) -> list[Raw]:
        """Read every order entered since a time, the outermost ones."""
        return self._entered(start, utcnow() + BEFORE)

    def _entered(self, start: datetime, end: datetime, status: str | None = None) -> list[Raw]:
        """Read the orders entered in a window, as far back as the broker lists any."""
        start = max(start, utcnow() - self._dialect.lookback)
        found: dict[object, Raw] = {}
        while start < end:
            # One status alone has few orders: all of them in one request.
            until = min(start + (self._dialect.lookback if status else self._dialect.longest_window), end)
            found |= {shapes.order_id(raw) or id(raw): raw for raw in self._listed(start, until, status)}
            start = until
        return list(found.values())

    def _listed(self, start: datetime, end: datetime, status: str | None) -> list[Raw]:
        """Read one listing; one that may have been cut is read again in halves."""
        query: dict[str, str | int | None] = {"maxResults": MAX_RESULTS, **self._dialect.window(start, end)}
        if status:
            query["status"] = status
        told = self._rest.read(self.path("/orders"), query, list)
        rows: list[Raw] = [row if isinstance(row, dict) else {} for row in told]  # an order of which nothing is known
        if len(rows) < MAX_RESULTS:
            return rows
        if end - start < timedelta(hours=1):
            raise UnreadableReply(f"{self._broker}: more than {MAX_RESULTS} orders in one listing", broker=self._broker)
        middle = start + (end - start) / 2
        return self._listed(start, middle, status) + self._listed(middle, end, status)
