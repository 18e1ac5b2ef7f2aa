"""Two writes at the same moment, on the database that lets both try: two readings, a reading and a heartbeat."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Connection, event, select, text, update

from models.record.database import Database
from models.record.tables import position_snapshots, workers
from models.settings import TimingSettings
from tests.kit import eventually
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.positions.reading import keep
from worker.runtime.clock import utcnow


@pytest.mark.parametrize("newer", ["first", "second"])
def test_of_two_readings_stored_at_once_both_are_taken_and_the_newer_one_stays(database: Database, newer: str) -> None:
    """The first has written and not committed yet when the second comes: it waits, and fails on nothing."""
    now, errors = utcnow(), list[BaseException]()
    at = {name: now if name == newer else now - timedelta(seconds=1) for name in ("first", "second")}
    size = {"first": 1, "second": 2}
    holding, go = threading.Event(), threading.Event()

    def before_commit(_connection: Connection) -> None:
        if threading.current_thread().name == "first":
            holding.set()
            assert go.wait(30)

    def store() -> None:
        name = threading.current_thread().name
        rows = [
            {"broker": "ibkr", "symbol": symbol, "quantity": Decimal(size[name]), "taken_at": at[name]}
            for symbol in ("PEP", "KO")
        ]
        try:
            with database.write() as connection:
                keep(connection, position_snapshots, "ibkr", at[name], rows)
        except BaseException as error:
            errors.append(error)

    event.listen(database.engine, "commit", before_commit)
    first, second = (threading.Thread(target=store, name=name) for name in ("first", "second"))
    first.start()
    assert holding.wait(10)
    second.start()
    go.set()
    first.join(20)
    second.join(20)
    assert errors == []
    with database.read() as connection:
        stored = {row.symbol: row.quantity for row in connection.execute(select(position_snapshots))}
    assert stored == {"KO": size[newer], "PEP": size[newer]}


def test_a_heartbeat_waits_for_a_fenced_write_of_its_worker_and_neither_fails(database: Database) -> None:
    """Such a write has the lease and asks for the worker's row: a heartbeat that had them the other way round would
    wait for the write, and the write for the heartbeat."""
    pulse, errors = Heartbeat(database, Identity("ibkr"), TimingSettings()), list[BaseException]()
    pulse.beat()
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def beat() -> None:
        try:
            pulse.beat()
        except BaseException as error:
            errors.append(error)

    beating = threading.Thread(target=beat)
    with database.write() as connection:
        assert pulse.still_leads(connection, pulse.tenure)
        beating.start()
        with database.read() as other:
            eventually(lambda: other.execute(waiting).scalar(), what="the heartbeat waits")
        connection.execute(update(workers).where(workers.c.worker == pulse.me.name).values(positions_at=utcnow()))
    beating.join(20)
    assert (errors, beating.is_alive(), pulse.leads) == ([], False, True)
    pulse.lifeline.close()
