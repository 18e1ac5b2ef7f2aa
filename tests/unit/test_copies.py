"""A record that is copied into another SQLite file, with balances that are kept; and files that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.history import History
from models.record.database import Database
from models.settings import Settings
from tests.unit.trades import MadeTrade, TradeLedger, keep_all, later
from tests.unit.words import Run


def test_a_record_with_kept_balances_is_copied_from_sqlite_to_sqlite(
    database: Database, tmp_path: Path, corro: Run
) -> None:
    TradeLedger(database).trade(MadeTrade(10, "5", later()), MadeTrade(-4, "6", later(days=1)))
    TradeLedger(database).trade(MadeTrade(3, "7", later(days=1), external=True))
    keep_all(database)
    before = History(database, Settings()).pnl("symbol")
    there = tmp_path / "there.db"
    code, _, said = corro("db", "copy", str(database.url.database), str(there))
    assert code == 0, said
    copied = Database(f"sqlite:///{there}")
    assert History(copied, Settings()).pnl("symbol") == before
    copied.close()


def test_who_only_looks_at_a_file_that_is_not_there_makes_none(
    tmp_path: Path, corro: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, there = tmp_path / "far" / "gone.db", tmp_path / "there.db"
    for name in (str(gone), f"sqlite:///{gone}"):
        code, _, said = corro("db", "copy", name, str(there))
        assert (code, f"there is no database in {gone}" in said) == (2, True)
    assert not gone.parent.exists()
    assert not there.exists()
    gone = tmp_path / "gone.db"
    monkeypatch.setenv("CORRO_DATABASE_URL", f"sqlite:///{gone}")
    code, told, _ = corro("db", "check", "--json")
    assert (code, json.loads(told)["revision"], json.loads(told)["objections"]) == (
        1,
        None,
        [f"there is no file {gone}"],
    )
    assert not gone.exists()
