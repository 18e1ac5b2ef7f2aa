"""The client's look-ups: which instruments brokers have, and what an order would cost where. None is an order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import TypedDict, cast

from models.clock import utcnow
from models.destinations import split
from models.errors import DataError
from models.lookups import FoundInstruments, InstrumentReport, PreviewReport, days
from models.messages import OrderRequest
from models.preview_digest import digest_of
from models.record.fetches import from_json
from models.record.instruments import InstrumentRow, kept_instruments
from models.record.limits import StaticLimits
from models.record.rows import FetchRow
from models.routes import route_of
from models.signing import Signs
from producers.data import DataClient
from producers.handles import Fetch
from producers.signer import NOT_SIGNED


class PreviewRow(TypedDict):
    """What one broker says of an order that was not sent; None: it did not say.

    `supported` is None where the broker could not be asked, and `warnings` says why. `digest` is for
    `OrderRequest(preview=...)`: an order on other terms is refused then.
    """

    broker: str
    supported: bool | None
    margin_before: Decimal | None
    margin_after: Decimal | None
    commission: Decimal | None
    currency: str | None
    warnings: list[str]
    refused: str | None
    digest: str


class LookupClient(DataClient):
    """Asks brokers what they know, without an order."""

    _signer: Signs | None = None

    def preview(self, request: OrderRequest, timeout: float = 10.0) -> list[PreviewRow]:
        """Ask every broker on the order's route what it would say of it; nothing is sent, and no order is recorded.

        Args:
            request: the order; its client_order_id stays free.
            timeout: seconds that all brokers have together.

        Returns:
            One row a broker, in the order of the route.

        Raises:
            InvalidOrder: the order would not be taken: its route names a broker or an account that there is not.
        """
        return self._previews([request], digest_of(request), timeout)

    def _previews(self, requests: Sequence[OrderRequest], digest: str, timeout: float) -> list[PreviewRow]:
        """Ask about an order, or about the legs of one group, the lead first."""
        deadline = time.monotonic() + timeout
        asked = {where: self._preview(requests, where) for where in route_of(self.settings, requests[0])}
        ours = self._our_words(requests)
        return [
            self._row(broker, digest, fetch, max(0.05, deadline - time.monotonic()), *ours)
            for broker, fetch in asked.items()
        ]

    def _our_words(self, requests: Sequence[OrderRequest]) -> tuple[str | None, str | None]:
        """Return why orders would be denied wherever they went, and why somebody would have to approve them."""
        limits, now = StaticLimits(self.settings.risk, self.database), utcnow()
        refused = next((no for request in requests if (no := limits.refusal(request, now)) is not None), None)
        approval = next((why for request in requests if (why := limits.approval(request, now))), None)
        denied = [] if refused is None else [f"corro: {refused.words}"]
        if self._signer is None and self.settings.security.require == "all":
            denied.insert(0, f"corro: {NOT_SIGNED}")
        return "; ".join(denied) or None, approval and f"corro: {approval}"

    def _preview(self, requests: Sequence[OrderRequest], where: str) -> Fetch[PreviewReport]:
        """Ask a broker, about one of its accounts where it has several."""
        broker, account = split(where)
        named = {} if account is None else {"account": account, "version": 2}
        bodies = [{**request.to_wire(), "preview": None, **named} for request in requests]
        asked: dict[str, object] = {"order": bodies[0]} if len(bodies) == 1 else {"orders": bodies}
        return self._fetch("preview", asked, [broker], lambda row: from_json(PreviewReport, row["result"]))

    @staticmethod
    def _row(
        broker: str,
        digest: str,
        fetch: Fetch[PreviewReport],
        timeout: float,
        refused: str | None,
        warning: str | None,
    ) -> PreviewRow:
        try:
            told = asdict(fetch.result(timeout))
        except DataError as error:
            told = {**asdict(PreviewReport(warnings=(str(error),))), "supported": None}
        more = {
            "broker": broker,
            "warnings": [*told["warnings"], *filter(None, [warning])],
            "refused": "; ".join(filter(None, [refused, told["refused"]])) or None,
            "digest": digest,
        }
        return cast(PreviewRow, told | more)

    def instruments(
        self,
        query: str,
        asset_class: str | None = None,
        *,
        expiry: date | str | None = None,
        limit: int | None = None,
        search: bool = False,
        route: Sequence[str] | None = None,
    ) -> Fetch[FoundInstruments]:
        """Ask what a name means at the first broker on the route that can tell, and keep what it says.

        Args:
            query: a canonical text (`AAPL`, `ESZ26@CME`); with option the underlying, with future the root (`ES`), of
                whose contracts all are told that have not expired.
            asset_class: us_equity, equity, option, future, forex or crypto; None where the text says it.
            expiry: a day, or a month as `2026-12`, in which options or futures expire.
            limit: how many at most, those that expire first; default 1,000, at most 10,000.
            search: `query` is words of a name, or the beginning of a symbol: tells the shares that fit, and keeps none.
            route: brokers to ask, in order.

        Returns:
            `.result(timeout)` gives a list of InstrumentReport; its `more` says that there are others beyond the limit.

        Raises:
            InvalidRequest: names the field that is wrong.
        """
        day = expiry.isoformat() if isinstance(expiry, date) else expiry
        given = {"query": query, "asset_class": asset_class, "expiry": day, "limit": limit, "search": search or None}
        request = {name: value for name, value in given.items() if value is not None}
        return self._fetch("instruments", request, route, _found)

    def kept_instruments(
        self,
        query: str | None = None,
        asset_class: str | None = None,
        *,
        expiry: date | str | None = None,
        brokers: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[InstrumentRow]:
        """Return what brokers have told of instruments before; nobody is asked.

        Args:
            query: a symbol, or an underlying; None is every one.
            asset_class: only this one.
            brokers: only theirs.
            expiry: a day, or a month as `2026-12`.
            limit: how many at most.

        Raises:
            InvalidRequest: names the field that is wrong.
        """
        first, last = days(expiry.isoformat() if isinstance(expiry, date) else expiry)
        with self.database.read() as connection:
            return kept_instruments(
                connection,
                query=query and query.strip().upper(),
                asset_class=asset_class and asset_class.strip().lower(),
                brokers=brokers,
                first=first,
                last=last,
                limit=limit,
            )


def _found(row: FetchRow) -> FoundInstruments:
    told = row["result"]
    return FoundInstruments(from_json(list[InstrumentReport], told["instruments"]), more=bool(told["more"]))
