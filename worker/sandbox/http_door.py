"""What every HTTP door of the sandbox shares: a listening socket, a table of routes, and the faults in front of them.

Belongs here: sockets and faults. Does not belong here: any broker's paths, bodies or rules.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from worker.sandbox.spoilt import SPOILERS, halve, spoil, spoil_row, web_reason

if TYPE_CHECKING:
    from worker.sandbox.faults import Fault
    from worker.sandbox.market.market import Market

#: Seconds between two looks at a client that waits for an answer.
TICK_S = 0.02
#: Operations a fault without the option `operation` applies to; a kind that is not here applies to every operation.
DEFAULT_OPERATIONS: dict[str, Collection[str]] = {
    "refuse": ("place",),
    "hang": ("place",),
    "accept_hang": ("place",),
    "accept_drop": ("place",),
    "garbage": ("place",),
    "half_reply": ("place",),
    "flood": ("place",),
}
HTML = "<html><head><title>{0} {1}</title></head><body><center><h1>{0} {1}</h1></center><hr></body></html>"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One endpoint; `operation` is the word by which faults are aimed at it."""

    method: str
    path: str
    operation: str
    handler: Handler


class Allowance(NamedTuple):
    """What a door lets through: calls in a window, those left of them, and when the oldest leaves it."""

    limit: int
    left: int
    reset_s: float


