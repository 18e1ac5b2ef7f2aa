"""Option chains and instruments at the TDA and Schwab doors, by their documents."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import UTC, date, datetime

from aiohttp import web

from worker.sandbox.http_door import Route
from worker.sandbox.market.chains import expiries, options
from worker.sandbox.market.listed import listed
from worker.sandbox.market.market import Market
from worker.sandbox.market.prices import BASE_PRICES
from worker.sandbox.tda.dialect import FUNDS, DoorDialect, Json, correlation

_RIGHTS = {"C": ("callExpDateMap", "CALL"), "P": ("putExpDateMap", "PUT")}


class TdaChains:
    """The endpoints of one dialect."""

    def __init__(self, market: Market, dialect: DoorDialect) -> None:
        self._market, self._dialect = market, dialect

    def routes(self) -> Iterable[Route]:
        """Return them."""
        yield Route("GET", f"{self._dialect.data}/chains", "quote", self._chain)
        where = self._dialect.data if self._dialect.name == "schwab" else self._dialect.trader
        yield Route("GET", f"{where}/instruments", "quote", self._instruments)

    async def _chain(self, request: web.Request) -> web.Response:
        """Answer with the contracts on a share that expire between two days; `FAILED` where it has none."""
        query, today = request.query, datetime.now(UTC).date()
        symbol = self._dialect.ours(query.get("symbol", ""))
        first, last = self._day(query.get("fromDate")) or today, self._day(query.get("toDate")) or expiries(today)[-1]
        found = options(self._market, symbol, max(first, today), last)
        body: Json = {"symbol": symbol, "status": "SUCCESS" if found else "FAILED", "strategy": "SINGLE"}
        body |= {"isDelayed": False, "isIndex": False, "callExpDateMap": {}, "putExpDateMap": {}}
        for name in found:
            thing = listed(name)
            assert thing is not None
            assert thing.day is not None
            wanted, (where, word) = query.get("contractType", "ALL"), _RIGHTS[thing.right]
            if wanted in ("ALL", word):
                days = body[where].setdefault(f"{thing.day.isoformat()}:{(thing.day - today).days}", {})
                days.setdefault(str(float(thing.strike)), []).append(self._contract(name, word, today))
        return self._answer(body)

    def _contract(self, symbol: str, word: str, today: date) -> Json:
        thing = listed(symbol)
        assert thing is not None
        assert thing.day is not None
        quote = self._market.quote(symbol)
        at = datetime(thing.day.year, thing.day.month, thing.day.day, 21, tzinfo=UTC)
        is_flat = self._dialect.name == "tda"
        expires: object = int(at.timestamp() * 1000) if is_flat else f"{at:%Y-%m-%dT%H:%M:%S}.000+00:00"
        return {
            "putCall": word, "symbol": self._dialect.theirs(symbol), "exchangeName": "OPR",
            "description": f"{thing.root} {thing.day:%m/%d/%Y} {thing.strike.normalize():f} {word[0]}",
            "bid" if is_flat else "bidPrice": float(quote.bid), "ask" if is_flat else "askPrice": float(quote.ask),
            "strikePrice": float(thing.strike), "expirationDate": expires, "optionRoot": thing.root,
            "daysToExpiration": (thing.day - today).days, "multiplier": float(thing.units), "settlementType": "P",
            "isNonStandard": False, "isMini": False, "isPennyPilot": True, "isIndexOption": False,
        }  # fmt: skip

    async def _instruments(self, request: web.Request) -> web.Response:
        """Answer with what a symbol names: a list at Schwab, by symbol at TDA."""
        symbol = request.query.get("symbol", "")
        projection = request.query.get("projection")
        if projection not in ("symbol-search", "fundamental", "desc-search"):
            words = "projection must be symbol-search, desc-search or fundamental here"
            raise self._dialect.no_data(400, "Bad Request", words)
        ours = self._dialect.ours(symbol)
        names = [ours] if self._market.prices.is_share(ours) else []
        if projection == "desc-search":
            names = sorted(BASE_PRICES)
        found = [self._instrument(name) for name in names]
        if projection == "desc-search":
            found = [row for row in found if symbol.upper() in row["description"].upper()]
        is_schwab = self._dialect.name == "schwab"
        return self._answer({"instruments": found} if is_schwab else {row["symbol"]: row for row in found})

    def _instrument(self, symbol: str) -> Json:
        is_fund = symbol in FUNDS
        return {
            "cusip": f"{zlib.crc32(symbol.encode()):09d}"[:9], "symbol": self._dialect.theirs(symbol),
            "description": f"{symbol} {'Trust' if is_fund else 'Inc'}",
            "exchange": "NYSE Arca" if is_fund else "NASDAQ",
            "assetType": "ETF" if is_fund else "EQUITY",
        }  # fmt: skip

    def _day(self, text: str | None) -> date | None:
        try:
            return date.fromisoformat(text[:10]) if text else None
        except ValueError:
            raise self._dialect.no_data(400, "Bad Request", f"invalid date: {text}") from None

    def _answer(self, body: Json) -> web.Response:
        return web.json_response(body, headers=correlation() if self._dialect.name == "schwab" else None)
