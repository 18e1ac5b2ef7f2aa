"""What Alpaca's trading API only reads: the account, its positions and fills, the clock, the calendar and the assets.

Orders, and closing positions, are in :mod:`worker.sandbox.alpaca.door`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice

from aiohttp import web

from worker.sandbox.alpaca.bodies import (
    NEW_YORK,
    Json,
    account_json,
    activity_json,
    asset_id,
    asset_json,
    calendar_json,
    clock_json,
    joined,
    position_json,
)
from worker.sandbox.alpaca.data import moment
from worker.sandbox.alpaca.lies import loop
from worker.sandbox.alpaca.payments import listed
from worker.sandbox.alpaca.rules import AccountRules, malformed, not_found
from worker.sandbox.http_door import Refusal, Route
from worker.sandbox.market.listed import multiplier
from worker.sandbox.market.market import Market, MarketOrder, Position, Trade
from worker.sandbox.market.prices import BASE_PRICES

SYMBOLS = (*sorted(BASE_PRICES), *(f"SIM{number:03d}" for number in range(1000)))


class AlpacaAccount:
    """The reading endpoints of one account."""

    def __init__(self, market: Market, name: str, number: str, rules: AccountRules) -> None:
        self._market = market
        self._name = name
        self._number = number
        self._rules = rules
        self._fills = [
            (order, index) for order in market.orders(name) if not order.legs for index in range(len(order.executions))
        ]
        self._fills.sort(key=lambda fill: fill[0].executions[fill[1]].at)

    def routes(self) -> Iterable[Route]:
        """Return the reading endpoints."""
        yield Route("GET", "/v2/account", "account", self._account)
        yield Route("GET", "/v2/account/activities", "activities", self._activities)
        yield Route("GET", "/v2/account/activities/{kind}", "activities", self._activities)
        yield Route("GET", "/v2/positions", "positions", self._positions)
        yield Route("GET", "/v2/positions/{symbol}", "positions", self._position)
        yield Route("GET", "/v2/clock", "clock", self._clock)
        yield Route("GET", "/v2/calendar", "calendar", self._calendar)
        yield Route("GET", "/v2/assets", "assets", self._assets)
        yield Route("GET", "/v2/assets/{symbol}", "assets", self._asset)

    def add_fill(self, order: MarketOrder, execution: Trade) -> None:
        """Remember one fill for the activities, newest last."""
        self._fills.append((order, order.executions.index(execution)))

    async def _account(self, _: web.Request) -> web.Response:
        account = self._market.account(self._name)
        values = [p.quantity * self._market.quote(s).last * multiplier(s) for s, p in account.positions.items()]
        long_value = sum((v for v in values if v > 0), Decimal(0))
        short_value = sum((v for v in values if v < 0), Decimal(0))
        return web.json_response(account_json(account, self._number, long_value, short_value))

    async def _activities(self, request: web.Request) -> web.Response:
        """Answer with fills and payments, newest first unless asked otherwise, a page at a time.

        A busted or corrected execution is a line of its own, as at Alpaca.
        """
        query = request.query
        kinds = set((request.match_info.get("kind") or query.get("activity_types") or "").split(",")) - {""}
        if kinds and query.get("category"):
            raise malformed("category cannot be used with activity_types")
        trades = not kinds or "FILL" in kinds
        fills = self._fills if trades and query.get("category") in (None, "trade_activity") else []
        keep = _fill_filter(query)
        kept = [(order, index) for order, index in fills if keep(order.executions[index])]
        kept.sort(key=lambda fill: fill[0].executions[fill[1]].listed_at)
        rows: Iterable[Json] = [activity_json(order, index) for order, index in kept]
        if paid := listed(self._market.payments(self._name), query, kinds, when):
            rows = sorted([*rows, *paid], key=lambda row: str(row["id"]))
        if query.get("direction", "desc") != "asc":
            rows = reversed(list(rows))
        after, size = query.get("page_token"), whole_number(query.get("page_size"), "page_size", 100, 100)
        page = list(islice(_after(rows, after) if after else rows, size))
        return web.json_response(loop(self._market, self._name, "activities", page, size))

    async def _positions(self, _: web.Request) -> web.Response:
        positions = self._market.account(self._name).positions
        return web.json_response([self._position_json(s, p) for s, p in sorted(positions.items())])

    async def _position(self, request: web.Request) -> web.Response:
        return web.json_response(self._position_json(*self.held(request.match_info["symbol"])))

    def held(self, name: str) -> tuple[str, Position]:
        """Return symbol and position by symbol or asset id; Refusal when the account has none."""
        positions = self._market.account(self._name).positions
        for symbol, position in positions.items():
            if name in (symbol, joined(symbol), asset_id(symbol)):
                return symbol, position
        raise not_found("position does not exist")

    def _position_json(self, symbol: str, position: Position) -> Json:
        return position_json(symbol, position, self._market.quote(symbol).last, self._rules.held(symbol))

    # -- CLOCK AND ASSETS ---

    async def _clock(self, _: web.Request) -> web.Response:
        is_open = not self._market.faults.peek(self._name, "market_closed")
        return web.json_response(clock_json(datetime.now(UTC), is_open=is_open))

    async def _calendar(self, request: web.Request) -> web.Response:
        """Answer with the days of trading between two dates; a year from today where none is given."""
        today = datetime.now(NEW_YORK).date()
        try:
            first = date.fromisoformat(request.query.get("start", today.isoformat())[:10])
            last = date.fromisoformat(request.query.get("end", (today + timedelta(days=365)).isoformat())[:10])
        except ValueError:
            raise malformed("invalid date") from None
        return web.json_response(calendar_json(first, last))

    async def _assets(self, request: web.Request) -> web.Response:
        if request.query.get("status", "active") != "active":
            return web.json_response([])
        return web.json_response([asset_json(symbol) for symbol in SYMBOLS])

    async def _asset(self, request: web.Request) -> web.Response:
        symbol = request.match_info["symbol"]
        if not self._market.exists(symbol):
            raise not_found(f"asset not found for {symbol}")
        return web.json_response(asset_json(symbol))


def whole_number(text: str | None, name: str, default: int, largest: int) -> int:
    """Return a number of a query from 1 to the largest; Refusal outside."""
    try:
        number = int(text or default)
    except ValueError:
        number = 0
    if not 1 <= number <= largest:
        raise malformed(f"{name} must be between 1 and {largest}")
    return number


def _fill_filter(query: Mapping[str, str]) -> Callable[[Trade], bool]:
    """Return what keeps an execution: those listed between `after` and `until`, or on one New York day."""
    earliest, latest = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    after, until = when(query.get("after"), earliest), when(query.get("until"), latest)
    day = query.get("date")

    def keep(execution: Trade) -> bool:
        local = execution.listed_at.astimezone(NEW_YORK).date().isoformat()
        return after < execution.listed_at < until and (not day or local == day[:10])

    return keep


def when(text: str | None, default: datetime) -> datetime:
    """Return a time of a query; Refusal in the trading API's words."""
    try:
        return moment(text, default)
    except Refusal:
        raise malformed(f"invalid time: {text}") from None


def _after(rows: Iterable[Json], token: str) -> Iterator[Json]:
    """Yield the rows that follow the one whose id is the token."""
    found = False
    for row in rows:
        if found:
            yield row
        found = found or row["id"] == token
