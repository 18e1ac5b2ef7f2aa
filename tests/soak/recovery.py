"""`make recovery`: how long it takes to get well, with the timing of production.

Each scenario runs many times in worlds of its own (real processes, the default `[timing]`), several side by side; the
moment of the blow is random against heartbeats and leases. Seconds are counted by the clock of this process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.settings import TimingSettings
from producers.bell import envelope
from tests.kit import World
from worker.local.processes import Process

#: Seconds after which a scenario has failed.
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Recovery:
    """One thing to recover from: `once` breaks it and returns the seconds until it was well again."""

    name: str
    words: str
    brokers: tuple[str, ...]
    prepare: Callable[[World], None]
    once: Callable[[World, random.Random], float]


def _status(world: World, client_order_id: str) -> str:
    return str((world.orders.row(client_order_id) or {}).get("status"))


def _filled(world: World, client_order_id: str, since: float) -> float:
    """Wait for the fill; returns the seconds since then."""
    deadline = time.monotonic() + PATIENCE_S
    while _status(world, client_order_id) != "filled":
        if time.monotonic() > deadline:
            raise AssertionError(f"not filled in {PATIENCE_S:g} s: {world.orders.whole(client_order_id)}")
        time.sleep(0.01)
    return time.monotonic() - since


# -- KILL -9 DURING A SEND ---
def _standby(world: World) -> None:
    world.fleet.start("alpaca", label="standby")


def _beside_a_standby(point: str) -> Callable[[World, random.Random], float]:
    """Kill one of two workers; its broker's updates about the order are lost, so that only looking finds it."""

    def once(world: World, dice: random.Random) -> float:
        victim = world.fleet.start("alpaca", label="victim", CORRO_CRASH=point)
        time.sleep(dice.uniform(0.0, 2.0))
        while True:  # the standby takes some of them
            symbol = f"SIM{dice.randrange(1000):03d}"
            world.control.add_fault("alpaca", "stream_silent", symbol=symbol)
            order = world.orders.send(symbol, "buy", 1, route="alpaca")
            since = _dies_of(world, victim, order.client_order_id)
            if since is not None:
                return _filled(world, order.client_order_id, since)

    return once


def _alone(world: World, dice: random.Random) -> float:
    """Kill the only worker of a broker and start another at once, as whoever keeps it running does."""
    for process in [p for p in world.fleet.processes.values() if p.popen.poll() is None]:
        world.fleet.kill(process)
    victim = world.fleet.start("ibkr", label="victim", CORRO_CRASH="after_send")
    time.sleep(dice.uniform(0.0, 2.0))
    order = world.orders.send("SPY", "buy", 1, route="ibkr")
    since = _dies_of(world, victim, order.client_order_id)
    assert since is not None
    world.fleet.start("ibkr", label="next", ready=False)
    return _filled(world, order.client_order_id, since)


def _nothing(world: World) -> None:
    pass


