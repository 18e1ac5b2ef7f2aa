"""Who is measured, and one run of one of them: its database, its producer's process, its workers."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import psutil
import redis
from sqlalchemy import create_engine, event, text

from benchmarks.house import NULL, PEERS, ROOT, BenchHouse
from benchmarks.null.null_call import commit_count, stamp_count, stamps
from worker.runtime.celery_command import worker_arguments

T = TypeVar("T")

#: Sends that one worker process may have on their way at once.
PARALLEL = 8
#: The queue's database at the server.
QUEUE_DB = 1
#: Seconds until a measurement that does not get on is given up.
PATIENCE_S = 60.0


class Miscounted(RuntimeError):
    """Orders were lost or doubled."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to get an order to a broker.

    Args:
        name: as in the tables.
        module: what its producer and its worker run, in benchmarks/peers.
        promise: the intent is committed before the broker is called.
        environment: whose interpreter; empty for ours, where Celery lives too.
        slow: it takes about a tenth of what the others take, so it gets fewer orders.
        databases: what it can keep its record in.
        recorded: the question how many orders are recorded with their outcome.
    """

    name: str
    module: str
    promise: bool
    environment: str = ""
    slow: bool = False
    databases: tuple[str, ...] = ("sqlite", "postgresql")
    recorded: str = "SELECT count(*) FROM orders WHERE status IN ('accepted', 'filled')"

    @property
    def ours(self) -> bool:
        """Whether it is corro."""
        return self.module == "corro_peer"

    @property
    def title(self) -> str:
        """Name and form."""
        return self.name if self.ours else f"{self.name}, {'same promise' if self.promise else 'bare'}"

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(ROOT / ".venv-peers" / self.environment / "bin" / "python") if self.environment else sys.executable


CORRO = Contender("corro", "corro_peer", True)
FLOOR = Contender("redis-py and two commits (floor)", "floor_peer", True)
#: Records two rows and does nothing else: what a durable submit is held against.
PLAIN = Contender("psycopg, insert + insert + commit", "plain_peer", True, databases=("postgresql",))


def _pair(name: str, module: str, environment: str = "peers", slow: bool = False) -> list[Contender]:
    return [Contender(name, module, promise, environment, slow) for promise in (False, True)]


PEERS_OF = {
    "celery": _pair("Celery", "celery_peer", ""),
    "rq": _pair("RQ", "rq_peer", slow=True),
    "dramatiq": _pair("dramatiq", "dramatiq_peer"),
    "taskiq": _pair("taskiq", "taskiq_peer"),
    "huey": _pair("huey", "huey_peer"),
    "arq": _pair("arq", "arq_peer", "peers-arq"),
}
CELERY = PEERS_OF["celery"][0]
#: Their queue is the database: the order is committed before it is asked for again, and before the broker is called.
DBOS = Contender(
    "DBOS", "dbos_peer", True, "peers", recorded="SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"
)
AWA = Contender("awa-pg", "awa_peer", True, "peers", databases=("postgresql",))
DURABLE = [DBOS, AWA]
EVERYBODY = [CORRO, FLOOR, *(contender for pair in PEERS_OF.values() for contender in pair), *DURABLE]


def _look_everywhere(connection: Any, _record: object) -> None:
    connection.execute("SET search_path TO public, dbos")
    connection.commit()


def once_more(work: Callable[[], T]) -> T:
    """Do a measurement, and do it again where it did not end: anybody's process may fail on a machine that is busy.

    Raises:
        RuntimeError: it failed twice; orders that are lost or doubled are not tried again.
    """
    try:
        return work()
    except Miscounted:
        raise
    except RuntimeError as error:
        print(f"once more: {error}", file=sys.stderr)
        return work()


def rotated(contenders: list[Any], round_: int) -> list[Any]:
    """Begin each round with another one, so that nobody always follows the same neighbour."""
    start = round_ * (3 if len(contenders) > 3 else 1) % len(contenders)
    return contenders[start:] + contenders[:start]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the counters said at one moment."""

    at: float
    orders: int
    commits: int
    commands: int
    round_trips: int
    cpu_s: float
    wal: float


