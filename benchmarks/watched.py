"""What those cost who look: twenty open pages, a scrape every five seconds, and a follower of the journal."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import psutil
from sqlalchemy import insert

from benchmarks import past
from benchmarks.contenders import CORRO, ContenderRun, once_more
from benchmarks.histories import NAMES
from benchmarks.house import ROOT, BenchHouse
from benchmarks.report import Part, Scale, Table, Target, percentile, ratio
from models.clock import utcnow
from models.record import tally, told
from models.record.database import Database
from models.record.deployment import identity
from models.record.tables import order_events
from models.settings import load_settings
from worker.messaging.announcer import Announcer

WORDS = """\
One `corro web` and one worker beside the million orders of a year, 100 more a second. Twenty browsers with eight
different pages hear of each change and ask anew, every 2 s at most; /metrics is scraped every 5 s. The worker is
measured in turns without and with them. The database's CPU is that of the server's processes which serve the page,
of one core; SQLite has no server: what it reads is in the page's own. The browsers, which are elsewhere in life,
run with low priority. Then the journal grows as by 1,000 orders a second, three events each, beside a reader that
never reads."""
#: Of twenty browsers.
PAGES = [
    *["/"] * 8, *["/?status=open"] * 4, *["/?status=rejected&broker=ibkr"] * 2, "/attention", *["/fleet"] * 2,
    "/risk", "/pnl", "/?symbol=S07",
]  # fmt: skip
PER_S = 100
#: The page's name at PostgreSQL.
_NAME = "corro-bench-page"
_WARM = 20
#: Orders a second that the stream has to keep up with, events of each, batches a second.
_STREAM_PER_S, _EVENTS_EACH, _BATCHES_PER_S = 1000, 3, 20
#: What is wanted: of one core for the readers' statements; of the worker's CPU and latency; milliseconds of an event.
_DATABASE, _WORKER, _LATE_MS = 0.02, 1.1, 500.0


class Web:
    """`corro web` over a run's record.

    Args:
        run: whose settings it has.
    """

    def __init__(self, run: ContenderRun) -> None:
        environment = {**run.environment(run.house.site), "PGAPPNAME": _NAME}
        self._run = run
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "web", "--port", "0"], cwd=run.folder, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=run.log_file, start_new_session=True,
        )  # fmt: skip
        assert self._popen.stdout is not None
        found = re.search(r":(\d+);", self._popen.stdout.readline())
        if not found:
            raise RuntimeError(f"the page was not served: {run.tail()}")
        self.port = int(found[1])
        self.process = psutil.Process(self._popen.pid)
        #: Of each process of the database's server that has served it: the CPU when it was first seen, and now.
        self._served: dict[int, tuple[float, float]] = {}

    def cpu_s(self) -> float:
        """Return the seconds of CPU of the page itself."""
        times = self.process.cpu_times()
        return times.user + times.system

    def database_s(self) -> float:
        """Return the seconds of CPU that the database's server has spent on it so far."""
        if self._run.is_sqlite:
            return math.nan
        for pid, spent in self._run.house.postgres.cpu_of(_NAME).items():
            self._served[pid] = self._served.get(pid, (0.0, 0.0))[0], spent
        return sum(last - first for first, last in self._served.values())

    def close(self) -> None:
        """End it."""
        self._popen.terminate()
        self._popen.wait(10)


@contextmanager
def looking(*words: object) -> Iterator[dict[str, Any]]:
    """Have somebody look; what they saw is there at the end."""
    command = [sys.executable, "-m", "benchmarks.viewers", *map(str, words)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: os.nice(10 if words[0] == "pages" else 0), start_new_session=True,
    )  # fmt: skip
    seen: dict[str, Any] = {}
    try:
        assert process.stdout is not None
        process.stdout.readline()  # everybody is there
        yield seen
        seen |= json.loads(process.communicate("", timeout=30)[0])
    finally:
        process.kill()
        process.wait()


def measure(house: BenchHouse, scale: Scale, database: str = "sqlite") -> Part:
    """Trade without and with them, then let the journal grow."""
    url = past.made_year(house, database, scale.of(1_000_000, 50_000))
    made = Database(url)
    tally.count_on(made, 300.0)  # as each scrape has
    made.close()
    found = once_more(lambda: _watched(house, scale, url))
    return _part(found, NAMES[database])


def _watched(house: BenchHouse, scale: Scale, url: str) -> dict[str, Any]:
    figures: dict[str, list[float]] = {}
    with ContenderRun(house, CORRO, record=url) as run:
        run.tell("each", n=_WARM)
        run.start_worker()
        run.wait_sent(_WARM)
        web = Web(run)
        try:
            for _ in scale.rounds(2, 4, 60.0):
                for who in ("nobody", "twenty"):
                    if who == "nobody":
                        one = _traded(run, web, scale.of(500, 300))
                    else:
                        with looking("pages", web.port, *PAGES) as seen:
                            _traded(run, web, PER_S * 3)  # statements are prepared
                            one = _traded(run, web, scale.of(1000, 500))
                        if seen["failed"]:
                            raise RuntimeError(f"not answered: {seen['failed'][:3]}")
                        for path, ms in seen["ms"].items():
                            figures.setdefault(f"ms {path}", []).extend(ms)
                    for name, value in one.items():
                        figures.setdefault(f"{name}, {who}", []).append(value)
            with looking("events", web.port) as heard:
                figures["written"] = [float(_grow(run, url, scale.of(8, 3)))]
            figures["lags"], figures["rises"] = heard["lags"], [float(heard["rises"])]
            figures["page MB"] = [web.process.memory_info().rss / 1e6]
        finally:
            web.close()
    return figures


