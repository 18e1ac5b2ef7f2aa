"""The hot statements: written in Core, compiled once, and run by the driver itself.

SQLAlchemy prepares every statement anew, and every row of an `executemany`, which costs an order more than the database
does. Here the text and the types' own conversions are looked up once; what is executed is the same, in the same
transaction. Errors come from the driver as they are: `models.record.database` knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from sqlalchemy import (
    ARRAY,
    JSON,
    ColumnElement,
    CompoundSelect,
    Connection,
    FromClause,
    Select,
    Table,
    TableValuedAlias,
    Text,
    Update,
    bindparam,
    column,
    exists,
    func,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy import Insert as InsertOf
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import ReturnsRows
from sqlalchemy.types import TypeDecorator, TypeEngine

from models import encoding
from models.record import postgres
from models.record.driver import new_cursor, numbered

if TYPE_CHECKING:
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.engine.interfaces import DBAPICursor
    from sqlalchemy.sql import ClauseElement
    from sqlalchemy.sql.compiler import SQLCompiler

#: A row without a type of its own; the tables' are in `models.record.rows`.
Row = dict[str, Any]
#: Values by the names of their columns.
Values = Mapping[str, object]
#: A change of one row: the columns that find it, and those that change.
Change = tuple[Values, Values]
#: Clauses by the names of columns: of values that are bound, or of columns of many rows.
Column = ColumnElement[Any]
_Clauses = Mapping[str, Column]
Selected = Select[Any]
Combined = CompoundSelect[*tuple[object, ...]]
_Convert = Callable[[object], object] | None
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
#: The type of a row.
R = TypeVar("R")
#: Makes an INSERT ... SELECT of the rows of a table, or of those that a statement has just inserted.
Tell = Callable[[FromClause], InsertOf]


def upsert(connection: Connection, table: Table) -> Insert:
    """Begin an INSERT that can say what happens to rows that are there already (`on_conflict_...`).

    Both databases have the clause; its type is PostgreSQL's, whose INSERT differs from SQLite's in nothing used here.
    """
    return cast("Insert", _module(connection.dialect).insert(table))


def fetch(connection: Connection, statement: Selected | Combined, kind: type[R]) -> list[R]:  # noqa: ARG001 -- for mypy
    """Return the rows of a statement that selects the columns of `kind`, one of `models.record.rows`."""
    found = connection.execute(statement)
    names = list(found.keys())
    return [cast(R, dict(zip(names, row, strict=True))) for row in found]


def _module(dialect: Dialect) -> ModuleType:
    """Return the module of the database in use; the other one need not be loaded."""
    return import_module(f"sqlalchemy.dialects.{dialect.name}")


# -- ROWS IN ---
def insert_many(connection: Connection, table: Table, rows: Iterable[Values]) -> None:
    """Insert rows; each may leave out columns that may be null."""
    for names, alike in _by(_names, rows):
        _insertion(table, names, None, connection.dialect).run(connection, alike)


def insert_told(connection: Connection, table: Table, rows: Sequence[Values], tell: Tell) -> int:
    """Insert those rows whose primary key is new, and what is told of each: rows of another table.

    One statement for rows that have the same columns, on PostgreSQL; SQLite, which cannot insert twice in one, takes
    two.

    Args:
        connection: of the transaction; it may be one that commits each statement.
        table: with a primary key of one column.
        rows: that key is given in each.
        tell: makes the second INSERT of the rows that are new. The rows it inserts have a column of the key's name.

    Returns:
        How many rows were new.
    """
    dialect = connection.dialect
    done = [_insertion(table, names, tell, dialect).run(connection, alike) for names, alike in _by(_names, rows)]
    new = sum(cursor.rowcount for cursor in done)
    if new and dialect.name != "postgresql":
        (key,) = table.primary_key
        _telling(table, tell, dialect).run(connection, [{_ROWS: [row[key.name] for row in rows]}])
    return new


def update_many(connection: Connection, table: Table, changes: Iterable[Change]) -> None:
    """Change rows found by their keys, each its own columns; those that change the same ones share a statement."""
    for (keys, names), alike in _by(lambda change: (_names(change[0]), tuple(sorted(change[1]))), changes):
        rows = [{**news, **{_KEY + name: value for name, value in key.items()}} for key, news in alike]
        _change(table, keys, names, connection.dialect).run(connection, rows)


@contextmanager
def together(connection: Connection, *, ending: bool = False) -> Iterator[None]:
    """Send the statements of a block in one round trip; what they did is known at its end. PostgreSQL only.

    Of the block that is the `ending` of a transaction the commit goes along, and whoever began that finds it done.
    """
    is_postgres = connection.dialect.name == "postgresql"
    with postgres.pipeline(_driver(connection), ending=ending) if is_postgres else nullcontext():
        yield


def _with_begin(connection: Connection) -> AbstractContextManager[object]:
    """Spare PostgreSQL's BEGIN a round trip of its own, where it is still to come."""
    driver = _driver(connection)
    if connection.dialect.name != "postgresql" or driver.autocommit or driver.info.transaction_status:
        return nullcontext()
    return together(connection)


