"""corro's own adapters at the sandbox's doors, as desks of the contract suite."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest

from models.settings import BrokerSettings
from tests.contract.doors import UNPACED, SandboxThread, same_clock, sandbox, tda_table
from tests.contract.fake_desk import FakeDesk
from tests.contract.suite.desk import Desk, Seen, Trouble, eventually
from worker.brokers.alpaca import orders as alpaca_orders
from worker.brokers.alpaca import rest as alpaca_rest
from worker.brokers.alpaca.adapter import AlpacaBroker
from worker.brokers.base import BrokerInterface
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.brokers.ibkr.unnumbered import Unnumbered
from worker.brokers.tda import orders as tda_orders
from worker.brokers.tda import rest as tda_rest
from worker.brokers.tda.adapter import SchwabBroker, TdaBroker
from worker.sandbox.alpaca.door import AlpacaDoor
from worker.sandbox.market.market import MarketOrder
from worker.sandbox.spoilt import FLOODS
from worker.sandbox.tda.door import TdaDoor
from worker.sandbox.tws.door import TwsDoor

_LIVE = ("new", "partially_filled")


class SandboxDesk(Desk):
    """A door of the sandbox, on a thread of this process."""

    #: Name of the door, of the adapter and of the broker in the settings.
    door_name: ClassVar[str]
    adapters: ClassVar[type[BrokerInterface]]

    def open(self) -> None:
        self._exit = ExitStack()
        self.house: SandboxThread = self._exit.enter_context(sandbox())
        self.door: Any = self.house.open(self.make_door)

    def make_door(self, market: Any) -> Any:
        raise NotImplementedError

    def table(self) -> dict[str, Any]:
        raise NotImplementedError

    def open_connections(self) -> object:
        raise NotImplementedError

    def shut(self) -> None:
        self._exit.close()

    def make(self, **settings: Any) -> BrokerInterface:
        return self.adapters(self.door_name, BrokerSettings(adapter=self.door_name, **(self.table() | settings)))

    def fault(self, kind: str, count: int | None = 1, **options: Any) -> None:
        self.house.fault(self.door_name, kind, count, **options)

    def clear(self) -> None:
        self.house.clear()

    def price(self, symbol: str, price: str) -> None:
        self.house.price(symbol, price)

    def hold(self, symbol: str, quantity: int) -> None:
        self.house.hold(self.door_name, symbol, quantity)

    def release(self) -> None:
        self.house.call(lambda: self.house.market.release(self.door_name))

    def cut(self) -> None:
        self.fault("disconnect")
        eventually(lambda: all(fault.kind != "disconnect" for fault in self.house.call(self.house.market.faults.all)))

    def down(self) -> None:
        self.fault("down", None)
        eventually(lambda: not self._listens() and not self.open_connections())

    def up(self) -> None:
        self.clear()
        eventually(self._listens)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.door.port), timeout=1).close()
        except OSError:
            return False
        return True

    def arrivals(self) -> int:
        return len(self.house.arrivals(self.door_name))

    def orders(self) -> list[Seen]:
        return [_seen(order) for order in self.house.call(lambda: self.house.market.orders(self.door_name))]

    def cancel_outside(self, seen: Seen) -> None:
        self.house.call(lambda: self.house.market.cancel(seen.handle))


def _seen(order: MarketOrder) -> Seen:
    return Seen(
        handle=order,
        symbol=order.symbol,
        side="buy" if order.is_buy else "sell",
        quantity=order.quantity,
        filled=order.filled_quantity,
        state="live" if order.state in _LIVE else order.state,
        order_type=order.order_type,
        time_in_force=order.time_in_force,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        extended_hours=order.extended_hours,
        client_order_id=order.client_order_id,
    )


# -- INTERACTIVE BROKERS ---
def _unlisted(*operations: str) -> list[Trouble]:
    """No answer; the rows without their end; the connection cut in the middle."""
    ways: list[tuple[str, dict[str, Any]]] = [("hang", {}), ("half", {}), ("half", {"cut": True})]
    return [Trouble(kind, {"operation": name, **how}) for name in operations for kind, how in ways]


class IbInsyncDesk(SandboxDesk):
    name = "ibkr-ib_insync"
    door_name = "ibkr"
    adapters = IbkrBroker
    sdk: ClassVar[str] = "ib_insync"
    repeats = ("duplicate_status",)
    lost_changes = (
        Trouble("accept_drop", {"operation": "replace"}),
        Trouble("accept_hang", {"operation": "replace"}),
    )
    unreadable = {
        "find": _unlisted("open_orders", "executions", "completed"),
        "open": _unlisted("open_orders"),
        "orders": _unlisted("open_orders", "completed"),
        "fills": _unlisted("executions"),
        "positions": _unlisted("positions"),
        "quote": [Trouble("error_code", {"operation": "quote", "code": 354, "text": "not subscribed"})],
        "bars": [Trouble("error_code", {"operation": "bars", "code": 162, "text": "no permissions"})],
    }

    def make_door(self, market: Any) -> Any:
        return TwsDoor(market)

    def open_connections(self) -> object:
        return self.door._connections

    def table(self) -> dict[str, Any]:
        found = {"port": self.door.port, "client_id": 1, "sdk": self.sdk}
        return found | {"request_timeout": 0.8, "connect_timeout": 1, "heartbeat": 0.4}

    def leading_to(self, port: int) -> BrokerInterface:
        return self.adapter(port=port)

    def refused_keys(self) -> BrokerInterface:
        return self.adapter(account="DU9999999")

    def real_money(self) -> BrokerInterface | None:
        return self.adapter(port=7496)

    def hasten(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Unnumbered, "OVERDUE_S", 0.2)

    def throttled(self) -> BrokerInterface:
        """IB counts messages and drops the connection, so the adapter keeps the count itself."""
        return self.connected(client_id=7, messages_per_second=8)


class IbAsyncDesk(IbInsyncDesk):
    name = "ibkr-ib_async"
    sdk = "ib_async"


# -- HTTP ---
class HttpDesk(SandboxDesk):
    """What Alpaca, TDA and Schwab have in common."""

    lost_answers: ClassVar[Sequence[Trouble]] = (
        Trouble("accept_drop"),
        Trouble("accept_hang"),
        Trouble("status", {"status": 500, "accepted": True, "operation": "place"}),
        Trouble("status", {"status": 503, "accepted": True, "operation": "place"}),
        Trouble("status", {"status": 504, "accepted": True, "operation": "place", "html": True}),
        Trouble("garbage", {"accepted": True, "operation": "place"}),
        Trouble("half_reply", {"accepted": True, "operation": "place"}),
        *(Trouble("flood", {"accepted": True, "operation": "place", "way": way}) for way in FLOODS),
    )
    lost_sends = (
        Trouble("hang"),
        Trouble("status", {"status": 503, "operation": "place"}),
        Trouble("status", {"status": 502, "operation": "place", "html": True}),
        Trouble("garbage", {"accepted": False, "operation": "place"}),
        Trouble("half_reply", {"accepted": False, "operation": "place"}),
    )
    lost_changes = (
        Trouble("accept_drop", {"operation": "replace"}),
        Trouble("accept_hang", {"operation": "replace"}),
        Trouble("status", {"status": 500, "accepted": True, "operation": "replace"}),
        Trouble("garbage", {"accepted": True, "operation": "replace"}),
        Trouble("half_reply", {"accepted": True, "operation": "replace"}),
    )

    def open_connections(self) -> object:
        return self.door._runner.server.connections

    def throttled(self) -> BrokerInterface:
        limited = self.connected()
        self.fault("rate_limit", None, per_minute=0)
        return limited


def _broken(operation: str, *more: Trouble) -> tuple[Trouble, ...]:
    """An error of the broker, one of somebody in between, 200 with anything but the answer, and half an answer."""
    statuses = [{"status": 500}, {"status": 503, "html": True}, {"status": 200}, {"status": 200, "html": True}]
    always = [("status", how) for how in statuses] + [("half", {}), ("half", {"cut": True})]
    always += [("garbage", {}), ("half_reply", {}), ("flood", {"way": "gzip"})]
    return (*(Trouble(kind, {"operation": operation, **how}, None) for kind, how in always), *more)


class AlpacaDesk(HttpDesk):
    name = "alpaca"
    door_name = "alpaca"
    adapters = AlpacaBroker
    repeats = ("duplicate_update",)
    unreadable = {
        "find": _broken("find", Trouble("status", {"operation": "find", "status": 404, "html": True}, None)),
        "open": _broken("list"),
        "orders": _broken("list"),
        "fills": _broken("activities"),
        "positions": _broken("positions"),
        "quote": _broken("quote"),
        "bars": _broken("bars"),
    }

    def make_door(self, market: Any) -> Any:
        return AlpacaDoor(market)

    def table(self) -> dict[str, Any]:
        return {"base_url": self.door.url, "data_url": self.door.url, "key_id": "k", "secret_key": "s", **UNPACED}

    def ready(self) -> None:
        broker: Any = self.broker
        eventually(lambda: broker.is_streaming)

    def leading_to(self, port: int) -> BrokerInterface:
        return self.adapter(base_url=f"http://127.0.0.1:{port}", data_url=f"http://127.0.0.1:{port}")

    def refused_keys(self) -> BrokerInterface:
        return self.adapter(key_id="wrong")

    def real_money(self) -> BrokerInterface | None:
        return self.adapter(base_url="https://api.alpaca.markets")

    def hasten(self, patch: pytest.MonkeyPatch) -> None:
        for module in (alpaca_orders, alpaca_rest):
            patch.setattr(module, "READ_WITHIN_S", 0.8)


class TdaDesk(HttpDesk):
    name = "tda"
    door_name = "tda"
    adapters = TdaBroker
    lost_answers = (*HttpDesk.lost_answers, Trouble("location_missing"), Trouble("location_foreign"))
    unreadable = {
        "find": _broken("list"),
        "open": _broken("list"),
        "orders": _broken("list"),
        "fills": _broken("list"),
        "positions": _broken("account"),
        "quote": _broken("quote"),
        "bars": _broken("bars"),
    }

    def make_door(self, market: Any) -> Any:
        dialect: Any = self.door_name
        return TdaDoor(market, dialect, dialect)

    def table(self) -> dict[str, Any]:
        return tda_table(self.door.url, self.home, self.door_name)

    def make(self, **settings: Any) -> BrokerInterface:
        made = super().make(**settings)
        return same_clock(made) if isinstance(made, TdaBroker) else made

    def leading_to(self, port: int) -> BrokerInterface:
        return self.adapter(base_url=f"http://127.0.0.1:{port}")

    def refused_keys(self) -> BrokerInterface:
        return self.adapter(refresh_token="wrong", token_path=str(self.home / "other.json"))

    def real_money(self) -> BrokerInterface | None:
        return self.adapter(base_url=None)

    def hasten(self, patch: pytest.MonkeyPatch) -> None:
        for module in (tda_orders, tda_rest):
            patch.setattr(module, "READ_WITHIN_S", 0.8)


class SchwabDesk(TdaDesk):
    name = "schwab"
    door_name = "schwab"
    adapters = SchwabBroker


DESKS: tuple[type[Desk], ...] = (IbInsyncDesk, IbAsyncDesk, AlpacaDesk, TdaDesk, SchwabDesk, FakeDesk)
