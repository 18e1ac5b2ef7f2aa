"""Rows of tables as Parquet, part by part, and back: numbers decimal128, times timestamp[us, UTC], JSON as text.

Needs pyarrow (the extra `parquet`). A number with more than 18 decimals, as a mean price may have, is rounded there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

from sqlalchemy import JSON, BigInteger, Boolean, Float, Integer, Table

from models import encoding
from models.extras import must_have
from models.record.columns import Money, UtcTime
from models.record.statements import Values

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_DIGITS, _DECIMALS = 38, 18
_PLACES = Decimal(1).scaleb(-_DECIMALS)
_CHUNK = 1 << 20


def must_be_installed() -> None:
    """See that Parquet can be written and read.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    must_have("Parquet", "parquet", "pyarrow")


def schema_of(table: Table) -> pa.Schema:
    """Return the columns of a table as Parquet has them."""
    import pyarrow as pa

    kinds = (
        (Money, pa.decimal128(_DIGITS, _DECIMALS)), (UtcTime, pa.timestamp("us", tz="UTC")), (Boolean, pa.bool_()),
        (Float, pa.float64()), ((Integer, BigInteger), pa.int64()),
    )  # fmt: skip
    return pa.schema(
        [(c.name, next((is_ for kind, is_ in kinds if isinstance(c.type, kind)), pa.string())) for c in table.c]
    )


class RowFile(AbstractContextManager["RowFile"]):
    """A Parquet file that is written part by part; complete on disk once it is closed.

    Args:
        path: of the file, which is new.
        table: whose rows it has.
    """

    def __init__(self, path: Path, table: Table) -> None:
        import pyarrow.parquet as pq

        self.path, self.table, self.rows, self._schema = path, table, 0, schema_of(table)
        self._writer: pq.ParquetWriter = pq.ParquetWriter(path, self._schema)

    def write(self, rows: Sequence[Values]) -> None:
        """Add rows as a part of their own."""
        if not rows:
            return
        import pyarrow as pa

        columns = [[_plain(row[c.name], is_json=isinstance(c.type, JSON)) for row in rows] for c in self.table.c]
        arrays = [pa.array(values, kind.type) for values, kind in zip(columns, self._schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self.rows += len(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._writer.close()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


def _plain(value: object, *, is_json: bool) -> object:
    if is_json and value is not None:
        return encoding.text(value)
    if isinstance(value, Decimal) and -int(value.as_tuple().exponent) > _DECIMALS:
        return value.quantize(_PLACES)
    return value


def parts(path: Path) -> Iterator[list[Values]]:
    """Yield the rows of a file, part by part, as they were written; JSON stays text."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield cast("list[Values]", file.read_row_group(number).to_pylist())


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            found.update(chunk)
    return found.hexdigest()
