"""The hot path, measured: `make bench`.

This machine and yours are noisy, so nothing here is a bare number of microseconds to be believed: every figure stands
beside its floor and a peer that were measured in the same interleaved rounds, and what counts is the ratio. Commits and
statements are counted, not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from sqlalchemy import event, insert

from models.intake import row_of
from models.logs import configure
from models.messages import OrderRequest, utcnow
from models.settings import Settings, load_settings
from models.tables import orders
from producers import OrderClient
from producers import bell as bells
from producers.bell import Bell, envelope
from worker import brokers
from worker.brokers.base import Ticket
from worker.clock import Stopwatch
from worker.execution import Execution
from worker.fleet import Fleet

ROUNDS, EACH, BATCH = 7, 60, 100


def request(**more: Any) -> OrderRequest:
    return OrderRequest(symbol="AAPL", side="buy", quantity=1, route=["alpaca"], **more)


def spent(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(peers: dict[str, Callable[[], None]], per: dict[str, int]) -> dict[str, dict[str, float]]:
    """Run every peer once a round; returns microseconds per order: median, least and most over the rounds."""
    for work in peers.values():
        work()  # warm
    times: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(ROUNDS):
        names = list(peers)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(spent(peers[name]) / per[name] * 1e6)
    return {
        name: {"median": statistics.median(found), "least": min(found), "most": max(found)}
        for name, found in times.items()
    }


# -- PRODUCER ---
def producer(settings: Settings, home: Path) -> dict[str, Any]:
    """Record and ring, one at a time and in batches, against the floor and the obvious way to do it."""
    client = OrderClient(settings)
    redis = bells.connect(settings, connect_s=1, answer_s=5)
    floor = sqlite3.connect(home / "floor.db", isolation_level=None)
    floor.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE o (id TEXT PRIMARY KEY, body)")
    app = Celery(broker=settings.queue_url)
    app.conf.task_ignore_result = True
    body = request().to_wire()

    def bare() -> None:
        for _ in range(EACH):
            floor.execute("INSERT INTO o VALUES (?, ?)", (os.urandom(12).hex(), json.dumps(body)))
            redis.lpush("bench.floor", envelope("bench", "bench.floor", {"orders": [body]}))

    def naive() -> None:
        for _ in range(EACH):
            asked = request()
            with client.database.write() as connection:
                connection.execute(insert(orders).values(row_of(asked, ["alpaca"], utcnow())))
            app.send_task("bench", kwargs={"orders": [asked.to_wire()]}, queue="bench.naive")

    def single() -> None:
        for _ in range(EACH):
            client.submit(request())

    def many() -> None:
        client.submit_many([request() for _ in range(BATCH)])

    peers = {"floor: bare INSERT+commit+LPUSH": bare, "peer: insert + Celery send_task": naive}
    peers |= {"corro submit": single, "corro submit_many(100)": many}
    per = dict.fromkeys(peers, EACH) | {"corro submit_many(100)": BATCH}
    found = interleaved(peers, per)
    for name in ("bench.floor", "bench.naive", "orders.alpaca"):
        redis.delete(name)
    client.close()
    return found


# -- WORKER ---
@contextmanager
def counted(engine: Any) -> Iterator[dict[str, int]]:
    """Count commits and statements."""
    counts = {"commits": 0, "statements": 0}

    def commit(_connection: Any) -> None:
        counts["commits"] += 1

    def statement(*_: Any) -> None:
        counts["statements"] += 1

    event.listen(engine, "commit", commit)
    event.listen(engine, "before_cursor_execute", statement)
    try:
        yield counts
    finally:
        event.remove(engine, "commit", commit)
        event.remove(engine, "before_cursor_execute", statement)


def worker(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Claim, send and record at the Alpaca door, against the adapter alone with as many threads."""
    client = OrderClient(settings)
    broker = brokers.load(settings, "alpaca")
    broker.updates(lambda _report: None)
    broker.connect()
    silent = Bell(settings)
    execution = Execution(settings, client.database, broker, "bench", silent)
    pool = ThreadPoolExecutor(broker.capabilities.parallel_orders)

    def place(asked: OrderRequest) -> None:
        watch = Stopwatch()
        ticket = Ticket(
            order=asked, broker_client_order_id=asked.client_order_id, deadline_s=10.0, still_mine=lambda: None
        )
        broker.place_order(ticket)
        assert watch.age() < 10

    def adapter_alone() -> None:
        list(pool.map(place, [request() for _ in range(BATCH)]))

    def record(n: int) -> list[str]:
        requests = [request() for _ in range(n)]
        execution.intake.record(requests)
        return [r.client_order_id for r in requests]

    def whole() -> None:
        execution.work(record(BATCH))

    peers = {"floor: adapter alone, same threads": adapter_alone, "corro record+claim+send+record": whole}
    found = interleaved(peers, dict.fromkeys(peers, BATCH))
    costs = {}
    for size in (1, BATCH):
        ids = record(size)
        with counted(client.database.engine) as counts:
            execution.work(ids)
        costs[f"claim+send+record of {size}"] = dict(counts)
        with counted(client.database.engine) as counts:
            client.submit_many([request() for _ in range(size)])
        costs[f"submit of {size}"] = dict(counts)
    execution.close()
    broker.disconnect()
    client.close()
    return found, costs


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    configure("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = load_settings(home=home)
        with Fleet(settings, sandbox=True, any_port=True, brokers=()) as fleet:
            at_producer = producer(fleet.settings, home)
            at_worker, costs = worker(fleet.settings)
    report = {"producer_us_per_order": at_producer, "worker_us_per_order": at_worker, "costs": costs}
    if options.json:
        print(json.dumps(report))
        return 0
    for title in ("producer_us_per_order", "worker_us_per_order"):
        rows = report[title]
        base = next(iter(rows.values()))["median"]
        print(f"\n{title} (median [least-most] of {ROUNDS} interleaved rounds)")
        for name, row in rows.items():
            words = f"{row['median']:8.0f} [{row['least']:.0f}-{row['most']:.0f}]"
            print(f"  {name:<36} {words:<26} x{row['median'] / base:.2f} of the floor")
    print("\nwhat one call costs the database")
    for name, row in costs.items():
        print(f"  {name:<28} {row['commits']} commits, {row['statements']} statements")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
