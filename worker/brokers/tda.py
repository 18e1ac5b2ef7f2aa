"""TD Ameritrade v1 and Schwab's Trader API: one adapter over two dialects.

Neither broker knows a client order id. An order is identified by the Location of the answer, verified against its
terms, or by looking for the one order in a time window that has them (BROKERS.md 3.6); where that stays open, so does
the outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlsplit

import requests
import structlog

from models.errors import (
    BrokerError,
    ConfigurationError,
    DataError,
    NoData,
    NotConnected,
    NotPermitted,
    OrderRejected,
    OutcomeUnknown,
    Refused,
    UnreadableReply,
    Unsupported,
)
from models.messages import utcnow
from models.reports import (
    DONE,
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
from worker.brokers import tda_reports as read
from worker.brokers.base import AbsenceRule, BrokerInterface, Capabilities, OrderRef, Ticket
from worker.brokers.http import Exchange, exchange, lost_after
from worker.brokers.tda_dialects import FREQUENCIES, SCHWAB, TDA, Dialect, order_body
from worker.brokers.tda_orders import BEFORE, OrderBook
from worker.brokers.tda_rest import READ_WITHIN_S, TdaRest, by_words
from worker.brokers.tda_watch import OrderWatch
from worker.brokers.tokens import TokenKeeper, token_path
from worker.brokers.values import Raw, segment

_log = structlog.get_logger(__name__)

#: Pauses before asking again for an order that its Location promised: listings lag.
_LAG_S = (0.0, 0.2, 0.5)


def _capabilities(dialect: Dialect) -> Capabilities:
    return Capabilities(
        times_in_force=dialect.times_in_force,
        client_order_id_length=None,
        absence=AbsenceRule(possible=False),
        parallel_orders=4,
        timeframes=tuple(FREQUENCIES),
    )


class TdaBroker(BrokerInterface):
    """One TD Ameritrade account.

    Settings: base_url, api_key, refresh_token, account_id (needed if there are several), token_path, poll_s, live.
    """

    dialect: ClassVar[Dialect] = TDA
    capabilities = _capabilities(TDA)

    def __init__(self, name: str, settings: BrokerSettings) -> None:
        super().__init__(name, settings)
        self._log = _log.bind(broker=name)
        root = self.dialect.root(settings.get("base_url") or self.dialect.default_url)
        self._rest = TdaRest(name, root, self._went_down)
        self._book = OrderBook(name, self._rest, self.dialect, self._path)
        self._account = ""
        self._up = False
        self._callback: Callable[[Report], None] | None = None
        self._watch = OrderWatch(name, self._book.entered_since, self._push, float(settings.get("poll_s") or 1.0))

    # -- CONNECTION ---
    @classmethod
    def check_settings(cls, name: str, settings: BrokerSettings) -> None:
        """Check the settings without touching the network.

        Raises:
            ConfigurationError: a key is missing, base_url is no URL, or it is the live host without live = true.
        """
        dialect, url = cls.dialect, str(settings.get("base_url") or cls.dialect.default_url)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"brokers.{name}.base_url must be an http:// or https:// URL, was {url!r}")
        if parts.hostname.rstrip(".").lower() == dialect.live_host and not settings.live:
            note = f" ({dialect.retired})" if dialect.retired else ""
            raise ConfigurationError(
                f"brokers.{name}.base_url is the live host {dialect.live_host}: real money. Set live = true on this "
                f"broker, or use the sandbox's URL{note}"
            )
        for key in ("api_key", "refresh_token", *(["app_secret"] if dialect.uses_secret else [])):
            settings.need(key, name)

    def connect(self) -> None:
        """Get a token, find the account, and start watching orders."""
        self.check_settings(self.name, self.settings)
        if self.dialect.retired and self.settings.live:
            self._log.warning("api_retired", advice=self.dialect.retired)
        self._rest.keeper = self._rest.keeper or self._keeper()
        try:
            self._rest.keeper.token()
            self._account = self._account or self._find_account()
            self._rest.read(self._path(""), None, dict)
        except NotPermitted as error:
            raise ConfigurationError(f"brokers.{self.name}: {error}") from error
        except BrokerError as error:
            raise NotConnected(f"{self.name}: {error}", broker=self.name) from error
        self._up = True
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

    def _keeper(self) -> TokenKeeper:
        settings, dialect = self.settings, self.dialect
        client = settings.need("api_key", self.name).removesuffix(dialect.client_suffix)
        basic = (client, settings.need("app_secret", self.name)) if dialect.uses_secret else None

        def grant(refresh_token: str) -> Mapping[str, Any]:
            form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
            if not basic:
                form["client_id"] = client + dialect.client_suffix
            return self._rest.buy_token(dialect.token_path, form, basic)

        return TokenKeeper(
            self.name,
            token_path(self.name, settings.get("token_path"), settings.get("home")),
            settings.need("refresh_token", self.name),
            grant,
            refresh_lifetime_s=dialect.refresh_lifetime_s,
        )

    def _find_account(self) -> str:
        """Return what the account is called in paths: its number, or Schwab's hash of it."""
        wanted = str(self.settings.get("account_id") or "")
        if wanted and not self.dialect.hashed_accounts:
            return wanted
        known = self._accounts()
        if wanted and (wanted in known or wanted in known.values()):
            return known.get(wanted, wanted)
        if wanted or len(known) != 1:
            raise ConfigurationError(
                f"brokers.{self.name}.account_id is {wanted or 'missing'}, and these tokens open {len(known)} accounts"
            )
        return next(iter(known.values()))

    def _accounts(self) -> dict[str, str]:
        """Return account number -> what it is called in paths."""
        trader, key = self.dialect.trader, self.dialect.account_key
        if self.dialect.hashed_accounts:
            rows = self._rest.read(f"{trader}/accounts/accountNumbers", None, list)
            return self._rest.parse(lambda them: {str(r["accountNumber"]): str(r["hashValue"]) for r in them}, rows)
        rows = self._rest.read(f"{trader}/accounts", None, list)
        numbers = self._rest.parse(lambda them: [str(row["securitiesAccount"][key]) for row in them], rows)
        return {number: number for number in numbers}

    def _path(self, rest: str) -> str:
        if not self._account:
            raise NotConnected(f"{self.name}: not connected; connect first", broker=self.name)
        return f"{self.dialect.trader}/accounts/{segment(self._account)}{rest}"

    # -- ORDERS ---
    def place_order(self, ticket: Ticket) -> OrderReport:
        """Send one order, then verify the one that the answer points to."""
        self.capabilities.check(ticket.order, self.name)
        body = order_body(ticket.order, self.dialect, self.name)
        sent_at = utcnow()
        with exchange(ticket.deadline_s) as whole:
            answer = self._rest.send(
                "POST", self._path("/orders"), body, deadline_s=ticket.deadline_s, gate=ticket.still_mine
            )
            try:
                return self._placed(answer, read.terms(body), sent_at, whole)
            except (Refused, OutcomeUnknown):
                raise
            except Exception as error:
                raise lost_after(error, self.name) from error

    def cancel_order(self, ref: OrderRef) -> None:
        """Ask for the cancel; the status follows."""
        order_id = ref.broker_order_id or self._id_of(ref)
        self._rest.send("DELETE", self._path(f"/orders/{segment(order_id)}"), deadline_s=READ_WITHIN_S)

    def find_order(self, ref: OrderRef) -> Sighting:
        """Look at the id we were given, then for the one order that has these terms and is nobody else's."""
        wanted = self._terms(ref)
        raw = self._book.by_id(ref.broker_order_id) if ref.broker_order_id else None
        if raw is None or not read.is_same(raw, wanted):
            return self._chosen(ref, wanted, self._book.look_alikes(ref, wanted, self._book.around([ref])))
        return self._chosen(ref, wanted, [raw])

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        """Look for several orders in one reading of the listing; those it does not settle are looked up singly."""
        rows = self._book.around(refs) if len(refs) > 1 else []
        by_id = {str(row.get("orderId")): row for row in rows}
        found: list[Sighting] = []
        for ref in refs:
            raw = by_id.get(ref.broker_order_id or "")
            if raw is not None and read.is_same(raw, self._terms(ref)):
                found.append(self._chosen(ref, self._terms(ref), [raw]))
            elif rows and ref.broker_order_id is None:
                found.append(self._chosen(ref, self._terms(ref), self._book.look_alikes(ref, self._terms(ref), rows)))
            else:
                found.append(self.find_order(ref))
        return found

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        """Return open orders, and with open_only=False also those entered or closed after `since`."""
        start = utcnow() - self.dialect.longest_window
        found = self._book.reports(min(since, start) if since and not open_only else start)
        return [order for order in found if order.status not in DONE or (not open_only and _is_after(order, since))]

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        """Return executions, of orders that were entered long before as well."""
        found = self._book.reports(since - self.dialect.longest_window)
        fills = [fill for order in found for fill in order.fills if fill.filled_at >= since]
        return sorted(fills, key=lambda fill: fill.filled_at)

    def _placed(self, answer: requests.Response, wanted: read.Terms, sent_at: datetime, whole: Exchange) -> OrderReport:
        order_id = self._promised(answer)
        raw = self._fetched(order_id, whole)
        if raw is None:  # a Location can name another order (BROKERS.md 3.6): not read back, it is no proof
            words = f"taken with {answer.status_code} as order {order_id}, which cannot be read back yet"
            raise UnreadableReply(f"{self.name}: {words}", broker=self.name)
        return self._judged(raw, wanted, sent_at)

    def _promised(self, answer: requests.Response) -> str:
        """Return the id of the order just taken; it can be missing, or lead elsewhere (BROKERS.md 3.6)."""
        location = answer.headers.get("Location")
        order_id = read.located(location, self._account) if answer.status_code in (200, 201) else None
        if order_id is None:
            raise UnreadableReply(
                f"{self.name}: HTTP {answer.status_code} to an order, its Location was {location!r}", broker=self.name
            )
        return order_id

    def _fetched(self, order_id: str, whole: Exchange) -> Raw | None:
        """Read an order that was just taken; None if that does not work in time."""
        for pause in _LAG_S:
            time.sleep(min(pause, whole.left()))
            try:
                raw = self._book.by_id(order_id)
            except BrokerError as error:
                self._log.warning("placed_order_unread", broker_order_id=order_id, error=str(error))
                return None
            if raw is not None:
                return raw
        return None

    def _judged(self, raw: Raw, wanted: read.Terms, sent_at: datetime) -> OrderReport:
        """Return the report of the order that the answer pointed to, if it is the one that was sent."""
        if not read.is_same(raw, wanted):
            raise UnreadableReply(
                f"{self.name}: the answer points to order {raw.get('orderId')}, which is another one", broker=self.name
            )
        report = self._rest.parse(read.order_report, raw)
        if report.status is BrokerStatus.REJECTED and not report.filled_quantity:
            text = report.message or "no reason given"
            raise by_words(text)(f"{self.name} rejected the order: {text}", broker=self.name, code="REJECTED")
        if report.status not in DONE:
            self._watch.add(str(report.broker_order_id), wanted, sent_at - BEFORE)
        # The 201 says that the broker has it, whatever word the listing uses.
        return replace(report, status=BrokerStatus.ACCEPTED) if report.status is BrokerStatus.UNKNOWN else report

    def _terms(self, ref: OrderRef) -> read.Terms:
        return read.terms(order_body(ref.order, self.dialect, self.name))

    def _chosen(self, ref: OrderRef, wanted: read.Terms, candidates: Sequence[Raw]) -> Sighting:
        """Adopt the only candidate, and watch it; several or none leave it open."""
        reports = self._rest.parse(lambda rows: tuple(read.order_report(row) for row in rows), candidates)
        if len(reports) > 1:
            return Ambiguous(candidates=reports)
        if not reports:
            return Missing(evidence=f"GET orders entered from {ref.sent_at - BEFORE:%H:%M:%S} on: none has these terms")
        if reports[0].status not in DONE:
            self._watch.add(str(reports[0].broker_order_id), wanted, ref.sent_at - BEFORE)
        return Found(report=reports[0])

    def _id_of(self, ref: OrderRef) -> str:
        seen = self.find_order(ref)
        if isinstance(seen, Found) and seen.report.broker_order_id:
            return seen.report.broker_order_id
        raise OrderRejected(f"{self.name} shows no single order like this to cancel", broker=self.name)

    def _push(self, report: Report) -> None:
        if self._callback is not None:
            self._callback(report)

    # -- DATA ---
    def get_account_info(self) -> AccountReport:
        """Return the money of the account."""
        raw = self._rest.read(self._path(""), None, dict)
        report = self._rest.parse(lambda account: read.account_report(account, self.dialect.account_key), raw)
        return replace(report, paper=not self.settings.live)

    def get_positions(self) -> Sequence[PositionReport]:
        """Return every holding."""
        raw = self._rest.read(self._path(""), {"fields": "positions"}, dict)
        return self._rest.parse(lambda account: read.position_reports(account, self.dialect.account_key), raw)

    def get_market_data(self, symbol: str) -> QuoteReport:
        """Return the current quote."""
        answer = self._rest.read_data(f"{self.dialect.market}/{segment(symbol)}/quotes", {})
        raw = answer.get(symbol)
        if not raw:
            raise NoData(f"{self.name} has no quote for {symbol}")
        return self._rest.parse_data(lambda quote: read.quote_report(symbol, quote), raw)

    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return candles of the regular session."""
        if timeframe not in FREQUENCIES:
            has = ", ".join(FREQUENCIES)
            raise Unsupported(f"{self.name} has no {timeframe} bars (it has {has})", broker=self.name)
        step = timedelta(days=FREQUENCIES[timeframe][3])
        rows: list[Any] = []
        first = start
        while first < end:
            rows += self._candles(symbol, timeframe, first, min(first + step, end))
            first += step
        found = self._rest.parse_data(lambda candles: read.bars(candles, start, end), rows)
        if not found:
            raise NoData(f"{self.name} has no {timeframe} bars of {symbol} in {start.isoformat()} .. {end.isoformat()}")
        return found

    def _candles(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> list[Any]:
        period_type, frequency_type, frequency, _ = FREQUENCIES[timeframe]
        query = {
            "periodType": period_type,
            "frequencyType": frequency_type,
            "frequency": frequency,
            "startDate": int(start.timestamp() * 1000),
            "endDate": int(end.timestamp() * 1000),
            "needExtendedHoursData": "false",
        }
        in_path = "{symbol}" in self.dialect.history
        path = self.dialect.history.format(symbol=segment(symbol)) if in_path else self.dialect.history
        answer = self._rest.read_data(self.dialect.market + path, query if in_path else query | {"symbol": symbol})
        rows = answer.get("candles") or []
        if not isinstance(rows, list):
            raise DataError(f"{self.name}: the candles of {symbol} are no list")
        return rows


class SchwabBroker(TdaBroker):
    """One Schwab account.

    Settings: as TdaBroker, and app_secret; account_id is the account's number or its hash.
    """

    dialect: ClassVar[Dialect] = SCHWAB
    capabilities = _capabilities(SCHWAB)


def _is_after(order: OrderReport, since: datetime | None) -> bool:
    last = max((at for at in (order.submitted_at, order.updated_at) if at), default=None)
    return since is None or last is None or last >= since
