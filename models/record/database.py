"""The way to the database: engine, transactions, migrations. SQLite (WAL, synchronous=FULL) and PostgreSQL alike."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Connection as Connection
from sqlalchemy import Engine, String, column, create_engine, event, inspect, select, table
from sqlalchemy import make_url as make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models import encoding
from models.errors import ConfigurationError, DatabaseBusy, DatabaseUnavailable
from models.private import private_file, private_folder
from models.record import deployment, moving, postgres, sqlite, tables, told
from models.record.giving_way import giving_way
from models.record.lines import OpenLines
from models.record.one_at_a_time import one_at_a_time
from models.settings import Settings
from models.troubles import trouble

if TYPE_CHECKING:
    import psycopg
    from alembic.config import Config

T = TypeVar("T")

#: Seconds a statement waits for a lock or for the server before the database counts as unavailable.
PATIENCE_S = 5
#: PostgreSQL's word for it: a standby, or a primary that an operator or a full disk has made read-only.
_READ_ONLY = "25006"
#: Its words for transactions that met: could not be serialised, deadlock.
_MET = frozenset({"40001", "40P01"})


class Database:
    """One engine and the two ways to use it.

    Args:
        url: SQLAlchemy URL; psycopg for PostgreSQL.

    Raises:
        ConfigurationError: the URL cannot be read or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
            self.engine = _engine(url)
        except OSError as error:
            raise ConfigurationError(f"the database's folder cannot be made: {error}") from None
        except (ArgumentError, ValueError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigurationError(f"database_url cannot be used: {error}") from None
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        #: The id of the fleet whose record this is: once known, no connection to any other database is used.
        self.deployment: str | None = None
        #: Called with the ids that a committed transaction has changed; it must not take time, and must not raise.
        self.after_commit: Callable[[Collection[str]], None] | None = None
        #: What is watched while it is used; None on a server, and for what ends with the process.
        self.file = sqlite.DatabaseFile.of(self.url) if self.is_sqlite else None
        if not self.is_sqlite:
            event.listen(self.engine, "connect", self._is_the_same)
        self._lines = None if self.is_sqlite else OpenLines(self.engine, self._tell)
        self._dbapi: Any = self.engine.dialect.loaded_dbapi
        self._reader = self.engine.execution_options(corro_read=True)
        self._pen = sqlite.Pen(self.engine, self.file, repr(self.url), PATIENCE_S) if self.is_sqlite else None

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; commits at the end, rolls back on an exception.

        Raises:
            DatabaseUnavailable: the database cannot be reached, or stayed locked.
        """
        with self.translated(), self._pen.writing() if self._pen else self.engine.begin() as connection:
            yield connection
            changed = told.taken(connection)
        self._tell(changed)

    def _tell(self, changed: Collection[str]) -> None:
        if changed and self.after_commit is not None:
            self.after_commit(changed)

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Do some work in a transaction that writes; one that had to give way to another is done again.

        Args:
            work: called with the connection, once for each try; it must do nothing outside the database.

        Raises:
            DatabaseUnavailable: as for `write`.
        """
        return giving_way(self._in_transaction, work)

    def at_once(self, work: Callable[[Connection], T]) -> T:
        """Do some work that writes with one statement: on PostgreSQL one round trip, as the statement commits itself.

        Over a dead connection it is done once more, on a fresh one, though nobody knows whether it had arrived.

        Args:
            work: as for `transact`; and it finds what it has done before, or finds nothing left to do.

        Raises:
            DatabaseUnavailable: as for `write`; PostgreSQL may have done it.
        """
        return giving_way(self._in_transaction if self._lines is None else self._over_a_line, work)

    def _in_transaction(self, work: Callable[[Connection], T]) -> T:
        with self.write() as connection:
            return work(connection)

    def _over_a_line(self, work: Callable[[Connection], T]) -> T:
        assert self._lines is not None
        with self.translated():
            return self._lines.run(work)

    def _is_the_same(self, driver: psycopg.Connection, _record: object) -> None:
        """Refuse a new connection that leads to another database than the ones before."""
        if self.deployment is None:
            return
        try:
            row = driver.execute("SELECT id FROM deployment ORDER BY created_at LIMIT 1").fetchone()
        except self._dbapi.ProgrammingError:  # no such table
            row = None
        driver.rollback()
        if row is None or row[0] != self.deployment:
            driver.close()
            raise DatabaseUnavailable(
                f"database {self.url!r} is not the one this process began with (deployment {self.deployment}, now "
                f"{row[0] if row else 'none'}): put the right one there, or start this process again"
            )

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads; it takes no write lock, and raises as `write` does."""
        if self.file is not None:
            self.file.must_still_be_there()  # one that was removed can be read as long as it is open
        with self.translated(), self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raise an outage as `DatabaseUnavailable`, whether the pool, SQLAlchemy or the driver reports it.

        Other errors, such as a mistake in a statement, are raised as they are.

        Raises:
            DatabaseUnavailable: the database cannot be reached or used.
            DatabaseBusy: the transaction met another one and has to give way.
        """
        try:
            yield
        except PoolTimeout as error:
            raise DatabaseUnavailable(f"database {self.url!r}: no free connection: {trouble(error)}") from error
        except DBAPIError as error:
            if error.connection_invalidated or self._is_outage(error.orig):
                raise self._outage(error.orig) from error
            raise
        except self._dbapi.Error as error:  # from a prepared statement
            if self._is_outage(error):
                raise self._outage(error) from error
            raise

    def _outage(self, error: object) -> DatabaseUnavailable:
        kind = DatabaseBusy if getattr(error, "sqlstate", None) in _MET else DatabaseUnavailable
        garbled = "; it is damaged, or no SQLite database at all" if sqlite.is_garbled(error) else ""
        return kind(f"database {self.url!r} cannot be used: {trouble(error)}{garbled}")

    def _is_outage(self, error: object) -> bool:
        """Tell an outage (no server, locked file, disk, a server that only reads) from a mistake in a statement."""
        kinds = (self._dbapi.OperationalError, self._dbapi.InterfaceError)
        known = isinstance(error, kinds) or sqlite.is_garbled(error)
        return known or getattr(error, "sqlstate", None) in _MET | {_READ_ONLY}

    def tidy(self) -> None:
        """Clear away what SQLite's log has grown by, holding nobody up; otherwise a commit does it now and then.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        if self.is_sqlite:
            with self.translated(), self.engine.connect() as connection:
                driver = cast(sqlite3.Connection, connection.connection.driver_connection)
                driver.execute("PRAGMA wal_checkpoint(PASSIVE)").close()

    def close(self) -> None:
        """Close every connection."""
        if self._pen is not None:
            self._pen.close()
        if self._lines is not None:
            self._lines.close()
        self.engine.dispose()


_JSON: dict[str, object] = {"json_serializer": encoding.text, "json_deserializer": encoding.loads}


def _engine(url: str) -> Engine:
    """Make the engine; a folder for SQLite's file is made for us alone."""
    if make_url(url).get_backend_name() == "sqlite":
        path = make_url(url).database
        sqlite.must_be_plain(make_url(url))
        if path and path != ":memory:":
            private_folder(Path(path).parent)
        engine = create_engine(
            url, connect_args={"timeout": PATIENCE_S, "check_same_thread": False}, pool_size=20, **_JSON
        )
        event.listen(engine, "connect", lambda driver, _record: sqlite.pin(driver, PATIENCE_S))
        event.listen(engine, "begin", lambda connection: sqlite.begin(connection, PATIENCE_S))
        return engine
    postgres.must_be_known(make_url(url))
    engine = create_engine(
        url,
        pool_size=10,
        max_overflow=10,
        pool_timeout=PATIENCE_S,
        pool_pre_ping=True,  # a server that was restarted a moment ago is no outage
        isolation_level="READ COMMITTED",  # whatever the role's default is
        **_JSON,
        connect_args={"connect_timeout": PATIENCE_S, "client_encoding": "utf8"},
    )
    event.listen(engine, "connect", lambda driver, _record: postgres.pin(driver))
    return engine


# -- MIGRATIONS ---
def migrations() -> Path:
    """Return the folder of the migrations: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parents[1] / "_alembic"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "alembic"


def alembic_config(database: Database) -> Config:
    """Return Alembic's configuration for this database."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.attributes["engine"] = database.engine
    return config


def upgrade(database: Database, revision: str = "head", *, is_copy: bool = False) -> None:
    """Bring the schema up to a revision; two processes doing so at once wait for each other.

    Raises:
        ConfigurationError: a newer corro has made the schema; this one knows nothing beyond its own. Or it is a copy
            that is not complete.
    """
    from alembic import command

    if not is_copy:
        _must_be_a_record(database)
    with one_at_a_time(database), database.translated():
        current = current_revision(database)
        if current is not None and current not in revisions():
            raise ConfigurationError(
                f"database {database.url!r} is at revision {current}, newer than {head_revision()}, the newest "
                "that this corro knows: nothing to upgrade; upgrade corro when convenient"
            )
        command.upgrade(alembic_config(database), revision)
        if inspect(database.engine).has_table(tables.deployment.name):
            with database.engine.begin() as connection:
                deployment.identity(connection)


def _must_be_a_record(database: Database) -> None:
    with database.read() as connection:
        moving.must_not_move(connection, repr(database.url))


def current_revision(database: Database) -> str | None:
    """Return the schema's revision, or None where there is none; reads what Alembic has written, without Alembic.

    A file that is not there stays so: nobody who only looks makes a database.
    """
    if database.file is not None and database.file.is_missing:
        return None
    version = table("alembic_version", column("version_num", String))
    with database.read() as connection:
        if not connection.dialect.has_table(connection, version.name):
            return None
        return connection.execute(select(version.c.version_num)).scalar_one_or_none()


def objections(database: Database) -> list[str]:
    """Return why the server, or the way to it, cannot hold the record; empty where it can.

    Raises:
        DatabaseUnavailable: it cannot be reached.
    """
    if database.is_sqlite:
        if database.file is not None and database.file.is_missing:
            return [f"there is no file {database.file.path}"]
        with database.read() as connection:
            return sqlite.objections(connection)
    with database.translated():
        return postgres.objections(database.engine)


def revisions() -> list[str]:
    """Return the revisions that this version of corro knows, oldest first: what their files' names begin with."""
    return sorted(path.name.partition("_")[0] for path in (migrations() / "versions").glob("[0-9]*_*.py"))


def head_revision() -> str:
    """Return the revision this version of corro needs."""
    return revisions()[-1]


def ensure_schema(database: Database, marker: Path | None = None, *, upgrading: bool = False) -> None:
    """Make the schema of a fresh SQLite file; refuse to work on any other that is not current.

    Args:
        database: the database.
        marker: the file that knows which database belongs here.
        upgrading: bring an older schema up to date instead of refusing it.

    Raises:
        ConfigurationError: the schema is missing or of another version, or the database is not the one that was here;
            says what to do.
    """
    was_here = marker is not None and deployment.read(marker) is not None  # before the look: it is written after
    # Before any connection: opening makes the file, and drops a log beside it.
    if was_here and database.file is not None and database.file.is_missing:
        deployment.must_not_be_known(marker, database.url)
    if database.file is not None and database.file.is_missing:
        private_file(database.file.path)  # SQLite gives its log the same mode
    _must_be_a_record(database)
    current, head = current_revision(database), head_revision()
    known = current in revisions()
    if current is None and database.is_sqlite:
        if was_here:
            deployment.must_not_be_known(marker, database.url)
        upgrade(database)
    elif known and current != head and upgrading:
        upgrade(database)
    elif current is None or (known and current != head):
        raise ConfigurationError(
            f"database {database.url!r} is at revision {current or 'none'}, corro needs {head}: run `corro db upgrade`"
        )
    elif current != head:  # migrations keep the previous version running (alembic/script.py.mako)
        logging.getLogger(__name__).warning(
            "schema_is_newer: revision %s, this process knows %s; upgrade it when convenient", current, head
        )
    with database.read() as connection:
        found = connection.execute(select(tables.deployment.c.id)).scalar()
    if found is None:
        found = database.transact(deployment.identity)
    if marker is not None:
        deployment.must_agree(marker, found, database.url)
    database.deployment = found


def open_database(settings: Settings, *, upgrading: bool = False) -> Database:
    """Open the database of the settings and see that its schema is current: see `ensure_schema`."""
    database = Database(settings.database)
    if database.is_sqlite and database.file is None:
        raise ConfigurationError(
            f"database_url {database.url!r} is no file: an order recorded there would be gone with this process"
        )
    try:
        ensure_schema(database, deployment.marker_of(settings), upgrading=upgrading)
    except BaseException:
        database.close()
        raise
    return database
