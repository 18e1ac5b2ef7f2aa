"""A connected Alpaca adapter, what it pushed, and the market behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from models.messages import OrderRequest
from models.reports import BrokerStatus, OrderReport
from models.settings import BrokerSettings
from tests.contract.doors import UNPACED, SandboxThread, sandbox
from tests.kit.waiting import eventually
from worker.brokers.alpaca import stream as alpaca_stream
from worker.brokers.alpaca.adapter import AlpacaBroker
from worker.brokers.base import OrderRef, Ticket
from worker.sandbox.alpaca.door import AlpacaDoor


class ConnectedAlpaca:
    """A connected adapter, what it pushed, and the market behind it."""

    def __init__(self, house: SandboxThread, **settings: Any) -> None:
        self.house = house
        self.door: Any = house.open(lambda market: AlpacaDoor(market))
        self.reports: list[Any] = []
        self.broker = AlpacaBroker("alpaca", self.settings(**settings))
        self.broker.updates(self.reports.append)

    def settings(self, **more: Any) -> BrokerSettings:
        table = {"base_url": self.door.url, "data_url": self.door.url, "key_id": "k", "secret_key": "s"}
        return BrokerSettings(adapter="alpaca", **(table | UNPACED | more))

    def place(self, order: OrderRequest, deadline_s: float = 3.0, **more: Any) -> OrderReport:
        return self.broker.place_order(ticket(order, deadline_s, **more))

    def find(self, order: OrderRequest) -> Any:
        return self.broker.find_order(ref(order))

    def settled(self, order: OrderRequest, status: BrokerStatus) -> OrderReport:
        return eventually(lambda: found.report if (found := self.find(order)).report.status is status else None)

    def pushed(self, kind: type, order: OrderRequest) -> list[Any]:
        ours = [r for r in self.reports if r.broker_client_order_id == order.client_order_id]
        return [r for r in ours if isinstance(r, kind)]

    def arrivals(self) -> int:
        return len(self.house.arrivals("alpaca"))


def order(symbol: str = "AAPL", side: str = "buy", quantity: Any = 10, **terms: Any) -> OrderRequest:
    return OrderRequest(symbol=symbol, side=side, quantity=quantity, **terms)


def resting(**terms: Any) -> OrderRequest:
    return order(order_type="limit", limit_price="1.00", **terms)


def ticket(wanted: OrderRequest, deadline_s: float = 3.0, still_mine: Any = lambda: None) -> Ticket:
    return Ticket(
        order=wanted,
        broker_client_order_id=wanted.client_order_id,
        deadline_s=deadline_s,
        still_mine=still_mine,
    )


def ref(wanted: OrderRequest, broker_order_id: str | None = None) -> OrderRef:
    return OrderRef(
        order=wanted,
        broker_client_order_id=wanted.client_order_id,
        broker_order_id=broker_order_id,
        sent_at=datetime.now(UTC),
    )


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectedAlpaca]:
    monkeypatch.setattr(alpaca_stream, "FIRST_PAUSE_S", 0.05)
    for name in [name for name in os.environ if name.startswith("APCA_")]:
        monkeypatch.delenv(name)
    with sandbox() as house:
        found = ConnectedAlpaca(house)
        found.broker.connect()
        eventually(lambda: found.broker.is_streaming)
        yield found
        found.broker.disconnect()
