"""A queue or a broker that accepts and never answers: every call, command and worker ends, and trading goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from models.settings import load_settings
from producers.client import OrderClient
from tests.kit import ROOT, World, clean_environment, environment, eventually, outcomes_of, tail
from worker.messaging.embedded_queue import server_binary

NewWorld = Callable[..., World]
BROKERS = ("alpaca", "ibkr", "tda", "schwab")
#: Seconds that a worker may take to end: far below the 60 that operations.md asks supervisors for.
STOP_S = 30.0


@pytest.fixture
def silent() -> Iterator[Callable[[], int]]:
    """Make ports that accept connections and never say a word: the kernel accepts, nobody reads."""
    with ExitStack() as opened:

        def make() -> int:
            listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
            return int(listener.getsockname()[1])

        yield make


def ended(world: World, label: str, timeout: float = STOP_S) -> float:
    """Tell a worker to end, see that it does so by itself, and return after how many seconds."""
    process, began = world.fleet.processes[label], time.monotonic()
    process.popen.send_signal(signal.SIGTERM)
    assert world.fleet.wait_gone(process, timeout) == 0, tail(process.log)
    return time.monotonic() - began


def together(world: World, commands: list[list[str]], timeout: float, **more: str) -> list[tuple[list[str], int, str]]:
    """Run several commands of `corro` at once; one that hangs fails the test."""
    env = {**clean_environment(), **world.environment, **more}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "worker.cli", *command], env=env, cwd=ROOT, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for command in commands
    ]  # fmt: skip
    deadline, said = time.monotonic() + timeout, []
    try:
        for command, process in zip(commands, running, strict=True):
            out, err = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
            said.append((command, process.returncode, out + err))
    finally:
        for process in running:
            process.kill()
            process.communicate()
    return said


def test_a_queue_that_accepts_and_never_answers(new_world: NewWorld, silent: Callable[[], int]) -> None:
    world, url = new_world(["alpaca"]), f"redis://127.0.0.1:{silent()}/0"
    with environment(world.environment):
        settings = load_settings(redis_url=url)
    client = OrderClient(settings)
    resting = {"order_type": "limit", "limit_price": "1", "route": "alpaca"}
    order = client.submit(world.orders.request("KO", "buy", 2, **resting))
    calls: dict[str, Callable[[], object]] = {
        "OrderClient()": lambda: OrderClient(settings).close(),
        "submit": lambda: client.submit(world.orders.request("KO", "buy", 1, **resting)),
        "submit_many": lambda: client.submit_many(
            [world.orders.request("KO", "buy", 1, **resting) for _ in range(250)]
        ),
        "replace": lambda: client.replace(order.client_order_id, limit_price="2"),
        "cancel": lambda: client.cancel(order.client_order_id),
        "quote": lambda: client.quote("KO"),
    }
    for name, call in calls.items():
        client._bell._silent_until = 0.0  # each of them meets the silence anew
        began = time.monotonic()
        call()
        assert time.monotonic() - began < 5, name
    client.close()

    commands = {f"cancel {order.client_order_id}": 0, "fleet": 1, "quote KO --timeout 1": 1, "dead-letters": 1}
    for command, status, text in together(world, [c.split() for c in commands], 120, CORRO_REDIS_URL=url):
        assert status == commands[" ".join(command)], (command, status, text)


def test_a_worker_without_a_word_from_its_queue_starts_trades_and_ends(
    new_world: NewWorld, silent: Callable[[], int]
) -> None:
    world, url = new_world(["alpaca"]), f"redis://127.0.0.1:{silent()}/0"
    world.fleet.start("alpaca", CORRO_REDIS_URL=url)
    filled = world.orders.send("PEP", "buy", 3, route="alpaca")
    assert outcomes_of(world.orders.wait(filled, "filled", 15)) == [("alpaca", "accepted")]
    resting = world.orders.send("PEP", "buy", 3, order_type="limit", limit_price="1", route="alpaca")
    world.orders.wait(resting, "accepted", 15)
    world.client.cancel(resting.client_order_id)
    world.orders.wait(resting, "canceled", 15)
    ended(world, "alpaca")


def test_a_frozen_embedded_queue_is_not_replaced_and_workers_start_and_end_beside_it(new_world: NewWorld) -> None:
    world = new_world(["alpaca"])
    pid = world.fleet.queue_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        world.fleet.start("alpaca")
        order = world.orders.send("KO", "buy", 3, route="alpaca")
        world.orders.wait(order, "filled", 15)
        world.fleet.start("alpaca", label="second")
        assert _servers_of(world) == [pid]
        ended(world, "second")
        ended(world, "alpaca")
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(world.fleet.queue_answers, 10)
    assert world.fleet.queue_pid() == pid
    world.fleet.start("alpaca")
    world.orders.wait(world.orders.send("KO", "buy", 1), "filled")


def _servers_of(world: World) -> list[int]:
    """Return the queue servers that run on this world's files."""
    marks, name = (os.fsencode(world.home), os.fsencode(world.fleet.server.socket)), os.fsencode(server_binary().name)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes()
            if name in line.split(b"\0")[0] and any(mark in line for mark in marks):
                found.append(int(path.parent.name))
    return found


@pytest.mark.soak
def test_brokers_that_accept_and_never_answer(new_world: NewWorld, silent: Callable[[], int]) -> None:
    """At the connect, all four of them: orders move on at once, workers say what is wrong, and end when told."""
    ports = {name: silent() for name in BROKERS}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    more: dict[str, dict[str, object]] = {
        "ibkr": {"port": ports["ibkr"]},
        "alpaca": {"base_url": urls["alpaca"], "data_url": urls["alpaca"]},
        "tda": {"base_url": f"{urls['tda']}/v1"},
        "schwab": {"base_url": urls["schwab"]},
    }
    world = new_world(BROKERS, more=more)
    for name in BROKERS:
        world.fleet.start(name, ready=False)
    early = world.orders.send("KO", "buy", 1, expires_at=_in(4.0))
    for name in BROKERS:
        eventually(lambda name=name: world.fleet.state(world.fleet.processes[name]) == "disconnected", 60, name)
    order = world.orders.send("KO", "buy", 1, expires_at=_in(2.0))
    for each in (early, order):
        whole = world.orders.wait(each, "expired", 30)
        assert {outcome for _, outcome in outcomes_of(whole)} <= {"not_sent"}
    ((_, status, text),) = together(world, [["check", "--timeout", "2", "--json"]], 90)
    assert status == 1, text
    for name in BROKERS:
        ended(world, name)


def _in(seconds: float) -> object:
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(seconds=seconds)
