"""Several processes write to one file: who waits for the lock looks often, gives up in time, and leaves no trace."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.errors import DatabaseUnavailable
from models.record.database import Database, upgrade


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "corro.db"


@pytest.fixture
def database(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr("models.record.database.PATIENCE_S", 0.3)
    found = Database(f"sqlite:///{path}")
    upgrade(found)
    yield found
    found.close()


@pytest.fixture
def other(path: Path, database: Database) -> Iterator[sqlite3.Connection]:
    """A connection of its own, as another process has."""
    held = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield held
    held.close()


def _timeout(database: Database, *, writes: bool) -> int:
    with database.write() if writes else database.read() as connection:
        return int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one())


def test_a_writer_that_finds_the_file_locked_begins_once_it_is_free(
    database: Database, other: sqlite3.Connection
) -> None:
    looked: list[str] = []

    def let_go(words: str) -> None:
        looked.append(words)
        if len(looked) == 5:
            other.execute("COMMIT")

    with database.write() as connection:
        driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.set_trace_callback(let_go)
    other.execute("BEGIN IMMEDIATE")
    assert _timeout(database, writes=True) == 0, "SQLite sleeps itself, longer and longer"
    assert looked.count("BEGIN IMMEDIATE") >= 5


def test_a_writer_gives_up_in_time_and_the_next_one_begins_anew(database: Database, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"), database.write():
        pass
    other.execute("COMMIT")
    assert _timeout(database, writes=True) == 0


def test_threads_take_turns_and_say_who_has_been_writing_too_long(database: Database) -> None:
    def second() -> None:
        with database.write():
            pass

    with database.write(), ThreadPoolExecutor(1) as one:
        waiting = one.submit(second)
        with pytest.raises(DatabaseUnavailable, match="another thread"):
            waiting.result()
    second()


def test_a_connection_that_is_given_back_waits_for_locks_as_all_others_do(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write():
        raise RuntimeError("a transaction that fails puts the pen down")
    assert _timeout(database, writes=False) == 300
