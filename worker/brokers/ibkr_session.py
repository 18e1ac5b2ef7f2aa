"""One live connection to TWS or Gateway, from connect to loss; runs on the loop of `ibkr_wire.LoopThread`.

It feeds the order book from raw messages, knows whether IB itself is reachable (1100, 1101, 1102), reads complete
listings or raises, and puts single orders on the wire. It decides nothing about orders: `ibkr_evidence` does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from models.errors import (
    BrokerError,
    ConfigurationError,
    InstrumentUnknown,
    NotConnected,
    QuotaExhausted,
    UnreadableReply,
    Unsupported,
)
from worker.brokers import ibkr_names as names
from worker.brokers import ibkr_terms as terms
from worker.brokers import values
from worker.brokers.ibkr_codes import CUT_OFF, RESTORED, Proof, code_of, lookup_error
from worker.brokers.ibkr_evidence import OrderBook
from worker.brokers.ibkr_frames import Frames
from worker.brokers.ibkr_terms import Execution, OrderLine
from worker.brokers.ibkr_times import Zones
from worker.brokers.ibkr_wire import DecoderWatch, Listings, Options, Sdk
from worker.limits import Budget

_log = structlog.get_logger()
Row = TypeVar("Row", OrderLine, Execution)

#: Probes without a single byte in return, after which a socket counts as dead.
SILENT_PROBES = 3
_READ_ONLY = "read-only"
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
        self._budget = budget
        self._on_change = on_change
        self._clock = asyncio.get_running_loop().time
        self._complaints: list[tuple[int, str]] = []
        self._unreadable = 0
        self._lost = False
        self.names = book.names
        self._contracts: dict[str, asyncio.Task[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads: dict[int, tuple[asyncio.Future[None], list[Execution]]] = {}
        #: TWS allows two account summaries at a time; one will do.
        self.summary_lock = asyncio.Lock()
        self._open = Listings("open orders", self._clock)
        self._completed = Listings("completed orders", self._clock)
        self._positions = Listings("positions", self._clock)
        self.ib = sdk.IB()
        self.client = self.ib.client
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
        self.client.decoder.logger = DecoderWatch(self.client.decoder.logger, self._on_unreadable)
        self.client.apiEnd += self._on_lost

    # -- OPEN AND CLOSE ---
    async def open(self) -> None:
        """Connect, check the account, and read open orders and executions before anything may be sent.

        Raises:
            NotConnected: with TWS's own words where it gave any (326: client id in use).
            ConfigurationError: a live account without live = true, or a read-only API.
        """
        await self._connect()
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

    async def _connect(self) -> None:
        o = self.options
        refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def on_refused(text: str) -> None:
            if not refused.done():
                refused.set_result(text)

        self.client.apiError += on_refused
        self.ib.wrapper.clientId = o.client_id
        handshake = asyncio.ensure_future(self.client.connectAsync(o.host, o.port, o.client_id, o.connect_timeout_s))
        # The SDK goes on waiting for the API after the peer has closed (326): race it against apiError.
        try:
            await asyncio.wait({handshake, refused}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            handshake.cancel()
        error: object = (await asyncio.gather(handshake, return_exceptions=True))[0]
        if isinstance(error, BaseException):
            raise self._why(refused.result() if refused.done() else repr(error)) from None
        self.client.apiError -= on_refused

    def _why(self, reason: str) -> NotConnected | ConfigurationError:
        number, text = self._complaints[-1] if self._complaints else (None, reason)
        if number == 321 and _READ_ONLY in text.lower():
            return ConfigurationError(f"{self.options.broker}: {text} Switch the API's read-only mode off in TWS.")
        hints = {326: "give every worker its own client_id", None: "is TWS or Gateway up, and its API on?"}
        words, hint = f"{number} {text}" if number else reason, hints.get(number, "see TWS")
        message = f"{self.options.broker}: not connected to {self.options.where}: {words}; {hint}"
        return NotConnected(message, broker=self.options.broker, code=str(number) if number else None)

    async def _synchronise(self) -> None:
        # Orders first: their ids and executions raise the floor of ours (FIELD.md 2.9: ids get reissued).
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
    async def open_orders(self, own: bool = False) -> list[OrderLine]:
        """List open orders: of this client id, or of all."""
        request = self.client.reqOpenOrders if own else self.client.reqAllOpenOrders
        lines = await self._named(await self._list(self._open, request))
        for line in lines:
            if (known := self.book.by_perm_id(line.perm_id)) is not None and known.line.symbol is None:
                known.line = replace(known.line, symbol=line.symbol)
        return lines

    async def completed_orders(self) -> list[OrderLine]:
        """List completed orders of the day, of all clients."""
        return await self._named(await self._list(self._completed, lambda: self.client.reqCompletedOrders(False)))

    async def positions(self) -> list[Any]:
        """List positions as (account, contract, quantity, average cost)."""
        return await self._list(self._positions, self.client.reqPositions)

    async def executions(self) -> list[Execution]:
        """List executions of the day, of all clients; new ones go to the book, too."""
        unreadable = self._unreadable
        await self._budget.turn()
        self._check_up()
        number = self.client.getReqId()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reads[number] = (done, [])
        try:
            self.client.reqExecutions(number, self.sdk.ExecutionFilter())
            async with asyncio.timeout(self.options.request_timeout_s):
                await done
        except TimeoutError:
            raise BrokerError(f"TWS did not list its executions within {self.options.request_timeout_s:g} s") from None
        finally:
            _, rows = self._reads.pop(number)
        self._check_readable(unreadable, "executions")
        return await self._named([row for row in rows if self._mine(row.account)])

    async def ask(self, what: str, request: Callable[[], Awaitable[Any]], timeout_s: float | None = None) -> Any:
        """Make one SDK request in its turn.

        Raises:
            NotConnected, BrokerError: connection lost, or no answer; the SDK's RequestError passes.
        """
        self.check()
        await self._budget.turn()
        try:
            async with asyncio.timeout(timeout_s or self.options.request_timeout_s):
                return await request()
        except TimeoutError:
            raise BrokerError(f"{self.options.broker}: no answer to {what}", broker=self.options.broker) from None
        except ConnectionError as error:
            raise NotConnected(f"{self.options.broker}: {error} during {what}", broker=self.options.broker) from None

    async def contract(self, symbol: str) -> Any:
        """Return the one US stock of this symbol; looked up once per connection.

        Raises:
            InstrumentUnknown, Unsupported: IB knows none, or several. NotConnected: it could not be asked.
        """
        task = self._contracts.get(symbol)
        asks = task is None or (task.done() and (task.cancelled() or task.exception() is not None))
        if task is None or asks:
            task = self._contracts[symbol] = asyncio.create_task(self._look_up(symbol))
        try:
            return await asyncio.shield(task)
        except QuotaExhausted:
            if asks:
                raise
        return await self.contract(symbol)  # who asked before may have been less urgent

    async def _look_up(self, symbol: str) -> Any:
        name = names.to_ib_symbol(symbol)
        wanted = self.sdk.Contract(secType="STK", symbol=name, exchange="SMART", currency="USD")
        try:
            found = await self.ask(f"details of {symbol}", lambda: self.ib.reqContractDetailsAsync(wanted))
        except self.sdk.RequestError as error:
            if self.frames.broken:  # "no security definition" then says nothing about the security
                farms = ", ".join(sorted(self.frames.broken))
                words = f"{error.message}, looking up {symbol} while IB's {farms} is broken; nothing was sent"  # type: ignore[attr-defined]
                raise NotConnected(f"{self.options.broker}: {words}", broker=self.options.broker) from None
            raise lookup_error(error.code, error.message, self.options.broker, symbol) from None  # type: ignore[attr-defined]
        except QuotaExhausted:
            raise
        except BrokerError as error:
            raise NotConnected(f"{error}; nothing was sent", broker=self.options.broker) from None
        contract = names.choose([details.contract for details in found], wanted, self.options.broker)
        self.names.chose(symbol, contract.conId)
        contract.exchange = "SMART"
        return contract

    async def learn_names(self) -> None:
        """Ask what the contracts seen are; what cannot be asked now stays without a name."""

        async def ask(con_id: int, ticker: str) -> None:
            try:
                if ticker:
                    with contextlib.suppress(InstrumentUnknown, Unsupported):
                        await self.contract(ticker)
                if con_id in self.names.unnamed:
                    self.names.listed(con_id, await self._listing(con_id))
            except BrokerError as error:
                _log.info("ibkr.contract_without_name", broker=self.options.broker, con_id=con_id, error=str(error))

        if self.ready:
            await asyncio.gather(*(ask(con_id, ticker) for con_id, ticker in self.names.unnamed.items()))

    async def _listing(self, con_id: int) -> str:
        """Return where a contract is listed; empty where IB does not know it any more."""
        wanted = self.sdk.Contract(conId=con_id)
        try:
            found = await self.ask(f"conId {con_id}", lambda: self.ib.reqContractDetailsAsync(wanted))
        except self.sdk.RequestError as error:
            if error.code == 200 and not self.frames.broken:  # type: ignore[attr-defined]
                return ""
            raise BrokerError(f"{self.options.broker}: {error}", broker=self.options.broker) from None
        return next((str(details.contract.primaryExchange) for details in found), "")

    async def _named(self, rows: list[Row]) -> list[Row]:
        """Give the rows of a reading the names of their contracts, asking for those that are not known yet."""
        if any(self._name(row) is row for row in rows):
            await self.learn_names()
        return [self._name(row) for row in rows]

    def _name(self, row: Row) -> Row:
        """Name one row; without a known name it stays the same object."""
        symbol = self.names.of(row.contract)
        if symbol is None:
            return row
        if isinstance(row, Execution):
            return replace(row, fill=replace(row.fill, symbol=symbol))
        return replace(row, symbol=symbol)

    # -- SEND ---
    async def turn(self, until: float) -> None:
        """Wait for a message's turn to be sent.

        Raises:
            QuotaExhausted: it does not come soon enough.
        """
        await self._budget.turn(max(until - self._clock(), 0.0))

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
    def _on_open_order(self, _: int, contract: Any, order: Any, state: Any) -> None:
        if order.whatIf:
            return
        line = self._name(terms.order_line(contract, order, state, self.options.timezone))
        if line.client_id == self.options.client_id:
            self._raise_floor(line.order_id)
        if self._mine(line.account):
            self._open.row(line.perm_id or (line.client_id, line.order_id), line)
            self.book.on_order(line)

    def _on_order_status(
        self, order_id: int, status: str, filled: float, _remaining: float, _avg: float, perm_id: int,
        _parent: int, _last: float, client_id: int, why_held: str, *_: Any,
    ) -> None:  # fmt: skip
        self.book.on_status(order_id, client_id, perm_id, status, why_held, filled)

    def _on_completed_order(self, contract: Any, order: Any, state: Any) -> None:
        line = self._name(terms.order_line(contract, order, state, self.options.timezone))
        if self._mine(line.account):
            self._completed.row(line.perm_id or object(), line)

    def _on_exec_details(self, number: int, contract: Any, raw: Any) -> None:
        execution = self._name(terms.execution(contract, raw, timed=self.frames.is_timed(raw.execId)))
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
        self.book.on_commission(str(raw.execId), values.fee(raw.commission))

    def _on_position(self, account: str, contract: Any, quantity: float, avg_cost: float) -> None:
        self._positions.row((account, contract.conId), (account, contract, quantity, avg_cost))

    def _on_error(self, number: int, code: int, text: str, advanced: str = "", *_: Any) -> None:
        words = f"{text} {advanced}".strip()
        if code == TOO_MANY:
            self._budget.limited(TOO_MANY_PAUSE_S)
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
            self.book.lose_flights(f"IB cut off ({code})")
            self._on_change("cut off")
        elif code in RESTORED:
            self.gate = f"IB is back ({code}), reading what was missed"
            self.spawn(self._resume(code))

    async def _resume(self, code: int) -> None:
        # Fills during 1100 are not replayed (BROKERS.md 1.8): read first, then reopen.
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
        self._unreadable += 1
        _log.exception("ibkr.unreadable_frame", broker=self.options.broker, frame=message)

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
        self.book.lose_flights("the connection was lost")
        self._on_change("lost")

    # -- INSIDE ---
    async def _list(self, listings: Listings, request: Callable[[], None]) -> list[Any]:
        async def ask() -> None:
            await self._budget.turn()
            self._check_up()
            request()

        unreadable = self._unreadable
        rows = await listings.read(ask, self.options.request_timeout_s)
        self._check_readable(unreadable, listings.what)
        return list(rows.values())

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
