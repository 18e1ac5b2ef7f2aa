"""The two REST clients of one Alpaca account, trading and market data, made of alpaca-trade-api.

The SDK signs and addresses the requests. Its repeats are switched off, because it would repeat POST /orders after a 504
(docs/facts/alpaca.md#1.1, #1.2), and its session is ours, because it has no timeouts and cannot tell when a first byte
leaves.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests
import structlog

from models.errors import AccessLost, BrokerError, ConfigurationError, NotConnected
from models.settings import BrokerSettings
from worker.brokers.address import address, judge
from worker.brokers.alpaca.codes import Forbidden, KeysRefused, refusal
from worker.brokers.rest.http import CONNECT_S, READ_S, Exchange, Wire, classify, exchange, passing, patiently
from worker.brokers.rest.reading import Readings
from worker.pacing.budget import ALL, SHARES, Budget, Limits, Use, using
from worker.pacing.window import Rate, location, rate_from

T = TypeVar("T")
_log = structlog.get_logger(__name__)
PAPER_URL = "https://paper-api.alpaca.markets"
DATA_URL = "https://data.alpaca.markets"
#: Hosts by what is behind them: real money, simulated money, and prices (docs.alpaca.markets/docs/paper-trading and
#: .../docs/about-market-data-api).
LIVE_HOSTS = frozenset({"api.alpaca.markets"})
PAPER_HOSTS = frozenset({"paper-api.alpaca.markets"})
DATA_HOSTS = frozenset({"data.alpaca.markets", "data.sandbox.alpaca.markets"})
READ_WITHIN_S = CONNECT_S + READ_S
#: Requests per minute and account; Alpaca answers 429 above 200 (docs/facts/alpaca.md#3.5).
PER_MINUTE = 190
#: Seconds between looks at the account because prices were refused.
LOOK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where an account is and how to enter it."""

    base_url: str
    data_url: str
    key_id: str = field(repr=False)
    secret_key: str = field(repr=False)


def access_from(name: str, settings: BrokerSettings) -> Access:
    """Read the settings without touching the network.

    Raises:
        ConfigurationError: keys are missing, or a URL must not be given keys, or none without live = true.
    """
    base_url = _root(name, "base_url", settings, PAPER_URL, PAPER_HOSTS)
    return Access(
        base_url=base_url,
        data_url=_root(name, "data_url", settings, DATA_URL, DATA_HOSTS),
        key_id=settings.get("key_id") or os.environ.get("APCA_API_KEY_ID") or settings.need("key_id", name),
        secret_key=settings.get("secret_key")
        or os.environ.get("APCA_API_SECRET_KEY")
        or settings.need("secret_key", name),
    )


def rates(name: str, settings: BrokerSettings) -> tuple[Rate | None, Rate | None]:
    """Read the budgets of trading and of market data; None is no limit.

    Raises:
        ConfigurationError: one of them is no number above 0.
    """
    keys = {"requests_per_minute": "base_url", "data_requests_per_minute": "data_url"}
    trading, data = (
        rate_from(name, settings, key, PER_MINUTE, is_theirs=_is_theirs(settings.get(url))) for key, url in keys.items()
    )
    return trading, data


def budgets(limits: Limits, name: str, settings: BrokerSettings, access: Access) -> tuple[Budget | None, Budget | None]:
    """Return the budgets of trading and of market data: Alpaca counts them apart, a host of both counts as one."""

    def at(url: str, rate: Rate | None, shares: Mapping[Use, float]) -> Budget | None:
        return limits.budget(name, "alpaca", f"{location(url)} {access.key_id}", rate, shares) if rate else None

    rate, data_rate = rates(name, settings)
    trading = at(access.base_url, rate, SHARES)
    if location(access.data_url) == location(access.base_url):
        return trading, trading
    return trading, at(access.data_url, data_rate, ALL)


def _is_theirs(url: str | None) -> bool:
    """Tell whether a URL leads to a host of Alpaca's own, as the defaults do."""
    return url is None or address("", "", url).host.endswith(".alpaca.markets")


def _root(broker: str, key: str, settings: BrokerSettings, usual: str, harmless: frozenset[str]) -> str:
    """Return a URL that may be used, without trailing slash and without the /v2 that the SDK adds."""
    given = settings.get(key) or usual
    found = judge(broker, key, given, live=settings.live, real=LIVE_HOSTS, simulated=harmless)
    return found.url.removesuffix("/v2").rstrip("/")


