"""A sandbox market on its own thread, for tests that drive a door from outside with a synchronous client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar

from worker.brokers.tda.adapter import TdaBroker
from worker.sandbox.faults import Fault
from worker.sandbox.http_door import HttpDoor
from worker.sandbox.market.market import Market

T = TypeVar("T")
#: Alpaca's settings for tests that are not about pacing.
UNPACED: dict[str, Any] = {"requests_per_minute": 0, "data_requests_per_minute": 0}


class SandboxThread:
    """The market, its doors, and a way onto their loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.market = self.call(lambda: Market(fill_delay=0.01))
        self._doors: list[HttpDoor] = []

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(job, self.loop).result(10)

    def call(self, function: Callable[[], T]) -> T:
        async def job() -> T:
            return function()

        return self.run(job())

    def open(self, make: Callable[[Market], HttpDoor]) -> HttpDoor:
        door = self.call(lambda: make(self.market))
        self.run(door.start("127.0.0.1", 0))
        self._doors.append(door)
        return door

    def fault(self, door: str, kind: str, count: int | None = 1, symbol: str | None = None, **options: Any) -> None:
        self.call(lambda: self.market.faults.add(Fault(door, kind, count, symbol, options=options)))

    def clear(self) -> None:
        self.call(self.market.faults.clear)

    def price(self, symbol: str, price: str) -> None:
        self.call(lambda: self.market.set_price(symbol, Decimal(price)))

    def hold(self, door: str, symbol: str, quantity: int) -> None:
        self.call(lambda: self.market.set_position(door, symbol, Decimal(quantity)))

    def arrivals(self, door: str) -> list[dict[str, Any]]:
        lines = self.call(lambda: list(self.market.ledger.lines))
        return [line for line in lines if line["event"] == "arrived" and line["door"] == door]

    def taken(self, door: str) -> int:
        return self.call(lambda: len(self.market.orders(door)))

    def close(self) -> None:
        for door in self._doors:
            self.run(door.stop())
        self.call(self.market.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


@contextmanager
def sandbox() -> Iterator[SandboxThread]:
    house = SandboxThread()
    try:
        yield house
    finally:
        house.close()


def same_clock(broker: TdaBroker) -> TdaBroker:
    """Tell an adapter what its door's answers would in a second or two: the door's clock is this machine's."""
    whole, second = datetime.now(UTC).replace(microsecond=0), timedelta(seconds=1)
    for at in (whole, whole + second):
        broker._rest.clock.hear(format_datetime(whole, usegmt=True), at, at)
    return broker


def tda_table(url: str, home: Path, dialect: str) -> dict[str, Any]:
    """Return the settings of an adapter at a door of TDA or Schwab, without budgets."""
    own = {"app_secret": "s"} if dialect == "schwab" else {}
    return {
        "base_url": url, "api_key": "k", "refresh_token": "r", "token_path": str(home / "token.json"), "poll_s": 0.05,
        "requests_per_minute": 0, **own,
    }  # fmt: skip