class ContenderRun:
    """One contender at work, in a folder and a database of its own; use it as a context manager.

    Args:
        house: what is shared.
        contender: who.
        database: sqlite or postgresql.
        door: None for the null broker, or the URL of an Alpaca door.
        answer: what the null broker says, of our own runs: accepted or filled.
        marks: note when each of corro's named points is reached.
        more: further lines of our own settings.
        record: the database, where it is there already: ours, with a history.
    """

    def __init__(
        self,
        house: BenchHouse,
        contender: Contender,
        database: str = "sqlite",
        *,
        door: str | None = None,
        answer: str = "accepted",
        marks: bool = False,
        more: str = "",
        record: str = "",
    ) -> None:
        self.house, self.contender, self.door = house, contender, door
        self.folder = house.folder(contender.module)
        self.stamps = self.folder / "stamps"
        self.stamps.touch()
        self.database = record or house.database(database, self.folder, ours=contender.ours)
        self.log = self.folder / "log"
        self.log_file: IO[bytes] = self.log.open("ab")
        self._answer, self._marks, self._more = answer, marks, more
        self._own_environment = self._make_environment()
        self.workers: list[subprocess.Popen[bytes]] = []
        self._driver: subprocess.Popen[str] | None = None

    def __enter__(self) -> ContenderRun:
        self.house.redis.flushall()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, *([self._driver] if self._driver else [])):
            self._end(process)
        self.log_file.close()

    # -- SETTINGS ---
    def _make_environment(self) -> dict[str, str]:
        config = {
            "socket": str(self.house.socket),
            "db": QUEUE_DB,
            "parallel": PARALLEL,
            "form": "promise" if self.contender.promise else "bare",
            "broker": self.door or "null",
            "stamps": str(self.stamps),
            "database": self.database,
            "marks": self._marks,
        }
        found = {**os.environ, "CORRO_BENCH": json.dumps(config)}
        if self.contender.ours:
            (self.folder / "corro.toml").write_text(self._toml())
            found |= {"CORRO_HOME": str(self.folder), "CORRO_CONFIG": str(self.folder / "corro.toml")}
        return found

    def _toml(self) -> str:
        """Our usual settings. The null broker has nothing to say of open orders, so they are not asked about."""
        broker: dict[str, Any] = {"adapter": "null", "stamps": str(self.stamps), "answer": self._answer}
        broker |= {"marks": True} if self._marks else {}
        if self.door:
            broker = {"adapter": "alpaca", "base_url": self.door, "data_url": self.door}
            broker |= {"key_id": "sandbox", "secret_key": "sandbox"}
            broker |= {"requests_per_minute": 0, "data_requests_per_minute": 0}  # nobody counts at the sandbox
        lines = [
            f"database_url = {json.dumps(self.database)}",
            f"redis_url = {json.dumps(self.queue)}",
            'log_level = "WARNING"',
            '[routing]\nroute = ["desk"]',
            "[timing]\nopen_orders_every = 3600.0",
            "[brokers.desk]",
            *(f"{key} = {json.dumps(value)}" for key, value in broker.items()),
            self._more,
        ]
        return "\n".join(lines) + "\n"

    @property
    def queue(self) -> str:
        """The queue's URL."""
        return f"redis+socket://{self.house.socket}?virtual_host={QUEUE_DB}"

    def environment(self, *folders: Path) -> dict[str, str]:
        """Return what a process of this run has in its environment, with these folders on its path."""
        return {**self._own_environment, "PYTHONPATH": os.pathsep.join(map(str, folders))}

    # -- THE PRODUCER ---
    def tell(self, do: str, **command: Any) -> dict[str, Any]:
        """Have the producer's process do something; see benchmarks/peers/driver.py."""
        if self._driver is None:
            self._driver = subprocess.Popen(
                [self.contender.python, "driver.py", self.contender.module], cwd=PEERS, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log_file, env=self.environment(PEERS, NULL),
                start_new_session=True,
            )  # fmt: skip
            self._answer_of(self._driver)
        assert self._driver.stdin is not None
        self._driver.stdin.write(json.dumps({"do": do, **command}) + "\n")
        self._driver.stdin.flush()
        return self._answer_of(self._driver)

    def _answer_of(self, driver: subprocess.Popen[str]) -> dict[str, Any]:
        assert driver.stdout is not None
        line = driver.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contender.title}: the producer ended: {self.tail()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    # -- THE WORKER ---
    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start one worker process; it need not be ready yet."""
        number = len(self.workers) + 1
        if self.contender.ours:
            command = ["-m", "celery", "-A", "worker", *worker_arguments(f"desk{number}", "desk")]
            environment, where = self.environment(self.house.site), self.folder
        else:
            command, environment, where = self._command(), self.environment(PEERS, NULL), PEERS
        process = subprocess.Popen(
            [self.contender.python, *command], cwd=where, env=environment, stdin=subprocess.DEVNULL,
            stdout=self.log_file, stderr=self.log_file, start_new_session=True,
        )  # fmt: skip
        self.workers.append(process)
        return process

    def _command(self) -> list[str]:
        """Ask the peer's module, in its own interpreter, how its worker is started."""
        words = f"import json, {self.contender.module} as peer; print(json.dumps(peer.COMMAND))"
        done = subprocess.run(
            [self.contender.python, "-c", words], cwd=PEERS, env=self.environment(PEERS, NULL), capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        command: list[str] = json.loads(done.stdout)
        return command

    def tree(self) -> list[psutil.Process]:
        """Return the processes of the workers."""
        parents = [psutil.Process(process.pid) for process in self.workers]
        return [*parents, *(child for parent in parents for child in parent.children(recursive=True))]

    def memory(self) -> int:
        """Return the resident bytes of the workers."""
        return sum(process.memory_info().rss for process in self.tree())

    # -- WHAT HAPPENED ---
    def read(self) -> Reading:
        """Read every counter."""
        info = self.house.redis.info("stats")
        times = [process.cpu_times() for process in self.tree()]
        commits, wal = self._written()
        return Reading(
            at=time.monotonic(),
            orders=stamp_count(self.stamps),
            commits=commits,
            commands=info["total_commands_processed"],
            round_trips=info["total_reads_processed"],
            cpu_s=sum(found.user + found.system for found in times),
            wal=wal,
        )

    def _written(self) -> tuple[int, float]:
        """Return commits and bytes of WAL: as PostgreSQL counts them; as the drivers do, and not known, of SQLite."""
        return (commit_count(self.stamps), math.nan) if self.is_sqlite else self.house.postgres.written()

    @property
    def is_sqlite(self) -> bool:
        """Whether its record is a file."""
        return "host=" not in self.database

    def wait_for(self, ready: Callable[[], bool], what: str, pause: float = 0.01) -> None:
        """Poll until something has happened.

        Raises:
            RuntimeError: a worker ended, or the patience did.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if any(process.poll() is not None for process in self.workers):
                raise RuntimeError(f"{self.contender.title}: a worker ended: {self.tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.contender.title}: {what} took over {PATIENCE_S:.0f} s: {self.tail()}")
            time.sleep(pause)

    def wait_sent(self, n: int) -> None:
        """Wait until the null broker has seen so many orders."""
        self.wait_for(lambda: stamp_count(self.stamps) >= n, f"sending {n} orders")

    def stamps_at(self) -> list[tuple[str, int]]:
        """Return (client_order_id, nanoseconds) of every call at the null broker."""
        return stamps(self.stamps)

    def recorded(self) -> int:
        """Return how many orders the database has as accepted."""
        if not hasattr(self, "_engine"):
            url = self.database if self.contender.ours else self._peer_url()
            self._engine = create_engine(url)
            if self._engine.dialect.name == "postgresql":  # DBOS keeps its tables in a schema of its own
                event.listen(self._engine, "connect", _look_everywhere)
        with self._engine.connect() as connection:
            return int(connection.execute(text(self.contender.recorded)).scalar() or 0)

    def _peer_url(self) -> str:
        found = re.fullmatch(r"host=(\S+) dbname=(\S+) user=(\S+)", self.database)
        if not found:
            return f"sqlite:///{self.database}"
        return f"postgresql+psycopg://{found[3]}@/{found[2]}?host={found[1]}"

    def wait_recorded(self, n: int) -> None:
        """Wait until every order's outcome is committed, and see that no order was sent twice.

        Raises:
            Miscounted: orders were lost or doubled, so that no figure of this run counts.
        """
        try:
            self.wait_for(lambda: self.recorded() >= n, f"recording {n} orders", 0.05)
        except RuntimeError as error:
            if all(process.poll() is None for process in self.workers):  # they had their time, and orders are missing
                raise Miscounted(str(error)) from error
            raise
        if not self.door:
            names = [name for name, _ in self.stamps_at()]
            if len(names) != n or len(set(names)) != n:
                raise Miscounted(f"{self.contender.title}: {n} orders, {len(names)} calls, {len(set(names))} of them")

    def wait_idle(self) -> None:
        """Wait until no message of ours is left: the sweep may have been quicker than the messages."""
        if self.contender.ours:
            queue = redis.Redis(unix_socket_path=str(self.house.socket), db=QUEUE_DB)
            self.wait_for(lambda: queue.llen("orders.desk") == 0, "reading the messages that are left")
            queue.close()

    def tail(self) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    # -- END ---
    def _end(self, process: subprocess.Popen[Any]) -> None:
        """End a process and whatever it started; all is recorded, so nobody is given time to say good-bye."""
        if process.stdin:
            process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)
        if process.stdout:
            process.stdout.close()
