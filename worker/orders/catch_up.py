"""Read what updates may have missed: executions, the orders that are live in our books, and other people's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

import structlog
from sqlalchemy import ColumnElement, Connection, RowMapping, Table, func, select

from models.errors import CorroError
from models.record import fills as order_fills
from models.record.batch import Effects, OrderBatch
from models.record.destinations import is_behind
from models.record.matching import Index, index_of, place_of, sent
from models.record.order import Row
from models.record.rows import AttemptRow, ReadableOrder
from models.record.tables import UNSETTLED, attempts, fills, order_events, orders, position_ledgers
from models.reports import FillReport, Found, OrderReport, Report, Sighting
from models.settings import Settings
from models.troubles import trouble
from models.vocabulary import LIVE, UNEXPLAINED, Outcome, Status
from worker.brokers.base import BrokerInterface, OrderRef
from worker.fleet.reads import Reads
from worker.gate import Gate
from worker.orders import changed_there
from worker.orders.batches import Batches
from worker.orders.loose_ends import Loose, LooseEnds, is_due
from worker.orders.record import Recorder
from worker.orders.windows import OVERLAP, Patience, Window
from worker.positions.external import External
from worker.positions.parted import part_ids
from worker.runtime.clock import elapsed, utcnow
from worker.runtime.isolate import isolate
from worker.runtime.said import LastingTrouble

log = structlog.get_logger()

#: How far back the first reading goes.
_FIRST_LOOK = timedelta(days=1)
#: What is not settled is asked for again after pauses from this to that, seconds, so many orders at once.
_AGAIN_S, _LONGEST_S, _AT_ONCE = 10.0, 600.0, 50
#: What is inferred, or has no price, is asked for again for so long.
_HOPE = timedelta(days=7)


class CatchUp:
    """Reads one broker's orders and executions, and books them.

    Args:
        settings: the settings.
        broker: the adapter.
        gate: of the broker.
        batches: for transactions and what follows.
        recorder: for reports.
        reads: notes how readings go.
    """

    def __init__(
        self,
        settings: Settings,
        broker: BrokerInterface,
        gate: Gate,
        batches: Batches,
        recorder: Recorder,
        reads: Reads,
    ) -> None:
        self.timing, self.broker, self.gate = settings.timing, broker, gate
        self.batches, self.database, self.recorder = batches, batches.database, recorder
        self.external = External(self.database, broker.name)
        self.window = Window(broker.capabilities.lookback)
        self.loose_ends = LooseEnds(settings, batches, broker.name)
        self._patience, self._reads = Patience(_AGAIN_S, _LONGEST_S), reads
        self._unreadable = LastingTrouble(broker=broker.name)

    def open_orders(self) -> None:
        """Read again what is live at this broker in our books, or not settled, if anything is."""
        with self.database.read() as connection:
            idle = not self._live_rows(connection) and not self._unsettled(connection)
        if self.window.is_wanted or not idle:
            self.read()

    def read(self, *, everything: bool = False) -> bool:
        """Read executions since the last reading and the orders at this broker, ours and others', and batch them.

        Args:
            everything: completed orders as well (after a reconnect); else only where an order has gone missing.

        Returns:
            Whether executions could be read; where they cannot be listed, the orders' own totals tell what was filled.

        Raises:
            CorroError: the orders could not be read.
        """
        begun = utcnow()
        with self.database.read() as connection:
            live = self._live_rows(connection)
            since = self.window.since(self._long_way(connection), begun)
            again = self._again(self._unsettled(connection))
        if again:
            since = min(since, self.window.capped(min(at for at, _ in again.values()) - OVERLAP, begun))
        fills = self._fills(since)
        with self._reads.of("orders"):
            listed = list(self.broker.get_orders(open_only=not everything, since=since if everything else None))
        by_id = {r.broker_order_id: r for r in listed}
        gone = [Loose(ref, row) for ref, row in live if ref.broker_order_id not in by_id and is_due(row, begun)]
        missed = [*(loose.ref for loose in gone), *(ref for _, ref in again.values())]
        found = self._find(missed) if missed else []
        reports: list[Report] = [*(fills or []), *(r for ref, _ in live if (r := by_id.get(ref.broker_order_id)))]
        reports += [s.report for s in found if isinstance(s, Found)]
        alive = {ref.broker_order_id for ref, _ in live}
        # One that has ended in our books, or was given up, and is at work at the broker all the same.
        reports += [r for r in listed if r.at_work and r.broker_order_id not in alive]
        self.apply(reports)
        self._take_changes([(ref, r) for ref, _ in live if (r := by_id.get(ref.broker_order_id))], begun)
        self.loose_ends.note(list(zip(gone, found, strict=False)), begun)
        decided = self.external.note([*(fills or []), *listed, *self._vanished(by_id)])
        if fills is not None:
            self.window.done(begun)
            if decided:
                self.external.read_until(begun)
        self._ask_about(fills or [])
        return fills is not None

    def _take_changes(self, live: Sequence[tuple[OrderRef, OrderReport]], begun: datetime) -> None:
        """Take what somebody has changed at a broker where an order keeps its id."""
        if self.broker.capabilities.replaces != "in_place":
            return
        if changed := changed_there.shown_otherwise(live, self.recorder.rewrites):
            changed_there.take(self.batches, self.broker.name, changed, self.recorder.rewrites, begun)

    # -- WHAT FITS NOTHING ---
    def leave(self, reports: Sequence[Report]) -> None:
        """Take pushed reports that fit nothing of ours after a while: they are others', or change what nobody knows."""
        self._ask_about([report for report in reports if isinstance(report, FillReport)])
        self.external.note(reports)

    def _ask_about(self, reports: Sequence[FillReport]) -> None:
        """Question an order of which an execution was changed that the record does not have, and read it all anew.

        It is said once, loudly; what the listings show then is booked, and nothing is made up before.
        """
        if not (changes := [report for report in reports if report.amends]):
            return
        for began, told in isolate(self._unexplained, changes, "change_not_noted"):
            if told:
                self.window.want(began)
                for words in told:
                    log.error(UNEXPLAINED, broker=self.broker.name, why=words)

    def _unexplained(self, changes: Sequence[FillReport]) -> tuple[datetime, list[str]]:
        """Find the orders whose changes fit no execution of the record.

        Returns:
            When the oldest of them was made, and the changes that had not been noted before, in words.
        """
        index: Index = {}

        def opened(connection: Connection) -> OrderBatch:
            index.update(index_of(connection, self.broker.name, changes))
            return OrderBatch.open(connection, {place[0] for place in index.values()}, utcnow())

        def work(batch: OrderBatch) -> tuple[datetime, list[str]]:
            began, told = batch.now, list[str]()
            for report in changes:
                client_order_id, number = place_of(report, index) or ("", 0)
                entry = batch.get(client_order_id)
                if entry is None or not order_fills.is_unexplained(entry, number, report):
                    continue
                words = order_fills.unexplained(entry, number, report)
                e = order_events.c
                same = (e.client_order_id == entry.id) & (e.kind == UNEXPLAINED) & (e.detail == words)
                if words in told or batch.connection.execute(select(e.id).where(same).limit(1)).first() is not None:
                    continue
                entry.note(UNEXPLAINED, words)
                order_fills.keep_bust(entry, number, report)
                told.append(words)
                began = min(began, entry.order["created_at"])
            return began, told

        found, _ = self.batches.over(opened, work)
        return found

    # -- ASKED FOR AGAIN ---
    def _unsettled(self, connection: Connection) -> list[RowMapping]:
        """Return orders of which something is inferred, or has no price: (order, attempt, when it was filled)."""
        query = (
            select(orders, attempts, fills.c.filled_at)
            .join_from(fills, orders, fills.c.client_order_id == orders.c.client_order_id)
            .join(
                attempts,
                (attempts.c.client_order_id == fills.c.client_order_id) & (attempts.c.attempt_no == fills.c.attempt_no),
            )
            .where(fills.c.broker == self.broker.name, UNSETTLED, fills.c.filled_at > utcnow() - _HOPE)
            .order_by(fills.c.filled_at.desc())
            .limit(_AT_ONCE)
        )
        return list(connection.execute(query).mappings())

    def _again(self, rows: Sequence[RowMapping]) -> dict[str, tuple[datetime, OrderRef]]:
        """Return those that are due to be asked for again, with when they were filled."""
        found = {
            ref.order.client_order_id: (row[fills.c.filled_at], ref)
            for row in rows
            if (ref := readable(row)) is not None
        }
        return found if self._patience.is_due(found, elapsed()) else {}

    def _vanished(self, listed: Mapping[str | None, OrderReport]) -> list[OrderReport]:
        """Read what became of other people's orders that are not listed as open any more."""
        gone, began = self.external.vanished(part_ids(listed.values()))
        if not gone:
            return []
        since = self.window.capped(began, utcnow()) if began else None
        found = self.broker.get_orders(open_only=False, since=since)
        self.external.lose(set(gone) - part_ids(found))
        return [report for report in found if not part_ids([report]).isdisjoint(gone)]

    def _find(self, refs: Sequence[OrderRef]) -> Sequence[Sighting]:
        with self._reads.of("single orders"):
            return self.broker.find_orders(refs)

    def _fills(self, since: datetime) -> Sequence[FillReport] | None:
        """Read executions since a moment; None where they cannot be read, which is said once."""
        try:
            with self._reads.of("executions"):
                found = [replace(fill, listed=True) for fill in self.broker.get_fills(since)]
        except CorroError as error:
            self._unreadable.lasts("fills_unreadable", str(self.gate.heeded(error)))
            return None
        self._unreadable.is_over()
        return found

    def look_again(self, refs: Sequence[OrderRef]) -> Sequence[Sighting]:
        """Read orders again and apply what they are now; returns what was seen, nothing where they cannot be read."""
        if not refs:
            return ()
        try:
            sightings = self._find(refs)
        except CorroError as error:
            log.warning("cannot_read_again", broker=self.broker.name, error=str(self.gate.heeded(error)))
            return ()
        found: list[Report] = [
            _under_our_id(seen.report, ref)
            for ref, seen in zip(refs, sightings, strict=True)
            if isinstance(seen, Found)
        ]
        self.apply(found)
        return sightings

    def apply(self, reports: Sequence[Report]) -> None:
        """Apply what was read in one transaction and do what follows."""
        for effects in isolate(self._apply, reports, "report_not_applied") if reports else ():
            self.batches.follow_up(effects)

    def _apply(self, reports: Sequence[Report]) -> Effects:
        return self.database.transact(lambda c: self.recorder.updates(c, reports, utcnow(), infer=True))

    def live(self, connection: Connection, *which: ColumnElement[bool]) -> list[OrderRef]:
        """Return the orders that are live at this broker in our books; `which` narrows them."""
        return [ref for ref, _ in self._live_rows(connection, *which)]

    def _live_rows(self, connection: Connection, *which: ColumnElement[bool]) -> list[tuple[OrderRef, AttemptRow]]:
        """Return the live orders with the rows of their attempts.

        The way leads from the few live orders to their attempts. What the attempts have to be is hidden from the
        planner: SQLite, which has no statistics, would begin with every attempt that was ever accepted.
        """
        broker, outcome = (func.coalesce(column, "") for column in (attempts.c.broker, attempts.c.outcome))
        query = (
            select(orders, attempts)
            .join_from(
                orders,
                attempts,
                (orders.c.client_order_id == attempts.c.client_order_id)
                & (orders.c.attempt_no == attempts.c.attempt_no),
            )
            .where(broker == self.broker.name, outcome == str(Outcome.ACCEPTED))
            .where(orders.c.status.in_([str(s) for s in (*LIVE, Status.SUBMITTED)]), *which)
        )
        rows = connection.execute(query).mappings()
        return [(ref, cast("AttemptRow", _part(row, attempts))) for row in rows if (ref := readable(row)) is not None]

    def _long_way(self, connection: Connection) -> datetime:
        """Return where the first reading of a process begins: from then on, each goes back to the one before."""
        if not self.window.is_first:
            return utcnow()
        name = self.broker.name
        ledger = select(func.min(position_ledgers.c.fills_read_at)).where(is_behind(position_ledgers.c.broker, name))
        last = connection.execute(ledger).scalar()
        if last is None:
            last = connection.execute(select(func.max(fills.c.filled_at)).where(fills.c.broker == name)).scalar()
        # Not from the last fill alone: one that was missed may be older than one that was seen.
        oldest = connection.execute(
            select(func.min(orders.c.submitted_at)).where(
                orders.c.broker == name, orders.c.status.in_([str(s) for s in (*LIVE, Status.SUBMITTED)])
            )
        ).scalar()
        known = [at for at in (last, oldest) if at is not None]
        return min(known) if known else utcnow() - _FIRST_LOOK


