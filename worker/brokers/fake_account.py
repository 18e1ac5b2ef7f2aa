"""The broker's side of `worker.brokers.fake`: one account that does what a test tells it."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from models.messages import OrderRequest
from models.reports import DONE, BrokerStatus, FillReport, OrderReport, Report
from models.vocabulary import OrderType, TimeInForce, signed

#: What may become of the next order or replace: a definitive no; lost on the way there; taken, and the answer lost;
#: taken and rejected later; taken and not filled, or half filled, until `release`.
Fault = Literal["refuse", "lose_order", "lose_answer", "reject_later", "hold_back", "fill_half"]
#: Readings that may be made to fail.
Reading = Literal["orders", "fills", "positions", "quote", "bars"]

_PRICES = {"AAPL": "230", "MSFT": "430", "KO": "68", "TSLA": "260", "SPY": "575", "F": "11"}
_ZERO = Decimal(0)


@dataclass
class FakeAccount:
    """One account at a broker that does what it is told.

    Attributes:
        prices: by symbol, US dollars a share; a symbol without a price is not known here.
        positions: shares by symbol, negative is short.
        cash: US dollars; an order that costs more than four times as much is refused.
        orders: every order that was taken, by the broker's id, oldest first.
        fills: every execution, oldest first.
        arrived: orders whose bytes arrived, taken or not.
        is_up: False refuses connections.
        is_limited: True takes no order, because there were too many.
        refusal: the words of a refusal.
        delay_s: how long an answer to an order takes, seconds.
        unreadable: readings that fail.
    """

    prices: dict[str, Decimal] = field(default_factory=lambda: {s: Decimal(p) for s, p in _PRICES.items()})
    positions: dict[str, Decimal] = field(default_factory=dict)
    cash: Decimal = Decimal(1_000_000)
    orders: dict[str, OrderReport] = field(default_factory=dict)
    fills: list[FillReport] = field(default_factory=list)
    arrived: int = 0
    is_up: bool = True
    is_limited: bool = False
    refusal: str = "refused on purpose"
    delay_s: float = 0.0
    unreadable: set[Reading] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.listeners: list[Callable[[Report], None]] = []
        self.faults: deque[Fault] = deque()
        #: Shares of an order that may be filled for now.
        self._caps: dict[str, Decimal] = {}
        self._ids = itertools.count(1)
        self.lock = threading.RLock()

    # -- WHAT A TEST SAYS ---
    def will(self, *faults: Fault) -> None:
        """Have these happen to the next orders or replaces, one each."""
        self.faults.extend(faults)

    def price(self, symbol: str, price: Decimal | str | int) -> None:
        """Set a price, US dollars a share, and fill what it makes marketable."""
        with self.lock:
            self.prices[symbol] = Decimal(price)
            for order_id, order in list(self.orders.items()):
                if order.symbol == symbol:
                    self._match(order_id)

    def hold(self, symbol: str, quantity: Decimal | int) -> None:
        """Set a position, in shares; negative is short."""
        self.positions[symbol] = Decimal(quantity)

    def release(self) -> None:
        """Fill what `hold_back` and `fill_half` keep from being filled."""
        with self.lock:
            self._caps.clear()
            for order_id in list(self.orders):
                self._match(order_id)

    def end(self, broker_order_id: str, status: BrokerStatus, message: str | None = None) -> None:
        """Close a live order, as the broker or a person may, and tell about it."""
        with self.lock:
            self._change(broker_order_id, status=status, raw_status=str(status), message=message)

    def cut(self) -> None:
        """Cut every connection once."""
        self.listeners.clear()

    # -- WHAT AN ADAPTER ASKS ---
    def take(self, client_order_id: str, order: OrderRequest, fault: Fault | None) -> OrderReport:
        """Take an order and fill what the market allows."""
        with self.lock:
            order_id, now = str(next(self._ids)), datetime.now(UTC)
            self.orders[order_id] = OrderReport(
                broker_order_id=order_id, broker_client_order_id=client_order_id, status=BrokerStatus.ACCEPTED,
                symbol=order.symbol, side=order.side, order_type=order.order_type, time_in_force=order.time_in_force,
                quantity=order.quantity, limit_price=order.limit_price, stop_price=order.stop_price,
                trail_amount=order.trail_amount, trail_percent=order.trail_percent, extended_hours=order.extended_hours,
                filled_quantity=_ZERO, raw_status="accepted", submitted_at=now, updated_at=now,
            )  # fmt: skip
            self._hold_back(order_id, order.units, fault)
            self._change(order_id)
            if fault == "reject_later":
                self.end(order_id, BrokerStatus.REJECTED, "rejected on purpose")
            self._match(order_id)
            if self.orders[order_id].status not in DONE and order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
                self.end(order_id, BrokerStatus.CANCELED)
            return self.orders[order_id]

    def alter(self, order_id: str, order: OrderRequest, fault: Fault | None) -> OrderReport:
        """Change quantity and prices of a live order in its place."""
        with self.lock:
            self._hold_back(order_id, self.orders[order_id].filled_quantity or _ZERO, fault)
            self._change(
                order_id, quantity=order.quantity, limit_price=order.limit_price, stop_price=order.stop_price,
                trail_amount=order.trail_amount, trail_percent=order.trail_percent,
            )  # fmt: skip
            self._match(order_id)
            return self.orders[order_id]

    def named(self, client_order_id: str) -> OrderReport | None:
        """Return the order with this id of ours."""
        return next((o for o in list(self.orders.values()) if o.broker_client_order_id == client_order_id), None)

    # -- INSIDE ---
    def _hold_back(self, order_id: str, quantity: Decimal, fault: Fault | None) -> None:
        if fault in ("hold_back", "fill_half"):
            self._caps[order_id] = quantity // 2 if fault == "fill_half" else _ZERO

    def _match(self, order_id: str) -> None:
        """Fill what the price and the faults allow."""
        order = self.orders[order_id]
        assert order.symbol is not None
        assert order.side is not None
        assert order.quantity is not None
        done, sign = order.filled_quantity or _ZERO, signed(order.side)
        size = min(self._caps.get(order_id, order.quantity), order.quantity) - done
        whole = order.time_in_force is not TimeInForce.FOK or size + done == order.quantity
        if order.status in DONE or size <= 0 or not whole or not self._is_marketable(order, sign):
            return
        price = self.prices[order.symbol]
        fill = FillReport(
            execution_id=f"{order_id}.{len(self.fills) + 1}", quantity=size, price=price, currency="USD",
            filled_at=datetime.now(UTC), symbol=order.symbol, side=order.side, broker_order_id=order_id,
            broker_client_order_id=order.broker_client_order_id, cumulative_quantity=done + size,
            commission=_ZERO, commission_currency="USD",
        )  # fmt: skip
        self.fills.append(fill)
        self.positions[order.symbol] = self.positions.get(order.symbol, _ZERO) + sign * size
        self._tell(fill)
        status = BrokerStatus.FILLED if done + size == order.quantity else BrokerStatus.PARTIALLY_FILLED
        paid = (order.avg_fill_price or _ZERO) * done + price * size
        self._change(
            order_id, status=status, raw_status=str(status), filled_quantity=done + size,
            avg_fill_price=paid / (done + size),
        )  # fmt: skip

    def _is_marketable(self, order: OrderReport, sign: int) -> bool:
        """Tell whether the price reaches the order's: a stop from its far side, a limit from its near one."""
        price = self.prices[str(order.symbol)]
        if order.order_type is OrderType.TRAILING_STOP:
            return False  # prices here do not move by themselves
        triggered = order.stop_price is None or (price - order.stop_price) * sign >= 0
        return triggered and (order.limit_price is None or (order.limit_price - price) * sign >= 0)

    def _change(self, order_id: str, **changes: object) -> None:
        self.orders[order_id] = replace(self.orders[order_id], updated_at=datetime.now(UTC), **changes)  # type: ignore[arg-type]
        self._tell(self.orders[order_id])

    def _tell(self, report: Report) -> None:
        for listener in list(self.listeners):
            listener(report)
