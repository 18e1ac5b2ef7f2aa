"""The positions that the record explains at a broker: baselines, the fills since, and the locks, in one transaction.

    expected = baseline + our fills since + other people's fills since

A baseline is what was there when corro first read a broker; a symbol without one began with nothing. Fills are counted
by their ids from where the baselines end (`position_ledgers`); old ones are folded into the baselines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from shlex import quote
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, Row, Table, delete, func, insert, select, update

from models.destinations import broker_of, split
from models.errors import NotFound
from models.record.baselines import shift_baseline
from models.record.cash import explaining, words_of
from models.record.database import Database
from models.record.destinations import is_at, of_account
from models.record.lot_changes import follow
from models.record.rows import PositionLedgerRow, PositionLockRow
from models.record.statements import fetch, unindexed, upsert
from models.record.tables import (
    SIDE_OF_FILL,
    external_fills,
    fills,
    orders,
    position_baselines,
    position_events,
    position_ledgers,
    position_locks,
    position_snapshots,
)
from models.vocabulary import Side, signed
from worker.control.controls import journal as control
from worker.positions.disowned import disown, turned_out_ours
from worker.positions.external import unsettled_symbols
from worker.positions.locks import words
from worker.runtime.clock import utcnow

log = structlog.get_logger()

_ZERO = Decimal(0)
#: After a fill the broker's position may be behind for this long.
SETTLE = timedelta(seconds=5)
#: What a broker has told longer ago explains no difference of now.
_TOLD_WITHIN = timedelta(days=14)
#: Fills older than this are folded into the baselines: nobody can be about to commit one any more.
_FOLD_AFTER = timedelta(minutes=10)
#: Fills of other destinations older than this are passed by: else the ledger of a broker that never fills stays where
#: it began, and whoever adds up what came since reads all executions. Longer, for who records those has another clock.
_PASS_AFTER = timedelta(days=1)


@dataclass(slots=True)
class PositionLedger:
    """The positions that the record explains at one broker, inside one transaction."""

    connection: Connection
    #: Or one of several accounts behind its login: a destination, `ibkr:ira`.
    broker: str
    fills_id: int
    external_fills_id: int
    pending: list[str]
    now: datetime
    opened_at: datetime
    baselines: dict[str, Decimal] = field(default_factory=dict)
    #: Symbol -> shares by the baseline and every fill since.
    expected: dict[str, Decimal] = field(default_factory=dict)
    locks: dict[str, PositionLockRow] = field(default_factory=dict)
    #: Symbol -> what the broker told that has explained it, in words.
    reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, connection: Connection, broker: str, sizes: Mapping[str, Decimal], unread: Collection[str] = ()
    ) -> PositionLedger:
        """Open the ledger; the first time, what is held becomes the baseline.

        Args:
            connection: of the transaction.
            broker: name from the settings; or a destination.
            sizes: shares held, by symbol.
            unread: symbols that are held and whose size could not be read: their baseline is put off.
        """
        row = _ledger(connection, broker)
        is_new = row is None
        if row is None:
            _begin(connection, broker)
            row = _ledger(connection, broker)
        assert row is not None
        ledger = cls(
            connection, broker, row["fills_id"], row["external_fills_id"], list(row["pending"]), utcnow(),
            row["opened_at"],
        )  # fmt: skip
        ledger._read()
        if is_new:
            restless = ledger.restless(SETTLE) | set(unread)
            for symbol in sorted({*sizes, *ledger.expected, *unread}):
                ledger.begin(symbol, sizes.get(symbol, _ZERO), restless)
        return ledger

    def _read(self) -> None:
        """Add up what is expected: baselines, and the fills since, ours and others'."""
        b, k = position_baselines.c, position_locks.c
        self._disown()
        rows = self.connection.execute(select(b.symbol, b.quantity).where(b.broker == self.broker))
        self.baselines = {symbol: quantity for symbol, quantity in rows}  # noqa: C416  # mypy knows rows, not pairs
        self.expected = dict(self.baselines)
        for symbol, shares in self._moved(self.fills_id, self.external_fills_id, None, None).items():
            self.expected[symbol] = self.expected.get(symbol, _ZERO) + shares
        found = fetch(self.connection, select(position_locks).where(k.broker == self.broker), PositionLockRow)
        self.locks = {row["symbol"]: row for row in found}

    def _disown(self) -> None:
        """Take back what was called external and is ours, also where it is in a baseline already."""
        e = external_fills.c
        folded = select(e.symbol, e.side, func.sum(e.quantity)).where(
            turned_out_ours(external_fills, self.broker), e.id <= self.external_fills_id
        )
        rows = self.connection.execute(folded.group_by(e.symbol, e.side)).all()
        disown(self.connection, self.broker)
        for symbol, shares in _signed(rows).items():
            self._shift(symbol, -shares)

    def _moved(
        self, own_after: int, others_after: int, own_to: int | None, others_to: int | None
    ) -> dict[str, Decimal]:
        """Add up fills, ours and others', with ids above and up to these."""
        f, e, o = fills.c, external_fills.c, orders.c
        symbol = unindexed(f.symbol)  # found by their ids, however handy an index of symbols were for the groups
        own = (
            select(symbol, SIDE_OF_FILL, func.sum(f.quantity))
            .join_from(fills, orders, f.client_order_id == o.client_order_id)
            .where(_at(fills, self.broker), f.id > own_after)
            .group_by(symbol, SIDE_OF_FILL)
        )
        others = (
            select(e.symbol, e.side, func.sum(e.quantity))
            .where(is_at(external_fills, self.broker), e.id > others_after)
            .group_by(e.symbol, e.side)
        )
        if own_to is not None and others_to is not None:
            own, others = own.where(f.id <= own_to), others.where(e.id <= others_to)
        return _signed([*self.connection.execute(own), *self.connection.execute(others)])

    def restless(self, settle: timedelta) -> set[str]:
        """Return the symbols in which figures may be in motion."""
        f, e, o = fills.c, external_fills.c, orders.c
        lately = self.now - settle
        own = (
            select(unindexed(f.symbol))
            .join_from(fills, orders, f.client_order_id == o.client_order_id)
            .where(_at(fills, self.broker), f.id > self.fills_id, f.recorded_at >= lately)
        )
        others = select(e.symbol).where(
            is_at(external_fills, self.broker), e.id > self.external_fills_id, e.recorded_at >= lately
        )
        filled = {s for query in (own, others) for s in self.connection.execute(query.distinct()).scalars()}
        return filled | unsettled_symbols(self.connection, broker_of(self.broker))

    # -- BASELINES ---
    def begin(self, symbol: str, found: Decimal, restless: Collection[str]) -> None:
        """Take the baseline of a symbol, or put it off while it is restless: something of ours is under way there."""
        if symbol in restless:
            if symbol not in self.pending:
                self._pend([*self.pending, symbol])
            return
        self._shift(symbol, found - self.expected.get(symbol, _ZERO))
        self.expected[symbol] = found
        if symbol in self.pending:
            self._pend([s for s in self.pending if s != symbol])

    def _pend(self, symbols: list[str]) -> None:
        self.pending = symbols
        self._set(pending=symbols)

    def _shift(self, symbol: str, shares: Decimal) -> None:
        if shares:
            self.baselines[symbol] = self.baselines.get(symbol, _ZERO) + shares
            shift_baseline(self.connection, self.broker, symbol, shares, self.now)

    def _set(self, **values: object) -> None:
        mine = position_ledgers.c.broker == self.broker
        self.connection.execute(update(position_ledgers).where(mine).values(**values))

    def fold(self) -> None:
        """Fold old fills into the baselines, so that adding up stays cheap and old history may be deleted."""
        tops = []
        for table, after in ((fills, self.fills_id), (external_fills, self.external_fills_id)):
            t = table.c
            old = _at(table, self.broker) & (t.id > after) & (t.recorded_at < self.now - _FOLD_AFTER)
            mine = self.connection.execute(select(func.max(t.id)).where(old)).scalar()
            older = select(t.id).where(t.id > after, t.recorded_at < self.now - _PASS_AFTER)
            passed = self.connection.execute(older.order_by(t.id.desc()).limit(1)).scalar()
            last = self.connection.execute(select(func.max(t.id))).scalar() or 0
            # SQLite gives the ids of deleted rows again.
            tops.append(max(mine or 0, passed or 0) or min(after, last))
        own, others = tops
        if (own, others) == (self.fills_id, self.external_fills_id):
            return
        for symbol, shares in self._moved(self.fills_id, self.external_fills_id, own, others).items():
            self._shift(symbol, shares)
        self.fills_id, self.external_fills_id = own, others
        self._set(fills_id=own, external_fills_id=others)

    # -- LOCKS ---
    def lock(self, symbol: str, expected: Decimal, found: Decimal, at: datetime) -> None:
        """Lock a symbol."""
        self.locks[symbol] = {
            "broker": self.broker,
            "symbol": symbol,
            "expected": expected,
            "found": found,
            "since": self.now,
            "read_at": at,
            "note": None,
        }
        self.connection.execute(insert(position_locks).values(**self.locks[symbol]))
        journal(self.connection, self.broker, symbol, "locked", expected, found, self.now)
        log.error(
            "position_locked",
            broker=self.broker,
            symbol=symbol,
            expected=str(expected),
            found=str(found),
            hint="no new order goes there; see `corro locks`, then "
            f"`corro unlock {self.broker} {quote(symbol)} --reason WHY`",
        )

    def refresh(self, symbol: str, expected: Decimal, found: Decimal, at: datetime) -> None:
        """Keep the figures of a lock as they are now."""
        values = {"expected": expected, "found": found, "read_at": at}
        self.connection.execute(update(position_locks).where(_lock(self.broker, symbol)).values(**values))

    def free(self, symbol: str, expected: Decimal, found: Decimal) -> None:
        """Remove a lock: the position is explained."""
        reason = self.reasons.get(symbol)
        del self.locks[symbol]
        self.connection.execute(delete(position_locks).where(_lock(self.broker, symbol)))
        journal(self.connection, self.broker, symbol, "explained", expected, found, self.now, reason=reason)
        log.warning("position_explained", broker=self.broker, symbol=symbol, found=str(found), reason=reason)

    # -- WHAT THE BROKER TOLD ---
    def explain(self, symbol: str, found: Decimal) -> None:
        """Move the baseline by what the broker has told besides executions, where that explains all of a difference.

        A split, a transfer, an expiry: each is used once, and is in the journal with the shares that it moved, and why
        lots did not follow, where they did not.
        """
        expected = self.expected.get(symbol, _ZERO)
        since = max(self.opened_at - timedelta(days=1), self.now - _TOLD_WITHIN)
        rows = explaining(self.connection, self.broker, symbol, found - expected, since)
        left = follow(self.connection, self.broker, symbol, rows, expected, self.now) if rows else None
        if left:
            log.warning("lots_left_as_they_are", broker=self.broker, symbol=symbol, reason=left)
        for row in rows:
            shares = row["quantity"] or _ZERO
            self._shift(symbol, shares)
            reason = "; ".join(filter(None, (words_of(row), left)))
            journal(
                self.connection, self.broker, symbol, "moved", expected, expected + shares, self.now,
                reason=reason, event_id=row["event_id"],
            )  # fmt: skip
            expected += shares
        if rows:
            self.expected[symbol] = expected
            self.reasons[symbol] = "; ".join(words_of(row) for row in rows)


