"""Whole rows of the record for those who show it or judge it, and do not change it: typed, none of them locked."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text

from models.destinations import split
from models.errors import InvalidRequest
from models.record.balance_tables import position_days
from models.record.database import Database
from models.record.group_rows import GroupRow
from models.record.history_tables import cash_events
from models.record.rows import AttemptRow, FetchRow, OrderEventRow, OrderRow, PositionRow, ReadableOrder, WorkerRow
from models.record.statements import Query, fetch
from models.record.tables import (
    attempts,
    external_orders,
    fetches,
    leases,
    order_events,
    order_groups,
    orders,
    position_locks,
    position_snapshots,
    workers,
)
from models.record.tombstones import archived_rows
from models.vocabulary import OPEN, Status

#: What whoever waits asks again and again.
_ORDER = Query(select(orders).where(orders.c.client_order_id == bindparam("id")), OrderRow)
_FETCH = Query(select(fetches).where(fetches.c.fetch_id == bindparam("id")), FetchRow)


def order_row(connection: Connection, client_order_id: str) -> OrderRow | None:
    """Return an order, of an archived one what is left; None where there is none under this id."""
    found = next(iter(_ORDER.rows(connection, id=client_order_id)), None)
    return archived_rows(connection, [client_order_id]).get(client_order_id) if found is None else found


def order_rows(connection: Connection) -> list[OrderRow]:
    """Return every order there is: of a rehearsal, not of a year."""
    return fetch(connection, select(orders), OrderRow)


def open_rows(
    connection: Connection, *, broker: str | None = None, strategy: str | None = None, symbol: str | None = None
) -> list[OrderRow]:
    """Return the orders that have not ended, oldest first; each name that is given must be the order's.

    A broker may be one of its accounts, `ibkr:ira`.
    """
    at, account = split(broker.strip()) if broker is not None else (None, None)
    given = {"broker": at, "account": account, "strategy": strategy, "symbol": symbol}
    wanted = [orders.c[name] == value.strip() for name, value in given.items() if value is not None]
    open_ = select(orders).where(orders.c.status.in_([str(status) for status in OPEN]), *wanted)
    return fetch(connection, open_.order_by(orders.c.created_at, orders.c.client_order_id), OrderRow)


def orders_beginning(connection: Connection, start: str) -> list[OrderRow]:
    """Return the orders whose client_order_id begins with a text, in the order of their ids."""
    ids = orders.c.client_order_id
    mine = select(orders).where(ids >= start, ids.startswith(start, autoescape=True)).order_by(ids)
    return fetch(connection, mine, OrderRow)


def attempt_rows(connection: Connection) -> list[AttemptRow]:
    """Return every attempt there is: of a rehearsal, not of a year."""
    return fetch(connection, select(attempts), AttemptRow)


def newest_attempts(connection: Connection, rows: Sequence[ReadableOrder]) -> dict[str, AttemptRow]:
    """Return the newest attempt of each of these orders that has one, by client_order_id."""
    newest = {(row["client_order_id"], row["attempt_no"]) for row in rows}
    if not newest:
        return {}
    theirs = select(attempts).where(attempts.c.client_order_id.in_(sorted(id_ for id_, _ in newest)))
    tries = fetch(connection, theirs, AttemptRow)
    return {one["client_order_id"]: one for one in tries if (one["client_order_id"], one["attempt_no"]) in newest}


def events_after(connection: Connection, id_: int) -> list[OrderEventRow]:
    """Return the steps of all orders after one of them, in the order in which they were written."""
    query = select(order_events).where(order_events.c.id > id_).order_by(order_events.c.id)
    return fetch(connection, query, OrderEventRow)


def newest_event(connection: Connection) -> int:
    """Return the id of the newest step of any order; 0 where there is none."""
    return connection.execute(select(func.max(order_events.c.id))).scalar() or 0


def fetch_row(connection: Connection, fetch_id: str) -> FetchRow | None:
    """Return a request for data; None where there is none under this id."""
    return next(iter(_FETCH.rows(connection, id=fetch_id)), None)


def worker_rows(connection: Connection) -> list[WorkerRow]:
    """Return every worker that is remembered, those of a broker together, the newest last."""
    return fetch(connection, select(workers).order_by(workers.c.broker, workers.c.started_at), WorkerRow)


def newest_worker(connection: Connection, broker: str) -> WorkerRow | None:
    """Return the worker of a broker that was heard last; None where none ever was."""
    query = select(workers).where(workers.c.broker == broker).order_by(workers.c.heartbeat_at.desc()).limit(1)
    return next(iter(fetch(connection, query, WorkerRow)), None)


def lease_holders(connection: Connection, now: datetime) -> dict[str, str]:
    """Return who holds each lease that is in force."""
    query = select(leases.c.name, leases.c.holder).where(leases.c.until > now)
    return {name: holder for name, holder in connection.execute(query)}  # noqa: C416 -- rows are no pairs to mypy


#: What tells of a broker that is configured no more.
_OF_BROKERS = (workers, orders, attempts, external_orders, position_days, cash_events)


def knows_broker(connection: Connection, broker: str) -> bool:
    """Tell whether a broker, configured now or not, has ever had a worker, an order or a booking."""
    mine = (select(table.c.broker).where(table.c.broker == broker).limit(1) for table in _OF_BROKERS)
    return any(connection.execute(query).first() is not None for query in mine)


def must_know_broker(database: Database, configured: Collection[str], broker: str) -> None:
    """See that a broker is there, or was: else a list of what is there would be empty, and its emptiness no fact.

    Raises:
        InvalidRequest: neither.
    """
    if broker in configured:
        return
    with database.read() as connection:
        if not knows_broker(connection, broker):
            there = ", ".join(configured)
            raise InvalidRequest(f"broker: must be one of {there}, or one that the record has, was {broker!r}")


def position_rows(connection: Connection) -> list[PositionRow]:
    """Return what brokers said last of their positions."""
    query = select(position_snapshots).order_by(position_snapshots.c.broker, position_snapshots.c.symbol)
    return fetch(connection, query, PositionRow)


def count_of_locks(connection: Connection) -> int:
    """Return how many positions are locked."""
    return connection.execute(select(func.count()).select_from(position_locks)).scalar_one()


def count_held(connection: Connection, why: str) -> int:
    """Return how many orders are held for a reason, one of `models.record.holds`."""
    held = select(func.count()).where(orders.c.status == str(Status.HELD), orders.c.held_for.contains(why))
    return connection.execute(held).scalar_one()


# -- THE DATABASE ITSELF ---
def answer(connection: Connection) -> None:
    """Have the database answer something."""
    connection.execute(select(1))


def server_clock(connection: Connection) -> datetime:
    """Return the time of PostgreSQL's clock."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def leave_no_trace(connection: Connection, now: datetime) -> None:
    """Make a row and remove it: the transaction still reaches the disk."""
    name = f"check.{uuid.uuid4().hex[:12]}"
    connection.execute(insert(leases).values(name=name, holder="corro check", until=now))
    connection.execute(delete(leases).where(leases.c.name == name))


def group_rows(connection: Connection, group_id: str) -> tuple[GroupRow | None, list[OrderRow]]:
    """Return a group of linked orders, None where there is none, and its legs."""
    groups = fetch(connection, select(order_groups).where(order_groups.c.group_id == group_id), GroupRow)
    legs = fetch(connection, select(orders).where(orders.c.group_id == group_id), OrderRow)
    return (groups[0] if groups else None), legs
