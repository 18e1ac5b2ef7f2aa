"""A record that moves from SQLite to PostgreSQL: whole or not at all, killed half-way or not, and never used twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, inspect, select, update

from models.errors import ConfigurationError, InvalidRequest
from models.history import History
from models.messages import OrderRequest
from models.record import moving
from models.record.columns import metadata
from models.record.database import Database, ensure_schema, upgrade
from models.record.history_tables import cash_events
from models.record.intake import Intake
from models.record.moving import copy
from models.record.tables import fetches, order_events, orders, workers
from models.settings import Settings, load_settings
from tests.kit import ROOT, PostgresServer, clean_environment
from tests.unit.trades import MadeTrade, TradeLedger, later

NOW = datetime.now(UTC)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(moving, "_PAGE", 3)
    made = Database(f"sqlite:///{tmp_path / 'corro.db'}")
    upgrade(made)
    fill(made, tmp_path)
    yield made
    made.close()


@pytest.fixture
def target(postgres: PostgresServer) -> Iterator[Database]:
    made = Database(postgres.fresh())
    yield made
    made.close()


def fill(database: Database, home: Path) -> None:
    trades = [MadeTrade(10 if n % 2 else -7, f"{n + 1}.125", later(days=n), fee="0.35") for n in range(7)]
    TradeLedger(database).trade(*trades, MadeTrade(3, "1e-9", external=True))
    intake = Intake(load_settings(home=home), database)
    intake.record(
        [
            OrderRequest(symbol="KO", side="buy", quantity="0.1", client_order_id=f"Id-{n}", tags=["a", "ü"])
            for n in range(5)
        ]
    )
    with database.write() as connection:
        connection.execute(insert(cash_events).values(broker="ibkr", event_id="e", kind="fee", amount="-0.01", at=NOW))
        connection.execute(
            insert(fetches).values(
                fetch_id="f", kind="quote", request={"b": 1, "a": [None, 1.5]}, route=["x"], broker="x", status="done",
                attempt_no=1, tries=0, stored=0, available_at=NOW, created_at=NOW, updated_at=NOW,
            )
        )  # fmt: skip


def run(source: Database, target: Database, tell: Any = lambda *_: None) -> Any:
    return copy(source, target, 10.0, NOW, tell)


def tables(database: Database) -> dict[str, tuple[int, str]]:
    return {table.name: moving._sum(database, table) for table in metadata.sorted_tables}


def test_everything_is_there_and_is_the_same(source: Database, target: Database) -> None:
    before, pnl = tables(source), History(source, Settings()).pnl("symbol")
    done = run(source, target)
    assert done.rows == {name: count for name, (count, _) in before.items()}
    assert tables(target) == before
    assert History(target, Settings()).pnl("symbol") == pnl
    ensure_schema(target)
    assert not inspect(target.engine).has_table("moving")
    with target.write() as connection:
        top = connection.execute(select(func.max(order_events.c.id))).scalar_one()
        event = {"client_order_id": "Id-0", "at": NOW, "kind": "held"}
        new = connection.execute(insert(order_events).values(**event)).inserted_primary_key
    assert new == (top + 1,)


def test_the_source_is_used_no_more(source: Database, target: Database) -> None:
    run(source, target)
    for refused in (ensure_schema, upgrade):
        with pytest.raises(ConfigurationError, match="copied to"):
            refused(source)
    with pytest.raises(InvalidRequest, match="not empty"):
        run(source, target)


def test_a_copy_that_was_broken_off_is_no_record_and_goes_on(source: Database, target: Database) -> None:
    told: list[tuple[str, int]] = []

    def stop_at(name: str, rows: int) -> None:
        told.append((name, rows))
        if (name, rows) == ("order_events", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, target, stop_at)
    for refused in (ensure_schema, upgrade):
        with pytest.raises(ConfigurationError, match="not complete"):
            refused(target)
    ensure_schema(source)
    again: list[tuple[str, int]] = []
    before = tables(source)
    run(source, target, lambda *words: again.append(words))
    assert ("order_events", 3) not in again, "it went on behind that"
    assert not {name for name, _ in again} & {"orders", "deployment"}
    assert tables(target) == before


def test_what_changed_on_the_way_is_seen_and_neither_is_taken_for_the_other(source: Database, target: Database) -> None:
    def spoil(name: str, rows: int) -> None:
        if name == "order_events":
            with target.write() as connection:
                mine = orders.c.client_order_id == "Id-1"
                connection.execute(update(orders).where(mine).values(quantity=2))

    with pytest.raises(ConfigurationError, match="orders is not the same"):
        run(source, target, spoil)
    ensure_schema(source)
    with pytest.raises(ConfigurationError, match="not complete"):
        ensure_schema(target)


def test_a_source_that_is_in_use_and_a_target_that_is_not_empty_are_refused(
    source: Database, target: Database, postgres: PostgresServer
) -> None:
    worker = {"broker": "ibkr", "host": "h", "boot": "b", "pid": 1, "started_at": NOW, "state": "ready"}
    with source.write() as connection:
        connection.execute(insert(workers).values(worker="ibkr@h:1", heartbeat_at=NOW - timedelta(seconds=3), **worker))
    with pytest.raises(InvalidRequest, match="ibkr@h:1"):
        run(source, target)
    with source.write() as connection:
        connection.execute(update(workers).values(heartbeat_at=NOW - timedelta(seconds=30)))
    used = Database(postgres.fresh())
    upgrade(used)
    with pytest.raises(InvalidRequest, match="not empty"):
        run(source, used)
    used.close()
    same = Database(str(source.url))
    with pytest.raises(InvalidRequest, match="same database"):
        run(source, same)
    same.close()


def test_the_command_says_what_it_copied(source: Database, target: Database, tmp_path: Path) -> None:
    before = tables(source)
    url = target.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", "db", "copy", str(tmp_path / "corro.db"), url, "--json"],
        capture_output=True, text=True, cwd=ROOT, timeout=60, env={**clean_environment(), "CORRO_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["by_table"], told["ok"]) == ({name: count for name, (count, _) in before.items()}, True)
    assert tables(target) == before