def forget(connection: Connection, broker: str) -> None:
    """Forget what is kept of a broker as one account, now that the accounts behind its login have names."""
    for table in (position_snapshots, position_baselines, position_ledgers):
        connection.execute(delete(table).where(table.c.broker == broker))


def fold_all(database: Database) -> None:
    """Fold the old fills of every broker into its baselines, as leaders do with each reading of positions."""
    with database.read() as connection:
        brokers = list(connection.execute(select(position_ledgers.c.broker)).scalars())
    for broker in brokers:
        database.transact(lambda connection, broker=broker: PositionLedger.open(connection, broker, {}).fold())  # type: ignore[misc]


def _at(table: Table, where: str) -> ColumnElement[bool]:
    """Say that a row is at a destination, beside a range of ids: the range is small, a broker's history is not."""
    broker, account = split(where)
    return (unindexed(table.c.broker) == broker) & of_account(table, account)


def unlock(database: Database, broker: str, symbol: str, *, by: str, reason: str) -> PositionLockRow:
    """Take the position that a broker shows as the new baseline, on somebody's word.

    Returns:
        The lock that was removed.

    Raises:
        NotFound: there is no such lock.
    """
    now = utcnow()

    def work(connection: Connection) -> PositionLockRow:
        query = select(position_locks).where(_lock(broker, symbol)).with_for_update()
        found = fetch(connection, query, PositionLockRow)
        if not found:
            raise NotFound(f"{symbol} is not locked at {broker}")
        (lock,) = found
        shift_baseline(connection, broker, symbol, lock["found"] - lock["expected"], now)
        connection.execute(delete(position_locks).where(_lock(broker, symbol)))
        journal(connection, broker, symbol, "unlocked", lock["expected"], lock["found"], now, by, reason)
        control(connection, "unlock", "symbol", f"{broker}:{symbol}", by=by, reason=reason, detail=words(lock))
        return lock

    return database.transact(work)


