"""What the drivers take: a statement as its database reads it, over a cursor that does not read it once more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.engine.interfaces import DBAPICursor
    from sqlalchemy.sql.compiler import SQLCompiler

#: Where psycopg has a value by its name in a statement, and its word for a percent sign.
_PLACE = re.compile(r"%\((\w+)\)s|%%")


def new_cursor(connection: Connection) -> DBAPICursor:
    """Return a cursor for statements with their values by number.

    psycopg's usual one reads a statement for its names, every time anew where it has over 4,096 characters, as the
    claim has.
    """
    if connection.dialect.name != "postgresql":
        return connection.connection.cursor()
    from psycopg import RawCursor

    return cast("DBAPICursor", RawCursor(cast("psycopg.Connection", connection.connection.driver_connection)))


def numbered(compiled: SQLCompiler) -> tuple[str, list[str]]:
    """Return a statement with its values by number, as the databases have them, and the names of the values in turn."""
    if compiled.positiontup is not None:
        return str(compiled), compiled.positiontup
    places: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"${places.setdefault(found[1], len(places) + 1)}" if found[1] else "%"

    return _PLACE.sub(number, str(compiled)), list(places)
