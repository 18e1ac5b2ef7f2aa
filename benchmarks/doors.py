"""With a broker that has a wire: the sandbox's Alpaca door, over HTTP, answering at once and after 20 ms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.contenders import CELERY, CORRO, PEERS_OF, ContenderRun, once_more, rotated
from benchmarks.house import BenchHouse, sandbox
from benchmarks.report import Part, Scale, Table, ratio, spread
from benchmarks.worker import Entry
from worker.sandbox.control import SandboxControl

WORDS = """\
One worker process each, eight sends at once, a backlog, SQLite. The door is a process of its own on the same machine,
so at 0 ms it is what is measured; at 20 ms eight sends at once cannot be more than 400 orders/s. Peers POST with
requests.Session and stop there; corro also connects first and reads what the account has, and listens to its stream.
Beside Celery stand the two quickest of the others."""
WAITS_MS = (0, 20)
_WARM = 20


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Drain everybody's backlog against the door, with both waits."""
    peers = [CELERY, *(PEERS_OF[name][1] for name in ("celery", "dramatiq", "huey"))]
    entries = [Entry("corro, single submits", CORRO), Entry("corro, submit_many", CORRO, 100)]
    entries += [Entry(peer.title, peer) for peer in peers]
    if scale.quick:
        entries = entries[:3]
    found: dict[str, dict[str, list[float]]] = {}
    for round_ in scale.rounds(1, 2, 70.0):
        for wait_ms in WAITS_MS:
            for entry in rotated(entries, round_):
                pace = once_more(partial(_pace, house, entry, wait_ms, scale.of(250, 200)))
                found.setdefault(entry.title, {}).setdefault(f"{wait_ms} ms", []).append(pace)
    base = found[CELERY.title]
    rows = [
        [title, *(cell for wait in one for cell in (spread(one[wait]), f"{ratio(one[wait], base[wait]):.2f}"))]
        for title, one in found.items()
    ]
    columns = ["contender"]
    for wait_ms in WAITS_MS:
        columns += [f"orders/s at {wait_ms} ms [rounds]", "of bare Celery"]
    part = Part("doors", "Against a broker with a wire", WORDS, figures=found)
    part.tables.append(Table("orders/s through one worker, outcomes committed", columns, rows))
    return part


@contextmanager
def _door(house: BenchHouse, wait_ms: int) -> Iterator[str]:
    with sandbox(house.folder("sandbox"), doors="alpaca") as home:
        control = SandboxControl.at(home)
        if wait_ms:
            control.add_fault("alpaca", "slow", operation="place", seconds=wait_ms / 1000)
        yield f"http://127.0.0.1:{control.ports()['alpaca']}"


def _pace(house: BenchHouse, entry: Entry, wait_ms: int, n: int) -> float:
    with _door(house, wait_ms) as url, ContenderRun(house, entry.contender, door=url) as run:
        if entry.batch:
            for _ in range((n + _WARM) // entry.batch):
                run.tell("many", n=entry.batch)
            n = (n + _WARM) // entry.batch * entry.batch
        else:
            run.tell("each", n=n)
        run.start_worker()
        seen: list[tuple[float, int]] = []

        def done() -> bool:
            seen.append((time.monotonic(), run.recorded()))
            return seen[-1][1] >= n

        run.wait_for(done, f"{n} orders at the door", 0.02)
    first = next(one for one in seen if one[1] >= n // 10)
    last = next(one for one in seen if one[1] >= n - n // 20)
    return (last[1] - first[1]) / (last[0] - first[0])
