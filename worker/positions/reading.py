"""Read the positions at a broker, and see whether our books explain them.

A position is explained by what was there when corro first connected (the baseline), our fills, and other people's fills
that we saw. Fills and positions are read at different moments, so a difference counts only if it stays the same over
several readings with executions read in between and nothing of ours under way in that symbol
(`worker.positions.locks.judge`).

Only the leader judges, and only by what it read while it led: one that was suspended wakes up with an old reading.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, Table, delete, func, select, update

from models.crash_points import reached
from models.destinations import split
from models.errors import AccessLost, CorroError
from models.record.database import Database
from models.record.statements import Values, upsert
from models.record.tables import account_snapshots, position_snapshots, workers
from models.reports import AccountReport, PositionReport
from models.settings import TimingSettings
from worker.brokers.accounts import destinations_of
from worker.brokers.base import BrokerInterface
from worker.fleet.members import Heartbeat
from worker.fleet.reads import Reads
from worker.positions import past
from worker.positions.ledger import SETTLE, PositionLedger, forget
from worker.positions.locks import READINGS, Doubt, judge
from worker.runtime.clock import Stopwatch, elapsed, utcnow
from worker.runtime.said import LastingTrouble

_ZERO = Decimal(0)
#: A reading older than this, because this process was suspended, begins no ledger.
_OLD_S = 30.0
_HELD = ("symbol", "quantity", "avg_price", "market_value", "unrealized_pnl", "account_id", "currency")
_MONEY = (
    "account_id", "currency", "buying_power", "cash", "equity", "portfolio_value", "total_liquidity",
    "day_trade_count", "paper",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ShownPositions:
    """What one reading showed of a destination.

    Args:
        held: its holdings, one a name.
        sizes: shares by symbol; one symbol may be held as two contracts.
        unread: symbols that are held and whose size could not be read.
    """

    held: Sequence[PositionReport]
    sizes: Mapping[str, Decimal]
    unread: frozenset[str]

    @classmethod
    def of(cls, reports: Sequence[PositionReport]) -> ShownPositions:
        """Put the holdings of a destination together."""
        unread = frozenset(held.symbol for held in reports if held.quantity is None)
        sizes: dict[str, Decimal] = {}
        for held in reports:
            if held.quantity is not None and held.symbol not in unread:
                sizes[held.symbol] = sizes.get(held.symbol, _ZERO) + held.quantity
        return cls(list({held.symbol: held for held in reports}.values()), sizes, unread)


class PositionReader:
    """Reads positions and account at one broker.

    Args:
        database: the record.
        broker: the adapter.
        worker: this worker's name.
        timing: for the intervals.
        pulse: tells whether this worker leads, and has led all along.
        read_executions: reads executions and enters them in the record; returns whether they were read completely.
        clock: seconds that count on while the machine sleeps; None is `elapsed`.
        reads: notes how readings go.
    """

    def __init__(
        self,
        database: Database,
        broker: BrokerInterface,
        worker: str,
        timing: TimingSettings,
        pulse: Heartbeat,
        read_executions: Callable[[], bool],
        clock: Callable[[], float] | None = None,
        reads: Reads | None = None,
    ) -> None:
        self.database, self.broker, self.worker, self.timing = database, broker, worker, timing
        self.pulse, self._read_executions, self._clock = pulse, read_executions, clock or elapsed
        self._reads, self._moneyless = reads or Reads(), LastingTrouble(broker=broker.name)
        #: By destination and symbol.
        self.doubts: dict[tuple[str, str], Doubt] = {}
        #: The supervisor's thread reads after a connect, the healer's regularly.
        self._one_at_a_time = threading.Lock()
        self._read_at = self._stored_from = -math.inf
        self._unread: frozenset[str] = frozenset()

    def is_due(self) -> bool:
        """Tell whether it is time for the next reading: sooner while there are doubts."""
        every = self.timing.positions_every
        if self.doubts:
            every = min(every, max(self.timing.lock_after / READINGS, 0.5))
        return self._clock() - self._read_at >= every

    def read(self) -> frozenset[str]:
        """Read positions and account, store them, and judge what is not explained.

        Returns:
            Symbols that are held and whose size could not be read.

        Raises:
            CorroError: positions could not be read; nothing is concluded from that.
        """
        with self._one_at_a_time:
            return self._read()

    def read_anew(self) -> frozenset[str]:
        """The same, but a reading that somebody began after this call serves as well."""
        asked = self._clock()
        with self._one_at_a_time:
            return self._unread if self._stored_from >= asked else self._read()

    def _read(self) -> frozenset[str]:
        """Read positions and account, store them, and judge what nothing explains; returns symbols without a size."""
        watch, tenure, at, self._read_at = Stopwatch(), self.pulse.tenure, utcnow(), self._clock()
        with self._reads.of("positions"):
            reports = self.broker.get_positions()
        shown = {where: ShownPositions.of(self._at(where, reports)) for where in destinations_of(self.broker)}
        accounts = self._accounts()
        complete = self._read_executions() if self.doubts else False
        reached("before_positions")
        with self.database.write() as connection:
            leads = self.pulse.still_leads(connection, tenure)
            self._store(connection, shown, accounts, at)
            if leads or watch.age() < _OLD_S:
                for where, there in shown.items():
                    ledger = PositionLedger.open(connection, where, there.sizes, there.unread)
                    if leads:
                        ledger.fold()
                        self._judge(ledger, there, at, complete)
        self._stored_from, self._unread = self._read_at, frozenset().union(*(there.unread for there in shown.values()))
        return self._unread

    def _at(self, where: str, reports: Sequence[PositionReport]) -> list[PositionReport]:
        """Return the holdings of a destination: of an account, where the broker's login has several."""
        account = split(where)[1]
        return [held for held in reports if account is None or held.account_id == account]

    def _accounts(self) -> Sequence[AccountReport]:
        """Read the money of each account; without it positions are still worth having."""
        try:
            with self._reads.of("the account"):
                found = self.broker.get_accounts()
        except AccessLost:
            raise
        except CorroError as error:
            self._moneyless.lasts("account_unreadable", str(error))
            return ()
        self._moneyless.is_over()
        return found

    # -- SNAPSHOTS: the routing of closing orders relies on them ---
    def _store(
        self,
        connection: Connection,
        shown: Mapping[str, ShownPositions],
        accounts: Sequence[AccountReport],
        at: datetime,
    ) -> None:
        """Store a reading, unless somebody has stored a newer one."""
        name = self.broker.name
        newest = connection.execute(select(func.max(workers.c.positions_at)).where(workers.c.broker == name)).scalar()
        if newest is not None and newest > at:
            return  # somebody has read them since
        for where, there in shown.items():
            read = (p for p in there.held if p.symbol not in there.unread)
            rows = [{"broker": where, "taken_at": at, **{c: getattr(p, c) for c in _HELD}} for p in read]
            past.append_positions(connection, where, at, rows, there.unread)
            stands = (position_snapshots.c.broker == where) & position_snapshots.c.symbol.in_(sorted(there.unread))
            connection.execute(update(position_snapshots).where(stands).values(taken_at=at))  # what was known of these
            keep(connection, position_snapshots, where, at, rows)
        if self.broker.accounts:
            forget(connection, name)
        money = [{"broker": name, "taken_at": at, **{c: getattr(one, c) for c in _MONEY}} for one in accounts]
        if money:
            past.append_money(connection, name, money)
            keep(connection, account_snapshots, name, at, money)
        connection.execute(update(workers).where(workers.c.worker == self.worker).values(positions_at=at))

    # -- JUDGE ---
    def _judge(
        self,
        ledger: PositionLedger,
        there: ShownPositions,
        at: datetime,
        complete: bool,
    ) -> None:
        """Lock the symbols that nothing explains, and unlock those that are explained again."""
        restless = ledger.restless(min(SETTLE, timedelta(seconds=self.timing.lock_after)))
        unready = ledger.restless(SETTLE) if ledger.pending else set()
        doubted = {symbol for where, symbol in self.doubts if where == ledger.broker}
        symbols = set(there.sizes) | set(ledger.expected) | set(ledger.locks) | doubted
        for symbol in sorted(symbols.difference(there.unread)):
            found, place = there.sizes.get(symbol, _ZERO), (ledger.broker, symbol)
            if symbol in ledger.pending:
                if symbol not in restless:
                    ledger.begin(symbol, found, unready)
                continue
            if found != ledger.expected.get(symbol, _ZERO) and symbol not in restless:
                ledger.explain(symbol, found)
            expected = ledger.expected.get(symbol, _ZERO)
            verdict, doubt = judge(
                round(found - expected, 9),
                self.doubts.get(place),
                restless=symbol in restless,
                complete=complete,
                now=self._clock(),
                lock_after=self.timing.lock_after,
            )
            if symbol in ledger.locks:
                self._look_at_lock(ledger, symbol, expected, found, at, explained=verdict == "explained")
            elif verdict == "lock":
                ledger.lock(symbol, expected, found, at)
            locked = symbol in ledger.locks
            if doubt is None or locked:
                self.doubts.pop(place, None)
            else:
                self.doubts[place] = doubt

    def _look_at_lock(
        self, ledger: PositionLedger, symbol: str, expected: Decimal, found: Decimal, at: datetime, *, explained: bool
    ) -> None:
        if explained and ledger.locks[symbol]["note"] is None:  # with a note, a person decides
            ledger.free(symbol, expected, found)
        else:
            ledger.refresh(symbol, expected, found, at)


def keep(connection: Connection, table: Table, broker: str, at: datetime, rows: Sequence[Values]) -> None:
    """Let these rows be what a table of snapshots says of a broker, unless a newer reading has been stored already.

    Two workers may store at once: rows are changed in one order, and each only by a reading that is as new.
    """
    names = [column.name for column in table.primary_key]
    for row in sorted(rows, key=lambda row: [str(row[name]) for name in names]):
        put = upsert(connection, table).values(**row)
        news = {name: put.excluded[name] for name in row if name not in names}
        same_age = table.c.taken_at <= put.excluded.taken_at
        connection.execute(put.on_conflict_do_update(index_elements=names, set_=news, where=same_age))
    connection.execute(delete(table).where(table.c.broker == broker, table.c.taken_at < at))
