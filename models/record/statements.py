"""The hot statements: written in Core, compiled once, and run by the driver itself.

SQLAlchemy prepares every statement anew, and every row of an `executemany`, which costs an order more than the database
does. Here the text and the types' own conversions are looked up once; what is executed is the same, in the same
transaction. Errors come from the driver as they are: `models.record.database` knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib import import_module
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Connection,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    column,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from models import encoding

Row = dict[str, Any]
#: A change of one row: the columns that find it, and those that change.
Change = tuple[Row, Row]
_Convert = Callable[[Any], Any] | None


def upsert(connection: Connection, table: Table) -> Any:
    """Begin an INSERT that can say what happens to rows that are there already (`on_conflict_...`)."""
    return _module(connection.dialect).insert(table)


def _module(dialect: Dialect) -> Any:
    """Return the module of the database in use; the other one need not be loaded."""
    return import_module(f"sqlalchemy.dialects.{dialect.name}")


# -- ROWS IN ---
def insert_many(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    """Insert rows; each may leave out columns that may be null."""
    for names, alike in _by(tuple, rows):
        _insertion(table, names, None, connection.dialect).run(connection, alike)


def insert_new(connection: Connection, table: Table, rows: Iterable[Row], *, by: str | None = None) -> list[Any]:
    """Insert those rows that are new: whose primary key is, or whose value in the column `by`.

    Returns:
        The cursors: once the statements have been answered, their `rowcount` says how many rows were new.
    """
    dialect, new = connection.dialect, by or _PRIMARY
    return [_insertion(table, names, new, dialect).run(connection, alike) for names, alike in _by(tuple, rows)]


def update_many(connection: Connection, table: Table, changes: Iterable[Change]) -> None:
    """Change rows found by their keys, each its own columns; those that change the same ones share a statement."""
    for (keys, names), alike in _by(lambda change: (tuple(change[0]), tuple(sorted(change[1]))), changes):
        rows = [{**news, **{_KEY + name: value for name, value in key.items()}} for key, news in alike]
        _change(table, keys, names, connection.dialect).run(connection, rows)


@contextmanager
def together(connection: Connection) -> Iterator[None]:
    """Send the statements of a block in one round trip; what they did is known at its end. PostgreSQL only."""
    driver: Any = connection.connection.driver_connection
    with driver.pipeline() if connection.dialect.name == "postgresql" else nullcontext():
        yield


def _with_begin(connection: Connection) -> Any:
    """Spare PostgreSQL's BEGIN a round trip of its own, where it is still to come."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "postgresql" or driver.autocommit or driver.info.transaction_status:
        return nullcontext()
    return driver.pipeline()


