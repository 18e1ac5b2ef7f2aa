"""Whether anything here has the names of a scope: a brake is never refused, and a mistyped one stops nothing.

Nobody keeps a list of strategies or symbols: a name is known if the settings, an order, a position, a worker or a key
has had it. So a new strategy is told as unknown until its first order, which is a remark and no refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, select

from models.destinations import broker_of, split
from models.record.balance_tables import position_states
from models.record.keys import all_keys
from models.record.tables import attempts, orders, position_snapshots, workers

if TYPE_CHECKING:
    from models.record.database import Database
    from models.settings import Settings

#: Names that are told as near, and the newest orders whose names are looked at for that.
_NEAR, _NEWEST = 3, 5_000


def unknown_names(database: Database, settings: Settings, names: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each name, by kind, that nothing here has, with names that are near.

    Args:
        database: the record.
        settings: for brokers and their accounts.
        names: kind (broker, account, strategy, symbol, key) and name.
    """
    with database.read() as connection:
        return [
            _words(kind, name, near)
            for kind, name in names
            if (near := _near(connection, settings, kind, name)) is not None
        ]


def _words(kind: str, name: str, near: list[str]) -> str:
    known = f"; near: {', '.join(near)}" if near else ""
    return f"nothing here has the {kind} {name!r} so far{known}"


def _near(connection: Connection, settings: Settings, kind: str, name: str) -> list[str] | None:
    """Return names that are near; None where this one is known."""
    found = _KNOWN[kind](connection, settings, name)
    return None if name in found else get_close_matches(name, sorted(found), n=_NEAR)


def _brokers(connection: Connection, settings: Settings, _: str) -> set[str]:
    return {*settings.all_brokers, *_texts(connection, workers.c.broker)}


def _accounts(connection: Connection, settings: Settings, name: str) -> set[str]:
    broker, account = split(name)
    said = {f"{one}:{of}" for one, its in settings.all_brokers.items() for of in its.accounts}
    had = _has(connection, attempts.c.account == account, attempts.c.broker == broker_of(name))
    # Without names of its own a login has the one account that everybody calls as they like.
    any_name = broker in settings.all_brokers and not settings.all_brokers[broker].accounts
    return said | ({name} if had or any_name else set())


def _strategies(connection: Connection, _: Settings, name: str) -> set[str]:
    if _has(connection, orders.c.strategy == name):
        return {name}
    return _of_newest(connection, orders.c.strategy)


def _symbols(connection: Connection, _: Settings, name: str) -> set[str]:
    if _has(connection, orders.c.symbol == name):
        return {name}
    held = _texts(connection, position_snapshots.c.symbol) | _texts(connection, position_states.c.symbol)
    return held | _of_newest(connection, orders.c.symbol)


def _keys(connection: Connection, _: Settings, __: str) -> set[str]:
    return {key["key_id"] for key in all_keys(connection)}


_KNOWN: Mapping[str, Callable[[Connection, Settings, str], set[str]]] = {
    "broker": _brokers,
    "account": _accounts,
    "strategy": _strategies,
    "symbol": _symbols,
    "key": _keys,
}


def _has(connection: Connection, *which: ColumnElement[bool]) -> bool:
    return connection.execute(select(1).where(*which).limit(1)).first() is not None


def _texts(connection: Connection, column: ColumnElement[str]) -> set[str]:
    return set(connection.execute(select(column).where(column.is_not(None)).distinct()).scalars())


def _of_newest(connection: Connection, column: ColumnElement[str]) -> set[str]:
    newest = select(column.label("name")).order_by(orders.c.created_at.desc()).limit(_NEWEST).subquery()
    return _texts(connection, newest.c.name)