def _under_our_id(report: OrderReport, ref: OrderRef) -> OrderReport:
    """Give a report our id where the broker has none of its own to match by."""
    if report.broker_client_order_id or report.broker_order_id == ref.broker_order_id:
        return report
    return replace(report, broker_client_order_id=ref.broker_client_order_id)


def order_ref(order: ReadableOrder, attempt: AttemptRow, known: frozenset[str] = frozenset()) -> OrderRef:
    """Return what an adapter needs to find an attempt at its broker."""
    return OrderRef(
        order=sent(order, attempt),
        broker_client_order_id=attempt["broker_client_order_id"],
        broker_order_id=attempt["broker_order_id"],
        sent_at=attempt["sent_at"] or attempt["started_at"],
        baseline=frozenset(attempt["baseline"] or ()),
        known=known,
        session=attempt["session"],
        session_order_id=attempt["session_order_id"],
    )


def readable(row: RowMapping) -> OrderRef | None:
    """Return what an adapter needs of an order and an attempt; None where they make no sense: the others go on."""
    try:
        return order_ref(cast("ReadableOrder", _part(row, orders)), cast("AttemptRow", _part(row, attempts)))
    except Exception as error:
        log.error("row_unreadable", client_order_id=row["client_order_id"], error=trouble(error))
        return None


def _part(row: RowMapping, table: Table) -> Row:
    return {column.name: row[column] for column in table.c}