def _by(kind: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[tuple[Any, list[Any]]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(kind(item), []).append(item)
    return groups.items()


#: Distinguishes the old value of a key's column from its new one; no column's name begins so.
_KEY = "key_"
#: Stands for the primary key where a column that has to be new is asked for.
_PRIMARY = "primary key"


@lru_cache(maxsize=256)
def _insertion(table: Table, names: tuple[str, ...], new: str | None, dialect: Dialect) -> _Prepared:
    kind = _module(dialect)

    by = None if new == _PRIMARY else new

    def put(given: Any) -> Any:
        statement = kind.insert(table)
        if by or given is not one:
            values = select(*(given[name] for name in names))
            values = values.where(~exists().where(table.c[by] == given[by])) if by else values
            statement = statement.from_select(names, values, include_defaults=False)
        keys = list(table.primary_key)
        return statement.on_conflict_do_nothing(index_elements=keys) if new == _PRIMARY else statement

    columns = {name: table.c[name] for name in names}
    one = {name: bindparam(name, type_=column.type) for name, column in columns.items()}
    return _Prepared(put(one), dialect, names, put(_given(columns).c))


@lru_cache(maxsize=256)
def _change(table: Table, keys: tuple[str, ...], names: tuple[str, ...], dialect: Dialect) -> _Prepared:
    columns = {name: table.c[name] for name in names} | {_KEY + name: table.c[name] for name in keys}

    def change(given: Any) -> Any:
        found = [table.c[name] == given[_KEY + name] for name in keys]
        return update(table).where(*found).values({name: given[name] for name in names})

    one = {name: bindparam(name, type_=column.type) for name, column in columns.items()}
    return _Prepared(change(one), dialect, tuple(columns), change(_given(columns).c))


def _given(columns: Mapping[str, Any]) -> Any:
    """Many rows as one JSON value, as PostgreSQL reads it: a table with these columns."""
    typed = [column(name, like.type) for name, like in columns.items()]
    read = func.json_to_recordset(cast(bindparam(_ROWS), JSON))
    return read.table_valued(*typed).render_derived("n", with_types=True)


# -- ROWS OUT ---
class Query:
    """A SELECT that is asked often: built once; its rows come as dicts, converted by the columns' types.

    Args:
        statement: names its values with `bindparam`, and each column by a name of its own.
    """

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement
        self._names = [str(column.key) for column in statement.selected_columns]
        self._types = [column.type for column in statement.selected_columns]
        self._known: dict[str, tuple[_Prepared, list[tuple[int, Callable[[Any], Any]]]]] = {}

    def rows(self, connection: Connection, **values: Any) -> list[Row]:
        """Ask."""
        dialect = connection.dialect
        known = self._known.get(dialect.name)
        prepared = known[0] if known else _Prepared(self.statement, dialect, tuple(values))
        cursor = connection.connection.cursor()
        try:
            with _with_begin(connection):
                cursor.execute(prepared.text, prepared.values(values))
            if known is None:
                known = self._known[dialect.name] = (prepared, self._conversions(dialect, cursor.description))
            names, found = self._names, []
            for given in cursor.fetchall():
                row = dict(zip(names, given, strict=True))
                for place, to in known[1]:
                    if (value := given[place]) is not None:
                        row[names[place]] = to(value)
                found.append(row)
            return found
        finally:
            cursor.close()

    def _conversions(self, dialect: Dialect, description: Any) -> list[tuple[int, Callable[[Any], Any]]]:
        """Return the places of the columns that the driver does not hand over as they shall be."""
        processors = [
            type_.dialect_impl(dialect).result_processor(dialect, column[1])
            for type_, column in zip(self._types, description, strict=True)
        ]
        return [(place, to) for place, to in enumerate(processors) if to is not None]


class _Many(TypeDecorator[list[str]]):
    """Any number of texts as one value: an array, or JSON where there are none."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return list(value) if dialect.name == "postgresql" else encoding.text(list(value))


class _Among(FunctionElement[Any]):
    inherit_cache = True


def among(column: Any, name: str) -> Any:
    """Say that a column is one of the texts bound by a name: the same statement however many they are, unlike `in_`."""
    return _Among(column, bindparam(name, type_=_Many()))


def unindexed(column: Any) -> Any:
    """Keep a text column from being what rows are found by: SQLite's planner may prefer it to a far better one."""
    return func.coalesce(column, "")


@compiles(_Among)
def _among(element: _Among, compiler: Any, **options: Any) -> str:
    column, given = (compiler.process(clause, **options) for clause in element.clauses)
    if compiler.dialect.name == "postgresql":
        return f"{column} = ANY({given})"
    return f"{column} IN (SELECT value FROM json_each({given}))"  # noqa: S608 -- Core's own text


# -- AT THE DRIVER ---
#: Name of the value that holds many rows.
_ROWS = "rows"


class _Prepared:
    """One statement as its driver takes it.

    Args:
        statement: for one row.
        dialect: of the database.
        names: of the values it takes.
        many: the same for rows in one JSON value; PostgreSQL spends a third of the time on it.
    """

    def __init__(self, statement: Any, dialect: Dialect, names: tuple[str, ...], many: Any = None) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=names)
        others = {name: bind for name, bind in compiled.binds.items() if name not in names}
        if missing := sorted(name for name, bind in others.items() if bind.required):
            raise ValueError(f"{missing} must be given: {statement}")
        #: Values that the statement itself has.
        self.own: Row = {name: bind.effective_value for name, bind in others.items()}
        self.text, self.positional = str(compiled), compiled.positiontup is not None
        self.many = str(many.compile(dialect=dialect)) if many is not None and dialect.name == "postgresql" else None
        #: Each bind's name, and what turns its value into the driver's.
        self.binds: list[tuple[str, _Convert]] = [
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or compiled.binds
        ]
        #: The same where rows are written as JSON, which has JSON of its own.
        self.plain: list[tuple[str, _Convert]] = [
            (name, None if isinstance(compiled.binds[name].type, JSON) else to) for name, to in self.binds
        ]

    def values(self, row: Mapping[str, Any]) -> Any:
        """Return the values of one execution, in the driver's own types."""
        row = {**self.own, **row} if self.own else row
        if self.positional:
            return [row[name] if to is None else to(row[name]) for name, to in self.binds]
        return {name: row[name] if to is None else to(row[name]) for name, to in self.binds}

    def run(self, connection: Connection, rows: Sequence[Row]) -> Any:
        """Execute for every row; returns the cursor: `rowcount` says how many rows that concerned."""
        cursor: Any = connection.connection.cursor()
        if len(rows) == 1:
            cursor.execute(self.text, self.values(rows[0]))
        elif self.many is None:
            cursor.executemany(self.text, [self.values(row) for row in rows])
        else:
            plain = [{name: row[name] if to is None else to(row[name]) for name, to in self.plain} for row in rows]
            cursor.execute(self.many, {_ROWS: encoding.text(plain)})
        return cursor
