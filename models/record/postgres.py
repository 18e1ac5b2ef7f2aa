"""PostgreSQL as corro needs it: what the server's side may decide otherwise is pinned on each connection, or refused.

Settings of a role, a database or a server reach every session, and PgBouncer stands between without a word. Sources:
PostgreSQL's documentation of client connection defaults and of libpq's parameters; PgBouncer's of pooling modes (in
session mode startup parameters such as `options` are refused, so what can be set is set by statements).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import URL, Connection, Engine

from models.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg
    from psycopg.abc import AdaptContext, Buffer
    from psycopg.adapt import Loader

#: Pinned by the first statements of a session. A transaction says READ COMMITTED itself, with its BEGIN. A server
#: that an operator has made read-only stays so: an outage, not a setting.
PINNED = (
    "SET TIME ZONE 'UTC'",
    "SET datestyle = 'ISO, YMD'",
    "SET lock_timeout = 10000",
    "SET statement_timeout = 0",
    # A commit that was answered has to be there after a power cut; whoever asked for more than `on` keeps it.
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
)


def must_be_known(url: URL) -> None:
    """See that libpq knows each parameter of a URL: a mistyped `sslmode` would be found by the first connection alone.

    Raises:
        ValueError: it does not.
    """
    from psycopg import pq

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    if strange := sorted(url.query.keys() - known):
        raise ValueError(f"unknown parameter {strange[0]!r}; libpq has sslmode, sslrootcert, target_session_attrs ...")


def pin(driver: psycopg.Connection) -> None:
    """Pin a new connection of psycopg.

    Raises:
        ConfigurationError: the database cannot hold every text.
    """
    encoding = driver.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        driver.close()
        raise ConfigurationError(
            f"the database's encoding is {encoding}, corro needs UTF8: a broker's words may hold any character. "
            "Make it anew: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
    driver.adapters.register_loader("timestamptz", bounded_times(driver))
    before, driver.autocommit = driver.autocommit, True
    try:
        driver.execute("; ".join(PINNED))
    finally:
        driver.autocommit = before


@contextmanager
def pipeline(driver: psycopg.Connection, *, ending: bool) -> Iterator[None]:
    """Send the statements of a block in one round trip: the BEGIN before the first, and of the `ending` one the COMMIT.

    Args:
        driver: the connection.
        ending: nothing is left to do in the transaction.
    """
    with driver.pipeline() as line:
        if not driver.autocommit and not driver.info.transaction_status:
            _begin(driver, line)
        yield
        if ending and not driver.autocommit:
            driver.execute("COMMIT")


def _begin(driver: psycopg.Connection, line: psycopg.Pipeline) -> None:
    """Let a BEGIN be on its way.

    Source: psycopg 3's `_start_query`: where no transaction is under way it sends the BEGIN itself, and waits for the
    answer, in a pipeline as well; with one on its way the connection counts as active. A psycopg that does not have
    these names any more goes on doing that.
    """
    try:
        begin, send, results = driver._get_tx_start_command(), line._communicate_gen, line.result_queue
        line.command_queue.append(partial(driver.pgconn.send_query_params, begin, None))
    except AttributeError:
        return
    results.append(None)
    driver.wait(send())


#: What is read of a time for which Python has no value: PostgreSQL has earlier and later ones, and infinity. pandas can
#: hold these two; no order is of this age.
EARLIEST, LATEST = datetime(1700, 1, 1, tzinfo=UTC), datetime(2250, 1, 1, tzinfo=UTC)


def bounded_times(driver: psycopg.Connection) -> type[Loader]:
    """Return a reader of times that Python has no value for as one that it has: no row keeps the others unread."""
    from psycopg import DataError, pq
    from psycopg.adapt import Loader

    found = driver.adapters.get_loader(driver.adapters.types["timestamptz"].oid, pq.Format.TEXT)
    assert found is not None
    usual = found

    class BoundedTimes(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._read = usual(oid, context).load

        def load(self, data: Buffer) -> object:
            try:
                return self._read(data)
            except DataError:
                text = bytes(data)
                return EARLIEST if text.startswith(b"-") or text.endswith(b"BC") else LATEST

    return BoundedTimes


#: A server's promise that corro relies on: the setting, the value that breaks it, and the consequence.
_PROMISES = (
    ("fsync", "off", "a power cut can garble the database"),
    ("full_page_writes", "off", "a power cut can garble the database"),
)


def objections(engine: Engine) -> list[str]:
    """Return why this server, or the way to it, cannot hold the record; empty where it can."""
    from models.record.privileges import lacking

    with engine.connect() as connection:
        found = [
            f"{name} = {broken}: {consequence}; set it to on"
            for name, broken, consequence in _PROMISES
            if connection.exec_driver_sql(f"SHOW {name}").scalar() == broken
        ]
        found += [f"this connection's role lacks {words}: run deploy/roles.sql again" for words in lacking(connection)]
    return found + ([_POOLED] if _shares_sessions(engine) else [])


_POOLED = (
    "a pooler hands one session to several clients (PgBouncer's pool_mode = transaction or statement): what a session "
    "has pinned or prepared leaks to others. Use pool_mode = session, or connect directly"
)


def _shares_sessions(engine: Engine) -> bool:
    """Tell whether two connections that are open at once can be one session of the server.

    A pooler in session mode gives each its own; in transaction mode the second gets whatever is free, which is the
    first one's, since that has just ended its transaction.
    """
    with engine.connect() as first, engine.connect() as second:
        return len({_session(first), _session(second), _session(first)}) < 2


def _session(connection: Connection) -> int:
    """The server process that answers; the transaction is over afterwards."""
    number = int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
    connection.rollback()
    return number


class RolePowers(NamedTuple):
    """What the role of a connection may do beyond what its work needs."""

    name: str
    superuser: bool
    owner: bool
    changes_journal: bool


def powers(connection: Connection) -> RolePowers:
    """Return what this connection's role may do."""
    row = connection.exec_driver_sql(
        "SELECT current_user::text, r.rolsuper, (SELECT c.relowner = r.oid FROM pg_class c WHERE c.oid = "
        "'order_events'::regclass), has_table_privilege('order_events', 'UPDATE, DELETE') "
        "FROM pg_roles r WHERE r.rolname = current_user"
    ).one()
    return RolePowers(*row)