class Refusal(Exception):
    """The door says no, in the wire's own words: raised by the rules, answered as it is.

    Attributes:
        status: HTTP status of the answer.
        body: its JSON document.
        headers: what goes with it.
        turns_away: an order is noted as turned away; who raises it before the order was read says so.
    """

    turns_away = False

    def __init__(self, status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = headers

    def response(self) -> web.Response:
        """Return the answer as it goes over the wire."""
        return web.json_response(self.body, status=self.status, headers=self.headers)


async def read_json(request: web.Request) -> Any:
    """Return the request's JSON document with exact decimals; None when there is none or it cannot be read."""
    try:
        return json.loads(await request.text(), parse_float=Decimal)
    except (ValueError, UnicodeDecodeError):
        return None


def decimal(value: object) -> Decimal | None:
    """Return a number that came as JSON number or string; None when it is neither, or absurdly large."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and number.adjusted() < 15 else None


class HttpDoor(ABC):
    """A loopback HTTP server in front of the market that can be told to misbehave.

    Faults honoured for every door, by kind (options in brackets): `refuse` [code, text, status], `hang`, `accept_hang`,
    `accept_drop`, `garbage` [accepted], `half_reply` [accepted, share], `flood` [accepted, way], `half` [cut,
    operation] (of a reading), `spoiled_row` [field, value, index, operation], `status` [status, html, accepted,
    operation, headers], `slow` [seconds, operation], `down`, `disconnect`, `rate_limit` [per_minute, window_s,
    headers], `odd_date` [text] (until cleared). All that strike a `place` also take [operation] to hit another call.
    """

    def __init__(self, market: Market, name: str) -> None:
        self.market = market
        self.name = name
        self.host = "127.0.0.1"
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._stopping = False
        self._calls: deque[float] = deque()
        self._alarm = asyncio.Event()
        market.faults.on_added(lambda _: self._alarm.set())
        market.faults.on_cleared(self._alarm.set)

    # -- FOR SUBCLASSES ---

    @abstractmethod
    def routes(self) -> Iterable[Route]:
        """Return the door's endpoints, most specific path first."""

    @abstractmethod
    def authorize(self, request: web.Request, operation: str) -> None:
        """Raise Refusal unless the caller may come in."""

    @abstractmethod
    def failure(self, status: int, text: str | None, code: int | None) -> web.Response:
        """Return an error answer in the words of this wire."""

    @abstractmethod
    def refusal(self, fault: Fault) -> web.Response:
        """Return a definitive no to an order, in the words of this wire."""

    @abstractmethod
    def turned_away(self, reason: str, body: object, request: web.Request) -> None:
        """Leave a line in the ledger for an order that reached the door and was not taken; other calls leave none."""

    # -- LIFE ---

    @property
    def url(self) -> str:
        """Where the door listens, without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; return the port, which is the one asked for or a free one for 0."""
        app = web.Application()
        for route in self.routes():
            app.router.add_route(route.method, route.path, self._guard(route))
        self._stopping = False
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        self.host, self.port = host, port
        try:
            await self._listen()
        except OSError:
            await self._runner.cleanup()
            self._runner = self._site = None
            raise
        self._watcher = asyncio.create_task(self._watch())
        return self.port

    async def stop(self) -> None:
        """Cut every connection and stop listening. The market keeps all state."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = self._site = self._watcher = None

    def cut(self) -> None:
        """Reset every open connection, websockets included, without a goodbye."""
        server = self._runner.server if self._runner is not None else None
        for connection in list(server.connections) if server is not None else []:
            if connection.transport is not None:
                connection.transport.abort()

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
        await self._site.start()
        self.port = int(self._runner.addresses[0][1])

    async def _watch(self) -> None:
        """Obey the faults that need no request: cut once for `disconnect`, closed for as long as `down` stands."""
        while True:
            self._alarm.clear()
            if self.take("disconnect"):
                self.cut()
            fault = self.peek("down")
            down = fault is not None
            if fault is not None and self._site is not None:
                self.market.faults.note(fault, self.name)
                await self._site.stop()
                self._site = None
                self.cut()
            elif not down and self._site is None:
                try:
                    await self._listen()
                except OSError:  # the port may still be leaving the kernel
                    await asyncio.sleep(TICK_S)
                    continue
            await self._alarm.wait()

    # -- FAULTS ---

    def peek(self, kind: str, operation: str | None = None, symbol: str | None = None) -> Fault | None:
        """Return the fault that stands for this call without using it up."""
        fault = self.market.faults.peek(self.name, kind, symbol, operation)
        if fault is None or operation is None or fault.operation is not None:
            return fault
        wanted = fault.options.get("operation", DEFAULT_OPERATIONS.get(kind))
        if wanted is None:
            return fault
        return fault if operation in ((wanted,) if isinstance(wanted, str) else wanted) else None

    def take(self, kind: str, operation: str | None = None, symbol: str | None = None) -> Fault | None:
        """Use up one count of the fault that stands for this call, if there is one."""
        if self.peek(kind, operation, symbol) is None:
            return None
        return self.market.faults.take(self.name, kind, symbol, operation)

    def _guard(self, route: Route) -> Handler:
        """Return a handler that does what comes before each answer: faults, the account's budget, access."""

        async def serve(request: web.Request) -> web.StreamResponse:
            try:
                if self.peek("down") is not None:
                    return await self._drop(request)
                self._meter(route.operation)
                self.authorize(request, route.operation)
                response = await self._faulty(route, request)
                if not response.prepared and (budget := self.budget()) is not None:
                    response.headers.update(self.told_of(budget))
                if not response.prepared and (odd := self.peek("odd_date")) is not None:
                    self.market.faults.note_once(odd, self.name)
                    response.headers["Date"] = str(odd.options.get("text", "today"))
                return response
            except Refusal as no:
                if route.operation == "place" and no.turns_away:
                    self.turned_away("refused", await read_json(request), request)
                return no.response()

        return serve

    async def _faulty(self, route: Route, request: web.Request) -> web.StreamResponse:
        """Answer one call with the faults that stand for it, in the order a real failure would strike."""
        operation = route.operation
        body = await read_json(request) if operation == "place" else None
        symbol = self.ours(order_symbol(body))
        status = self.take("status", operation, symbol)
        if status is not None and not status.options.get("accepted"):
            self.turned_away(f"status {status.options.get('status', 503)}", body, request)
            return self._broken(status)
        refuse = self.take("refuse", operation, symbol)
        if refuse is not None:
            self.turned_away("refused", body, request)
            return self.refusal(refuse)
        if self.take("hang", operation, symbol):
            self.turned_away("swallowed", body, request)
            return await self._hang(request)
        spoilt = next((fault for kind in SPOILERS if (fault := self.take(kind, operation, symbol))), None)
        if spoilt is not None and not spoilt.options.get("accepted", True):
            self.turned_away(spoilt.kind, body, request)
            return await spoil(spoilt, request, web.json_response({"id": "of nothing that was taken"}))
        late = self.peek("slow", operation, symbol)
        if late is not None and late.options.get("before"):  # on its way: not taken for so long, whoever still waits
            self.take("slow", operation, symbol)
            await asyncio.sleep(float(late.options.get("seconds", 1.0)))
        response = await self._answer(route, request)
        if status is not None:
            return self._broken(status)
        if spoilt is not None:
            return await spoil(spoilt, request, response)
        if response.status < 300:
            if self.take("accept_drop", operation, symbol):
                return await self._drop(request)
            if self.take("accept_hang", operation, symbol):
                return await self._hang(request)
            row = self.take("spoiled_row", operation)
            if row is not None:
                return spoil_row(row, response)
            half = self.take("half", operation) if request.method == "GET" else None
            if half is not None:
                return await halve(request, response, cut=bool(half.options.get("cut")))
        slow = self.take("slow", operation, symbol)
        if slow is not None:
            await self._wait(request, float(slow.options.get("seconds", 1.0)))
        return response

    async def _answer(self, route: Route, request: web.Request) -> web.StreamResponse:
        try:
            return await route.handler(request)
        except Refusal as no:
            return no.response()

    def _broken(self, fault: Fault) -> web.Response:
        """Return the answer of a server that is broken, or of a proxy before it: a status, a text or an HTML page."""
        status = int(fault.options.get("status", 503))
        text = fault.options.get("text")
        if fault.options.get("html"):
            page = HTML.format(status, text or web_reason(status))
            answer = web.Response(status=status, text=page, content_type="text/html")
        else:
            answer = self.failure(status, text, fault.options.get("code"))
        answer.headers.update(fault.options.get("headers") or {})
        return answer

    async def _hang(self, request: web.Request) -> web.StreamResponse:
        await self._wait(request, float("inf"))
        return await self._drop(request)

    async def _drop(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)  # never sent: the connection is gone

    async def _wait(self, request: web.Request, seconds: float) -> None:
        """Wait that long, or until the client leaves or the door closes."""
        end = monotonic() + seconds
        while not self._stopping and monotonic() < end:
            if request.transport is None or request.transport.is_closing():
                return
            await asyncio.sleep(min(TICK_S, max(end - monotonic(), 0)))

    def _meter(self, operation: str) -> None:
        """Count calls while a `rate_limit` fault stands: per minute, or scaled to `window_s`; refuse above it.

        Every call that is refused is a line `limited` in the ledger.
        """
        budget = self.budget()
        if budget is None:
            self._calls.clear()
            return
        if budget.left <= 0:
            fault = self.peek("rate_limit")
            if fault is not None:
                self.market.faults.note(fault, self.name)
            self.market.ledger.record("limited", door=self.name, operation=operation, limit=budget.limit)
            no = self.limited(budget.limit, budget.reset_s)
            raise no if fault is None or fault.options.get("headers", True) else Refusal(no.status, no.body)
        self._calls.append(monotonic())

    def budget(self) -> Allowance | None:
        """Return what a `rate_limit` fault allows now; None while there is none."""
        fault = self.peek("rate_limit")
        if fault is None:
            return None
        seconds = float(fault.options.get("window_s", 60.0))
        limit, now = int(float(fault.options.get("per_minute", 200)) * seconds / 60), monotonic()
        while self._calls and self._calls[0] <= now - seconds:
            self._calls.popleft()
        reset_s = seconds - (now - self._calls[0]) if self._calls else seconds
        return Allowance(limit, limit - len(self._calls), reset_s)

    def told_of(self, budget: Allowance) -> Mapping[str, str]:
        """Return the headers in which answers tell what is left; most brokers tell nothing."""
        return {}

    def ours(self, symbol: str | None) -> str | None:
        """Return a symbol of an order body as the market writes it."""
        return symbol

    @abstractmethod
    def limited(self, limit: int, reset_s: float) -> Refusal:
        """Return the answer to a caller above `limit` calls; the oldest call leaves in `reset_s` seconds."""


def order_symbol(body: object) -> str | None:
    """Return the symbol an order body names, in Alpaca's or in TDA's form, of several legs the first; else None."""
    if not isinstance(body, dict):
        return None
    if body.get("orderStrategyType") == "OCO" and isinstance(inner := body.get("childOrderStrategies"), list):
        return order_symbol(inner[0]) if inner else None
    legs = body.get("orderLegCollection") or body.get("legs")
    if isinstance(legs, list) and legs and isinstance(legs[0], dict):
        instrument = legs[0].get("instrument", legs[0])
        body = instrument if isinstance(instrument, dict) else {}
    symbol = body.get("symbol")
    return symbol if isinstance(symbol, str) else None
