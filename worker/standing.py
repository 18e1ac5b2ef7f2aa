"""What a routing decision reads from the database: who is alive, who is stopped, and where the positions are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, and_, func, select

from models.book import Row
from models.tables import halts, orders, position_snapshots, workers
from models.vocabulary import CLOSING, OPEN, Side


def holdings(connection: Connection, order: Row, valid_s: float) -> dict[str, Decimal]:
    """Return the free position in the order's symbol per broker, where it is known and fresh.

    Free means: less what other open closing orders of ours are going to use there.
    """
    route = list(order["route"] or ())
    fresh = order["updated_at"] - timedelta(seconds=valid_s)
    w, p, o = workers.c, position_snapshots.c, orders.c
    read = select(w.broker, func.max(w.positions_at)).where(w.broker.in_(route)).group_by(w.broker)
    known = {broker: Decimal(0) for broker, at in connection.execute(read) if at is not None and at >= fresh}
    held = select(p.broker, p.quantity).where(p.broker.in_(list(known)), p.symbol == order["symbol"])
    for broker, quantity in connection.execute(held):
        known[broker] += quantity
    busy = select(o.broker, o.side, o.quantity, o.filled_quantity).where(
        o.broker.in_(list(known)),
        o.symbol == order["symbol"],
        o.client_order_id != order["client_order_id"],
        o.side.in_([str(side) for side in CLOSING]),
        o.status.in_([str(status) for status in OPEN]),
    )
    for broker, side, quantity, filled in connection.execute(busy):
        known[broker] += (quantity - filled) * (-1 if side == Side.SELL else 1)
    return known


def unavailable(connection: Connection, brokers: Iterable[str], now: datetime, dead_after: float) -> set[str]:
    """Return the brokers that would not take an order now: halted, draining, or without a live worker."""
    stopped = {scope for (scope,) in connection.execute(select(halts.c.scope))}
    if "*" in stopped:
        return set(brokers)
    return stopped | (set(brokers) - alive_brokers(connection, now, dead_after))


def alive_brokers(connection: Connection, now: datetime, dead_after: float) -> set[str]:
    """Return the brokers that have a worker with a fresh heartbeat."""
    fresh = and_(workers.c.heartbeat_at >= now - timedelta(seconds=dead_after), workers.c.state != "stopped")
    return {broker for (broker,) in connection.execute(select(workers.c.broker).where(fresh).distinct())}
