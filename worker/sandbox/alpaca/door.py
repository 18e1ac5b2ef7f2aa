"""The Alpaca door: the trading API, the data API and the trade_updates stream of one simulated account.

Paths, codes and bodies are those of the real service (docs/facts/alpaca.md#2.12, #3.1); rules are in
:mod:`worker.sandbox.alpaca.rules`, bodies in :mod:`worker.sandbox.alpaca.bodies`. `base_url` and `data_url` of a client
are both the door's own address.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from itertools import islice
from time import monotonic, time
from typing import TYPE_CHECKING

from aiohttp import web

from worker.sandbox.alpaca import lies
from worker.sandbox.alpaca.account import AlpacaAccount, when, whole_number
from worker.sandbox.alpaca.bodies import Json, asset_class, order_id, order_json
from worker.sandbox.alpaca.contracts import OptionContracts
from worker.sandbox.alpaca.data import AlpacaData
from worker.sandbox.alpaca.linked import exit_fields
from worker.sandbox.alpaca.packages import CLASS, admit_package, is_package, read_package
from worker.sandbox.alpaca.rules import (
    AccountRules,
    malformed,
    not_found,
    order_fields,
    read_changes,
    read_ticket,
    unprocessable,
)
from worker.sandbox.alpaca.stream import UpdatesDoor
from worker.sandbox.http_door import Allowance, HttpDoor, Refusal, Route, decimal, read_json
from worker.sandbox.market import amending
from worker.sandbox.market.linking import MarketLinks
from worker.sandbox.market.market import Market, MarketEvent, MarketOrder, Position, Trade
from worker.sandbox.market.packages import place_order
from worker.sandbox.spoilt import web_reason

if TYPE_CHECKING:
    from worker.sandbox.faults import Fault

ACCOUNT_NUMBER = "PA3SANDBOX01"
#: HTTP status to the code and text of a failure that no rule explains.
FAILURES: dict[int, tuple[int | None, str]] = {
    401: (None, "unauthorized."),
    403: (None, "forbidden."),
    429: (42910000, "rate limit exceeded"),
    500: (50010000, "internal server error occurred"),
    503: (50310000, "service unavailable"),
    504: (50410000, "request timed out"),
}
#: Market event kind to what the stream calls it; fills depend on what is left.
EVENTS = {"accepted": "new", **{kind: kind for kind in ("canceled", "rejected", "expired", "replaced")}}


class AlpacaDoor(HttpDoor):
    """Alpaca in front of the market.

    Faults beyond the common ones: `stream_silent`, `duplicate_update`, `garbage_update` [unreadable, replace],
    `late_update` [seconds], `replace_rejected`, `not_found_lag` [seconds], `page_loop`, `trade_correct` [seconds,
    price, silent], `trade_bust` [seconds, silent], `id_taken` [ticker, side, quantity] and `replaced_outside`
    [seconds, quantity]. Operations: account, positions, close,
    list, place, get, find, replace, cancel, clock, calendar, assets, activities, quote, bars, stream.
    """

    def __init__(self, market: Market, name: str = "alpaca") -> None:
        super().__init__(market, name)
        self.rules = AccountRules(market, name)
        self.stream = UpdatesDoor(self, self._is_known)
        self.data = AlpacaData(market)
        self.account = AlpacaAccount(market, name, ACCOUNT_NUMBER, self.rules)
        self.links = MarketLinks(market, name)
        self._ids = {order_id(order): order for order in market.orders(name)}
        for order in self._ids.values():
            if order.replaced_by and (successor := market.find(name, order.replaced_by)):
                order.extra["replaced_by"] = order_id(successor)
        market.subscribe(name, self._on_event)

    def routes(self) -> Iterable[Route]:
        """Return every endpoint of both APIs and the stream."""
        yield Route("DELETE", "/v2/positions", "close", self._close_all)
        yield Route("DELETE", "/v2/positions/{symbol}", "close", self._close)
        yield Route("GET", "/v2/orders", "list", self._orders)
        yield Route("POST", "/v2/orders", "place", self._place)
        yield Route("DELETE", "/v2/orders", "cancel", self._cancel_all)
        yield Route("GET", "/v2/orders:by_client_order_id", "find", self._find)
        yield Route("GET", "/v2/orders/{id}", "get", self._order)
        yield Route("PATCH", "/v2/orders/{id}", "replace", self._replace)
        yield Route("DELETE", "/v2/orders/{id}", "cancel", self._cancel)
        yield from self.account.routes()
        yield from OptionContracts(self.market).routes()
        yield from self.data.routes()
        yield Route("GET", "/stream", "stream", self.stream.handle)
        yield Route("GET", "/stream/", "stream", self.stream.handle)
        yield Route("*", "/{path:.*}", "unknown", self._unknown)

    # -- COMMON ANSWERS ---

    def authorize(self, request: web.Request, operation: str) -> None:
        """Let in whoever shows a bearer token, or a key and a secret: not `wrong`, not another sandbox's name.

        The stream asks by itself.
        """
        if operation == "stream":
            return
        keys = [request.headers.get(f"APCA-API-{part}", "") for part in ("KEY-ID", "SECRET-KEY")]
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self._is_known(*keys) and not self._is_known(bearer, bearer):
            raise Refusal(401, {"message": "unauthorized."})

    def failure(self, status: int, text: str | None, code: int | None) -> web.Response:
        """Return an error body with Alpaca's code for the status."""
        known, words = FAILURES.get(status, (status * 100_000, web_reason(status)))
        body: Json = {"message": text or words}
        if code or known:
            body["code"] = code or known
        return web.json_response(body, status=status)

    def refusal(self, fault: Fault) -> web.Response:
        """Return a definitive no: 403 with code 40310000 unless the options say otherwise."""
        options = fault.options
        text = str(options.get("text") or "new orders are rejected by user request")
        body = {"code": int(options.get("code") or 40310000), "message": text}
        return web.json_response(body, status=int(options.get("status", 403)))

    def limited(self, limit: int, reset_s: float) -> Refusal:
        """Return the 429 of the real service with its three headers."""
        headers = self.told_of(Allowance(limit, 0, reset_s))
        return Refusal(429, {"code": 42910000, "message": "rate limit exceeded"}, headers)

    def told_of(self, budget: Allowance) -> Mapping[str, str]:
        """Return the three headers of the real service; the reset is in whole seconds."""
        return {
            "X-RateLimit-Limit": str(budget.limit),
            "X-RateLimit-Remaining": str(max(budget.left, 0)),
            "X-RateLimit-Reset": str(int(time() + budget.reset_s) + 1),
        }

    def turned_away(self, reason: str, body: object, _: web.Request) -> None:
        """Record an order that a fault kept from being taken."""
        try:
            if is_package(body):
                fields = {**read_package(body), "side": "buy", "legs": []}
            else:
                ticket = read_ticket(body)
                fields = order_fields(ticket, ticket.side, ticket["qty"] or Decimal(0))
        except Refusal:
            return
        self.market.turn_away(reason, door=self.name, account=ACCOUNT_NUMBER, **fields)

    def _is_known(self, key: str, secret: str) -> bool:
        return bool(key and secret) and "wrong" not in (key, secret) and not self.market.is_another(secret)

    async def _unknown(self, _: web.Request) -> web.Response:
        raise Refusal(404, {"message": "endpoint not found."})

    # -- ORDERS ---

    async def _place(self, request: web.Request) -> web.Response:
        """Take an order, or raise the refusal that Alpaca would answer.

        The id is looked at before the money: a duplicate is 422 whatever the account has.
        """
        body = await read_json(request)
        if is_package(body):
            return web.json_response(order_json(package := self._place_package(body), package.legs))
        ticket = read_ticket(body)
        taken = self.take("id_taken", symbol=ticket.symbol)
        if taken is not None:
            fields = order_fields(ticket, ticket.side, ticket["qty"] or Decimal(1))
            lies.take_id(self, taken, ticket.client_order_id, fields)
        self.rules.check_unique(ticket.client_order_id)
        side, quantity = self.rules.admit(ticket)
        order = self._take(order_fields(ticket, side, quantity))
        for prices in ticket.exits:
            self._add_exit(order, exit_fields(ticket, side, quantity, prices))
        return web.json_response(order_json(order, self.links.children(order)))

    def _place_package(self, body: Json) -> MarketOrder:
        """Take an order with legs; each is an order of its own that shows in it."""
        package = read_package(body)
        self.rules.check_unique(package["client_order_id"])
        admit_package(self.market, self.name, package)
        package |= {"door": self.name, "account": ACCOUNT_NUMBER, "extra": {"order_class": CLASS}}
        order = place_order(self.market, **package)
        for one in (order, *order.legs):
            self._ids[order_id(one)] = one
        self.stream.publish("pending_new", order)
        return order

    def _add_exit(self, parent: MarketOrder, fields: dict[str, object]) -> None:
        """Take an order that belongs to another; its id is ours to give, and it says nothing of whose it is."""
        waits = parent.extra["order_class"] != "oco"
        extra = {"order_class": parent.extra["order_class"], "parent": parent.number, "waits": waits}
        given = {"door": self.name, "account": ACCOUNT_NUMBER, "client_order_id": str(uuid.uuid4()), "extra": extra}
        child = self.market.place(**given, **fields, waits=waits)
        self._ids[order_id(child)] = child
        self.links.add(parent, child)

    def stand(self, fields: dict[str, object]) -> None:
        """Have somebody else's order in the account."""
        order = self.market.place(door=self.name, account=ACCOUNT_NUMBER, **fields)
        self._ids[order_id(order)] = order

    def succeed(self, order: MarketOrder, successor: MarketOrder) -> None:
        """Note that an order was made in place of another."""
        self._ids[order_id(successor)] = successor
        order.extra["replaced_by"] = order_id(successor)
        self.links.succeed(successor)

    def _take(self, fields: dict[str, object]) -> MarketOrder:
        """Give an admitted order to the market."""
        order = self.market.place(door=self.name, account=ACCOUNT_NUMBER, **fields)
        self._ids[order_id(order)] = order
        lag = self.take("not_found_lag", symbol=order.symbol)
        if lag is not None:
            order.extra["hidden_until"] = monotonic() + float(lag.options.get("seconds", 1.0))
        outside = self.take("replaced_outside", symbol=order.symbol)
        if outside is not None:
            amending.later(outside, lies.replace_outside, self, outside, order)
        self.stream.publish("pending_new", order)
        return order

    async def _orders(self, request: web.Request) -> web.Response:
        """Answer with a listing of orders, newest first unless asked otherwise, at most 500."""
        query = request.query
        keep = _order_filter(query)
        limit = whole_number(query.get("limit"), "limit", 50, 500)
        orders: Iterable[MarketOrder] = self.market.orders(self.name)
        if query.get("direction", "desc") != "asc":
            orders = reversed(list(orders))
        nested = _is_true(query.get("nested"))
        rows = [order_json(*self._rolled(order, nested)) for order in islice(self._shown(orders, keep, nested), limit)]
        return web.json_response(lies.loop(self.market, self.name, "list", rows, limit))

    async def _order(self, request: web.Request) -> web.Response:
        return web.json_response(order_json(*self._rolled(self._named(request), _is_true(request.query.get("nested")))))

    def _rolled(self, order: MarketOrder, nested: bool) -> tuple[MarketOrder, Sequence[MarketOrder]]:
        """Return an order, with those that belong to it where they are to be shown in it."""
        return order, order.legs or self.links.children(order) if nested else ()

    def _shown(
        self, orders: Iterable[MarketOrder], keep: Callable[[MarketOrder], bool], nested: bool
    ) -> Iterable[MarketOrder]:
        """Return the orders of a listing; nested, one that belongs to another is shown in that."""
        if not nested:
            return filter(keep, orders)
        heads = (order for order in orders if self.links.parent(order) is None and "leg" not in order.extra)
        return (order for order in heads if keep(order) or any(map(keep, self.links.children(order))))

    async def _find(self, request: web.Request) -> web.Response:
        name = request.query.get("client_order_id", "")
        order = self.market.find_by_client_id(self.name, name)
        if order is None or monotonic() < float(str(order.extra.get("hidden_until", 0))):
            raise not_found(f"order not found for {name}")
        return web.json_response(order_json(order))

    async def _replace(self, request: web.Request) -> web.Response:
        """Make a new order in the place of one; the old one ends `replaced` and names its successor."""
        order = self._named(request)
        body = await read_json(request)
        changes = read_changes(order, body)
        name = str(body.get("client_order_id") or uuid.uuid4())
        self.rules.check_unique(name)
        # The new order trades its qty as it stands, the old one's unless another is given (alpacahq/Alpaca-API#165).
        changes |= {"client_order_id": name, "extra": {**self.links.inherited(order), "replaces": order_id(order)}}
        if self.take("replace_rejected", symbol=order.symbol):
            return web.json_response(order_json(self._refuse_late(order, changes)))
        successor = self.market.replace(order, **changes)
        self.succeed(order, successor)
        return web.json_response(order_json(successor))

    def _refuse_late(self, order: MarketOrder, changes: dict[str, object]) -> MarketOrder:
        """Answer as if the order were replaced, and reject the new one a moment later: the old one stands."""
        names = ("symbol", "side", "quantity", "order_type", "time_in_force", "limit_price", "stop_price")
        fields = {name: getattr(order, name) for name in (*names, "trail_amount", "trail_percent", "extended_hours")}
        late = self.market.place(door=self.name, account=ACCOUNT_NUMBER, **{**fields, **changes})
        late.held, self._ids[order_id(late)] = True, late
        loop, delay = asyncio.get_running_loop(), self.market.fill_delay
        loop.call_later(delay, self.market.reject, late, "replace rejected")
        loop.call_later(delay, self.stream.publish, "order_replace_rejected", order)
        return late

    async def _cancel(self, request: web.Request) -> web.Response:
        self._request_cancel(self._named(request))
        return web.Response(status=204)

    async def _cancel_all(self, _: web.Request) -> web.Response:
        answers = []
        for order in [o for o in self.rules.open_orders() if not o.extra.get("pending_cancel")]:
            self._request_cancel(order)
            answers.append({"id": order_id(order), "status": 200, "body": order_json(order)})
        return web.json_response(answers, status=207)

    def _request_cancel(self, order: MarketOrder) -> None:
        """Note the wish at once and carry it out a moment later, so that a fill may still win."""
        if not order.is_live:
            raise unprocessable(f'order is already in "{order.state}" state')
        if order.extra.get("pending_cancel"):
            raise unprocessable('order is already in "pending_cancel" state')
        order.extra["pending_cancel"] = True
        self.stream.publish("pending_cancel", order)
        asyncio.get_running_loop().call_later(self.market.fill_delay, self.market.cancel, order)

    def _named(self, request: web.Request) -> MarketOrder:
        """Return the order the path names; Refusal for a bad UUID or an unknown one."""
        name = request.match_info["id"]
        try:
            key = str(uuid.UUID(name))
        except ValueError:
            raise malformed("order_id must be a valid UUID") from None
        if key not in self._ids:
            raise not_found(f"order not found for {name}")
        return self._ids[key]

    def _on_event(self, event: MarketEvent) -> None:
        """Send what the market has done to an order down the stream."""
        order = event.order
        self._ids.setdefault(order_id(order), order)
        if event.kind == "accepted":
            order.extra["accepted"] = True
        if "leg" in order.extra:  # its package tells it; of an execution the activities as well
            if event.execution is not None:
                self.account.add_fill(order, event.execution)
            return
        if event.execution is not None:
            self._on_fill(order, event.execution)
        elif event.kind in EVENTS:
            self.stream.publish(EVENTS[event.kind], order)

    def _on_fill(self, order: MarketOrder, execution: Trade) -> None:
        if not order.legs:
            self.account.add_fill(order, execution)
        whole = execution.cumulative >= order.quantity
        self.stream.publish("fill" if whole else "partial_fill", order, execution)
        lies.after_fill(self, order, execution)

    # -- CLOSING POSITIONS ---

    async def _close(self, request: web.Request) -> web.Response:
        symbol, position = self.account.held(request.match_info["symbol"])
        size = abs(position.quantity)
        percentage, quantity = decimal(request.query.get("percentage")), decimal(request.query.get("qty"))
        if percentage is not None:
            size = (size * percentage / 100).quantize(Decimal("1e-9"), ROUND_DOWN)
        return web.json_response(order_json(self._close_position(symbol, position, quantity or size)))

    async def _close_all(self, request: web.Request) -> web.Response:
        """Close every position by a market order; the answer has one row for each, with a status of its own."""
        if _is_true(request.query.get("cancel_orders")):
            for order in self.rules.open_orders():
                self.market.cancel(order)
        answers = []
        for symbol, position in sorted(self.market.account(self.name).positions.items()):
            answer: Json = {"symbol": symbol, "status": 200}
            try:
                answer["body"] = order_json(self._close_position(symbol, position, abs(position.quantity)))
            except Refusal as no:
                answer |= {"status": no.status, "body": no.body}
            answers.append(answer)
        return web.json_response(answers, status=207)

    def _close_position(self, symbol: str, position: Position, quantity: Decimal) -> MarketOrder:
        side = "sell" if position.quantity > 0 else "buy"
        until = "gtc" if asset_class(symbol) == "crypto" else "day"
        body = {"symbol": symbol, "side": side, "type": "market", "time_in_force": until, "qty": str(quantity)}
        ticket = read_ticket(body)
        return self._take(order_fields(ticket, *self.rules.admit(ticket)))


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1", "t")  # alpaca-py writes True


def _order_filter(query: Mapping[str, str]) -> Callable[[MarketOrder], bool]:
    """Return the test that the query of an order listing describes; both times are exclusive, by submission."""
    earliest, latest = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    after, until = when(query.get("after"), earliest), when(query.get("until"), latest)
    symbols = set(query.get("symbols", "").split(",")) - {""}
    side, status = query.get("side"), query.get("status", "open")
    if status not in ("open", "closed", "all"):
        raise malformed(f"invalid status: {status}")

    def keep(order: MarketOrder) -> bool:
        return (
            after < order.received_at < until
            and monotonic() >= float(str(order.extra.get("hidden_until", 0)))
            and (status == "all" or order.is_live == (status == "open"))
            and (not symbols or order.symbol in symbols)
            and (not side or order.side.startswith(side))
        )

    return keep