class AlpacaRest(Readings):
    """One base URL of one account; every exception that leaves it is corro's.

    Args:
        broker: name from the settings.
        base_url: without /v2.
        access: the keys.
        on_down: called when a connection could not even be opened.
        budget: every request pays from it.
        account: the client that reads the account, where this one reads prices: prices that are refused while the
            account answers are no more than that. None: the account is behind this one.
        on_answer: called when a question was answered.
    """

    def __init__(
        self,
        broker: str,
        base_url: str,
        access: Access,
        on_down: Callable[[], None],
        budget: Budget | None = None,
        *,
        account: AlpacaRest | None = None,
        on_answer: Callable[[], None] = passing,
    ) -> None:
        self._broker, self._on_down, self._wire = broker, on_down, Wire()
        self._wire.budget = budget
        self._account, self._on_answer = account, on_answer
        self._looked_at = -math.inf
        self._api: Any = _sdk(broker, base_url, access, self._wire)

    def close(self) -> None:
        """Close idle connections."""
        self._wire.close()

    def post(self, path: str, body: Mapping[str, Any], deadline_s: float, gate: Callable[[], None]) -> Any:
        """Send once; NotSent, Refused or OutcomeUnknown if it fails."""
        return self._once(lambda: self._api.post(path, body), deadline_s, gate)

    def patch(self, path: str, body: Mapping[str, Any], deadline_s: float, gate: Callable[[], None]) -> Any:
        """Send once; NotSent, Refused or OutcomeUnknown if it fails."""
        return self._once(lambda: self._api.patch(path, body), deadline_s, gate)

    def delete(self, path: str, deadline_s: float) -> None:
        """Send once; NotSent, Refused or OutcomeUnknown if it fails."""
        self._once(lambda: self._api.delete(path), deadline_s, passing)

    def _get(self, path: str, query: Mapping[str, Any] | None) -> Any:
        return patiently(lambda: self._once(lambda: self._api.get(path, query), READ_WITHIN_S, passing))

    def _once(self, call: Callable[[], T], deadline_s: float, gate: Callable[[], None]) -> T:
        with exchange(deadline_s, gate) as watched:
            try:
                answer = call()
            except Exception as error:
                raise self._failure(error, watched) from error
        self._on_answer()
        return answer

    def _failure(self, error: Exception, watched: Exchange) -> BrokerError:
        response = getattr(error, "response", None)
        if isinstance(response, requests.Response) and response.status_code >= 400:
            found = refusal(response, self._broker)
            if self._is_lost(found):
                (self._account or self)._on_down()  # whoever asked: not every thread has somebody who hears it
                return AccessLost(str(found), broker=self._broker, code=found.code)
            return found
        found = classify(error, watched, self._broker)
        if isinstance(found, NotConnected):
            self._on_down()
        return found

    def _is_lost(self, found: BrokerError) -> bool:
        """Tell a refusal of everything from one of a single order, or of prices."""
        if self._account is not None:
            return isinstance(found, (KeysRefused, Forbidden)) and self._account.shuts_out_prices(found)
        return isinstance(found, KeysRefused) or (isinstance(found, Forbidden) and self._refused_account() is not None)

    def shuts_out_prices(self, found: BrokerError) -> bool:
        """Tell whether prices are refused because everything is.

        Prices alone are refused with 403 for a subscription that the account has not (recent SIP data), again and
        again: the account is then looked at now and then.
        """
        now = time.monotonic()
        if isinstance(found, Forbidden) and now - self._looked_at < LOOK_EVERY_S:
            return False
        self._looked_at = now
        response = getattr(self._refused_account(), "response", None)
        return isinstance(response, requests.Response) and response.status_code in (401, 403)

    def _refused_account(self) -> Exception | None:
        """Ask for the account: whoever may not even read it is shut out of everything, and not of one order."""
        try:
            with using(Use.URGENT), exchange(READ_WITHIN_S):
                self._api.get("/account")
        except Exception as error:
            _log.warning("account_refused", broker=self._broker, error=str(error)[:300])
            return error
        return None


def _sdk(broker: str, base_url: str, access: Access, wire: Wire) -> Any:
    from alpaca_trade_api.rest import REST

    try:
        api = REST(access.key_id, access.secret_key, base_url, api_version="v2", raw_data=True)
    except ValueError as error:  # the SDK reads APCA_RETRY_* as numbers
        raise ConfigurationError(f"brokers.{broker}: {error}") from error
    # Never repeat a send, never hang, and never let APCA_API_OAUTH_TOKEN replace the configured keys.
    api._retry, api._retry_codes, api._oauth = 0, [], None
    api._session.close()
    api._session = wire
    return api
