"""A client, and the record of its orders as the tables have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from models.messages import OrderRequest
from models.record.database import Database
from models.record.tables import attempts, fills, order_events, orders
from producers.client import OrderClient
from producers.handles import Order
from tests.kit.waiting import eventually
from worker.sandbox.control import SandboxControl


class RecordedClient:
    """Short words for a client's orders: sent, waited for, looked up in the record and at the doors."""

    def __init__(self, client: OrderClient, database: Database, control: SandboxControl) -> None:
        self._client, self._database, self._control = client, database, control

    def request(self, symbol: str = "AAPL", side: str = "buy", quantity: Any = 10, **terms: Any) -> OrderRequest:
        """Make a request; `route` may be one name."""
        if isinstance(terms.get("route"), str):
            terms["route"] = [terms["route"]]
        return OrderRequest(symbol=symbol, side=side, quantity=quantity, **terms)

    def send(self, symbol: str = "AAPL", side: str = "buy", quantity: Any = 10, **terms: Any) -> Order:
        """Submit one order."""
        return self._client.submit(self.request(symbol, side, quantity, **terms))

    def wait(self, order: Order | str, status: str | Sequence[str], timeout: float = 15.0) -> dict[str, Any]:
        """Wait until an order has one of these statuses; returns its row with attempts, fills and events."""
        id_ = order if isinstance(order, str) else order.client_order_id
        wanted = [status] if isinstance(status, str) else list(status)
        eventually(lambda: (self.row(id_) or {}).get("status") in wanted, timeout, lambda: (wanted, self.whole(id_)))
        return self.whole(id_)

    def row(self, client_order_id: str) -> dict[str, Any] | None:
        """Return the row of an order, if there is one."""
        with self._database.read() as connection:
            found = connection.execute(select(orders).where(orders.c.client_order_id == client_order_id))
            row = found.mappings().first()
        return dict(row) if row is not None else None

    def whole(self, client_order_id: str) -> dict[str, Any]:
        """Return an order with its attempts, fills and events as the tables have them."""
        found: dict[str, Any] = self.row(client_order_id) or {}
        tables = {"attempts": attempts, "fills": fills, "events": order_events}
        with self._database.read() as connection:
            for name, table in tables.items():
                query = select(table).where(table.c.client_order_id == client_order_id)
                query = query.order_by(table.c.attempt_no if name == "attempts" else table.c.id)
                found[name] = [dict(row) for row in connection.execute(query).mappings()]
        return found

    def at_doors(self, client_order_id: str | None = None, symbol: str | None = None) -> list[dict[str, Any]]:
        """Return the orders at the doors: of one order of ours, or in one symbol."""
        found = self._control.orders()
        if symbol is not None:
            return [order for order in found if order["symbol"] == symbol]
        if client_order_id is None:
            return found
        tries = self.whole(client_order_id)["attempts"]
        ours = {(a["broker"], a["broker_client_order_id"]) for a in tries}
        theirs = {(a["broker"], a["broker_order_id"]) for a in tries if a["broker_order_id"]}
        return [
            order
            for order in found
            if (order["door"], order["client_order_id"]) in ours or (order["door"], str(order["wire_id"])) in theirs
        ]
