"""What an analyst asks of a million orders in one year: profit, positions, slippage, and the report of the year."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from statistics import median
from typing import Any

from benchmarks import past
from benchmarks.histories import NAMES
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target
from models.history import History, v_tca
from models.record.database import Database

WORDS = """\
Every order of one year, so three times as busy as the questions above; balances are kept up to the last executions, as
the leaders keep them. Each has a decision price and a quote at its arrival. p50; the report is a process of its own."""
_ROUNDS = 5
#: Limits: seconds for a question about a month, seconds and MB for the report of the year.
_MONTH_S, _REPORT_S, _REPORT_MB = 1.0, 30.0, 1000.0
#: The most memory is the kernel's word of this process: what getrusage tells of a child begins with its parent's.
_REPORT = """
import re, sys, time
from models.history import History
from models.record.database import Database
started = time.monotonic()
page = History(Database(sys.argv[1])).report(sys.argv[2])
took = time.monotonic() - started
most_kb = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(took, most_kb / 1000, len(page))
"""


def questions(history: History) -> dict[str, Callable[[], Any]]:
    """Return what is asked about a month, and about positions."""
    month = (past.NEWEST - timedelta(days=30)).date()
    moment = past.NEWEST - timedelta(days=17)
    return {
        "pnl(by strategy and symbol), a month": lambda: history.pnl(["strategy", "symbol"], since=month),
        "pnl(by day), a month": lambda: history.pnl("day", since=month),
        "pnl(by strategy), a month, average": lambda: history.pnl("strategy", since=month, method="average"),
        "pnl(by month), the year": lambda: history.pnl("month"),
        "positions()": history.positions,
        "positions(at=), in the month": lambda: history.positions(moment),
        "tca(), a day": lambda: history.rows(v_tca, since=past.NEWEST - timedelta(days=1)),
    }


def measure(house: BenchHouse, scale: Scale, database: str = "sqlite") -> Part:
    """Ask each question some times, and make the report of the year once."""
    count = scale.of(1_000_000, 50_000)
    url = past.made_year(house, database, count)
    made = Database(url)
    found = {name: [_seconds(ask) for _ in range(_ROUNDS)] for name, ask in questions(History(made)).items()}
    made.close()
    seconds, mb, _ = _report(url)
    rows = [[name, f"{median(times) * 1e3:,.0f}"] for name, times in found.items()]
    part = Part(f"earnings_{database}", f"What was earned in a year of {count:,} orders, {NAMES[database]}", WORDS)
    part.figures = {**found, "report": [seconds, mb]}
    part.tables.append(Table("p50 in ms", ["question", f"{count:,} orders"], rows))
    months = {name: median(times) for name, times in found.items() if "month" in name and "year" not in name}
    worst = max(months, key=lambda name: months[name])
    part.targets = [
        Target(f"a question about a month of {count:,} orders a year in under a second ({NAMES[database]})",
               months[worst] < _MONTH_S, f"worst is {worst}: {months[worst]:.2f} s"),
        Target(f"the report of a year of {count:,} orders in under 30 s and 1 GB ({NAMES[database]})",
               seconds < _REPORT_S and mb < _REPORT_MB, f"{seconds:.1f} s, {mb:,.0f} MB"),
    ]  # fmt: skip
    return part


def _seconds(ask: Callable[[], Any]) -> float:
    started = time.perf_counter()
    assert len(ask()) > 0, "no answer measures nothing"
    return time.perf_counter() - started


def _report(url: str) -> list[float]:
    since = (past.NEWEST - timedelta(days=365)).date().isoformat()
    done = subprocess.run([sys.executable, "-c", _REPORT, url, since], check=True, capture_output=True, text=True)
    return [float(value) for value in done.stdout.split()]
