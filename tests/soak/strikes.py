"""What goes wrong outside of the doors: processes killed and suspended, the queue, the database."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import create_engine

from tests.kit import Postgres, World, eventually
from worker.fleet import Process

POINTS = ("after_claim", "before_send", "after_send", "before_commit", "after_commit", "after_look")
PAUSES = ("after_claim", "before_send")


@dataclass
class Struck:
    """One fault that happened: when, what, and whom (`ids`; or whatever was under way at `broker`, None: anywhere)."""

    at: float
    label: str
    broker: str | None = None
    ids: tuple[str, ...] | None = None


@dataclass
class Slot:
    """A place for one worker process, filled anew when it dies."""

    label: str
    broker: str
    process: Process | None = None
    #: Point at which it is to die, or to be suspended.
    dies: str | None = None
    stops: str | None = None
    shot: bool = False
    stopped_until: float | None = None
    again_at: float = 0.0


@dataclass
class Crew:
    """The workers of a world: kept alive, killed and suspended."""

    world: World
    dice: random.Random
    lease: float
    slots: list[Slot]
    struck: list[Struck] = field(default_factory=list)
    #: Ends that nobody asked for.
    died: list[str] = field(default_factory=list)

    def start(self, slot: Slot, *, armed: bool) -> None:
        """Start a worker; armed ones carry the hour of their death with them."""
        slot.dies = slot.stops = None
        slot.shot, slot.stopped_until = False, None
        more: dict[str, str] = {}
        fate = self.dice.random() if armed else 1.0
        if fate < 0.55:
            slot.dies = self.dice.choice(POINTS)
            more["CORRO_CRASH"] = f"{slot.dies}:{self.dice.randint(1, 25)}"
        elif fate < 0.75:
            slot.stops = self.dice.choice(PAUSES)
            more["CORRO_PAUSE"] = f"{slot.stops}:{self.dice.randint(1, 25)}"
        slot.process = self.world.start(slot.broker, label=slot.label, ready=False, **more)

    def watch(self, *, armed: bool) -> None:
        """See who died or was suspended, wake up whose time is over, and start the dead again."""
        now = time.time()
        for slot in self.slots:
            if slot.process is None:
                if now >= slot.again_at:
                    self.start(slot, armed=armed)
                continue
            status = slot.process.popen.poll()
            if status is not None:
                self._is_dead(slot, status, now)
            elif slot.stopped_until is None:
                self._may_be_stopped(slot, now)
            elif now >= slot.stopped_until:
                slot.process.popen.send_signal(signal.SIGCONT)
                slot.stopped_until, slot.stops = None, None

    def _is_dead(self, slot: Slot, status: int, now: float) -> None:
        if status == -signal.SIGKILL:
            point = "at random" if slot.shot or slot.dies is None else slot.dies
            self.struck.append(Struck(now, f"worker kill -9 {point}", slot.broker))
        else:
            self.died.append(f"worker {slot.label} ended with {status}, see {slot.process and slot.process.log.name}")
        slot.process, slot.again_at = None, now + self.dice.choice((0.0, 0.0, 0.5, 4.0))

    def _may_be_stopped(self, slot: Slot, now: float) -> None:
        assert slot.process is not None
        if _state(slot.process.popen.pid) == "T":
            self.struck.append(Struck(now, f"worker SIGSTOP {slot.stops or 'at random'}", slot.broker))
            slot.stopped_until = now + self.lease + self.dice.uniform(0.5, 2.0)

    def shoot(self) -> None:
        """Kill a worker at a random moment."""
        alive = [slot for slot in self.slots if slot.process is not None and slot.process.popen.poll() is None]
        if alive:
            slot = self.dice.choice(alive)
            assert slot.process is not None
            slot.shot = True
            slot.process.popen.send_signal(signal.SIGKILL)

    def suspend(self) -> None:
        """Suspend a worker at a random moment, for longer than its lease."""
        alive = [s for s in self.slots if s.process is not None and s.process.popen.poll() is None]
        if alive:
            slot = self.dice.choice(alive)
            assert slot.process is not None
            slot.stops = None
            slot.process.popen.send_signal(signal.SIGSTOP)

    def calm(self) -> None:
        """Have every worker alive, awake and unarmed."""
        for slot in self.slots:
            if slot.process is None:
                self.start(slot, armed=False)
            elif slot.process.popen.poll() is None:
                slot.process.popen.send_signal(signal.SIGCONT)


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return None


class Outages:
    """The queue and the database of a world, and what can be done to them. Each method returns what it did, or None."""

    def __init__(self, world: World, dice: random.Random, postgres: Postgres | None) -> None:
        self.world, self.dice, self.postgres = world, dice, postgres
        self._busy: dict[str, threading.Thread] = {}

    def queue(self) -> str | None:
        """Trouble the queue."""
        return self._one("queue", (self._wipe, self._pause, self._freeze, self._kill, self._kill_and_wipe))

    def database(self) -> str | None:
        """Trouble the database."""
        kinds = (self._lock_tables, self._cut, self._stop, self._read_only) if self.postgres else (self._lock_file,)
        return self._one("database", kinds)

    def end(self) -> None:
        """Wait until everything is back."""
        for thread in self._busy.values():
            thread.join(30)

    def _one(self, what: str, kinds: tuple[Callable[[], tuple[str, Callable[[], None]]], ...]) -> str | None:
        if what in self._busy and self._busy[what].is_alive():
            return None
        try:
            label, repair = self.dice.choice(kinds)()
        except (redis.RedisError, sqlite3.Error, BlockingIOError):
            return None
        self._busy[what] = threading.Thread(target=repair, daemon=True)
        self._busy[what].start()
        return label

    # -- QUEUE ---
    def _wipe(self) -> tuple[str, Callable[[], None]]:
        self.world.queue.flushall()
        return "queue wiped", lambda: None

    def _pause(self) -> tuple[str, Callable[[], None]]:
        self.world.queue.client_pause(self.dice.randint(200, 1500), all=True)
        return "queue slow to answer", lambda: None

    def _freeze(self) -> tuple[str, Callable[[], None]]:
        pid, seconds = self.world.queue_pid(), self.dice.uniform(0.5, 3.0)
        os.kill(pid, signal.SIGSTOP)

        def repair() -> None:
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)

        return "queue frozen", repair

    def _kill(self, *, wipe: bool = False) -> tuple[str, Callable[[], None]]:
        pid, seconds, queue = self.world.queue_pid(), self.dice.uniform(0.0, 3.0), self.world.fleet.queue
        with (queue.home / "queue.start.lock").open("a") as gate:
            # A worker that starts just now would revive it in between; one that is suspended there must not stop us.
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            eventually(lambda: not Path(f"/proc/{pid}").exists() or _state(pid) == "Z", 10)
            for path in (*self.world.home.glob("appendonly*"), *self.world.home.glob("*.rdb")) if wipe else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

        def repair() -> None:
            time.sleep(seconds)
            self.world.start_queue()

        return "queue kill -9" + (" and wiped" if wipe else ""), repair

    def _kill_and_wipe(self) -> tuple[str, Callable[[], None]]:
        return self._kill(wipe=True)

    # -- DATABASE ---
    def _lock_file(self) -> tuple[str, Callable[[], None]]:
        path, seconds = self.world.home / "corro.db", self.dice.choice((0.5, 1.0, 2.0, 6.5))
        locked = threading.Event()

        def repair() -> None:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as lock:
                lock.execute("BEGIN EXCLUSIVE")
                locked.set()
                time.sleep(seconds)
                lock.execute("ROLLBACK")

        return "database locked", repair

    def _admin(self, *statements: str) -> None:
        assert self.postgres is not None
        engine = create_engine(self.postgres.url("postgres"), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                for statement in statements:
                    connection.exec_driver_sql(statement)
        finally:
            engine.dispose()

    @property
    def _name(self) -> str:
        return str(self.world.database.url.database)

    def _cut(self) -> tuple[str, Callable[[], None]]:
        self._admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'")
        return "database cuts every connection", lambda: None

    def _lock_tables(self) -> tuple[str, Callable[[], None]]:
        seconds, url = self.dice.choice((0.5, 1.0, 2.0, 6.5)), self.world.database.url

        def repair() -> None:
            engine = create_engine(url)
            with contextlib.suppress(Exception), engine.begin() as connection:
                connection.exec_driver_sql("LOCK TABLE orders, attempts IN ACCESS EXCLUSIVE MODE")
                time.sleep(seconds)
            engine.dispose()

        return "database locked", repair

    def _stop(self) -> tuple[str, Callable[[], None]]:
        postgres, seconds = self.postgres, self.dice.uniform(0.2, 3.0)
        assert postgres is not None
        postgres.stop()

        def repair() -> None:
            time.sleep(seconds)
            postgres.start()

        return "database killed", repair

    def _read_only(self) -> tuple[str, Callable[[], None]]:
        seconds = self.dice.uniform(0.5, 3.0)
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'"
        self._admin(f"ALTER DATABASE {self._name} SET default_transaction_read_only = on", cut)

        def repair() -> None:
            time.sleep(seconds)
            self._admin(f"ALTER DATABASE {self._name} SET default_transaction_read_only = off", cut)

        return "database read-only", repair


def is_database(error: Any) -> bool:
    """Tell the trouble that we made from a mistake."""
    from models.errors import DatabaseUnavailable

    return isinstance(error, DatabaseUnavailable)
