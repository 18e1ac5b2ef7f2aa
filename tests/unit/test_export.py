"""Rows as files: exact numbers, UTC times, every column, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert

from models.history import v_fills, v_orders
from models.record.database import Database
from models.record.history_tables import account_history, cash_events
from producers.cli import export, exports
from tests.unit.trades import MadeTrade, TradeLedger
from tests.unit.words import Run

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-2", "@SUM(A1)", "\t=1", " =1", "\n=1", "\u00a0=1", "\uff1d1+1", " \uff0b1", "\ufe63 1", "\u22121"],
)
def test_a_text_that_a_spreadsheet_would_run_is_guarded_and_a_number_is_not(tmp_path: Path, text: str) -> None:
    rows = [{"reason": text, "quantity": Decimal("-2.50"), "at": NOW, "route": ["=a", "b"]}]
    export.write(rows, tmp_path / "x.csv")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text()))
    assert row["reason"].startswith("'")
    assert row["route"] == "'=a b"
    assert (row["quantity"], row["at"]) == ("-2.5", "2026-01-05T14:30:00Z")


def test_parquet_keeps_numbers_exact_and_times_in_utc(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"price": Decimal("0.1"), "at": NOW, "count": 3, "late": True, "symbol": "KO", "route": ["a", "b"]},
        {
            "price": Decimal("123456789.123456789"),
            "at": None,
            "count": None,
            "late": None,
            "symbol": None,
            "route": None,
        },
    ]
    export.write(rows, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert pa.types.is_decimal128(table.schema.field("price").type)
    assert table.schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert table.column("price").to_pylist() == [row["price"] for row in rows]
    assert table.to_pylist()[0] == rows[0]


@pytest.mark.parametrize(
    "told",
    [
        ["123456789012345678901234567890.5", "0.1"], ["1E+30", "0.123456"], ["9" * 38], ["1E+25", "0.000000001"],
        ["12345678901.123456789012345678"],
    ],
    ids=lambda told: told[0],
)  # fmt: skip
def test_parquet_has_room_for_the_largest_number_of_a_column(tmp_path: Path, told: list[str]) -> None:
    export.write([{"price": Decimal(text)} for text in told], tmp_path / "x.parquet", v_fills)
    assert pq.read_table(tmp_path / "x.parquet").column("price").to_pylist() == [Decimal(text) for text in told]


def test_a_number_of_more_decimals_than_parquet_has_is_rounded_whatever_its_size(tmp_path: Path) -> None:
    export.write([{"price": Decimal("12345678901.1234567890123456789012")}], tmp_path / "x.parquet", v_fills)
    rounded = Decimal("12345678901.123456789012345679")
    assert pq.read_table(tmp_path / "x.parquet").column("price").to_pylist() == [rounded]


@pytest.mark.parametrize("table", [v_orders, v_fills], ids=lambda table: table.name)
def test_a_file_without_rows_has_the_columns_and_types_of_one_with_rows(tmp_path: Path, table: Any) -> None:
    row = {"client_order_id": "o-1", "quantity": Decimal(1), "filled_at": NOW, "late": False, "route": ["a"]}
    export.write([], tmp_path / "none.parquet", table)
    export.write([{k: v for k, v in row.items() if k in table.c}], tmp_path / "one.parquet", table)
    none, one = (pq.read_schema(tmp_path / f"{name}.parquet") for name in ("none", "one"))
    assert none.names == [column.name for column in table.c]
    assert none.equals(one), (none, one)


# -- THE COMMAND ---
@pytest.mark.parametrize("what", exports.WHAT)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_everything_can_be_taken_out_with_all_its_columns(
    corro: Run, database: Database, tmp_path: Path, what: str, ending: str
) -> None:
    TradeLedger(database).trade(MadeTrade(10, "10.25"), MadeTrade(-4, "11", strategy="=1+1"))
    with database.write() as connection:
        read = {"broker": "ibkr", "account_id": "A1", "currency": "USD", "equity": Decimal("100.5")}
        connection.execute(insert(account_history).values(**read, day=NOW.date(), at=NOW))
        connection.execute(insert(cash_events).values(broker="ibkr", event_id="e1", kind="fee", detail="=1", at=NOW))
    path = tmp_path / f"{what}.{ending}"
    code, told, _ = corro("export", what, "--out", str(path), "--since", "2020-01-01", "--json")
    if what == "positions":
        assert code == 2, "positions are of now, and say so"
        code, told, _ = corro("export", what, "--out", str(path), "--json")
    assert code == 0
    count = json.loads(told)["rows"]
    assert count or what in ("attempts", "events", "controls")
    table = exports._table(what)
    if ending == "csv":
        header, *lines = csv.reader(io.StringIO(path.read_text()))
        assert (header, len(lines)) == ([column.name for column in table.c], count)
        assert not [cell for line in lines for cell in line if cell.startswith("=")]
    else:
        found = pq.read_table(path)
        assert (found.column_names, found.num_rows) == ([column.name for column in table.c], count)
        if what == "pnl":
            assert found.schema.field("day").type == pa.date32()
            assert pa.types.is_decimal128(found.schema.field("realized").type)


def test_what_cannot_be_taken_out_is_said(corro: Run, tmp_path: Path) -> None:
    for words in (("dreams",), ("events", "--symbol", "KO")):
        code, _, said = corro("export", *words, "--out", str(tmp_path / "x.csv"))
        assert code == 2
        assert words[0] in said
    assert not list(tmp_path.glob("x.*"))
