"""Rows as files: CSV always, Parquet where pyarrow is installed. Times are UTC, numbers exact.

In CSV times are ISO 8601, and a text that a spreadsheet would take for a formula begins with an apostrophe. In Parquet
numbers are decimal128 and times timestamp[us, UTC].
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import Date

from models.encoding import to_json
from models.errors import ConfigurationError, InvalidRequest, OutputLost
from models.extras import install
from models.outward import is_id, outward, printable, untold
from models.record.columns import Money, UtcTime

if TYPE_CHECKING:
    from sqlalchemy import Table

#: A file name that means standard output.
STDOUT = "-"
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "\N{MINUS SIGN}", "@", "\t", "\r")
#: Digits and decimals of a decimal128 column; a number with more decimals gives its column more, up to a bound.
_DIGITS, _DECIMALS, _MOST_DECIMALS = 38, 9, 18


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
        raise ConfigurationError(f"--out: Parquet needs pyarrow: {install('parquet')}, or write a .csv")


def write(rows: Sequence[Mapping[str, Any]], path: Path, table: Table | None = None) -> None:
    """Write rows to a file, or to standard output for `-`.

    Args:
        rows: the rows; their columns are those of all of them, in their order.
        path: ends in .csv or .parquet.
        table: whose rows they are: its columns and types are those of the file, also without a row.

    Raises:
        InvalidRequest, ConfigurationError: as `check`. OutputLost: the file cannot be written.
    """
    check(path)
    known = [column.name for column in table.columns] if table is not None else []
    columns = list(dict.fromkeys([*known, *(name for row in rows for name in row)]))
    try:
        if path.suffix == ".parquet":
            _parquet(rows, columns, path, table)
        elif str(path) == STDOUT:
            text = io.StringIO()
            _csv(rows, columns, text)
            sys.stdout.write(text.getvalue())
            sys.stdout.flush()
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                _csv(rows, columns, file)
    except OSError as error:
        raise OutputLost(f"--out {path}: {error.strerror or error}") from None


def as_csv(rows: Sequence[Mapping[str, Any]], table: Table) -> str:
    """Return rows as the text of a CSV file with the columns of their table."""
    text = io.StringIO()
    _csv(rows, [column.name for column in table.columns], text)
    return text.getvalue()


def _csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name), name) for name in columns] for row in rows)


def _cell(value: Any, name: str = "") -> Any:
    """Return a value as a CSV file has it; a text that a spreadsheet would compute is guarded."""
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    elif isinstance(value, Mapping):
        value = json.dumps(to_json(value), default=str)
    if not isinstance(value, str):
        return "" if value is None else to_json(value)
    guarded = f"'{value}" if _begins_formula(value) else value
    return printable(guarded) if is_id(name) else outward(guarded)


def _begins_formula(text: str) -> bool:
    """Tell whether a spreadsheet could compute a text: blanks before it are skipped, wide signs are read as others."""
    seen = text.lstrip(" \N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}\n\N{ZERO WIDTH NO-BREAK SPACE}")
    return unicodedata.normalize("NFKC", seen[:1]).startswith(_FORMULA)


def _parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], path: Path, table: Table | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: _array([row.get(name) for row in rows], name, table) for name in columns}
    pq.write_table(pa.table(arrays), path)


def _array(values: Sequence[Any], name: str, table: Table | None) -> Any:
    """Return a column of Parquet: of its table's type, else of what its values are."""
    import pyarrow as pa

    column = table.columns.get(name) if table is not None else None
    kinds = {type(value) for value in values if value is not None}
    if kinds == {Decimal} or (column is not None and isinstance(column.type, Money)):
        numbers = [None if value is None else Decimal(value) for value in values]
        return _decimals(numbers, [n for n in numbers if n is not None])
    if kinds == {date} or (column is not None and isinstance(column.type, Date)):
        return pa.array(values, pa.date32())
    if kinds == {datetime} or (column is not None and isinstance(column.type, UtcTime)):
        return pa.array(values, pa.timestamp("us", tz="UTC"))
    if kinds and kinds <= {list, tuple} and column is None:
        return pa.array([value and list(map(str, value)) for value in values], pa.list_(pa.string()))
    python = kinds.pop() if len(kinds) == 1 else column.type.python_type if column is not None and not kinds else str
    if python in (bool, int, float):
        return pa.array(values, {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}[python])
    return pa.array([_text(value, name) for value in values], pa.string())


def _decimals(numbers: Sequence[Decimal | None], told: Sequence[Decimal]) -> object:
    """Return a column of exact numbers; the larger one of them is, the fewer decimals has each."""
    import pyarrow as pa

    decimals = max([_DECIMALS, *(-int(n.as_tuple().exponent) for n in told)])
    room = _DIGITS - max([0, *(n.adjusted() + 2 for n in told)])  # rounding may add a digit
    scale = max(min(decimals, _MOST_DECIMALS, room), 0)
    places, wide = Decimal(1).scaleb(-scale), Context(prec=2 * _DIGITS)
    rounded = [n if n is None or decimals == scale else n.quantize(places, context=wide) for n in numbers]
    return pa.array(rounded, pa.decimal128(_DIGITS, scale))


def _text(value: Any, name: str) -> str | None:
    if isinstance(value, (list, tuple, Mapping)):
        return json.dumps(untold(to_json(value)), default=str)
    return None if value is None else str(untold(str(value), name))
