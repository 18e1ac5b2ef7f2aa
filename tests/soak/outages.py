"""Trouble with the queue, the database, and people: what breaks in a world beside its processes and its doors."""

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
from pathlib import Path

import redis
from sqlalchemy import create_engine

from models.errors import DatabaseUnavailable
from tests.kit import PostgresServer, World, eventually
from tests.soak.strikes import state_of
from worker.control import controls
from worker.control.scopes import Scope

Repair = Callable[[], None]
#: How a real Redis is made to answer with an error: the reply -> commands that begin it, and that end it.
REPLIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "READONLY": (("REPLICAOF 127.0.0.1 1",), ("REPLICAOF NO ONE",)),  # nobody listens there: it keeps what it has
    "OOM": (("CONFIG SET maxmemory 1",), ("CONFIG SET maxmemory 0",)),
    "NOREPLICAS": (("CONFIG SET min-replicas-to-write 3",), ("CONFIG SET min-replicas-to-write 0",)),
    "NOPERM to push": (("ACL SETUSER default -lpush",), ("ACL SETUSER default +lpush",)),
    "NOPERM to take": (("ACL SETUSER default -brpop",), ("ACL SETUSER default +brpop",)),
    "NOPERM to note": (("ACL SETUSER default -zadd -zrem",), ("ACL SETUSER default +zadd +zrem",)),
}


