"""One live connection to TWS or Gateway, from connect to loss; runs on the loop of `loop.LoopThread`.

It knows whether IB itself is reachable (1100, 1101, 1102), reads complete listings or raises, and puts single messages
on the wire. `feed` takes in what comes; nothing is decided about orders here: `evidence` and `verdicts` do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import structlog

from models.errors import BrokerError, ConfigurationError, NotConnected, PacingViolation, QuotaExhausted
from models.troubles import trouble
from worker.brokers.ibkr.access import Options
from worker.brokers.ibkr.accounts import TradedAccounts
from worker.brokers.ibkr.codes import CUT_OFF, RESTORED, Proof, code_of, read_error
from worker.brokers.ibkr.contracts import CheckKnown, Contracts, Recall, Resolved
from worker.brokers.ibkr.days import zones_of
from worker.brokers.ibkr.evidence import OrderBook
from worker.brokers.ibkr.feed import Feed, HeldRow
from worker.brokers.ibkr.frames import Frames
from worker.brokers.ibkr.handshake import Greeting, HandshakeFailed, shake_hands
from worker.brokers.ibkr.numbers import NumberLane
from worker.brokers.ibkr.reports import OrderLine, WireExecution
from worker.brokers.ibkr.sdk import Sdk, code_and_text
from worker.brokers.ibkr.spoiled import Rows, Spoiled
from worker.brokers.ibkr.unnumbered import Unnumbered
from worker.pacing.budget import Budget

T = TypeVar("T")
_log = structlog.get_logger()

#: Probes without a single byte in return, after which a socket counts as dead.
SILENT_PROBES = 3
_READ_ONLY = "read-only"
_NEW_YORK = ZoneInfo("America/New_York")
#: More than 50 messages in a second, and how long nothing is sent then: TWS disconnects who goes on.
TOO_MANY, TOO_MANY_PAUSE_S = 100, 1.0


class TwsSession:
    """One connection; made, opened and closed on the loop, and never reopened."""

    def __init__(
        self,
        sdk: Sdk,
        options: Options,
        book: OrderBook,
        budget: Budget,
        on_change: Callable[[str], None],
        resolved: Resolved | None = None,
        recall: Recall | None = None,
        check: CheckKnown | None = None,
    ) -> None:
        self.sdk = sdk
        self.options = options
        self.book = book
        #: Why nothing may be sent though the socket may be up; None when all is well.
        self.gate: str | None = "not connected yet"
        #: Zones in which TWS may count its days, as its greeting tells them; empty where it tells none.
        self.zones: list[tzinfo] = []
        self.budget = budget
        self._on_change = on_change
        self._clock = asyncio.get_running_loop().time
        self._complaints: list[tuple[int, str]] = []
        self._lost = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.numbers = NumberLane()
        #: TWS allows two account summaries at a time; one will do.
        self.summary_lock = asyncio.Lock()
        self.ib = sdk.IB()
        self.client = self.ib.client
        self.contracts = Contracts(sdk, self.ib, options.broker, self, book.names, resolved, recall, check)
        self._prepare()
        self.feed = Feed(self.ib, options, book, self.contracts)

    def _prepare(self) -> None:
        """Put our own evidence, pacing and clock in the place of the SDK's."""
        ib, wrapper = self.ib, self.ib.wrapper
        ib.RaiseRequestErrors = True
        ib.RequestTimeout = self.options.request_timeout_s
        ib.TimezoneTWS = str(self.options.timezone)
        self.client.MaxRequests = 0  # the SDK's queue would hold orders back unseen; we pace ourselves
        ib.errorEvent -= ib._onError  # it asks for account summaries on 1102, unpaced
        self._sdk_error = wrapper.error
        wrapper.error = self._on_error
        self._greeting = Greeting(self.client, self._on_greeting)  # events hold their listeners weakly
        self.client.apiEnd += self._on_lost

    @property
    def accounts(self) -> TradedAccounts:
        """The accounts that are traded; none until the login has told them."""
        return self.feed.accounts

    @property
    def frames(self) -> Frames:
        """The messages that are read before the SDK reads them."""
        return self.feed.frames

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
        self.feed.accounts = self.options.check_accounts(list(self.client.getAccounts()))
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
        self.client.reqAccountUpdates(True, self.accounts.usual)  # market values of positions; nobody waits for it
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
        lines = await self.contracts.named(await self._list(self.feed.open, request))
        for line in lines:
            if (known := self.book.by_perm_id(line.perm_id)) is not None and known.line.symbol is None:
                known.line = replace(known.line, symbol=line.symbol)
        return lines

    async def completed_orders(self) -> Rows[OrderLine]:
        """List completed orders of the day, of all clients."""
        return await self.contracts.named(
            await self._list(self.feed.completed, lambda: self.client.reqCompletedOrders(False))
        )

    async def positions(self) -> Rows[HeldRow]:
        """List positions as (account, contract, quantity, average cost)."""
        return await self._list(self.feed.positions, self.client.reqPositions)

    async def executions(self) -> Rows[WireExecution]:
        """List executions of the day, of all clients; new ones go to the book, too."""
        with self.feed.whole("executions"):
            await self.budget.turn()
            self._check_up()
            number = self.client.getReqId()
            with self.feed.reading(number) as (done, rows):
                self.client.reqExecutions(number, self.sdk.ExecutionFilter())
                try:
                    async with asyncio.timeout(self.options.request_timeout_s):
                        await done
                except TimeoutError:
                    limit = f"{self.options.request_timeout_s:g} s"
                    raise BrokerError(f"TWS did not list its executions within {limit}") from None
        return await self.contracts.named(
            Rows([row for row in rows if self.accounts.is_mine(row.account)], rows.spoiled)
        )

    async def ask(self, what: str, request: Callable[[], Awaitable[T]], timeout_s: float | None = None) -> T:
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
            raise NotConnected(
                f"{self.options.broker}: {trouble(error)} during {what}", broker=self.options.broker
            ) from None

    async def read(self, what: str, request: Callable[[], Awaitable[T]], timeout_s: float | None = None) -> T:
        """Make one SDK request that no order depends on, as `ask`.

        Raises:
            DataError, BrokerError: by the code that answered it (`codes.read_error`).
            PacingViolation: its turn does not come soon enough.
        """
        try:
            return await self.ask(what, request, timeout_s)
        except self.sdk.RequestError as error:
            raise read_error(*code_and_text(error), self.options.broker) from None
        except QuotaExhausted as error:
            raise paced(error) from None

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
                raise NotConnected(
                    f"{self.options.broker}: not sent: {trouble(error)}", broker=self.options.broker
                ) from error
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

    def _on_error(self, number: int, code: int, text: str, advanced: str = "", *_: object) -> None:
        """Hand an error to whoever it is about: a question, an order, or the whole connection (negative numbers)."""
        words = f"{text} {advanced}".strip()
        if code == TOO_MANY:
            self.budget.limited(TOO_MANY_PAUSE_S)
        failed = BrokerError(f"{code} {words}", broker=self.options.broker, code=str(code))
        if not self.feed.fail_read(number, failed) and not self.book.on_error(number, code, words):
            self._sdk_error(number, code, text, advanced)
        if number < 0:
            self._on_system_code(code, words)
        _log.debug("ibkr.code", broker=self.options.broker, id=number, code=code, text=words)

    def _on_system_code(self, code: int, text: str) -> None:
        """Close the gate when TWS is cut off from IB, and read everything again when that is over."""
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
        """Read what was missed while TWS was cut off, and open the gate."""
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

    def _on_lost(self) -> None:
        """Fail whoever waits, once: the socket is closed."""
        if self._lost:
            return
        self._lost = True
        if self.gate != "disconnected":
            _log.warning("ibkr.connection_lost", broker=self.options.broker, where=self.options.where)
        self.gate = "the socket is closed"
        for task in self._tasks:
            task.cancel()
        error = NotConnected(f"{self.options.broker}: connection lost", broker=self.options.broker)
        self.feed.fail(error)
        self.book.lose("the connection was lost")
        self._on_change("lost")

    # -- INSIDE ---
    async def _list(self, listings: Unnumbered, request: Callable[[], None]) -> Rows[Any]:
        """Ask for one whole listing; returns its rows, and beside them those that could not be read."""

        async def ask() -> None:
            await self.budget.turn()
            self._check_up()
            request()

        with self.feed.whole(listings.what):
            rows = await listings.read(ask, self.options.request_timeout_s)
        bad = [row for row in rows.values() if isinstance(row, Spoiled)]
        return Rows([row for row in rows.values() if not isinstance(row, Spoiled)], bad)

    def days(self) -> list[tzinfo]:
        """Return the zones in which IB may count its days; nothing where TWS's own is not known."""
        return [self.options.timezone, _NEW_YORK, *self.zones] if self.zones else []

    def _check_up(self) -> None:
        if not self.up:
            raise NotConnected(f"{self.options.broker}: not connected to {self.options.where}")

    def spawn(self, work: Coroutine[object, None, None]) -> None:
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
            if any(listings.overdue for listings in self.feed.listings):
                return self.abort("a listing was never answered")
            if silent and self.up:
                self.client.reqCurrentTime()
        return self.abort(f"nothing heard for {SILENT_PROBES * self.options.heartbeat_s:g} s")


def paced(error: QuotaExhausted) -> PacingViolation:
    """Say of a turn that did not come that the count is ours, not the broker's."""
    return PacingViolation(str(error), retry_after=error.retry_after, ours=True)
