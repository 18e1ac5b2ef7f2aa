"""A Fetcher over a real database and a broker whose answers a test chooses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select, update

from models.errors import (
    NotConnected,
)
from models.record.database import Database
from models.record.tables import bars, fetches, workers
from models.reports import Bar, Bars, QuoteReport
from models.settings import Settings
from worker.data.fetching import Fetcher
from worker.gate import Gate


def bar(start: datetime) -> Bar:
    price = Decimal(10)
    return Bar(start=start, open=price, high=price, low=price, close=price, volume=Decimal(100))


def raising(error: Exception) -> Callable[..., Any]:
    """What a broker asks that raises, whatever it is asked."""

    def refuse(*_: Any) -> Any:
        raise error

    return refuse


class Stub:
    """A broker whose answers a test chooses."""

    name = "ibkr"

    def __init__(self) -> None:
        self.asked: list[tuple[datetime, datetime]] = []
        self.answer: Callable[[datetime, datetime], Any] = lambda start, _: [bar(start)]
        self.quote: Callable[[str], Any] = lambda symbol: QuoteReport(symbol=symbol, last=Decimal(5))
        self.connected = True

    def is_connected(self) -> bool:
        return self.connected

    def get_historical_data(self, _symbol: str, _timeframe: str, start: datetime, end: datetime) -> Any:
        self.asked.append((start, end))
        return self.answer(start, end)

    def get_market_data(self, symbol: str) -> Any:
        return self.quote(symbol)

    def get_positions(self) -> Any:
        raise NotConnected("ibkr: not connected")


class RungBell:
    def __init__(self) -> None:
        self.rung: list[tuple[str, str]] = []

    def ring(self, messages: Any) -> bool:
        self.rung += [(task, queue) for task, queue, _ in messages]
        return True


class FetchBench:
    """A Fetcher over a real database and a stubbed broker."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        self.broker, self.bell = Stub(), RungBell()
        self.fetcher = self.worker("w1")

    def worker(self, name: str) -> Fetcher:
        with self.database.write() as connection:
            row = {"worker": name, "broker": "ibkr", "host": "h", "boot": "b", "pid": 1, "state": "ready"}
            now = datetime.now(UTC)
            connection.execute(insert(workers).values(**row, started_at=now, heartbeat_at=now))
        self.gate = Gate(self.database, self.broker)  # type: ignore[arg-type]
        self.gate.open()
        return Fetcher(self.settings, self.database, self.broker, name, self.bell, self.gate)  # type: ignore[arg-type]

    def ask(self, kind: str = "bars", fetch_id: str = "f", **fields: Any) -> dict[str, Any]:
        """Ask by message, and wait until the lane is empty."""
        if kind == "bars":
            fields = {"symbol": "SPY", "timeframe": "1Min", "start": "2025-12-01", "end": "2025-12-20"} | fields
        self.fetcher.take(kind, fetch_id, fields)
        return self.settle(fetch_id)

    def again(self, kind: str = "bars") -> dict[str, Any]:
        """Let the pause of a fetch that was put off pass, and ask again."""
        self.change(fetches, fetches.c.fetch_id == "f", available_at=datetime.now(UTC) - timedelta(minutes=1))
        self.fetcher.take(kind, "f", {})
        return self.settle()

    def fails_on_page_2(self, error: Exception, left_out: int = 0) -> None:
        """Let the broker answer the second request with an error, and any other one with one bar."""

        def answer(start: datetime, _end: datetime) -> Any:
            if len(self.broker.asked) == 2:
                raise error
            return Bars([bar(start)], left_out=left_out)

        self.broker.answer = answer

    def settle(self, fetch_id: str = "f", fetcher: Fetcher | None = None) -> dict[str, Any]:
        for future in list((fetcher or self.fetcher)._here.values()):
            future.result(10)
        return self.row(fetch_id)

    def row(self, fetch_id: str = "f") -> dict[str, Any]:
        with self.database.read() as connection:
            found = connection.execute(select(fetches).where(fetches.c.fetch_id == fetch_id)).mappings().first()
        return dict(found) if found is not None else {}

    def change(self, table: Any, where: Any, **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(update(table).where(where).values(**values))

    def stored(self) -> list[datetime]:
        with self.database.read() as connection:
            return list(connection.execute(select(bars.c.start).order_by(bars.c.start)).scalars())
