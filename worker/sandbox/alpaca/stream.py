"""Alpaca's trade_updates websocket: the handshake in both its forms, and every change of an order as a binary frame.

Nothing is replayed: who is not connected misses the update, exactly as at the real service (docs/facts/alpaca.md#4.2).
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from aiohttp import WSMsgType, web

from worker.sandbox.alpaca.bodies import NAMESPACE, Json, execution_uuid, order_id, order_json, plain, stamp
from worker.sandbox.faults import Fault
from worker.sandbox.http_door import HttpDoor
from worker.sandbox.market.market import MarketOrder, Trade

GARBAGE = b'\x00\xff{"stream":"trade_updates","data":'


class UpdatesDoor:
    """The open trade_updates connections of one door."""

    def __init__(self, door: HttpDoor, is_known: Callable[[str, str], bool]) -> None:
        self._door = door
        self._is_known = is_known
        self._outboxes: dict[web.WebSocketResponse, asyncio.Queue[bytes]] = {}
        self._held: dict[str, list[bytes]] = {}  # by symbol, while a `late_update` keeps them back

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one websocket until it closes."""
        socket = web.WebSocketResponse(heartbeat=30.0)
        await socket.prepare(request)
        authorized = False
        outbox: asyncio.Queue[bytes] = asyncio.Queue()
        writer = asyncio.create_task(_write(socket, outbox))
        try:
            async for message in socket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    continue
                asked = _read(message.data)
                if asked.get("action") in ("authenticate", "auth"):
                    authorized = await self._authenticate(socket, asked)
                elif asked.get("action") == "listen":
                    await self._listen(socket, outbox, asked, authorized)
        finally:
            self._outboxes.pop(socket, None)
            writer.cancel()
        return socket

    def publish(self, event: str, order: MarketOrder, execution: Trade | None = None) -> None:
        """Send one change of an order to everyone who listens, unless a fault says otherwise."""
        if not self._outboxes or self._door.take("stream_silent", symbol=order.symbol):
            return
        frames = [_frame("trade_updates", self._update(event, order, execution))]
        if self._door.take("duplicate_update", symbol=order.symbol):
            frames *= 2
        garbage = self._door.take("garbage_update", symbol=order.symbol)
        if garbage is not None:
            odd = _frame("trade_updates", {**self._update(event, order, None), "event": "moon_phase"})
            frames = [GARBAGE if garbage.options.get("unreadable") else odd, *frames]
            frames = frames[:1] if garbage.options.get("replace") else frames
        held = self._held.get(order.symbol)
        late = None if held is not None else self._door.take("late_update", symbol=order.symbol)
        if held is not None:
            held += frames
        elif late is None:
            self._send(frames)
        else:
            self._send_late(late, order.symbol, frames)

    def tell(self, event: str, order: MarketOrder, facts: Json) -> None:
        """Send an update about an order with facts of its own."""
        self._send([_frame("trade_updates", {**self._update(event, order, None), **facts})])

    def _send_late(self, late: Fault, symbol: str, frames: list[bytes]) -> None:
        """Send after a while: this update alone, so that others overtake it, or all that come in between."""
        wait, later = float(late.options.get("seconds", 1.0)), asyncio.get_running_loop().call_later
        if late.options.get("hold"):
            self._held[symbol] = frames
            later(wait, self._release, symbol, bool(late.options.get("reverse")))
        else:
            later(wait, self._send, frames)

    def _release(self, symbol: str, reverse: bool) -> None:
        self._send(self._held.pop(symbol)[:: -1 if reverse else 1])

    def _send(self, frames: Sequence[bytes]) -> None:
        for outbox in self._outboxes.values():
            for frame in frames:
                outbox.put_nowait(frame)

    def _update(self, event: str, order: MarketOrder, execution: Trade | None) -> Json:
        """Return the body of one event: the order as it is now, and the execution if it tells one."""
        at = execution.at if execution is not None else order.closed_at or datetime.now(UTC)
        data: Json = {
            "event": event,
            "execution_id": execution_uuid(execution) if execution is not None else _event_id(event, order),
            "order": order_json(order, order.legs),
            "timestamp": stamp(at, order.number),  # on every event: alpaca-py does not read one without
        }
        if execution is not None:
            position = self._door.market.account(self._door.name).positions.get(order.symbol)
            data["price"] = plain(execution.price)
            data["qty"] = plain(execution.quantity)
            data["position_qty"] = plain(position.quantity) if position is not None else "0"
        return data

    async def _authenticate(self, socket: web.WebSocketResponse, asked: Json) -> bool:
        """Answer to keys; tells whether they are taken."""
        action, data = asked["action"], asked.get("data")
        keys = data if isinstance(data, dict) else asked
        key, secret = keys.get("key_id") or keys.get("key"), keys.get("secret_key") or keys.get("secret")
        authorized = self._is_known(str(key or ""), str(secret or ""))
        status = "authorized" if authorized else "unauthorized"
        await socket.send_bytes(_frame("authorization", {"status": status, "action": action}))
        return authorized

    async def _listen(
        self, socket: web.WebSocketResponse, outbox: asyncio.Queue[bytes], asked: Json, authorized: bool
    ) -> None:
        """Subscribe a socket to the orders' events, from now on: what came before is not sent again."""
        if not authorized:
            await socket.send_bytes(_frame("authorization", {"status": "unauthorized", "action": "listen"}))
            return
        data = asked.get("data")
        wanted = data.get("streams") if isinstance(data, dict) else None
        streams = [name for name in wanted or () if name == "trade_updates"]
        self._outboxes.pop(socket, None)
        await socket.send_bytes(_frame("listening", {"streams": streams}))
        if streams:
            self._outboxes[socket] = outbox


async def _write(socket: web.WebSocketResponse, outbox: asyncio.Queue[bytes]) -> None:
    """Send what is put into the outbox, in order, until the connection is gone."""
    with suppress(ConnectionError):
        while not socket.closed:
            await socket.send_bytes(await outbox.get())


def _event_id(event: str, order: MarketOrder) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{event}:{order_id(order)}"))


def _frame(stream: str, data: Json) -> bytes:
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def _read(raw: str | bytes) -> dict[str, object]:
    try:
        document = json.loads(raw)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
