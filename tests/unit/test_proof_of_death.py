"""Who is dead before its silence is believed: by proof alone, and never because it is slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import insert

from models.record.database import Database
from models.record.rows import WorkerRow
from models.record.tables import workers
from models.settings import TimingSettings
from tests.kit import eventually
from worker.fleet.identity import Identity, process_started, process_state
from worker.fleet.members import Heartbeat
from worker.fleet.proof import Lines, decide_dead

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
HERE = Identity("alpaca")
TIMING = TimingSettings()
#: Ours has stood for long enough to tell, and a worker's is there, or is not.
THERE, GONE, NOT_YET = Lines({7}, True), Lines({1}, True), Lines({1}, False)
ELSEWHERE = {"host": "elsewhere", "boot": "another-boot/1/99", "lifeline": 7}


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


def worker(pid: int = 1, age: float = 1.0, **changes: Any) -> WorkerRow:
    return cast(
        WorkerRow,
        {
            "worker": "ibkr@other", "broker": "ibkr", "host": HERE.host, "boot": f"{HERE.boot}/{process_started(pid)}",
            "pid": pid, "state": "ready", "lifeline": None, "heartbeat_at": NOW - timedelta(seconds=age),
        } | changes,
    )  # fmt: skip


def is_dead(row: WorkerRow, lines: Lines = THERE) -> bool:
    return decide_dead(row, HERE, lines, NOW, TIMING)


# -- THIS HOST ---
def test_a_killed_process_of_this_host_is_dead_at_once(child: subprocess.Popen[bytes]) -> None:
    row = worker(child.pid, age=0)
    assert not is_dead(row)
    child.kill()
    eventually(lambda: process_state(child.pid) == "Z")
    assert is_dead(row)
    child.wait()
    assert is_dead(row)


@pytest.mark.parametrize("lines", [THERE, GONE])
def test_a_suspended_process_of_this_host_is_not_dead_however_silent(
    child: subprocess.Popen[bytes], lines: Lines
) -> None:
    row = worker(child.pid, age=3600, lifeline=7)
    os.kill(child.pid, signal.SIGSTOP)
    eventually(lambda: process_state(child.pid) == "T")
    assert not is_dead(row, lines)


# -- ELSEWHERE ---
@pytest.mark.parametrize(
    ("lines", "age", "dead"),
    [
        (GONE, 2.6, True),  # its connection is gone, and a heartbeat has been missed
        (GONE, 2.4, False),  # it was cut a moment ago: the next heartbeat takes it again
        (THERE, 9.0, False),  # slow, or suspended: it has not let go
        (NOT_YET, 9.0, False),  # the server was restarted, perhaps: everybody's is gone
    ],
)
def test_elsewhere_a_lifeline_that_is_gone_and_a_missed_heartbeat_prove_it(
    lines: Lines, age: float, dead: bool
) -> None:
    assert is_dead(worker(age=age, **ELSEWHERE), lines) == dead


@pytest.mark.parametrize("changes", [{"lifeline": None}, {"state": "stopped"}, {"worker": HERE.name}])
def test_without_a_lifeline_or_after_a_good_bye_nothing_is_proved(changes: dict[str, object]) -> None:
    assert not is_dead(worker(age=3600, **ELSEWHERE | changes), GONE)


# -- SQLITE ---
def test_sqlite_has_no_lifelines_and_tells_by_processes_alone(
    database: Database, child: subprocess.Popen[bytes]
) -> None:
    pulse = Heartbeat(database, HERE, TIMING)
    pulse.beat()
    with database.write() as connection:
        row = worker(child.pid, age=-1) | {"started_at": NOW, "heartbeat_at": datetime.now(UTC)}
        connection.execute(insert(workers).values(**row))
    with database.read() as connection:
        assert pulse.witness.dead(connection, ["ibkr"], datetime.now(UTC)) == {}
        child.kill()
        eventually(lambda: process_state(child.pid) == "Z")
        assert pulse.witness.dead(connection, ["ibkr"], datetime.now(UTC)) == {"ibkr@other": "ibkr"}
