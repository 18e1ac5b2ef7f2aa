"""Destinations in SQL: a broker, or one of several accounts behind its login, of rows that have both columns."""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, String, and_, func, literal, type_coerce

from models.destinations import BETWEEN, split


def destination(table: FromClause) -> ColumnElement[str]:
    """Return where a row of a table is, as one text: what the tables of positions call its broker."""
    broker = table.c.broker
    return func.coalesce(broker.concat(BETWEEN).concat(table.c.account), broker)


def is_at(table: FromClause, where: str) -> ColumnElement[bool]:
    """Say that a row is at a destination."""
    broker, account = split(where)
    return and_(table.c.broker == broker, of_account(table, account))


def of_account(table: FromClause, account: str | None) -> ColumnElement[bool]:
    """Say that a row is of an account; None is a broker's only one."""
    mine = table.c.account
    return mine.is_(None) if account is None else mine == account


def is_behind(where: ColumnElement[str], broker: str | ColumnElement[str]) -> ColumnElement[bool]:
    """Say that a destination is a broker, or an account behind its login."""
    name = literal(broker, String()) if isinstance(broker, str) else type_coerce(broker, String())
    return (where == name) | (func.substr(where, 1, func.length(name) + 1) == name.concat(BETWEEN))
