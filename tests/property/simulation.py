"""Simulated workers, clock and queue, with corro's own code between them: whatever can go wrong can be made to.

Everything durable is a real SQLite file. A worker's steps run until a fault strikes at one of the points they pass:
`die` ends its process there, `suspend` stops the whole process (no heartbeat) until it is woken, `slow` holds up that
one thread while the process lives on. One thing runs at a time, so a failing example fails again.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import delete, select

from models import clock, crash_points
from models.clock import Clocks
from models.messages import OrderRequest
from models.record.database import Database, upgrade
from models.record.intake import Intake
from models.record.tables import metadata
from models.reports import Report
from models.settings import BrokerSettings, Settings
from tests.property.ledger import BrokerLedger, Seat
from worker.brokers.base import Ticket
from worker.fleet.identity import Identity, Processes
from worker.fleet.members import Heartbeat
from worker.leader import Leader
from worker.orders.desk import BrokerDesk

#: Points where only a whole process can stop: a thread that lives does not take seconds between a check and a byte, and
#: one that reads positions holds up the others of its process, which wait for what it reads.
ATOMIC = frozenset({"before_send", "before_positions"})
#: Points inside a transaction: a process may die there, but not sleep on the lock in a test of one thread.
LOCKED = frozenset({"before_commit"})


class SimulatedClock(Clocks):
    """Both clocks of every machine, moved by hand."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
        self.on_advance: list[Callable[[], None]] = []

    def now(self) -> datetime:
        self._now += timedelta(microseconds=1)  # no two readings of a clock are the same
        return self._now

    def later(self, seconds: float) -> datetime:
        return self._now + timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        for call in self.on_advance:
            call()

    def wall(self) -> float:
        return self._now.timestamp()

    def elapsed(self) -> float:
        return self._now.timestamp()


class Died(BaseException):
    """The process is gone: nothing catches this but the test."""


class SimulatedProcesses(Processes):
    """Processes that live until a fault ends them."""

    def __init__(self, alive: set[int]) -> None:
        self.alive = alive

    def started(self, pid: int) -> str | None:
        return f"started-{pid}" if pid in self.alive else None

    def state(self, pid: int) -> str | None:
        return "S"


class InTurn(Executor):
    """Sends run one after the other in the thread that claimed."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(call(*arguments, **named))
        return future

    def shutdown(self, *_: Any, **__: Any) -> None:
        pass


# -- STEPS THAT CAN BE BROKEN OFF ---
class FaultyStep:
    """Something that a process does, until a fault strikes.

    Args:
        process: whose step it is.
        work: what is done.
        fault: die, suspend, slow or none.
        at: at which point, counted from 1.
    """

    _current = threading.local()

    def __init__(self, process: SimulatedWorker, work: Callable[[], Any], fault: str = "none", at: int = 1) -> None:
        self.process, self.work, self.fault, self.left = process, work, fault, at
        self._thread: threading.Thread | None = None
        self._go, self._stopped = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self.is_paused = False

    def run(self) -> None:
        """Run to the end, or to the fault."""
        if self.fault in ("suspend", "slow"):
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
            self._wait()
        else:
            self._run()
            self._tell()

    def wake(self) -> None:
        """Go on after a pause; in a process that has died meanwhile, end."""
        self._stopped.clear()
        self._go.set()
        self._wait()

    def _wait(self) -> None:
        assert self._stopped.wait(60), "a step never came back"
        if not self.is_paused:
            assert self._thread is not None
            self._thread.join()
            self._tell()

    def _tell(self) -> None:
        if self.error is not None and not isinstance(self.error, Died):
            raise self.error

    def _run(self) -> None:
        FaultyStep._current.step = self
        try:
            self.work()
        except BaseException as error:
            self.error = error
        finally:
            FaultyStep._current.step = None
            self._stopped.set()

    def _reached(self, name: str) -> None:
        if self.process.is_dead:
            raise Died
        if self.fault == "none" or not self._fits(name):
            return
        self.left -= 1
        if self.left > 0:
            return
        fault, self.fault = self.fault, "none"
        if fault == "die":
            self.process.die()
            raise Died
        self._pause(fault)

    def _fits(self, name: str) -> bool:
        return self.fault == "die" or name not in LOCKED | (ATOMIC if self.fault == "slow" else frozenset())

    def _pause(self, fault: str) -> None:
        self.is_paused = True
        self.process.is_suspended = fault == "suspend"
        self.process.paused.append(self)
        self._stopped.set()
        assert self._go.wait(120), "nobody woke it"
        self.is_paused = False
        if self.process.is_dead:
            raise Died


def point(name: str) -> None:
    """Where the code under test passes a point."""
    step = getattr(FaultyStep._current, "step", None)
    if step is not None:
        step._reached(name)


class SimulatedWorker:
    """One worker process of one broker, with corro's own objects in it."""

    def __init__(self, world: Simulation, ledger: BrokerLedger, pid: int, host: str) -> None:
        self.world, self.ledger = world, ledger
        self.is_dead = self.is_suspended = False
        self.paused: list[FaultyStep] = []
        self.me = Identity(ledger.name, host, pid, f"boot-{host}", SimulatedProcesses(world.alive_pids))
        settings, database = world.settings, world.database
        self.seat = Seat(ledger, point, world.on_wire)
        self.pulse = Heartbeat(database, self.me, settings.timing)
        self.desk = BrokerDesk(settings, database, self.seat, self.me, world, self.pulse, threads=InTurn)  # type: ignore[arg-type]
        # A send that is slow for as long as the test wants must not hold up the thread of the test.
        for lane in self.desk.way.lanes.values():
            lane._places = threading.BoundedSemaphore(1_000)
        self.desk.gate.has_tried.set()
        self.desk.gate.close("the connection was lost")
        self.leader = Leader(self.desk)
        self.seat.updates(lambda report: world.pushed.append((self, report)))
        self.pulse.beat()

    @property
    def can_work(self) -> bool:
        return not (self.is_dead or self.is_suspended)

    def die(self) -> None:
        self.is_dead = True
        self.seat.connected = False
        self.world.alive_pids.discard(self.me.pid)
        if self.seat in self.ledger.seats:
            self.ledger.seats.remove(self.seat)

    def do(self, work: Callable[[], Any], fault: str = "none", at: int = 1) -> None:
        FaultyStep(self, work, fault, at).run()

    def connect(self, fault: str = "none", at: int = 1) -> None:
        """Connect if the broker is there, read what was missed, and only then open (as the supervisor does)."""
        self.do(self._connect, fault, at)

    def _connect(self) -> None:
        from models.errors import CorroError

        with contextlib.suppress(CorroError):
            self.desk.gate.close("the connection was lost")
            self.seat.connect()
            self.leader.after_connect()
            self.desk.gate.open()
            self.pulse.state = "ready"

    def wake(self) -> None:
        """Have every step that is held up go on; the oldest first."""
        self.is_suspended = False
        while self.paused:
            self.paused.pop(0).wake()
        if not self.is_dead:
            self.pulse.beat()

    def apply(self, reports: Sequence[Report]) -> Sequence[Report]:
        """Apply what was pushed, as the updates' thread does."""
        with self.world.database.write() as connection:
            effects = self.desk.recorder.updates(connection, reports, clock.utcnow())
        self.desk.batches.follow_up(effects)
        return effects.unmatched


