"""A command imports what it needs, since an operator loops over them: light commands leave the heavy packages alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.record.database import Database, head_revision

#: What takes longest to import.
HEAVY = {
    "alembic", "alpaca_trade_api", "asyncio", "celery", "exchange_calendars", "ib_async", "ib_insync", "kombu",
    "limits", "pandas", "pydantic_settings", "redis", "requests", "sqlalchemy", "sqlalchemy.dialects.postgresql",
    "structlog",
}  # fmt: skip
#: What reads the settings and the record.
RECORD = {"asyncio", "pydantic_settings", "sqlalchemy"}
QUEUE = {"redis", "structlog"}


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("--version", set()),
        ("--help", set()),
        ("orders --help", set()),
        ("orders", RECORD),
        ("orders --json --status filled", RECORD),
        ("fills", RECORD),
        ("attempts", RECORD),
        ("controls --log", RECORD),
        ("controls", RECORD),
        ("external", RECORD),
        ("unresolved", RECORD),
        ("db check", RECORD),
        ("sandbox faults --kinds", RECORD - {"sqlalchemy"}),
        ("locks", RECORD | {"structlog"}),
        ("fleet --check", RECORD),
        ("fleet", RECORD | QUEUE),
    ],
)
def test_a_command_imports_what_it_needs(command: str, allowed: set[str], database: Database, tmp_path: Path) -> None:
    script = (
        "import sys; from worker.cli import main; sys.argv = ['corro', *sys.argv[1:]]\n"
        "try: main.main()\n"
        f"finally: print('\\nimported:', *sorted(set({sorted(HEAVY)!r}) & set(sys.modules)), file=sys.stderr)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, *command.split()], capture_output=True, text=True, timeout=60,
        env={**os.environ, "CORRO_HOME": str(tmp_path), "CORRO_DATABASE_URL": str(database.url)},
    )  # fmt: skip
    assert said.returncode == int(command.startswith("fleet")), said.stderr
    imported = said.stderr.rpartition("imported:")[2].split()
    assert set(imported) <= allowed, said.stderr


def test_the_revision_that_corro_needs_is_the_one_alembic_finds(database: Database) -> None:
    from alembic.script import ScriptDirectory

    from models.record.database import alembic_config, revisions

    scripts = ScriptDirectory.from_config(alembic_config(database))
    assert [script.revision for script in scripts.walk_revisions()][::-1] == revisions()
    assert scripts.get_current_head() == head_revision()
