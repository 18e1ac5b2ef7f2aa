"""The raw messages of one connection: to the book of orders, and to the listings that wait for them.

The SDK's handlers of these messages are replaced: its own order state is no evidence (docs/facts/ibkr.md#4.1). What
cannot be decoded is not lost either: a row whose ids can be read spoils only what it may be about, anything else the
listing that is being read.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from models.errors import BrokerError, UnreadableReply
from worker.brokers import values
from worker.brokers.ibkr import reports
from worker.brokers.ibkr.access import Options
from worker.brokers.ibkr.accounts import TradedAccounts
from worker.brokers.ibkr.contracts import Contracts
from worker.brokers.ibkr.evidence import OrderBook
from worker.brokers.ibkr.frames import Frames
from worker.brokers.ibkr.legs import BAG
from worker.brokers.ibkr.previews import Previews
from worker.brokers.ibkr.reports import OrderLine, WireExecution
from worker.brokers.ibkr.sdk import DecoderWatch, SdkCommission, SdkContract, SdkExecution, SdkOrder, SdkOrderState
from worker.brokers.ibkr.spoiled import Rows, is_apart, spoiled
from worker.brokers.ibkr.times import Zones
from worker.brokers.ibkr.unnumbered import Unnumbered
from worker.brokers.oddities import Oddities
from worker.runtime.said import Said


class HeldRow(NamedTuple):
    """One position message."""

    account: str
    contract: SdkContract
    quantity: float
    avg_cost: float


class Feed:
    """Takes in the messages of one connection.

    Args:
        ib: the SDK's, not connected yet.
        options: the settings.
        book: every order and execution of this process.
        contracts: gives rows the names of their contracts.

    Attributes:
        accounts: whose rows count; every one's until it is known.
        frames: reads some messages before the SDK does.
    """

    def __init__(self, ib: Any, options: Options, book: OrderBook, contracts: Contracts) -> None:
        self._options, self._book, self._contracts = options, book, contracts
        self.accounts = TradedAccounts()
        clock = asyncio.get_running_loop().time
        self.open, self.completed = Unnumbered("open orders", clock), Unnumbered("completed orders", clock)
        self.positions = Unnumbered("positions", clock)
        #: What-if questions under way.
        self.previews = Previews()
        #: Executions that are being read, by request id.
        self._reads: dict[int, tuple[asyncio.Future[None], Rows[WireExecution]]] = {}
        #: The frame that is being decoded, and how many could not be.
        self._frame: list[str] = []
        self._unreadable = 0
        self._odd, self._said = Oddities(options.broker), Said(options.broker)
        wrapper, client = ib.wrapper, ib.client
        wrapper.openOrder, wrapper.openOrderEnd = self._on_open_order, self.open.end
        wrapper.completedOrder, wrapper.completedOrdersEnd = self._on_completed_order, self.completed.end
        wrapper.position, wrapper.positionEnd = self._on_position, self.positions.end
        wrapper.execDetails, wrapper.execDetailsEnd = self._on_exec_details, self._on_exec_details_end
        wrapper.orderStatus, wrapper.commissionReport = self._on_order_status, self._on_commission
        self.frames = Frames(client, wrapper, Zones(options.timezone))
        decoder = client.decoder
        decoder.logger = DecoderWatch(decoder.logger, self._on_unreadable)
        self._decode = decoder.interpret
        decoder.interpret = self._on_frame

    # -- READINGS ---
    @property
    def listings(self) -> tuple[Unnumbered, ...]:
        """Every kind of listing without a request id."""
        return self.open, self.completed, self.positions

    @contextmanager
    def reading(self, number: int) -> Iterator[tuple[asyncio.Future[None], Rows[WireExecution]]]:
        """Collect the executions that come under a request id; the future ends with the answer."""
        self._reads[number] = (asyncio.get_running_loop().create_future(), Rows())
        try:
            yield self._reads[number]
        finally:
            self._reads.pop(number)

    @contextmanager
    def whole(self, what: str) -> Iterator[None]:
        """Hold that every frame that comes meanwhile can be read.

        Raises:
            UnreadableReply: one could not be, and may have been a row of this listing.
        """
        before = self._unreadable
        yield
        if self._unreadable != before:
            raise UnreadableReply(f"{self._options.broker}: frames were unreadable while {what} were listed")

    def fail_read(self, number: int, error: Exception) -> bool:
        """Fail the reading of executions, or tell the what-if, under a request id; False where none is."""
        if isinstance(error, BrokerError) and error.code is not None and self.previews.hear(number, error):
            return True
        if number not in self._reads or (done := self._reads[number][0]).done():
            return False
        done.set_exception(error)
        return True

    def fail(self, error: Exception) -> None:
        """Fail every reading under way."""
        self.previews.fail(error)
        for listings in self.listings:
            listings.fail(error)
        for number in list(self._reads):
            self.fail_read(number, error)

    def _owned(self, line: OrderLine) -> OrderLine:
        """Return an order with the name of its account, where accounts have one."""
        owner = self.accounts.name_of(line.account)
        return line if owner is None else replace(line, owner=owner)

    # -- MESSAGES ---
    def _on_open_order(self, order_id: int, contract: SdkContract, order: SdkOrder, state: SdkOrderState) -> None:
        """Note an order that TWS lists or pushes; a preview is none."""
        if order.whatIf:
            self.previews.answer(order_id, state)
            return
        line = self._contracts.name(reports.order_line(contract, order, state, self._options.timezone))
        if line.client_id == self._options.client_id:
            self.previews.beware(line.order_id)
            self._book.raise_floor(line.order_id)
        if self.accounts.is_mine(line.account):
            line = self._owned(line)
            self.open.row(line.perm_id or (line.client_id, line.order_id), line)
            self._book.on_order(line)

    def _on_order_status(
        self, order_id: int, status: str, filled: float, _remaining: float, average: float, perm_id: int,
        _parent: int, _last: float, client_id: int, why_held: str, *_: object,
    ) -> None:  # fmt: skip
        self._book.on_status(order_id, client_id, perm_id, status, why_held, filled, average)

    def _on_completed_order(self, contract: SdkContract, order: SdkOrder, state: SdkOrderState) -> None:
        line = self._contracts.name(reports.order_line(contract, order, state, self._options.timezone))
        if self.accounts.is_mine(line.account):
            self.completed.row(line.perm_id or object(), self._owned(line))

    def _on_exec_details(self, number: int, contract: SdkContract, raw: SdkExecution) -> None:
        execution = self._contracts.name(reports.execution(contract, raw, timed=self.frames.is_timed(raw.execId)))
        if execution.client_id == self._options.client_id:
            self._book.raise_floor(execution.order_id)
        if (owner := self.accounts.name_of(execution.account)) is not None:
            execution = replace(execution, fill=replace(execution.fill, account=owner))
        if contract.secType == BAG:  # its legs' are told as well
            self._book.on_package(execution)
            return
        if number in self._reads:
            self._reads[number][1].append(execution)
        if self.accounts.is_mine(execution.account):
            self._book.on_execution(execution, pushed=number not in self._reads)

    def _on_exec_details_end(self, number: int) -> None:
        if number in self._reads and not (done := self._reads[number][0]).done():
            done.set_result(None)

    def _on_commission(self, raw: SdkCommission) -> None:
        self._book.on_commission(str(raw.execId), values.fee(raw.commission), str(raw.currency) or None)

    def _on_position(self, account: str, contract: SdkContract, quantity: float, avg_cost: float) -> None:
        self.positions.row((account, contract.conId), HeldRow(account, contract, quantity, avg_cost))

    # -- FRAMES ---
    def _on_frame(self, fields: list[str]) -> None:
        self._frame = fields
        self._decode(fields)

    def _on_unreadable(self, message: str) -> None:
        """Take in a frame that the SDK, or our own reading of it, could not decode."""
        fields, row = self._frame, spoiled(self._frame)
        if row is None:
            self._unreadable += not is_apart(fields)
            self._said.once("ibkr.unreadable_frame", frame=message[:2000], error=repr(sys.exc_info()[1]))
            return
        self._odd.note(str(row), repr(sys.exc_info()[1]))
        if row.get("client_id") in (None, str(self._options.client_id)) and (order_id := row.number("order_id")):
            self._book.raise_floor(order_id)
        if not self.accounts.is_mine(row.get("account") or ""):
            return
        if (number := row.number("request_id")) in self._reads:
            self._reads[number][1].spoiled.append(row)
        listings = {"open order": self.open, "completed order": self.completed, "position": self.positions}
        if row.what in listings:
            listings[row.what].row(row, row)
