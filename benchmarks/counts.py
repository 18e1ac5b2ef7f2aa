"""What an order costs, counted instead of timed: processor time, commits, round trips, what is written to the log."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import event

from benchmarks.house import BenchHouse
from benchmarks.inside import Inside, inside
from benchmarks.report import Part, Scale, Table
from benchmarks.worker import NAMES

WORDS = """\
The same code in one process without the queue, so that nothing waits and a busy machine changes little: submits, then
claims, sends and records. CPU is this process's alone, not that of PostgreSQL's server. A round trip is one wait for
PostgreSQL, or one statement of SQLite (BEGIN and COMMIT are two of them). WAL is what the database wrote to its log:
SQLite writes whole pages of 4 KiB, so one order alone rewrites a page of each index it stands in, and a hundred orders
share them."""
#: (row, orders at once, whether it is the strategy's side).
_PHASES = (("submit, one by one", 1, True), ("claim, send, record, one by one", 1, False),
           ("submit_many of 100", 100, True), ("claim, send, record of 100", 100, False))  # fmt: skip


class Counter:
    """Counts on one database.

    Args:
        house: with the server.
        one: what is counted.
    """

    def __init__(self, house: BenchHouse, one: Inside) -> None:
        self._house, self._database = house, one.database
        self.trips = self._commits = 0
        if one.database.is_sqlite:
            event.listen(one.database.engine, "connect", self._watch)
            event.listen(one.database.engine, "commit", self._commit)
            one.database.close()  # those that are open are not watched

    def _commit(self, _connection: object) -> None:
        self._commits += 1

    def _watch(self, driver: Any, _record: object) -> None:
        driver.execute("PRAGMA wal_autocheckpoint=0")
        driver.set_trace_callback(lambda _words: self.trip())

    def trip(self) -> None:
        """Count one."""
        self.trips += 1

    def read(self) -> tuple[float, int, int, int]:
        """Return processor seconds, commits, round trips and bytes of WAL so far."""
        if self._database.is_sqlite:
            log = Path(str(self._database.engine.url.database) + "-wal")
            return time.process_time(), self._commits, self.trips, log.stat().st_size if log.exists() else 0
        trips = self.trips
        commits, wal = self._house.postgres.written()
        self.trips = trips  # asking is none of them
        return time.process_time(), commits, trips, wal


@contextmanager
def _waits(counter: Counter) -> Iterator[None]:
    """Count every wait for PostgreSQL in this process."""
    waited: Callable[..., Any] = psycopg.Connection.wait

    def wait(*given: Any, **named: Any) -> Any:
        counter.trip()
        return waited(*given, **named)

    psycopg.Connection.wait = wait  # type: ignore[method-assign]
    try:
        yield
    finally:
        psycopg.Connection.wait = waited  # type: ignore[method-assign]


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Count on both databases."""
    part, rows, n = Part("counts", "What an order costs, counted", WORDS), [], scale.of(1000, 300)
    for database, name in NAMES.items():
        with inside(house, database) as one:
            found = counted(house, one, n)
        part.figures[database] = found
        rows += [
            [f"{phase}, {name}", f"{cpu:,.0f}", f"{commits:.2f}", f"{trips:.2f}", f"{wal:,.0f}"]
            for phase, (cpu, commits, trips, wal) in found.items()
        ]
    columns = ["work", "CPU us", "commits", "round trips", "WAL bytes"]
    part.tables.append(Table("per order", columns, rows))
    return part


def counted(house: BenchHouse, one: Inside, n: int) -> dict[str, tuple[float, float, float, float]]:
    """Return, for each phase, microseconds of CPU, commits, round trips and WAL bytes per order."""
    counter = Counter(house, one)
    found = {}
    with _waits(counter):
        for phase, at_once, is_submit in _PHASES:
            do = one.submit if is_submit else one.work
            if is_submit:
                one.submit(at_once * 20, at_once)  # what both sides need is compiled and open
                one.work(at_once * 20, at_once)
            gc.collect()
            before = counter.read()
            do(n, at_once)
            cpu, *others = (now - then for now, then in zip(counter.read(), before, strict=True))
            found[phase] = (cpu / n * 1e6, others[0] / n, others[1] / n, others[2] / n)
    return found
