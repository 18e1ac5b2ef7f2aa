"""The way to the database: turns, broken connections, SQLite's log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import bindparam, select

import models.record.database
from models.errors import ConfigurationError, DatabaseUnavailable
from models.record.database import Database, current_revision, upgrade
from models.record.statements import Query, insert_many
from models.record.tables import halts
from tests.kit import PostgresServer
from worker.runtime.clock import utcnow

HALT = {"scope": "ibkr", "kind": "halt", "by": "test"}
HALTS = Query(select(halts).where(halts.c.scope == bindparam("scope")))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'corro.db'}")
    upgrade(made)
    yield made
    made.close()


def scopes(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(halts.c.scope).order_by(halts.c.scope)).scalars())


def put(database: Database, scope: str) -> None:
    with database.write() as connection:
        insert_many(connection, halts, [{**HALT, "scope": scope, "at": utcnow()}])


def test_an_upgrade_of_a_newer_schema_says_so_and_changes_nothing(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="at revision 9999, newer than"):
        upgrade(database)
    assert current_revision(database) == "9999"


def test_what_fails_is_undone_and_holds_up_nobody(database: Database) -> None:
    def fail_half_way() -> None:
        with database.write() as connection:
            insert_many(connection, halts, [{**HALT, "at": utcnow()}])
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    put(database, "alpaca")
    assert scopes(database) == ["alpaca"]


def test_another_process_that_writes_is_an_outage_not_a_mistake(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.record.database, "PATIENCE_S", 0.05)
    other = Database(str(database.url))
    with database.write(), pytest.raises(DatabaseUnavailable, match="locked"), other.write():
        pytest.fail("two write at once")
    put(other, "alpaca")
    other.close()
    assert scopes(database) == ["alpaca"]


def test_the_log_is_cleared_away_beside_the_work(database: Database) -> None:
    for number in range(50):
        put(database, f"b{number}")
    with database.read() as connection:
        log = Path(f"{database.url.database}-wal")
        assert log.stat().st_size > 50 * 4096
        database.tidy()  # a reader does not hold it up
        busy, pages, cleared = connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()
    assert (busy, pages) == (0, cleared)
    assert len(scopes(database)) == 50


def test_a_connection_that_died_while_it_rested_is_replaced(postgres: PostgresServer) -> None:
    database = Database(postgres.fresh())
    upgrade(database)
    with database.read() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    killer = Database(str(database.url.render_as_string(hide_password=False)))
    with killer.write() as connection:
        connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
    killer.close()
    put(database, "alpaca")
    assert scopes(database) == ["alpaca"]
    database.close()


def test_a_connection_that_dies_in_use_is_an_outage_once(postgres: PostgresServer) -> None:
    database = Database(postgres.fresh())
    upgrade(database)
    put(database, "alpaca")
    killer = Database(str(database.url.render_as_string(hide_password=False)))

    def lose_it() -> None:
        with database.write() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            with killer.write() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
            HALTS.rows(connection, scope="alpaca")

    with pytest.raises(DatabaseUnavailable):
        lose_it()
    killer.close()
    put(database, "tda")
    assert scopes(database) == ["alpaca", "tda"]
    database.close()
