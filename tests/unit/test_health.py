"""Who is alive: a process that may still send is never called gone, and a lease has one holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as rounds
from hypothesis import strategies as st
from sqlalchemy import delete, select

from models.record.database import Database
from models.record.tables import leases, workers
from models.settings import TimingSettings
from tests.kit.waiting import eventually
from worker.fleet.identity import Identity, boot_id, process_started, process_state
from worker.fleet.liveness import is_gone, is_silent
from worker.fleet.members import Heartbeat, take_lease

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
HERE = Identity("ibkr")
SILENCE = 300.0


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait()


def worker(pid: int = 1, **changes: Any) -> dict[str, Any]:
    """A worker's row: on this machine, its heartbeat long ago unless said otherwise."""
    return {
        "worker": "ibkr@other", "broker": "ibkr", "host": HERE.host, "boot": f"{HERE.boot}/{process_started(pid)}",
        "pid": pid, "state": "ready", "heartbeat_at": NOW - timedelta(days=1),
    } | changes  # fmt: skip


# -- GONE ---
def test_a_running_process_is_not_gone_however_silent(child: subprocess.Popen[bytes]) -> None:
    assert not is_gone(worker(child.pid), HERE, NOW, SILENCE)


def test_a_suspended_process_is_not_gone(child: subprocess.Popen[bytes]) -> None:
    """It may wake up in the middle of a send."""
    row = worker(child.pid)
    os.kill(child.pid, signal.SIGSTOP)
    eventually(lambda: process_state(child.pid) == "T")
    assert not is_gone(row, HERE, NOW, SILENCE)


def test_a_killed_process_is_gone_before_and_after_it_is_reaped(child: subprocess.Popen[bytes]) -> None:
    row = worker(child.pid)
    child.kill()
    eventually(lambda: process_state(child.pid) == "Z")
    assert is_gone(row, HERE, NOW, SILENCE)
    child.wait()
    assert is_gone(row, HERE, NOW, SILENCE)


def test_another_process_under_the_same_pid_is_another_worker(child: subprocess.Popen[bytes]) -> None:
    assert is_gone(worker(child.pid, boot=f"{HERE.boot}/12345"), HERE, NOW, SILENCE)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"boot": "another-boot/1/99"}])
@pytest.mark.parametrize(("age", "gone"), [(0, False), (SILENCE - 1, False), (SILENCE + 1, True)])
def test_elsewhere_only_silence_tells(change: dict[str, str], age: float, gone: bool) -> None:
    """The pid means nothing there: here it is free, there it may be sending."""
    row = worker(2**22 + 1, heartbeat_at=NOW - timedelta(seconds=age), **change)
    assert is_gone(row, HERE, NOW, SILENCE) == gone


def test_who_said_good_bye_is_gone(child: subprocess.Popen[bytes]) -> None:
    assert is_gone(worker(child.pid, state="stopped"), HERE, NOW, SILENCE)


def test_a_worker_of_whom_there_is_no_row_is_gone() -> None:
    assert is_gone(None, HERE, NOW, SILENCE)


def test_nobody_takes_himself_for_gone() -> None:
    assert not is_gone(worker(os.getpid(), worker=HERE.name), HERE, NOW, SILENCE)


def test_a_start_mark_stays_and_differs(child: subprocess.Popen[bytes]) -> None:
    assert process_started(os.getpid()) == process_started(os.getpid()) is not None
    assert process_started(child.pid) != process_started(os.getpid())
    assert process_started(2**22 + 1) is None
    assert process_state(2**22 + 1) is None
    assert boot_id() == boot_id() != ""


# -- SILENT ---
@pytest.mark.parametrize(
    ("row", "silent"),
    [
        (None, True),
        (worker(heartbeat_at=NOW), False),
        (worker(heartbeat_at=NOW - timedelta(seconds=9.9)), False),
        (worker(heartbeat_at=NOW - timedelta(seconds=10.1)), True),
        (worker(heartbeat_at=NOW, state="stopped"), True),
        (worker(heartbeat_at=NOW, state="disconnected"), False),
    ],
)
def test_silence(row: dict[str, Any] | None, silent: bool) -> None:
    assert is_silent(row, NOW, 10.0) == silent


