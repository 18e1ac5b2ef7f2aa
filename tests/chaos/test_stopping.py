"""SIGTERM and SIGINT: a worker ends within the grace period and leaves no order in between, whatever is broken then."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from producers.bell import envelope
from producers.handles import Order
from tests.kit import ROOT, PostgresServer, World, clean_environment, eventually, outcomes_of, tail
from worker.local.processes import Process

NewWorld = Callable[..., World]
#: Seconds that docs/operations.md asks supervisors to give a worker.
GRACE_S = 60.0
#: After which a person presses Ctrl-C once more.
SECOND_THOUGHT_S = 0.2


def end(world: World, process: Process, *, again: bool = False) -> float:
    """Tell a worker to end, once or twice; returns how many seconds it took."""
    began = time.monotonic()
    process.popen.terminate()
    if again:
        eventually(lambda: "Warm shutdown" in process.log.read_text(), 20)
        process.popen.terminate()
    assert world.fleet.wait_gone(process, GRACE_S) == 0, tail(process.log)
    return time.monotonic() - began


def left_behind(world: World, placed: Sequence[Order]) -> dict[str, list[str]]:
    """Return the ids by where a stopped worker left them; an order that is nowhere fails the test."""
    found: dict[str, list[str]] = {}
    for order in placed:
        whole = world.orders.whole(order.client_order_id)
        last = whole["attempts"][-1]["outcome"] if whole["attempts"] else None
        if whole["status"] == "submitted":
            assert last in ("unknown", "sending"), whole  # what `corro unresolved` lists
            found.setdefault("unresolved", []).append(order.client_order_id)
        else:
            assert last != "sending", whole
            found.setdefault("queued" if whole["status"] == "queued" else "settled", []).append(order.client_order_id)
    return found


@pytest.mark.parametrize("again", [pytest.param(False, marks=pytest.mark.soak), True], ids=["once", "twice"])
def test_a_worker_in_the_middle_of_many_orders_ends_and_the_next_one_goes_on(new_world: NewWorld, again: bool) -> None:
    world = new_world(["alpaca"])
    first = world.fleet.start("alpaca")
    world.control.add_fault("alpaca", "slow", seconds=0.2, operation="place")
    placed = [world.orders.send("SPY", "buy", 1 + n % 5, route="alpaca") for n in range(60)]
    eventually(lambda: len(world.orders.at_doors()) >= 5, 20)
    end(world, first, again=again)

    left = left_behind(world, placed)
    assert left.get("settled"), left
    assert not left.get("unresolved"), "what was under way has been waited for"
    world.control.clear_faults()
    world.fleet.start("alpaca", label="next")
    for order in placed:
        assert outcomes_of(world.orders.wait(order, "filled", 30)) == [("alpaca", "accepted")]
    assert len(world.orders.at_doors()) == len(placed)


def test_a_worker_whose_broker_hangs_ends_and_says_what_is_unresolved(new_world: NewWorld) -> None:
    world = new_world(["alpaca"])
    first = world.fleet.start("alpaca")
    world.control.add_fault("alpaca", "accept_hang", operation="place")
    world.control.add_fault("alpaca", "stream_silent")
    for operation in ("find", "list", "activities", "positions", "account", "cancel"):
        world.control.add_fault("alpaca", "hang", operation=operation)
    placed = [world.orders.send("SPY", "buy", 1 + n % 5, route="alpaca") for n in range(24)]
    eventually(lambda: len(world.orders.at_doors()) >= 4, 20)
    end(world, first)

    left = left_behind(world, placed)
    assert left.get("unresolved"), left
    listed = {row["client_order_id"] for row in world.corro("unresolved", "--json").json}
    assert set(left["unresolved"]) == listed
    world.control.clear_faults()
    world.fleet.start("alpaca", label="next")
    for order in placed:
        whole = world.orders.wait(order, ["filled", "expired"], 60)
        assert len(world.orders.at_doors(order.client_order_id)) == (whole["status"] == "filled")


@pytest.mark.soak
def test_a_worker_ends_while_its_queue_is_frozen(new_world: NewWorld) -> None:
    world = new_world(["alpaca"])
    first = world.fleet.start("alpaca")
    world.control.add_fault("alpaca", "slow", seconds=0.2, operation="place")
    placed = [world.orders.send("SPY", "buy", 1, route="alpaca") for _ in range(20)]
    eventually(lambda: len(world.orders.at_doors()) >= 2, 20)
    pid = world.fleet.queue_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        end(world, first)
        assert not left_behind(world, placed).get("unresolved")
        world.control.clear_faults()
        world.fleet.start("alpaca", label="next")
        for order in placed:
            assert outcomes_of(world.orders.wait(order, "filled", 40)) == [("alpaca", "accepted")]
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that may be stopped."""
    server = PostgresServer()
    yield server
    server.close()


