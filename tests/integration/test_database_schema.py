"""Migrations on both databases: up, down, up, and no difference between them and the tables in the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from models.errors import ConfigurationError
from models.record.database import Database, current_revision, head_revision, open_database, upgrade
from models.record.tables import metadata
from models.settings import Settings
from tests.kit import ROOT, clean_environment

VIEWS = {
    "v_orders", "v_fills", "v_attempts", "v_groups", "v_latency", "v_external_orders", "v_external_fills", "risk_usage",
    "position_executions",
    "v_positions", "v_position_days", "v_pnl", "v_tca", "v_equity", "v_cash", "v_controls", "v_told_executions",
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'corro.db'}"
    return request.getfixturevalue("postgres").fresh()  # type: ignore[no-any-return]


def run(url: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, timeout=240,
        env={**clean_environment(), "CORRO_DATABASE_URL": url, "CORRO_HOME": "/nonexistent"},
    )  # fmt: skip


def names(url: str) -> tuple[set[str], set[str]]:
    engine = create_engine(url)
    found = inspect(engine)
    tables, views = set(found.get_table_names()), set(found.get_view_names())
    engine.dispose()
    return tables - {"alembic_version"}, views


@pytest.mark.timeout(300)  # SQLite reads every view anew for each column that goes: 10 s where nothing else runs
def test_alembic_goes_up_down_and_up_again_and_finds_nothing_to_change(url: str) -> None:
    for step in (("upgrade", "head"), ("check",), ("downgrade", "base")):
        done = run(url, "alembic", *step)
        assert done.returncode == 0, (step, done.stdout, done.stderr)
    assert names(url) == (set(), set())
    for step in (("upgrade", "head"), ("check",)):
        done = run(url, "alembic", *step)
        assert done.returncode == 0, (step, done.stdout, done.stderr)
    assert names(url) == (set(metadata.tables), VIEWS)


def test_the_upgrade_from_0004_keeps_what_is_recorded(url: str) -> None:
    """What a worker of the version before has written has no session of a worker, and is no stray."""
    assert run(url, "alembic", "upgrade", "0004").returncode == 0
    at, engine = "2026-01-05 14:30:00", create_engine(url)
    with engine.begin() as connection:
        rows = {
            "workers": "worker='ibkr@host:1', broker='ibkr', host='host', boot='boot', pid=1, state='ready',"
            " started_at=$at, heartbeat_at=$at",
            "orders": "client_order_id='o-1', version=1, status='accepted', attempt_no=1, filled_quantity=0,"
            " body_hash='x', extended_hours=false, available_at=$at, created_at=$at, updated_at=$at",
            "attempts": "client_order_id='o-1', attempt_no=1, broker='ibkr', broker_client_order_id='o-1',"
            " outcome='accepted', worker='w', session='7', started_at=$at, lease_until=$at, checks=0, missing=0",
        }
        for table, values in rows.items():
            names, given = zip(*(value.split("=") for value in values.split(", ")), strict=True)
            statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(given)})"
            connection.execute(text(statement.replace("$at", f"'{at}'")))
    done = run(url, "alembic", "upgrade", "head")
    assert done.returncode == 0, done.stderr
    with engine.connect() as connection:
        worker = connection.execute(text("SELECT worker, session, state_since FROM workers")).one()
        attempt = connection.execute(text("SELECT session, stray_at, outcome FROM attempts")).one()
    engine.dispose()
    assert (tuple(worker), tuple(attempt)) == (("ibkr@host:1", None, None), ("7", None, "accepted"))


def test_corro_db_upgrade_and_check(url: str) -> None:
    before = run(url, "worker.cli", "db", "check", "--json")
    assert before.returncode == 1, before
    assert '"ok":false' in before.stdout.replace(" ", "")
    done = run(url, "worker.cli", "db", "upgrade")
    assert done.returncode == 0, done
    assert "empty ->" in done.stdout
    again = run(url, "worker.cli", "db", "upgrade", "--json")
    assert again.returncode == 0, again
    assert len({json.loads(again.stdout)[name] for name in ("before", "revision")}) == 1, "nothing was left to do"
    assert run(url, "worker.cli", "db", "check").returncode == 0


def test_the_schema_is_made_for_a_fresh_sqlite_file_only(url: str) -> None:
    settings = Settings(database_url=url)
    if url.startswith("sqlite"):
        opened = open_database(settings)
        assert current_revision(opened) == head_revision()
        opened.close()
        return
    with pytest.raises(ConfigurationError, match="corro db upgrade"):
        open_database(settings)


def test_a_schema_of_a_later_version_is_worked_on(url: str) -> None:
    """Migrations keep the version before them running, so that a fleet is upgraded without a stop."""
    database = Database(url)
    upgrade(database)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    opened = open_database(Settings(database_url=url))
    assert current_revision(opened) == "9999"
    opened.close()


def test_two_processes_may_upgrade_at_once(url: str) -> None:
    environment = {**clean_environment(), "CORRO_DATABASE_URL": url}
    both = [
        subprocess.Popen([sys.executable, "-m", "worker.cli", "db", "upgrade"], cwd=ROOT, env=environment,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert names(url)[0] == set(metadata.tables)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_the_sql_of_the_documents_runs(page: str, url: str) -> None:
    """A query that a document gives for one database only says so in its first or last comment."""
    kind = "SQLite" if url.startswith("sqlite") else "PostgreSQL"
    queries = re.findall(r"^```sql\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    if not queries:
        pytest.skip("no SQL")
    database = Database(url)
    upgrade(database)
    for query in re.split(r";\s*$", ";\n".join(queries), flags=re.MULTILINE):
        meant = re.findall(r"--.*\b(SQLite|PostgreSQL)\b", query)
        if (
            query.strip() and (not meant or kind in meant) and "$__" not in query
        ):  # Grafana's: tests/unit/test_questions.py
            with database.engine.connect() as connection:
                connection.execute(text(query)).all()
    database.close()
