"""A database that is gone is not taken for a new one: one id in the database, beside it, and on every connection."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, delete, insert, select
from sqlalchemy.pool import StaticPool

from models.errors import ConfigurationError, DatabaseBusy, DatabaseUnavailable
from models.record import deployment, tables
from models.record.database import Database, ensure_schema, objections, open_database, upgrade
from models.record.postgres import objections as objections_of
from models.settings import load_settings
from tests.kit import PostgresServer


def opened(home: Path) -> Database:
    return open_database(load_settings(home=home))


def close(database: Database) -> str:
    database.close()
    assert database.deployment is not None
    return database.deployment


def remove(home: Path) -> None:
    for name in ("corro.db", "corro.db-wal", "corro.db-shm"):
        (home / name).unlink(missing_ok=True)


# -- AT THE START ---
def test_a_fresh_home_gets_an_id_and_keeps_it(bare: Path) -> None:
    first = close(opened(bare / "h"))
    assert (bare / "h" / deployment.FILE).read_text().strip() == first
    assert close(opened(bare / "h")) == first


@pytest.mark.parametrize("how", ["removed", "emptied", "without a table"])
def test_a_database_that_is_gone_is_not_made_anew(bare: Path, how: str) -> None:
    close(opened(bare))
    remove(bare)
    if how == "emptied":
        (bare / "corro.db").touch()
    elif how == "without a table":
        blank = sqlite3.connect(bare / "corro.db")
        blank.execute("PRAGMA user_version = 1")
        blank.close()
    with pytest.raises(ConfigurationError, match=r"missing or empty.*put the database back"):
        opened(bare)
    assert not (bare / "corro.db").exists() or not tables_of(bare / "corro.db")


def test_a_refusal_touches_neither_the_file_s_place_nor_its_log(bare: Path) -> None:
    """A database that was moved aside has its newest rows in the log that stayed behind: opening would drop it."""
    holder = opened(bare)
    with holder.write() as connection:
        connection.execute(insert(tables.halts).values(scope="*", kind="halt", by="t", at=datetime.now(UTC)))
    log = (bare / "corro.db-wal").read_bytes()
    assert log
    (bare / "corro.db").rename(bare / "aside.db")
    with pytest.raises(ConfigurationError, match="put the database back"):
        opened(bare)
    assert not (bare / "corro.db").exists()
    assert (bare / "corro.db-wal").read_bytes() == log
    (bare / "aside.db").rename(bare / "corro.db")
    again = opened(bare)
    with again.read() as connection:
        assert connection.execute(select(tables.halts.c.by)).scalars().all() == ["t"]
    again.close()
    holder.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"])
def test_a_database_that_ends_with_its_process_takes_no_order(bare: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no file|has no parameters"):
        open_database(load_settings(home=bare, database_url=url))
    assert not list(bare.iterdir())


@pytest.mark.parametrize("url", ["postgresql+psycopg://u:pw@127.0.0.1:x/x", "mysql://x/y", "nonsense"])
def test_a_url_that_cannot_be_read_is_told_in_one_line(bare: Path, url: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        open_database(load_settings(home=bare, database_url=url))
    assert "pw" not in str(told.value)
    assert "\n" not in str(told.value)


def tables_of(path: Path) -> list[str]:
    database = Database(f"sqlite:///{path}")
    with database.read() as connection:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    database.close()
    return list(names)


def test_whoever_has_looked_at_the_brokers_may_begin_anew(bare: Path) -> None:
    first = close(opened(bare))
    remove(bare)
    (bare / deployment.FILE).unlink()
    assert close(opened(bare)) != first


def test_a_home_does_not_take_another_fleets_database(bare: Path) -> None:
    close(opened(bare / "a"))
    close(opened(bare / "b"))
    shutil.copy(bare / "a" / "corro.db", bare / "b" / "corro.db")
    with pytest.raises(ConfigurationError, match="belongs to deployment"):
        opened(bare / "b")


def test_an_sqlite_file_elsewhere_has_its_id_beside_it(bare: Path) -> None:
    settings = load_settings(home=bare / "h", database_url=f"sqlite:///{bare / 'other.db'}")
    found = close(open_database(settings))
    assert (bare / "other.db.deployment").read_text().strip() == found
    assert not (bare / "h" / deployment.FILE).exists()


def test_a_database_server_leaves_no_file_where_a_strategy_or_an_analyst_works(
    bare: Path, postgres: PostgresServer
) -> None:
    settings = load_settings(home=bare / "h", database_url=postgres.fresh())
    made = Database(settings.database)
    upgrade(made)
    made.close()
    close(open_database(settings))
    assert not (bare / "h").exists()


def test_two_that_begin_at_once_agree(bare: Path) -> None:
    one, two = (Database(f"sqlite:///{bare / 'corro.db'}") for _ in range(2))
    ensure_schema(one, bare / deployment.FILE)
    ensure_schema(two, bare / deployment.FILE)
    assert one.deployment == two.deployment
    one.close()
    two.close()


# -- WHILE IT IS USED ---
@pytest.mark.parametrize("what", ["removed", "emptied", "replaced"])
def test_nothing_is_written_where_nobody_looks(bare: Path, what: str) -> None:
    database = opened(bare)
    with database.write() as connection:
        connection.execute(delete(tables.halts))
    if what == "emptied":
        os.truncate(bare / "corro.db", 0)
    else:
        remove(bare)
        (bare / deployment.FILE).unlink()
        if what == "replaced":
            close(opened(bare))
    with pytest.raises(DatabaseUnavailable, match=what), database.write() as connection:
        connection.execute(delete(tables.halts))
    database.close()


def test_a_file_that_was_away_is_trusted_again_only_after_a_new_start(bare: Path) -> None:
    database = opened(bare)
    with database.write() as connection:
        connection.execute(delete(tables.halts))
    (bare / "corro.db").rename(bare / "aside.db")
    with pytest.raises(DatabaseUnavailable, match="removed"), database.write():
        pytest.fail("it writes")
    (bare / "aside.db").rename(bare / "corro.db")
    with pytest.raises(DatabaseUnavailable, match="start this process again"), database.write():
        pytest.fail("it writes")
    database.close()
    close(opened(bare))


def test_a_new_connection_to_another_database_is_not_used(postgres: PostgresServer) -> None:
    url = postgres.fresh()
    with closing(Database(url)) as first:
        upgrade(first)
        ensure_schema(first)
        first.engine.dispose()  # as after a restart of the server
        with closing(Database(url)) as owner, owner.write() as connection:
            connection.execute(delete(tables.deployment))
        with pytest.raises(DatabaseUnavailable, match="is not the one this process began with"), first.write():
            pytest.fail("it writes")


# -- WHAT THE SERVER DECIDES ---
def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "corro.db"
    path.write_bytes(b"nothing of the kind" * 1000)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(DatabaseUnavailable, match="damaged, or no SQLite database"), database.read():
        pytest.fail("it opens")
    database.close()


def test_an_encoding_that_cannot_hold_every_word_is_refused(postgres: PostgresServer) -> None:
    url = postgres.fresh("ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    database = Database(url)
    with pytest.raises(ConfigurationError, match="SQL_ASCII, corro needs UTF8"), database.read():
        pytest.fail("it opens")
    database.close()


#: What the owner of a database may have set for every session, and what corro's sessions have instead.
DECIDED = {
    "default_transaction_isolation": ("serializable", "transaction_isolation", "read committed"),
    "timezone": ("Asia/Tokyo", "timezone", "UTC"),
    "datestyle": ("SQL, DMY", "datestyle", "ISO, YMD"),
    "statement_timeout": ("200", "statement_timeout", "0"),
    "synchronous_commit": ("off", "synchronous_commit", "on"),
}


def test_what_a_database_decides_for_every_session_is_pinned(postgres: PostgresServer) -> None:
    url = postgres.fresh()
    owner = Database(url)
    with owner.write() as connection:
        for name, (value, _, _) in DECIDED.items():
            connection.exec_driver_sql(f"ALTER DATABASE \"{owner.url.database}\" SET {name} = '{value}'")
    owner.close()
    database = Database(url)
    with database.write() as connection:
        found = {name: connection.exec_driver_sql(f"SHOW {shown}").scalar() for name, (_, shown, _) in DECIDED.items()}
    assert found == {name: right for name, (_, _, right) in DECIDED.items()}
    assert objections(database) == []
    database.close()


def test_a_session_that_two_clients_share_is_seen(postgres: PostgresServer) -> None:
    """A pooler in transaction mode: every connection of the engine is one session of the server."""
    shared = create_engine(postgres.fresh(), poolclass=StaticPool)
    assert any("pool_mode = session" in line for line in objections_of(shared))
    shared.dispose()


def test_transactions_that_met_are_done_again(postgres: PostgresServer) -> None:
    database = Database(postgres.fresh())
    upgrade(database)
    tries = []

    def work(connection: object) -> str:
        tries.append(connection)
        if len(tries) < 3:
            connection.exec_driver_sql(  # type: ignore[attr-defined]
                "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$"
            )
        return "done"

    assert database.transact(work) == "done"
    assert len(tries) == 3

    def never(connection: object) -> None:
        connection.exec_driver_sql(  # type: ignore[attr-defined]
            "DO $$ BEGIN RAISE EXCEPTION 'could not serialize' USING ERRCODE = '40001'; END $$"
        )

    with pytest.raises(DatabaseBusy):
        database.transact(never)
    database.close()
