"""The data half of the client: quotes, bars, accounts and positions through the queue.

A request is a row and a ring, like an order; its answer is read from the database. Bars stay in the table `bars`, each
under the broker they came from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Self

from models.clock import utcnow
from models.destinations import broker_of, split
from models.errors import DataError, InvalidRequest, NotFound
from models.lifetimes import DatabaseClock
from models.messages import FetchKind, FetchRequest
from models.record.database import Connection, Database, open_database
from models.record.fetches import check, from_json, insert_fetch, parse_bars, read_bars
from models.record.reading import fetch_row, newest_worker
from models.record.rows import BarRow, FetchRow, WorkerRow
from models.reports import AccountReport, OrderReport, PositionReport, QuoteReport
from models.settings import Settings, load_settings
from producers.bell import Bell
from producers.ear import Ear
from producers.handles import Fetch, Positions

if TYPE_CHECKING:
    import pandas as pd

#: How times may be given: aware, ISO 8601 with a zone, or a date, which is its midnight in New York.
When = datetime | date | str


class DataClient:
    """Asks brokers for data. Thread-safe; `OrderClient` is one.

    Args:
        settings: None reads `corro.toml` and the environment.

    Raises:
        ConfigurationError: the settings are wrong, or the database has no current schema.
        DatabaseUnavailable: the database cannot be reached.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self.database: Database = open_database(self.settings)
        #: Requests are dated by it, as orders are: whoever answers, and the database itself, go by no other.
        self._clock = DatabaseClock(self.database)
        self._bell = Bell(self.settings)
        #: Hears what workers commit, for whoever waits.
        self.ear = Ear(self.settings, self.database.deployment)

    def close(self) -> None:
        """Close the connections."""
        self.ear.close()
        self._bell.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- MARKET DATA ---
    def quote(self, symbol: str, *, route: Sequence[str] | None = None) -> Fetch[QuoteReport]:
        """Ask for a quote; `.result(timeout)` gives a QuoteReport, then `.broker` tells whose it is.

        Raises:
            InvalidRequest: the symbol is none.
        """
        return self._fetch("quote", {"symbol": symbol}, route, lambda row: from_json(QuoteReport, row["result"]))

    def bars(
        self,
        symbol: str,
        timeframe: str = "1Day",
        start: When | None = None,
        end: When | None = None,
        *,
        duration: str | None = None,
        route: Sequence[str] | None = None,
        floats: bool = True,
    ) -> Fetch[pd.DataFrame]:
        """Ask for bars with start <= bar < end.

        Args:
            symbol: the symbol.
            timeframe: 1Min, 5Min, 15Min, 30Min, 1Hour, 1Day, 1Week or 1Month.
            start: aware time, ISO 8601 text, or a date (midnight in New York).
            end: as `start`; None means now.
            duration: with start or with end, instead of the other: `5D`, `2W`, `6M`, `1Y`, `4H`, `P1Y6M`, `PT30M`.
            route: brokers to ask, in order; the first one that has the data gives all of it.
            floats: float64 columns; False gives the exact Decimals.

        Returns:
            `.result(timeout)` gives a DataFrame: index `start` (datetime64[ns, UTC], ascending), columns open, high,
            low, close, volume; `attrs` holds broker, symbol, timeframe and `left_out`: how many bars the broker showed
            without prices.

        Raises:
            InvalidRequest: names the field that is wrong.
        """
        given = {"start": _iso("start", start), "end": _iso("end", end), "duration": duration}
        request = {"symbol": symbol, "timeframe": timeframe, **{k: v for k, v in given.items() if v is not None}}
        return self._fetch("bars", request, route, lambda row: self._frame(row, floats))

    # -- ACCOUNTS ---
    def account(self, broker: str) -> Fetch[AccountReport]:
        """Ask one broker for the money of its account; `ibkr:ira` is one of several behind its login."""
        name, account = split(broker)
        request = {} if account is None else {"account": account}
        return self._fetch("account", request, [name], lambda row: from_json(AccountReport, row["result"]))

    def broker_orders(
        self, broker: str, *, open_only: bool = True, since: When | None = None
    ) -> Fetch[list[OrderReport]]:
        """Ask one broker for the orders of its account, whoever placed them.

        Args:
            broker: whom to ask.
            open_only: leave out what has ended.
            since: with open_only=False, how far back to look.
        """
        request: dict[str, object] = {"open_only": open_only}
        if since is not None:
            request["since"] = _iso("since", since)
        return self._fetch("orders", request, [broker], lambda row: from_json(list[OrderReport], row["result"]))

    def positions(self, timeout: float = 10.0, brokers: Sequence[str] | None = None) -> Positions:
        """Return the positions at brokers, asked at the same time.

        Args:
            timeout: seconds for all of them together; who has not answered by then is named in `.unreachable`.
            brokers: only these; None asks all.
        """
        now = self._clock.now()
        asked = {
            broker: FetchRequest(kind="positions", route=(broker,)) for broker in brokers or self.settings.all_brokers
        }

        def record(connection: Connection) -> None:
            for broker, request in asked.items():
                insert_fetch(connection, request, [broker], now)

        self.database.transact(record)
        self._bell.ring([("data.positions", f"data.{broker}", r.to_wire()) for broker, r in asked.items()])
        found: dict[str, list[PositionReport]] = {}
        unreachable: dict[str, str] = {}
        deadline = time.monotonic() + timeout
        for broker, request in asked.items():
            fetch = Fetch(self, request.fetch_id, lambda row: from_json(list[PositionReport], row["result"]))
            try:
                found[broker] = fetch.result(max(0.05, deadline - time.monotonic()))
            except DataError as error:
                unreachable[broker] = str(error)
        return Positions(found, unreachable)

    # -- ROWS ---
    def fetch_row(self, fetch_id: str) -> FetchRow:
        """Return the row of a data request.

        Raises:
            NotFound: there is none under this id.
        """
        with self.database.read() as connection:
            row = fetch_row(connection, fetch_id)
        if row is None:
            raise NotFound(f"no data request has the fetch_id {fetch_id!r}")
        return row

    def workers_of(self, broker: str) -> str:
        """Say whether somebody could answer for a broker: 'its worker is ready', or since when there is none."""
        newest = self._newest_worker(broker)
        detail = newest["detail"] if newest else None
        return self.nobody(broker) or (
            f"a worker of {broker} is alive and {newest['state'] if newest else 'new'}{': ' + detail if detail else ''}"
        )

    def nobody(self, broker: str) -> str | None:
        """Say that no worker of a broker is alive, and in which database; None where there is one."""
        newest = self._newest_worker(broker)
        here = f"this database (home {self.settings.home.absolute()})"
        if newest is None:
            return f"no worker of {broker} has been seen in {here}"
        silence = (utcnow() - newest["heartbeat_at"]).total_seconds()
        if newest["state"] == "stopped" or silence > self.settings.timing.dead_after:
            return f"no worker of {broker} is alive: the last one in {here} was heard {silence:.0f} s ago"
        return None

    def _newest_worker(self, broker: str) -> WorkerRow | None:
        with self.database.read() as connection:
            return newest_worker(connection, broker)

    def _fetch(
        self, kind: FetchKind, request: dict[str, Any], route: Sequence[str] | None, read: Callable[[Any], object]
    ) -> Fetch[Any]:
        """Record a request, ring for it, and return its handle.

        Raises:
            InvalidRequest, ConfigurationError: nothing was recorded.
        """
        now, brokers = self._clock.now(), tuple(dict.fromkeys(map(broker_of, route or self.settings.route)))
        for broker in brokers:
            self.settings.broker(broker)
        check(kind, request, now)
        fetch = FetchRequest(kind=kind, request=request, route=brokers)
        self.database.transact(lambda connection: insert_fetch(connection, fetch, brokers, now))
        self._bell.ring([(f"data.{kind}", f"data.{brokers[0]}", fetch.to_wire())])
        return Fetch(self, fetch.fetch_id, read)

    def _frame(self, row: FetchRow, floats: bool) -> pd.DataFrame:
        """Return the bars of an answered request."""
        result = row["result"]
        with self.database.read() as connection:
            wanted = parse_bars({k: result[k] for k in ("symbol", "timeframe", "start", "end")}, row["created_at"])
            rows = read_bars(connection, result["broker"], wanted)
        frame = bars_frame(rows, floats=floats)
        frame.attrs |= {key: result[key] for key in ("broker", "symbol", "timeframe")}
        frame.attrs["left_out"] = result.get("left_out", 0)
        return frame


def bars_frame(rows: Sequence[BarRow], *, floats: bool = True) -> pd.DataFrame:
    """Return bars as a DataFrame: index `start`, float64 columns or exact Decimals; the same dtypes without a bar."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=["start", "open", "high", "low", "close", "volume"])
    frame["start"] = pd.to_datetime(frame["start"], utc=True).astype("datetime64[ns, UTC]")
    return frame.set_index("start").astype("float64" if floats else "object")


def _iso(field: str, value: When | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidRequest(f"{field}: must carry a time zone, was {value!r}")
    return value.isoformat()
