"""The fake broker as a desk of the contract suite: what ships for other people's tests is held to the same cards."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from models.reports import BrokerStatus, OrderReport
from models.settings import BrokerSettings
from models.vocabulary import Side
from tests.contract.suite.desk import Desk, Seen, Trouble
from worker.brokers.base import BrokerInterface
from worker.brokers.fake import FakeAccount, FakeBroker
from worker.brokers.fake_account import Fault, Reading

#: The suite's words for what may become of an order, in the fake's.
FAULTS: dict[str, Fault] = {
    "refuse": "refuse", "hang": "lose_order", "accept_hang": "lose_answer", "accept_drop": "lose_answer",
    "reject_after_accept": "reject_later", "no_fill": "hold_back", "partial": "fill_half",
}  # fmt: skip
_READINGS: tuple[Reading, ...] = ("orders", "fills", "positions", "quote", "bars")


class FakeDesk(Desk):
    name = "fake"
    lost_changes = (Trouble("accept_drop", {"operation": "replace"}),)
    unreadable: ClassVar[Any] = {
        "find": [Trouble("unreadable", {"operation": "orders"}, None)],
        **{name: [Trouble("unreadable", {"operation": name}, None)] for name in _READINGS},
    }

    def open(self) -> None:
        self.account = FakeAccount()

    def shut(self) -> None:
        self.account.cut()

    def make(self, **settings: Any) -> FakeBroker:
        return FakeBroker("fake", BrokerSettings(adapter="fake", **settings), self.account)

    def leading_to(self, port: int) -> BrokerInterface:
        del port
        return FakeBroker("fake", None, FakeAccount(is_up=False))

    def refused_keys(self) -> BrokerInterface:
        return self.adapter(live=True)

    def real_money(self) -> BrokerInterface | None:
        return None

    def throttled(self) -> BrokerInterface:
        self.account.is_limited = True
        return self.connected()

    def fault(self, kind: str, count: int | None = 1, **options: Any) -> None:
        if kind == "unreadable":
            self.account.unreadable.add(options["operation"])
        elif kind == "slow":
            self.account.delay_s = options["seconds"]
        else:
            self.account.refusal = options.get("text", "no")
            self.account.will(*[FAULTS[kind]] * (100 if count is None else count))

    def clear(self) -> None:
        self.account.faults.clear()
        self.account.unreadable.clear()
        self.account.delay_s = 0.0

    def price(self, symbol: str, price: str) -> None:
        self.account.price(symbol, price)

    def hold(self, symbol: str, quantity: int) -> None:
        self.account.hold(symbol, quantity)

    def release(self) -> None:
        self.account.release()

    def cut(self) -> None:
        self.account.cut()

    def down(self) -> None:
        self.account.is_up = False
        self.account.cut()

    def up(self) -> None:
        self.clear()
        self.account.is_up = True

    def arrivals(self) -> int:
        return self.account.arrived

    def orders(self) -> list[Seen]:
        return [_seen(order) for order in self.account.orders.values()]

    def cancel_outside(self, seen: Seen) -> None:
        self.account.end(seen.handle, BrokerStatus.CANCELED)


def _seen(order: OrderReport) -> Seen:
    live = order.status in (BrokerStatus.ACCEPTED, BrokerStatus.PARTIALLY_FILLED)
    return Seen(
        handle=order.broker_order_id,
        symbol=str(order.symbol),
        side="buy" if order.side in (Side.BUY, Side.BUY_TO_COVER) else "sell",
        quantity=order.quantity or Decimal(0),
        filled=order.filled_quantity or Decimal(0),
        state="live" if live else str(order.status),
        order_type=str(order.order_type),
        time_in_force=str(order.time_in_force),
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        extended_hours=bool(order.extended_hours),
        client_order_id=order.broker_client_order_id,
    )
