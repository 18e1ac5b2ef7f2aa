"""Writes docs/performance.md: targets first, then every table, then how it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.report import Part, Table

_HEAD = """\
# Performance

Written by `make bench`; do not edit. Every contender is measured in the same run on the same machine, in turn, round
after round, so **what counts is a row beside another row**, not a figure on its own: a busy machine moves them all. A
figure is the median of its rounds, with the least and the most where it says [rounds].
"""
_WAY = """\
## The way of the milliseconds

An order at rest is in nobody's hands: it is a row. On its way it passes three processes (strategy, Redis, worker) and
the database twice, and each passage is a round trip, a change of threads, or a write through to the disk.

* *Record.* On PostgreSQL one round trip: a statement that inserts the order and its first event, and commits itself. On
  SQLite a transaction. What is not recorded is no order.
* *Ring.* One LPUSH, whose answer nobody waits for. Without it the sweep finds the row two seconds later.
* *Hand over.* The thread that reads the queue gives the ring to a thread that claims, and reads on; no Celery request
  is made of it.
* *Claim.* On PostgreSQL one round trip: a statement that chooses the plain orders, marks them, writes attempts and
  events, commits itself and returns them. On SQLite a transaction. After it a crash is settled by asking the broker.
* *Send.* A last look at gate, halts and the age of the claim, then the adapter's call.
* *Record the answer.* A transaction behind the call; nobody waits for it.

*Plain* is an order against which nothing speaks that a statement can see: queued here, due, in time, not canceled,
never tried, opening a position, with no halt, drain or lock in force (worker/orders/plain.py has the list). Any other
goes the careful way, a transaction that looks at each order. A property test holds the two equal over all states, on
both databases.

No connection is asked whether it lives before it is used. A dead one is replaced and the statement sent once more:
recording finds by id and terms that the order is there already, claiming finds nothing left to take.

Under a backlog, rings are taken together and a claim takes up to a hundred orders, so that what is above is paid once
for all of them. Answers do not ride with the next claim: with a hundred orders in a batch that would save a commit of
three for a hundred orders, and one order's answer that cannot be written would hold up another's claim.
"""
_MISSES = """\
## What is out of reach, and why

*Where the time goes*, above, is the profile behind every target that is missed.

**Five and three times the best peer's orders/s.** A worker process has one interpreter lock, and an order costs it the
time of the last table there. No line of it is large enough: with a database that cost nothing, more than half would be
left. It is spent on what no peer keeps: an attempt with a lease, an event for every change, the answer checked against
the lifecycle, so that a crash at any point is settled by asking the broker. The best peer pops a message, calls, and
commits twice. What the table shows is the nearest; the lead comes from batches, two or three commits for a hundred
orders instead of two for each, so a disk that takes longer to commit makes it larger.

**No later than bare Celery at the median.** Two commits lie on the way to the broker, the order's row and the claim;
bare Celery has none. Each costs what *one durable commit* says at the top, and on PostgreSQL a round trip to its
server. A ring that does not become a Celery request makes up for one of them, not always for both. The claim could go
without a commit only if a crash behind it might double the order. The rows of huey and taskiq show what the way costs
without Celery.

**No later at p99.** It is the disk's. An order commits three times, two of them on its way; SQLite has one writer, so a
slow commit (the p99 of a single one stands at the top) also holds up the orders behind it. Celery's row is committed
once, after the broker was called: nobody waits for it.

**SQLite: a submit for the price of an apply_async, a submit_many for a tenth.** Both lie at the line: 0.92 to 1.11 and
0.09 to 0.12 in six runs. A third to two thirds of a submit is its one durable commit. A submit_many's time is in the
last table but one: checking the request, turning it into values, and an order with its event in eight indexes.

**PostgreSQL: a submit for the price of an apply_async, a submit_many for a tenth.** Its server is another process, and
a durable submit is a round trip to it with a write through to the disk. The plain driver, with two inserts and a commit
and nothing else, took longer than `apply_async`: 0.51 ms against 0.43 ms, side by side.
"""
_METHOD = """\
## How

**The contenders.** What a user would write instead, with the same broker call and the same kind of database: a plain
task on Celery, RQ, dramatiq, taskiq, huey and arq, each in two forms, and the floor, redis-py's LPUSH and BRPOP. *Bare*
calls the broker and then commits a row: a crash between the two loses the order's trace, a message that comes again
sends it again. *Same promise* commits the intent before the call, which also is its check against a second send, and
the outcome after it, in the task. No peer commits the order before its message, as corro does: an order that Redis
loses is gone with any of them.

**Their choices**, each for the peer's speed (benchmarks/peers):

* All: one worker process, eight sends at once, results and INFO logs off, a unix socket to the queue, the driver itself
  instead of an ORM; on SQLite one connection behind a lock, on PostgreSQL one for each thread, autocommit.
* Celery: threads; events, gossip, mingle and heartbeats off; `acks_late` only with the promise. It runs in corro's own
  environment.
* RQ: SimpleWorker, which does not fork for each job and runs one at a time: RQ has no threads.
* dramatiq: one process, eight threads, its usual middleware.
* taskiq: Redis streams, faster here than its lists and acknowledged; a coroutine that calls the null broker directly,
  eight threads where the call waits for HTTP.
* huey: eight threads, no results, no periodic tasks; it acknowledges nothing.
* arq: looks every 10 ms instead of every 500; as taskiq otherwise. It needs redis-py below 6, so it lives apart.
* The floor: one thread, nothing acknowledged; two commits.

**corro** runs with its usual settings, but for log level WARNING and, with the null broker, no reading of open orders,
of which that broker knows nothing. Its worker is a Celery worker, as `corro worker` starts it.

**Producers** are a process each. What they import is left out of garbage collections (`gc.freeze()`), for every
contender: one that looks at all of it takes 50 to 100 ms and would fall into some rounds and not into others.

**The null broker** is an adapter in a package of its own, found by its entry point: it accepts at once and notes id
and moment (CLOCK_MONOTONIC) in a file; peers make the same call. After every run the calls are compared with the
orders: one that is missing or doubled makes the run fail.
"""


def write(path: Path, parts: Sequence[Part], facts: Sequence[tuple[str, str]]) -> None:
    """Write the page, and the picture beside it."""
    picture = path.with_suffix(".svg")
    lines = [_HEAD, "| | |", "|---|---|", *(f"| {name} | {words} |" for name, words in facts), ""]
    lines += ["## Targets", "", "| target | | figure |", "|---|---|---|"]
    lines += [
        f"| {t.words} | {'met' if t.met else '**missed**'} | {t.figure} |" for part in parts for t in part.targets
    ]
    if plot.draw({part.name: part.figures for part in parts}, picture):
        lines += ["", f"![The three figures that matter]({picture.name})"]
    for part in parts:
        lines += ["", f"## {part.title}", "", part.words]
        for table in part.tables:
            lines += ["", *_markdown(table)]
            lines += ["", table.note] if table.note else []
    path.write_text("\n".join([*lines, "", _WAY, _MISSES, _METHOD]))


def _markdown(table: Table) -> list[str]:
    def line(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(map(str, cells))} |"

    ruler = ["---", *("---:" for _ in table.columns[1:])]
    return [f"{table.title[0].upper()}{table.title[1:]}:", "", *map(line, (table.columns, ruler, *table.rows))]
