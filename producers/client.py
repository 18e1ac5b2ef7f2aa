"""The client: record the order, then ring the bell. What happens next is read from the database.

Submitting never depends on Redis: the ring is bounded in time, and what it misses the sweep finds. It does depend on
the database: without a row there is no order, and nothing is enqueued.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from models.book import Book, cancel
from models.database import Database, open_database
from models.errors import ConfigurationError, DataError, NotFound
from models.fetches import from_json, insert_fetch, parse_bars
from models.intake import Intake, request_of
from models.messages import FetchKind, FetchRequest, OrderRequest, batches, utcnow
from models.replacing import request_replace
from models.reports import AccountReport, PositionReport, QuoteReport
from models.settings import Settings, load_settings
from models.tables import bars, fetches, orders
from models.vocabulary import OPEN, Status
from producers.bell import Bell
from producers.handles import Fetch, Order

if TYPE_CHECKING:
    import pandas as pd


class OrderClient:
    """A strategy's door to corro. Thread-safe; make one and keep it.

    Args:
        settings: None reads `corro.toml` and the environment.

    Raises:
        ConfigurationError: the settings are wrong, or the database has no current schema.
        DatabaseUnavailable: the database cannot be reached.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self.database: Database = open_database(self.settings)
        self._intake = Intake(self.settings, self.database)
        self._bell = Bell(self.settings)

    def close(self) -> None:
        """Close the connections."""
        self._bell.close()
        self.database.close()

    def __enter__(self) -> OrderClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- ORDERS ---
    def submit(self, request: OrderRequest) -> Order:
        """Record one order and have it executed.

        Returns:
            The order as recorded (`queued`), or as it is now if this client_order_id was submitted before.

        Raises:
            InvalidOrder: the route names an unknown broker. (Everything else is checked by OrderRequest itself.)
            IdempotencyConflict: the id names another order.
            DatabaseUnavailable: nothing was recorded and nothing was enqueued.
        """
        return self.submit_many([request])[0]

    def submit_many(self, requests: Sequence[OrderRequest]) -> list[Order]:
        """Record many orders in one transaction and ring for them in one round trip; all are recorded, or none.

        Raises:
            As `submit`.
        """
        if not requests:
            return []
        rows = self._intake.record(requests)
        waiting: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if row["status"] == Status.QUEUED:
                waiting.setdefault(row["broker"], []).append(row)
        self._bell.ring(
            [
                ("orders.submit", f"orders.{broker}", {"orders": [request_of(row).to_wire() for row in batch]})
                for broker, found in waiting.items()
                for batch in batches(found)
            ]
        )
        return [Order(self, row) for row in rows]

    def order(self, client_order_id: str) -> Order:
        """Read one order.

        Raises:
            NotFound: there is none under this id.
        """
        with self.database.read() as connection:
            query = select(orders).where(orders.c.client_order_id == client_order_id)
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"no order has the client_order_id {client_order_id!r}")
        return Order(self, dict(row))

    def wait_all(self, handles: Sequence[Order], timeout: float = 30.0) -> list[Order]:
        """Wait until all of these are terminal, and return them as they are then, or when the time is over."""
        deadline = time.monotonic() + timeout
        return [handle.wait(max(0.0, deadline - time.monotonic())) for handle in handles]

    def cancel(self, client_order_id: str) -> Order:
        """Ask for a cancel: an order that is still queued ends at once, a live one when its broker says so.

        Raises:
            NotFound: there is no such order.
        """
        with self.database.write() as connection:
            book = Book.open(connection, [client_order_id], utcnow())
            entry = book.get(client_order_id)
            if entry is None:
                raise NotFound(f"no order has the client_order_id {client_order_id!r}")
            cancel(entry)
            book.write()
        if entry.status in OPEN:
            self._bell.ring(
                [("orders.cancel", f"control.{entry.order['broker']}", {"client_order_ids": [client_order_id]})]
            )
        return Order(self, entry.order)

    def replace(self, client_order_id: str, **changes: Any) -> Order:
        """Ask for a change of an order that has not ended; until its broker confirms, it keeps its terms.

        Args:
            client_order_id: the order.
            changes: any of quantity (the new total, what is filled included), limit_price, stop_price, trail_amount,
                trail_percent, time_in_force.

        Returns:
            The order as it is now. The event log has `replaced` when the broker confirmed, `replace_refused` when not.

        Raises:
            NotFound: there is no such order.
            InvalidOrder: it has ended, the new terms do not fit it, or nothing would change.
        """
        with self.database.write() as connection:
            book = Book.open(connection, [client_order_id], utcnow())
            entry = book.get(client_order_id)
            if entry is None:
                raise NotFound(f"no order has the client_order_id {client_order_id!r}")
            request_replace(entry, changes)
            book.write()
        if entry.status is not Status.QUEUED:
            ids = {"client_order_ids": [client_order_id]}
            self._bell.ring([("orders.replace", f"control.{entry.order['broker']}", ids)])
        return Order(self, entry.order)

    # -- DATA ---
    def quote(self, symbol: str, *, route: Sequence[str] | None = None) -> Fetch[QuoteReport]:
        """Ask for a quote; `.result(timeout)` gives a QuoteReport."""
        return self._fetch("quote", {"symbol": symbol}, route, lambda row: from_json(QuoteReport, row["result"]))

    def bars(
        self,
        symbol: str,
        timeframe: str,
        start: datetime | str,
        end: datetime | str | None = None,
        *,
        route: Sequence[str] | None = None,
    ) -> Fetch[pd.DataFrame]:
        """Ask for bars with start <= bar < end.

        Args:
            symbol: the symbol.
            timeframe: 1Min, 5Min, 15Min, 30Min, 1Hour, 1Day, 1Week or 1Month.
            start: aware time, or ISO 8601 text.
            end: None means now.
            route: brokers to ask, in order.

        Returns:
            `.result(timeout)` gives a DataFrame: index `start` (datetime64[ns, UTC], ascending), columns open, high,
            low, close, volume (float64).

        Raises:
            InvalidOrder: names the field that is wrong.
        """
        request = {"symbol": symbol, "timeframe": timeframe, "start": _iso(start), "end": _iso(end or utcnow())}
        parse_bars(request, utcnow())
        return self._fetch("bars", request, route, self._bars_frame)

    def account(self, broker: str) -> Fetch[AccountReport]:
        """Ask one broker for the money of its account."""
        return self._fetch("account", {}, [broker], lambda row: from_json(AccountReport, row["result"]))

    def positions(self, timeout: float = 10.0) -> Positions:
        """Return the positions at all brokers; brokers that did not answer are named in `.unreachable`."""
        asked = {
            broker: self._fetch("positions", {}, [broker], lambda row: from_json(list[PositionReport], row["result"]))
            for broker in self.settings.all_brokers
        }
        found, unreachable = {}, {}
        deadline = time.monotonic() + timeout
        for broker, fetch in asked.items():
            try:
                found[broker] = fetch.result(max(0.05, deadline - time.monotonic()))
            except DataError as error:
                unreachable[broker] = str(error)
        return Positions(found, unreachable)

    def fetch_row(self, fetch_id: str) -> dict[str, Any]:
        """Return the row of a data request."""
        with self.database.read() as connection:
            row = connection.execute(select(fetches).where(fetches.c.fetch_id == fetch_id)).mappings().first()
        if row is None:
            raise NotFound(f"no data request has the fetch_id {fetch_id!r}")
        return dict(row)

    def _fetch(
        self, kind: FetchKind, request: dict[str, Any], route: Sequence[str] | None, read: Callable[[Any], Any]
    ) -> Fetch[Any]:
        brokers = tuple(route or self.settings.route)
        for broker in brokers:
            self.settings.broker(broker)
        fetch = FetchRequest(kind=kind, request=request, route=brokers)
        with self.database.write() as connection:
            insert_fetch(connection, fetch, brokers, utcnow())
        self._bell.ring([(f"data.{kind}", f"data.{brokers[0]}", fetch.to_wire())])
        return Fetch(self, fetch.fetch_id, read)

    def _bars_frame(self, row: Mapping[str, Any]) -> pd.DataFrame:
        import pandas as pd

        wanted = parse_bars(row["result"], utcnow())
        query = (
            select(bars.c.start, bars.c.open, bars.c.high, bars.c.low, bars.c.close, bars.c.volume)
            .where(bars.c.broker == row["result"]["broker"], bars.c.symbol == wanted.symbol)
            .where(bars.c.timeframe == wanted.timeframe, bars.c.start >= wanted.start, bars.c.start < wanted.end)
            .order_by(bars.c.start)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        frame = pd.DataFrame(rows, columns=["start", "open", "high", "low", "close", "volume"])
        frame["start"] = pd.to_datetime(frame["start"], utc=True).astype("datetime64[ns, UTC]")
        return frame.set_index("start").astype("float64")


class Positions(dict[str, list[PositionReport]]):
    """Positions by broker; what could not be read is named, not left out."""

    def __init__(self, found: Mapping[str, list[PositionReport]], unreachable: Mapping[str, str]) -> None:
        super().__init__(found)
        #: broker -> why it did not answer.
        self.unreachable = dict(unreachable)


def _iso(value: datetime | str) -> str:
    if isinstance(value, str):
        return value
    if value.tzinfo is None:
        raise ConfigurationError(f"a time needs a zone, was {value!r}")
    return value.isoformat()
