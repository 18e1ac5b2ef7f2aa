"""Why it takes what it takes: the way of one order by its stages, and where a worker's time goes in a batch."""

from __future__ import annotations

import cProfile
import gc
import pstats
import time
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import median

from benchmarks.contenders import CORRO, ContenderRun
from benchmarks.house import BenchHouse
from benchmarks.inside import inside
from benchmarks.null.null_call import moments
from benchmarks.report import Part, Scale, Table, percentile
from benchmarks.worker import NAMES, PER_S

WORDS = """\
The first tables follow single orders at 100 a second through corro, by the marks that its code has for crash tests
(models/crash_points.py). Between two of them everything is cold: producer, queue and worker have slept. The last two
are code alone, by cProfile: the strategy's, submit_many of 1,000, orders built and rung for; and the worker's without
Celery and queue, claim, send and record of batches of 100."""
#: From before the strategy builds the order to the broker's call.
STAGES = (
    "build the order, commit its row",
    "ring, hand over, commit the claim",
    "send, to the broker's call",
)
_WARM = 20
_COLUMNS = ["what", "share", "us per order"]
#: What a line of the profile counts as, by a piece of its file's name; the first that fits.
AREAS = (
    ("commit, written through to the disk", ("method 'commit'",)),
    ("SQLite: the statements", ("sqlite3.",)),
    ("SQLAlchemy: connections, transactions", ("sqlalchemy",)),
    (
        "our statements: rows to values and back",
        ("models/record/statements", "models/record/columns", "models/encoding", "orjson"),
    ),
    (
        "our record and lifecycle",
        ("models/record/order", "models/record/batch", "models/record/matching", "models/lifecycle"),
    ),
    ("request objects (pydantic)", ("pydantic", "models/record/intake", "models/messages")),
    ("claim, send, record: our own code", ("worker/",)),
    ("client and bell: our own code", ("producers/", "redis", "hiredis", "uuid", "_socket")),
    ("waiting for the sending threads", ("_thread", "threading.py", "concurrent")),
)


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Follow orders, then profile batches."""
    part = Part("stages", "Where the time goes", WORDS)
    for database in ("sqlite", "postgresql"):
        found = _stages(house, database, scale.of(400, 100))
        part.figures[database] = found
        rows = [[name, f"{median(ms):.2f}", f"{percentile(ms, 99):.2f}"] for name, ms in found.items()]
        part.tables.append(Table(f"one order, {NAMES[database]}", ["stage", "p50 ms", "p99 ms"], rows))
    for who, (shares, plain) in _profiles(house, scale.of(3000, 1000)).items():
        rows = [[name, f"{share:.0%}", f"{share * plain:.0f}"] for name, share in shares.items() if share >= 0.005]
        part.figures[who] = shares
        part.tables.append(Table(f"{who}, SQLite: {plain:.0f} us of time per order", _COLUMNS, rows))
    return part


def _stages(house: BenchHouse, database: str, n: int) -> dict[str, list[float]]:
    """Return the milliseconds of each stage, of every order."""
    with ContenderRun(house, CORRO, database, marks=True) as run:
        run.tell("each", n=_WARM)
        run.start_worker()
        run.wait_recorded(_WARM)
        sent = run.tell("paced", n=n, per_s=PER_S)["sent"]
        run.wait_recorded(_WARM + n)
        marks, at = moments(run.stamps), dict(run.stamps_at())
    found: dict[str, list[float]] = {}
    for id_, begun in sent:
        committed = marks["before_ring"][bisect_left(marks["before_ring"], begun)]
        # Two rings may be taken together, so the claim is found from the end: the last one before the broker's call.
        claimed = marks["after_claim"][bisect_left(marks["after_claim"], at[id_]) - 1]
        ends = (begun, committed, claimed, at[id_])
        for stage, (start, end) in zip(STAGES, pairwise(ends), strict=True):
            found.setdefault(stage, []).append((end - start) / 1e6)
        found.setdefault("submit to broker", []).append((at[id_] - begun) / 1e6)
    return found


def _profiles(house: BenchHouse, n: int) -> dict[str, tuple[dict[str, float], float]]:
    """Return, by whose code it is, each area's share, and the microseconds per order without the profiler."""
    with inside(house) as one:
        return {
            "the code of submit_many": _profile(partial(one.submit, at_once=1000), n),
            "a worker's code": _profile(partial(one.work, at_once=100), n),
        }


def _profile(work: Callable[[int], None], n: int) -> tuple[dict[str, float], float]:
    work(1000)  # connected, everything compiled
    gc.collect()
    gc.freeze()  # as a worker does, and the producers here
    started = time.perf_counter()
    work(n)
    plain = (time.perf_counter() - started) / n * 1e6
    profile = cProfile.Profile()
    profile.runcall(work, n)
    times: dict[str, float] = {}
    for (file, _, function), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        words = f"{file} {function}"
        area = next((name for name, pieces in AREAS if any(piece in words for piece in pieces)), "everything else")
        times[area] = times.get(area, 0.0) + own
    whole = sum(times.values())
    return {name: own / whole for name, own in sorted(times.items(), key=lambda one: -one[1])}, plain
