"""The order desk behind the TWS door: placing, changing and canceling, and what TWS tells about it.

Knows faults, ids and the order in which TWS speaks; knows no socket. `Outlet` is how it reaches a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

from worker.sandbox.faults import Fault
from worker.sandbox.market import amending
from worker.sandbox.market.market import Market, MarketEvent, MarketOrder, OrderTerms, Trade
from worker.sandbox.market.matching import TRAILS
from worker.sandbox.market.packages import place_order
from worker.sandbox.tws import lies
from worker.sandbox.tws.foreign import sentinel
from worker.sandbox.tws.linked import TwsLinks
from worker.sandbox.tws.messages import (
    TwsOrder,
    commission,
    error,
    execution,
    open_order,
    order_status,
    what_if,
)
from worker.sandbox.tws.packages import market_legs
from worker.sandbox.tws.rules import accounts_of, complaint_about, is_off_the_tick, order_terms, seconds_left
from worker.sandbox.tws.wire import PlaceOrder, request_of

#: Changes of the order type that IB takes: recorded of this one, the others answer 105 (assumed).
_RETYPED = frozenset({("LMT", "MKT")})
_TAKEN = ("accept_hang", "accept_drop", "garbage", "half_reply")
_ARRIVAL_FAULTS = ("refuse", "hang", "error_code", *_TAKEN)
#: Codes of `error_code` after which the order is live all the same (docs/facts/ibkr.md#4.1, #4.6).
LIVE_CODES = frozenset({399, 404, 492, 2109, 2110, 10167, 10349})


class Outlet(Protocol):
    """One connected client, as the desk sees it."""

    client_id: int
    version: int

    def answer(self, *frames: bytes) -> None:
        """Send what the client asked for."""

    def push(self, *frames: bytes) -> None:
        """Send news; lost while the connection to IB is down."""

    def abort(self) -> None:
        """Cut the connection without a goodbye."""


class OrderDesk:
    """All TWS orders of the accounts behind one login, and the clients that own them."""

    def __init__(self, market: Market, name: str, clients: Mapping[int, Outlet]) -> None:
        self.market = market
        self.name = name
        self.next_ids: dict[int, int] = {}
        self._clients: Mapping[int, Outlet] = clients
        self._by_number: dict[int, TwsOrder] = {}
        self._by_id: dict[tuple[int, int], TwsOrder] = {}
        #: Orders that TWS holds back without a word: not transmitted yet, or before somebody clicks.
        self._staged: dict[tuple[int, int], PlaceOrder] = {}
        #: What their answers meet once they are transmitted.
        self._spoiled: dict[tuple[int, int], Fault] = {}
        #: Orders of other clients that a client has listed, by order id: it may cancel them.
        self._listed: dict[int, dict[int, TwsOrder]] = {}
        market.faults.on_cleared(self._click_all)
        for order in market.orders(name):  # of the runs before
            if isinstance(told := order.extra.get("request"), Mapping):
                self._list(TwsOrder(order, request_of(told), int(str(order.extra["client_id"])), told["order_id"]))
        self.links = TwsLinks(market, name, self._by_id, self._staged, self._on_woken)

    # -- READING --

    def all(self) -> list[TwsOrder]:
        """Return every order, oldest first."""
        return list(self._by_number.values())

    def next_id(self, client_id: int) -> int:
        """Return the next valid order id of a client; remembered for as long as the door lives."""
        return self.next_ids.setdefault(client_id, 1)

    # -- PLACING --

    def place(self, client: Outlet, request: PlaceOrder) -> None:
        """Take a placeOrder message: a new order, a change of a live one, or a what-if question."""
        key = (client.client_id, request.order_id)
        known, accounts = self._by_id.get(key), accounts_of(self.market, self.name)
        request.account = request.account or (accounts[0] if len(accounts) == 1 else "")
        if known is not None:
            self._change(client, known, request)
            return
        self._staged.pop(key, None)
        fields = order_terms(self.name, request, client.client_id)
        complaint = complaint_about(self.market, request, fields, self.next_id(client.client_id))
        complaint = complaint or self.links.complaint(client.client_id, request)
        if complaint is None and request.what_if and not self.market.faults.take(self.name, "what_if_placed"):
            self._answer_what_if(client, request, fields)
            return
        window = None
        if request.transmit:
            window = self.market.faults.take(self.name, "confirmation", fields["symbol"], "place")
        if window is not None and complaint is None:
            self._open_window(key, request, window)
            return
        fault = self.market.faults.take(self.name, _ARRIVAL_FAULTS, fields["symbol"], "place")
        if fault is None and complaint is not None:
            fault = Fault(self.name, "refuse", options={"code": complaint[0], "text": complaint[1]})
        if fault is not None and not self._is_taken(fault):
            self._turn_away(client, request, fields, fault)
            return
        if not request.transmit:  # recorded: not a word until it is transmitted
            self._staged[key] = request
            if fault is not None:
                self._spoiled[key] = fault
            return
        self._transmit_family(client, request)
        tws = self._take(client.client_id, request, fields)
        if request.tif == "FOK":
            self._deactivate(client, tws)
            return
        self._misbehave(client, tws, fault)

    def _transmit_family(self, client: Outlet, request: PlaceOrder) -> None:
        """Place what was held back until an order of its family is transmitted, the parent first."""
        for key in self.links.family(client.client_id, request):
            held = self._staged.pop(key)
            tws = self._take(client.client_id, held, order_terms(self.name, held, client.client_id))
            self._misbehave(client, tws, self._spoiled.pop(key, None))

    def _deactivate(self, client: Outlet, tws: TwsOrder) -> None:
        """Answer FOK as recorded of AAPL: openOrder and orderStatus Inactive, no code, no fill."""
        tws.silent = True
        self.market.reject(tws.order, "FOK is not among the order types")
        client.answer(open_order(tws, client.version), order_status(tws))

    def _open_window(self, key: tuple[int, int], request: PlaceOrder, fault: Fault) -> None:
        self._staged[key] = request
        self.next_ids[key[0]] = max(self.next_id(key[0]), request.order_id + 1)
        if "seconds" in fault.options:
            asyncio.get_running_loop().call_later(float(fault.options["seconds"]), self._click, key)

    def _click(self, key: tuple[int, int]) -> None:
        """Somebody confirms an order in TWS: only now is it placed."""
        request = self._staged.get(key)
        if request is None or not request.transmit:
            return
        for one in (*self.links.family(key[0], request), key):
            held = self._staged.pop(one)
            self._take(key[0], held, order_terms(self.name, held, key[0]))

    def _click_all(self) -> None:
        for key in list(self._staged):
            self._click(key)

    def _take(self, client_id: int, request: PlaceOrder, fields: OrderTerms) -> TwsOrder:
        links = self.links.of(client_id, request)
        fields["extra"] = fields["extra"] | links
        legs = market_legs(request.legs, request.action)
        order = place_order(self.market, legs, **fields | {"waits": bool(links.get("waits"))})
        self.links.add(order)
        if request.tif == "GTD":
            asyncio.get_running_loop().call_later(seconds_left(request), self.market.expire, order)
        return self._list(TwsOrder(order, request, client_id, request.order_id))

    def _list(self, tws: TwsOrder) -> TwsOrder:
        self._by_number[tws.order.number] = tws
        self._by_id[tws.client_id, tws.order_id] = tws
        self.next_ids[tws.client_id] = max(self.next_id(tws.client_id), tws.order_id + 1)
        return tws

    def _turn_away(self, client: Outlet, request: PlaceOrder, fields: OrderTerms, fault: Fault) -> None:
        """Refuse a new order as a fault says: with a code, in silence, or shown Inactive as well."""
        code, words = int(fault.options.get("code", 201)), fault.options.get("text", "Order rejected - reason:sandbox")
        reason = "swallowed" if fault.kind == "hang" else f"{code} {words}"
        self.market.turn_away(reason, **fields)
        if code != 103:
            self.next_ids[client.client_id] = max(self.next_id(client.client_id), request.order_id + 1)
        if fault.kind == "hang":
            return
        client.answer(error(request.order_id, code, words, client.version))
        if fault.options.get("inactive"):
            ghost = TwsOrder(_unplaced(fields), request, client.client_id, request.order_id)
            client.answer(order_status(ghost, "Inactive"))

    def _answer_what_if(self, client: Outlet, request: PlaceOrder, fields: OrderTerms) -> None:
        ghost = TwsOrder(_unplaced(fields), request, client.client_id, request.order_id)
        price = request.limit_price or self.market.quote(fields["symbol"]).ask
        value = abs(price) * request.quantity * (100 if request.legs else 1)  # the net price of a package is per share
        client.answer(what_if(ghost, client.version, self.market.account(self.name, request.account), value))

    # -- FAULTS --

    @staticmethod
    def _is_taken(fault: Fault) -> bool:
        """Tell whether the market gets the order in spite of the fault."""
        if fault.kind == "error_code":
            return bool(fault.options.get("accepted", int(fault.options.get("code", 201)) in LIVE_CODES))
        return fault.kind in _TAKEN

    def _misbehave(self, client: Outlet, tws: TwsOrder, fault: Fault | None) -> None:
        """Answer to an order that was taken in the way that faults ask for."""
        if fault is not None:
            lies.answer(client, tws, fault)
        for kind in lies.MANNERS:
            manner = self.market.faults.take(self.name, kind, tws.order.symbol, "place")
            if manner is not None:
                lies.behave(self, client, tws, manner)

    # -- CHANGING AND CANCELING --

    def _change(self, client: Outlet, tws: TwsOrder, request: PlaceOrder) -> None:
        """Change an order placed again under its id, or refuse as TWS does (103, 104, 105: of an account assumed)."""
        order, old = tws.order, tws.request
        if not order.is_live:
            code = 104 if order.state == "filled" else 103
            words = "Cannot modify a filled order." if code == 104 else "Duplicate order id"
            client.answer(error(request.order_id, code, words, client.version))
            return
        same = (old.action, old.contract.market_symbol, order.account)
        retyped = (old.order_type, request.order_type)
        if same != (request.action, request.contract.market_symbol, request.account) or (
            len({*retyped}) > 1 and retyped not in _RETYPED
        ):
            words = "Order being modified does not match original order"
            client.answer(error(request.order_id, 105, words, client.version))
            return
        if request.quantity <= order.filled_quantity or is_off_the_tick(request):
            words = "Error validating request.-'bN' : cause - Invalid change"
            client.answer(error(request.order_id, 321, words, client.version))
            return
        fault = self.market.faults.take_aimed(self.name, _ARRIVAL_FAULTS, "replace", order.symbol)
        if fault is not None and not self._is_taken(fault):
            if fault.kind != "hang":
                code, words = int(fault.options.get("code", 201)), fault.options.get("text", "Order rejected - sandbox")
                client.answer(error(request.order_id, code, words, client.version))
            return
        self._apply_change(client, tws, request)
        if fault is not None:
            self._misbehave(client, tws, fault)

    def _apply_change(self, client: Outlet, tws: TwsOrder, request: PlaceOrder) -> None:
        """Give an order its new terms; what is filled already stays."""
        order, new = tws.order, order_terms(self.name, request, client.client_id)
        names = (
            "order_type",
            "quantity",
            "limit_price",
            "stop_price",
            "trail_amount",
            "trail_percent",
            "time_in_force",
        )
        changes = {name: new[name] for name in names if new[name] != getattr(order, name)}
        if order.order_type in TRAILS:
            changes.pop("stop_price", None)
        tws.request = request
        self.market.modify(order, **changes)

    def cancel(self, client: Outlet, order_id: int) -> None:
        """Take a cancelOrder message: PendingCancel at once, the rest when the market has done it."""
        key = (client.client_id, order_id)
        if self._staged.pop(key, None) is not None:
            for child in self.links.staged_children(*key):
                del self._staged[key[0], child]
            client.answer(error(order_id, 202, "Order Canceled - reason:", client.version))
            return
        # Recorded: a client may cancel what it has listed of another, where the id is none of its own.
        tws = self._by_id.get(key) or self._listed.get(client.client_id, {}).get(order_id)
        if tws is None:
            words = f"OrderId {order_id} that needs to be cancelled is not found."
            client.answer(error(order_id, 10147, words, client.version))
            return
        symbol = tws.order.symbol
        aimed = self.market.faults.take_aimed(self.name, ("hang", "error_code", "accept_hang"), "cancel", symbol)
        if aimed is not None and aimed.kind == "accept_hang":
            tws.silent = True
        elif aimed is not None:
            if aimed.kind == "error_code":
                code, words = int(aimed.options.get("code", 10148)), str(aimed.options.get("text", "sandbox"))
                client.answer(error(order_id, code, words, client.version))
            return
        stubborn = self.market.faults.take(self.name, "cancel_10148", symbol)
        if stubborn is not None or not tws.order.is_live:
            words = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state: {tws.status}."
            client.answer(error(order_id, 10148, words, client.version))
        elif tws.pending_cancel:
            words = f"Cancel attempted when order is not in a cancellable state.  Order permId = {tws.perm_id}"
            client.answer(error(order_id, 161, words, client.version))
        else:
            self._begin_cancel(tws, client)

    def show(self, client_id: int, tws: TwsOrder) -> None:
        """Note that a client has listed an order."""
        if tws.client_id != client_id:
            self._listed.setdefault(client_id, {})[tws.order_id] = tws

    def cancel_all(self) -> None:
        """Cancel every live order of every client."""
        for tws in self.all():
            if tws.order.is_live and not tws.pending_cancel:
                self._begin_cancel(tws)

    def _begin_cancel(self, tws: TwsOrder, client: Outlet | None = None) -> None:
        tws.pending_cancel = True
        if client is not None and client.client_id != tws.client_id:
            tws.canceled_by = client.client_id
        self.tell(tws, [order_status(tws)])
        asyncio.get_running_loop().call_later(self.market.fill_delay, self.market.cancel, tws.order)

    # -- TELLING --

    def on_event(self, event: MarketEvent) -> None:
        """Tell the owner of an order what the market did with it."""
        part = event.order if "leg" in event.order.extra else None
        number = event.order.number if part is None else part.extra["parent"]
        tws = self._by_number.get(int(str(number)))
        client = self._outlet(tws) if tws is not None else None
        if tws is None or client is None:
            return
        if part is not None:  # the package tells everything but what was traded
            if event.execution is not None:
                self.tell(tws, [execution(tws, event.execution, part=part), commission(event.execution)])
            return
        if event.kind == "fill" and event.execution is not None:
            self.tell(tws, [execution(tws, event.execution)])
            self._tell_status(tws, self.standing(tws))
            self._tell_status(tws, [open_order(tws, client.version, event.execution.commission)])
            if tws.order.legs:
                return
            spoiled = sentinel(self.market.faults, self.name, "commission")
            self.tell(tws, [commission(event.execution, spoiled)])
            amending.after_fill(self.market, event.order, event.execution, self._tell_amendment)
        elif event.kind == "accepted":
            status = tws.status if tws.why_held else "PreSubmitted"
            first = [open_order(tws, client.version, status=status), order_status(tws, status)]
            self._tell_status(tws, first)
            if tws.status == "Submitted" and tws.request.tif != "IOC":  # recorded: never Submitted
                self._tell_status(tws, self.standing(tws))
        elif event.kind == "rejected":
            words = f"Order rejected - reason:{event.order.reason}"
            self.tell(tws, [*self.standing(tws), error(tws.order_id, 201, words, client.version)])
        elif event.kind in ("modified", "triggered"):
            self._tell_status(tws, self.standing(tws))
        elif tws.request.tif == "IOC":  # recorded: no code
            self._tell_status(tws, [order_status(tws, "PendingCancel"), order_status(tws)])
        else:
            self._tell_status(tws, [order_status(tws)])
            self.tell(tws, [error(tws.order_id, 202, "Order Canceled - reason:", client.version)])

    def _on_woken(self, order: MarketOrder) -> None:
        """Tell of a child whose parent is filled: from now on it works, or waits for its trigger alone."""
        tws = self._by_number[order.number]
        self._tell_status(tws, self.standing(tws))

    def _tell_amendment(self, _: Fault, order: MarketOrder, fill: Trade, __: Decimal) -> None:
        """Tell an execution again, under its id with a higher suffix; with no shares once it was taken back."""
        tws = self._by_number[order.number]
        self.tell(tws, [execution(tws, fill), *([] if fill.taken_back else [commission(fill)])])

    def _outlet(self, tws: TwsOrder) -> Outlet | None:
        """Return the client that hears about an order: its own, and once another has asked for its end, that one."""
        return self._clients.get(tws.client_id if tws.canceled_by is None else tws.canceled_by)

    def standing(self, tws: TwsOrder) -> list[bytes]:
        """Return openOrder and orderStatus as the order stands; nothing where nobody would hear it."""
        client = self._outlet(tws)
        return [] if client is None else [open_order(tws, client.version), order_status(tws)]

    def _tell_status(self, tws: TwsOrder, frames: Iterable[bytes]) -> None:
        if not tws.no_status:
            self.tell(tws, [frame for frame in frames for _ in range(2 if tws.twice and _is_status(frame) else 1)])

    def tell(self, tws: TwsOrder, frames: list[bytes]) -> None:
        """Tell whoever hears about an order, now or as late as a fault says."""
        client = self._outlet(tws)
        if tws.silent or client is None:
            return
        if tws.not_before:
            tws.waiting.extend(frames)
        else:
            client.push(*frames)


def _is_status(frame: bytes) -> bool:
    return frame[4:6] == b"3\0"


def _unplaced(fields: OrderTerms) -> MarketOrder:
    """Return an order that only serves to write a message about it; the market never sees it."""
    return MarketOrder(number=0, received_at=datetime.now(UTC), **fields)
