"""A gateway that plays recordings: named messages of a real IB Gateway, written in the text protocol of a TWS socket.

A recording is text, one step a line: `handshake {json}`, `client|server <message> {json}`, `sleep`, `disconnect`. Every
handshake begins a leg, which the next connection gets. Real ones lie outside of the repository; tests write their own
small ones in the same words. What a recording leaves out (orderRef, permId of an execution) comes from its order; order
ids and references are those that the adapter under test has sent.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from worker.sandbox.tws.messages import _COMPLETED_ORDER, _OPEN_ORDER, _PEGGED, _STATUS, ORDER_TYPES, _cut
from worker.sandbox.tws.wire import UNSET_DOUBLE, Fields, PlaceOrder, encode, read_place_order

#: Beside the repository, or where the environment says.
_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "recordings"
FOLDER = Path(os.environ.get("CORRO_TEST_RECORDINGS", _BESIDE)) / "ibkr"
VERSION = 176
#: What a client's message is called in recordings.
KINDS = {3: "place_order", 4: "cancel_order", 7: "req_executions", 99: "req_completed_orders", 49: "req_current_time"}
_AAPL = {"con_id": 265598, "symbol": "AAPL", "sec_type": "STK", "exchange": "SMART", "currency": "USD"}
Body = dict[str, Any]


@dataclass(frozen=True)
class RecordedStep:
    """One line of a recording."""

    who: str
    what: str
    body: Body = field(default_factory=dict)


def recording(name: str) -> list[RecordedStep]:
    """Read a real recording; the test is skipped where the folder is absent."""
    path = FOLDER / f"{name}.txt"
    if not path.exists():
        pytest.skip(f"no recordings of a real gateway at {FOLDER}")
    return steps(path.read_text())


def steps(text: str) -> list[RecordedStep]:
    found = []
    for line in text.splitlines():
        head, brace, rest = line.partition("{")
        words = head.split()
        if not words or words[0].startswith("#"):
            continue
        who, what = (words[0], words[1]) if words[0] in ("client", "server") else ("", words[0])
        found.append(RecordedStep(who, what, json.loads(brace + rest) if brace else {}))
    return found


@dataclass
class RecordedOrder:
    order_id: int
    client_id: int
    request: PlaceOrder
    shown: Body = field(default_factory=dict)
    status: Body = field(default_factory=dict)
    filled: float = 0.0


class PlayingGateway:
    """Plays steps to whoever connects; what a recording does not speak of (contracts, empty listings) is answered.

    Args:
        steps: the recording.
        observe: client messages of the recording that the adapter is not expected to send.
    """

    def __init__(self, steps: Sequence[RecordedStep], observe: frozenset[str] = frozenset()) -> None:
        self.legs: list[list[RecordedStep]] = []
        for step in steps:
            if step.what == "handshake" or not self.legs:
                self.legs.append([])
            if not (step.who == "client" and step.what in observe):
                self.legs[-1].append(step)
        self.played = threading.Event()
        #: Orders as the adapter sent them, beside the recorded message each of them answers to.
        self.sent: list[tuple[Body, PlaceOrder]] = []
        self.heard: list[str] = []
        self._orders: dict[int, RecordedOrder] = {}
        self._executions: list[Body] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._server, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._sockets.append(connection)
                leg = self.legs.pop(0) if self.legs else None
                threading.Thread(target=self._serve, args=(connection, leg), daemon=True).start()

    def _serve(self, connection: socket.socket, leg: list[RecordedStep] | None) -> None:
        with suppress(OSError, EOFError):
            _Leg(self, connection, leg).play()
        connection.close()

    # -- WHAT IT KNOWS ---
    def order(self, recorded_id: int) -> RecordedOrder:
        return self._orders[recorded_id]

    def recorded_id(self, order_id: int) -> int | None:
        return next((number for number, one in self._orders.items() if one.order_id == order_id), None)


class _Leg:
    """One connection."""

    def __init__(self, gateway: PlayingGateway, connection: socket.socket, leg: list[RecordedStep] | None) -> None:
        self.gateway, self.connection, self.steps = gateway, connection, leg
        self.client_id = -1

    def play(self) -> None:
        self._read(4)  # "API\0"
        self._frame()
        steps = self.steps or []
        greeting = next((s.body["connection_time"] for s in steps if s.what == "handshake"), None)
        self._send(encode(VERSION, greeting or f"{datetime.now(ZoneInfo('America/New_York')):%Y%m%d %H:%M:%S} EST"))
        self.client_id = int(self._frame().split(b"\0")[2])
        if self.steps is None:
            self._send(encode(4, 2, -1, 326, "Unable to connect as the client id is already in use.", ""))
            return
        if not any(step.what == "next_valid_id" for step in steps):
            self._send(encode(15, 1, "DU9000001"), encode(9, 1, 1))
        for at, step in enumerate(steps):
            if step.who == "client":
                self._await(step)
            elif step.who == "server":
                self._say(step, steps[at + 1 :])
            elif step.what == "disconnect" and self.gateway.legs:
                return
        self.gateway.played.set()
        while True:
            self._answer(self._frame())

    # -- IN ---
    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _frame(self) -> bytes:
        return self._read(struct.unpack(">I", self._read(4))[0])

    def _await(self, step: RecordedStep) -> None:
        """Read until the client sends this message; answer what the recording does not speak of."""
        while True:
            payload = self._frame()
            kind = int(payload.split(b"\0", 1)[0])
            scope = {5: "client", 16: "all"}.get(kind)
            name = "req_open_orders" if scope else KINDS.get(kind)
            if name != step.what or (scope and scope != step.body.get("scope", scope)):
                self._answer(payload)
                continue
            self.gateway.heard.append(name)
            if name == "place_order":
                fields = Fields(payload)
                fields.skip(1)
                request = read_place_order(fields, VERSION)
                known = self.gateway._orders.get(int(step.body["order_id"]))
                order = known or RecordedOrder(request.order_id, self.client_id, request)
                order.request = request
                self.gateway._orders[int(step.body["order_id"])] = order
                self.gateway.sent.append((step.body, request))
            elif name == "cancel_order":
                order_id = int(payload.split(b"\0")[2])
                recorded = self.gateway.recorded_id(order_id)
                self.gateway.heard[-1] += f" {recorded}"
            elif name == "req_executions":
                self._request_id = int(payload.split(b"\0")[2])
            return

    def _answer(self, payload: bytes) -> None:
        """Answer what no recording speaks of."""
        words = payload.decode().split("\0")
        kind, gateway = int(words[0]), self.gateway
        if kind in (5, 16):
            for order in gateway._orders.values():
                live = order.status.get("status") not in (None, "Filled", "Cancelled")
                if live and (kind == 16 or order.client_id == self.client_id):
                    self._send(_open_order(order.shown, order), _order_status(order.status, order))
            self._send(encode(53, 1))
        elif kind == 7:
            for body in gateway._executions:
                self._send(self._execution({**body, "req_id": words[2]}))
            self._send(encode(55, 1, words[2]))
        elif kind == 99:
            self._send(encode(102))
        elif kind == 9:
            self._send(_contract_details(words[2], words[4]), encode(52, 1, words[2]))
        elif kind == 49:
            self._send(encode(49, 1, 1775931128))
        elif kind == 61:
            self._send(encode(62, 1))

    # -- OUT ---
    def _send(self, *frames: bytes) -> None:
        self.connection.sendall(b"".join(frames))

    def _say(self, step: RecordedStep, ahead: Sequence[RecordedStep]) -> None:
        body, orders = step.body, self.gateway._orders
        if step.what == "managed_accounts":
            self._send(encode(15, 1, ",".join(body["accounts"])))
        elif step.what == "next_valid_id":
            self._send(encode(9, 1, body["order_id"]))
        elif step.what == "api_error":
            number = int(body["req_id"])
            number = orders[number].order_id if number in orders else number
            self._send(encode(4, 2, number, body["code"], body["message"], ""))
        elif step.what == "open_order":
            order = self._known(body)
            order.shown = {"status": _status_by(ahead, order, body["order_id"]), **body}
            self._send(_open_order(order.shown, order))
        elif step.what == "order_status":
            order = self._known(body)
            order.status = body
            self._send(_order_status(body, order))
        elif step.what == "execution_detail":
            self.gateway._executions.append(body)
            self._send(self._execution(body))
        elif step.what == "commission_report":
            pnl = body.get("realized_pnl", UNSET_DOUBLE)
            self._send(encode(59, 1, body["exec_id"], body["commission"], body["currency"], pnl, UNSET_DOUBLE, ""))
        elif step.what == "completed_order":
            order = next(o for o in orders.values() if o.request.action == body["action"])
            self._send(_completed_order(body, order))
        elif step.what == "current_time":
            self._send(encode(49, 1, body["time"]))
        elif step.what == "raw":
            self._send(encode(*body["fields"]))
        elif step.what in _ENDS:
            self._send(encode(*_ENDS[step.what]))

    def _known(self, body: Body) -> RecordedOrder:
        """Return the order of a message; one that nobody has sent here belongs to another client."""
        number = int(body["order_id"])
        if number not in self.gateway._orders:
            request = PlaceOrder(**{**_NOBODYS, "order_id": number, "order_ref": body.get("order_ref", "")})
            self.gateway._orders[number] = RecordedOrder(number, int(body["client_id"]), request)
        return self.gateway._orders[number]

    def _execution(self, body: Body) -> bytes:
        order = self.gateway._orders[int(body["order_id"])]
        if str(body["req_id"]) == "-1":
            order.filled += float(body["shares"])
        contract = {**_AAPL, **order.shown.get("contract", {})}
        cumulative = body.get("cum_qty", order.filled)
        return encode(
            *(11, body["req_id"], order.order_id, *_contract(contract), body["exec_id"], _native(body["time"])),
            *(body.get("account", "DU9000001"), "ISLAND", body["side"], body["shares"], body["price"]),
            *(order.shown.get("perm_id") or order.status.get("perm_id", 0), order.client_id, 0, cumulative),
            *(body["price"], order.request.order_ref, "", "", "", 2),
        )


_ENDS: dict[str, tuple[int, ...]] = {"open_order_end": (53, 1), "completed_order_end": (102,)}
_NOBODYS: Body = {
    "contract": None,
    "action": "BUY",
    "quantity": 0,
    "order_type": "LMT",
    "limit_price": None,
    "aux_price": None,
    "tif": "DAY",
    "oca_group": "",
    "account": "",
    "transmit": True,
    "parent_id": 0,
    "outside_rth": False,
}


def _status_by(ahead: Sequence[RecordedStep], order: RecordedOrder, order_id: object) -> str:
    """Return the status that a recorded openOrder leaves out: that of the orderStatus in the same breath, or before."""
    for step in ahead:
        if step.who == "client":
            break
        if step.what == "order_status" and str(step.body["order_id"]) == str(order_id):
            return str(step.body["status"])
    return str(order.status.get("status", "Submitted"))


def _native(time: str) -> str:
    """Write a recorder's ISO time as the gateway does."""
    if "T" not in time:
        return time
    return f"{datetime.fromisoformat(time).astimezone(ZoneInfo('US/Eastern')):%Y%m%d %H:%M:%S} US/Eastern"


