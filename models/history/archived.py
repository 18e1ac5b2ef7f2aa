"""What archives hold, through the views of the record: their files, read into a database of their own for a question.

An order counts as archived once its id stays behind in the record alone; until then its files are only a copy.
Positions, profit, cash and the histories of accounts need no archive: the record keeps what they are made of.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from sqlalchemy import JSON, Table, insert, select

from models.errors import NotFound
from models.history.views import v_attempts, v_fills, v_groups, v_latency, v_orders, v_tca
from models.record.archive_tables import archived_orders
from models.record.database import Database, upgrade
from models.record.parquet import must_be_installed, parts
from models.record.statements import Values
from models.record.tables import attempts, fills, order_events, orders

#: What is archived, the orders of others first.
_TABLES: tuple[Table, ...] = (orders, attempts, fills, order_events)
#: Views that these tables suffice for.
VIEWS = frozenset({v_orders.name, v_attempts.name, v_fills.name, v_latency.name, v_tca.name, order_events.name})
#: What is told of orders, and they do not suffice for.
BEYOND = frozenset({v_groups.name, "report"})


class Archives:
    """The archives in a folder.

    Args:
        folder: that `corro archive --to` wrote to.
        record: the database that they were taken out of.

    Raises:
        NotFound: there is no archive in it.
        ConfigurationError: pyarrow is not installed.
    """

    def __init__(self, folder: Path | str, record: Database) -> None:
        must_be_installed()
        self._record = record
        self._folders = sorted(path.parent for path in Path(folder).glob("corro-*/manifest.json"))
        if not self._folders:
            raise NotFound(f"archives: there is no archive in {folder}")

    @cached_property
    def database(self) -> Database:
        """A temporary database with the rows of every archived order, as long as this object is there."""
        home = Path(tempfile.mkdtemp(prefix="corro-archives-"))
        database = Database(f"sqlite:///{home / 'archives.db'}")
        weakref.finalize(self, _forget, database, home)
        upgrade(database)
        with self._record.read() as connection:
            gone = set(connection.execute(select(archived_orders.c.client_order_id)).scalars())
        for folder in self._folders:
            for table in _TABLES:
                self._read(database, folder, table, gone)
        return database

    @staticmethod
    def _read(database: Database, folder: Path, table: Table, gone: Collection[str]) -> None:
        for part in parts(folder / f"{table.name}.parquet"):
            rows = [_row(table, row) for row in part if row["client_order_id"] in gone]
            if rows:
                with database.write() as connection:
                    connection.execute(insert(table), rows)


def _forget(database: Database, home: Path) -> None:
    database.close()
    shutil.rmtree(home, ignore_errors=True)


def _row(table: Table, row: Values) -> Values:
    """Return a row as the table has it: a file of an older version lacks columns, and JSON is text there."""
    found = {c.name: row.get(c.name) for c in table.c if c.name in row}
    for column in table.c:
        if isinstance(column.type, JSON) and isinstance(text := found.get(column.name), str):
            found[column.name] = json.loads(text)
    return found