def _driver(connection: Connection) -> Any:
    """Return psycopg's connection, or sqlite3's."""
    return connection.connection.driver_connection


def _by(kind: Callable[[T], K], items: Iterable[T]) -> Iterable[tuple[K, list[T]]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(kind(item), []).append(item)
    return groups.items()


def _names(row: Values) -> tuple[str, ...]:
    return tuple(row)


#: Distinguishes the old value of a key's column from its new one; no column's name begins so.
_KEY = "key_"


@lru_cache(maxsize=256)
def _insertion(table: Table, names: tuple[str, ...], tell: Tell | None, dialect: Dialect) -> _Prepared:
    """Return the INSERT of these columns, made once; `tell`: of rows that are new, and what is told of them."""

    def put(given: _Clauses) -> ClauseElement:
        statement = cast("Insert", _module(dialect).insert(table))
        if given is not one:
            values = select(*(given[name] for name in names))
            statement = statement.from_select(names, values, include_defaults=False)
        if tell is None:
            return statement
        new = statement.on_conflict_do_nothing(index_elements=list(table.primary_key))
        if dialect.name != "postgresql":
            return new
        if given is one:  # inside another statement they have to be named
            new = new.values(given)
        return tell(new.returning(*table.c).cte("new_rows"))

    columns: _Clauses = {name: table.c[name] for name in names}
    one = _bound(columns)
    return _Prepared(put(one), dialect, names, put(_columns(_given(columns))))


@lru_cache(maxsize=16)
def _telling(table: Table, tell: Tell, dialect: Dialect) -> _Prepared:
    """Return the second statement of `insert_told`: a row of which something is told already is not new."""
    (key,) = table.primary_key
    where = tell(table).table.c[key.name]
    new = select(table).where(among(key, _ROWS), ~exists().where(where == key)).subquery()
    return _Prepared(tell(new), dialect, (_ROWS,))


@lru_cache(maxsize=256)
def _change(table: Table, keys: tuple[str, ...], names: tuple[str, ...], dialect: Dialect) -> _Prepared:
    """Return the UPDATE of these columns in rows that are found by these keys, made once."""
    columns: _Clauses = {name: table.c[name] for name in names} | {_KEY + name: table.c[name] for name in keys}

    def change(given: _Clauses) -> Update:
        found = [table.c[name] == given[_KEY + name] for name in keys]
        return update(table).where(*found).values({name: given[name] for name in names})

    return _Prepared(change(_bound(columns)), dialect, tuple(columns), change(_columns(_given(columns))))


def _bound(columns: _Clauses) -> _Clauses:
    """Return the values of one row, to be bound under the names of their columns."""
    return {name: bindparam(name, type_=column.type) for name, column in columns.items()}


def _columns(table: TableValuedAlias) -> _Clauses:
    return dict(table.c.items())


def _given(columns: _Clauses) -> TableValuedAlias:
    """Many rows as one JSON value, as PostgreSQL reads it: a table with these columns."""
    typed = [column(name, like.type) for name, like in columns.items()]
    read = func.json_to_recordset(sql_cast(bindparam(_ROWS), JSON))
    return read.table_valued(*typed).render_derived("n", with_types=True)


# -- ROWS OUT ---
class Query(Generic[R]):
    """A SELECT, or what else returns rows, that is asked often: built once; its rows come as dicts, converted by type.

    Args:
        statement: names its values with `bindparam`, and each column by a name of its own.
        kind: the type of its rows, one of `models.record.rows`; for the type checker alone.
    """

    @overload
    def __init__(self: Query[Row], statement: ReturnsRows) -> None: ...
    @overload
    def __init__(self, statement: ReturnsRows, kind: type[R]) -> None: ...
    def __init__(self, statement: ReturnsRows, kind: type[R] | None = None) -> None:
        self.statement = statement
        self._names = [str(column.key) for column in statement.exported_columns]
        self._types = [column.type for column in statement.exported_columns]
        self._prepared: dict[str, _Prepared] = {}
        self._known: dict[str, list[tuple[int, Callable[[object], object]]]] = {}

    def rows(self, connection: Connection, **values: object) -> list[R]:
        """Ask."""
        with _with_begin(connection):
            cursor = self.send(connection, values)
        return self.read(connection, cursor)

    def send(self, connection: Connection, values: Values) -> DBAPICursor:
        """Send the question; in a block of `together` the answer is known at the end of the block."""
        dialect = connection.dialect
        if (prepared := self._prepared.get(dialect.name)) is None:
            prepared = self._prepared[dialect.name] = _Prepared(self.statement, dialect, tuple(values))
        cursor = new_cursor(connection)
        cursor.execute(prepared.text, prepared.values(values))
        return cursor

    def read(self, connection: Connection, cursor: DBAPICursor) -> list[R]:
        """Read the answer."""
        dialect, names = connection.dialect, self._names
        if (conversions := self._known.get(dialect.name)) is None:
            conversions = self._known[dialect.name] = self._conversions(dialect, cursor.description)
        found: list[R] = []
        for given in cursor.fetchall():
            row: dict[str, object] = dict(zip(names, given, strict=True))
            for place, to in conversions:
                if (value := given[place]) is not None:
                    row[names[place]] = to(value)
            found.append(cast(R, row))
        cursor.close()
        return found

    def _conversions(
        self, dialect: Dialect, description: Sequence[Sequence[object]]
    ) -> list[tuple[int, Callable[[object], object]]]:
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

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        many: TypeEngine[Any] = ARRAY(Text()) if dialect.name == "postgresql" else Text()
        return dialect.type_descriptor(many)

    def process_bind_param(self, value: Iterable[str] | None, dialect: Dialect) -> object:
        texts = list(value or ())
        return texts if dialect.name == "postgresql" else encoding.text(texts)


class _Among(FunctionElement[bool]):
    inherit_cache = True


def among(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Say that a column is one of the texts bound by a name: the same statement however many they are, unlike `in_`."""
    return _Among(column, bindparam(name, type_=_Many()))


def one_of(column: ColumnElement[str], words: Iterable[str]) -> ColumnElement[bool]:
    """Say that a column is one of some constants; `in_` of texts is not whole until it is executed."""
    return column.in_([literal(str(word)) for word in sorted(words)])


def unindexed(column: ColumnElement[T]) -> ColumnElement[T]:
    """Keep a text column from being what rows are found by: SQLite's planner may prefer it to a far better one."""
    return func.coalesce(column, literal_column("''"))  # no value: what is grouped by has to read the same twice


@compiles(_Among)
def _among(element: _Among, compiler: SQLCompiler, **options: object) -> str:
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

    def __init__(
        self, statement: ClauseElement, dialect: Dialect, names: tuple[str, ...], many: ClauseElement | None = None
    ) -> None:
        columns = names if isinstance(statement, InsertOf) else None  # an UPDATE says itself what it sets
        compiled = cast("SQLCompiler", statement.compile(dialect=dialect, column_keys=columns))
        others = {name: bind for bind, name in compiled.bind_names.items() if name not in names}
        if missing := sorted(name for name, bind in others.items() if bind.required):
            raise ValueError(f"{missing} must be given: {statement}")
        #: Values of the constants in the statement, by the names of their binds.
        self.own: dict[str, object] = {name: bind.effective_value for name, bind in others.items()}
        self.text, places = numbered(compiled)
        self.many: str | None = None
        #: The values of that one, in their order.
        self.many_names: list[str] = []
        #: Values of the constants in that one.
        self.many_own: dict[str, object] = {}
        if many is not None and dialect.name == "postgresql":
            whole = cast("SQLCompiler", many.compile(dialect=dialect))
            self.many, self.many_names = numbered(whole)
            self.many_own = {name: bind.effective_value for bind, name in whole.bind_names.items() if name != _ROWS}
        #: Each bind's name, and what turns its value into the driver's.
        self.binds: list[tuple[str, _Convert]] = [
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in places
        ]
        #: The same for rows that travel as one JSON value: a JSON column is nested there, not quoted as text.
        self.plain: list[tuple[str, _Convert]] = [
            (name, None if isinstance(compiled.binds[name].type, JSON) else to)
            for name, to in self.binds
            if name in names
        ]

    def values(self, row: Values) -> list[object]:
        """Return the values of one execution, in the driver's own types."""
        row = {**self.own, **row} if self.own else row
        return [row[name] if to is None else to(row[name]) for name, to in self.binds]

    def run(self, connection: Connection, rows: Sequence[Values]) -> DBAPICursor:
        """Execute for every row; returns the cursor: `rowcount` says how many rows that concerned."""
        cursor = new_cursor(connection)
        if len(rows) == 1:
            cursor.execute(self.text, self.values(rows[0]))
        elif self.many is None:
            cursor.executemany(self.text, [self.values(row) for row in rows])
        else:
            plain = [{name: row[name] if to is None else to(row[name]) for name, to in self.plain} for row in rows]
            told = {**self.many_own, _ROWS: encoding.text(plain)}
            cursor.execute(self.many, [told[name] for name in self.many_names])
        return cursor
