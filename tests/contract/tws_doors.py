"""TWS doors, adapters of either SDK connected to them, and short words for their orders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from models.messages import OrderRequest
from models.reports import BrokerStatus, Found, OrderReport
from models.settings import BrokerSettings
from tests.contract.doors import SandboxThread, sandbox
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.sandbox.faults import Fault
from worker.sandbox.tws.door import TwsDoor

SDKS = ("ib_insync", "ib_async")
DONE = (BrokerStatus.FILLED, BrokerStatus.CANCELED)


class TwsDoors:
    """A TWS door, and adapters connected to it."""

    def __init__(self, house: SandboxThread, sdk: str) -> None:
        self.house, self.sdk = house, sdk
        self.door: Any = house.open(lambda market: TwsDoor(market))  # type: ignore[arg-type, return-value]
        self.brokers: list[IbkrBroker] = []

    def broker(self, client_id: int = 1, connect: bool = True, **settings: object) -> IbkrBroker:
        values = {"port": self.door.port, "client_id": client_id, "sdk": self.sdk, "request_timeout": 1}
        broker = IbkrBroker("ibkr", BrokerSettings(adapter="ibkr", **{**values, **settings}))  # type: ignore[arg-type]
        self.brokers.append(broker)
        if connect:
            broker.connect()
        return broker

    def fault(self, kind: str, count: int | None = 1, operation: str | None = None, **options: Any) -> None:
        fault = Fault("ibkr", kind, count, operation=operation, options=options)
        self.house.call(lambda: self.house.market.faults.add(fault))

    def close(self) -> None:
        for broker in self.brokers:
            broker.disconnect()


@pytest.fixture(params=SDKS)
def gateway(request: pytest.FixtureRequest) -> Iterator[TwsDoors]:
    with sandbox() as house:
        gateway = TwsDoors(house, request.param)
        yield gateway
        gateway.close()


def an_order(**changes: Any) -> OrderRequest:
    return OrderRequest(**{"symbol": "AAPL", "side": "buy", "quantity": 10, **changes})


def a_resting_order(**changes: Any) -> OrderRequest:
    return an_order(order_type="limit", limit_price="1.00", **changes)


def place(
    broker: IbkrBroker, ref: str, order: OrderRequest, deadline_s: float = 5.0, still_mine: Callable[[], None] = int
) -> OrderReport:
    ticket = Ticket(order=order, broker_client_order_id=ref, deadline_s=deadline_s, still_mine=still_mine)
    return broker.place_order(ticket)


def a_ref(ref: str, order: OrderRequest, broker_order_id: str | None = None) -> OrderRef:
    return OrderRef(order=order, broker_client_order_id=ref, broker_order_id=broker_order_id, sent_at=datetime.now(UTC))


def found(broker: IbkrBroker, ref: str, order: OrderRequest) -> OrderReport | None:
    sighting = broker.find_order(a_ref(ref, order))
    return sighting.report if isinstance(sighting, Found) else None
