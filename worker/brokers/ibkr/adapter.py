"""The seam to Interactive Brokers: calls of the worker's threads become coroutines on a loop, each with its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import ClassVar, TypeVar

import structlog

from models.errors import BrokerError, CorroError, NotConnected, NotSent, SubmitTimeout
from models.lookups import FoundInstruments, InstrumentQuery, PreviewReport
from models.messages import OrderRequest
from models.reports import AccountReport, Bar, FillReport, OrderReport, PositionReport, QuoteReport, Report, Sighting
from models.settings import BrokerSettings
from models.troubles import trouble
from models.vocabulary import AssetClass
from worker.brokers.base import AbsenceRule, BrokerInterface, Capabilities, LinkedOrder, OrderRef, Ticket
from worker.brokers.ibkr import account, groups, legs, listings, lookups, orders, prices, terms, what_if
from worker.brokers.ibkr import replace as ibkr_replace
from worker.brokers.ibkr.access import Options
from worker.brokers.ibkr.evidence import OrderBook
from worker.brokers.ibkr.extras import EXTRAS
from worker.brokers.ibkr.loop import LoopThread
from worker.brokers.ibkr.pacing import HistoryPace
from worker.brokers.ibkr.pending import Pending, PendingChange, PendingOrder
from worker.brokers.ibkr.prices import BAR_SIZES
from worker.brokers.ibkr.sdk import Sdk, load_sdk
from worker.brokers.ibkr.session import TwsSession
from worker.brokers.ibkr.substitutes import Substitutes
from worker.brokers.replacing import check_changes
from worker.pacing.budget import Budget, Use, use_of, using
from worker.pacing.window import Rate, digest, location

_log = structlog.get_logger()
T = TypeVar("T")

#: Left of the deadline for the answer's way back to the calling thread.
_MARGIN_S = 0.25
#: connect() leaves a cut-off but open socket alone for this long: 1102 comes over it.
_PATIENCE_S = 300.0


class IbkrBroker(BrokerInterface):
    """One client id at one TWS or Gateway.

    Settings: host, port, client_id, account, connect_options, live, sdk, timezone, connect_timeout, request_timeout,
    messages_per_second, heartbeat, delayed_quotes (`access.Options`).

    Attributes:
        session: counts connections: one more for every connect and every 1101/1102. Whoever sees it grow reads open
            orders, fills and positions again: what happened in between was not pushed.
    """

    session_kind: ClassVar[str] = "client id"
    keys = frozenset((
        "host", "port", "client_id", "check_client_id", "account", "accounts", "connect_options", "sdk",
        "timezone", "connect_timeout", "request_timeout", "messages_per_second", "history_per_10_minutes",
        "heartbeat", "delayed_quotes", "absence",
    ))  # fmt: skip
    link_rules = groups.LINK_RULES
    capabilities = Capabilities(
        asset_classes=frozenset(AssetClass),
        most_legs=legs.MOST,
        legs_in_shares=True,
        order_types=frozenset(terms.ORDER_TYPES),
        times_in_force=frozenset(terms.TIFS),
        extras=EXTRAS,
        client_order_id_length=terms.REF_LENGTH,
        # A gateway that holds an order in a confirmation window shows it in no listing, and places it minutes later.
        absence=AbsenceRule(min_age_s=10.0, sightings=2, possible=False),
        # 10349: an order preset of TWS turns another time into DAY; on-close orders are DAY with a type of their own.
        rewrites={"time_in_force": frozenset({"day"})},
        replaces="in_place",
        **groups.CAPABILITIES,
        parallel_orders=32,
        timeframes=tuple(BAR_SIZES),
    )

    def __init__(self, name: str, settings: BrokerSettings) -> None:
        super().__init__(name, settings)
        self.order_session, self.accounts = str(settings.get("client_id", 1)), tuple(settings.accounts)
        if settings.get("absence") == "listings":
            self.capabilities = replace(self.capabilities, absence=AbsenceRule(min_age_s=10.0, sightings=2))
        self._callback: Callable[[Report], None] | None = None
        self._thread = LoopThread(name)
        self._book = OrderBook(name, self._emit, time.monotonic)
        self._history = HistoryPace(time.monotonic)
        self._paces_history = False
        self._sdk: Sdk | None = None
        self._live: TwsSession | None = None
        self._deputies: Substitutes | None = None
        self._cut_at: float | None = None

    # -- CONNECTION ---
    @classmethod
    def check_settings(cls, name: str, settings: BrokerSettings) -> None:
        """Check the settings without touching the network.

        Raises:
            ConfigurationError: names the setting; also for a live port without live = true.
        """
        Options.read(name, settings)

    def connect(self) -> None:
        """Connect, check the account and read open orders and executions; see `BrokerInterface.connect`.

        While TWS itself is cut off from IB (1100), the socket is kept and NotConnected raised: 1101 or 1102 restores
        it without a new connection, and `is_connected` turns True by itself.
        """
        options = Options.read(self.name, self.settings)
        if self.is_connected():
            return
        live = self._live
        waited = time.monotonic() - self._cut_at if self._cut_at is not None else _PATIENCE_S
        if live is not None and live.up and waited < _PATIENCE_S:
            raise NotConnected(f"{self.name}: {live.gate}; waiting for IB", broker=self.name)
        if not self._thread.alive:
            self._live = None  # after a fork it is the parent's: not ours to close
        self._thread.start()
        # TCP and handshake, the two readings, and some air.
        limit = 2 * options.connect_timeout_s + 2 * options.request_timeout_s + 5
        self._call(self._open(options), limit, "connect")
        _log.info("ibkr.connected", broker=self.name, where=options.where, sdk=self._sdk and self._sdk.name)

    async def _open(self, options: Options) -> None:
        """Open a session in the place of the one before; one that cannot be opened is closed again."""
        await self._close()
        self._sdk = self._sdk or load_sdk(options.sdk)
        budget, keeper = self._budget(options), (self._resolved, self._recall, self.check_known)
        session = TwsSession(self._sdk, options, self._book, budget, self._on_change, *keeper)
        try:
            await session.open()
        except BaseException:
            await session.close()
            raise
        self._live, self._deputies, self._cut_at = session, Substitutes(session), None
        self.session += 1

    def _budget(self, options: Options) -> Budget:
        """Return the messages that TWS allows, to all clients together; bars have rules of their own."""
        account = location(f"tws://{options.host}:{options.port}")
        if not self._paces_history:
            shared = self.limits.window(f"ibkr:{digest(account)}:bars")
            self._history = HistoryPace(time.monotonic, shared, options.history_per_10_minutes)
            self._paces_history = True
        return self.limits.budget(self.name, "ibkr", account, Rate(options.messages_per_s, 1.0))

    async def _close(self) -> None:
        live, self._live = self._live, None
        deputies, self._deputies = self._deputies, None
        if deputies is not None:
            await deputies.close()
        if live is not None:
            await live.close()

    def disconnect(self) -> None:
        """Close the socket and end the loop's thread; safe to call twice."""
        with contextlib.suppress(Exception):
            self._thread.call(self._close(), 5)
        self._live = None
        self._thread.stop()

    def is_connected(self) -> bool:
        """Tell whether an order could be sent now: API ready, synchronised, and IB reachable behind TWS."""
        return self._thread.alive and self._live is not None and self._live.ready

    def updates(self, callback: Callable[[Report], None]) -> None:
        """Register the callback; it is called on the loop's thread and must neither block nor call this broker."""
        self._callback = callback

    # -- ORDERS ---
    def place_order(self, ticket: Ticket) -> OrderReport:
        """Send one order and wait for evidence from the wire; see `BrokerInterface.place_order`.

        Returns as soon as IB shows the order as its own (permId and a live status), with what is known by then. An
        order that IB took and at once ended is a report too (CANCELED, REJECTED), not an exception.
        """
        self._check(ticket)
        for leg in ticket.legs:
            self._check(leg)
        self.check_links(ticket.orders)
        session = self._session()
        pending = PendingOrder(ref=ticket.broker_client_order_id, broker=self.name, until=_end_of(ticket))
        way = groups.place_group if ticket.legs else orders.place
        with using(use_of(ticket.order.side)):
            return self._send(pending, way(session, pending, ticket, self._emit), ticket.deadline_s)

    def _check(self, sent: Ticket | LinkedOrder) -> None:
        self.capabilities.check(sent.order, self.name)
        terms.check_terms(sent.order, sent.broker_client_order_id, self.name)

    def reserve_ids(self, count: int) -> Sequence[str]:
        """Reserve order ids of this client id; they stay reserved over a reconnect."""
        try:
            return self._call(groups.reserve(self._session(), count), groups.RESERVE_S + 1, "reserving order ids")
        except NotSent:
            raise
        except BrokerError as error:
            raise NotSent(f"{error}; nothing was sent", broker=self.name, code=error.code) from error

    def keep_reserved(self, numbers: Sequence[str]) -> None:
        """Give no order id up to these: TWS may count what it holds back as none (docs/facts/ibkr.md#10.4)."""
        self._book.raise_floor(max(map(int, numbers)))

    def withdraw(self, ref: OrderRef) -> Sighting:
        """Cancel by their order ids what was sent of a group, as the client id that sent it, and look again."""
        own, owner, prove = self._session(), self._under(ref.session), self.capabilities.absence.possible
        with using(Use.URGENT):
            taken = groups.withdraw(own, owner, ref, listings_prove=prove)
            return self._call(taken, self._limit(own, 6 + 2 * len(ref.legs)), "withdraw")

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Change a live order in place; see `BrokerInterface.replace_order`.

        IB takes the new total as `totalQuantity` under the order id and the reference the order has, from the client id
        that placed it (docs/facts/ibkr.md#2.7). Evidence of success is an openOrder with the new terms. Codes that say
        no leave the original order as it was (`codes.NOT_CHANGED`): Refused. Where a change during a loss of
        connectivity has left two permIds (docs/facts/ibkr.md#2.4), the outcome is unknown.
        """
        check_changes(ref.order, ticket.order, self.name)
        self.capabilities.check(ticket.order, self.name)
        terms.check_terms(ticket.order, ref.broker_client_order_id, self.name)
        terms.check_change(ref.order, ticket.order, self.name)
        session = self._under(ref.session)
        pending = PendingChange(
            ref=ref.broker_client_order_id, broker=self.name, until=_end_of(ticket), wanted=ticket.order
        )
        with using(use_of(ticket.order.side)):
            return self._send(pending, ibkr_replace.change(session, pending, ref, ticket), ticket.deadline_s)

    def _send(self, pending: Pending, work: Coroutine[object, None, OrderReport], deadline_s: float) -> OrderReport:
        """Send on the loop and wait; once given up here, bytes that have not left stay here."""
        try:
            return self._thread.call(work, deadline_s)
        except TimeoutError:
            if pending.give_up():
                raise SubmitTimeout(f"{self.name}: no verdict in {deadline_s} s", broker=self.name) from None
            raise NotConnected(f"{self.name}: the connection's loop is stuck; not sent", broker=self.name) from None
        finally:
            pending.give_up()

    def cancel_order(self, ref: OrderRef) -> None:
        """Ask IB to cancel, as the client id that placed the order.

        Where that client id is not ours, a connection is made under it, as TWS allows once its worker is gone.

        Raises:
            NotSent: that worker is connected, and has to cancel it itself.
        """
        session, deputies = self._session(), self._substitutes()
        with using(Use.URGENT):
            limit = 2 * session.options.connect_timeout_s + self._limit(session, 8)
            self._call(deputies.cancel(ref), limit, "cancel")

    @contextlib.contextmanager
    def acting_as(self, order_session: str) -> Iterator[None]:
        """Hold a connection under another client id, which TWS gives to one socket at a time."""
        session, deputies, owner = self._session(), self._substitutes(), int(order_session)
        limit = 2 * session.options.connect_timeout_s + self._limit(session, 2)
        self._call(deputies.hire(owner), limit, "connect")
        try:
            yield
        finally:
            with contextlib.suppress(BrokerError):
                self._call(deputies.dismiss(owner), self._limit(session, 1), "disconnect")

    def find_order(self, ref: OrderRef) -> Sighting:
        """Look in open orders, executions and completed orders, by orderRef and permId."""
        return self.find_orders([ref])[0]

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        """Look for several orders in one reading of the listings."""
        session = self._session()
        return self._call(groups.find_groups(session, refs), self._limit(session, 4), "find")

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        """Return orders of the account, whichever client placed them; IB lists completed ones of the day only."""
        session = self._session()
        return self._call(listings.list_orders(session, open_only, since), self._limit(session, 3), "orders")

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        """Return executions; IB lists those since midnight, longer only if TWS's trade log is set to show them."""
        session = self._session()
        return self._call(listings.list_fills(session, since), self._limit(session, 2), "fills")

    # -- DATA ---
    def get_account_info(self) -> AccountReport:
        """Return the money of the account, from a fresh account summary."""
        return self.get_accounts()[0]

    def get_accounts(self) -> Sequence[AccountReport]:
        """Return the money of each account that is traded, from a fresh account summary; the usual one first."""
        session = self._session()
        return self._call(account.accounts(session), self._limit(session, 2), "account")

    def server_time(self) -> datetime:
        """Return TWS's clock, in whole seconds."""
        session = self._session()
        return self._call(account.server_time(session), self._limit(session, 1), "time")

    def get_positions(self) -> Sequence[PositionReport]:
        """Return every holding; what is no stock is named `<type>:<local symbol>`."""
        session = self._session()
        return self._call(account.positions(session), self._limit(session, 2), "positions")

    def check_order(self, order: OrderRequest) -> None:
        """Check the terms, without IB."""
        super().check_order(order)
        terms.check_terms(order, what_if.REF, self.name)

    def preview_group(self, legs: Sequence[OrderRequest]) -> PreviewReport:
        """Ask IB what an order would do to the account, or each of linked ones, by a what-if, which is no order."""
        session = self._session()
        with using(Use.DATA):
            return self._call(what_if.of_all(session, legs), self._limit(session, 3 * len(legs)), "what-if")

    def find_instruments(self, wanted: InstrumentQuery) -> FoundInstruments:
        """Look an instrument up, or what expires of an underlying; a chain takes a request a day."""
        session = self._session()
        with using(Use.DATA):
            return self._call(lookups.find(session, wanted), 600, "look-up")

    def get_market_data(self, symbol: str) -> QuoteReport:
        """Return a snapshot of the top of the book."""
        session = self._session()
        limit = prices.QUOTE_TIMEOUT_S + self._limit(session, 2)
        with using(Use.DATA):
            return self._call(prices.quote(session, symbol), limit, "quote")

    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return trade bars of the regular session; daily and longer ones begin at midnight in New York."""
        session = self._session()
        with using(Use.DATA):
            return self._call(prices.bars(session, self._history, symbol, timeframe, start, end), 600, "bars")

    # -- INSIDE ---
    def _session(self) -> TwsSession:
        live = self._live
        if live is None or not self._thread.alive:
            raise NotConnected(f"{self.name}: not connected", broker=self.name)
        return live

    def _substitutes(self) -> Substitutes:
        if self._deputies is None:
            raise NotConnected(f"{self.name}: not connected", broker=self.name)
        return self._deputies

    def _under(self, order_session: str | None) -> TwsSession:
        """Return the connection that may change an order: ours, or the one that we hold for its owner."""
        held = self._deputies.held(int(order_session)) if self._deputies and order_session else None
        return held or self._session()

    @staticmethod
    def _limit(session: TwsSession, requests: int) -> float:
        return requests * session.options.request_timeout_s + 5

    def _call(self, work: Coroutine[object, None, T], limit_s: float, what: str) -> T:
        """Run a read on the loop; no foreign exception leaves."""
        try:
            return self._thread.call(work, limit_s)
        except CorroError:
            raise
        except TimeoutError:
            raise BrokerError(f"{self.name}: {what} did not end within {limit_s:g} s", broker=self.name) from None
        except Exception as error:
            raise BrokerError(f"{self.name}: {what} failed: {trouble(error)}", broker=self.name) from error

    def _on_change(self, what: str) -> None:
        if what == "cut off":
            self._cut_at = self._cut_at or time.monotonic()
        elif what == "restored":
            self._cut_at = None
            self.session += 1
        _log.info("ibkr.connection_changed", broker=self.name, what=what, session=self.session)

    def _emit(self, report: Report) -> None:
        """Tell a report to whoever listens; what the listener raises, the connection survives."""
        callback = self._callback
        # An execution in a contract that nobody has asked about yet is told by the next reading, with its name.
        if callback is None or (isinstance(report, FillReport) and report.symbol is None):
            return
        try:
            callback(report)
        except Exception:
            _log.exception("ibkr.callback_failed", broker=self.name, report=type(report).__name__)


def _end_of(ticket: Ticket) -> float:
    """Return the loop time at which the verdict must be in."""
    return time.monotonic() + max(ticket.deadline_s - _MARGIN_S, ticket.deadline_s / 2)
