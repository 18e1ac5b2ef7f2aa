"""A market with its TWS door, clients of either SDK at it, and stories that are told within a bound."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from worker.sandbox.faults import Fault
from worker.sandbox.market.market import Market
from worker.sandbox.tws.door import TwsDoor

SDKS = ("ib_insync", "ib_async")


@dataclass
class SdkGateway:
    """A market with AAPL at 100.00, its TWS door, and clients of one SDK."""

    sdk: Any
    market: Market
    door: TwsDoor
    clients: list[Any] = field(default_factory=list)

    async def connect(self, client_id: int = 7, timeout: float = 5) -> Any:
        ib = self.sdk.IB()
        ib.RaiseRequestErrors = True
        self.clients.append(ib)
        ib.codes = []
        ib.errorEvent += lambda number, code, text, contract: ib.codes.append((number, code))
        await ib.connectAsync("127.0.0.1", self.door.port, clientId=client_id, timeout=timeout)
        return ib

    def stock(self, symbol: str = "AAPL") -> Any:
        return self.sdk.Stock(symbol, "SMART", "USD")

    def place(self, ib: Any, kind: str = "MKT", quantity: float = 10, symbol: str = "AAPL", **fields: Any) -> Any:
        base = {"action": "BUY", "tif": "DAY", "orderRef": "s-1~1", "totalQuantity": quantity, "orderType": kind}
        return ib.placeOrder(self.stock(symbol), self.sdk.Order(**{**base, **fields}))

    def fault(self, kind: str, count: int | None = 1, **options: Any) -> None:
        self.market.faults.add(Fault("ibkr", kind, count, options=options))


@asynccontextmanager
async def open_gateway(sdk: Any = None) -> AsyncIterator[SdkGateway]:
    market = Market(fill_delay=0.005)
    market.set_price("AAPL", Decimal(100))
    door = TwsDoor(market, "ibkr")
    await door.start("127.0.0.1", 0)
    gateway = SdkGateway(sdk, market, door)
    try:
        yield gateway
    finally:
        for ib in gateway.clients:
            ib.disconnect()
        await door.stop()
        market.close()


def status(trade: Any) -> str:
    return str(trade.orderStatus.status)