def _contract(c: Body) -> list[Any]:
    expiry, local = c.get("expiry", ""), c.get("local_symbol", c["symbol"])
    exchange, currency, trading_class = c["exchange"], c["currency"], c.get("trading_class", "NMS")
    return [c["con_id"], c["symbol"], c["sec_type"], expiry, "0", "", "", exchange, currency, local, trading_class]


def _open_order(body: Body, order: RecordedOrder) -> bytes:
    fields = list(_OPEN_ORDER)
    fields[1] = str(order.order_id)
    fields[2:13] = [str(word) for word in _contract({**_AAPL, **body.get("contract", {})})]
    fields[13:19] = [str(body[k]) for k in ("action", "quantity", "order_type", "lmt_price", "aux_price", "tif")]
    fields[20], fields[23] = body.get("account", "DU9000001"), order.request.order_ref
    fields[24], fields[25], fields[94] = str(order.client_id), str(body["perm_id"]), body["status"]
    if body["order_type"] == "TRAIL" and order.request.trailing_percent is not None:
        fields[75] = str(order.request.trailing_percent)
    return _cut(fields, VERSION)


def _order_status(body: Body, order: RecordedOrder) -> bytes:
    names = ("perm_id", "parent_id", "last_fill_price", "client_id", "why_held", "mkt_cap_price")
    # A cancel by another client is told with that client's id; else it is the owner's, whichever ours is.
    owned = body["client_id"] == order.shown.get("client_id", body["client_id"])
    return encode(
        *(3, order.order_id, body["status"], body["filled"], body["remaining"], body["avg_fill_price"]),
        *(order.client_id if name == "client_id" and owned else body[name] for name in names),
    )


