"""Copies a whole record into another database, SQLite to PostgreSQL; and keeps both from being used by mistake.

| in the database                 | it is                                           | who opens it      |
|---------------------------------|-------------------------------------------------|-------------------|
| no table `moving`               | a record                                        | goes on           |
| `moving`, with the role target  | a copy that is not complete, or not verified    | is refused        |
| `moving`, with the role source  | a record that lives on elsewhere                | is refused        |

Each part and how far it reaches are one transaction of the target, so a copy that was killed goes on there. The source
takes no order meanwhile, and none afterwards: two records of one fleet would send an order twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, cast

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    inspect,
    literal,
    make_url,
    select,
    text,
    tuple_,
)

from models import encoding
from models.errors import ConfigurationError, InvalidRequest
from models.record.balance_tables import position_progress
from models.record.columns import metadata
from models.record.sqlite import DatabaseFile
from models.record.statements import Values, upsert
from models.record.tables import workers

if TYPE_CHECKING:
    from models.record.database import Database

#: How far a copy is, and which part a database has in it. In no migration: it is there only meanwhile.
moving = Table(
    "moving", MetaData(), Column("name", String(80), primary_key=True), Column("value", Text, nullable=False)
)
_ROLE, _OTHER = "role", "other"
_PAGE = 1000
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied and compared.

    Args:
        rows: by table.
    """

    rows: dict[str, int]


def must_not_move(connection: Connection, shown: str) -> None:
    """Refuse a database that is being copied, or was copied elsewhere.

    Raises:
        ConfigurationError: says what to do.
    """
    if not connection.dialect.has_table(connection, moving.name):
        return
    told = _told(connection)
    other = told.get(_OTHER)
    if told.get(_ROLE) == "source":
        raise ConfigurationError(
            f"database {shown} was copied to {other}, where the record lives on: point database_url there. If you mean "
            f"to go on here, be sure that nothing uses the copy, then drop the table {moving.name}"
        )
    raise ConfigurationError(
        f"database {shown} is a copy of {other} that is not complete: run `corro db copy` again; it goes on"
    )


def _told(connection: Connection) -> dict[str, str]:
    return {name: value for name, value in connection.execute(select(moving))}  # noqa: C416  # mypy knows rows, no pairs


def copy(source: Database, target: Database, dead_after: float, now: datetime, tell: Progress) -> Copied:
    """Copy everything, compare it, and leave the source unused.

    Args:
        source: at the newest schema, with no worker alive.
        target: empty, or the target of the same copy before.
        dead_after: seconds without a heartbeat after which a worker counts as dead.
        now: the time.
        tell: is told the table and how many of its rows are copied.

    Raises:
        InvalidRequest: workers of the source live; the target holds something else; both are the same.
        ConfigurationError: the schema of the source is not the newest; or the copy is not what the source is.
    """
    if str(source.url) == str(target.url):
        raise InvalidRequest("FROM and TO are the same database")
    _must_be_free(source, repr(target.url), dead_after, now)
    _prepare(target, repr(source.url))
    with _held(source) as holding:
        for table in _in_turn():
            _copy(source, target, table, tell)
        _number_on(target)
        rows = _compare(source, target)
        moving.create(holding, checkfirst=True)
        _set(holding, {_ROLE: "source", _OTHER: repr(target.url)})
    with target.write() as connection:
        moving.drop(connection)
    return Copied(rows)


# -- WHO MAY ---
def must_exist(url: str) -> None:
    """Refuse to copy from a file that is not there, before opening it would make one.

    Raises:
        InvalidRequest: there is no such file, or nothing is in it.
    """
    file = DatabaseFile.of(make_url(url))
    if file is not None and file.is_missing:
        raise InvalidRequest(f"FROM: there is no database in {file.path}")


def _must_be_free(source: Database, target: str, dead_after: float, now: datetime) -> None:
    from models.record.database import current_revision, head_revision

    if (current := current_revision(source)) != (head := head_revision()):
        raise ConfigurationError(f"FROM is at revision {current or 'none'}, corro needs {head}: run `corro db upgrade`")
    with source.read() as connection:
        if connection.dialect.has_table(connection, moving.name) and _told(connection).get(_OTHER) != target:
            must_not_move(connection, repr(source.url))
        w = workers.c
        fresh = (w.heartbeat_at >= now - timedelta(seconds=dead_after)) & (w.state != "stopped")
        alive = list(connection.execute(select(w.worker).where(fresh).order_by(w.worker)).scalars())
    if alive:
        raise InvalidRequest(f"workers of FROM are alive: {', '.join(alive)}; stop them first")


def _prepare(target: Database, source: str) -> None:
    """Make the target's schema, and say in it that it is no record yet."""
    from models.record.database import current_revision, head_revision, upgrade

    with target.write() as connection:
        if not connection.dialect.has_table(connection, moving.name):
            if inspect(connection).get_table_names():
                raise InvalidRequest("TO is not empty: give a database of its own to the copy")
            moving.create(connection)
            _set(connection, {_ROLE: "target", _OTHER: source})
        elif _told(connection).get(_OTHER) != source:
            must_not_move(connection, repr(target.url))
    if current_revision(target) != head_revision():
        upgrade(target, is_copy=True)


