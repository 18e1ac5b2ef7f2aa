"""The plain driver, for a producer alone: an order and its event in a transaction, as anybody would write it."""

from __future__ import annotations

from typing import Any

import common
import psycopg

_ORDER = f"INSERT INTO orders VALUES ({', '.join(['%s'] * 12)})"
_EVENT = "INSERT INTO order_events VALUES (%s, %s, %s)"
_connections: list[Any] = []


def enqueue(order: dict[str, str]) -> None:
    if not _connections:
        _connections.append(psycopg.connect(common.CONFIG["database"]))
    connection = _connections[0]
    now = common.now()
    connection.execute(_ORDER, (*order.values(), "queued", None, now))
    connection.execute(_EVENT, (order["client_order_id"], now, "created"))
    connection.commit()
