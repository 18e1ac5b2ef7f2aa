"""`make bench`: measure corro against its floor and its peers, and write docs/performance.md."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import bars, doors, fallback, histories, memory, scaling, submit, worker
from benchmarks.house import House
from benchmarks.report import Part, Scale, as_text
from models.logs import configure

PARTS: dict[str, Callable[[House, Scale], Part]] = {
    "submit": submit.measure,
    "worker_sqlite": lambda house, scale: worker.measure(house, scale, "sqlite"),
    "worker_postgresql": lambda house, scale: worker.measure(house, scale, "postgresql"),
    "scaling": scaling.measure,
    "doors": doors.measure,
    "memory": memory.measure,
    "fallback": fallback.measure,
    "bars": bars.measure,
    "history_sqlite": lambda house, scale: histories.measure(house, scale, "sqlite"),
    "history_postgresql": lambda house, scale: histories.measure(house, scale, "postgresql"),
}


def main() -> int:
    """Run the parts and report."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--quick", action="store_true", help="a first look in a few minutes; docs stay as they are")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="one part; may be given again")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure there too")
    options = parser.parse_args()
    configure("ERROR")
    scale, parts = Scale(quick=options.quick), []
    with House() as house:
        for name in options.only or PARTS:
            began = time.monotonic()
            parts.append(PARTS[name](house, scale))
            print(as_text(parts[-1]), flush=True)
            print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    if options.json:
        options.json.write_text(json.dumps([part.as_json() for part in parts], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
