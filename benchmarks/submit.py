"""What a submit costs the strategy: the call, timed in the strategy's own process, against everybody's enqueue."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks.contenders import AWA, CELERY, CORRO, DBOS, FLOOR, PEERS_OF, PLAIN, ContenderRun, rotated
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target, percentile, ratio, spread
from benchmarks.worker import NAMES

WORDS = """\
The call alone, in the strategy's process, no worker running: build the order, hand it over. corro's is durable when it
returns (a commit, then the ring), as are DBOS's, awa-pg's and the plain driver's two rows; the others' is a message in
Redis. Who has a call for many is shown with that too."""
BATCH = 1000


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Time every producer in turn, round after round."""
    each = scale.of(100, 60)
    found: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        runs: list[tuple[str, ContenderRun, int]] = []
        for title, contender, database in _producers():
            run = stack.enter_context(ContenderRun(house, contender, database))
            run.tell("each", n=20)
            runs.append((title, run, 0))
            if contender.module in _BATCHES:
                run.tell("many", n=BATCH)
                runs.append((f"{title}, {_BATCHES[contender.module]}", run, BATCH))
        for round_ in scale.rounds(3, 11, 60.0):
            for title, run, batch in rotated(runs, round_):
                answer = run.tell("many", n=batch) if batch else run.tell("each", n=each)
                _note(found.setdefault(title, {}), answer, batch)
                house.redis.flushall()
    return _part(found)


_BATCHES = {
    "corro_peer": f"submit_many({BATCH:,})",
    "celery_peer": f"in a producer.batch({BATCH:,})",
    "rq_peer": f"enqueue_many({BATCH:,})",
    "floor_peer": f"one LPUSH of {BATCH:,}",
    "awa_peer": f"enqueue_many_copy({BATCH:,})",
}


def _producers() -> list[tuple[str, Any, str]]:
    bare = [pair[0] for pair in PEERS_OF.values()]
    ours = [("corro, SQLite", CORRO, "sqlite"), ("corro, PostgreSQL", CORRO, "postgresql")]
    durable = [(f"{DBOS.name}, {NAMES[database]}", DBOS, database) for database in DBOS.databases]
    durable += [(f"{one.name}, PostgreSQL", one, "postgresql") for one in (AWA, PLAIN)]
    floor = ("redis-py LPUSH (floor)", FLOOR, "sqlite")
    return [*ours, *((peer.name, peer, "sqlite") for peer in bare), *durable, floor]


def _note(found: dict[str, list[float]], answer: dict[str, Any], batch: int) -> None:
    n = batch or len(answer["ns"])
    microseconds = [ns / 1e3 / (batch or 1) for ns in answer["ns"]]
    found.setdefault("p50", []).append(median(microseconds))
    found.setdefault("p99", []).append(percentile(microseconds, 99))
    found.setdefault("cpu", []).append(answer["cpu_s"] / n * 1e6)


def _part(found: dict[str, dict[str, list[float]]]) -> Part:
    base = found[CELERY.name]["p50"]
    rows = [
        [
            title,
            spread(one["p50"]),
            f"{median(one['p99']):,.0f}",
            f"{median(one['cpu']):,.0f}",
            f"{ratio(one['p50'], base):.2f}",
        ]
        for title, one in found.items()
    ]
    part = Part("submit", "What a submit costs the strategy", WORDS, figures=found)
    columns = ["producer", "p50 us per order [rounds]", "p99 us", "CPU us", "of a bare Celery apply_async"]
    part.tables.append(Table("cost per order in the strategy's process", columns, rows))
    plain = found[f"{PLAIN.name}, PostgreSQL"]["p50"]
    part.targets = [
        _target(found["corro, SQLite"]["p50"], base, "durable submit, of bare apply_async", 0.9, "SQLite"),
        _target(
            found["corro, PostgreSQL"]["p50"],
            plain,
            "durable submit, of the plain driver's insert + insert + commit",
            1.5,
            "PostgreSQL",
        ),
    ]
    for name, most in (("SQLite", 0.06), ("PostgreSQL", 0.12)):
        many = found[f"corro, {name}, {_BATCHES['corro_peer']}"]["p50"]
        part.targets.append(_target(many, base, "submit_many(1,000) per order, of apply_async", most, name))
    return part


def _target(ours: list[float], theirs: list[float], words: str, most: float, name: str) -> Target:
    one = ratio(ours, theirs)
    return Target(
        f"{words}: at most {most:g} ({name})", one <= most, f"{one:.{2 if most > 0.5 else 3}f} of it", "submit"
    )
