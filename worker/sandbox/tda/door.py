"""The door that speaks TD Ameritrade v1 or Schwab's Trader API, chosen by dialect.

Neither protocol knows a client order id: what a client lost, it finds again only by listing. Rules are in
:mod:`worker.sandbox.tda.rules`, bodies in :mod:`worker.sandbox.tda.bodies`, quotes and candles in
:mod:`worker.sandbox.tda.data`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Literal

from aiohttp import web

from worker.sandbox.http_door import HttpDoor, Refusal, Route, read_json
from worker.sandbox.market.linking import MarketLinks
from worker.sandbox.market.market import Market, MarketEvent, MarketOrder
from worker.sandbox.market.packages import place_order
from worker.sandbox.spoilt import web_reason
from worker.sandbox.tda import lies
from worker.sandbox.tda.bodies import account_json, number_of, order_json, preferences_json, status
from worker.sandbox.tda.data import TdaData
from worker.sandbox.tda.dialect import DIALECTS, Json, correlation
from worker.sandbox.tda.lies import STALE, days_of, dress, no_window, spoil, strange_orders, strange_positions
from worker.sandbox.tda.linked import every, first_of, group_id, nest, split
from worker.sandbox.tda.packages import is_package, read_package, rejection_of
from worker.sandbox.tda.payments import transactions
from worker.sandbox.tda.previews import preview_json
from worker.sandbox.tda.rules import read_order, read_window
from worker.sandbox.tda.tokens import TokenDoor

if TYPE_CHECKING:
    from worker.sandbox.faults import Fault

MAX_RESULTS = 3000
EXPIRED = "The access token being passed has expired or is invalid."
THROTTLED = "Individual App's transactions per seconds restriction reached. Please contact us with further questions"


class TdaDoor(HttpDoor):
    """TDA or Schwab in front of the market.

    Faults beyond the common ones: `location_missing`, `location_foreign`, `list_lag` [seconds], `token_expired`, and
    those of :mod:`worker.sandbox.tda.lies`.
    Operations: token, accounts, account, transactions, place, list, get, replace, cancel, preview, preferences, quote,
    bars.

    Args:
        market: the shared market.
        name: the door's name in the market; TDA and Schwab need different ones to have different accounts.
        dialect: which protocol is spoken.
        account: account number; None takes the dialect's own, or those that the market has for this door.
        literal_location: put the real service's host into Location headers, as its own clients expect.
        token_lifetime_s: seconds an access token is good for.
        revoke_on_refresh: let a new access token end all older ones.
    """

    def __init__(
        self,
        market: Market,
        name: str = "tda",
        dialect: Literal["tda", "schwab"] = "tda",
        *,
        account: str | None = None,
        literal_location: bool = False,
        token_lifetime_s: float = 1800.0,
        revoke_on_refresh: bool = False,
    ) -> None:
        super().__init__(market, name)
        self.dialect = DIALECTS[dialect]
        self.accounts = (account,) if account else market.books.numbers(name) or (self.dialect.account,)
        self.account = self.accounts[0]
        self.literal_location = literal_location
        self.tokens = TokenDoor(self.dialect, token_lifetime_s, revoke_on_refresh, market.is_another)
        self.data = TdaData(market, self.dialect)
        self._renamed, self._unknown_account = "", 404
        self.links = MarketLinks(market, name)
        self._numbered = {number_of(order): order for order in market.orders(name) if "order_id" in order.extra}
        market.subscribe(name, self._on_event)

    @property
    def account_path(self) -> str:
        """What names the first account in a path."""
        return self.path_of(self.account)

    def path_of(self, account: str) -> str:
        """Return what names an account in a path: its number at TDA, a hash of it at Schwab."""
        if self.dialect.name == "tda":
            return account
        return hashlib.sha256(f"{account}{self._renamed}".encode()).hexdigest().upper()

    def routes(self) -> Iterable[Route]:
        """Return every endpoint of the dialect."""
        trader = self.dialect.trader
        orders = f"{trader}/accounts/{{account}}/orders"
        yield Route("POST", self.dialect.token_path, "token", self._token)
        yield Route("GET", f"{trader}/accounts", "accounts", self._accounts)
        yield Route("GET", f"{trader}/orders", "list", self._orders)
        if self.dialect.name == "schwab":
            yield Route("GET", f"{trader}/accounts/accountNumbers", "accounts", self._account_numbers)
            yield Route("GET", f"{trader}/userPreference", "preferences", self._preferences)
            yield Route("POST", f"{trader}/accounts/{{account}}/previewOrder", "preview", self._preview)
        yield Route("GET", f"{trader}/accounts/{{account}}", "account", self._account)
        yield Route("GET", f"{trader}/accounts/{{account}}/transactions", "transactions", self._transactions)
        yield Route("GET", orders, "list", self._orders)
        yield Route("POST", orders, "place", self._place)
        yield Route("GET", f"{orders}/{{id}}", "get", self._order)
        yield Route("PUT", f"{orders}/{{id}}", "replace", self._replace)
        yield Route("DELETE", f"{orders}/{{id}}", "cancel", self._cancel)
        yield from self.data.routes()
        yield Route("*", "/{path:.*}", "unknown", self._unknown)

    # -- COMMON ANSWERS ---
    def authorize(self, request: web.Request, operation: str) -> None:
        """Let in good bearer tokens; TDA's delayed quotes need only an apikey."""
        if operation in ("token", "unknown"):
            return
        header = request.headers.get("Authorization", "")
        if self.dialect.name == "tda" and operation in ("quote", "bars") and not header and request.query.get("apikey"):
            return
        about_trading = operation not in ("quote", "bars")
        closed = self.peek("no_access", operation)
        if closed is not None and (about_trading or closed.options.get("prices")):
            self.take("no_access", operation)
            no = self.dialect.no(int(closed.options.get("status", 403)), "Forbidden", "Forbidden")
            no.turns_away = True
            raise no
        if about_trading and (renamed := self.take("account_renamed", operation)):
            self._renamed += "x"
            self._unknown_account = int(renamed.options.get("status", 404))
        if self.take("token_expired", operation):
            self.tokens.revoke(header)
        if not self.tokens.check(header):
            raise self._unauthorized(operation)

    def _unauthorized(self, operation: str) -> Refusal:
        if self.dialect.name == "tda":
            return Refusal(401, {"error": EXPIRED})
        if operation in ("quote", "bars"):
            return self.dialect.no_data(401, "Unauthorized", "Client not authorized")
        return self.dialect.no(401, "Unauthorized", "Client not authorized")

    def failure(self, status: int, text: str | None, code: int | None) -> web.Response:
        """Return an error body; neither protocol has numeric codes."""
        return self.dialect.no(status, text or web_reason(status), text or web_reason(status)).response()

    def refusal(self, fault: Fault) -> web.Response:
        """Return a definitive no: 400 unless the options say otherwise."""
        text = str(fault.options.get("text") or "The order was refused by the sandbox")
        message = "A validation error occurred while processing the request."
        return self.dialect.no(int(fault.options.get("status", 400)), message, text).response()

    def limited(self, limit: int, reset_s: float) -> Refusal:
        """Return the throttling answer."""
        return self.dialect.no(429, THROTTLED, THROTTLED)

    def turned_away(self, reason: str, body: object, request: web.Request) -> None:
        """Record an order, or each of a group, that a fault kept from being taken, in whatever name of its account."""
        try:
            orders = [self._form(one) for one in every(body, self.dialect)]
        except Refusal:
            return
        account = self._number_at(request) or self.account
        for fields in orders:
            fields.pop("legs", None)
            self.market.turn_away(reason, door=self.name, account=account, **fields)

    def _json(self, body: object) -> web.Response:
        return web.json_response(body, headers=correlation() if self.dialect.name == "schwab" else None)

    async def _unknown(self, _: web.Request) -> web.Response:
        raise self.dialect.no(404, "Not Found", "Not Found")

    # -- TOKENS AND ACCOUNTS ---
    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        body = self.tokens.grant(form, request.headers.get("Authorization", ""))
        odd = self.take("odd_token", "token")
        return web.json_response(body | (dict(odd.options.get("body") or {}) if odd else {}))

    async def _account_numbers(self, _: web.Request) -> web.Response:
        rows = [{"accountNumber": number, "hashValue": self.path_of(number)} for number in self.accounts]
        if self.take("strange_rows", "accounts"):
            rows.append({"accountNumber": "87654321", "hashValue": "0" * 64})
        return self._json(self._spoilt("accounts", rows))

    async def _accounts(self, request: web.Request) -> web.Response:
        rows = [self._account_json(request, number) for number in self.accounts]
        if self.take("strange_rows", "accounts"):
            rows.append({"securitiesAccount": {self.dialect.account_key: "87654321", "type": "CASH"}})
        return self._json(self._spoilt("accounts", rows))

    async def _account(self, request: web.Request) -> web.Response:
        return self._json(self._spoilt("account", [self._account_json(request, self._account_of(request))])[0])

    def _account_json(self, request: web.Request, number: str) -> Json:
        """Return the account, with positions or orders where they are asked for."""
        fields = set(request.query.get("fields", "").split(",")) - {""}
        allowed = {"positions"} if self.dialect.name == "schwab" else {"positions", "orders"}
        if not fields <= allowed:
            raise self.dialect.no(400, "Bad Request", f"fields must be of {', '.join(sorted(allowed))}")
        account = self.market.account(self.name, number)
        prices = {symbol: self.market.quote(symbol).last for symbol in account.positions}
        body = account_json(account, self.dialect, number, prices, fields)
        if "orders" in fields:
            today = datetime.now(UTC).date()
            orders = [o for o in self._listed(number) if o.received_at.date() == today]
            body["securitiesAccount"]["orderStrategies"] = [self._shown(o) for o in orders]
        if "positions" in fields and self.take("strange_rows", "account"):
            body["securitiesAccount"].setdefault("positions", []).extend(strange_positions())
        return body

    def _shown(self, order: MarketOrder) -> Json:
        children = self.links.children(order)
        inner, waits = [self._shown(child) for child in children], any(child.extra.get("waits") for child in children)
        return nest(dress(order, order_json(order, self.dialect)), inner, waits)

    def _spoilt(self, operation: str, rows: list[Json]) -> list[Json]:
        """Return the rows of an answer with the fields that faults spoil."""
        for fault in self.market.faults.all():
            if fault.kind == "spoiled_row" and fault.matches(self.name, fault.symbol, operation):
                spoilt = spoil(rows, fault)
                if spoilt != rows:
                    rows = spoilt
                    self.market.faults.note(fault, self.name, fault.symbol, operation)
                    self.market.faults.spend(fault)
        return rows

    async def _transactions(self, request: web.Request) -> web.Response:
        paid = self.market.payments(self.name, account := self._account_of(request))
        placed = [one for one in self._numbered.values() if not one.legs and one.account == account]
        return self._json(transactions(placed, paid, request.query, self.dialect, account))

    def _account_of(self, request: web.Request) -> str:
        """Return the number of the account that the path names; Refusal for an unknown one."""
        if (number := self._number_at(request)) is not None:
            return number
        raise self.dialect.no(self._unknown_account, "Invalid account number")

    def _number_at(self, request: web.Request) -> str | None:
        """Return the number of the account that the path names; None for an unknown one."""
        return next((one for one in self.accounts if self.path_of(one) == request.match_info["account"]), None)

    async def _preferences(self, _: web.Request) -> web.Response:
        return self._json(preferences_json(self.accounts))

    # -- ORDERS ---
    async def _place(self, request: web.Request) -> web.Response:
        """Take an order; one that the market rejects is taken first, and then rejected."""
        account = self._account_of(request)
        body, inner, waits = split(await read_json(request), self.dialect)
        fields, triggered = self._read(body, account), [self._read(one, account) for one in inner]
        reason = rejection_of(self.market, self.name, fields)
        lies.twin(self, fields)
        fields["extra"] |= {"order_id": self.next_id()}
        order = self.keep(place_order(self.market, door=self.name, **fields))
        for terms in triggered:
            self._attach(order, terms, waits)
        if reason is not None:
            self.market.reject(order, reason)
        lag = self.take("list_lag", symbol=order.symbol)
        if lag is not None:
            order.extra["hidden_until"] = monotonic() + float(lag.options.get("seconds", 1.0))
        if late := self.take("late_executions", symbol=order.symbol):
            order.extra["late_executions_s"] = float(late.options.get("seconds", 3.0))
        if stale := self.take("stale_words", symbol=order.symbol):
            order.extra["stale_words"] = str(stale.options.get("text", STALE))
        if outside := self.take("replaced_outside", symbol=order.symbol):
            lies.replace_outside(self, order, fields, outside)
        return self._created(order)

    def _attach(self, order: MarketOrder, fields: Json, waits: bool) -> None:
        """Take an order that waits for another one to be filled, or excludes it."""
        fields["extra"] |= {"order_id": self.next_id(), "parent": order.number, "waits": waits}
        child = self.keep(self.market.place(door=self.name, waits=waits, **fields))
        self.links.add(order, child)

    async def _replace(self, request: web.Request) -> web.Response:
        order = self._named(request)
        fields = self._read(await read_json(request), order.account)
        if not order.is_live:
            raise self.dialect.no(400, f"Order in {status(order, self.dialect)} status cannot be replaced")
        fields["extra"] |= {"order_id": self.next_id(), **self.links.inherited(order)}
        self.links.succeed(successor := self.keep(self.market.replace(order, **fields)))
        return self._created(successor)

    def ours(self, symbol: str | None) -> str | None:
        """Return a symbol of an order body as the market writes it."""
        return self.dialect.ours(symbol) if symbol else None

    def _form(self, body: object) -> Json:
        """Return what the market needs to know of a body, of one leg or several."""
        return read_package(body, self.dialect) if is_package(body) else read_order(body, self.dialect)

    def _read(self, body: object, account: str) -> Json:
        """Return what the market needs to know of a body and its account; Refusal also for an unknown symbol."""
        fields = self._form(body)
        for symbol in [leg["symbol"] for leg in fields.get("legs", ())] or [fields["symbol"]]:
            if not self.market.exists(symbol):
                raise self.dialect.invalid(f"Invalid symbol: {symbol}")
        return fields | {"account": account}

    def next_id(self) -> int:
        """Return the id of a new order: 13 digits, rising, never the same again after a restart."""
        return max(int(datetime.now(UTC).timestamp() * 1000), next(reversed(self._numbered), 0) + 1)

    def keep(self, order: MarketOrder) -> MarketOrder:
        """List an order among those of the account."""
        self._numbered[number_of(order)] = order
        return order

    def _created(self, order: MarketOrder) -> web.Response:
        """Return 201 with the Location of the order, or what a fault makes of it."""
        headers = correlation() if self.dialect.name == "schwab" else {}
        beside = any(not child.extra.get("waits") for child in self.links.children(order))
        number = group_id(number_of(order)) if beside else number_of(order)
        if self.take("location_foreign", symbol=order.symbol):
            others = [other for other in self._numbered if other != number]
            number = others[-1] if others else number - 1
        if not self.take("location_missing", symbol=order.symbol):
            host = self.dialect.literal_host if self.literal_location else self.url
            headers["Location"] = f"{host}{self.dialect.trader}/accounts/{self.path_of(order.account)}/orders/{number}"
        return web.Response(status=201, headers=headers)

    async def _order(self, request: web.Request) -> web.Response:
        return self._json(self._spoilt("get", [self._shown(self._named(request))])[0])

    async def _cancel(self, request: web.Request) -> web.Response:
        """Note the wish at once and carry it out a moment later, so that a fill may still win."""
        order = self._named(request)
        if not order.is_live:
            raise self.dialect.no(400, f"Order in {status(order, self.dialect)} status cannot be canceled")
        order.extra["pending_cancel"] = True
        asyncio.get_running_loop().call_later(self.market.fill_delay, self.market.cancel, order)
        return web.Response(status=200, headers=correlation() if self.dialect.name == "schwab" else None)

    async def _orders(self, request: web.Request) -> web.Response:
        """Answer with the orders entered in a window, at most `maxResults`, and strange ones where a fault says so."""
        account = self._account_of(request) if "account" in request.match_info else None
        keep = self._order_filter(request.query)
        try:
            limit = int(request.query.get("maxResults", MAX_RESULTS))
        except ValueError:
            raise self.dialect.no(400, "Bad Request", "maxResults must be a number") from None
        kept = (order for order in self._listed(account) if keep(order))
        rows = [self._shown(order) for order in islice(kept, limit)]
        if not request.query.get("status") and self.take("strange_rows", "list"):
            rows += strange_orders(self.dialect, account or self.account)
        return self._json(self._spoilt("list", rows))

    async def _preview(self, request: web.Request) -> web.Response:
        """Answer what an order would cost, and whether it would be taken; Schwab only, of linked ones assumed."""
        account, whole = self._account_of(request), await read_json(request)
        fields, *others = (self._read(one, account) for one in every(whole, self.dialect))
        why = rejection_of(self.market, self.name, fields)
        return self._json(preview_json(self.market, account, whole, fields, why, others))

    def _named(self, request: web.Request) -> MarketOrder:
        """Return the order the path names; Refusal for an unknown one."""
        account, name = self._account_of(request), request.match_info["id"]
        number = int(name) if name.isdecimal() else 0
        order = self._numbered.get(number) or self._numbered.get(first_of(number))
        if order is None or order.account != account:
            raise self.dialect.no(404, "Not Found", f"Order not found: {name}")
        return order

    def _listed(self, account: str | None) -> list[MarketOrder]:
        """Return an account's orders as a listing shows them, newest first; `list_lag` hides new ones for a while."""
        now = monotonic()
        outer = [o for o in self._numbered.values() if account in (None, o.account) and self.links.parent(o) is None]
        shown = [o for o in outer if now >= float(str(o.extra.get("hidden_until", 0)))]
        return shown[::-1]

    def _order_filter(self, query: Mapping[str, str]) -> Callable[[MarketOrder], bool]:
        """Return the test that the query of an order listing describes."""
        (first, last), wanted = self._window(query), query.get("status")

        def keep(order: MarketOrder) -> bool:
            entered = order.received_at.replace(microsecond=0)  # as it is shown
            return first <= entered <= last and wanted in (None, status(order, self.dialect))

        return keep

    def _window(self, query: Mapping[str, str]) -> tuple[datetime, datetime]:
        """Return the times between which orders are listed."""
        first, last = read_window(query, self.dialect)
        short = self.peek("short_lookback")
        if short is not None and first < datetime.now(UTC) - timedelta(days=days_of(short)):
            self.take("short_lookback")
            raise no_window(self.dialect, days_of(short))
        return first, last

    def _on_event(self, event: MarketEvent) -> None:
        if event.kind == "accepted":
            event.order.extra["accepted"] = True
