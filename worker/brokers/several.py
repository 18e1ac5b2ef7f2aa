"""Several accounts behind one login at a broker whose adapter speaks for one account: an adapter for each, told as one.

The settings name the accounts; each inner adapter gets one number as `account_id`. What they report carries the name of
its account, and an order goes to the adapter of its own. They share the login's tokens; each has a budget of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar, TypeVar

from pydantic import SecretStr

from models.errors import Unsupported
from models.instruments import Instrument
from models.lookups import FoundInstruments, InstrumentQuery, InstrumentReport, PreviewReport
from models.messages import OrderRequest
from models.reports import (
    AccountReport,
    Ambiguous,
    Bar,
    CashEventReport,
    CommissionReport,
    FillReport,
    Found,
    OrderReport,
    PositionReport,
    QuoteReport,
    Report,
    Sighting,
)
from models.settings import BrokerSettings
from worker.brokers.base import BrokerInterface, OrderRef, Ticket
from worker.pacing.budget import Limits

R = TypeVar("R", bound=Report)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class SeveralAccounts(BrokerInterface):
    """The accounts behind one login; `serving` makes the class for an adapter."""

    #: Speaks for one account.
    adapter: ClassVar[type[BrokerInterface]]

    def __init__(self, name: str, settings: BrokerSettings) -> None:
        self._inner: dict[str, BrokerInterface] = {}
        super().__init__(name, settings)
        self.accounts = tuple(settings.accounts)
        for account, number in settings.accounts.items():
            own = settings.model_copy(update={"accounts": {}, "account_id": SecretStr(number)})
            self._inner[account] = self.adapter(name, own)
        self._usual = settings.usual_account
        #: Asked where nothing says which account is meant, and any will do.
        self._spokesman = self._usual or self.accounts[0]

    @classmethod
    def check_settings(cls, name: str, settings: BrokerSettings) -> None:
        """Check the settings as for one account."""
        cls.adapter.check_settings(name, settings)

    @classmethod
    def serving(cls, adapter: type[BrokerInterface]) -> type[SeveralAccounts]:
        """Return the class whose instances speak for several accounts by this adapter."""
        told = {
            "capabilities": adapter.capabilities, "keys": adapter.keys, "session_kind": adapter.session_kind,
            "default_url": adapter.default_url, "retired": adapter.retired,
        }  # fmt: skip
        return type(f"Several{adapter.__name__}", (cls,), {"adapter": adapter, **told})

    # -- WHAT THEY HAVE TOGETHER ---
    @property
    def limits(self) -> Limits:
        """Makes budgets: for each account its own."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        for one in self._inner.values():
            one.limits = limits

    @property
    def session(self) -> int:
        """Grows whenever that of one of them does."""
        return sum(one.session for one in self._inner.values())

    @session.setter
    def session(self, _: int) -> None:
        """Counted by those it is made of."""

    @property
    def answered_at(self) -> datetime | None:
        """When the broker last answered about one of them."""
        return max((at for one in self._inner.values() if (at := one.answered_at) is not None), default=None)

    @answered_at.setter
    def answered_at(self, _: datetime | None) -> None:
        """Noted by those it is made of."""

    @property
    def is_streaming(self) -> bool:
        """Whether updates of each are pushed, or polled, now."""
        return all(one.is_streaming for one in self._inner.values())

    # -- CONNECTION ---
    def connect(self) -> None:
        """Reach every account; one that cannot be reached closes all, as nothing says which order is next."""
        try:
            for one in self._inner.values():
                one.connect()
        except Exception:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Close everything."""
        for one in self._inner.values():
            one.disconnect()

    def is_connected(self) -> bool:
        """Tell whether an order for any of them could be sent now."""
        return all(one.is_connected() for one in self._inner.values())

    def updates(self, callback: Callable[[Report], None]) -> None:
        """Register the callback; every report has the name of its account."""
        for account, one in self._inner.items():
            one.updates(partial(_tell, callback, account))

    def server_time(self) -> datetime | None:
        """Return the broker's clock."""
        return self._any().server_time()

    def account_flags(self) -> Mapping[str, object] | None:
        """Return what the usual account may do."""
        return self._any().account_flags()

    # -- ORDERS ---
    def place_order(self, ticket: Ticket) -> OrderReport:
        """Send one order to its account."""
        account, one = self._of(ticket.order.account)
        return _named(one.place_order(ticket), account)

    def replace_order(self, ref: OrderRef, ticket: Ticket) -> OrderReport:
        """Change one order in its account."""
        account, one = self._of(ref.order.account)
        return _named(one.replace_order(ref, ticket), account)

    def cancel_order(self, ref: OrderRef) -> None:
        """Cancel one order in its account."""
        self._of(ref.order.account)[1].cancel_order(ref)

    def find_order(self, ref: OrderRef) -> Sighting:
        """Look for an order in its account."""
        return self.find_orders([ref])[0]

    def find_orders(self, refs: Sequence[OrderRef]) -> list[Sighting]:
        """Look for several, each in its account."""
        found: dict[int, Sighting] = {}
        for account in dict.fromkeys(ref.order.account for ref in refs):
            name, one = self._of(account)
            places = [place for place, ref in enumerate(refs) if ref.order.account == account]
            seen = one.find_orders([refs[place] for place in places])
            found |= {place: _sighted(sighting, name) for place, sighting in zip(places, seen, strict=True)}
        return [found[place] for place in range(len(refs))]

    def get_orders(self, *, open_only: bool = True, since: datetime | None = None) -> Sequence[OrderReport]:
        """Return the orders of every account, newest last."""
        found = [
            _named(order, account)
            for account, one in self._inner.items()
            for order in one.get_orders(open_only=open_only, since=since)
        ]
        return sorted(found, key=lambda order: order.submitted_at or _LONG_AGO)

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        """Return the executions of every account, oldest first."""
        found = [_named(fill, account) for account, one in self._inner.items() for fill in one.get_fills(since)]
        return sorted(found, key=lambda fill: fill.filled_at)

    def get_cash_events(self, since: datetime) -> Iterable[CashEventReport] | None:
        """Return what every account was paid, charged or given, oldest first."""
        told = [(account, one.get_cash_events(since)) for account, one in self._inner.items()]
        paid = [_paid(account, events) for account, events in told if events is not None]
        return heapq.merge(*paid, key=lambda event: event.at) if paid else None

    # -- LOOKUPS ---
    def resolutions(
        self,
        callback: Callable[[InstrumentReport], None],
        known: Callable[[OrderRequest], None],
        recall: Callable[[Instrument], Mapping[str, str] | None] | None = None,
    ) -> None:
        """Register with each, and here, who keeps what is resolved, and knows it from before."""
        super().resolutions(callback, known, recall)
        for one in self._inner.values():
            one.resolutions(callback, known, recall)

    def find_instruments(self, wanted: InstrumentQuery) -> FoundInstruments:
        """Return what the broker knows under a name."""
        return self._any().find_instruments(wanted)

    def check_order(self, order: OrderRequest) -> None:
        """Check the terms of an order, and that its account is one of these."""
        self._of(order.account)[1].check_order(order)

    def check_links(self, orders: Sequence[OrderRequest]) -> None:
        """Check how orders are linked in the account of their lead."""
        self._of(orders[0].account)[1].check_links(orders)

    def preview_order(self, order: OrderRequest) -> PreviewReport:
        """Return what the broker says of an order in its account that is not sent."""
        return self._of(order.account)[1].preview_order(order)

    def preview_group(self, legs: Sequence[OrderRequest]) -> PreviewReport:
        """Return what the broker says of linked orders in the account of their lead."""
        return self._of(legs[0].account)[1].preview_group(legs)

    # -- DATA ---
    def get_account_info(self) -> AccountReport:
        """Return the money of the usual account."""
        return replace(self._any().get_account_info(), account_id=self._spokesman)

    def get_accounts(self) -> Sequence[AccountReport]:
        """Return the money of each account."""
        return [replace(one.get_account_info(), account_id=account) for account, one in self._inner.items()]

    def get_positions(self) -> Sequence[PositionReport]:
        """Return the holdings of every account."""
        inner = self._inner.items()
        return [replace(held, account_id=account) for account, one in inner for held in one.get_positions()]

    def get_market_data(self, symbol: str) -> QuoteReport:
        """Return the current quote."""
        return self._any().get_market_data(symbol)

    def get_historical_data(self, symbol: str, timeframe: str, start: datetime, end: datetime) -> Sequence[Bar]:
        """Return bars."""
        return self._any().get_historical_data(symbol, timeframe, start, end)

    # -- INSIDE ---
    def _any(self) -> BrokerInterface:
        """Return one that asks what is not about an account."""
        return self._inner[self._spokesman]

    def _of(self, account: str | None) -> tuple[str, BrokerInterface]:
        """Return an account's name and adapter; one that an order from before names is the usual one.

        Raises:
            Unsupported: there is none of that name, or nothing says which one is meant.
        """
        name = account or self._usual
        if name is None or name not in self._inner:
            known = ", ".join(self.accounts)
            raise Unsupported(f"{self.name} has no account {account!r}; it has {known}", broker=self.name)
        return name, self._inner[name]


def _tell(callback: Callable[[Report], None], account: str, report: Report) -> None:
    callback(report if isinstance(report, CommissionReport) else _named(report, account))


def _named(report: R, account: str) -> R:
    """Return a report with the name of its account, and those in it."""
    if isinstance(report, OrderReport):
        legs = tuple(_named(leg, account) for leg in report.legs)
        return replace(report, account=account, legs=legs, fills=tuple(_named(fill, account) for fill in report.fills))
    return replace(report, account=account) if isinstance(report, FillReport) else report


def _sighted(sighting: Sighting, account: str) -> Sighting:
    if isinstance(sighting, Found):
        return Found(report=_named(sighting.report, account))
    if isinstance(sighting, Ambiguous):
        return replace(sighting, candidates=tuple(_named(one, account) for one in sighting.candidates))
    return sighting


def _paid(account: str, events: Iterable[CashEventReport]) -> Iterator[CashEventReport]:
    for event in events:
        yield replace(event, account_id=account)
