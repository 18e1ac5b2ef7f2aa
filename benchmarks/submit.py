"""What a submit costs the strategy: the call, timed in the strategy's own process, against everybody's enqueue."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks.contenders import CELERY, CORRO, FLOOR, PEERS_OF, ContenderRun, rotated
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target, percentile, ratio, spread

WORDS = """\
The call alone, in the strategy's process, no worker running: build the order, hand it over. corro's is durable when it
returns (a commit, then the ring); a peer's is a message in Redis. Who has a call for many is shown with that too."""
BATCH = 1000


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Time every producer in turn, round after round."""
    rounds, each = scale.of(11, 5), scale.of(100, 60)
    found: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        runs: list[tuple[str, ContenderRun, int]] = []
        for title, contender, database in _producers():
            run = stack.enter_context(ContenderRun(house, contender, database))
            run.tell("each", n=20)
            runs.append((title, run, 0))
            if contender.ours or contender.module in ("celery_peer", "rq_peer", "floor_peer"):
                run.tell("many", n=BATCH)
                runs.append((f"{title}, {_BATCHES[contender.module]}", run, BATCH))
        for round_ in range(rounds):
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
}


def _producers() -> list[tuple[str, Any, str]]:
    bare = [pair[0] for pair in PEERS_OF.values()]
    ours = [("corro, SQLite", CORRO, "sqlite"), ("corro, PostgreSQL", CORRO, "postgresql")]
    return [*ours, *((peer.name, peer, "sqlite") for peer in bare), ("redis-py LPUSH (floor)", FLOOR, "sqlite")]


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
    for database in ("SQLite", "PostgreSQL"):
        one = ratio(found[f"corro, {database}"]["p50"], base)
        many = ratio(found[f"corro, {database}, {_BATCHES['corro_peer']}"]["p50"], base)
        part.targets += [
            Target(
                f"a durable submit costs no more than a bare apply_async ({database})", one <= 1, f"{one:.2f} of it"
            ),
            Target(
                f"in a submit_many of 1,000 an order costs under a tenth ({database})", many < 0.1, f"{many:.3f} of it"
            ),
        ]
    return part
