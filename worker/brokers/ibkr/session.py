"""One live connection to TWS or Gateway, from connect to loss; runs on the loop of `ibkr_wire.LoopThread`.

It feeds the order book from raw messages, knows whether IB itself is reachable (1100, 1101, 1102), reads complete
listings or raises, and puts single orders on the wire. It decides nothing about orders: `ibkr_evidence` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from models.errors import BrokerError, ConfigurationError, NotConnected, UnreadableReply
from worker.brokers import values
from worker.brokers.ibkr import terms
from worker.brokers.ibkr.codes import CUT_OFF, RESTORED, Proof, code_of
from worker.brokers.ibkr.contracts import Contracts
from worker.brokers.ibkr.days import zones_of
from worker.brokers.ibkr.evidence import OrderBook
from worker.brokers.ibkr.frames import Frames
from worker.brokers.ibkr.handshake import Greeting, HandshakeFailed, shake_hands
from worker.brokers.ibkr.spoiled import Rows, Spoiled, is_apart, spoiled
from worker.brokers.ibkr.terms import Execution, OrderLine
from worker.brokers.ibkr.times import Zones
from worker.brokers.ibkr.wire import DecoderWatch, Listings, Options, Sdk
from worker.pacing.budget import Budget

_log = structlog.get_logger()

#: Probes without a single byte in return, after which a socket counts as dead.
SILENT_PROBES = 3
_READ_ONLY = "read-only"
_NEW_YORK = ZoneInfo("America/New_York")
#: More than 50 messages in a second, and how long nothing is sent then: TWS disconnects who goes on.
TOO_MANY, TOO_MANY_PAUSE_S = 100, 1.0


class Session:
    """One connection; made, opened and closed on the loop, and never reopened."""

    def __init__(
        self, sdk: Sdk, options: Options, book: OrderBook, budget: Budget, on_change: Callable[[str], None]
    ) -> None:
        self.sdk = sdk
        self.options = options
        self.book = book
        self.account = ""
        self.accounts: list[str] = []
        #: Why nothing may be sent though the socket may be up; None when all is well.
        self.gate: str | None = "not connected yet"
        #: Zones in which TWS may count its days, as its greeting tells them; empty where it tells none.
        self.zones: list[tzinfo] = []
        self.budget = budget
        self._on_change = on_change
        self._clock = asyncio.get_running_loop().time
        self._complaints: list[tuple[int, str]] = []
        self._unreadable = 0
        self._lost = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads: dict[int, tuple[asyncio.Future[None], Rows[Execution]]] = {}
        #: The frame that is being decoded, and the unreadable rows that were said already.
        self._frame: list[str] = []
        self._said: set[Spoiled] = set()
        #: TWS allows two account summaries at a time; one will do.
        self.summary_lock = asyncio.Lock()
        self._open = Listings("open orders", self._clock)
        self._completed = Listings("completed orders", self._clock)
        self._positions = Listings("positions", self._clock)
        self.ib = sdk.IB()
        self.client = self.ib.client
        self.contracts = Contracts(sdk, self.ib, options.broker, self, book.names)
        self._prepare()

    def _prepare(self) -> None:
        ib, wrapper = self.ib, self.ib.wrapper
        ib.RaiseRequestErrors = True
        ib.RequestTimeout = self.options.request_timeout_s
        ib.TimezoneTWS = str(self.options.timezone)
        self.client.MaxRequests = 0  # the SDK's queue would hold orders back unseen; we pace ourselves
        ib.errorEvent -= ib._onError  # it asks for account summaries on 1102, unpaced
        self._sdk_error = wrapper.error
        wrapper.error = self._on_error
        wrapper.openOrder = self._on_open_order
        wrapper.openOrderEnd = self._open.end
        wrapper.orderStatus = self._on_order_status
        wrapper.completedOrder = self._on_completed_order
        wrapper.completedOrdersEnd = self._completed.end
        wrapper.execDetails = self._on_exec_details
        wrapper.execDetailsEnd = self._on_exec_details_end
        wrapper.commissionReport = self._on_commission
        wrapper.position = self._on_position
        wrapper.positionEnd = self._positions.end
        self.frames = Frames(self.client, wrapper, Zones(self.options.timezone))
        decoder = self.client.decoder
        decoder.logger = DecoderWatch(decoder.logger, self._on_unreadable)
        self._decode = decoder.interpret
        decoder.interpret = self._on_frame
        self._greeting = Greeting(self.client, self._on_greeting)  # events hold their listeners weakly
        self.client.apiEnd += self._on_lost

    # -- OPEN AND CLOSE ---
    async def open(self) -> None:
        """Connect, check the account, and read open orders and executions before anything may be sent.

        Raises:
            NotConnected: with TWS's own words where it gave any (326: client id in use).
            ConfigurationError: a live account without live = true, or a read-only API.
        """
        self.ib.wrapper.clientId = self.options.client_id
        try:
            await shake_hands(self.client, self.options)
        except HandshakeFailed as failed:
            raise self._why(str(failed)) from None
        self.accounts = list(self.client.getAccounts())
        self.account = self.options.check_accounts(self.accounts)
        self.book.client_id = self.options.client_id
        self.client.updateReqId(self.book.id_floor)
        self.gate = reading = "reading orders and executions"
        try:
            await self._synchronise()
        except BrokerError as error:
            raise self._why(str(error)) from None
        if self.gate != reading:
            raise self._why(str(self.gate))
        self._subscribe()
        self.spawn(self._watch())
        self.gate = None

    def _why(self, reason: str) -> NotConnected | ConfigurationError:
        number, text = self._complaints[-1] if self._complaints else (None, reason)
        if number == 321 and _READ_ONLY in text.lower():
            return ConfigurationError(f"{self.options.broker}: {text} Switch the API's read-only mode off in TWS.")
        hints = {326: "give every worker its own client_id", None: "is TWS or Gateway up, and its API on?"}
        words, hint = f"{number} {text}" if number else reason, hints.get(number, "see TWS")
        message = f"{self.options.broker}: not connected to {self.options.where}: {words}; {hint}"
        return NotConnected(message, broker=self.options.broker, code=str(number) if number else None)

    async def _synchronise(self) -> None:
        # Orders first: their ids and executions raise the floor of ours (docs/facts/ibkr.md#2.3: ids get reissued).
        await self.open_orders(own=True)
        await self.executions()

    def _subscribe(self) -> None:
        self.client.reqAccountUpdates(True, self.account)  # market values of positions; nobody waits for it
        if self.options.delayed_quotes:
            self.client.reqMarketDataType(3)  # live where subscribed, delayed elsewhere

    async def close(self) -> None:
        """Close the socket; never raises."""
        self.gate = self.gate or "disconnected"
        transport = self.client.conn.transport
        self.client.apiEnd -= self._on_lost
        with contextlib.suppress(Exception):
            self.ib.disconnect()
        if transport is not None:
            transport.abort()
        await asyncio.sleep(0)  # lets connection_lost run
        self._on_lost()

    def abort(self, why: str) -> None:
        """Cut a connection that cannot be trusted; the supervisor sees it and connects anew."""
        _log.warning("ibkr.aborted", broker=self.options.broker, why=why)
        self.gate = why
        if (transport := self.client.conn.transport) is not None:
            transport.abort()

    @property
    def up(self) -> bool:
        """Whether the socket is up and the API ready; IB behind it may still be cut off."""
        return bool(self.client.isReady())

    @property
    def ready(self) -> bool:
        """Whether an order may be sent now."""
        return self.gate is None and self.up

    def check(self) -> None:
        """Raise NotConnected unless an order may be sent now."""
        if not self.ready:
            why = self.gate or "the socket is closed"
            raise NotConnected(f"{self.options.broker}: {why}, at {self.options.where}", broker=self.options.broker)

    # -- READ ---
    async def open_orders(self, own: bool = False) -> Rows[OrderLine]:
        """List open orders: of this client id, or of all."""
        request = self.client.reqOpenOrders if own else self.client.reqAllOpenOrders
        lines = await self.contracts.named(await self._list(self._open, request))
        for line in lines:
            if (known := self.book.by_perm_id(line.perm_id)) is not None and known.line.symbol is None:
                known.line = replace(known.line, symbol=line.symbol)
        return lines

    async def completed_orders(self) -> Rows[OrderLine]:
        """List completed orders of the day, of all clients."""
        return await self.contracts.named(
            await self._list(self._completed, lambda: self.client.reqCompletedOrders(False))
        )

    async def positions(self) -> Rows[Any]:
        """List positions as (account, contract, quantity, average cost)."""
        return await self._list(self._positions, self.client.reqPositions)

    async def executions(self) -> Rows[Execution]:
        """List executions of the day, of all clients; new ones go to the book, too."""
        unreadable = self._unreadable
        await self.budget.turn()
        self._check_up()
        number = self.client.getReqId()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reads[number] = (done, Rows())
        try:
            self.client.reqExecutions(number, self.sdk.ExecutionFilter())
            async with asyncio.timeout(self.options.request_timeout_s):
                await done
        except TimeoutError:
            raise BrokerError(f"TWS did not list its executions within {self.options.request_timeout_s:g} s") from None
        finally:
            _, rows = self._reads.pop(number)
        self._check_readable(unreadable, "executions")
        return await self.contracts.named(Rows([row for row in rows if self._mine(row.account)], rows.spoiled))

    async def ask(self, what: str, request: Callable[[], Awaitable[Any]], timeout_s: float | None = None) -> Any:
        """Make one SDK request in its turn.

        Raises:
            NotConnected, BrokerError: connection lost, or no answer; the SDK's RequestError passes.
        """
        self.check()
        await self.budget.turn()
        try:
            async with asyncio.timeout(timeout_s or self.options.request_timeout_s):
                return await request()
        except TimeoutError:
            raise BrokerError(f"{self.options.broker}: no answer to {what}", broker=self.options.broker) from None
        except ConnectionError as error:
            raise NotConnected(f"{self.options.broker}: {error} during {what}", broker=self.options.broker) from None

    # -- SEND ---
    async def turn(self, until: float) -> None:
        """Wait for a message's turn to be sent.

        Raises:
            QuotaExhausted: it does not come soon enough.
        """
        await self.budget.turn(max(until - self._clock(), 0.0))

    def send(self, message: Callable[[], None]) -> bool:
        """Put one message on the wire now; return whether bytes left, also when it raises.

        Raises:
            NotConnected: the socket is gone, or TWS does not read from it.
        """
        self.check()
        conn = self.client.conn
        if conn.transport is None or conn.transport.is_closing():
            raise NotConnected(f"{self.options.broker}: the socket is closing", broker=self.options.broker)
        if waiting := conn.transport.get_write_buffer_size():
            stuck = f"{self.options.broker}: TWS does not read, {waiting} bytes wait"
            raise NotConnected(stuck, broker=self.options.broker)
        before = conn.numMsgSent
        try:
            message()
        except Exception as error:
            if conn.numMsgSent == before:
                raise NotConnected(f"{self.options.broker}: not sent: {error!r}", broker=self.options.broker) from error
            raise
        return bool(conn.numMsgSent > before)

    def next_order_id(self) -> int:
        """Return an order id above every one this process has used or seen."""
        self.client.updateReqId(self.book.id_floor)
        number = int(self.client.getReqId())
        self.book.id_floor = number + 1
        return number

    # -- WIRE ---
    def _on_greeting(self, text: str) -> None:
        now = datetime.now(UTC)
        self.zones = zones_of(text, now)
        self.frames.zones.greet(text.strip("\0").rpartition("\0")[2], now)

    def _on_frame(self, fields: list[str]) -> None:
        self._frame = fields
        self._decode(fields)

    def _on_open_order(self, _: int, contract: Any, order: Any, state: Any) -> None:
        if order.whatIf:
            return
        line = self.contracts.name(terms.order_line(contract, order, state, self.options.timezone))
        if line.client_id == self.options.client_id:
            self._raise_floor(line.order_id)
        if self._mine(line.account):
            self._open.row(line.perm_id or (line.client_id, line.order_id), line)
            self.book.on_order(line)

    def _on_order_status(
        self, order_id: int, status: str, filled: float, _remaining: float, average: float, perm_id: int,
        _parent: int, _last: float, client_id: int, why_held: str, *_: Any,
    ) -> None:  # fmt: skip
        self.book.on_status(order_id, client_id, perm_id, status, why_held, filled, average)

    def _on_completed_order(self, contract: Any, order: Any, state: Any) -> None:
        line = self.contracts.name(terms.order_line(contract, order, state, self.options.timezone))
        if self._mine(line.account):
            self._completed.row(line.perm_id or object(), line)

    def _on_exec_details(self, number: int, contract: Any, raw: Any) -> None:
        execution = self.contracts.name(terms.execution(contract, raw, timed=self.frames.is_timed(raw.execId)))
        if execution.client_id == self.options.client_id:
            self._raise_floor(execution.order_id)
        if number in self._reads:
            self._reads[number][1].append(execution)
        if self._mine(execution.account):
            self.book.on_execution(execution)

    def _on_exec_details_end(self, number: int) -> None:
        if number in self._reads and not (done := self._reads[number][0]).done():
            done.set_result(None)

    def _on_commission(self, raw: Any) -> None:
        self.book.on_commission(str(raw.execId), values.fee(raw.commission), str(raw.currency) or None)

    def _on_position(self, account: str, contract: Any, quantity: float, avg_cost: float) -> None:
        self._positions.row((account, contract.conId), (account, contract, quantity, avg_cost))

    def _on_error(self, number: int, code: int, text: str, advanced: str = "", *_: Any) -> None:
        words = f"{text} {advanced}".strip()
        if code == TOO_MANY:
            self.budget.limited(TOO_MANY_PAUSE_S)
        if number in self._reads and not (done := self._reads[number][0]).done():
            done.set_exception(BrokerError(f"{code} {words}", broker=self.options.broker, code=str(code)))
        elif not self.book.on_error(number, code, words):
            self._sdk_error(number, code, text, advanced)
        if number < 0:
            self._on_system_code(code, words)
        _log.debug("ibkr.code", broker=self.options.broker, id=number, code=code, text=words)

    def _on_system_code(self, code: int, text: str) -> None:
        if self.gate is not None and code_of(code).proof is not Proof.LIVES:
            self._complaints.append((code, text))
        if code in CUT_OFF:
            self.gate = f"TWS is cut off from IB ({code})"
            self.book.lose(f"IB cut off ({code})")
            self._on_change("cut off")
        elif code in RESTORED:
            self.gate = f"IB is back ({code}), reading what was missed"
            self.spawn(self._resume(code))

    async def _resume(self, code: int) -> None:
        # Fills during 1100 are not replayed (docs/facts/ibkr.md#1.6): read first, then reopen.
        gate = self.gate
        try:
            await self._synchronise()
        except BrokerError as error:
            self.abort(f"could not synchronise after {code}: {error}")
            return
        if self.gate == gate:
            self.gate = None
            self._on_change("restored")

    def _on_unreadable(self, message: str) -> None:
        """Take in a frame that the SDK, or our own reading of it, could not decode."""
        fields, row = self._frame, spoiled(self._frame)
        if row is None:
            self._unreadable += not is_apart(fields)
            _log.exception("ibkr.unreadable_frame", broker=self.options.broker, frame=message[:2000])
            return
        if row not in self._said:
            self._said.add(row)
            _log.error("ibkr.unreadable_row", broker=self.options.broker, row=str(row), error=repr(sys.exc_info()[1]))
        if row.get("client_id") in (None, str(self.options.client_id)) and (order_id := row.number("order_id")):
            self._raise_floor(order_id)
        if not self._mine(row.get("account") or ""):
            return
        if (number := row.number("request_id")) in self._reads:
            self._reads[number][1].spoiled.append(row)
        listings = {"open order": self._open, "completed order": self._completed, "position": self._positions}
        if row.what in listings:
            listings[row.what].row(row, row)

    def _on_lost(self) -> None:
        if self._lost:
            return
        self._lost = True
        if self.gate != "disconnected":
            _log.warning("ibkr.connection_lost", broker=self.options.broker, where=self.options.where)
        self.gate = "the socket is closed"
        for task in self._tasks:
            task.cancel()
        error = NotConnected(f"{self.options.broker}: connection lost", broker=self.options.broker)
        for listings in (self._open, self._completed, self._positions):
            listings.fail(error)
        for done, _ in self._reads.values():
            if not done.done():
                done.set_exception(error)
        self.book.lose("the connection was lost")
        self._on_change("lost")

    # -- INSIDE ---
    async def _list(self, listings: Listings, request: Callable[[], None]) -> Rows[Any]:
        async def ask() -> None:
            await self.budget.turn()
            self._check_up()
            request()

        unreadable = self._unreadable
        rows = await listings.read(ask, self.options.request_timeout_s)
        self._check_readable(unreadable, listings.what)
        bad = [row for row in rows.values() if isinstance(row, Spoiled)]
        return Rows([row for row in rows.values() if not isinstance(row, Spoiled)], bad)

    def days(self) -> list[tzinfo]:
        """Return the zones in which IB may count its days; nothing where TWS's own is not known."""
        return [self.options.timezone, _NEW_YORK, *self.zones] if self.zones else []

    def _check_up(self) -> None:
        if not self.up:
            raise NotConnected(f"{self.options.broker}: not connected to {self.options.where}")

    def _check_readable(self, before: int, what: str) -> None:
        if self._unreadable != before:
            raise UnreadableReply(f"{self.options.broker}: frames were unreadable while {what} were listed")

    def _mine(self, account: str) -> bool:
        return not self.account or not account or account == self.account

    def _raise_floor(self, order_id: int) -> None:
        self.book.id_floor = max(self.book.id_floor, order_id + 1)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the callers, until the connection is lost."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        """Probe a silent socket, so that a half-open one is noticed without an order on it."""
        silent, seen = 0, -1
        while silent < SILENT_PROBES:
            await asyncio.sleep(self.options.heartbeat_s)
            silent = silent + 1 if self.client._numBytesRecv == seen else 0
            seen = self.client._numBytesRecv
            if any(listings.overdue for listings in (self._open, self._completed, self._positions)):
                return self.abort("a listing was never answered")
            if silent and self.up:
                self.client.reqCurrentTime()
        return self.abort(f"nothing heard for {SILENT_PROBES * self.options.heartbeat_s:g} s")