def _completed_order(body: Body, order: RecordedOrder) -> bytes:
    fields = list(_COMPLETED_ORDER)
    fields[1:12] = [str(word) for word in _contract({**_AAPL, **body["contract"]})]
    fields[12:15] = [body["action"], "0", body["order_type"]]
    fields[19], fields[22], fields[23] = "DU9000001", order.request.order_ref, str(order.shown["perm_id"])
    fields[_STATUS] = body["status"]
    fields[fields.index("100", _STATUS)] = body["filled"]
    fields[-1] = body.get("completed_status", f"Filled Size: {body['filled']}")
    return encode(*fields, *_PEGGED)


def _contract_details(request_id: str, symbol: str) -> bytes:
    return encode(
        *(10, request_id, symbol, "STK", "", "0", "", "SMART", "USD", symbol, "NMS", "NMS", 265598, "0.01", ""),
        *(ORDER_TYPES, "SMART,NASDAQ", 1, 0, f"{symbol} INC", "NASDAQ", "", "Technology", "Computers", "Computers"),
        *("US/Eastern", "", "", "", "", 0, 1, "", "", "26", "", "COMMON", "1", "1", "100"),
    )


@contextmanager
def playing(steps: Sequence[RecordedStep], observe: frozenset[str] = frozenset()) -> Iterator[PlayingGateway]:
    gateway = PlayingGateway(steps, observe)
    try:
        yield gateway
    finally:
        gateway.close()
