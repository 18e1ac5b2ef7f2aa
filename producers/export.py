"""Rows as files: CSV always, Parquet where pyarrow is installed. Times are UTC; in CSV they are ISO 8601."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from models.errors import ConfigurationError, InvalidRequest
from models.history import to_json

#: A file name that means standard output.
STDOUT = "-"


def check(path: Path | None) -> None:
    """See before any work is done that the file can be written.

    Raises:
        InvalidRequest: it ends neither in .csv nor in .parquet, or its folder does not exist.
        ConfigurationError: Parquet needs pyarrow, which is not installed.
    """
    if path is None or str(path) == STDOUT:
        return
    if path.suffix not in (".csv", ".parquet"):
        raise InvalidRequest(f"--out: must end in .csv or .parquet, or be -, was {path}")
    if not path.parent.is_dir():
        raise InvalidRequest(f"--out: there is no folder {path.parent}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigurationError("--out: Parquet needs pyarrow: pip install 'corro[parquet]', or write a .csv")


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows to a file, or to standard output for `-`; its columns are those of all rows, in their order."""
    check(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        _parquet(rows, columns, path)
    elif str(path) == STDOUT:
        _csv(rows, columns, sys.stdout)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            _csv(rows, columns, file)


def _csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return "" if value is None else to_json(value)


def _parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame([{name: row.get(name) for name in columns} for row in rows], columns=list(columns))
    for name in columns:
        kinds = {type(row[name]) for row in rows if row.get(name) is not None}
        if kinds == {datetime}:
            frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
        elif kinds == {Decimal}:
            frame[name] = frame[name].astype("float64")
    frame.to_parquet(path, engine="pyarrow", index=False)
