"""`make bench`: measure corro against its floor and its peers, and write docs/performance.md."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import (
    bars,
    changes,
    counts,
    document,
    doors,
    earnings,
    fallback,
    histories,
    limits,
    memory,
    scaling,
    stages,
    start,
    submit,
    watched,
    worker,
)
from benchmarks.house import ROOT, BenchHouse
from benchmarks.machine import Watch, facts
from benchmarks.report import Part, Scale, as_text
from models.logs import configure

PARTS: dict[str, Callable[[BenchHouse, Scale], Part]] = {
    "submit": submit.measure,
    "worker_sqlite": partial(worker.measure, database="sqlite"),
    "worker_postgresql": partial(worker.measure, database="postgresql"),
    "stages": stages.measure,
    "counts": counts.measure,
    "changes": changes.measure,
    "limits": limits.measure,
    "scaling": scaling.measure,
    "doors": doors.measure,
    "memory": memory.measure,
    "fallback": fallback.measure,
    "bars": bars.measure,
    "start": start.measure,
    "history_sqlite": partial(histories.measure, database="sqlite"),
    "history_postgresql": partial(histories.measure, database="postgresql"),
    "earnings_sqlite": partial(earnings.measure, database="sqlite"),
    "earnings_postgresql": partial(earnings.measure, database="postgresql"),
    "watched_sqlite": partial(watched.measure, database="sqlite"),
    "watched_postgresql": partial(watched.measure, database="postgresql"),
}
#: Seconds of a run after which no part takes more rounds than its fewest: a busy machine has to end as well.
_MORE_ROUNDS_S = 420.0
#: Seconds of a run after which no part begins any more: the page names those that are missing.
_LAST_S = 1050.0
PAGE = ROOT / "docs" / "performance.md"


def main() -> int:
    """Run the parts and report."""
    options = _options()
    configure("ERROR")
    watch, parts, failed = Watch(), [], []
    last = time.monotonic() + _LAST_S
    scale = Scale(quick=options.quick, until=time.monotonic() + _MORE_ROUNDS_S)
    with BenchHouse() as house:
        for name in options.only or PARTS:
            began = time.monotonic()
            if began > last:
                failed.append(f"{name} (no time was left)")
                continue
            try:
                parts.append(PARTS[name](house, scale))
            except Exception as error:  # the other parts are worth having; the page names the hole
                failed.append(f"{name} ({type(error).__name__})")
                traceback.print_exc()
                continue
            print(as_text(parts[-1]), f"\n  ({time.monotonic() - began:.0f} s)", flush=True)
        found = facts(house, watch)
    print("\n" + "\n".join(f"{name}: {words}" for name, words in found))
    if options.json:
        everything = {"facts": dict(found), "parts": [part.as_json() for part in parts]}
        options.json.write_text(json.dumps(everything, indent=1))
    page = options.page or (None if options.quick or options.only else PAGE)
    if failed:
        print(f"failed: {', '.join(failed)}")
    if page and parts:
        document.write(page, parts, found, failed)
        print(f"written: {page}")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--quick", action="store_true", help="a first look in a few minutes; the docs stay as they are")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="one part; may be given again")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure there too")
    parser.add_argument("--page", metavar="FILE", type=Path, help=f"write the page there, instead of {PAGE.name}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
