"""The command line's start: what a person waits for, and a script pays, before corro does anything."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, spread

WORDS = """\
A process for each call, beside an interpreter that does nothing and one that imports SQLAlchemy and pydantic and does
nothing with them. `orders` reads what `submit` has recorded; no queue is there, and the submit waits for none."""


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Start each in turn, round after round."""
    home = house.folder("start")
    corro = str(Path(sys.executable).with_name("corro"))
    environment = os.environ | {"CORRO_HOME": str(home), "CORRO_LOG_LEVEL": "ERROR"}
    subprocess.run([corro, "db", "upgrade"], env=environment, capture_output=True, check=True)
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import sqlalchemy, pydantic'": [sys.executable, "-c", "import sqlalchemy, pydantic"],
        "corro --version": [corro, "--version"],
        "corro orders": [corro, "orders"],
        "corro submit": [corro, "submit", "AAPL", "buy", "1"],
    }
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(scale.of(9, 3)):
        for title, command in commands.items():
            wall, cpu = _timed(command, environment)
            one = found.setdefault(title, {"wall": [], "cpu": []})
            one["wall"].append(wall * 1e3)
            one["cpu"].append(cpu * 1e3)
    rows = [[title, spread(one["wall"]), f"{median(one['cpu']):,.0f}"] for title, one in found.items()]
    part = Part("start", "The command line's start", WORDS, figures=found)
    part.tables.append(Table("from the call to its end", ["command", "ms [rounds]", "CPU ms"], rows))
    return part


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return seconds and processor seconds of one call."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
