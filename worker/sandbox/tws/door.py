"""The TWS door: a loopback socket that speaks the TWS text protocol to ib_insync, ib_async and IB's own client.

Several clients at once, one socket per client id; everything survives a reconnect. Messages are built in
tws_messages.py, orders handled in tws_orders.py, historical data in tws_history.py; here are sockets and requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

from worker.sandbox.arrivals import StampedReader
from worker.sandbox.faults import Fault
from worker.sandbox.market.market import Market, MarketEvent
from worker.sandbox.tws import messages
from worker.sandbox.tws.orders import OrderDesk
from worker.sandbox.tws.requests import Requests
from worker.sandbox.tws.rules import accounts_of
from worker.sandbox.tws.wire import Fields, WireError, agreed_version, encode

logger = logging.getLogger(__name__)
_FARMS = ((2104, "usfarm"), (2106, "ushmds"))
#: Longest pause between two looks at the sockets while messages are counted.
_LOOK_S = 0.01
_WORDS = {
    2104: "Market data farm connection is OK:",
    2106: "HMDS data farm connection is OK:",
    2157: "Sec-def data farm connection is broken:",
    2158: "Sec-def data farm connection is OK:",
}


class ApiClient:
    """One connected client, from its handshake to its end."""

    def __init__(self, door: TwsDoor, writer: asyncio.StreamWriter) -> None:
        self.door = door
        self.client_id = -1
        self.version = 0
        self.meant = ""  # its connect options
        self.subscribed_account = ""  # whose values it wants to hear of
        self.subscribed_positions = False
        self.quotes: dict[int, tuple[str, tuple[Decimal, Decimal, Decimal]]] = {}  # by request: symbol, prices told
        self._writer = writer

    def answer(self, *frames: bytes) -> None:
        """Send what the client asked for."""
        if not self._writer.transport.is_closing():
            self._writer.write(b"".join(frames))

    def push(self, *frames: bytes) -> None:
        """Send news; lost while the connection to IB is down."""
        if self.door.outage_since is None:
            self.answer(*frames)

    def error(self, number: int, code: int, words: str) -> None:
        """Send an error for an order or request id, -1 for the system."""
        self.answer(messages.error(number, code, words, self.version))

    def abort(self) -> None:
        """Cut the connection without a goodbye."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection after what is still to be sent."""
        self._writer.close()


