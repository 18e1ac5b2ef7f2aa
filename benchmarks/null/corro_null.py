"""corro's adapter for the null broker: every order is accepted at once, and nothing is ever reported afterwards.

Settings: `stamps`, the file that the calls are noted in; `answer`, accepted (the default) or filled; `marks`, whether
to note when each of corro's named points is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from null_call import Commits, NullCall, NullMarks
from sqlalchemy import event
from sqlalchemy.engine import Engine

from models import crash_points
from models.errors import Unsupported
from models.reports import (
    AccountReport,
    Bar,
    BrokerStatus,
    FillReport,
    Missing,
    OrderReport,
    PositionReport,
    QuoteReport,
    Report,
    Sighting,
)
from worker.brokers.base import BrokerInterface, Capabilities, OrderRef, Ticket


class NullBroker(BrokerInterface):
    """Accepts."""

    keys = frozenset({"stamps", "answer", "marks"})
    capabilities = Capabilities(parallel_orders=8, dedupes_client_order_id=True)

    def __init__(self, name: str, settings: Any) -> None:
        super().__init__(name, settings)
        stamps = self.settings.need("stamps", name)
        self._call, self._connected = NullCall(stamps), False
        self._answer = BrokerStatus(self.settings.get("answer", "accepted"))
        event.listen(Engine, "commit", Commits(stamps).add)
        if self.settings.get("marks"):
            crash_points._armed_points = NullMarks(stamps)  # type: ignore[assignment]

    def connect(self) -> None:
        self._connected = True

    def disconnect(self) -> None:
        self._connected = False

    def is_connected(self) -> bool:
        return self._connected

    def updates(self, callback: Callable[[Report], None]) -> None:
        pass

    def place_order(self, ticket: Ticket) -> OrderReport:
        ticket.still_mine()
        number = self._call.place(ticket.broker_client_order_id)
        order, filled = ticket.order, self._answer is BrokerStatus.FILLED
        return OrderReport(
            broker_order_id=number,
            status=self._answer,
            broker_client_order_id=ticket.broker_client_order_id,
            symbol=order.symbol,
            side=order.side,
            quantity=order.quantity,
            filled_quantity=order.quantity if filled else Decimal(0),
            avg_fill_price=Decimal(1) if filled else None,
        )

    def cancel_order(self, ref: OrderRef) -> None:
        raise Unsupported(f"{self.name} only accepts", broker=self.name)

    def find_order(self, ref: OrderRef) -> Sighting:
        return Missing(evidence="the null broker keeps nothing")

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        return []

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        return []

    def get_account_info(self) -> AccountReport:
        money = Decimal(1_000_000)
        return AccountReport(account_id="NULL", buying_power=money, cash=money, equity=money, paper=True)

    def get_positions(self) -> Sequence[PositionReport]:
        return []

    def get_market_data(self, symbol: str) -> QuoteReport:
        return QuoteReport(symbol=symbol, bid=Decimal(1), ask=Decimal(1), last=Decimal(1), at=datetime.now(UTC))

    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        raise Unsupported(f"{self.name} has no bars", broker=self.name)
