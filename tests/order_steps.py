"""Orders put into the record step by step, as workers do it, without one."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import insert

from models.record.database import Database
from models.record.tables import attempts, order_events, orders
from worker.runtime.clock import utcnow


class OrderSteps:
    """Orders as they are in the record, step by step."""

    def __init__(self, database: Database) -> None:
        self.database, self.now = database, utcnow()

    def order(self, id_: str, route: list[str], created_ago: float = 0.0, **changes: Any) -> None:
        row = {
            "client_order_id": id_, "version": 1, "symbol": "KO", "side": "buy", "quantity": Decimal(1),
            "order_type": "market", "time_in_force": "day", "status": "queued", "route": route, "broker": route[0],
            "attempt_no": 0, "filled_quantity": Decimal(0), "body_hash": "0" * 64, "available_at": self.now,
            "created_at": self.now - timedelta(seconds=created_ago), "updated_at": self.now,
        } | changes  # fmt: skip
        with self.database.write() as connection:
            connection.execute(insert(orders).values(**row))
        self.event(id_, "queued", None, "queued")

    def attempt(self, id_: str, number: int, broker: str, **changes: Any) -> None:
        self.now += timedelta(milliseconds=1)
        row = {
            "client_order_id": id_, "attempt_no": number, "broker": broker, "broker_client_order_id": id_,
            "outcome": "sending", "worker": "w", "started_at": self.now, "lease_until": self.now, "checks": 0,
            "missing": 0,
        } | changes  # fmt: skip
        with self.database.write() as connection:
            connection.execute(insert(attempts).values(**row))
        self.event(id_, "claimed", "queued", "submitted")

    def event(self, id_: str, kind: str, before: str | None, after: str, later: float = 0.001) -> None:
        self.now += timedelta(seconds=later if kind != "claimed" else 0)
        row = {"client_order_id": id_, "at": self.now, "kind": kind, "from_status": before, "to_status": after}
        with self.database.write() as connection:
            connection.execute(insert(order_events).values(**row))

    def one_goes_to_another_account(self) -> None:
        """One order is filled in the account that it names, another one falls back from that to another account."""
        self.order("a-1", ["ibkr:ira"], broker="ibkr", account="ira")
        self.attempt("a-1", 1, "ibkr", account="ira", outcome="accepted")
        self.order("a-2", ["ibkr:ira", "ibkr:main"], broker="ibkr", account="ira")
        self.attempt("a-2", 1, "ibkr", account="ira", outcome="refused")
        self.event("a-2", "refused", "submitted", "submitted")
        self.event("a-2", "requeued", "submitted", "queued", later=0)
        self.attempt("a-2", 2, "ibkr", account="main", outcome="accepted")

    def one_falls_back_and_one_is_canceled(self) -> None:
        """One order goes from ibkr to alpaca and is filled there, the other is canceled at ibkr at once."""
        self.order("o-1", ["ibkr", "alpaca"], created_ago=0.2)
        self.attempt("o-1", 1, "ibkr", outcome="refused")
        self.event("o-1", "refused", "submitted", "submitted")
        self.event("o-1", "requeued", "submitted", "queued", later=0)
        self.attempt("o-1", 2, "alpaca", outcome="accepted")
        self.event("o-1", "filled", "submitted", "partially_filled")
        self.event("o-1", "filled", "partially_filled", "filled")
        self.order("o-2", ["ibkr"])
        self.attempt("o-2", 1, "ibkr", outcome="accepted")
        self.event("o-2", "canceled", "submitted", "canceled")