def _set(connection: Connection, values: dict[str, str]) -> None:
    for name, value in values.items():
        put = upsert(connection, moving).values(name=name, value=value)
        connection.execute(put.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


@contextmanager
def _held(source: Database) -> Iterator[Connection]:
    """Keep everybody else from writing into the source."""
    with source.write() as connection:
        if not source.is_sqlite:
            names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
            connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))
        yield connection


# -- COPYING ---
def _in_turn() -> list[Table]:
    """Return the tables, parents first, and last how far balances are kept.

    SQLite's triggers on executions note each one as changed that balances have in them already: none, while nothing is
    kept in the target.
    """
    return sorted(metadata.sorted_tables, key=lambda table: table is position_progress)


def _copy(source: Database, target: Database, table: Table, tell: Progress) -> None:
    key, into = f"table:{table.name}", _written_as(table)
    with target.read() as connection:
        state = _told(connection).get(key)
    done, after = (0, None) if state is None else cast("tuple[int, list[object] | None]", encoding.loads(state))
    with target.write() as connection:
        if state is None:  # the migrations have put something there
            connection.execute(delete(table))
            _set(connection, {key: encoding.text((0, None))})
    for rows in _pages(source, table, _key_from(table, after)):
        done += len(rows)
        with target.write() as connection:
            connection.execute(insert(into), [dict(row) for row in rows])
            _set(connection, {key: encoding.text((done, _key_text(table, rows[-1])))})
        tell(table.name, done)


def _written_as(table: Table) -> Table:
    """Return the table with columns in which None is no value, also where JSON has a word for it."""
    columns = [Column(c.name, JSON(none_as_null=True) if isinstance(c.type, JSON) else c.type) for c in table.c]
    return Table(table.name, MetaData(), *columns)


def _pages(database: Database, table: Table, after: Sequence[object] | None = None) -> Iterator[list[Values]]:
    keys = list(table.primary_key.columns)
    while True:
        query = select(table).order_by(*keys).limit(_PAGE)
        if after is not None:
            last = [literal(value, column.type) for value, column in zip(after, keys, strict=True)]
            query = query.where(tuple_(*keys) > tuple_(*last))
        with database.read() as connection:
            rows = [cast(Values, dict(row)) for row in connection.execute(query).mappings()]
        if rows:
            yield rows
        if len(rows) < _PAGE:
            return
        after = [rows[-1][column.name] for column in keys]


def _key_text(table: Table, row: Values) -> list[object]:
    return [encoding.to_json(row[column.name]) for column in table.primary_key.columns]


def _key_from(table: Table, told: Sequence[object] | None) -> list[object] | None:
    """Read the key of the last row that was copied."""
    if told is None:
        return None
    read: dict[type, Callable[[str], object]] = {datetime: datetime.fromisoformat, date: date.fromisoformat}
    columns = table.primary_key.columns
    readers = [read.get(column.type.python_type) for column in columns]
    return [value if to is None else to(str(value)) for value, to in zip(told, readers, strict=True)]


def _number_on(target: Database) -> None:
    """Let PostgreSQL give ids behind those that were copied."""
    if target.is_sqlite:
        return
    with target.write() as connection:
        for table in metadata.sorted_tables:
            for column in table.primary_key.columns:
                if column.autoincrement is True and isinstance(column.type, Integer):
                    sequence = func.pg_get_serial_sequence(table.name, column.name)
                    top = select(func.coalesce(func.max(column), 0)).scalar_subquery()
                    connection.execute(select(func.setval(sequence, func.greatest(top, 1), top > 0)))


# -- COMPARING ---
def _compare(source: Database, target: Database) -> dict[str, int]:
    """Return the rows by table, all of which are the same in both.

    Raises:
        ConfigurationError: names the table that differs.
    """
    rows = {}
    for table in metadata.sorted_tables:
        here, there = (_sum(database, table) for database in (source, target))
        if here != there:
            raise ConfigurationError(
                f"{table.name} is not the same in both: {here[0]:,} rows in FROM, {there[0]:,} in TO, with the digests "
                f"{here[1][:12]} and {there[1][:12]}. Empty TO and copy again"
            )
        rows[table.name] = here[0]
    return rows


def _sum(database: Database, table: Table) -> tuple[int, str]:
    """Return how many rows a table has, and a digest over them that does not depend on their order."""
    count = total = 0
    for rows in _pages(database, table):
        for row in rows:
            one = encoding.dumps([_same(row[column.name]) for column in table.c])
            total = (total + int.from_bytes(hashlib.sha256(one).digest())) % (1 << 256)
            count += 1
    return count, f"{total:064x}"


def _same(value: object) -> object:
    """Return a value as both databases have it: numbers without zeros at their end, times in UTC."""
    return repr(value) if isinstance(value, float) else encoding.to_json(value)
