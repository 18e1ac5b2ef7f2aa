"""What a worker holds: idle, and after a hundred thousand orders."""

from __future__ import annotations

from benchmarks.contenders import CORRO, ContenderRun
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target

WORDS = """\
Resident memory of one worker process, SQLite, orders that fill at once, in batches of 1,000 as fast as the worker takes
them."""
_AHEAD = 5
_MOST = 1.1


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Send orders, and look at the worker on the way."""
    total = scale.of(100_000, 10_000)
    marks = [1_000, total // 10, total // 4, total // 2, total]
    seen: dict[int, float] = {}
    with ContenderRun(house, CORRO, answer="filled") as run:
        run.tell("each", n=1)
        run.start_worker()
        run.wait_recorded(1)
        seen[0] = run.memory() / 1e6
        for batch in range(1, total // 1000 + 1):
            run.tell("many", n=1000)
            run.wait_sent((batch - _AHEAD) * 1000)
            if batch * 1000 in marks:
                run.wait_sent(batch * 1000 + 1)
                seen[batch * 1000] = run.memory() / 1e6
        run.wait_recorded(total + 1)
    rows = [[f"{orders:,}" if orders else "idle", f"{mb:.0f}"] for orders, mb in seen.items()]
    part = Part("memory", "Memory of a worker", WORDS, figures={str(orders): mb for orders, mb in seen.items()})
    part.tables.append(Table("one worker", ["orders so far", "MB"], rows))
    grown = seen[total] / seen[1_000]
    words = f"a worker's memory is flat from the first 1,000 orders to {total:,} (within a tenth)"
    part.targets.append(Target(words, grown <= _MOST, f"{seen[1_000]:.0f} MB, then {seen[total]:.0f} MB"))
    return part
