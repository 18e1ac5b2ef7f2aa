"""The history's usual questions at ten thousand, a hundred thousand and a million orders: they have to stay flat."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from statistics import median
from typing import Any

from benchmarks import past
from benchmarks.house import House
from benchmarks.report import Part, Scale, Table, Target
from models.database import Database
from models.history import History, order_events, v_attempts, v_fills, v_latency, v_orders

WORDS = """\
A thousand orders a day, so that a larger history is a longer one and each question has the same answer; 100 symbols, 20
strategies, an attempt, a fill and four events for each order. p50 in ms, as a DataFrame where the API gives one."""
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def questions(history: History) -> dict[str, Callable[[], Any]]:
    """Return what analysts and the command line ask."""
    ten_days, one_day = past.NEWEST - timedelta(days=9.5), past.NEWEST - timedelta(days=1)
    symbol, strategy, one = "S07", "strategy-7", past.identity(4321)
    unresolved = ["unknown", "sending"]
    return {
        "orders(symbol=, since=)": lambda: history.frame(v_orders, symbol=symbol, since=ten_days),
        "orders(strategy=, limit=100)": lambda: history.frame(v_orders, strategy=strategy, limit=100),
        "orders(status=, limit=50)": lambda: history.frame(v_orders, status="rejected", limit=50),
        "orders(broker=, limit=50)": lambda: history.frame(v_orders, broker="tda", limit=50),
        "orders(limit=50)": lambda: history.frame(v_orders, limit=50),
        "order(id), with everything": lambda: history.order(one),
        "fills(symbol=, since=)": lambda: history.frame(v_fills, symbol=symbol, since=ten_days),
        "fills(symbol=, limit=50)": lambda: history.frame(v_fills, symbol=symbol, limit=50),
        "fills(strategy=, limit=50)": lambda: history.frame(v_fills, strategy=strategy, limit=50),
        "attempts(since=)": lambda: history.frame(v_attempts, since=one_day),
        "attempts(symbol=, limit=50)": lambda: history.frame(v_attempts, symbol=symbol, limit=50),
        "unresolved": lambda: history.rows(v_attempts, outcome=unresolved),
        "latency(since=)": lambda: history.frame(v_latency, since=one_day),
        "latency(symbol=, limit=100)": lambda: history.frame(v_latency, symbol=symbol, limit=100),
        "events(limit=100)": lambda: history.frame(order_events, limit=100),
    }


def measure(house: House, scale: Scale, database: str = "sqlite") -> Part:
    """Grow one database, and ask at each size."""
    sizes = [10_000, 100_000] if scale.quick else [10_000, 100_000, 1_000_000]
    found: dict[str, dict[str, float]] = {}
    opened = Database(_url(house, database))
    history, low = History(opened), 0
    for size in sizes:
        past.grow(opened, low, size)
        low = size
        for name, ask in questions(history).items():
            found.setdefault(name, {})[str(size)] = _p50_ms(ask)
    opened.close()
    return _part(found, sizes, database)


def _url(house: House, database: str) -> str:
    return house.database(database, house.folder("history"), ours=True)


def _p50_ms(ask: Callable[[], Any], times: int = 15) -> float:
    assert len(ask()) > 0, "a question without an answer measures nothing"
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        ask()
        spent.append((time.perf_counter() - started) * 1e3)
    return median(spent)


def _part(found: dict[str, dict[str, float]], sizes: list[int], database: str) -> Part:
    first, last = str(sizes[0]), str(sizes[-1])
    times = {name: one[last] / one[first] for name, one in found.items()}
    rows = [[name, *(f"{one[str(size)]:.1f}" for size in sizes), f"{times[name]:.1f}"] for name, one in found.items()]
    part = Part(f"history_{database}", f"Questions to the history, {NAMES[database]}", WORDS, figures=found)
    part.tables.append(Table("p50 in ms", ["question", *(f"{size:,}" for size in sizes), "last / first"], rows))
    worst = max(times, key=lambda name: times[name])
    words = f"history queries at {sizes[-1]:,} orders within twice those at {sizes[0]:,} ({NAMES[database]})"
    part.targets.append(Target(words, times[worst] <= 2, f"worst is {worst}: {times[worst]:.1f} times"))
    return part
