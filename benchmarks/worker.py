"""Through one worker: a backlog is drained, then orders come at 100 a second; the same for corro and every peer.

The backlog is enqueued before the worker starts. Its pace is taken between the 5th and the 95th percentile of the
broker calls, so that starting up does not count; everything counted per order is read at the 5th and at the end, when
the last outcome is committed and no message is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from benchmarks.contenders import CELERY, CORRO, EVERYBODY, Contender, ContenderRun, rotated
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target, percentile, ratio, spread

WORDS = """\
One worker process each, eight sends at once, the null broker: it accepts at once and notes the moment. A backlog is
drained, then 100 orders a second are submitted and the time from before the call to the broker is taken."""
PER_S = 100
#: How long all rounds together may take, unless two take longer.
_SECONDS = 240.0
#: The producer's first orders, not measured.
_WARM = 20
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
Figures = dict[str, float]
Series = dict[str, dict[str, list[float]]]

_NOTE = """\
orders/s: broker calls between the 5th and the 95th percentile. to idle: orders/s until the last outcome is committed
and no message is left. p50, p99: submit to broker at 100 orders/s. CPU: producer and worker, by the kernel. round
trips: reads of the Redis server. MB: resident, at the end."""


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
        for entry in rotated(entries or ENTRIES, round_):
            n = scale.of(3000, 1000) if entry.contender.ours else scale.of(800, 600)
            n, pace = (scale.of(200, 150), 100) if entry.contender.slow else (n, scale.of(200, 100))
            figures = through_a_worker(house, entry, database, n, pace)
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
            for name in ("commits", "commands", "round_trips")
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
    part.targets = [*_later(series, ours[0], database), *_faster(series, ours, database)]
    return part


def _faster(series: Series, ours: list[str], database: str) -> list[Target]:
    """Compare with the best peer of each form, round by round."""
    targets = []
    for form, wanted in (("same promise", 5), ("bare", 3)):
        peers = [one["per_s"] for title, one in series.items() if title.endswith(f", {form}")]
        if not peers:
            continue
        best = [max(round_) for round_ in zip(*peers, strict=True)]
        for title in ours:
            times = ratio(series[title]["per_s"], best)
            words = f"{title}: {wanted} times the orders/s of the best peer, {form} ({NAMES[database]})"
            targets.append(Target(words, times >= wanted, f"{times:.1f} times"))
    return targets


def _later(series: Series, ours: str, database: str) -> list[Target]:
    if CELERY.title not in series:
        return []
    targets = []
    for key, word in (("p50_ms", "median"), ("p99_ms", "p99")):
        one = ratio(series[ours][key], series[CELERY.title][key])
        words = f"submit to broker no later than bare Celery, {word} ({NAMES[database]})"
        targets.append(Target(words, one <= 1, f"{one:.2f} of it"))
    return targets