def _dies_of(world: World, process: Process, client_order_id: str) -> float | None:
    """Return when the process died of this order; None when another worker has sent it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.popen.poll() is not None:
            assert process.popen.returncode == -signal.SIGKILL
            return time.monotonic()
        if _status(world, client_order_id) in ("accepted", "filled"):
            # Its own updates may have told it so a moment before it died.
            return time.monotonic() if _is_dead(process) else None
        time.sleep(0.002)
    raise AssertionError(f"nobody took {world.orders.whole(client_order_id)}")


def _is_dead(process: Process) -> bool:
    try:
        return process.popen.wait(0.3) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        return False


# -- THE PRIMARY'S WORKERS DIE ---
def _both(world: World) -> None:
    world.fleet.start("ibkr", "alpaca")


def _primary_dies(world: World, dice: random.Random) -> float:
    process = world.fleet.processes["ibkr"]
    if process.popen.poll() is not None:
        process = world.fleet.start("ibkr")
    time.sleep(dice.uniform(0.0, 2.0))
    process.popen.send_signal(signal.SIGKILL)
    since = time.monotonic()
    process.popen.wait(10)
    order = world.orders.send("SPY", "buy", 1, route=["ibkr", "alpaca"])
    spent = _filled(world, order.client_order_id, since)
    assert world.orders.row(order.client_order_id)["broker"] == "alpaca"  # type: ignore[index]
    return spent


# -- REDIS COMES BACK ---
def _one(world: World) -> None:
    world.fleet.start("alpaca")


def _redis_back(world: World, dice: random.Random) -> float:
    world.fleet.kill_queue(wipe=True)
    time.sleep(dice.uniform(0.5, 6.0))
    world.fleet.start_queue()
    since = time.monotonic()
    id_ = f"by-message-{dice.getrandbits(64):x}"
    # A message that no row knows: only a worker that consumes again can execute it.
    body = {"client_order_id": id_, "symbol": "SPY", "side": "buy", "quantity": "1"}
    world.fleet.queue.lpush("orders.alpaca", envelope("orders.submit", "orders.alpaca", {"orders": [body]}))
    return _filled(world, id_, since)


SCENARIOS = (
    Recovery(
        "sent", "worker kill -9 after the broker took the order, its updates lost → another worker finds it, filled",
        ("alpaca",), _standby, _beside_a_standby("after_send"),
    ),
    Recovery(
        "alone", "the same, the broker's only worker, started again at once → found, filled",
        ("ibkr",), _nothing, _alone,
    ),
    Recovery(
        "unsent", "worker kill -9 between claim and send → another worker proves it absent, sends it, filled",
        ("alpaca",), _standby, _beside_a_standby("before_send"),
    ),
    Recovery(
        "primary", "the primary's only worker kill -9 → an order for it is filled at the backup",
        ("ibkr", "alpaca"), _both, _primary_dies,
    ),
    Recovery("redis", "Redis answers again, empty → a fresh message is executed", ("alpaca",), _one, _redis_back),
)  # fmt: skip


def measure(scenario: Recovery, times: int, side_by_side: int, seed: int, home: Path) -> list[float]:
    """Run a scenario so many times; returns the seconds of each."""
    timing = TimingSettings().model_dump()
    worlds = [
        World(home / f"{scenario.name}{n}", scenario.brokers, timing=timing) for n in range(min(side_by_side, times))
    ]
    found: list[float] = []
    failures: list[BaseException] = []

    def work(world: World, n: int) -> None:
        dice = random.Random(f"{seed}/{scenario.name}/{n}")
        try:
            scenario.prepare(world)
            for _ in range(n, times, len(worlds)):
                found.append(scenario.once(world, dice))
                print(f"{scenario.name} {len(found)}/{times}: {found[-1]:.2f} s", file=sys.stderr, flush=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(world, n)) for n, world in enumerate(worlds)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for world in worlds:
            world.close(check=not failures)
    if failures:
        raise failures[0]
    return found


def quantile(values: list[float], share: float) -> float:
    """Return the smallest value that is not below that share of them."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make recovery", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="repetitions of each scenario")
    parser.add_argument("--jobs", type=int, default=4, help="worlds side by side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one scenario: " + ", ".join(s.name for s in SCENARIOS))
    parser.add_argument("--json", type=Path, help="write every figure there")
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    lines = ["| from → to | n | p50 | p99 | longest |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory(prefix="corro-recovery-") as home:
        for scenario in SCENARIOS:
            if options.only in (None, scenario.name):
                found = measure(scenario, options.times, options.jobs, options.seed, Path(home))
                figures = [f"{at:.1f} s" for at in (quantile(found, 0.5), quantile(found, 0.99), max(found))]
                lines.append(f"| {scenario.words} | {len(found)} | {' | '.join(figures)} |")
                rows[scenario.name] = [round(at, 3) for at in found]
    print("\n".join(lines))
    print(f"\n{os.cpu_count()} cores, default timing, {options.jobs} worlds side by side, seed {options.seed}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
