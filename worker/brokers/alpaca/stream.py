"""Alpaca's trade_updates websocket with our own reconnect.

The SDK's stream stops for good when a handler fails, hammers the server when the keys are wrong and never backs off
(docs/facts/alpaca.md#4.4), so only the protocol is taken from it. Losing the stream costs promptness, never truth: the
worker reads orders and fills over REST as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from models.troubles import trouble
from worker.brokers.values import Raw

if TYPE_CHECKING:
    from websockets.legacy.client import WebSocketClientProtocol

_log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
#: Pause where another try is not expected to help soon: no such endpoint, keys refused, too many connections.
RARE_PAUSE_S = 60.0
#: A stream that held for this long was a good one: the next failure is a first failure again.
STABLE_S = 5.0
_PATIENCE_S = 10.0


class StreamRefused(Exception):
    """The server does not let us listen; try again seldom."""


class StreamKeysRefused(StreamRefused):
    """It does not accept our keys; the account may."""


def stream_url(base_url: str) -> str:
    """Return the address of trade_updates: the same host as the orders, another scheme."""
    scheme, rest = base_url.split("://", 1)
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/stream"


class AlpacaStream:
    """One websocket in a thread of its own, from `start` until `stop`.

    Args:
        broker: name for the log.
        url: ws:// or wss:// address.
        key_id, secret_key: the account's keys.
        on_event: gets the `data` of every trade update; may block for a REST call, and may fail.
        on_gap: called when updates may have been missed: each time the stream begins to listen, and after a frame that
            could not be read; may block, and may fail.
        on_refused: called when the server does not accept the keys, or withdraws them; may block, and may fail.
    """

    def __init__(
        self,
        broker: str,
        url: str,
        key_id: str,
        secret_key: str,
        *,
        on_event: Callable[[Raw], None],
        on_gap: Callable[[], None],
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._broker, self._log = broker, _log.bind(broker=broker)
        self._url, self._keys = url, (key_id, secret_key)
        self._on_event, self._on_gap, self._on_refused = on_event, on_gap, on_refused
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        self._listening = threading.Event()
        self._complaint: str | None = None

    @property
    def is_listening(self) -> bool:
        """Whether updates are being pushed now."""
        return self._listening.is_set()

    def start(self) -> None:
        """Begin listening; does nothing if it runs already."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._main, args=(self._stopping,), name=f"{self._broker}-updates", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and wait, but not for long."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._cancel()
        if thread is not threading.current_thread():
            thread.join(timeout=3)

    def _cancel(self) -> None:
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(task.cancel)

    def _main(self, stopping: threading.Event) -> None:
        """Run the stream on a loop of its own, in its own thread, until it is told to stop."""
        try:
            asyncio.run(self._run(stopping))
        except asyncio.CancelledError:
            pass
        except Exception:
            self._log.exception("stream_died")
        finally:
            self._listening.clear()

    async def _run(self, stopping: threading.Event) -> None:
        """Listen, and connect again after pauses that grow with every failure."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        failures = 0
        while not stopping.is_set():
            failure: Exception | None = None
            began = time.monotonic()
            try:
                await self._listen()
                reason = "closed by the server"
            except Exception as error:
                failure, reason = error, trouble(error)
            rarely = isinstance(failure, StreamRefused) or _status(failure) is not None
            failures = 0 if time.monotonic() - began > STABLE_S and self._listening.is_set() else failures + 1
            self._listening.clear()
            self._complain(reason)
            if isinstance(failure, StreamKeysRefused) or _status(failure) in (401, 403):
                await asyncio.to_thread(self._guarded, self._on_refused)
            await asyncio.sleep(_pause(failures, rarely=rarely))

    async def _listen(self) -> None:
        """Connect, authenticate, and hand over frames until the connection ends.

        What was missed before the first frame is read by whoever hears of the gap.
        """
        from websockets import connect  # type: ignore[attr-defined]  # lazy names; the version is the SDK's

        async with connect(
            self._url, open_timeout=_PATIENCE_S, close_timeout=1, ping_interval=15, ping_timeout=15, max_size=2**22
        ) as socket:
            async with asyncio.timeout(_PATIENCE_S):  # whatever else it says meanwhile
                await self._authorize(socket)
            await asyncio.to_thread(self._guarded, self._on_gap)
            async for frame in socket:
                await self._handle(frame)

    async def _authorize(self, socket: WebSocketClientProtocol) -> None:
        """Say who we are, and ask for the orders' events.

        Raises:
            StreamKeysRefused: the keys are not taken.
            StreamRefused: the server streams something else.
        """
        key_id, secret_key = self._keys
        await _send(socket, "authenticate", {"key_id": key_id, "secret_key": secret_key})
        answer = await self._expect(socket, "authorization")
        if answer.get("status") != "authorized":
            raise StreamKeysRefused(f"not authorized: {answer.get('status')}")
        await _send(socket, "listen", {"streams": ["trade_updates"]})
        answer = await self._expect(socket, "listening")
        if "trade_updates" not in (answer.get("streams") or ()):
            raise StreamRefused("the server does not stream trade_updates")
        self._complaint = None
        self._listening.set()
        self._log.info("stream_listening")

    async def _expect(self, socket: WebSocketClientProtocol, stream: str) -> Raw:
        while True:
            message = _decode(await socket.recv())
            if message.get("stream") == stream:
                data: Raw = message.get("data") or {}
                return data

    async def _handle(self, frame: str | bytes) -> None:
        """Hand over one frame. One that cannot be read may have been an execution, so it counts as a gap."""
        try:
            message = _decode(frame)
        except ValueError as error:
            self._log.warning("stream_frame_unreadable", error=trouble(error))
            await asyncio.to_thread(self._guarded, self._on_gap)
            return
        if message.get("stream") == "trade_updates":
            await asyncio.to_thread(self._guarded, self._on_event, message.get("data") or {})
        elif message.get("stream") == "authorization":
            raise StreamKeysRefused("authorization withdrawn")

    def _guarded(self, handler: Callable[..., None], *args: object) -> None:
        """Run a handler; whatever it raises, the stream goes on."""
        try:
            handler(*args)
        except Exception:
            self._log.exception("stream_handler_failed")

    def _complain(self, reason: str) -> None:
        """Log a trouble once, not at every try."""
        if reason != self._complaint:
            self._log.warning("stream_lost", reason=reason)
        self._complaint = reason


async def _send(socket: WebSocketClientProtocol, action: str, data: Raw) -> None:
    await socket.send(json.dumps({"action": action, "data": data}))


def _decode(frame: str | bytes) -> Raw:
    """Read one frame: paper sends JSON as binary, live as text (docs/facts/alpaca.md#4.1)."""
    message = json.loads(frame)
    if not isinstance(message, dict):
        raise ValueError("a frame that is no JSON object")
    return message


def _status(error: Exception | None) -> int | None:
    """Return the HTTP status with which the handshake was refused."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and 400 <= status < 500 else None


def _pause(failures: int, *, rarely: bool) -> float:
    longest = RARE_PAUSE_S if rarely else min(FIRST_PAUSE_S * 2 ** min(max(failures - 1, 0), 10), LONGEST_PAUSE_S)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
