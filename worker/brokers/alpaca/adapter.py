"""Alpaca through alpaca-trade-api: orders over REST, updates over the trade_updates websocket.

The package's docstring lists its files; here the seam is put together from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from models.errors import (
    AccessLost,
    BrokerError,
    ConfigurationError,
    DataError,
    NotConnected,
    NotPermitted,
)
from models.lookups import FoundInstruments, InstrumentQuery
from models.messages import OrderRequest, utcnow
from models.reports import (
    AccountReport,
    Bar,
    CashEventReport,
    FillReport,
    OrderReport,
    PositionReport,
    QuoteReport,
    Report,
    Sighting,
)
from models.settings import BrokerSettings
from models.troubles import trouble
from worker.brokers.alpaca import reports as read
from worker.brokers.alpaca.access import PAPER_URL, Access, access_from, budgets, rates
from worker.brokers.alpaca.account import account_report
from worker.brokers.alpaca.activities import AlpacaActivities
from worker.brokers.alpaca.executions import AMENDS, FILLS, Executions, amended, of_event
from worker.brokers.alpaca.groups import KINDS, LINK_RULES
from worker.brokers.alpaca.instruments import find
from worker.brokers.alpaca.legs import CLASS, MOST, AlpacaLegs
from worker.brokers.alpaca.listings import AlpacaListings
from worker.brokers.alpaca.orders import AlpacaOrders
from worker.brokers.alpaca.prices import TIMEFRAMES, AlpacaPrices
from worker.brokers.alpaca.replace import AlpacaReplaces
from worker.brokers.alpaca.rest import AlpacaRest
from worker.brokers.alpaca.stream import AlpacaStream, stream_url
from worker.brokers.alpaca.symbols import ASSET_CLASSES
from worker.brokers.alpaca.terms import check_terms, check_trail
from worker.brokers.base import AbsenceRule, BrokerInterface, Capabilities, OrderRef, Ticket
from worker.brokers.oddities import Oddities
from worker.brokers.replacing import check_changes
from worker.brokers.values import UNREADABLE, Raw, identity, rfc3339, segment, soft
from worker.pacing.budget import Use, using

_log = structlog.get_logger(__name__)

_EVENTS = FILLS | set(AMENDS) | {
    "new", "accepted", "pending_new", "canceled", "expired", "done_for_day", "replaced", "rejected", "stopped",
    "suspended", "calculated", "pending_cancel", "pending_replace", "order_replace_rejected", "order_cancel_rejected",
    "held", "restated",
}  # fmt: skip


class AlpacaBroker(BrokerInterface):
    """One Alpaca account.

    Settings: base_url, data_url, key_id, secret_key (or APCA_API_KEY_ID, APCA_API_SECRET_KEY), feed (iex or sip), live.
    """

    keys = frozenset(
        {
            "base_url",
            "data_url",
            "key_id",
            "secret_key",
            "feed",
            "requests_per_minute",
            "data_requests_per_minute",
            "budget_window",
        }
    )
    default_url = PAPER_URL
    link_rules = LINK_RULES
    capabilities = Capabilities(
        asset_classes=frozenset(ASSET_CLASSES.values()),
        fractional=True,
        notional=True,
        dedupes_client_order_id=True,
        replaces="new_order",
        absence=AbsenceRule(min_age_s=10, sightings=3),
        timeframes=TIMEFRAMES,
        groups=KINDS,
        most_legs=MOST,
    )

    def __init__(self, name: str, settings: BrokerSettings) -> None:
        super().__init__(name, settings)
        self._log = _log.bind(broker=name)
        self._trading: AlpacaRest | None = None
        self._market: AlpacaRest | None = None
        self._stream: AlpacaStream | None = None
        self._callback: Callable[[Report], None] | None = None
        self._up = self._is_quiet = False
        self._heard_at: datetime | None = None
        self._executions = Executions()
        self._odd = odd = Oddities(name)
        self._legs = AlpacaLegs()
        self._listings = AlpacaListings(name, lambda: self._account, self._executions, odd, self._legs)
        self._activities = AlpacaActivities(name, lambda: self._account, odd)
        self._orders = AlpacaOrders(name, lambda: self._account, self._listings.find, self._legs)
        self._replaces = AlpacaReplaces(name, lambda: self._account, self._listings.find)
        self._prices = AlpacaPrices(name, lambda: self._data, str(settings.get("feed") or "iex"), odd)

    # -- CONNECTION ---
    @classmethod
    def check_settings(cls, name: str, settings: BrokerSettings) -> None:
        """Check the settings without touching the network.

        Raises:
            ConfigurationError: keys are missing, a URL is none, or it is the live host without live = true.
        """
        access_from(name, settings)
        rates(name, settings)

    def connect(self) -> None:
        """Read the account, and start listening to its updates."""
        access = access_from(self.name, self.settings)
        budget, data_budget = budgets(self.limits, self.name, self.settings, access)
        trading = self._trading or AlpacaRest(
            self.name, access.base_url, access, self._went_down, budget, on_answer=self._was_answered
        )
        try:
            account = trading.read("/account", None, dict)
        except (AccessLost, NotPermitted) as error:
            raise ConfigurationError(f"brokers.{self.name}: {access.base_url} refuses the keys: {error}") from error
        except BrokerError as error:
            raise NotConnected(f"{self.name}: {access.base_url}: {error}", broker=self.name) from error
        blocked = [key for key in ("trading_blocked", "account_blocked", "trade_suspended_by_user") if account.get(key)]
        if blocked:
            self._log.warning("account_blocked", flags=blocked)
        # Only now: with keys that are refused nothing may be sent.
        self._trading = trading
        self._market = self._market or AlpacaRest(
            self.name, access.data_url, access, lambda: None, data_budget, account=trading
        )
        self._up = True
        self._heard_at = self._heard_at or utcnow()
        if not self._is_quiet:
            self._listen(access)

    def disconnect(self) -> None:
        """Stop listening and close every connection."""
        self._up = False
        if self._stream is not None:
            self._stream.stop()
        for rest in (self._trading, self._market):
            if rest is not None:
                rest.close()
        self._trading = self._market = self._stream = None

    def is_connected(self) -> bool:
        """Tell whether the account was reached and no connection has failed since."""
        return self._up

    @classmethod
    def quiet_for_check(cls, name: str, settings: BrokerSettings) -> AlpacaBroker:
        """Make an adapter without trade_updates: a second stream makes Alpaca cut both (docs/facts/alpaca.md#4.5)."""
        quiet = cls(name, settings)
        quiet._is_quiet = True
        return quiet

    def account_flags(self) -> Raw:
        """Return the account as Alpaca shows it."""
        return dict(self._account.read("/account", None, dict))

    def updates(self, callback: Callable[[Report], None]) -> None:
        """Register the callback for trade updates."""
        self._callback = callback

    @property
    def is_streaming(self) -> bool:
        """Whether updates are pushed now; without it they are only read over REST."""
        return self._stream is not None and self._stream.is_listening

    def _went_down(self) -> None:
        self._up = False

    def _was_answered(self) -> None:
        self.answered_at = utcnow()

    def _listen(self, access: Access) -> None:
        """Start the stream of this account's orders; the same one goes on over a new connection."""
        self._stream = self._stream or AlpacaStream(
            self.name,
            stream_url(access.base_url),
            access.key_id,
            access.secret_key,
            on_event=self._on_event,
            on_gap=self._catch_up,
            on_refused=self._look_at_account,
        )
        self._stream.start()

    def _look_at_account(self) -> None:
        """Read the account, because the stream refuses our keys: if it refuses them too, we are connected no more."""
        if self._trading is not None:
            try:
                self._trading.read("/account", None, dict)
            except BrokerError as error:
                self._log.warning("account_unreadable", error=str(error))

    @property
    def _account(self) -> AlpacaRest:
        if self._trading is None:
            raise NotConnected(f"{self.name}: not connected; connect first", broker=self.name)
        return self._trading

    # -- ORDERS ---
    def place_order(self, ticket: Ticket) -> OrderReport:
        """Send one order under its client_order_id; an id that exists already is our own first send."""
        self.capabilities.check(ticket.order, self.name)
        check_terms(ticket.order, self.name)
        self.check_links(ticket.orders)
        return self._orders.place(ticket)

    def cancel_order(self, ref: OrderRef) -> None:
        """Ask for the cancel; Alpaca answers 204 before it is done."""
        self._orders.cancel(ref)

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Have Alpaca make a new order in place of a live one; see `replace.AlpacaReplaces`."""
        check_changes(ref.order, ticket.order, self.name)
        check_trail(ref.order, ticket.order, self.name)
        self.capabilities.check(ticket.order, self.name)
        check_terms(ticket.order, self.name)
        return self._replaces.replace(ref, ticket)

    def find_order(self, ref: OrderRef) -> Sighting:
        """Look the order up by the id we gave it; unique at Alpaca for ever."""
        return self._listings.find(ref)

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        """Look several orders up in one listing, and singly those that it does not show."""
        return self._listings.find_several(refs)

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        """Return open orders, and with open_only=False also those submitted after `since`."""
        listed = self._listings.orders({"status": "open"})
        if not open_only:
            after = {"after": rfc3339(since - timedelta(milliseconds=1))} if since else {}
            listed += self._listings.orders({"status": "all", **after})
        found = {order.broker_order_id or order.broker_client_order_id: order for order in listed}
        return sorted(found.values(), key=lambda order: (order.submitted_at is not None, order.submitted_at))

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        """Return executions from the account's activities."""
        return self._listings.fills(since)

    def get_cash_events(self, since: datetime) -> Iterable[CashEventReport]:
        """Return dividends, interest, fees, transfers and splits, by pages, from the account's activities."""
        return self._activities.since(since)

    # -- DATA ---
    def get_account_info(self) -> AccountReport:
        """Return the money of the account."""
        raw = self._account.read("/account", None, dict)
        return self._account.parse(lambda account: account_report(account, paper=not self.settings.live), raw)

    def get_positions(self) -> Sequence[PositionReport]:
        """Return every holding."""
        return self._listings.positions()

    def check_order(self, order: OrderRequest) -> None:
        """Check the terms, without Alpaca, which previews nothing."""
        super().check_order(order)
        check_terms(order, self.name)

    def find_instruments(self, wanted: InstrumentQuery) -> FoundInstruments:
        """Look an instrument up among the assets, or the options on a share."""
        with using(Use.DATA):
            return find(self._account, wanted, self.name, self._odd)

    def get_market_data(self, symbol: str) -> QuoteReport:
        """Return the latest quote, trade and volume of the configured feed."""
        return self._prices.quote(symbol)

    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return unadjusted candles of the configured feed."""
        return self._prices.bars(symbol, timeframe, start, end)

    @property
    def _data(self) -> AlpacaRest:
        if self._market is None:
            raise DataError(f"{self.name}: not connected; connect first")
        return self._market

    # -- UPDATES ---
    def _on_event(self, event: Raw) -> None:
        """Tell what one event of the stream says; one that cannot be read has its order read anew."""
        self._heard_at = utcnow()
        try:
            for report in self._told(event):
                self._push(report)
        except UNREADABLE as error:
            order = event.get("order") if isinstance(event, Mapping) else None
            order_id = soft(identity, order.get("id")) if isinstance(order, Mapping) else None
            self._log.warning("update_unreadable", broker_order_id=order_id, error=trouble(error))
            if order_id is None:
                self._catch_up()
            else:
                self._push(self._read_again(order_id))

    def _told(self, event: Raw) -> list[Report]:
        """Read an event: its execution, if it tells any, and its order.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it cannot be read, or is of a kind that nobody knows.
        """
        kind = event["event"]
        if kind not in _EVENTS:
            raise ValueError(f"unknown event {str(kind)[:80]}")
        order = self._listings.followed(read.order_report(event["order"]))
        self._legs.see(event["order"])
        if event["order"].get("order_class") == CLASS or (kind not in FILLS and kind not in AMENDS):
            return [order]  # executions of a package are of its legs: their orders, and the activities, tell them
        return [self._executions.known(of_event(event, order), amended(event)), order]

    def _read_again(self, order_id: str) -> OrderReport:
        raw = self._account.read(f"/orders/{segment(order_id)}", None, dict)
        return self._account.parse(read.order_report, raw)

    def _catch_up(self) -> None:
        """Read the missed events: the stream replays nothing (docs/facts/alpaca.md#4.2)."""
        since, self._heard_at = self._heard_at or utcnow(), utcnow()
        for fill in self.get_fills(since - timedelta(seconds=5)):
            self._push(fill)
        for order in self.get_orders(open_only=False, since=since - timedelta(seconds=5)):
            self._push(order)

    def _push(self, report: Report) -> None:
        if self._callback is not None:
            self._callback(report)