class Simulation:
    """A world of brokers and processes over one database.

    Args:
        kinds: broker name -> key of `ledger.KINDS`.
    """

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self.clock = SimulatedClock()
        self._patches = contextlib.ExitStack()
        self._patches.enter_context(virtual(self.clock))
        self.database = empty_database()
        table = {name: BrokerSettings(adapter="model") for name in kinds}
        self.settings = Settings.model_construct(brokers=table)
        self.intake = Intake(self.settings, self.database)
        self.ledgers = {name: BrokerLedger(name, kind, self.clock) for name, kind in kinds.items()}
        self.clock.on_advance = [ledger.arrive for ledger in self.ledgers.values()]
        self.processes: list[SimulatedWorker] = []
        self.alive_pids: set[int] = set()
        #: Messages on the queue: (task, broker, kwargs).
        self.rung: list[tuple[str, str, Mapping[str, Any]]] = []
        self.pushed: list[tuple[SimulatedWorker, Report]] = []
        self.wire: Callable[[Ticket], None] = lambda _ticket: None

    def close(self) -> None:
        for process in self.processes:
            process.die()
            process.wake()
        self._patches.close()

    # -- THE QUEUE (what a desk knows as its bell) ---
    def ring(self, messages: Sequence[tuple[str, str, Mapping[str, Any]]]) -> bool:
        self.rung += [(task, queue.split(".")[1], kwargs) for task, queue, kwargs in messages]
        return True

    # -- WHAT STRATEGIES DO ---
    def submit(self, request: OrderRequest) -> None:
        (row,) = self.intake.record([request])
        self.ring([("orders.submit", f"orders.{row['broker']}", {"orders": [request.to_wire()]})])

    # -- PROCESSES ---
    def hire(self, broker: str, host: str = "here") -> SimulatedWorker:
        pid = 100 + len(self.processes)
        self.alive_pids.add(pid)
        process = SimulatedWorker(self, self.ledgers[broker], pid, host)
        self.processes.append(process)
        process.connect()
        return process

    def on_wire(self, ticket: Ticket) -> None:
        self.wire(ticket)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; who lives and is not suspended has shown it when it is over."""
        self.clock.advance(seconds)
        for process in self.processes:
            if process.can_work:
                process.pulse.beat()

    def rows(self, table: Any) -> list[dict[str, Any]]:
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(select(table)).mappings()]


# -- IN THE PLACE OF THE MACHINE'S ---
@contextlib.contextmanager
def virtual(moved: SimulatedClock) -> Iterator[None]:
    """Read the clock, and watch the points, of a simulation."""
    seen = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with clock.ticking(moved), crash_points.watched(point):
        try:
            yield
        finally:
            structlog.configure(**seen)


@functools.cache
def _database() -> Database:
    """One file for all simulations of this process; in memory where the machine has such a place."""
    memory = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="corro-simulation-", dir=memory if memory.is_dir() else None))
    database = Database(f"sqlite:///{home / 'corro.db'}")
    upgrade(database)
    return database


def remove_database() -> None:
    """Remove the file of this process's simulations, if there were any."""
    if _database.cache_info().currsize:
        database = _database()
        database.close()
        shutil.rmtree(Path(str(database.url.database)).parent, ignore_errors=True)
        _database.cache_clear()


def empty_database() -> Database:
    database = _database()
    with database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    return database
