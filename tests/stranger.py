"""Another program at the same accounts: it trades through the same doors, and corro knows nothing of it."""

from __future__ import annotations

import uuid
from typing import Any

from models.reports import OrderReport
from models.settings import load_settings
from tests.kit import World, environment
from worker import brokers
from worker.brokers.base import BrokerInterface, OrderRef, Ticket


class Stranger:
    """One connection of somebody else's to a broker of a world."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        key = f"CORRO_BROKERS__{name.upper()}"
        own = {f"{key}__CLIENT_ID": "77"} if name == "ibkr" else {}
        if name in ("tda", "schwab"):
            own = {f"{key}__TOKEN_PATH": str(world.home / f"{name}.stranger")}
        with environment({**world.environment, **own}):
            settings = load_settings()
        self.broker: BrokerInterface = brokers.load(settings, name)
        self.broker.updates(lambda _: None)
        self.broker.connect()

    def place(self, symbol: str, side: str, quantity: int, **terms: Any) -> OrderReport:
        """Place an order; returns it as the broker has it."""
        request = self.world.orders.request(symbol, side, quantity, **terms)
        id_ = f"stranger-{uuid.uuid4().hex[:8]}"
        self.world.money.foreign.add(id_)
        report = self.broker.place_order(
            Ticket(order=request, broker_client_order_id=id_, deadline_s=5, still_mine=lambda: None)
        )
        if self.broker.capabilities.client_order_id_length is None:
            self.world.money.foreign.add(str(report.broker_order_id))
        return report

    def cancel(self, request: Any, report: OrderReport) -> None:
        """Cancel an order of its own."""
        from worker.runtime.clock import utcnow

        self.broker.cancel_order(
            OrderRef(
                order=request,
                broker_client_order_id=report.broker_client_order_id or "",
                broker_order_id=report.broker_order_id,
                sent_at=utcnow(),
            )
        )

    def close(self) -> None:
        """Leave."""
        self.broker.disconnect()
