"""What docs/questions.md and its notebook show is what the calls print; and the recipes of docs/history.md run."""

from __future__ import annotations

import csv
import re
import shlex
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine

from models.record.database import Database, upgrade
from tests.questions_page import DOCS, pages
from tests.small_history import write_small_history
from tests.unit.trades import MadeTrade, TradeLedger
from tests.unit.words import Run

_TEXT = (DOCS / "history.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def small(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Database:
    write_small_history(database)
    monkeypatch.setenv("CORRO_DATABASE_URL", str(database.engine.url))
    monkeypatch.chdir(tmp_path)
    return database


def test_the_answers_that_the_pages_show_are_those_of_the_calls() -> None:
    for name, page in pages().items():
        assert (DOCS / name).read_text() == page, "python tests/questions_page.py"


# -- RECIPES ---
def statements(on_postgres: bool) -> list[str]:
    """Return the SQL of the page that this database takes, with a time range in the place of Grafana's."""
    found = []
    for one in "\n".join(blocks("sql")).split(";\n"):
        about = "".join(re.findall(r"^--.*$", one, re.MULTILINE))
        if ("(PostgreSQL)" in about and not on_postgres) or ("(SQLite)" in about and on_postgres):
            continue
        one = re.sub(r"\$__timeFilter\((.*?)\)", r"\1 BETWEEN '2026-10-01' AND '2026-12-01'", one)
        one = one.replace("$__from", "1759276800000").replace("$__to", "1798761600000")
        if code := "\n".join(line for line in one.splitlines() if not line.startswith("--")).strip():
            found.append(code)
    return found


@pytest.mark.parametrize("on_postgres", [False, True], ids=["sqlite", "postgresql"])
def test_every_recipe_of_sql_runs(small: Database, on_postgres: bool, request: pytest.FixtureRequest) -> None:
    asked = small
    if on_postgres:
        asked = Database(request.getfixturevalue("postgres").fresh())
        upgrade(asked)
        write_small_history(asked)
    try:
        with asked.read() as connection:
            answers = {one: list(connection.exec_driver_sql(one)) for one in statements(on_postgres)}
    finally:
        if on_postgres:
            asked.close()
    assert len(answers) >= 9
    volume = next(rows for statement, rows in answers.items() if statement.startswith("SELECT date(filled_at) AS day"))
    assert [(str(row[0]), row[1], row[3], float(row[4])) for row in volume][:2] == [
        ("2026-10-30", "dip", 1, 6000.0), ("2026-11-23", "dip", 1, 2440.0),
    ]  # fmt: skip


@time_machine.travel("2026-11-28T12:00Z", tick=True)  # recipes ask for the last week
def test_every_recipe_of_python_runs(small: Database, tmp_path: Path) -> None:
    ran: list[dict[str, Any]] = []
    for block in blocks("python"):
        if "archives" in block:
            continue  # tests/integration/test_archive.py
        names: dict[str, Any] = {}
        exec(block.replace("postgresql+psycopg://analyst@db/corro", str(small.engine.url)), names)
        ran.append(names)
    assert len(ran) >= 3
    assert (tmp_path / "fills.parquet").is_file()
    assert next(names["by_strategy"] for names in ran if "by_strategy" in names)["mom", "AAPL"] == 4592.0


@pytest.fixture
def exported(small: Database, corro: Run, tmp_path: Path) -> Path:
    """A folder with the files that the page's commands write."""
    for line in "".join(blocks("sh")).splitlines():
        code, _, said = corro(*shlex.split(line)[1:])
        assert code == 0, said
    return tmp_path


#: What a program that guesses the type of each column, as Excel's import does, has to find.
GUESSED = {
    "quantity": "number", "price": "number", "notional": "number", "multiplier": "number", "commission": "number",
    "filled_at": "time", "recorded_at": "time", "late": "truth", "inferred": "truth", "strategy": "text",
    "symbol": "text", "client_order_id": "text", "execution_id": "text",
}  # fmt: skip
KINDS = {"BIGINT": "number", "DOUBLE": "number", "TIMESTAMP WITH TIME ZONE": "time", "BOOLEAN": "truth",
         "VARCHAR": "text"}  # fmt: skip


def test_a_program_that_guesses_types_as_excel_does_reads_what_the_page_exports(exported: Path) -> None:
    """Excel itself runs nowhere here; Gnumeric read the same file by hand, with the same types and no formula."""
    duckdb = pytest.importorskip("duckdb", reason="it is in requirements/dev.lock")
    told = duckdb.sql(f"FROM read_csv('{exported / 'fills.csv'}')")
    kinds = {name: KINDS[str(kind)] for name, kind in zip(told.columns, told.types, strict=True)}
    assert GUESSED.items() <= kinds.items()
    rows = [dict(zip(told.columns, values, strict=True)) for values in told.fetchall()]
    assert (len(rows), round(sum(row["commission"] or 0 for row in rows), 9)) == (6, 3.52)
    (first,) = (row for row in rows if row["client_order_id"] == "dip-1")
    assert (first["filled_at"].astimezone(UTC), first["price"]) == (datetime(2026, 10, 30, 14, 30, tzinfo=UTC), 60)


def test_no_text_of_an_export_is_a_formula(small: Database, corro: Run, tmp_path: Path) -> None:
    TradeLedger(small).trade(MadeTrade(1, "1.5", strategy="=1+1"), MadeTrade(1, "1.5", strategy="@SUM(A1)"))
    assert corro("export", "fills", "--out", "fills.csv")[0] == 0
    with (tmp_path / "fills.csv").open(encoding="utf-8", newline="") as file:
        texts = {row["strategy"] for row in csv.DictReader(file)}
    assert texts == {"dip", "mom", "'=1+1", "'@SUM(A1)"}


def test_every_recipe_of_duckdb_runs(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb", reason="it is in requirements/dev.lock")
    monkeypatch.chdir(exported)
    recipes = [one for block in blocks("duckdb") for one in block.split(";\n") if one.strip() and "archives" not in one]
    answers = [duckdb.sql(one).fetchall() for one in recipes]  # the others: tests/integration/test_archive.py
    assert answers == [
        [
            ("dip", "CAD", Decimal(0), Decimal("1.5")), ("dip", "USD", Decimal(40), Decimal(2)),
            ("mom", "USD", Decimal(-10), Decimal("0.02")),
        ],
        [
            ("alpaca", "AAPL", 2, Decimal(20)), ("alpaca", "KO", 1, Decimal(50)), ("ibkr", "KO", 2, Decimal(140)),
            ("ibkr", "SHOP@TSE", 1, Decimal(20)),
        ],
    ]  # fmt: skip
