"""The seed's UnifiedBroker: a thin face of the client, for strategies that were written against it.

The difference is what happens behind it: the seed fell back on any exception, which doubles orders; here an order whose
outcome is unknown stays with its broker until that broker has shown what is true.
"""

from __future__ import annotations

from typing import Any

from models.messages import OrderRequest
from models.reports import PositionReport
from models.vocabulary import LIVE, Status
from producers.client import OrderClient


class UnifiedBroker:
    """Executes orders over all configured brokers.

    Args:
        client: None makes one from the settings.
        timeout: seconds that `execute_order` waits for the order to be filled or ended.
    """

    def __init__(self, client: OrderClient | None = None, timeout: float = 10.0) -> None:
        self.client, self.timeout = client or OrderClient(), timeout

    @property
    def primary_broker(self) -> str:
        """The first broker of the route."""
        return self.client.settings.route[0]

    @property
    def brokers(self) -> tuple[str, ...]:
        """All brokers, in the order of the route."""
        return self.client.settings.route

    def execute_order(self, order: OrderRequest, broker_name: str | None = None) -> dict[str, Any]:
        """Execute an order and wait for what becomes of it.

        Args:
            order: the request.
            broker_name: only this broker, without fallback; None takes the order's route, or the one of the settings.

        Returns:
            success (filled, or live at a broker), order_id (ours), broker_order_id, status, broker, symbol, qty, side,
            filled_qty, avg_fill_price, executed_on_backup (the broker, if it was not the first) and error. A `status`
            of submitted means: not known yet; ask again with `client.order(order_id)`, do not send another order.
        """
        if broker_name is not None:
            order = OrderRequest(**{**order.model_dump(), "route": [broker_name]})
        placed = self.client.submit(order).wait(self.timeout)
        first = placed.row["route"][0]
        working = placed.status in LIVE | {Status.FILLED}
        return {
            "success": working,
            "order_id": placed.client_order_id,
            "broker_order_id": placed.broker_order_id,
            "status": str(placed.status),
            "broker": placed.broker,
            "symbol": placed.symbol,
            "qty": placed.quantity,
            "side": placed.side,
            "filled_qty": placed.filled_quantity,
            "avg_fill_price": placed.avg_fill_price,
            "executed_on_backup": placed.broker if working and placed.broker != first else None,
            "error": None if working else placed.reason,
        }

    def get_consolidated_positions(self) -> dict[str, list[PositionReport]]:
        """Return positions by broker; those that did not answer are in the result's `unreachable`."""
        return self.client.positions()
