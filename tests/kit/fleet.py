"""The processes of a fleet in a test's hands: workers and the queue's server, started, watched and killed by name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping

import redis
from sqlalchemy import select

from models.errors import DatabaseUnavailable
from models.record.database import Database, open_database, upgrade
from models.record.tables import workers
from models.settings import Settings
from tests.kit.process import clean_environment, tail
from tests.kit.waiting import eventually
from worker.fleet.identity import process_state
from worker.local.processes import Fleet, Process
from worker.messaging.embedded_queue import EmbeddedQueue


class WorkerlessFleet(Fleet):
    """A fleet that starts with its queue and its database; workers follow one by one."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        super().__init__(settings, sandbox=False, environment=environment)
        self._environment = {**clean_environment(), **environment}

    def start(self) -> None:
        """Start the queue and open the database; nothing else."""
        self.home.mkdir(parents=True, exist_ok=True)
        if self.settings.embedded_queue:
            self.queue = EmbeddedQueue(self.settings)
            self.queue.acquire()
            self._exit.callback(lambda: self.queue.release())
        empty = Database(self.settings.database)
        upgrade(empty)
        empty.close()
        self.database = open_database(self.settings)

    def must_run(self, process: Process) -> None:
        """Raise where a process has ended, with the end of its log."""
        self._must_run(process)


class FleetProcesses:
    """Workers and the queue's server.

    Args:
        settings: of the home.
        environment: what every process has beyond a clean environment.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._fleet = WorkerlessFleet(settings, environment)
        self._fleet.start()
        self._redis: redis.Redis | None = None
        self.database: Database = self._fleet.database
        #: Workers that were started, by label; the last one of each.
        self.processes: dict[str, Process] = self._fleet.processes

    # -- WORKERS ---
    def start(self, *names: str, label: str | None = None, ready: bool = True, **more: str) -> Process:
        """Start a worker of each broker, together; keywords in capitals go to their environment."""
        started = [self._fleet.start_worker(name, label or name, more) for name in names]
        if ready:
            for process in started:
                self.wait_ready(process)
        return started[0]

    def start_all(self) -> None:
        """Start a worker of every broker."""
        self.start(*self._fleet.settings.route)

    def wait_ready(self, process: Process, timeout: float = 40.0) -> None:
        """Wait until a worker is connected and reconciled."""

        def is_ready() -> bool:
            self._fleet.must_run(process)
            return self.state(process) == "ready"

        eventually(is_ready, timeout, lambda: f"{process.name} is {self.state(process)}: {tail(process.log)}")

    def state(self, process: Process) -> str:
        """Return what a worker says of itself."""
        with self.database.read() as connection:
            query = select(workers.c.state).where(workers.c.pid == process.popen.pid)
            return str(connection.execute(query.order_by(workers.c.started_at.desc())).scalar())

    def wait_gone(self, process: Process, timeout: float = 20.0) -> int:
        """Wait until a process has ended; returns its status."""
        return process.popen.wait(timeout)

    def kill(self, process: Process) -> None:
        """Kill a worker as a power cut would."""
        process.popen.send_signal(signal.SIGKILL)
        process.popen.wait(10)

    def suspend(self, process: Process) -> None:
        """Stop a worker, but not in the middle of a transaction: everybody else would wait for its end."""

        def is_outside() -> bool:
            process.popen.send_signal(signal.SIGSTOP)
            eventually(lambda: process_state(process.popen.pid) == "T")
            if self.is_free():
                return True
            process.popen.send_signal(signal.SIGCONT)
            return False

        eventually(is_outside, 60)

    def is_free(self) -> bool:
        """Tell whether nobody holds the database: on SQLite a stopped writer would."""
        try:
            with self.database.write():
                return True
        except DatabaseUnavailable:
            return False

    def kill_all(self) -> None:
        """Kill every worker."""
        for process in self.processes.values():
            if process.popen.poll() is None:
                self.kill(process)
        self.processes.clear()

    def start_web(self) -> str:
        """Start the operator's page on a free port; returns its address."""
        return self._fleet.start_web(0)

    # -- QUEUE ---
    @property
    def server(self) -> EmbeddedQueue:
        """The queue's server, where it is the embedded one."""
        assert self._fleet.queue is not None
        return self._fleet.queue

    @property
    def queue(self) -> redis.Redis:
        """A client of the queue's server, for looking and for mischief."""
        if self._redis is None:
            self._redis = redis.Redis(unix_socket_path=str(self.server.socket), socket_timeout=5)
        return self._redis

    def queue_answers(self) -> bool:
        """Tell whether the queue's server answers."""
        try:
            return bool(self.queue.ping())
        except redis.RedisError:
            return False

    def queue_pid(self) -> int:
        """Return the process of the queue's server."""
        return int(self.queue.info("server")["process_id"])

    def kill_queue(self, *, wipe: bool) -> None:
        """Kill the queue's server, and remove everything it knew."""
        pid = self.queue_pid()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self.queue_answers(), 5)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        if wipe:
            home = self._fleet.home
            for path in (*home.glob("appendonly*"), *home.glob("*.rdb")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def start_queue(self) -> None:
        """Start the queue's server again where it was."""
        self.server.revive()

    # -- END ---
    def close(self) -> None:
        """End every process, a stopped one too, and remove the queue's socket."""
        for process in self.processes.values():
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGCONT)
        if self._redis is not None:
            self._redis.close()
        self._fleet.stop()
        if self.server.socket.parent != self._fleet.home:
            shutil.rmtree(self.server.socket.parent, ignore_errors=True)