def _traded(run: ContenderRun, web: Web, n: int) -> dict[str, float]:
    """Submit at an even pace; returns what it took of the worker, the page and the database."""
    ended = threading.Event()

    def keep_looking() -> None:
        while not ended.wait(0.5):
            web.database_s()

    before, page, database = run.read(), web.cpu_s(), web.database_s()
    watcher = threading.Thread(target=keep_looking)
    watcher.start()
    sent = run.tell("paced", n=n, per_s=PER_S)["sent"]
    run.wait_sent(before.orders + n)
    ended.set()
    watcher.join()
    after = run.read()
    seconds, at = after.at - before.at, dict(run.stamps_at())
    waited = [(at[id_] - began) / 1e6 for id_, began in sent]
    return {
        "p50": median(waited),
        "p99": percentile(waited, 99),
        "worker": (after.cpu_s - before.cpu_s) / n * 1e3,
        "page": (web.cpu_s() - page) / seconds,
        "database": (web.database_s() - database) / seconds,
    }


def _grow(run: ContenderRun, url: str, seconds: int) -> int:
    """Write events as so many orders a second would, and say so as a worker does; returns how many."""
    database = Database(url)
    with database.read() as connection:
        deployment = identity(connection)
    announcer = Announcer(load_settings(home=run.folder, redis_url=run.queue), deployment)
    announcer.start()
    database.after_commit = announcer.committed
    each, due, written = _STREAM_PER_S // _BATCHES_PER_S, time.monotonic(), 0
    try:
        for number in range(seconds * _BATCHES_PER_S):
            due += 1 / _BATCHES_PER_S
            time.sleep(max(0.0, due - time.monotonic()))
            ids = [past.identity(number * each + i) for i in range(each)]
            with database.write() as connection:
                at = utcnow()
                rows = [{"client_order_id": id_, "at": at, "kind": "bench"} for id_ in ids for _ in range(_EVENTS_EACH)]
                connection.execute(insert(order_events), rows)
                told.changed(connection, ids)
            written += len(rows)
    finally:
        announcer.close()
        database.close()
    return written


def _part(found: dict[str, list[float]], name: str) -> Part:
    part = Part(f"watched_{name.lower()}", f"Looked at by twenty, {name}", WORDS, figures=found)
    columns = {"p50": "p50 ms", "p99": "p99 ms", "worker": "worker, CPU ms an order", "page": "page, of a core"}
    rows = [
        [who, *(f"{median(found[f'{key}, {who}']):.2f}" for key in columns), _percent(found[f"database, {who}"])]
        for who in ("nobody", "twenty")
    ]
    table = ["who looks", *columns.values(), "database for the page, of a core"]
    part.tables.append(Table("100 orders a second", table, rows))
    pages = {key[3:]: ms for key, ms in found.items() if key.startswith("ms ")}
    rows = [[path, len(ms), f"{median(ms):.0f}", f"{percentile(ms, 99):.0f}"] for path, ms in sorted(pages.items())]
    part.tables.append(Table("answers to the twenty and to the scrape", ["asked", "answers", "p50 ms", "p99 ms"], rows))
    cpu, late = (ratio(found[f"{key}, twenty"], found[f"{key}, nobody"]) for key in ("worker", "p50"))
    part.targets += [
        Target(f"an order's CPU in the worker while twenty look: at most {_WORKER:g} of nobody ({name})",
               cpu <= _WORKER, f"{cpu:.2f} of it; submit to broker, p50, {late:.2f}"),
    ]  # fmt: skip
    if name != NAMES["sqlite"]:
        share = median(found["database, twenty"])
        part.targets.append(
            Target(f"the database's CPU for twenty pages and a scrape: at most {_DATABASE:.0%} of a core ({name})",
                   share <= _DATABASE, f"{share:.1%}", "watched")
        )  # fmt: skip
    written, got = int(found["written"][0]), len(found["lags"])
    last = percentile(found["lags"], 99) if found["lags"] else math.inf
    part.targets.append(
        Target(f"the stream keeps up with {_STREAM_PER_S:,} orders/s beside one who never reads: p99 of an event's age "
               f"at most {_LATE_MS:g} ms ({name})", got == written and last <= _LATE_MS and found["rises"] == [1.0],
               f"{got:,} of {written:,} events, p50 {median(found['lags'] or [math.inf]):.0f} ms, p99 {last:.0f} ms")
    )  # fmt: skip
    return part


def _percent(shares: list[float]) -> str:
    return "" if any(map(math.isnan, shares)) else f"{median(shares):.1%}"