class Outages:
    """The queue and the database of a world, and what can be done to them. Each method returns what it did, or None."""

    def __init__(self, world: World, dice: random.Random, postgres: PostgresServer | None) -> None:
        self.world, self.dice, self.postgres = world, dice, postgres
        self._busy: dict[str, threading.Thread] = {}

    def queue(self) -> str | None:
        """Trouble the queue."""
        broken = (self._wipe, self._pause, self._freeze, self._kill, self._kill_and_wipe)
        return self._one("queue", broken if self.dice.random() < 0.5 else (self._reply, self._cannot_save))

    def database(self) -> str | None:
        """Trouble the database."""
        kinds = (self._lock_tables, self._cut, self._stop, self._read_only) if self.postgres else (self._lock_file,)
        return self._one("database", kinds)

    def people(self) -> str | None:
        """Have somebody stop trading for a while."""
        return self._one("people", (self._halt, self._drain))

    def end(self) -> None:
        """Wait until everything is back."""
        for thread in self._busy.values():
            thread.join(30)

    def _one(self, what: str, kinds: tuple[Callable[[], tuple[str, Repair]], ...]) -> str | None:
        if what in self._busy and self._busy[what].is_alive():
            return None
        try:
            label, repair = self.dice.choice(kinds)()
        except (redis.RedisError, sqlite3.Error, BlockingIOError, DatabaseUnavailable):
            return None
        self._busy[what] = threading.Thread(target=repair, daemon=True)
        self._busy[what].start()
        return label

    # -- QUEUE ---
    def _wipe(self) -> tuple[str, Repair]:
        self.world.fleet.queue.flushall()
        return "queue wiped", lambda: None

    def _pause(self) -> tuple[str, Repair]:
        self.world.fleet.queue.client_pause(self.dice.randint(200, 1500), all=True)
        return "queue slow to answer", lambda: None

    def _freeze(self) -> tuple[str, Repair]:
        pid = self.world.fleet.queue_pid()
        stop, go_on = (lambda: os.kill(pid, signal.SIGSTOP)), (lambda: os.kill(pid, signal.SIGCONT))
        return "queue frozen", self._for_a_while(stop, go_on, 0.5, 3.0)

    def _kill(self, *, wipe: bool = False) -> tuple[str, Repair]:
        pid, seconds, queue = self.world.fleet.queue_pid(), self.dice.uniform(0.0, 3.0), self.world.fleet.server
        with (queue.home / "queue.start.lock").open("a") as gate:
            # A worker that starts just now would revive it in between; one that is suspended there must not stop us.
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            eventually(lambda: not Path(f"/proc/{pid}").exists() or state_of(pid) == "Z", 10)
            for path in (*self.world.home.glob("appendonly*"), *self.world.home.glob("*.rdb")) if wipe else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

        def repair() -> None:
            time.sleep(seconds)
            self.world.fleet.start_queue()

        return "queue kill -9" + (" and wiped" if wipe else ""), repair

    def _kill_and_wipe(self) -> tuple[str, Repair]:
        return self._kill(wipe=True)

    def _reply(self) -> tuple[str, Repair]:
        reply = self.dice.choice(list(REPLIES))
        begin, end = REPLIES[reply]
        return f"queue answers {reply}", self._for_a_while(
            lambda: self._tell_queue(*begin), lambda: self._tell_queue(*end)
        )

    def _cannot_save(self) -> tuple[str, Repair]:
        """Where the file of a snapshot would go is a folder: whatever writes is answered with MISCONF."""
        folder = self.world.home / "dump.rdb"

        def begin() -> None:
            if folder.is_file():
                folder.unlink()
            folder.mkdir(exist_ok=True)
            self._tell_queue("CONFIG SET dbfilename dump.rdb", "CONFIG SET stop-writes-on-bgsave-error yes")
            self._tell_queue('CONFIG SET save "3600 1000000"', "BGSAVE SCHEDULE")
            eventually(lambda: self.world.fleet.queue.info("persistence")["rdb_last_bgsave_status"] == "err", 5)

        def end() -> None:
            self._tell_queue('CONFIG SET save ""')
            folder.rmdir()

        return "queue answers MISCONF", self._for_a_while(begin, end)

    def _tell_queue(self, *commands: str) -> None:
        for command in commands:
            self.world.fleet.queue.execute_command(*(word.strip('"') for word in command.split(" ", 3)))  # type: ignore[no-untyped-call]

    def _for_a_while(
        self, begin: Callable[[], object], end: Callable[[], object], least: float = 0.5, most: float = 4.0
    ) -> Repair:
        seconds = self.dice.uniform(least, most)
        begin()

        def repair() -> None:
            time.sleep(seconds)
            _surely(end)

        return repair

    # -- PEOPLE ---
    def _halt(self) -> tuple[str, Repair]:
        return self._somebody("halt", self.dice.choice(("*", *self.world.brokers)))

    def _drain(self) -> tuple[str, Repair]:
        return self._somebody("drain", self.dice.choice(self.world.brokers))

    def _somebody(self, kind: str, scope: str) -> tuple[str, Repair]:
        database = self.world.database
        where = Scope() if scope == "*" else Scope("broker", scope)
        begin = lambda: controls.stop(database, where, kind, "a storm", "soak")  # noqa: E731
        end = lambda: controls.resume(database, where, by="soak")  # noqa: E731
        return f"{kind} of {'everything' if scope == '*' else scope}", self._for_a_while(begin, end)

    # -- DATABASE ---
    def _lock_file(self) -> tuple[str, Repair]:
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

    @property
    def _cutting(self) -> str:
        return f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'"

    def _cut(self) -> tuple[str, Repair]:
        self._admin(self._cutting)
        return "database cuts every connection", lambda: None

    def _lock_tables(self) -> tuple[str, Repair]:
        seconds, url = self.dice.choice((0.5, 1.0, 2.0, 6.5)), self.world.database.url

        def repair() -> None:
            engine = create_engine(url)
            with contextlib.suppress(Exception), engine.begin() as connection:
                connection.exec_driver_sql("LOCK TABLE orders, attempts IN ACCESS EXCLUSIVE MODE")
                time.sleep(seconds)
            engine.dispose()

        return "database locked", repair

    def _stop(self) -> tuple[str, Repair]:
        assert self.postgres is not None
        return "database killed", self._for_a_while(self.postgres.stop, self.postgres.start, 0.2, 3.0)

    def _read_only(self) -> tuple[str, Repair]:
        def set_to(word: str) -> None:
            self._admin(f"ALTER DATABASE {self._name} SET default_transaction_read_only = {word}", self._cutting)

        return "database read-only", self._for_a_while(lambda: set_to("on"), lambda: set_to("off"), 0.5, 3.0)


def _surely(action: Callable[[], object], seconds: float = 25.0) -> None:
    """Do it, again and again while queue or database are away."""
    end = time.time() + seconds
    while True:
        try:
            action()
        except (redis.RedisError, DatabaseUnavailable):
            if time.time() > end:
                raise
            time.sleep(0.2)
        else:
            return
