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
the database twice, and each passage costs a round trip, a change of threads, or a write through to the disk.

| step | where | PostgreSQL | SQLite | if the process dies behind it |
| --- | --- | --- | --- | --- |
| build | strategy | checked by pydantic, turned into a row | the same | there is no order |
| record | strategy | one round trip, one commit | a transaction, one commit | the sweep finds the row within 2 s |
| ring | strategy | one LPUSH; nobody waits for its answer | the same | the sweep |
| hand over | worker | from the thread that reads to one that claims | the same | the sweep |
| claim | worker | one round trip, one commit | a transaction, one commit | the broker is asked first |
| send | worker | gate, controls and age looked at in memory, then the call | the same | the same |
| record the answer | worker | a transaction behind the call; nobody waits for it | the same | the same |
| ring back | worker, strategy | PUBLISH; whoever waits reads the row | the same | whoever waits looks by itself |

* *Record.* On PostgreSQL a statement inserts the order and its first event, and commits itself. What is not recorded is
  no order: `submit` raises.
* *Hand over.* A ring does not become a Celery request. The thread that reads the queue leaves it to a thread that
  claims, and reads on. Messages of other clients take Celery's way, and what they ask for is recorded first.
* *Claim.* On PostgreSQL a statement chooses the plain orders, marks them, writes attempts and events, commits itself
  and returns them. *Plain* is an order against which nothing speaks that a statement can see: queued here, due, in
  time, not canceled, never tried, with no halt, drain, lock, limit or key in force (worker/orders/plain.py has the
  list). Any other goes the careful way, a transaction that looks at each order. A property test holds the two equal
  over all states, on both databases.
* *Dead connections.* No connection is asked whether it lives before it is used for these two. A dead one is replaced
  and the statement sent once more: recording finds by id and terms that the order is there already, claiming finds
  nothing left to take.
* *Backlog.* Rings are taken together and a claim takes up to a hundred orders, so that what is above is paid once for
  all of them. Answers do not ride with the next claim: with a hundred orders in a batch that would save a commit of
  three for a hundred orders, and one order's answer that cannot be written would hold up another's claim.

So three commits are made for an order and two of them lie on its way; bare Celery makes one, behind its way. *One
durable commit*, at the top, is what each of the two costs at the least.
"""
#: Why targets of a kind are missed, where they are: by `Target.why`.
MISSES = {
    "later": """\
**At the broker later than wanted.** Two commits lie on the way, the order's row and its claim; bare Celery has none,
Celery with the same promise and the floor have one, of a row in one table with one index.
*Where the time goes* has the stages. Tried: claim and send by hand on corro's own tables, LPUSH and BRPOP without
Celery and without corro's code, took 2.0 to 2.4 ms on SQLite and 2.3 to 2.4 on PostgreSQL on the machine where corro
took 3.0 to 3.2 and 5.2 to 5.3 then and bare Celery 2.0 and 2.9; its shape, one statement to record and one to claim,
and rings past Celery, is what corro has now. Fewer indexes on the orders changed nothing that could be measured. The
claim could go without a commit only if a crash behind it might double the order. The p99 is the disk's: SQLite has one
writer, so a slow commit (the p99 of a single one stands at the top) also holds up the orders behind it.
Tried since: PostgreSQL's claim by number instead of by name, which spares psycopg 0.09 ms of reading its 4,917
characters anew (kept). One row was thought to be turned into a request too often: that takes 5 us, three times, and the
check that a row is an order 15 us, in a loop. In its place, behind a commit, on a busy machine, the same check takes
80 to 150 us: what an order costs at a slow pace is code and memory that the processor has to fetch again, so less
Python on the way gains little, and leaving out a check of what is sent gains 0.1 ms.""",
    "faster": """\
**Fewer orders/s than wanted.** A worker process has one interpreter lock, and an order costs it the CPU that *What an
order costs* counts and the last table of *Where the time goes* divides. It is spent on what no peer keeps: an attempt
with a lease, an event for every change, the answer checked against the lifecycle, so that a crash at any point is
settled by asking the broker. The best peer pops a message, calls, and commits twice. corro's lead comes from batches,
two or three commits for a hundred orders instead of two for each, so a disk that takes longer to commit makes it
larger.
Tried: batches under way at once in a worker, on a busy machine with PostgreSQL, orders/s of submit_many and of single
submits: as many as come, up to seven, 1,869-2,188 and 2,535-2,991; three 2,623-2,757 and 2,631-2,731; two 2,641-3,746
and 3,419-3,543 (kept); one 3,043-3,325 and 2,874-3,014. Seven took as long as one alone, 40 ms for a hundred orders,
since each waits for the interpreter, and their answers came apart into commits of two to twelve. It cost submit_many
most, whose messages are whole batches from the first on. SQLite, where batches write in turns, gained nothing.""",
    "submit": """\