def locks(database: Database) -> list[dict[str, object]]:
    """Return the locks in force, oldest first, with the difference and what it means."""
    with database.read() as connection:
        rows = fetch(connection, select(position_locks).order_by(position_locks.c.since), PositionLockRow)
    return [{**row, **_told(row), "words": words(row)} for row in rows]


def _told(lock: PositionLockRow) -> dict[str, object]:
    """Return the figures of a lock; those of one that an event has set are not known before the next reading."""
    if lock["note"] is not None and lock["read_at"] == lock["since"]:
        return {"expected": None, "found": None, "difference": None}
    return {"difference": lock["found"] - lock["expected"]}


def journal(
    connection: Connection,
    broker: str,
    symbol: str,
    kind: str,
    expected: Decimal,
    found: Decimal,
    at: datetime,
    by: str | None = None,
    reason: str | None = None,
    event_id: str | None = None,
) -> None:
    """Append to the journal of positions."""
    row = {"broker": broker, "symbol": symbol, "kind": kind, "expected": expected, "found": found, "at": at}
    connection.execute(insert(position_events).values(**row, by=by, reason=reason, event_id=event_id))


def _lock(broker: str, symbol: str) -> ColumnElement[bool]:
    return (position_locks.c.broker == broker) & (position_locks.c.symbol == symbol)


def _ledger(connection: Connection, broker: str) -> PositionLedgerRow | None:
    query = select(position_ledgers).where(position_ledgers.c.broker == broker).with_for_update()
    return next(iter(fetch(connection, query, PositionLedgerRow)), None)


def _begin(connection: Connection, broker: str) -> None:
    """Write the ledger of a broker that has none; of two workers at once, one does."""
    row = {"broker": broker, "fills_id": 0, "external_fills_id": 0, "pending": [], "opened_at": utcnow()}
    connection.execute(upsert(connection, position_ledgers).values(**row).on_conflict_do_nothing())


def _signed(rows: Iterable[Row[Any, Any, Any]]) -> dict[str, Decimal]:
    """Add up (symbol, side, quantity); an execution without a side moves nothing that could be told."""
    total: dict[str, Decimal] = {}
    for symbol, side, quantity in rows:
        if symbol is not None and side is not None:
            total[symbol] = total.get(symbol, _ZERO) + signed(Side(side)) * round(Decimal(str(quantity)), 9)
    return total
