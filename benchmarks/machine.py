"""Where and with what something was measured."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

from benchmarks.contenders import PEERS_OF
from benchmarks.house import BenchHouse
from benchmarks.report import percentile

_OURS = ("celery", "kombu", "redis", "hiredis", "SQLAlchemy", "pydantic", "psycopg")
_THEIRS = {
    "peers": ("rq", "dramatiq", "taskiq", "taskiq-redis", "huey", "dbos", "awa-pg", "redis"),
    "peers-arq": ("arq", "redis"),
}


class Watch:
    """Notes what the machine was doing from now on."""

    def __init__(self) -> None:
        self.began, self._times = time.monotonic(), psutil.cpu_times()

    def words(self) -> str:
        """Say how long it took and how much of the processors went elsewhere."""
        now = psutil.cpu_times()
        spent = sum(now) - sum(self._times)
        stolen = (getattr(now, "steal", 0.0) - getattr(self._times, "steal", 0.0)) / spent * 100
        minutes = (time.monotonic() - self.began) / 60
        load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
        return f"{minutes:.0f} minutes; {stolen:.1f} % of the processors went to other guests; load at the end {load}"


def facts(house: BenchHouse, watch: Watch) -> list[tuple[str, str]]:
    """Return what a reader has to know of the machine and the versions."""
    server = house.redis.info("server")
    name = server.get("server_name", "redis")
    memory = psutil.virtual_memory().total / 2**30
    ours = ", ".join(f"{package} {version(package)}" for package in _OURS)
    return [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("run", watch.words()),
        ("machine", f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.platform(terse=True)}"),
        ("one durable commit", _commit(house)),
        ("Python", platform.python_version()),
        ("ours, and Celery's", ours),
        ("peers", "; ".join(_versions(environment, names) for environment, names in _THEIRS.items())),
        ("queue", f"{name} {server.get('valkey_version', server['redis_version'])}, unix socket, AOF every second"),
        (
            "databases",
            f"SQLite {sqlite3.sqlite_version} (WAL, synchronous=FULL), PostgreSQL {house.postgres.version()}",
        ),
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _commit(house: BenchHouse) -> str:
    """Time the floor of everything here: SQLite's commit, written through to the disk."""
    path = house.folder("commit") / "one.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE one (id INTEGER, text TEXT)"
    )
    spent = []
    for number in range(300):
        started = time.perf_counter()
        connection.execute("INSERT INTO one VALUES (?, ?)", (number, "x" * 200))
        spent.append((time.perf_counter() - started) * 1e3)
    connection.close()
    return f"SQLite: p50 {median(spent):.2f} ms, p99 {percentile(spent, 99):.2f} ms"


def _versions(environment: str, names: tuple[str, ...]) -> str:
    python = next(pair[0].python for pair in PEERS_OF.values() if pair[0].environment == environment)
    words = f"from importlib.metadata import version; print(', '.join(n + ' ' + version(n) for n in {names!r}))"
    return subprocess.run([python, "-c", words], capture_output=True, text=True, check=True).stdout.strip()
