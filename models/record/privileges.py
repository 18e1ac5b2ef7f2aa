"""What the code writes and this connection's role may not: `deploy/roles.sql` was run before the schema's last change.

A migration adds tables and columns; that file says who may write them, and has to be run after it. Until then a worker
would find out by the first order that needs one.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from models import encoding
from models.record.changes import FillChanges
from models.record.columns import metadata
from models.record.rows import NewOrder

#: Tables to which a worker only adds, those from which it takes as well, and those that it only reads.
_ADDED = (
    "order_events", "control_events", "position_events", "account_history", "position_history", "cash_events",
    "journal_chain",
)  # fmt: skip
_EMPTIED = (
    "leases", "workers", "account_snapshots", "position_snapshots", "position_locks", "position_ledgers",
    "position_baselines", "external_orders", "external_fills", "incidents", "notifications", "reference_prices",
    "risk_tallies", "position_changes", "position_days", "position_states", "position_lots",
)  # fmt: skip
_READ = ("halts", "risk_limits", "keys", "deployment", "archives", "archived_orders", "archived_fills")
_WORKS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_ADDED, ("INSERT",)),
    **dict.fromkeys(_EMPTIED, ("INSERT", "UPDATE", "DELETE")),
    **dict.fromkeys(_READ, ()),
}
#: What a producer inserts; None: all columns of the table.
_PRODUCES = {
    "orders": (*NewOrder.__annotations__, "key_id", "signed_text", "signature"),
    "fetches": None,
    "order_groups": None,
}
#: To a table, a DELETE is of all its columns.
_LACKING = text(
    "SELECT n.t, n.c, n.p FROM json_to_recordset(CAST(:needed AS json)) AS n(t text, c text, p text) "
    "JOIN pg_attribute a ON a.attrelid = to_regclass(n.t) AND a.attname = n.c AND NOT a.attisdropped "
    "WHERE NOT CASE n.p WHEN 'DELETE' THEN has_table_privilege(a.attrelid, n.p) "
    "ELSE has_column_privilege(a.attrelid, a.attnum, n.p) END ORDER BY n.t, n.p, n.c"
)
_MAY = text(
    "SELECT has_any_column_privilege(to_regclass('attempts'), 'INSERT') AS works, "
    "has_any_column_privilege(to_regclass('orders'), 'INSERT') AS produces"
)
#: Columns that are named in words, of all that a role lacks.
_NAMED = 3


def lacking(connection: Connection) -> list[str]:
    """Return what the role of a connection to PostgreSQL may not do, and the code does; in words, a table each.

    Whether it is a worker's or a producer's role is told by what it may do: who may record no order is asked nothing.
    """
    # Before the first migration there are no tables, and nothing is asked.
    may = connection.execute(_MAY).one()
    needed = list(_of_workers() if may.works else _of_producers() if may.produces else ())
    found = connection.execute(
        _LACKING, {"needed": encoding.text([dict(zip("tcp", one, strict=True)) for one in needed])}
    )
    places: dict[tuple[str, str], list[str]] = {}
    for table, column, privilege in found:
        places.setdefault((table, privilege), []).append(column)
    return [_words(table, privilege, columns) for (table, privilege), columns in places.items()]


def _words(table: str, privilege: str, columns: list[str]) -> str:
    if len(columns) == len(metadata.tables[table].columns):
        return f"{privilege} on {table}"
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return f"{privilege} ({', '.join(columns[:_NAMED])}{more}) on {table}"


def _of_workers() -> Iterator[tuple[str, str, str]]:
    for name, table in metadata.tables.items():
        for privilege in ("SELECT", *_WORKS.get(name, ("INSERT", "UPDATE"))):
            corrected = name == "fills" and privilege == "UPDATE"
            for column in FillChanges.__annotations__ if corrected else table.c.keys():
                yield name, column, privilege


def _of_producers() -> Iterator[tuple[str, str, str]]:
    for name, columns in _PRODUCES.items():
        for column in columns or metadata.tables[name].c.keys():
            yield name, column, "INSERT"
