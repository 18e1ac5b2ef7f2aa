"""`corro logs ID`: one order's lines over all log files, by time, and of no other order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.words import Put, Run


@pytest.fixture
def files(bare: Path) -> Path:
    folder = bare / "logs"
    folder.mkdir()
    ibkr = [
        {"event": "order_claimed", "client_order_id": "my-1", "level": "info", "timestamp": "2026-01-05T10:00:02Z"},
        {"event": "order_claimed", "client_order_id": "my-10", "level": "info", "timestamp": "2026-01-05T10:00:01Z"},
        {"event": "orders_moved", "orders": ["my-0", "my-1"], "timestamp": "2026-01-05T10:00:00Z", "level": "warning"},
    ]
    (folder / "ibkr.log").write_text("".join(json.dumps(line) + "\n" for line in ibkr))
    (folder / "alpaca.log").write_text(
        json.dumps({"event": "order_filled", "client_order_id": "my-1", "timestamp": "2026-01-05T10:00:03Z"})
        + "\n2026-01-05 10:00:09 [info] a line of text about my-1.tp and my-10\nno JSON {\n"
    )
    return folder


def test_every_line_about_an_order_comes_by_time_and_none_about_another(files: Path, corro: Run, put: Put) -> None:
    put("my-1")
    status, out, _ = corro("logs", "my-1", "--json")
    found = json.loads(out)
    assert status == 0
    assert [(line["log"], line["event"]) for line in found] == [
        ("ibkr.log", "orders_moved"), ("ibkr.log", "order_claimed"), ("alpaca.log", "order_filled"),
    ]  # fmt: skip
    assert found[0]["said"] == "orders=['my-0', 'my-1']"


def test_an_order_that_the_record_does_not_know_is_looked_for_as_it_is(files: Path, corro: Run) -> None:
    status, out, said = corro("logs", "my-10", "--json")
    assert status == 0
    assert [line["log"] for line in json.loads(out)] == ["ibkr.log", "alpaca.log"]
    assert "looked for as it is" in said


def test_a_file_may_be_named_and_one_that_is_not_there_is_an_error(files: Path, corro: Run, put: Put) -> None:
    put("my-1")
    status, out, _ = corro("logs", "my-1", "--in", str(files / "alpaca.log"), "--json")
    assert (status, len(json.loads(out))) == (0, 1)
    assert corro("logs", "my-1", "--in", str(files / "none"))[0] == 2
