"""The control door: JSON over HTTP for tests, the demo and operators of the sandbox; and its small client.

Nothing a broker would offer: faults, pinned prices, set positions, and the ledger, the sandbox's own evidence.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from aiohttp import web

from worker.sandbox.faults import Fault
from worker.sandbox.http_door import Handler
from worker.sandbox.market.market import Market, MarketOrder
from worker.sandbox.market.prices import BASE_PRICES

Json = dict[str, Any]
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ControlDoor:
    """HTTP door to the market's inside."""

    def __init__(self, market: Market, doors: Mapping[str, object], ports: Mapping[str, int]) -> None:
        self.market = market
        #: What a caller has to show; it is in `sandbox.json`, which only the user who runs the sandbox can read.
        self.token = secrets.token_urlsafe(24)
        self._doors = doors
        self._ports = ports
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; return the port."""
        app = web.Application(middlewares=[_errors_as_json, self._guard])
        routes = {
            "/health": self._health,
            "/ports": self._get_ports,
            "/ledger": self._ledger,
            "/orders": self._orders,
            "/accounts": self._accounts,
            "/faults": self._faults,
            "/strikes": self._strikes,
        }
        app.add_routes([web.get(path, handler) for path, handler in routes.items()])
        app.add_routes(
            [
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.post("/price", self._price),
                web.post("/position", self._position),
                web.post("/release", self._release),
                web.post("/pay", self._pay),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in who can read the home: no page of a browser, no other user of this machine, no other host's name."""
        if _host(request.host) not in _LOOPBACK:
            return _no(403, f"Host must be this machine, was {request.host}")
        if (origin := request.headers.get("Origin")) is not None:
            return _no(403, f"no page may ask, was {origin}")
        if request.path != "/health" and not secrets.compare_digest(
            request.headers.get("Authorization", "").encode(), f"Bearer {self.token}".encode()
        ):
            return _no(401, "the token of sandbox.json is needed: Authorization: Bearer ...")
        if request.can_read_body and request.content_type != "application/json":
            return _no(415, f"must be application/json, was {request.content_type}")
        answer: web.StreamResponse = await handler(request)
        return answer

    # -- READING --

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "doors": list(self._doors)})

    async def _get_ports(self, _: web.Request) -> web.Response:
        return web.json_response(dict(self._ports))

    async def _ledger(self, _: web.Request) -> web.Response:
        ledger = self.market.ledger
        return web.json_response({"lines": ledger.lines, "duplicates": ledger.duplicates()})

    async def _orders(self, request: web.Request) -> web.Response:
        door = request.query.get("door")
        doors = [door] if door else list(self._doors)
        return web.json_response([order_json(order) for name in doors for order in self.market.orders(name)])

    async def _accounts(self, _: web.Request) -> web.Response:
        each = [(name, number) for name in self._doors for number in ("", *self.market.books.numbers(name)[1:])]
        shown = {f"{name}:{number}".rstrip(":"): self.market.account(name, number) for name, number in each}
        return web.json_response({name: _plain(asdict(account)) for name, account in shown.items()})

    async def _faults(self, _: web.Request) -> web.Response:
        return web.json_response([_plain(asdict(fault)) for fault in self.market.faults.all()])

    async def _strikes(self, request: web.Request) -> web.Response:
        return web.json_response(self.market.faults.struck[int(request.query.get("since", 0)) :])

    # -- CHANGING --

    async def _add_fault(self, request: web.Request) -> web.Response:
        body = await request.json()
        if isinstance(body, list):
            return web.json_response([_plain(asdict(self._add(one))) for one in body], status=201)
        return web.json_response(_plain(asdict(self._add(body))), status=201)

    def _add(self, body: Json) -> Fault:
        known = {"door", "kind", "count", "symbol", "operation", "options"}
        if unknown := set(body) - known:
            raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
        if body["door"] != "*":
            self._must_be_a_door(body["door"])
        return self.market.faults.add(Fault(**body))

    async def _clear_faults(self, request: web.Request) -> web.Response:
        door = request.query.get("door")
        if door not in (None, "*"):
            self._must_be_a_door(door)
        self.market.faults.clear(door, request.query.get("kind"))
        return web.json_response({})

    async def _price(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._must_trade(body["symbol"])
        price = None if body["price"] is None else _number("price", body["price"])
        if price is not None and price <= 0:
            raise ValueError(f"price: must be greater than zero, was {body['price']}")
        self.market.set_price(body["symbol"], price)
        quote = self.market.quote(body["symbol"])
        return web.json_response(_plain({"bid": quote.bid, "ask": quote.ask, "last": quote.last}))

    async def _position(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._must_be_a_door(body["door"])
        quantity = _number("quantity", body["quantity"])
        if quantity:  # what trades no more may be taken away
            self._must_trade(body["symbol"])
        self._must_be_an_account(body)
        self.market.set_position(body["door"], body["symbol"], quantity, body.get("account") or "")
        return web.json_response({})

    async def _pay(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._must_be_a_door(body["door"])
        self._must_be_an_account(body)
        return web.json_response({"number": self.market.pay(body.pop("door"), **body).number}, status=201)

    async def _release(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        if (door := body.get("door")) is not None:
            self._must_be_a_door(door)
        self.market.release(door)
        return web.json_response({})

    def _must_be_a_door(self, name: object) -> None:
        if name not in self._doors:
            raise ValueError(f"unknown door {name!r}: there are {', '.join(self._doors)}")

    def _must_be_an_account(self, body: Json) -> None:
        known = self.market.books.numbers(body["door"])
        if (named := body.get("account")) and named not in known:
            raise ValueError(f"unknown account {named!r}: {body['door']} has {', '.join(known) or 'one'}")

    def _must_trade(self, symbol: str) -> None:
        if not self.market.exists(symbol):
            shares = ", ".join(sorted(BASE_PRICES))
            raise ValueError(f"{symbol} does not trade here: shares are {shares}, and SIM000 to SIM999")


def _number(name: str, given: object) -> Decimal:
    try:
        number = Decimal(str(given))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError(f"{name}: must be a number, was {given!r}")
    return number


def _host(name: str) -> str:
    """Return the host of a Host header, without its port and without the brackets of IPv6."""
    return (urlsplit(f"//{name}").hostname or "") if name else ""


def _no(status: int, words: str) -> web.Response:
    return web.json_response({"error": words}, status=status)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
    except (KeyError, ValueError, TypeError, InvalidOperation) as error:
        missing = f"{error.args[0]}: is missing" if type(error) is KeyError else f"{type(error).__name__}: {error}"
        words = str(error) if type(error) is ValueError else missing
        return web.json_response({"error": words}, status=400)
    return answer


def order_json(order: MarketOrder) -> Json:
    """Return an order as JSON: decimals and times as text, what the market keeps for itself left out."""
    body = asdict(order)
    for name in ("extra", "held", "fill_cap", "triggered", "high_water"):
        del body[name]
    body["filled_quantity"] = order.filled_quantity
    body["wire_id"] = order.extra.get("order_id")  # what a door without client order ids calls it
    return {name: _plain(value) for name, value in body.items()}


def _plain(value: object) -> object:
    """Make a value JSON-ready: decimals and times as text, and numbers for which JSON has no word."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    odd = isinstance(value, float) and not math.isfinite(value)
    return str(value) if odd or isinstance(value, Decimal) else value


class SandboxControl:
    """Drives a running sandbox from another thread or process.

    Raises `requests.HTTPError` with the door's own words when it says no.
    """

    def __init__(self, base_url: str, token: str = "", timeout: float = 5.0) -> None:
        self.base_url, self.timeout = base_url.rstrip("/"), timeout
        self.token = token
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    @classmethod
    def at(cls, home: Path, timeout: float = 20.0) -> SandboxControl:
        """Return the control of the sandbox that lives in `home`, once its `sandbox.json` is there.

        Raises:
            TimeoutError: it did not come up in `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        path = home / "sandbox.json"
        while not path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no sandbox in {home}")
            time.sleep(0.02)
        told = json.loads(path.read_text())
        control = cls(f"http://127.0.0.1:{told['ports']['control']}", told.get("token", ""))
        control.wait_ready(max(deadline - time.monotonic(), 0.1))
        return control

    def wait_ready(self, timeout: float = 20.0) -> None:
        """Wait until the sandbox answers. Raises TimeoutError when it does not."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.health()
            except requests.RequestException as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no sandbox at {self.base_url}") from error
                time.sleep(0.02)
            else:
                return

    def health(self) -> Json:
        """Return status and doors."""
        return dict(self._call("GET", "/health"))

    def ports(self) -> dict[str, int]:
        """Return the port of every door."""
        return dict(self._call("GET", "/ports"))

    def ledger(self) -> list[Json]:
        """Return every ledger line of this run, oldest first."""
        return list(self._call("GET", "/ledger")["lines"])

    def duplicates(self) -> list[Json]:
        """Return orders live or filled in more than one place; empty is the goal."""
        return list(self._call("GET", "/ledger")["duplicates"])

    def orders(self, door: str | None = None) -> list[Json]:
        """Return the orders of one door or of all, as the market sees them."""
        return list(self._call("GET", "/orders", params={"door": door} if door else None))

    def accounts(self) -> dict[str, Json]:
        """Return cash, equity, buying power and positions by door; of a further account under `ibkr:DU1000002`."""
        return dict(self._call("GET", "/accounts"))

    def faults(self) -> list[Json]:
        """Return the faults in force."""
        return list(self._call("GET", "/faults"))

    def add_fault(
        self,
        door: str,
        kind: str,
        count: int | None = None,
        symbol: str | None = None,
        operation: str | None = None,
        **options: object,
    ) -> Json:
        """Put a fault in force, see `worker.sandbox.fault_kinds`; `**options` are the fault's own."""
        body = {"door": door, "kind": kind, "count": count, "symbol": symbol, "operation": operation}
        return dict(self._call("POST", "/faults", body={**body, "options": options}))

    def add_faults(self, faults: Sequence[Json]) -> None:
        """Put many in force at once: dictionaries with door, kind and what else a fault has."""
        self._call("POST", "/faults", body=list(faults))

    def strikes(self, since: int = 0) -> list[Json]:
        """Return every time a fault struck, oldest first, from the given index on."""
        return list(self._call("GET", "/strikes", params={"since": str(since)}))

    def clear_faults(self, door: str | None = None, kind: str | None = None) -> None:
        """Remove the faults of one door, of one kind, or all."""
        self._call("DELETE", "/faults", params={k: v for k, v in (("door", door), ("kind", kind)) if v})

    def set_price(self, symbol: str, price: Decimal | str | None) -> Json:
        """Pin a price; None lets it walk again. Returns bid, ask and last."""
        return dict(self._call("POST", "/price", body={"symbol": symbol, "price": price and str(price)}))

    def set_position(self, door: str, symbol: str, quantity: Decimal | int | str, account: str = "") -> None:
        """Set a position of a door's account (its number; the first one), out of thin air: no order, fill or cash."""
        body = {"door": door, "symbol": symbol, "quantity": str(quantity), "account": account}
        self._call("POST", "/position", body=body)

    def pay(self, door: str, kind: str, **facts: object) -> int:
        """Pay, charge or give an account something besides its trades.

        Args:
            door: whose account.
            kind: dividend, interest, fee, deposit, withdrawal, split or transfer (of shares).
            facts: `account` (a number; the first one), `amount`, `symbol`, `quantity` (of a split or transfer: what the
                position gains), `text`, `paid_at`.

        Returns:
            Its number.
        """
        told = {name: value if value is None else str(value) for name, value in facts.items()}
        return int(self._call("POST", "/pay", body={"door": door, "kind": kind, **told})["number"])

    def release(self, door: str | None = None) -> None:
        """Let orders held back by `no_fill` and `partial` be filled."""
        self._call("POST", "/release", body={"door": door})

    def _call(self, method: str, path: str, *, params: Json | None = None, body: object = None) -> Any:
        """Call the control door and return its JSON.

        Raises:
            requests.HTTPError: it refuses, in its own words; a fault that it does not know is told with those it does.
        """
        sent = None if body is None else json.dumps(body)  # requests' own refuses NaN, which a fault may want
        answer = requests.request(
            method, self.base_url + path, params=params, data=sent, timeout=self.timeout, headers=self._headers
        )
        if answer.status_code in (400, 401, 403, 415):
            raise requests.HTTPError(answer.json().get("error"), response=answer)
        answer.raise_for_status()
        return answer.json()
