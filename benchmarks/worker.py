"""Through one worker: a backlog is drained, then orders come at 100 a second; the same for corro and every peer.

The backlog is enqueued before the worker starts. Its pace is taken between the 5th and the 95th percentile of the
broker calls, so that starting up does not count; everything counted per order is read at the 5th and at the end, when
the last outcome is committed and no message is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.contenders import CELERY, CORRO, EVERYBODY, FLOOR, PEERS_OF, Contender, ContenderRun, once_more, rotated
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target, percentile, ratio, spread

WORDS = """\
One worker process each, eight sends at once, the null broker: it accepts at once and notes the moment. A backlog is
drained, then 100 orders a second are submitted and the time from before the call to the broker is taken."""
PER_S = 100
#: How long all rounds together may take, unless two take longer.
_SECONDS = 150.0
#: The producer's first orders, not measured.
_WARM = 20
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
Figures = dict[str, float]
Series = dict[str, dict[str, list[float]]]

_NOTE = """\
orders/s: broker calls between the 5th and the 95th percentile. to idle: orders/s until the last outcome is committed
and no message is left. p50, p99: submit to broker at 100 orders/s. CPU: producer and worker, by the kernel; what the
database's server takes is not in it. commits: of SQLite as the drivers count them; of PostgreSQL its own count of
transactions that wrote. WAL: bytes that PostgreSQL wrote to its log. round trips: reads of the Redis server. MB:
resident, at the end."""

#: (column of figures, words, held against, what a median over the rounds may be of that: SQLite, PostgreSQL).
_LATER = (
    ("p50_ms", "submit to broker, p50, of bare Celery", CELERY.title, {"sqlite": 1.1, "postgresql": 1.1}),
    (
        "p50_ms",
        "submit to broker, p50, of Celery with the same promise",
        PEERS_OF["celery"][1].title,
        {"sqlite": 0.85, "postgresql": 0.75},
    ),
    ("p99_ms", "submit to broker, p99, of bare Celery", CELERY.title, {"sqlite": 1.3, "postgresql": 1.3}),
    ("p50_ms", "submit to broker, p50, of the floor", FLOOR.title, {"sqlite": 1.7, "postgresql": 1.7}),
)
#: Times the orders/s of the best peer with the same promise.
_FASTER = {"sqlite": 4.0, "postgresql": 3.0}
#: Bytes of WAL per order under load.
_WAL = 2048


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table."""

    title: str
    contender: Contender
    batch: int = 0


ENTRIES = [
    Entry("corro, single submits", CORRO),
    Entry("corro, submit_many", CORRO, 1000),
    *(Entry(contender.title, contender) for contender in EVERYBODY if not contender.ours),
]


def measure(house: BenchHouse, scale: Scale, database: str = "sqlite", entries: list[Entry] | None = None) -> Part:
    """Run every contender in turn, round after round."""
    found: dict[str, list[Figures]] = {}
    for round_ in scale.rounds(2, 5, _SECONDS):
        for entry in rotated([one for one in entries or ENTRIES if database in one.contender.databases], round_):
            n = scale.of(3000, 1000) if entry.contender.ours else scale.of(600, 600)
            n, pace = (scale.of(200, 150), 100) if entry.contender.slow else (n, scale.of(200, 100))
            figures = once_more(partial(through_a_worker, house, entry, database, n, pace))
            found.setdefault(entry.title, []).append(figures)
    return _part(found, database)


def through_a_worker(house: BenchHouse, entry: Entry, database: str, backlog: int, pace: int) -> Figures:
    """Drain a backlog through one worker, then submit so many at an even pace; returns the figures."""
    with ContenderRun(house, entry.contender, database) as run:
        n, figures = fill(run, backlog, entry.batch)
        run.start_worker()
        figures |= drained(run, n, figures)
        figures |= paced(run, n, pace)
        figures["memory_mb"] = run.memory() / 1e6
    return figures


