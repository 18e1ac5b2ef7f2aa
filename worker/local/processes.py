"""Everything on one machine: the embedded queue, the database, the sandbox, and one worker process per broker.

The pieces are real processes, each in a session of its own: a Ctrl-C reaches this process alone, which then ends the
others in the right order.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import structlog

from models.errors import ConfigurationError, CorroError, DatabaseUnavailable
from models.private import private_folder
from models.record.database import open_database
from models.record.reading import answer, worker_rows
from models.settings import Settings, load_settings
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.runtime.celery_command import PARENT, worker_arguments

log = structlog.get_logger()

#: Name of the operator's page among the processes: of no broker, whose names have no dot.
WEB = "corro.web"
#: What the sandbox and the page have until they answer: a busy machine is slow, and ends nobody who trades.
_READY_WITHIN_S = 120.0
#: Seconds a process gets to finish what it does; longer than a send may take.
STOP_S = 45.0


@dataclass(slots=True)
class Process:
    """One child and where it writes its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path


class Fleet:
    """Starts, watches and stops the processes of one CORRO_HOME.

    Args:
        settings: the settings in force here; the children read the same file and environment.
        sandbox: run the simulated market too.
        brokers: start workers of these only; None means all.
        environment: what the children's environment has beyond, or instead of, this one's; None takes a name away.
        any_port: let the sandbox take free ports instead of its usual ones.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sandbox: bool,
        brokers: Sequence[str] | None = None,
        environment: Mapping[str, str | None] | None = None,
        any_port: bool = False,
        fill_delay: float = 0.02,
    ) -> None:
        self.settings, self.with_sandbox, self.any_port, self.fill_delay = settings, sandbox, any_port, fill_delay
        self.brokers = tuple(settings.all_brokers if brokers is None else brokers)
        self.home = settings.home.absolute()
        self.processes: dict[str, Process] = {}
        self.queue: EmbeddedQueue | None = None
        self._environment = _environment({"CORRO_HOME": str(self.home), **(environment or {})})
        self._exit = contextlib.ExitStack()
        self._files: list[IO[bytes]] = []
        self._web_port = 0
        self._before: object = None
        self._lost = False

    def __enter__(self) -> Fleet:
        self._before = _on_signal(signal.SIGTERM, _leave)  # told to end while it starts, it leaves nobody behind
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        _on_signal(signal.SIGTERM, self._before)

    # -- START ---
    def start(self) -> None:
        """Start everything; returns when the processes run, before the brokers answer.

        Raises:
            CorroError: another fleet of this home runs; names its pid.
        """
        private_folder(self.home)
        self._be_the_only_one()
        ready = self.start_sandbox() if self.with_sandbox else None
        if self.settings.embedded_queue:
            with _whole():
                self.queue = self._exit.enter_context(EmbeddedQueue(self.settings))
        self.database = open_database(self.settings, upgrading=not self.settings.database_url)
        if ready:
            ready()
        for name in self.brokers:
            self.start_worker(name)

    def _be_the_only_one(self) -> None:
        """Hold a lock for as long as this process lives: two sandboxes would write one ledger."""
        file = self._exit.enter_context((self.home / "up.lock").open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise CorroError(f"corro is up already in {self.home} (pid {file.read().strip() or 'unknown'})") from None
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()

    def start_sandbox(self) -> Callable[[], None]:
        """Start the simulated market; the function returned waits until its doors listen."""
        announced = self.home / "sandbox.json"
        announced.unlink(missing_ok=True)
        arguments = ["--home", str(self.home), "--fill-delay", str(self.fill_delay), "--parent", str(os.getpid())]
        arguments += [*self.settings.sandbox.arguments, *(["--ports-any"] if self.any_port else [])]
        process = self._spawn("sandbox", ["-m", "worker.sandbox.server", *arguments])

        def ready() -> None:
            self._wait(announced.exists, process, _READY_WITHIN_S)
            self.settings = load_settings(**self._overrides())

        return ready

    def _overrides(self) -> dict[str, object]:
        return {"home": self.home, "database_url": self.settings.database_url, "redis_url": self.settings.redis_url}

    def start_worker(
        self, name: str, label: str | None = None, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a worker of one broker; `label` tells several of them apart."""
        command = ["-m", "celery", "-A", "worker", *worker_arguments(label or name, name)]
        return self._spawn(label or name, command, environment)

    def start_web(self, port: int) -> str:
        """Start the operator's page beside the fleet; returns its address, once it answers there.

        Args:
            port: 0 is any that is free.

        Raises:
            ConfigurationError: it cannot be served; has the end of its log.
        """
        path = self.home / "logs" / f"{WEB}.log"
        old = path.stat().st_size if path.exists() else 0
        process = self._spawn(WEB, _web(port))
        found: list[str] = []

        def answers() -> bool:
            found[:] = re.findall(r"https?://\S+(?=;)", path.read_text(errors="replace")[old:])
            return bool(found)

        self._wait(answers, process, _READY_WITHIN_S)
        self._web_port = int(found[0].rpartition(":")[2])
        return found[0]

    def _spawn(self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Process:
        """Start a process whose output goes to its log."""
        path = self.home / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        self._files.append(file)
        with _whole():
            popen = subprocess.Popen(
                [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True, env={**self._environment, PARENT: str(os.getpid()), **(environment or {})},
            )  # fmt: skip
            self.processes[name] = Process(name, popen, path)
        return self.processes[name]

    # -- WATCH ---
    def wait_ready(self, timeout: float = 60.0, tell: Callable[[str], None] | None = None) -> None:
        """Wait until every broker has a worker that is connected and reconciled.

        Raises:
            ConfigurationError: a worker ended; has the end of its log.
            CorroError: not all of them are ready in time; names them, with what they say.
        """
        missing, deadline = set(self.brokers), time.monotonic() + timeout
        while missing:
            for process in self.processes.values():
                self._must_run(process)
            states = self.states()
            for name in sorted(missing):
                if states.get(name, ("", ""))[0] == "ready":
                    missing.discard(name)
                    if tell:
                        tell(name)
            if missing and time.monotonic() > deadline:
                words = {name: states.get(name, ("no heartbeat", ""))[1] or "starting" for name in sorted(missing)}
                raise CorroError(f"not ready after {timeout:.0f} s: {words}; logs are in {self.home / 'logs'}")
            time.sleep(0.05)

    def states(self) -> dict[str, tuple[str, str]]:
        """Return (state, detail) of the newest running worker of each broker."""
        mine = {process.popen.pid for process in self.processes.values()}
        with self.database.read() as connection:
            rows = worker_rows(connection)
        return {row["broker"]: (row["state"], row["detail"] or "") for row in rows if row["pid"] in mine}

    def watch(self) -> None:
        """Stay until Ctrl-C or SIGTERM; a worker or a queue that dies is started again."""
        with _until_signal() as stopped:
            while not stopped():
                if self.queue:
                    self.queue.revive()
                self._look_at_the_record()
                for name, process in list(self.processes.items()):
                    if process.popen.poll() is None:
                        continue
                    status = process.popen.returncode
                    told = log.error if status else log.info  # told to end, a worker ends in good order
                    told("process_died" if status else "process_ended", name=name, status=status, log=str(process.log))
                    if name == WEB:  # nobody trades any less without it
                        del self.processes[name]
                        if status != 2:
                            self._spawn(WEB, _web(self._web_port))
                    elif name in self.settings.all_brokers and process.popen.returncode != 2:
                        self.start_worker(name)
                    else:
                        raise ConfigurationError(f"{name} ended: {_tail(process.log)}")
                time.sleep(0.5)

    def _look_at_the_record(self) -> None:
        """Say once that the database is gone, and once that it is back: workers tell only their logs."""
        try:
            if self.database.file is not None:
                self.database.file.must_be_there()
            with self.database.read() as connection:
                answer(connection)
        except DatabaseUnavailable as error:
            if not self._lost:
                log.critical("database_lost", error=str(error), effect="nothing is claimed and nothing is sent")
            self._lost = True
        else:
            if self._lost:
                log.warning("database_back", effect="orders go on")
            self._lost = False

    def _must_run(self, process: Process) -> None:
        status = process.popen.poll()
        if status is not None:
            raise ConfigurationError(f"{process.name} ended with status {status}: {_tail(process.log)}")

    def _wait(self, ready: Callable[[], bool], process: Process, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not ready():
            self._must_run(process)
            if time.monotonic() > deadline:
                raise CorroError(f"{process.name} is not ready after {timeout:.0f} s: {_tail(process.log)}")
            time.sleep(0.02)

    # -- STOP ---
    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process; SIGKILL waits until it is gone."""
        process = self.processes[name]
        process.popen.send_signal(number)
        if number == signal.SIGKILL:
            process.popen.wait(10)

    def stop(self) -> None:
        """End the workers, then the sandbox, then the queue; who is not done in time, or by the next signal, is killed.

        A killed worker leaves what it was sending to the questions of the next one.
        """
        with _until_signal() as hurried:
            for names in ([n for n in self.processes if n != "sandbox"], ["sandbox"]):
                self._end([self.processes[name] for name in names if name in self.processes], hurried)
            self._exit.close()
        if hasattr(self, "database"):
            self.database.close()
        for file in self._files:
            file.close()

    def _end(self, processes: Sequence[Process], hurried: Callable[[], bool]) -> None:
        """Tell processes to end, and kill those that do not."""
        for process in processes:
            if process.popen.poll() is None:
                process.popen.terminate()
        deadline = time.monotonic() + STOP_S
        while left := [process for process in processes if process.popen.poll() is None]:
            if hurried() or time.monotonic() > deadline:
                for process in left:
                    log.error("killed", name=process.name, why="a second signal" if hurried() else f"{STOP_S:.0f} s")
                    process.popen.kill()
                    process.popen.wait()
            time.sleep(0.02)


def _web(port: int) -> list[str]:
    return ["-m", "worker.cli", "web", "--port", str(port)]


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    environment = dict(os.environ)
    for key, value in changes.items():
        environment.pop(key, None)
        if value is not None:
            environment[key] = value
    return environment


@contextlib.contextmanager
def _until_signal() -> Iterator[Callable[[], bool]]:
    """Yield what tells whether the process was told to end; the handlers of before come back afterwards."""
    received: list[int] = []
    before = {n: _on_signal(n, lambda number, _: received.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            _on_signal(number, handler)


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Do something whole: a signal in the middle of a start would leave a process that nobody knows."""
    with _until_signal() as told:
        yield
    if told():
        raise KeyboardInterrupt


def _on_signal(number: int, handler: Any) -> object:
    """Set a handler and return the one before; only a main thread has signals."""
    if handler is None or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(number, handler)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _tail(path: Path, lines: int = 8) -> str:
    try:
        return "\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
