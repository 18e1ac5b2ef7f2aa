"""One transaction over some orders: lock them, apply what happened, write it in a handful of statements.

A batch of a hundred orders costs the same number of statements as one. What has to follow a change (a ring, a cancel of
a stray) is collected in the batch's effects, and done once, after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast
from weakref import proxy

from sqlalchemy import Connection, select

from models.clock import utcnow
from models.record.asking import Questionnaire
from models.record.baselines import follow
from models.record.database import Database
from models.record.groups import keep_together
from models.record.order import OrderRecord
from models.record.rows import AttemptRow, FillRow, ReadableOrder, by_name
from models.record.soundness import deny, is_new, unsound
from models.record.statements import Query, among, insert_many, together, update_many
from models.record.tables import attempts, fills, order_events, orders
from models.record.told import changed
from models.record.tombstones import archived_rows, not_there
from models.record.usage import add_to_tallies, difference, is_counted, total, uses
from models.reports import Report

_MINE = among(orders.c.client_order_id, "ids")
#: Rows of orders are locked in one order, so that two batches never deadlock. Who writes an event of an order shares
#: its key, which nobody changes: neither has to wait for the other.
_LOCKED = select(orders).where(_MINE).order_by(orders.c.client_order_id).with_for_update(key_share=True)
_ORDERS = Query(_LOCKED, ReadableOrder)
_ATTEMPTS = Query(select(attempts).where(among(attempts.c.client_order_id, "ids")), AttemptRow)
_FILLS = Query(select(fills).where(among(fills.c.client_order_id, "ids")), FillRow)
#: What tells whether an order or its attempt has changed since it was read.
_MARKS = Query(
    select(orders.c.client_order_id, orders.c.updated_at, orders.c.status, attempts.c.outcome)
    .join_from(
        orders,
        attempts,
        (orders.c.client_order_id == attempts.c.client_order_id) & (orders.c.attempt_no == attempts.c.attempt_no),
    )
    .where(_MINE)
    .order_by(orders.c.client_order_id)
    .with_for_update(of=orders, key_share=True)
)


@dataclass(slots=True)
class Effects:
    """What to do once the transaction is committed."""

    #: client_order_ids to ring, by broker.
    rings: dict[str, list[str]] = field(default_factory=dict)
    #: Orders alive on an attempt that had been given up: to be canceled at the broker at once.
    strays: list[tuple[str, int]] = field(default_factory=list)
    #: Reports about no order of ours, about one whose broker id is not recorded yet, or about an unknown execution.
    unmatched: list[Report] = field(default_factory=list)

    def ring(self, broker: str, client_order_id: str) -> None:
        """Remember to wake a broker for an order."""
        self.rings.setdefault(broker, []).append(client_order_id)


def _untouched(connection: Connection, ids: Iterable[str], kept: Mapping[str, OrderRecord | None]) -> list[OrderRecord]:
    """Lock the orders of these ids, and return the kept entries that say of them what the database says."""
    entries = ((row, kept.get(row["client_order_id"])) for row in _MARKS.rows(connection, ids=sorted(ids)))
    return [e for row, e in entries if e and e.mark == (row["updated_at"], row["status"], row["outcome"])]


class OrderBatch:
    """Some orders, locked for the length of a transaction."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection = connection
        self.now = now
        #: What is applied was read together, as all that a broker has, and did not come as news.
        self.is_reading = False
        self.entries: dict[str, OrderRecord] = {}
        #: Those that it has denied, as their rows are no orders: nobody who goes over the entries meets them.
        self.denied: dict[str, OrderRecord] = {}
        self.effects = Effects()

    @classmethod
    def open(
        cls,
        connection: Connection,
        ids: Iterable[str],
        now: datetime,
        *,
        kept: Mapping[str, OrderRecord | None] | None = None,
    ) -> OrderBatch:
        """Lock the orders of these ids, in one order of ids so that two batches never deadlock.

        Args:
            connection: of the transaction.
            ids: client_order_ids; those that do not exist are left out.
            now: the time of the transaction.
            kept: entries as an earlier batch wrote them; one that nobody has touched since is not read again.
        """
        wanted = set(ids)
        untouched = _untouched(connection, wanted, kept) if kept else []
        batch = cls(connection, now)
        if to_read := wanted - {entry.id for entry in untouched}:
            batch = cls.of(connection, _ORDERS.rows(connection, ids=sorted(to_read)), now)
        for entry in untouched:
            tries = {number: row.copy() for number, row in entry.attempts.items()}
            batch.entries[entry.id] = OrderRecord(proxy(batch), entry.order.copy(), tries)
            batch.entries[entry.id].count()
        return batch

    @classmethod
    def of(cls, connection: Connection, rows: Iterable[ReadableOrder], now: datetime) -> OrderBatch:
        """Open a batch over the rows of orders that were just read, and locked."""
        batch = cls(connection, now)
        batch.add(rows)
        return batch

    def add(self, rows: Iterable[ReadableOrder]) -> None:
        """Take in the rows of more orders that were just read, and locked; a row that is no order is denied at once."""
        new = [entry for row in rows if (entry := self._read(row)) is not None]
        self.entries |= {entry.id: entry for entry in new}
        if begun := [entry.id for entry in new if entry.order["attempt_no"]]:
            for attempt in _ATTEMPTS.rows(self.connection, ids=begun):
                self.entries[attempt["client_order_id"]].attempts[attempt["attempt_no"]] = attempt
            for id_ in begun:
                self.entries[id_].count()

    def _read(self, row: ReadableOrder) -> OrderRecord | None:
        """Return the entry of a row, or None of one that is no order."""
        entry = OrderRecord(proxy(self), row)
        why = unsound(row) if is_new(row) else None
        if why is None:
            return entry
        deny(entry, why)
        self.denied[entry.id] = entry
        return None

    def last_event(self, client_order_id: str, kinds: Collection[str]) -> list[tuple[str, str | None]]:
        """Return kind and detail of an order's last recorded event of these kinds, if there is one."""
        e = order_events.c
        mine = select(e.kind, e.detail).where(e.client_order_id == client_order_id, e.kind.in_(kinds))
        return [(row.kind, row.detail) for row in self.connection.execute(mine.order_by(e.id.desc()).limit(1))]

    def load_fills(self) -> None:
        """Read the executions of all orders in the batch whose executions were not read before."""
        unread = [entry for entry in self.entries.values() if entry.known_fills is None]
        for entry in unread:
            entry.known_fills = []
        for row in _FILLS.rows(self.connection, ids=[entry.id for entry in unread]):
            self.entries[row["client_order_id"]].fills.append(row)

    def __getitem__(self, client_order_id: str) -> OrderRecord:
        return self.entries.get(client_order_id) or self.denied[client_order_id]

    def get(self, client_order_id: str) -> OrderRecord | None:
        """Return the entry, or None where there is no such order."""
        return self.entries.get(client_order_id) or self.denied.get(client_order_id)

    def find(self, client_order_id: str) -> OrderRecord:
        """Return the entry, of an archived order what is left of it: it has ended, and nothing of it is written.

        Raises:
            NotFound: there is no such order.
        """
        if (found := self.get(client_order_id)) is not None:
            return found
        if (row := archived_rows(self.connection, [client_order_id]).get(client_order_id)) is None:
            raise not_there(self.connection, client_order_id)
        return OrderRecord(proxy(self), cast("ReadableOrder", row))

    def write(self, *, ending: bool = False) -> None:
        """Write everything that changed, and nothing else; the transaction's end makes it durable.

        Args:
            ending: nothing is left to do in the transaction, so that its commit goes along where it can.
        """
        keep_together(self)
        connection, entries = self.connection, [*self.entries.values(), *self.denied.values()]
        begun = [e.attempts[no] for e in entries for no in e.new_attempts]
        moved, tallies = [move for e in entries for move in e.moves()], Questionnaire(connection)
        if counted := [e for e in entries if is_counted(e.attempts)]:
            used = total(difference(e.used, uses(e.order, e.attempts)) for e in counted)
            add_to_tallies(tallies, used)
        with together(connection, ending=ending and not moved):
            update_many(connection, orders, [change for e in entries for change in e.order_changes()])
            insert_many(connection, attempts, [{n: v for n, v in row.items() if v is not None} for row in begun])
            update_many(connection, attempts, [change for e in entries for change in e.attempt_changes()])
            insert_many(connection, fills, [by_name(row) for e in entries for row in e.new_fills])
            update_many(connection, fills, [change for e in entries for change in e.fill_changes()])
            insert_many(connection, order_events, [row for e in entries for row in e.events])
            take = tallies.send()
        take()
        changed(connection, [e.id for e in entries if e.events or e.changed])
        self.tell()
        if moved:
            follow(connection, moved, self.now)

    def tell(self) -> None:
        """Write the log lines of what has happened to the orders."""
        for entry in (*self.entries.values(), *self.denied.values()):
            entry.tell()


def change_one(
    database: Database, client_order_id: str, how: Callable[[OrderRecord], object]
) -> tuple[OrderRecord, Effects]:
    """Change one order in a transaction; returns it as it is then, and what is to follow.

    Raises:
        NotFound: there is no such order.
    """

    def work(connection: Connection) -> tuple[OrderRecord, Effects]:
        batch = OrderBatch.open(connection, [client_order_id], utcnow())
        entry = batch.find(client_order_id)
        how(entry)
        batch.write()
        return entry, batch.effects

    return database.transact(work)