**A submit or submit_many that costs more than wanted.** A third to two thirds of a submit is its one durable commit;
the rest is *the code of submit_many*: checking the request, turning it into values, and an order with its event in the
indexes of two tables. Of the 540 us of CPU for one alone on SQLite, on a busy machine, the commit took 180, the two
INSERTs 90, the ring 80 (a write to Redis that wakes another process), the checked request 50, its row 40 and BEGIN 15;
of 370 on PostgreSQL the statement 115, the ring 75, the request 50, the row 37. No other part is over 10 us.""",
    "wal": """\
**More bytes of WAL than wanted.** An order is five rows (order, attempt, three events); the order is written anew twice
and its attempt once, and PostgreSQL gives a row whose indexed columns change a new entry in every index of its table.
*What an order costs* has the bytes by their step. Less would need a table of its own for what changes during an order's
life (status, attempt, time), narrow and with one index: an expansion and a contraction of the schema that every view
and every reader of the tables would go through. It has not been made.""",
    "back": """\
**A fill is told later than wanted.** From commit to PUBLISH is a change of threads in the worker; from there to the
strategy Redis, a change of threads and one reading of the row.""",
    "dead": """\
**The backup fills later than wanted.** A worker is believed dead once it is proven: its process gone on this host and
boot. Who looks for it does so regularly, not at once, and IB's connection is given time.""",
    "bars": """\
**Bars take longer than by hand.** Paging by hand keeps nothing. corro writes each page to the database, where the bars
stay, and reads them from there into the DataFrame.""",
    "watched": """\
**Open pages cost the database more than wanted.** What stands at an address is read once for all who have it open, at
most once a second and only while something happens, and how everything stands once a second for all of them; so what
counts is how many different addresses are open, not how many pages. A quiet fleet's are asked for every 5 s.""",
    "limits": """\
**Limits cost more than wanted.** With a limit set no order is plain: its claim is the careful way, which reads what is
held, open, sent and lost for the scopes of its orders, and writes the usage back in the transaction of each claim and
answer.""",
}
_METHOD = """\
## How

**The contenders.** What a user would write instead, with the same broker call and the same kind of database: a plain
task on Celery, RQ, dramatiq, taskiq, huey and arq, each in two forms, and the floor, redis-py's LPUSH and BRPOP. *Bare*
calls the broker and then commits a row: a crash between the two loses the order's trace, a message that comes again
sends it again. *Same promise* commits the intent before the call, which also is its check against a second send, and
the outcome after it, in the task. None of these commits the order before its message, as corro does: an order that
Redis loses is gone with any of them. DBOS and awa-pg do: their queue is the database, without Redis.

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
* DBOS: a workflow for each order, whose own row is the record: committed when it is asked for, marked before it runs,
  ended with the broker's answer. `max_recovery_attempts=0`, for it would call the broker a second time otherwise. It
  polls every 10 ms instead of every second; no limit to a poll but eight threads. On SQLite and PostgreSQL.
* awa-pg: a job for each order, committed when it is asked for, its attempt before it runs; `max_attempts=1`, for the
  same reason; the outcome a row beside it, since a job keeps no result. Its queue-storage engine, polled every 50 ms
  beside its notices; the handler runs in eight threads. It has PostgreSQL alone. What its Rust core does in the
  worker's process is in CPU and MB.
* The floor: one thread, nothing acknowledged; two commits.

**corro** runs with its usual settings, but for log level WARNING and, with the null broker, no reading of open orders,
of which that broker knows nothing. Its worker is a Celery worker, as `corro worker` starts it.

**Producers** are a process each. What they import is left out of garbage collections (`gc.freeze()`), for every
contender: one that looks at all of it takes 50 to 100 ms and would fall into some rounds and not into others.

**The null broker** is an adapter in a package of its own, found by its entry point: it accepts at once and notes id
and moment (CLOCK_MONOTONIC) in a file; peers make the same call. After every run the calls are compared with the
orders: one that is missing or doubled makes the run fail.
"""


def write(path: Path, parts: Sequence[Part], facts: Sequence[tuple[str, str]], failed: Sequence[str] = ()) -> None:
    """Write the page, and the picture beside it; what could not be measured is named at its top."""
    picture = path.with_suffix(".svg")
    lines = [_HEAD, "| | |", "|---|---|", *(f"| {name} | {words} |" for name, words in facts), ""]
    if failed:
        lines += [f"**Not measured in this run:** {'; '.join(failed)}.", ""]
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
    missed = [why for why in MISSES if any(t.why == why and not t.met for part in parts for t in part.targets)]
    if missed:
        lines += ["", "## What is missed, and why", "", "\n\n".join(MISSES[why] for why in missed)]
    path.write_text("\n".join([*lines, "", _WAY, _METHOD]))


def _markdown(table: Table) -> list[str]:
    def line(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(map(str, cells))} |"

    ruler = ["---", *("---:" for _ in table.columns[1:])]
    return [f"{table.title[0].upper()}{table.title[1:]}:", "", *map(line, (table.columns, ruler, *table.rows))]