# -- LEASES ---
def take(database: Database, holder: str, at: datetime = NOW, seconds: float = 6.0) -> bool:
    with database.write() as connection:
        return take_lease(connection, "leader.ibkr", holder, at, seconds)


def test_the_first_has_it_and_the_second_has_not(database: Database) -> None:
    assert take(database, "a")
    assert not take(database, "b")
    assert take(database, "a"), "a holder may renew"
    assert not take(database, "b", NOW + timedelta(seconds=5.9))


def test_it_is_free_when_it_has_run_out(database: Database) -> None:
    assert take(database, "a")
    assert take(database, "b", NOW + timedelta(seconds=6.1))
    assert not take(database, "a", NOW + timedelta(seconds=6.2))


def test_renewing_moves_its_end(database: Database) -> None:
    take(database, "a")
    take(database, "a", NOW + timedelta(seconds=5))
    assert not take(database, "b", NOW + timedelta(seconds=10.9))
    assert take(database, "b", NOW + timedelta(seconds=11.1))


def test_leases_do_not_know_each_other(database: Database) -> None:
    with database.write() as connection:
        assert take_lease(connection, "leader.ibkr", "a", NOW, 6)
        assert take_lease(connection, "leader.tda", "b", NOW, 6)


_CALLS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8000)), max_size=25)


@given(_CALLS)
@rounds(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_two_never_have_it_at_once(database: Database, calls: list[tuple[str, int]]) -> None:
    """Whoever asks whenever: between a grant and its end, no one else is granted it."""
    at, holder, end = NOW, "", NOW - timedelta(days=1)
    with database.write() as connection:
        connection.execute(delete(leases))
        for name, pause in calls:
            at += timedelta(milliseconds=pause)
            granted = take_lease(connection, "x", name, at, 6.0)
            assert not granted or name == holder or at > end
            assert granted or (name != holder and at <= end), "free, or one's own, and not granted"
            if granted:
                holder, end = name, at + timedelta(seconds=6)


def test_of_many_at_once_one_gets_it(database: Database) -> None:
    start, won = threading.Barrier(8), []

    def run(name: str) -> None:
        start.wait()
        if take(database, name):
            won.append(name)

    threads = [threading.Thread(target=run, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.execute(select(leases.c.holder)).scalars().all() == won
    assert len(won) == 1


# -- PULSE ---
def test_a_pulse_is_seen_and_says_good_bye(database: Database) -> None:
    me = Identity("ibkr")
    pulse = Heartbeat(database, me, TimingSettings())
    pulse.state, pulse.detail = "ready", "fine"
    pulse.beat()
    pulse.beat()
    assert pulse.leads
    with database.read() as connection:
        row = dict(connection.execute(select(workers)).mappings().one())
    assert (row["worker"], row["state"], row["detail"], row["pid"]) == (me.name, "ready", "fine", os.getpid())
    assert not is_gone(row, HERE, datetime.now(UTC), SILENCE)
    assert not is_silent(row, datetime.now(UTC), 10)
    pulse.stop()
    with database.read() as connection:
        row = dict(connection.execute(select(workers)).mappings().one())
        assert not connection.execute(select(leases)).first()
    assert is_gone(row, HERE, datetime.now(UTC), SILENCE)


def test_one_of_two_pulses_leads_and_the_other_follows_at_once(database: Database) -> None:
    first, second = (Heartbeat(database, Identity("ibkr"), TimingSettings()) for _ in range(2))
    other = Heartbeat(database, Identity("tda"), TimingSettings())
    for pulse in (first, second, other):
        pulse.beat()
    assert (first.leads, second.leads, other.leads) == (True, False, True)
    first.stop()
    second.beat()
    assert second.leads
