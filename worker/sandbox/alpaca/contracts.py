"""Alpaca's list of option contracts, by its document of `/v2/options/contracts`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from aiohttp import web

from worker.sandbox.alpaca.account import whole_number
from worker.sandbox.alpaca.bodies import Json, asset_id, plain
from worker.sandbox.alpaca.rules import malformed, not_found
from worker.sandbox.http_door import Route
from worker.sandbox.market.chains import options
from worker.sandbox.market.listed import listed
from worker.sandbox.market.market import Market

_RIGHTS = {"C": "call", "P": "put"}
_MOST = 10_000


class OptionContracts:
    """The endpoints."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def routes(self) -> Iterable[Route]:
        """Return them."""
        yield Route("GET", "/v2/options/contracts", "assets", self._list)
        yield Route("GET", "/v2/options/contracts/{symbol}", "assets", self._one)

    async def _list(self, request: web.Request) -> web.Response:
        """Answer with a page of contracts; without a day those until the next weekend, as at Alpaca."""
        query, today = request.query, datetime.now(UTC).date()
        weekend = today + timedelta(days=(5 - today.weekday()) % 7)
        on = _day(query.get("expiration_date"))
        first = on or _day(query.get("expiration_date_gte")) or today
        last = on or _day(query.get("expiration_date_lte")) or max(weekend, first)
        roots = [root for root in query.get("underlying_symbols", "").split(",") if root]
        found = [name for root in roots for name in options(self._market, root, max(first, today), last)]
        begin = whole_number(query.get("page_token"), "page_token", 1, len(found) + 1) - 1
        size = whole_number(query.get("limit"), "limit", 100, _MOST)
        page, rest = found[begin : begin + size], found[begin + size :]
        token = str(begin + size + 1) if rest else None
        return web.json_response({"option_contracts": list(map(contract_json, page)), "next_page_token": token})

    async def _one(self, request: web.Request) -> web.Response:
        symbol = request.match_info["symbol"]
        thing = listed(symbol)
        if thing is None or thing.kind != "option" or not self._market.exists(symbol):
            raise not_found(f"option contract not found for {symbol}")
        return web.json_response(contract_json(symbol))


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise malformed(f"invalid date: {text}") from None


def contract_json(symbol: str) -> Json:
    """Return one contract."""
    thing = listed(symbol)
    assert thing is not None
    assert thing.day is not None
    right, yesterday = _RIGHTS[thing.right], (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    return {
        "id": asset_id(symbol),
        "symbol": symbol,
        "name": f"{thing.root} {thing.day:%b %d %Y} {plain(thing.strike)} {right.title()}",
        "status": "active",
        "tradable": True,
        "expiration_date": thing.day.isoformat(),
        "root_symbol": thing.root,
        "underlying_symbol": thing.root,
        "underlying_asset_id": asset_id(thing.root),
        "type": right,
        "style": "american",
        "strike_price": plain(thing.strike),
        "multiplier": str(thing.units),
        "size": str(thing.units),
        "open_interest": "100",
        "open_interest_date": yesterday,
        "close_price": plain(Decimal("1")),
        "close_price_date": yesterday,
        "ppind": True,
    }
