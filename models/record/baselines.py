"""The baselines of positions follow the executions that were folded into them and have changed since."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, select, update

from models.record.statements import upsert
from models.record.tables import position_baselines, position_ledgers


@dataclass(frozen=True, slots=True)
class Moved:
    """An execution that is in the database counts more or less than it did."""

    broker: str
    #: Id of its row.
    fill_id: int
    symbol: str
    #: Signed: what the position gains by the change.
    shares: Decimal


def follow(connection: Connection, moves: Iterable[Moved], now: datetime, *, external: bool = False) -> None:
    """Change the baselines that contain these executions; the others are added up anew with every reading.

    Args:
        connection: of the transaction that changes the executions.
        moves: what changed.
        now: the time of the transaction.
        external: they are other people's.
    """
    by_broker: dict[str, list[Moved]] = {}
    for move in moves:
        by_broker.setdefault(move.broker, []).append(move)
    ledgers = position_ledgers.c
    top = ledgers.external_fills_id if external else ledgers.fills_id
    for broker in sorted(by_broker):
        # The ledger's lock: whoever folds reads the executions as they were before, or as they are after this.
        folded = connection.execute(select(top).where(ledgers.broker == broker).with_for_update()).scalar()
        for move in by_broker[broker]:
            if folded is not None and move.fill_id <= folded:
                shift_baseline(connection, broker, move.symbol, move.shares, now)


def shift_baseline(connection: Connection, broker: str, symbol: str, shares: Decimal, now: datetime) -> None:
    """Add shares to a baseline."""
    b = position_baselines.c
    key = (b.broker == broker) & (b.symbol == symbol)
    before = connection.execute(select(b.quantity).where(key)).scalar()
    if before is None:
        row = {"broker": broker, "symbol": symbol, "quantity": shares, "updated_at": now}
        connection.execute(upsert(connection, position_baselines).values(**row).on_conflict_do_nothing())
    else:
        values = {"quantity": before + shares, "updated_at": now}
        connection.execute(update(position_baselines).where(key).values(**values))
