"""`corro fleet` tells at a glance, and by its exit status, whether every broker takes orders."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.record.database import Database
from worker.fleet.picture import NO_WORKER, Picture, picture, present

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def worker(
    broker: str, state: str = "ready", age: float = 1, detail: str | None = None, name: str = "w"
) -> dict[str, Any]:
    heard = NOW - timedelta(seconds=age)
    return {"broker": broker, "worker": f"{name}.{broker}", "state": state, "heartbeat_at": heard, "detail": detail}


def stop(kind: str, scope: str) -> dict[str, Any]:
    state = {"halt": "halted", "drain": "draining"}[kind]
    told = {"scope_kind": "*" if scope == "*" else "broker", "scope": scope, "by": "ana", "reason": "storm"}
    return told | {"state": state, "at": NOW - timedelta(seconds=90)}


def seen(*rows: dict[str, Any], stops: tuple[dict[str, Any], ...] = ()) -> Picture:
    return picture(rows, {"w.ibkr"}, stops, ["ibkr", "alpaca"], NOW, timedelta(seconds=10))


def test_a_fleet_that_trades_has_no_troubles() -> None:
    whole = seen(worker("ibkr"), worker("alpaca"), worker("ibkr", "silent", 900, name="old"))
    assert whole.troubles == []
    assert [row["leader"] for row in whole.rows] == [True, False, False]


def test_workers_that_are_long_gone_are_one_line_and_those_that_died_a_moment_ago_are_not() -> None:
    whole = seen(
        worker("ibkr"), worker("ibkr", "ready", 40, name="killed"), worker("ibkr", "ready", 86_400, name="a"),
        worker("ibkr", "ready", 172_800, name="b"), worker("ibkr", "stopped", 5, name="c"),
        worker("alpaca", "ready", 3600, name="d"), worker("alpaca", "ready", 7200, name="e"),
    )  # fmt: skip
    there, gone = present(whole.rows, NOW)
    assert [row["worker"] for row in there] == ["w.ibkr", "killed.ibkr", "d.alpaca"]
    assert gone == [
        "ibkr: 2 workers gone, last heard 2026-01-04 14:30 UTC; --json has all",
        "alpaca: 1 worker gone, last heard 2026-01-05 12:30 UTC; --json has all",
    ]
    assert len(whole.rows) == 7


@pytest.mark.parametrize(
    ("second", "state", "words"),
    [
        (None, "no worker", "alpaca: no worker"),
        (worker("alpaca", age=40), "silent", "alpaca: its worker is silent, heard 40 s ago"),
        (worker("alpaca", "stopped"), "no worker", "alpaca: no worker"),
        (worker("alpaca", "disconnected", detail="HTTP 401"), "disconnected", "alpaca: disconnected, HTTP 401"),
        (worker("alpaca", "disconnected", detail="alpaca: HTTP 401"), "disconnected", "alpaca: disconnected, HTTP 401"),
        (worker("alpaca", "starting"), "starting", "alpaca: starting"),
    ],
)
def test_a_broker_that_takes_no_orders_is_a_trouble(second: dict[str, Any] | None, state: str, words: str) -> None:
    found = seen(worker("ibkr"), *([second] if second else []))
    (trouble,) = found.troubles
    assert trouble.startswith(words)
    assert state in [row["state"] for row in found.rows if row["broker"] == "alpaca"]


def test_a_broker_that_cannot_be_read_is_a_trouble_although_it_is_connected() -> None:
    words = "cannot read orders (last read 2026-01-05 14:29:02Z): no JSON"
    whole = seen(worker("ibkr", detail=words), worker("ibkr", name="second"), worker("alpaca"))
    assert whole.troubles == [f"ibkr: {words}"]
    assert [row["state"] for row in whole.rows] == ["unread", "ready", "ready"]


@pytest.mark.parametrize(("age", "lapse"), [(90, "90 s"), (960, "16 min")])
def test_what_a_dead_worker_once_said_is_not_shown_as_present(age: float, lapse: str) -> None:
    whole = seen(
        worker("ibkr"), worker("alpaca", age=age, detail="answered 57 s ago"), worker("alpaca", age=age, name="x")
    )
    assert [row["detail"] for row in whole.rows] == [None, f"said {lapse} ago: answered 57 s ago", None]


def test_a_worker_whose_process_is_gone_is_silent_before_it_has_missed_a_heartbeat() -> None:
    rows = [worker("ibkr", age=0.1), worker("alpaca", age=0.1)]
    found = picture(rows, set(), [], ["ibkr", "alpaca"], NOW, timedelta(seconds=10), {"w.alpaca"})
    assert [row["state"] for row in found.rows] == ["ready", "silent"]
    assert found.troubles == ["alpaca: its worker is dead, heard 0 s ago"]


def test_a_halt_and_a_drain_are_troubles_with_who_when_and_why_and_stand_beside_their_workers() -> None:
    found = seen(worker("ibkr"), worker("alpaca"), stops=(stop("halt", "*"), stop("drain", "alpaca")))
    halted, drained = found.troubles
    assert halted.startswith("halt of all brokers since 2026-01-05 14:28:30 UTC (90 s) by ana: storm")
    assert drained.startswith("drain of alpaca")
    assert [row["stopped"] for row in found.rows] == ["halt", "halt, drain"]


def test_a_fleet_nobody_has_started_is_not_an_empty_table() -> None:
    found = seen()
    assert [(row["broker"], row["state"]) for row in found.rows] == [("ibkr", "no worker"), ("alpaca", "no worker")]
    assert len(found.troubles) == 2


def test_a_broker_that_nobody_works_for_is_red_and_leads_nothing() -> None:
    found = seen()
    assert [(row["state"], row["leader"]) for row in found.rows] == [(NO_WORKER, None)] * 2
    assert len(found.troubles) == 2


def test_the_line_for_a_monitor_imports_neither_the_queues_client_nor_celery_nor_pandas(database_home: Path) -> None:
    script = (
        "import sys; from worker.cli.main import app; status = app(['fleet', '--check'], standalone_mode=False);"
        "print(status, sorted({'redis', 'celery', 'pandas', 'ib_insync', 'alpaca_trade_api'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
        env={**os.environ, "CORRO_HOME": str(database_home)},
    )  # fmt: skip
    first, second = said.stdout.splitlines()
    assert first.startswith("not ok: ibkr: no worker;"), said
    assert second == "1 []", said


@pytest.fixture
def database_home(database: Database, tmp_path: Path) -> Path:
    """A home with a database of the current schema, at which nobody works."""
    assert database.url.database == str(tmp_path / "corro.db")
    return tmp_path
