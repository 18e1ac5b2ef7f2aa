"""Behind a submit: a cancel's and a replace's way to the broker, and a fill's way back to the strategy that waits."""

from __future__ import annotations

from functools import partial
from statistics import median

from benchmarks.contenders import CORRO, ContenderRun, once_more
from benchmarks.house import BenchHouse
from benchmarks.null.null_call import moments, stamp_count, stamps
from benchmarks.report import Part, Scale, Table, Target, percentile
from benchmarks.worker import NAMES, PER_S

WORDS = """\
One worker, the null broker, 100 a second. A submit, a replace and a cancel are timed from before the strategy's call to
the broker's; a replace or cancel is first recorded as a wish, then rung for. The way back is from the commit of a fill
to the moment at which the strategy's `wait` has returned: the worker publishes the order's id, the strategy's ear hears
it and reads the row."""
_WARM = 20
#: Milliseconds from a fill's commit to the strategy.
_WANTED_MS = 3.0


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Submit, change, cancel and wait, on both databases."""
    part = Part("changes", "Cancels, replaces, and the way back", WORDS)
    n, rows = scale.of(300, 60), list[list[str]]()
    for database, name in NAMES.items():
        found = once_more(partial(_there, house, database, n))
        found["fill committed to `wait` returned"] = once_more(partial(_back, house, database, n))
        part.figures[database] = found
        rows += [[f"{what}, {name}", f"{median(ms):.2f}", f"{percentile(ms, 99):.2f}"] for what, ms in found.items()]
        back = median(found["fill committed to `wait` returned"])
        words = f"fill committed to the strategy's `wait` returning, p50: at most {_WANTED_MS:g} ms ({name})"
        part.targets.append(Target(words, back <= _WANTED_MS, f"{back:.1f} ms", "back"))
    part.tables.append(Table("from call to broker, and from commit to strategy", ["way", "p50 ms", "p99 ms"], rows))
    return part


def _there(house: BenchHouse, database: str, n: int) -> dict[str, list[float]]:
    """Return the milliseconds to the broker of submits, then replaces, then cancels of the same orders."""
    with ContenderRun(house, CORRO, database) as run:
        run.tell("each", n=_WARM)
        run.start_worker()
        run.wait_recorded(_WARM)
        sent = run.tell("paced", n=n, per_s=PER_S)["sent"]
        run.wait_recorded(_WARM + n)
        at, ids = dict(run.stamps_at()), [id_ for id_, _ in sent]
        found = {"submit to broker": [(at[id_] - began) / 1e6 for id_, began in sent]}
        for how in ("replace", "cancel"):
            begun = run.tell("changes", how=how, ids=ids, per_s=PER_S)["sent"]
            file = f"{run.stamps}.{how}s"
            run.wait_for(lambda file=file: stamp_count(file) >= n, f"{how} of {n} orders")  # type: ignore[misc]
            first = dict(reversed(stamps(file)))
            found[f"{how} to broker"] = [(first[id_] - began) / 1e6 for id_, began in begun]
    return found


def _back(house: BenchHouse, database: str, n: int) -> list[float]:
    """Return the milliseconds from the commit of each fill until the strategy had it."""
    with ContenderRun(house, CORRO, database, answer="filled", marks=True) as run:
        run.start_worker()
        run.tell("waited", n=_WARM, per_s=PER_S)
        returned = run.tell("waited", n=n, per_s=PER_S)["sent"]
        committed = {name: found[-1] for name, found in moments(run.stamps).items()}
    return [(at - committed[id_]) / 1e6 for id_, at in returned]
