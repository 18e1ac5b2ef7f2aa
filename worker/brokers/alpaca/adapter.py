"""Alpaca through alpaca-trade-api: orders over REST, updates over the trade_updates websocket.

Refusals are a table in :mod:`worker.brokers.alpaca.codes`, the words of its JSON are in
:mod:`worker.brokers.alpaca.reports`; here is what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from models.errors import (
    AccessLost,
    BrokerError,
    ConfigurationError,
    DataError,
    InstrumentUnknown,
    NotConnected,
    NotPermitted,
    OrderRejected,
    UnreadableReply,
)
from models.messages import OrderRequest, utcnow
from models.reports import (
    AccountReport,
    Ambiguous,
    Bar,
    BrokerStatus,
    FillReport,
    Found,
    Missing,
    OrderReport,
    PositionReport,
    QuoteReport,
    Report,
    Sighting,
)
from models.settings import BrokerSettings
from models.terms import contradictions
from worker.brokers.alpaca import reports as read
from worker.brokers.alpaca.codes import Duplicate
from worker.brokers.alpaca.executions import AMENDS, FILLS, Executions, amended, of_event
from worker.brokers.alpaca.listings import Listings
from worker.brokers.alpaca.prices import TIMEFRAMES, Prices
from worker.brokers.alpaca.replace import AlpacaReplaces, check_trail
from worker.brokers.alpaca.rest import PAPER_URL, READ_WITHIN_S, Access, AlpacaRest, access_from, budgets, rates
from worker.brokers.alpaca.stream import TradeUpdates, stream_url
from worker.brokers.base import AbsenceRule, BrokerInterface, Capabilities, OrderRef, Ticket
from worker.brokers.replacing import check_changes
from worker.brokers.rest.http import exchange, lost_after
from worker.brokers.values import UNREADABLE, identity, rfc3339, segment, soft
from worker.pacing.budget import Use, use_of, using

_log = structlog.get_logger(__name__)

_EVENTS = FILLS | set(AMENDS) | {
    "new", "accepted", "pending_new", "canceled", "expired", "done_for_day", "replaced", "rejected", "stopped",
    "suspended", "calculated", "pending_cancel", "pending_replace", "order_replace_rejected", "order_cancel_rejected",
    "held", "restated",
}  # fmt: skip
#: Orders that are cheaper to look up one by one than in a listing.
_FEW = 3


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
    capabilities = Capabilities(
        fractional=True,
        dedupes_client_order_id=True,
        replaces="new_order",
        absence=AbsenceRule(min_age_s=10, sightings=3),
        timeframes=TIMEFRAMES,
    )

    def __init__(self, name: str, settings: BrokerSettings) -> None:
        super().__init__(name, settings)
        self._log = _log.bind(broker=name)
        self._trading: AlpacaRest | None = None
        self._market: AlpacaRest | None = None
        self._stream: TradeUpdates | None = None
        self._callback: Callable[[Report], None] | None = None
        self._up = self._is_quiet = False
        self._heard_at: datetime | None = None
        self._executions = Executions()
        self._listings = Listings(name, lambda: self._account, self._executions)
        self._replaces = AlpacaReplaces(name, lambda: self._account, self.find_order)
        self._prices = Prices(name, lambda: self._data, str(settings.get("feed") or "iex"))

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

    def account_flags(self) -> dict[str, Any]:
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
        self._stream = self._stream or TradeUpdates(
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
        read.check_terms(ticket.order, self.name)
        rest, our_id = self._account, ticket.broker_client_order_id
        body = read.order_body(ticket.order, our_id)
        with using(use_of(ticket.order.side)), exchange(ticket.deadline_s):
            try:
                raw = rest.post("/orders", body, ticket.deadline_s, ticket.still_mine)
            except Duplicate:
                with using(Use.URGENT):
                    return self._first_send(ticket)
        report = rest.parse(read.order_report, raw)
        if report.broker_client_order_id != our_id or report.status is BrokerStatus.UNKNOWN:
            shown = f"{report.broker_client_order_id} as {report.raw_status}"
            raise UnreadableReply(f"{self.name}: the answer to {our_id} shows {shown}", broker=self.name)
        return self._unless_rejected(report)

    def cancel_order(self, ref: OrderRef) -> None:
        """Ask for the cancel; Alpaca answers 204 before it is done."""
        with using(Use.URGENT):
            order_id = ref.broker_order_id or self._id_of(ref)
            self._account.delete(f"/orders/{segment(order_id)}", READ_WITHIN_S)

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Have Alpaca make a new order in place of a live one; see `replace.AlpacaReplaces`."""
        check_changes(ref.order, ticket.order, self.name)
        check_trail(ref.order, ticket.order, self.name)
        self.capabilities.check(ticket.order, self.name)
        read.check_terms(ticket.order, self.name)
        return self._replaces.replace(ref, ticket)

    def find_order(self, ref: OrderRef) -> Sighting:
        """Look the order up by the id we gave it; unique at Alpaca for ever."""
        our_id = ref.broker_client_order_id
        try:
            raw = self._account.read("/orders:by_client_order_id", {"client_order_id": our_id}, dict)
        except InstrumentUnknown as error:
            if error.code != "40410000":
                raise
            return Missing(evidence=f"GET orders:by_client_order_id {our_id}: 404 {error.code}")
        report = self._account.parse(read.order_report, raw)
        if report.broker_client_order_id != our_id:
            raise UnreadableReply(
                f"{self.name}: asked for {our_id}, was shown {report.broker_client_order_id}", broker=self.name
            )
        return Found(report=report)

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        """Look several orders up in one listing, and singly those that it does not show."""
        if len(refs) <= _FEW:
            return [self._look(ref) for ref in refs]
        since = min(ref.sent_at for ref in refs) - timedelta(seconds=5)
        listed = self._listings.orders({"status": "all", "after": rfc3339(since)})
        shown = {o.broker_client_order_id: o for o in listed if o.status is not BrokerStatus.UNKNOWN}
        seen = [(ref, shown.get(ref.broker_client_order_id)) for ref in refs]
        return [Found(report=order) if order else self._look(ref) for ref, order in seen]

    def _look(self, ref: OrderRef) -> Sighting:
        """Look one of several up: where it cannot be read, the others still can."""
        try:
            return self.find_order(ref)
        except UnreadableReply as error:
            return Ambiguous(candidates=(), words=str(error))

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

    def _first_send(self, ticket: Ticket) -> OrderReport:
        """Return the order that took our client_order_id before, if it is ours."""
        our_id = ticket.broker_client_order_id
        try:
            seen = self._by_our_id(our_id, ticket.order)
        except Exception as error:
            raise lost_after(error, self.name) from error
        if not isinstance(seen, Found) or (wrong := contradictions(ticket.order, seen.report)):
            shown = f"an order with {', '.join(wrong)}" if isinstance(seen, Found) else str(seen)
            raise UnreadableReply(f"{self.name}: client_order_id {our_id} is taken: it is {shown}", broker=self.name)
        if seen.report.status is BrokerStatus.UNKNOWN:
            raise UnreadableReply(f"{self.name}: {our_id} is {seen.report.raw_status}", broker=self.name)
        self._log.info("order_was_there", client_order_id=our_id, broker_order_id=seen.report.broker_order_id)
        return self._unless_rejected(seen.report)

    def _by_our_id(self, our_id: str, order: OrderRequest) -> Sighting:
        return self.find_order(
            OrderRef(order=order, broker_client_order_id=our_id, broker_order_id=None, sent_at=utcnow())
        )

    def _unless_rejected(self, report: OrderReport) -> OrderReport:
        if report.status is BrokerStatus.REJECTED and not report.filled_quantity:
            raise OrderRejected(
                f"{self.name} rejected the order: {report.message or 'no reason given'}",
                broker=self.name,
                code=report.code,
            )
        return report

    def _id_of(self, ref: OrderRef) -> str:
        seen = self.find_order(ref)
        if isinstance(seen, Found) and seen.report.broker_order_id:
            return seen.report.broker_order_id
        raise OrderRejected(f"{self.name} shows no order {ref.broker_client_order_id} to cancel", broker=self.name)

    # -- DATA ---
    def get_account_info(self) -> AccountReport:
        """Return the money of the account."""
        raw = self._account.read("/account", None, dict)
        return self._account.parse(lambda account: read.account_report(account, paper=not self.settings.live), raw)

    def get_positions(self) -> Sequence[PositionReport]:
        """Return every holding."""
        return self._listings.positions()

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
    def _on_event(self, event: Mapping[str, Any]) -> None:
        self._heard_at = utcnow()
        try:
            for report in self._told(event):
                self._push(report)
        except UNREADABLE as error:
            order = event.get("order") if isinstance(event, Mapping) else None
            order_id = soft(identity, order.get("id")) if isinstance(order, Mapping) else None
            self._log.warning("update_unreadable", broker_order_id=order_id, error=str(error)[:300])
            if order_id is None:
                self._catch_up()
            else:
                self._push(self._read_again(order_id))

    def _told(self, event: Mapping[str, Any]) -> list[Report]:
        """Read what an event says: an execution if it is about one, and its order.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it cannot be read, or is of a kind that nobody knows.
        """
        kind = event["event"]
        if kind not in _EVENTS:
            raise ValueError(f"unknown event {str(kind)[:80]}")
        order = read.order_report(event["order"])
        if kind not in FILLS and kind not in AMENDS:
            return [order]
        return [self._executions.known(of_event(event, order), amended(event)), order]

    def _read_again(self, order_id: str) -> OrderReport:
        raw = self._account.read(f"/orders/{segment(order_id)}", None, dict)
        return self._account.parse(read.order_report, raw)

    def _catch_up(self) -> None:
        """Read what was missed: the stream replays nothing (docs/facts/alpaca.md#4.2)."""
        since, self._heard_at = self._heard_at or utcnow(), utcnow()
        for fill in self.get_fills(since - timedelta(seconds=5)):
            self._push(fill)
        for order in self.get_orders(open_only=False, since=since - timedelta(seconds=5)):
            self._push(order)

    def _push(self, report: Report) -> None:
        if self._callback is not None:
            self._callback(report)