def fill(run: ContenderRun, n: int, batch: int = 0) -> tuple[int, Figures]:
    """Enqueue a backlog; returns how many, and what each took of the producer."""
    run.tell("each", n=_WARM)  # connected, everything imported
    before = run.read()
    answers = [run.tell("many", n=batch) for _ in range(n // batch)] if batch else [run.tell("each", n=n)]
    after = run.read()
    return n + _WARM, {
        "cpu_ms": sum(answer["cpu_s"] for answer in answers) / n * 1e3,
        "commits": (after.commits - before.commits) / n,
        "commands": (after.commands - before.commands) / n,
        "round_trips": (after.round_trips - before.round_trips) / n,
        "wal": (after.wal - before.wal) / n,
    }


def drained(run: ContenderRun, n: int, producer: Figures) -> Figures:
    """Wait until the backlog is gone; returns the pace, and what each order took of producer and worker together."""
    run.wait_sent(n // 20)
    first = run.read()
    run.wait_sent(n)
    run.wait_recorded(n)
    run.wait_idle()
    last = run.read()
    at = sorted(moment for _, moment in run.stamps_at())
    low, high = n // 20, n - n // 20
    left = max(n - first.orders, 1)
    return {
        "per_s": (high - low) / (at[high] - at[low]) * 1e9,
        "idle_per_s": left / (last.at - first.at),
        "cpu_ms": producer["cpu_ms"] + (last.cpu_s - first.cpu_s) / left * 1e3,
        **{
            name: producer[name] + (getattr(last, name) - getattr(first, name)) / left
            for name in ("commits", "commands", "round_trips", "wal")
        },
    }


def paced(run: ContenderRun, before: int, n: int) -> Figures:
    """Submit at an even pace; returns how long an order took from before the call until it was at the broker."""
    sent = run.tell("paced", n=n, per_s=PER_S)["sent"]
    run.wait_sent(before + n)
    run.wait_recorded(before + n)
    at = dict(run.stamps_at())
    waited = [(at[id_] - began) / 1e6 for id_, began in sent]
    return {"p50_ms": median(waited), "p99_ms": percentile(waited, 99)}


def _part(found: dict[str, list[Figures]], database: str) -> Part:
    columns = {
        "orders/s [rounds]": ("per_s", 0),
        "to idle": ("idle_per_s", 0),
        "p50 ms": ("p50_ms", 2),
        "p99 ms": ("p99_ms", 2),
        "CPU ms": ("cpu_ms", 2),
        "commits": ("commits", 2),
        **({"WAL": ("wal", 0)} if database == "postgresql" else {}),
        "Redis commands": ("commands", 1),
        "round trips": ("round_trips", 1),
        "MB": ("memory_mb", 0),
    }
    series = {t: {key: [one[key] for one in rounds] for key, _ in columns.values()} for t, rounds in found.items()}
    rows = [
        [
            title,
            *(
                spread(one[key], digits) if key == "per_s" else f"{median(one[key]):,.{digits}f}"
                for key, digits in columns.values()
            ),
        ]
        for title, one in series.items()
    ]
    part = Part(f"worker_{database}", f"Through one worker, {NAMES[database]}", WORDS, figures=series)
    part.tables.append(Table("per order: producer and worker together", ["contender", *columns], rows, _NOTE))
    ours = [title for title in series if title.startswith("corro")]
    part.targets = [
        *_later(series, ours[0], database),
        *_faster(series, ours, database),
        *_said(series, ours, database),
    ]
    return part


def _later(series: Series, ours: str, database: str) -> Iterator[Target]:
    """Compare how late an order is at the broker, round by round."""
    for key, words, title, most in _LATER:
        if title in series:
            one = ratio(series[ours][key], series[title][key])
            words = f"{words}: at most {most[database]:g} ({NAMES[database]})"
            yield Target(words, one <= most[database], f"{one:.2f} of it", "later")


def _faster(series: Series, ours: list[str], database: str) -> Iterator[Target]:
    """Compare with the best peer with the same promise, round by round."""
    peers = {title: one["per_s"] for title, one in series.items() if title not in ours and "same promise" in title}
    if not peers:
        return
    best, wanted = [max(round_) for round_ in zip(*peers.values(), strict=True)], _FASTER[database]
    who = max(peers, key=lambda title: median(peers[title])).partition(",")[0]
    for title in ours:
        times = ratio(series[title]["per_s"], best)
        words = f"orders/s of one worker, {title.partition(', ')[2]}, of the best peer with the same promise"
        figure = f"{times:.1f} times; the best is {who}"
        yield Target(f"{words}: at least {wanted:g} times ({NAMES[database]})", times >= wanted, figure, "faster")


def _said(series: Series, ours: list[str], database: str) -> Iterator[Target]:
    """Say the commits, and see that little is written to the log."""
    for title in ours:
        form, commits = title.partition(", ")[2], median(series[title]["commits"])
        said = f"commits per order under load, {form} ({NAMES[database]})"
        yield Target(f"{said}: no more than with the same promise", commits <= 2.0, f"{commits:.2f}; by hand 2")
        if database == "postgresql":
            wal = median(series[title]["wal"])
            words = f"WAL bytes per order under load, {form}: at most {_WAL:,} ({NAMES[database]})"
            yield Target(words, wal <= _WAL, f"{wal:,.0f}", "wal")
