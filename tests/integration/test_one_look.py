"""A question of several statements is answered from one moment, on both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from benchmarks import past
from models.history import History
from models.record.balance_tables import position_progress
from models.record.balances import since_kept, touched
from models.record.database import Database, upgrade
from models.record.one_look import one_look
from models.record.tables import fills
from tests.unit.trades import MadeTrade, TradeLedger, keep_all, later


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TradeLedger]:
    url = f"sqlite:///{tmp_path / 'corro.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").fresh()
    database = Database(url)
    upgrade(database)
    yield TradeLedger(database)
    database.close()


def test_what_a_leader_keeps_meanwhile_counts_once(ledger: TradeLedger) -> None:
    """Else an execution would be among those that came since, and in what is kept of its day as well."""
    ledger.trade(MadeTrade(10, "10"), MadeTrade(-10, "12", later(minutes=1)))
    with one_look(ledger.database) as connection:
        before = since_kept(connection)
        keep_all(ledger.database)
        ledger.trade(MadeTrade(5, "10", later(minutes=2)))
        after = since_kept(connection)
    assert [day.realized_average for day in before.days.values()] == [20]
    assert after == before
    with one_look(ledger.database) as connection:
        assert [day.realized_average for day in since_kept(connection).days.values()] == [20]
    assert [row["realized"] for row in History(ledger.database).pnl("month", until="2026-01-31", method="average")] == [
        20
    ]


def test_postgresql_reads_no_order_whose_executions_are_kept(request: pytest.FixtureRequest) -> None:
    """It guesses, of what came since, a third of all there ever was, unless it is told better."""
    database = Database(request.getfixturevalue("postgres").fresh())
    upgrade(database)
    past.make(database, 20_000)
    with database.write() as connection:
        newest = select(func.max(fills.c.id)).scalar_subquery()
        connection.execute(update(position_progress).where(position_progress.c.source == "ours").values(kept_id=newest))
    asked = {view: f"SELECT * FROM {view}" for view in ("v_pnl", "v_positions", "v_position_days")}
    with database.read() as connection:
        asked["touched"] = str(touched().compile(connection, compile_kwargs={"literal_binds": True}))
        plans = {n: connection.exec_driver_sql(f"EXPLAIN ANALYZE {one}").scalars().all() for n, one in asked.items()}
    database.close()
    for name, plan in plans.items():
        scans = [line for line in plan if re.search(r"Scan .*on (orders|fills)", line)]
        read = {line: int(rows) for line in scans for rows in re.findall(r"actual time.* rows=(\d+)", line)}
        assert scans, (name, plan)
        # A hundred executions are not in the expected positions yet.
        assert not [line for line, rows in read.items() if rows > 200], (
            name,
            plan,
        )
