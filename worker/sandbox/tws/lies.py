"""What the TWS door does to an order that it has taken: answers spoiled, words held back, refusals that do not last.

Faults: `accept_drop`, `accept_hang`, `garbage`, `half_reply` [share] and `error_code` [code, text] spoil the answer;
`tif_preset` [text], `locate_hold` [seconds], `swallow_status`, `duplicate_status`, `slow` [seconds, reverse] and
`revive` [after, seconds] change what follows; `market_closed` warns of what waits for its exchange. `revive`: shown
alive first; `after` seconds later Inactive with 201, still in the books, and in another `seconds` it works again and
fills, unless it was canceled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.sandbox.faults import Fault
from worker.sandbox.market.matching import is_shut
from worker.sandbox.tws.messages import TwsOrder, error, open_order
from worker.sandbox.tws.wire import encode

if TYPE_CHECKING:
    from worker.sandbox.tws.orders import OrderDesk, Outlet

MANNERS = ("tif_preset", "locate_hold", "swallow_status", "duplicate_status", "slow", "revive", "market_closed")
#: IB's warning of an order that waits for its exchange (docs/facts/ibkr.md#4.6).
SHUT = "Order Message:\nWarning: your order will not be placed at the exchange until the next session, 09:30 US/Eastern"


def answer(client: Outlet, tws: TwsOrder, fault: Fault) -> None:
    """Spoil the answer to a placeOrder that was taken."""
    if fault.kind == "accept_drop":
        client.abort()
    elif fault.kind == "accept_hang":
        tws.silent = True
    elif fault.kind == "garbage":
        client.answer(encode(3, tws.order_id, "\x7f?", "noise"))
        tws.no_status = True
    elif fault.kind == "half_reply":
        frame = open_order(tws, client.version)
        client.answer(frame[: int(len(frame) * float(fault.options.get("share", 0.5)))])
        client.abort()
    else:
        code, words = int(fault.options.get("code", 399)), str(fault.options.get("text", "Order Message:"))
        client.answer(error(tws.order_id, code, words, client.version))


def behave(desk: OrderDesk, client: Outlet, tws: TwsOrder, fault: Fault) -> None:
    """Have an order treated as a fault says from now on."""
    loop, options = asyncio.get_running_loop(), fault.options
    if fault.kind == "tif_preset":
        words = str(options.get("text", "Order TIF was set to DAY based on order preset."))
        client.answer(error(tws.order_id, 10349, words, client.version))
    elif fault.kind == "locate_hold":
        tws.why_held, tws.order.held = "locate", True
        client.answer(error(tws.order_id, 404, "Order held while securities are located.", client.version))
        loop.call_later(float(options.get("seconds", 0.2)), _work, desk, tws)
    elif fault.kind == "market_closed":
        if is_shut(tws.order.door, tws.order.symbol, desk.market.faults):
            client.answer(error(tws.order_id, 399, SHUT, client.version))
    elif fault.kind == "swallow_status":
        tws.no_status = True
    elif fault.kind == "duplicate_status":
        tws.twice = True
    elif fault.kind == "revive":
        tws.order.held, tws.no_status = True, False  # it is shown alive, whatever else goes wrong
        loop.call_later(float(options.get("after", 0.1)), _deactivate, desk, client.version, tws, fault)
    else:
        seconds = float(options.get("seconds", 1.0))
        tws.not_before = loop.time() + seconds
        loop.call_later(seconds, _catch_up, desk, tws, bool(options.get("reverse")))


def _work(desk: OrderDesk, tws: TwsOrder) -> None:
    """Let an order that was held work, unless it has ended meanwhile."""
    tws.why_held, tws.inactive = "", False
    if tws.order.is_live:
        desk.tell(tws, desk.standing(tws))
        desk.market.resume(tws.order)


def _deactivate(desk: OrderDesk, version: int, tws: TwsOrder, fault: Fault) -> None:
    """Refuse an order that was alive, and keep it."""
    order = tws.order
    if not order.is_live:
        return
    tws.inactive = True
    words = str(fault.options.get("text", "Order rejected - reason:Exchange is closed."))
    desk.market.ledger.record(
        "doubted", door=order.door, number=order.number, client_order_id=order.client_order_id, reason=f"201 {words}"
    )
    desk.tell(tws, [*desk.standing(tws), error(tws.order_id, 201, words, version)])
    asyncio.get_running_loop().call_later(float(fault.options.get("seconds", 1.0)), _work, desk, tws)


def _catch_up(desk: OrderDesk, tws: TwsOrder, reverse: bool) -> None:
    tws.not_before, frames = 0.0, tws.waiting[:: -1 if reverse else 1]
    tws.waiting = []
    desk.tell(tws, frames)
