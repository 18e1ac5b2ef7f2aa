"""More workers of one broker: 1, 2 and 4 processes that share a backlog."""

from __future__ import annotations

from functools import partial

from benchmarks.contenders import CORRO, PEERS_OF, ContenderRun, once_more, rotated
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, spread
from benchmarks.worker import NAMES, Entry, fill

WORDS = """\
A backlog, the null broker. SQLite has one writer, so more workers cannot commit more there; PostgreSQL shows what the
rest allows. The machine's cores bound it too."""
WORKERS = (1, 2, 4)


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Drain with every number of workers, interleaved."""
    entries = [Entry("corro, single submits", CORRO)]
    entries.append(Entry(PEERS_OF["huey"][1].title, PEERS_OF["huey"][1]))
    found: dict[str, dict[str, list[float]]] = {}
    for round_ in scale.rounds(1, 3, 100.0):
        for database in ("sqlite", "postgresql"):
            for entry in rotated(entries, round_):
                for workers in rotated(list(WORKERS), round_):
                    title = f"{entry.title}, {NAMES[database]}"
                    n = scale.of(2000, 1000) if entry.contender.ours else 1000
                    pace = once_more(partial(_pace, house, entry, database, workers, n))
                    found.setdefault(title, {}).setdefault(str(workers), []).append(pace)
    rows = [[title, *(spread(one[str(workers)]) for workers in WORKERS)] for title, one in sorted(found.items())]
    part = Part("scaling", "Through 1, 2 and 4 workers", WORDS, figures=found)
    columns = ["contender", *(f"{workers} worker{'s' * (workers > 1)} [rounds]" for workers in WORKERS)]
    part.tables.append(Table("orders/s", columns, rows))
    return part


def _pace(house: BenchHouse, entry: Entry, database: str, workers: int, n: int) -> float:
    """Return orders/s between the 20th and the 95th percentile, when every worker has come up."""
    with ContenderRun(house, entry.contender, database) as run:
        n, _ = fill(run, n, entry.batch)
        for _ in range(workers):
            run.start_worker()
        run.wait_sent(n)
        run.wait_recorded(n)
        at = sorted(moment for _, moment in run.stamps_at())
    low, high = n // 5, n - n // 20
    return (high - low) / (at[high] - at[low]) * 1e9
