"""The hot statements: written in Core, compiled once for each set of columns, run through the driver for many rows.

SQLAlchemy prepares every row of an `executemany` anew, which costs a batch of a hundred orders more than the database
does. Here the text and the types' own conversions are looked up once; what is executed is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

Row = dict[str, Any]
#: A change of one row: the columns that find it, and those that change.
Change = tuple[Row, Row]


def upsert(connection: Connection, table: Table) -> Any:
    """Begin an INSERT that can say what happens to rows that are there already (`on_conflict_...`)."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def insert_many(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    """Insert rows; each may leave out columns that may be null."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    for names, alike in groups.items():
        _prepared(table, (), names, connection.dialect).run(connection, alike)


def update_many(connection: Connection, table: Table, changes: Iterable[Change]) -> None:
    """Change rows found by their keys, each its own columns; those that change the same ones share a statement."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Row]] = {}
    for key, news in changes:
        row = {**news, **{_KEY + name: value for name, value in key.items()}}
        groups.setdefault((tuple(key), tuple(sorted(news))), []).append(row)
    for (keys, names), alike in groups.items():
        _prepared(table, keys, names, connection.dialect).run(connection, alike)


#: Distinguishes the old value of a key's column from its new one; no column's name begins so.
_KEY = "key_"


class _Prepared:
    """One statement as its driver takes it."""

    def __init__(self, statement: Any, names: tuple[str, ...], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=names)
        if missing := set(compiled.binds) - set(names):
            raise ValueError(f"{sorted(missing)} must be given: {statement}")
        self.text, self.positional = str(compiled), compiled.positiontup is not None
        #: Each bind's name, and what turns its value into the driver's.
        self.binds = [
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or names
        ]

    def run(self, connection: Connection, rows: list[Row]) -> None:
        binds = self.binds
        values: list[Any]
        if self.positional:
            values = [tuple([row[name] if to is None else to(row[name]) for name, to in binds]) for row in rows]
        else:
            values = [{name: row[name] if to is None else to(row[name]) for name, to in binds} for row in rows]
        connection.exec_driver_sql(self.text, values)


@lru_cache(maxsize=512)
def _prepared(table: Table, keys: tuple[str, ...], names: tuple[str, ...], dialect: Dialect) -> _Prepared:
    if not keys:
        return _Prepared(insert(table), names, dialect)
    where = [table.c[name] == bindparam(_KEY + name, type_=table.c[name].type) for name in keys]
    statement = update(table).where(*where).values({name: bindparam(name, type_=table.c[name].type) for name in names})
    return _Prepared(statement, (*names, *(_KEY + name for name in keys)), dialect)
