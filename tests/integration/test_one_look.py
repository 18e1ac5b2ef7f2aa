"""A question of several statements is answered from one moment, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.history import History
from models.record.balances import since_kept
from models.record.database import Database, upgrade
from models.record.one_look import one_look
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
