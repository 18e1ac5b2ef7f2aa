"""What analysts and leaders ask again and again is answered from an index, however long the history is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.histories import duties, questions
from models.history import History
from models.record.database import Database, upgrade
from models.settings import load_settings
from tests.traced import traced

#: One order's parts, and the few unresolved attempts, are sorted after they were found.
_SORTED_AFTERWARDS = ("order(id), with everything", "unresolved", "attempts(outcome=)")
#: A broker is a third of everything: finding its rows is no better than reading the table.
_ALL_OF_A_BROKER = re.compile(r"SEARCH (o|a|f|orders|attempts|fills|order_events) USING .*\(broker=\?\)")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """SQLite plans by the schema alone: it has no statistics."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('flat') / 'corro.db'}")
    upgrade(database)
    return database


def _asked(database: Database, home: Path) -> dict[str, Any]:
    return questions(History(database)) | duties(load_settings(home=home), database)


NAMES = [*questions(None), *("live", "cancels", "unknown", "positions", "sweep")]  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_no_table_is_read_from_end_to_end(number: int, empty: Database, tmp_path: Path) -> None:
    name, ask = list(_asked(empty, tmp_path).items())[number]
    with traced(empty) as statements:
        ask()
    selects = [one for one in statements if one.startswith("SELECT")]
    assert selects
    for statement in selects:
        with empty.read() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
        scans = [line for line in plan if line.startswith("SCAN") and "INDEX" not in line and "CONSTANT" not in line]
        assert not [line for line in scans if "subquery" not in line], (name, plan)
        assert not [line for line in plan if _ALL_OF_A_BROKER.fullmatch(line)], (name, plan)
        if not name.startswith(_SORTED_AFTERWARDS) and not name.startswith("leader"):
            assert "USE TEMP B-TREE FOR ORDER BY" not in plan, (name, plan)
