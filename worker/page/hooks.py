"""Alerts of TradingView as orders: `POST /hooks/tradingview/TOKEN`, a door for whoever can send nothing but a body.

| TradingView                                         | so                                                            |
|-----------------------------------------------------|---------------------------------------------------------------|
| sends no header of ours                             | the token stands in the path; it is a key of its own, bounded |
| has no id for an alert, and may send it twice       | the message's `id` is the order's, else a digest of it        |
| sends text/plain where the message is no JSON       | the body is JSON, whatever it is called                       |
| shows nobody our answer, and hangs up after 3 s     | what is refused is logged; 202 follows the row at once        |
| calls symbols as it likes (`NASDAQ:AAPL`)           | `[web.tradingview] symbols` translates                        |

The message is an order object, with `id` in place of client_order_id; what it leaves out `[web.tradingview] defaults`
has. Sources: tradingview.com/support/solutions/43000529348 (webhooks), 43000531021 (variables).
"""

from __future__ import annotations

import hashlib

import structlog
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from models.errors import CorroError, InvalidRequest, Untrusted
from models.messages import is_id
from models.troubles import trouble
from models.vocabulary import Denial
from models.web import TradingViewSettings, is_among
from producers.client import OrderClient
from worker.page.asking import json_object
from worker.page.doors import refusal, told
from worker.page.order_door import OrderDoor, Placed
from worker.page.sessions import Sessions, Visitor, address_of

log = structlog.get_logger()

#: Exchanges of the US, as TradingView writes them before a symbol: ours has none there.
_US = frozenset({"NASDAQ", "NYSE", "AMEX", "ARCA", "BATS", "CBOE"})


class TradingViewHook:
    """Takes alerts.

    Args:
        client: over the record.
        sessions: knows whose tokens there are.
    """

    def __init__(self, client: OrderClient, sessions: Sessions) -> None:
        self.sessions, self.door = sessions, OrderDoor(client)
        self.settings: TradingViewSettings = client.settings.web.tradingview

    def take(self, token: str, address: str, body: bytes) -> Placed:
        """Record the order of an alert.

        Args:
            token: from the path.
            address: from where the alert comes.
            body: the message.

        Raises:
            Untrusted: not from there, not with this token, or not such an order.
            InvalidOrder, InvalidRequest: it is none.
            DatabaseUnavailable: nothing was recorded.
        """
        if self.settings.allow_from and not is_among(address, self.settings.allow_from):
            words = f"alerts come from [web.tradingview] allow_from, {address} is not among them"
            raise Untrusted(words, Denial.NOT_PERMITTED)
        visitor = self.sessions.of_token(token, address)
        try:
            if visitor.may_operate:
                raise Untrusted("an operator's token stands in no path: paths are logged", Denial.NOT_PERMITTED)
            placed = self._placed(visitor, body)
        except CorroError as error:
            log.warning("alert_refused", key=visitor.key["key_id"], error=trouble(error))
            raise
        if placed.is_refused:
            log.warning("alert_refused", key=visitor.key["key_id"], error=str(placed.row["reason"]))
        return placed

    def _placed(self, visitor: Visitor, body: bytes) -> Placed:
        alert = {**self.settings.defaults, **json_object(body)}
        if "client_order_id" in alert:
            raise InvalidRequest("client_order_id: an alert calls it id")
        id_ = order_id(visitor.key["key_id"], alert.pop("id", None), body)
        alert["symbol"] = self._symbol(alert.get("symbol"))
        return self.door.submit(visitor, id_, alert)

    def _symbol(self, given: object) -> object:
        if not isinstance(given, str):
            return given
        if given in self.settings.symbols:
            return self.settings.symbols[given]
        exchange, _, ticker = given.rpartition(":")
        return ticker if exchange.upper() in _US else given


def order_id(key_id: str, given: object, body: bytes) -> str:
    """Return the client_order_id of an alert: the same however often it is sent.

    Args:
        key_id: of the key; goes into a digest, so that two keys' alerts are not one order there. A usable id stands as
            it is: if another order has it, the alert is a conflict, or that order.
        given: the message's `id`; one that may not be an order's id is digested, not mended: two might become one.
        body: stands for an id where there is none.
    """
    if isinstance(given, str) and is_id(given):
        return given
    what = body if given in (None, "") else repr(given).encode("utf-8", "replace")
    return "tv-" + hashlib.sha256(key_id.encode() + b"\0" + what).hexdigest()[:40]


def register(app: FastAPI, client: OrderClient, sessions: Sessions) -> None:
    """Add the route."""
    hook = TradingViewHook(client, sessions)

    @app.post("/hooks/tradingview/{token}", tags=["hooks"], status_code=202)
    async def tradingview(request: Request, token: str) -> Response:
        """Take an alert of TradingView as an order; the token is a key's that is no operator's."""
        address, body = address_of(request, sessions.web), await request.body()
        placed = await run_in_threadpool(hook.take, token, address, body)
        if placed.is_refused:
            return refusal(placed)
        return told({name: placed.row[name] for name in ("client_order_id", "status")}, 202)