def bare(n: int) -> dict[str, str]:
    return {"client_order_id": f"by-message-{n}", "symbol": "KO", "side": "buy", "quantity": str(1 + n)}


def test_a_worker_ends_without_its_database_and_hands_back_what_only_messages_know(
    own_postgres: PostgresServer, new_world: NewWorld
) -> None:
    world = new_world(["alpaca"], database_url=own_postgres.fresh())
    first = world.fleet.start("alpaca")
    own_postgres.stop()
    try:
        for n in range(8):
            message = envelope("orders.submit", "orders.alpaca", {"orders": [bare(n)]})
            world.fleet.queue.lpush("orders.alpaca", message)
        eventually(lambda: "message_waits_for_database" in first.log.read_text(), 20)
        end(world, first)
        assert world.orders.at_doors() == [] or not world.control.orders()
    finally:
        own_postgres.start()
    waiting = world.fleet.queue.llen("orders.alpaca") + world.fleet.queue.hlen("unacked")
    assert waiting == 8, "each is back in the queue, or noted as taken and handed out again"
    world.fleet.start("alpaca", label="next")
    for n in range(8):
        assert world.orders.wait(f"by-message-{n}", "filled", 100)["filled_quantity"] == 1 + n


@pytest.mark.soak
def test_a_worker_ends_while_its_sqlite_file_is_locked(new_world: NewWorld) -> None:
    world = new_world(["alpaca"])
    first = world.fleet.start("alpaca")
    world.control.add_fault("alpaca", "slow", count=1, symbol="PEP", seconds=1.0, operation="place")
    order = world.orders.send("PEP", "buy", 4, route="alpaca")
    eventually(lambda: world.orders.at_doors(symbol="PEP"), 20)  # sent, and not recorded yet
    lock = sqlite3.connect(world.home / "corro.db", isolation_level=None, timeout=30)
    lock.execute("BEGIN IMMEDIATE")
    try:
        end(world, first)
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    world.fleet.start("alpaca", label="next")
    assert outcomes_of(world.orders.wait(order, "filled", 40)) == [("alpaca", "accepted")]
    assert len(world.orders.at_doors(symbol="PEP")) == 1


# -- EVERYTHING ON ONE MACHINE ---
def _children_of(home: Path) -> list[int]:
    """Return the processes whose CORRO_HOME this is."""
    found, mark = [], b"CORRO_HOME=" + os.fsencode(home) + b"\0"
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environ, line = path.read_bytes(), (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if line and (mark in environ or os.fsencode(home) in line):
            found.append(int(path.parent.name))
    return found


def test_a_worker_that_is_hung_up_on_ends_in_good_order(new_world: NewWorld) -> None:
    world = new_world(["alpaca"])
    process = world.fleet.start("alpaca")
    process.popen.send_signal(signal.SIGHUP)
    assert world.fleet.wait_gone(process, GRACE_S) == 0, tail(process.log)
    assert "worker_stopped" in process.log.read_text()


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("when", "signals"),
    [
        ("up", (signal.SIGINT, signal.SIGINT)),
        ("starting", (signal.SIGTERM,)),
        pytest.param("starting", (signal.SIGINT,), marks=pytest.mark.soak),
    ],
    ids=["Ctrl-C twice", "SIGTERM at the start", "Ctrl-C at the start"],
)
def test_corro_up_leaves_no_process_behind(tmp_path: Path, when: str, signals: Sequence[signal.Signals]) -> None:
    home, log = tmp_path / "home", tmp_path / "up.log"
    env = {**clean_environment(), "CORRO_HOME": str(home)}
    with log.open("wb") as file:
        up = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "up", "--sandbox"], env=env, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        ready = (lambda: b"corro is up" in log.read_bytes()) if when == "up" else (lambda: _workers_of(home))
        eventually(ready, 120, lambda: log.read_text())
        for number in signals:
            up.send_signal(number)
            time.sleep(SECOND_THOUGHT_S)
        assert up.wait(GRACE_S) in (0, 130, 143), log.read_text()
        eventually(lambda: not _children_of(home), 5, lambda: _children_of(home))
    finally:
        for pid in (up.pid, *_children_of(home)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        up.wait(10)


def _workers_of(home: Path) -> bool:
    return (home / "logs" / "ibkr.log").exists()
