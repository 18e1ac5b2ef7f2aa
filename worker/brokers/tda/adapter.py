"""TD Ameritrade v1 and Schwab's Trader API: one adapter over two dialects.

Neither broker knows a client order id. An order is identified by the Location of the answer, verified against its
terms, or by looking for the one order in a time window that has them; where that stays open, so does the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar

import structlog

from models.errors import (
    AccessLost,
    BrokerError,
    ConfigurationError,
    NotConnected,
    NotPermitted,
    OrderRejected,
)
from models.instruments import PLAIN
from models.lookups import FoundInstruments, InstrumentQuery, PreviewReport
from models.messages import OrderRequest, utcnow
from models.reports import (
    DONE,
    AccountReport,
    Ambiguous,
    Bar,
    BrokerStatus,
    CashEventReport,
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
from models.vocabulary import TimeInForce
from worker.brokers.base import AbsenceRule, BrokerInterface, Capabilities, OrderRef, Ticket
from worker.brokers.oddities import Oddities
from worker.brokers.replacing import check_changes
from worker.brokers.tda import account
from worker.brokers.tda.access import TdaAccess, check_access, polled_every
from worker.brokers.tda.dialects import FREQUENCIES, SCHWAB, TDA, TdaDialect
from worker.brokers.tda.groups import KINDS, LINK_RULES, group_body, group_terms
from worker.brokers.tda.instruments import find
from worker.brokers.tda.legs import MOST
from worker.brokers.tda.likeness import Terms, could_be, terms
from worker.brokers.tda.listings import BEFORE, TdaListings
from worker.brokers.tda.orders import TdaOrders
from worker.brokers.tda.previews import preview
from worker.brokers.tda.prices import TdaPrices
from worker.brokers.tda.replace import TdaReplaces
from worker.brokers.tda.rest import TdaRest
from worker.brokers.tda.shapes import order_id
from worker.brokers.tda.terms import order_body
from worker.brokers.tda.transactions import TdaTransactions
from worker.brokers.tda.watch import OrderWatch
from worker.brokers.values import Raw, segment
from worker.pacing.budget import Use, using

_log = structlog.get_logger(__name__)

#: Seconds after which a listing shows an order that was taken (docs/facts/schwab.md#2.18).
_LISTED_WITHIN_S = 7.0
#: The watch reads orders that have ended within this time, too.
_LATELY = timedelta(minutes=5)


def _capabilities(dialect: TdaDialect) -> Capabilities:
    """Return what a broker of this dialect can do; none of them keeps an id of ours."""
    return Capabilities(
        asset_classes=PLAIN,
        times_in_force=dialect.times_in_force,
        extras=frozenset({"good_till"} if TimeInForce.GTD in dialect.durations else ()),
        client_order_id_length=None,
        absence=AbsenceRule(min_age_s=_LISTED_WITHIN_S, possible=False),
        replaces="new_order",
        parallel_orders=4,
        timeframes=tuple(FREQUENCIES),
        lookback=dialect.lookback,
        groups=KINDS,
        most_legs=MOST,
        legs_in_shares=True,
    )


class TdaBroker(BrokerInterface):
    """One TD Ameritrade account.

    Settings: base_url, api_key, refresh_token, account_id (needed if there are several), token_path, poll_s, live.
    """

    dialect: ClassVar[TdaDialect] = TDA
    one_account = True
    default_url, retired = TDA.default_url, TDA.retired
    link_rules = LINK_RULES
    capabilities = _capabilities(TDA)
    keys = frozenset(
        {
            "base_url",
            "api_key",
            "refresh_token",
            "account_id",
            "accounts",
            "token_path",
            "poll_s",
            "requests_per_minute",
            "budget_window",
        }
    )

    def __init__(self, name: str, settings: BrokerSettings) -> None:
        super().__init__(name, settings)
        self._log = _log.bind(broker=name)
        root = self.dialect.root(settings.get("base_url") or self.dialect.default_url)
        self._rest = TdaRest(name, root, self.dialect.market, self._went_down, self._was_answered)
        self._rest.veil.hide(settings.get("api_key"), settings.get("app_secret"), settings.get("refresh_token"))
        self._rest.veil.hide_account(str(settings.get("account_id") or ""))
        self._odd = Oddities(name, self._rest.veil.clean)
        self._access = TdaAccess(name, settings, self.dialect, self._rest, self._odd)
        self._prices = TdaPrices(name, self._rest, self.dialect, self._odd)
        self._listings = TdaListings(name, self._rest, self.dialect, self._path, self._odd)
        self._transactions = TdaTransactions(self._rest, self.dialect, self._path, self._odd)
        self._account = ""
        self._up = self._was_up = False
        self._callback: Callable[[Report], None] | None = None
        self._watch = OrderWatch(name, self._rows_since, self._push, polled_every(name, settings), self._odd)
        self._orders = TdaOrders(
            name, self._rest, self._listings, self._watch, self.dialect, lambda: self._account, self._odd
        )
        self._replaces = TdaReplaces(name, self._orders, self._listings, self.dialect)

    # -- CONNECTION ---
    @classmethod
    def check_settings(cls, name: str, settings: BrokerSettings) -> None:
        """Check the settings without touching the network.

        Raises:
            ConfigurationError: a key is missing, or base_url must not be given any, or none without live = true.
        """
        check_access(name, settings, cls.dialect)

    def connect(self) -> None:
        """Get a token, find the account anew (Schwab may call it otherwise by now), and start watching orders."""
        self.check_settings(self.name, self.settings)
        if self.dialect.retired and self.settings.live:
            self._log.warning("api_retired", advice=self.dialect.retired)
        self._rest.keeper = self._rest.keeper or self._access.keeper()
        self._rest.pay_from(self._access.budget(self.limits))
        try:
            self._rest.keeper.token()
            self._account = self._access.find_account()
            self._rest.veil.hide_account(self._account)
            self._rest.account_path = self._path("")
            self._rest.read(self._path(""), None, dict)
        except (NotPermitted, AccessLost) as error:
            if self._was_up:
                raise
            raise ConfigurationError(f"brokers.{self.name}: {error}") from error
        except BrokerError as error:
            raise NotConnected(f"{self.name}: {error}", broker=self.name) from error
        self._listings.memory.forget()
        self._up = self._was_up = True
        self._watch.start()

    def disconnect(self) -> None:
        """Stop watching and close every connection."""
        self._up = False
        self._watch.stop()
        self._rest.close()
        self._rest.keeper = None

    def is_connected(self) -> bool:
        """Tell whether the account was reached and neither a connection nor a token has failed since."""
        return self._up

    def updates(self, callback: Callable[[Report], None]) -> None:
        """Register the callback for polled reports."""
        self._callback = callback

    def _went_down(self) -> None:
        self._up = False

    def _was_answered(self) -> None:
        self.answered_at = utcnow()

    def _path(self, rest: str) -> str:
        if not self._account:
            raise NotConnected(f"{self.name}: not connected; connect first", broker=self.name)
        return f"{self.dialect.trader}/accounts/{segment(self._account)}{rest}"

    # -- ORDERS ---
    def place_order(self, ticket: Ticket) -> OrderReport:
        """Send one order, then verify the order that the answer points to."""
        self.capabilities.check(ticket.order, self.name)
        self.check_links(ticket.orders)
        return self._orders.place(ticket)

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Have a new order made in place of a live one; see `replace.TdaReplaces`."""
        check_changes(ref.order, ticket.order, self.name)
        self.capabilities.check(ticket.order, self.name)
        order_body(
            ticket.order, self.dialect, self.name
        )  # an order that cannot be written is refused before anything is asked
        return self._replaces.replace(ref, ticket)

    def cancel_order(self, ref: OrderRef) -> None:
        """Ask for the cancel; the status follows."""
        with using(Use.URGENT):
            order_id = ref.broker_order_id or self._id_of(ref)
            self._orders.cancel(order_id)

    def find_order(self, ref: OrderRef) -> Sighting:
        """Look for the order by the id we were given, then for the only order with these terms and no owner."""
        return self._chosen(ref, *self._listings.candidates(ref, self._terms(ref)))

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        """Look for several orders in few readings of the listing; those they do not settle are looked up singly."""
        rows = self._listings.around(refs) if len(refs) > 1 else []
        by_id = {order_id(row): row for row in rows}
        found: list[Sighting] = []
        for ref in refs:
            wanted = self._terms(ref)
            raw = by_id.get(ref.broker_order_id) if ref.broker_order_id else None
            if raw is not None and could_be(raw, wanted):
                found.append(self._chosen(ref, [raw], ""))
            elif rows and ref.broker_order_id is None:
                found.append(self._chosen(ref, *self._listings.look_alikes(ref, wanted, rows)))
            else:
                found.append(self.find_order(ref))
        return found

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        """Return open orders, and with open_only=False also those entered or closed after `since`."""
        earliest = utcnow() - self.dialect.lookback
        found = self._listings.reports(
            self._listings.memory.read(None if open_only else max(since or earliest, earliest))
        )
        return [one for one in found if _may_change(one) or (not open_only and _is_after(one, since))]

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        """Return executions, of orders that were entered long before as well."""
        found = self._listings.reports(self._listings.memory.read(max(since, utcnow() - self.dialect.lookback)))
        fills = [fill for order in found for fill in order.fills if fill.filled_at >= since]
        return sorted(fills, key=lambda fill: fill.filled_at)

    def _rows_since(self, start: datetime | None) -> Sequence[Raw]:
        """Return the rows that the watch asks for: entered since a time, or all that can have changed lately."""
        return self._listings.memory.read(utcnow() - _LATELY) if start is None else self._listings.entered_since(start)

    def _terms(self, ref: OrderRef) -> Terms:
        return group_terms(ref.orders, self.dialect, self.name)

    def _chosen(self, ref: OrderRef, candidates: Sequence[Raw], doubt: str) -> Sighting:
        """Adopt the only candidate, and watch it; several, or one that only may be it, leave it open."""
        reports = tuple(self._orders.report(row) for row in candidates)
        if not reports:
            return self._missing(ref)
        if len(reports) > 1 or doubt:
            ids = ", ".join(str(report.broker_order_id) for report in reports)
            words = f"{len(reports)} could be it: {ids}{'; ' if doubt else ''}{doubt}"
            return Ambiguous(candidates=reports, words=words)
        (report,), (raw,) = reports, candidates
        if report.status is BrokerStatus.REPLACED:
            report = self._listings.followed(report, raw)
        self._orders.watch(raw, terms(raw), ref.sent_at)
        return Found(report=report)

    def _missing(self, ref: OrderRef) -> Sighting:
        if ref.sent_at < utcnow() - self.dialect.lookback:
            days = self.dialect.lookback.days
            return Ambiguous(candidates=(), words=f"it was sent more than {days} days ago, further back than is listed")
        return Missing(evidence=f"GET orders entered from {ref.sent_at - BEFORE:%H:%M:%S} on: none has these terms")

    def _id_of(self, ref: OrderRef) -> str:
        seen = self.find_order(ref)
        if isinstance(seen, Found) and seen.report.broker_order_id:
            return seen.report.broker_order_id
        raise OrderRejected(f"{self.name} shows no single order like this to cancel", broker=self.name)

    def _push(self, report: Report) -> None:
        if self._callback is not None:
            self._callback(report)

    def get_cash_events(self, since: datetime) -> Iterable[CashEventReport]:
        """Return dividends, interest, fees and transfers from the account's transactions."""
        return self._transactions.since(since)

    # -- DATA ---
    def get_account_info(self) -> AccountReport:
        """Return the money of the account."""
        raw = self._rest.read(self._path(""), None, dict)
        report = self._rest.parse(lambda row: account.account_report(row, self.dialect.account_key), raw)
        return replace(report, paper=not self.settings.live)

    def get_positions(self) -> Sequence[PositionReport]:
        """Return every holding."""
        raw = self._rest.read(self._path(""), {"fields": "positions"}, dict)
        return self._rest.parse(lambda row: account.position_reports(row, self.dialect.account_key, self._odd), raw)

    def check_order(self, order: OrderRequest) -> None:
        """Check whether the order can be said in this dialect."""
        super().check_order(order)
        order_body(order, self.dialect, self.name)

    def preview_order(self, order: OrderRequest) -> PreviewReport:
        """Return what Schwab says of an order that is not placed; TD Ameritrade does not tell."""
        if not self.dialect.previews:
            return PreviewReport()
        return preview(self._rest, self._path(""), order_body(order, self.dialect, self.name), self.name)

    def preview_group(self, legs: Sequence[OrderRequest]) -> PreviewReport:
        """Return what Schwab says of linked orders, asked as the one document that they would be sent as."""
        if not self.dialect.previews:
            return PreviewReport()
        return preview(self._rest, self._path(""), group_body(legs, self.dialect, self.name), self.name)

    def find_instruments(self, wanted: InstrumentQuery) -> FoundInstruments:
        """Look a share up, or the options on one."""
        return find(self._rest, self.dialect, wanted, self.name, self._odd)

    def get_market_data(self, symbol: str) -> QuoteReport:
        """Return the current quote."""
        return self._prices.quote(symbol)

    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return candles of the regular session."""
        return self._prices.bars(symbol, timeframe, start, end)


class SchwabBroker(TdaBroker):
    """One Schwab account.

    Settings: as TdaBroker, and app_secret; account_id is the account's number or its hash.
    """

    dialect: ClassVar[TdaDialect] = SCHWAB
    default_url, retired = SCHWAB.default_url, SCHWAB.retired
    capabilities = _capabilities(SCHWAB)
    keys = TdaBroker.keys | {"app_secret"}


def _may_change(order: OrderReport) -> bool:
    """Tell whether an order, or the one that took its place in a group, is not done."""
    return order.status not in DONE or order.heir is not None


def _is_after(order: OrderReport, since: datetime | None) -> bool:
    last = max((at for at in (order.submitted_at, order.updated_at) if at), default=None)
    return since is None or last is None or last >= since
