"""The history's usual questions at ten thousand, a hundred thousand and a million orders: they have to stay flat."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from statistics import median
from typing import Any

from benchmarks import past
from benchmarks.contenders import rotated
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target, ratio
from models.history import History, order_events, v_attempts, v_fills, v_latency, v_orders
from models.record.database import Database
from models.record.evidence import unresolved
from models.settings import BrokerSettings, Settings, load_settings
from producers.bell import Bell
from worker import brokers
from worker.fleet.identity import Identity
from worker.fleet.members import Heartbeat
from worker.orders.desk import BrokerDesk
from worker.positions.external import unsettled_symbols
from worker.positions.ledger import PositionLedger

WORDS = """\
A thousand orders a day, so that a larger history is a longer one and each question has the same answer; 100 symbols, 20
strategies, an attempt, a fill and two events for each order. p50 in ms, as a DataFrame where the API gives one."""
_ROUNDS = 15
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def questions(history: History) -> dict[str, Callable[[], Any]]:
    """Return what analysts and the command line ask."""
    ten_days, one_day = past.NEWEST - timedelta(days=9.5), past.NEWEST - timedelta(days=1)
    symbol, strategy, one = "S07", "strategy-7", past.identity(4321)
    open_ = ["unknown", "sending"]
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
        "attempts(outcome=)": lambda: history.rows(v_attempts, outcome=open_),
        "unresolved, with its evidence": lambda: unresolved(history.database, 10.0),
        "latency(since=)": lambda: history.frame(v_latency, since=one_day),
        "latency(symbol=, limit=100)": lambda: history.frame(v_latency, symbol=symbol, limit=100),
        "events(limit=100)": lambda: history.frame(order_events, limit=100),
    }


def duties(settings: Settings, database: Database) -> dict[str, Callable[[], Any]]:
    """Return what the leader of a broker asks again and again, and what a batch of a worker does to the record."""
    table = {"adapter": "alpaca", "key_id": "bench", "secret_key": "bench"}  # it is never connected
    broker = brokers.load(settings.model_copy(update={"brokers": {"alpaca": BrokerSettings(**table)}}), "alpaca")
    me = Identity("alpaca")
    desk = BrokerDesk(settings, database, broker, me, Bell(settings), pulse := Heartbeat(database, me, settings.timing))
    pulse.leads = True
    desk.gate.has_tried.set()

    def live() -> list[Any]:
        with database.read() as connection:
            return desk.readings.live(connection)

    def sweep() -> None:
        desk.place.sweep()

    def positions() -> dict[str, Any]:
        with database.write() as connection:
            return PositionLedger.open(connection, "alpaca", {}).expected

    def unknown() -> set[str]:
        with database.read() as connection:
            return unsettled_symbols(connection, "alpaca")

    return {
        "leader: every live order, each 10 s": live,
        "leader: cancels to send, twice a second": desk.cancels.carry_out,
        "leader: symbols with something unknown": unknown,
        "leader: positions added up, each minute": positions,
        "leader: the sweep, twice a second": sweep,
    }


def measure(house: BenchHouse, scale: Scale, database: str = "sqlite") -> Part:
    """Ask every size in turn, question by question and round by round."""
    sizes = [10_000, 100_000] if scale.quick else [10_000, 100_000, 1_000_000]
    settings = load_settings(home=house.folder("leader"))
    opened = {size: Database(past.made(house, database, size)) for size in sizes}
    asked = {size: questions(History(one)) | duties(settings, one) for size, one in opened.items()}
    found: dict[str, dict[int, list[float]]] = {}
    for name in asked[sizes[0]]:
        found[name] = {size: [] for size in sizes}
        for round_ in range(_ROUNDS + 1):
            for size in rotated(sizes, round_):
                ms = _ms(name, asked[size][name])
                if round_:  # the first one is to get warm
                    found[name][size].append(ms)
    for one in opened.values():
        one.close()
    return _part(found, sizes, database)


def _ms(name: str, ask: Callable[[], Any]) -> float:
    started = time.perf_counter()
    answer = ask()
    spent = (time.perf_counter() - started) * 1e3
    assert not hasattr(answer, "__len__") or len(answer) > 0, f"{name}: no answer measures nothing"
    return spent


def _part(found: dict[str, dict[int, list[float]]], sizes: list[int], database: str) -> Part:
    first, last = sizes[0], sizes[-1]
    times = {name: ratio(one[last], one[first]) for name, one in found.items()}
    rows = [
        [name, *(f"{median(one[size]):.1f}" for size in sizes), f"{times[name]:.1f}"] for name, one in found.items()
    ]
    figures = {name: {str(size): ms for size, ms in one.items()} for name, one in found.items()}
    part = Part(f"history_{database}", f"Questions to the history, {NAMES[database]}", WORDS, figures=figures)
    part.tables.append(Table("p50 in ms", ["question", *(f"{size:,}" for size in sizes), "last / first"], rows))
    for kind, words in ((False, "history queries"), (True, "a leader's regular questions")):
        worst = max((name for name in times if name.startswith("leader:") is kind), key=lambda name: times[name])
        words = f"{words} at {last:,} orders within twice those at {first:,} ({NAMES[database]})"
        part.targets.append(Target(words, times[worst] <= 2, f"worst is {worst}: {times[worst]:.1f} times"))
    return part
