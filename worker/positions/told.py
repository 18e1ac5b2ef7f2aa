"""Positions as their brokers told them last, and of which brokers they are not known: never shown as nothing held."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from models.clock import utcnow
from models.destinations import broker_of
from models.record.database import Database
from models.record.reading import position_rows, worker_rows
from models.record.rows import PositionRow, WorkerRow
from models.settings import Settings

#: Readings in a row that may be missing before positions count as not known any more, and what one may take, seconds.
_MISSING, _ONE_TAKES_S = 2, 15.0
_COLUMNS = tuple(PositionRow.__annotations__)


class ToldPositions(NamedTuple):
    """What brokers told last, and when each was read last, by its name; None where it never was."""

    rows: list[dict[str, object]]
    read_at: dict[str, datetime | None]


def told_positions(database: Database, settings: Settings) -> ToldPositions:
    """Return positions as brokers told them last; `error` says of which they are old, or not known at all.

    Raises:
        DatabaseUnavailable: nobody can say.
    """
    with database.read() as connection:
        held, workers = position_rows(connection), worker_rows(connection)
    good_for = timedelta(seconds=_MISSING * settings.timing.positions_every + _ONE_TAKES_S)
    read_at = {name: last_read(name, held, workers) for name in dict.fromkeys(map(broker_of, settings.destinations))}
    return ToldPositions(with_the_unknown(held, workers, settings.destinations, utcnow(), good_for), read_at)


def with_the_unknown(
    held: Sequence[PositionRow],
    workers: Sequence[WorkerRow],
    destinations: Collection[str],
    now: datetime,
    good_for: timedelta,
) -> list[dict[str, object]]:
    """Add to what is held whether it still is known: pure.

    Args:
        held: what brokers told last.
        workers: every worker that is remembered.
        destinations: the brokers, and accounts of them, that are configured.
        now: the moment.
        good_for: a reading is.

    Returns:
        A row for each position; and one of a broker's name and `error` alone where nobody knows what it holds.
    """
    why = {broker: _why(broker, held, workers, now, good_for) for broker in map(broker_of, destinations)}
    here = [row for row in held if row["broker"] in destinations]
    rows: list[dict[str, object]] = [{**row, "error": why[broker_of(row["broker"])]} for row in here]
    rows += [{**row, "error": _left_behind(row)} for row in held if row["broker"] not in destinations]
    shown = {broker_of(row["broker"]) for row in here}
    silent = [broker for broker, words in why.items() if words and broker not in shown]
    blank = dict.fromkeys(_COLUMNS)
    return rows + [{**blank, "broker": broker, "error": why[broker]} for broker in silent]


def _left_behind(row: PositionRow) -> str:
    """Say why a position is not known whose broker, or account, no setting has any more: nobody reads it."""
    return f"not known since {row['taken_at']:%Y-%m-%d %H:%M:%S} UTC; {row['broker']} is not configured"


def last_read(broker: str, held: Sequence[PositionRow], workers: Sequence[WorkerRow]) -> datetime | None:
    """Return when the positions of a broker were read last; None where they never were: pure."""
    read = [row["positions_at"] for row in workers if row["broker"] == broker and row["positions_at"] is not None]
    read += [row["taken_at"] for row in held if broker_of(row["broker"]) == broker]
    return max(read, default=None)


def _why(
    broker: str, held: Sequence[PositionRow], workers: Sequence[WorkerRow], now: datetime, good_for: timedelta
) -> str | None:
    """Say why the positions of a broker are not known; None where they are."""
    read = last_read(broker, held, workers)
    if read is not None and now - read <= good_for:
        return None
    last = "not known: never read" if read is None else f"not known since {read:%Y-%m-%d %H:%M:%S} UTC"
    mine = [row for row in workers if row["broker"] == broker]
    if not mine:
        return f"{last}; no worker of {broker} has been seen"
    newest = max(mine, key=lambda row: row["heartbeat_at"])
    silence = (now - newest["heartbeat_at"]).total_seconds()
    state = "silent" if silence > good_for.total_seconds() and newest["state"] != "stopped" else newest["state"]
    return f"{last}; its worker is {state}" + (f": {newest['detail']}" if newest["detail"] else "")
