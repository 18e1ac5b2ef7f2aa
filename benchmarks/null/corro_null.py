"""corro's adapter for the null broker: every order is accepted at once; cancels and replaces too, and noted as well.

Settings: `stamps`, the file that the calls are noted in; `answer`, accepted (the default) or filled; `marks`, whether
to note when each of corro's named points is reached, and when each commit that changed orders was done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from null_call import Commits, NullCall, NullMarks
from sqlalchemy import event
from sqlalchemy.engine import Engine

from models import crash_points
from models.errors import Unsupported
from models.messages import OrderRequest
from models.record.database import Database
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


def _mark_commits(marks: NullMarks) -> None:
    """Note when a transaction that changed orders is committed: before anybody is told."""
    told = Database._tell

    def tell(database: Database, changed: Collection[str]) -> None:
        for id_ in changed:
            marks.note(id_)
        told(database, changed)

    Database._tell = tell  # type: ignore[method-assign]


class NullBroker(BrokerInterface):
    """Accepts."""

    keys = frozenset({"stamps", "answer", "marks"})
    capabilities = Capabilities(parallel_orders=8, dedupes_client_order_id=True, replaces="in_place")

    def __init__(self, name: str, settings: Any) -> None:
        super().__init__(name, settings)
        stamps = self.settings.need("stamps", name)
        self._call, self._connected = NullCall(stamps), False
        self._cancels, self._replaces = NullCall(f"{stamps}.cancels"), NullCall(f"{stamps}.replaces")
        self._tell: Callable[[Report], None] = lambda report: None
        self._answer = BrokerStatus(self.settings.get("answer", "accepted"))
        event.listen(Engine, "commit", Commits(stamps).add)
        if self.settings.get("marks"):
            crash_points._armed_points = marks = NullMarks(stamps)  # type: ignore[assignment]
            _mark_commits(marks)

    def connect(self) -> None:
        self._connected = True

    def disconnect(self) -> None:
        self._connected = False

    def is_connected(self) -> bool:
        return self._connected

    def updates(self, callback: Callable[[Report], None]) -> None:
        self._tell = callback

    def place_order(self, ticket: Ticket) -> OrderReport:
        ticket.still_mine()
        number = self._call.place(ticket.broker_client_order_id)
        return self._report(number, ticket.broker_client_order_id, ticket.order, self._answer)

    def cancel_order(self, ref: OrderRef) -> None:
        self._cancels.place(str(ref.broker_client_order_id))
        self._tell(
            self._report(str(ref.broker_order_id), str(ref.broker_client_order_id), ref.order, BrokerStatus.CANCELED)
        )

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        ticket.still_mine()
        self._replaces.place(str(ref.broker_client_order_id))
        return self._report(
            str(ref.broker_order_id), str(ref.broker_client_order_id), ticket.order, BrokerStatus.ACCEPTED
        )

    def _report(self, number: str, id_: str, order: OrderRequest, status: BrokerStatus) -> OrderReport:
        filled = status is BrokerStatus.FILLED
        return OrderReport(
            broker_order_id=number,
            status=status,
            broker_client_order_id=id_,
            symbol=order.symbol,
            side=order.side,
            quantity=order.quantity,
            limit_price=order.limit_price,
            filled_quantity=order.units if filled else Decimal(0),
            avg_fill_price=Decimal(1) if filled else None,
        )

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
