"""The benchmarks' pieces run, and what they say adds up; the figures themselves are `make bench`'s."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import document
from benchmarks.contenders import CORRO
from benchmarks.house import BenchHouse
from benchmarks.report import Part, Table, Target
from benchmarks.worker import Entry, through_a_worker


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[BenchHouse]:
    before = dict(os.environ)
    with BenchHouse() as found:
        yield found
    os.environ.clear()
    os.environ.update(before)


def test_every_order_of_a_run_is_at_the_null_broker_once(house: BenchHouse) -> None:
    figures = through_a_worker(house, Entry("corro", CORRO, 100), "sqlite", 2000, 10)
    assert figures["per_s"] > 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert 0 < figures["commits"] < 3, "a batch shares its commits"
    assert figures["commands"] > 0
    assert figures["cpu_ms"] > 0


def test_the_page_says_what_was_missed(tmp_path: Path) -> None:
    part = Part("x", "A part", "Words.", [Table("some figures", ["who", "ms"], [["corro", "1.0"]])])
    part.targets = [Target("quick enough", False, "3 ms", "wal"), Target("small enough", True, "3 B", "bars")]
    document.write(tmp_path / "page.md", [part], [("date", "today")], ["memory (RuntimeError)"])
    page = (tmp_path / "page.md").read_text()
    assert document.MISSES["wal"] in page
    assert document.MISSES["bars"] not in page
    assert "**Not measured in this run:** memory (RuntimeError)." in page
    assert "| quick enough | **missed** | 3 ms |" in page
    assert "Some figures:\n\n| who | ms |\n| --- | ---: |\n| corro | 1.0 |" in page
    assert not (tmp_path / "page.svg").exists()
