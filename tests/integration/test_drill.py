"""Each fault of the page's table is rehearsed by `make drill`, and told as the table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from tests.drill.__main__ import rehearse
from tests.drill.faults import DRILLS, Drill
from tests.drill.watch import EXPRESSIONS
from tests.kit import ROOT, PostgresServer

#: Nobody looks at a page that is gone, and a page says nothing of messages that nobody takes.
_NOT_ON_THE_PAGE = {"a message to people is not taken", "the page itself, or its machine"}


def test_every_row_of_the_table_is_rehearsed_with_the_alert_that_it_names() -> None:
    table = (ROOT / "docs" / "page.md").read_text().partition("## Which fault shows where")[2]
    said = {}
    for line in re.findall(r"^\| (.*)\|$", table, re.MULTILINE)[1:]:
        name, _, _, alert, told = (cell.strip(" `") for cell in line.split("|"))
        said[name] = (alert, told)
    rehearsed: dict[str, tuple[str, str]] = {}
    for drill in DRILLS:  # several may stand in one row
        row = rehearsed.setdefault(drill.row or drill.name, (drill.alert, ""))
        rehearsed[drill.row or drill.name] = (drill.alert, drill.news or row[1])
    assert rehearsed == {name: row for name, row in said.items() if name not in _NOT_ON_THE_PAGE}
    assert {alert for alert, _ in said.values()} <= set(EXPRESSIONS)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("drill", DRILLS, ids=[drill.name for drill in DRILLS])
def test_a_fault_is_told_by_the_page_by_its_alert_and_to_people(
    drill: Drill, postgres: PostgresServer, tmp_path: Path
) -> None:
    seen = rehearse(drill, postgres, tmp_path)
    assert (seen.message is None) == (drill.news is None)