class TwsDoor:
    """The sandbox's Interactive Brokers: `start` listens, `stop` ends; the market keeps all state in between.

    Faults: those of `worker.sandbox.fault_kinds` that are at this door. `refuse`, `hang`, `accept_hang`,
    `accept_drop`, `garbage`, `half_reply`, `slow` and `error_code` strike at placeOrder; with `operation` set (cancel,
    open_orders, executions, completed, positions, account, contract, quote, bars) `hang`, `slow`, `half` and
    `error_code` strike there instead.
    `rate_limit` [per_second, 50] drops what is above it with error 100, over all clients.
    """

    def __init__(self, market: Market, name: str = "ibkr") -> None:
        self.market = market
        self.name = name
        self.host = "127.0.0.1"
        self.port = 0
        self.outage_since: datetime | None = None
        self.sessions: dict[int, ApiClient] = {}
        self.desk = OrderDesk(market, name, self.sessions)
        self._requests = Requests(self)
        self._server: asyncio.Server | None = None
        self._connections: set[ApiClient] = set()
        self._running = False
        self._is_broken = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._moved: set[tuple[str, str]] = set()  # account, symbol
        #: The earliest moment at which each message of the last second can have come.
        self._messages: deque[float] = deque(maxlen=1000)
        market.subscribe(name, self._on_event)
        market.faults.on_added(self._on_fault)
        market.faults.on_cleared(self._on_cleared)

    # -- LIFE --

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; return the port, which is the one asked for or a free one for 0."""
        self.host, self.port, self._running = host, port, True
        await self._listen()
        if self.market.faults.peek(self.name, "down") is not None:
            self._go_down()
        self._spawn(self._tick())
        return self.port

    async def stop(self) -> None:
        """Cut every connection and stop listening."""
        self._running = False
        self._go_down()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut every connection; clients may come back at once."""
        for session in list(self._connections):
            session.abort()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        made = partial(asyncio.StreamReaderProtocol, client_connected_cb=self._serve)
        self._server = await loop.create_server(lambda: made(StampedReader()), self.host, self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def _go_down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def _spawn(self, work: Coroutine[object, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- FAULTS THAT NEED NO REQUEST --

    def _on_fault(self, fault: Fault) -> None:
        """Do what a fault of the whole connection asks for, at once."""
        if not self._running or fault.door not in (self.name, "*"):
            return
        if fault.kind == "disconnect":
            self.cut()
            asyncio.get_running_loop().call_soon(self.market.faults.take, self.name, "disconnect")
        elif fault.kind == "down":
            self.market.faults.note(fault, self.name)
            self._go_down()
        elif fault.kind == "rate_limit":
            self._spawn(self._look_often())
        elif fault.kind == "definitions_broken":
            self._is_broken = True
            self._tell_definitions()
        elif fault.kind == "nightly_reset":
            asyncio.get_running_loop().call_soon(self._lose_ib)

    @property
    def _definitions(self) -> tuple[int, str]:
        """How the farm for definitions of securities is; a client that connects is told as well."""
        return (2157 if self._is_broken else 2158), "secdefnj"

    def _tell_definitions(self) -> None:
        code, farm = self._definitions
        self._tell_all(code, _WORDS[code] + farm)

    def _on_cleared(self) -> None:
        if self._is_broken and self.market.faults.peek(self.name, "definitions_broken") is None:
            self._is_broken = False
            self._tell_definitions()
        if self._running and self._server is None and self.market.faults.peek(self.name, "down") is None:
            self._spawn(self._listen_again())

    async def _listen_again(self) -> None:
        while self._running and self._server is None:
            with contextlib.suppress(OSError):  # the port may still be leaving the kernel
                await self._listen()
                return
            await asyncio.sleep(0.02)

    def _lose_ib(self) -> None:
        """Begin the nightly reset: 1100 now, 1102 (or 1101) later; the sockets stay up."""
        fault = self.market.faults.take(self.name, "nightly_reset")
        if fault is None:
            return
        self._tell_all(1100, "Connectivity between IB and Trader Workstation has been lost.")
        self.outage_since = datetime.now(UTC)
        seconds = float(fault.options.get("seconds", 1.0))
        asyncio.get_running_loop().call_later(seconds, self._regain_ib, int(fault.options.get("code", 1102)))

    def _regain_ib(self, code: int) -> None:
        self.outage_since = None
        kept = "maintained" if code == 1102 else "lost"
        self._tell_all(code, f"Connectivity between IB and Trader Workstation has been restored - data {kept}.")

    def _tell_all(self, code: int, words: str) -> None:
        for session in self.sessions.values():
            session.error(-1, code, words)

    # -- ONE CONNECTION --

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it goes away."""
        session = ApiClient(self, writer)
        self._connections.add(session)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            assert isinstance(reader, StampedReader)
            await self._converse(session, reader)
        except (asyncio.IncompleteReadError, ConnectionError, WireError) as error:
            logger.debug("tws client gone client_id=%s reason=%r", session.client_id, error)
        except asyncio.CancelledError:
            pass  # the door stops; ending quietly keeps asyncio.streams from logging it
        finally:
            self._connections.discard(session)
            if self.sessions.get(session.client_id) is session:
                del self.sessions[session.client_id]
            session.close()

    async def _converse(self, session: ApiClient, reader: StampedReader) -> None:
        """Shake hands, then read messages; one that cannot be read is answered with error 320."""
        if await reader.readexactly(4) != b"API\0":
            raise WireError("not a TWS client")
        greeting = await _frame(reader)
        session.version = agreed_version(greeting)
        session.meant = greeting.decode(errors="replace").partition(" ")[2]
        session.answer(messages.hello(session.version))
        while True:
            payload = await _frame(reader)
            fields = Fields(payload)
            if self._is_too_fast(session, reader.came()):
                continue
            try:
                kind = fields.integer()
                if kind == 71:
                    if not self._start_api(session, fields):
                        return
                else:
                    self._requests.handle(session, kind, fields)
            except WireError as error:
                session.error(-1, 320, f"Error reading request: {error}")
            except Exception:
                logger.exception("tws request failed: %r", payload)
                session.error(-1, 320, "Error reading request: internal")

    async def _look_often(self) -> None:
        """Have the loop look at its sockets, for as long as messages are counted: then it knows when they came."""
        while self._running and self.market.faults.peek(self.name, "rate_limit") is not None:
            await asyncio.sleep(_LOOK_S)

    def _is_too_fast(self, session: ApiClient, came: tuple[float, float]) -> bool:
        """Count the messages of all clients while the fault `rate_limit` stands; what is too much is dropped.

        Too much is only what certainly came within one second, however late this process was to read it.
        """
        fault = self.market.faults.peek(self.name, "rate_limit")
        if fault is None:
            self._messages.clear()
            return False
        limit, (earliest, latest) = int(fault.options.get("per_second", 50)), came
        if sum(at > latest - 1.0 for at in self._messages) < limit:
            self._messages.append(earliest)
            return False
        self.market.faults.note(fault, self.name)
        self.market.ledger.record("limited", door=self.name, operation="message", limit=limit)
        words = f"Max rate of messages per second has been exceeded:max={limit} rec={limit + 1} (1)"
        session.error(-1, 100, words)
        return True

    def _start_api(self, session: ApiClient, fields: Fields) -> bool:
        """Answer startApi; False when the client must go."""
        fields.skip(1)
        client_id = fields.integer()
        faults = self.market.faults
        if self.market.is_another(session.meant):
            session.error(-1, 502, f"Couldn't connect: this is {self.market.name}, not {session.meant}")
            return False
        if client_id in self.sessions or faults.take(self.name, "client_id_in_use"):
            session.error(
                -1, 326, "Unable to connect as the client id is already in use. Retry with a unique client id."
            )
            return False
        session.client_id = client_id
        self.sessions[client_id] = session
        self.send_accounts(session)
        if not faults.take(self.name, "no_next_valid_id"):
            self.send_next_id(session)
        for code, farm in (*_FARMS, self._definitions):
            session.error(-1, code, _WORDS[code] + farm)
        if self.outage_since is not None:
            session.error(-1, 1100, "Connectivity between IB and Trader Workstation has been lost.")
        return True

    def send_accounts(self, session: ApiClient) -> None:
        """Tell a client whose accounts it can trade; of several each ends with a comma (recorded: qtpylib#79)."""
        known = accounts_of(self.market, self.name)
        session.answer(encode(15, 1, known[0] if len(known) == 1 else "".join(f"{number}," for number in known)))

    def send_next_id(self, session: ApiClient) -> None:
        """Tell a client its next order id; an earlier one under the fault `rollback_next_valid_id`."""
        number = self.desk.next_id(session.client_id)
        rollback = self.market.faults.take(self.name, "rollback_next_valid_id")
        if rollback is not None:
            number = max(1, number - int(rollback.options.get("by", number)))
        session.answer(encode(9, 1, number))

    # -- NEWS --

    def _on_event(self, event: MarketEvent) -> None:
        self.desk.on_event(event)
        if event.kind == "fill":
            if not self._moved:
                self.later(0.05, self._tell_accounts)
            self._moved.add((event.order.account, event.order.symbol))

    def _tell_accounts(self) -> None:
        """Tell subscribers what the fills of the last moment did to the account."""
        moved, self._moved = sorted(self._moved), set()
        for session in list(self.sessions.values()):
            self._requests.push_account(session, moved)

    async def _tick(self) -> None:
        """Send changed quotes to those who watch them."""
        while True:
            await asyncio.sleep(0.2)
            for session in list(self.sessions.values()):
                for number, (symbol, told) in list(session.quotes.items()):
                    quote = self.market.quote(symbol)
                    prices = (quote.bid, quote.ask, quote.last)
                    if prices != told:
                        session.quotes[number] = (symbol, prices)
                        session.push(*messages.quote_ticks(number, quote, ()))

    def day_prices(self, symbol: str) -> list[Decimal]:
        """Return open, high and low of the newest session and the close before it."""
        now = datetime.now(UTC)
        bars = self.market.bars(symbol, "1Day", now - timedelta(days=8), now)
        return [bars[-1].open, bars[-1].high, bars[-1].low, bars[-2].close]

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run `action` on the loop after some seconds."""
        asyncio.get_running_loop().call_later(seconds, action)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    if length > 1_000_000:
        raise WireError(f"message of {length} bytes")
    return await reader.readexactly(length)
