"""Where an Alpaca account is, how to enter it, and how often it may be asked: the adapter's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.secret_files import variable
from models.settings import BrokerSettings
from worker.brokers.address import address, judge
from worker.pacing.budget import ALL, SHARES, Budget, Limits, Use
from worker.pacing.window import Rate, location, rate_from

PAPER_URL = "https://paper-api.alpaca.markets"
DATA_URL = "https://data.alpaca.markets"
#: Hosts by what is behind them: real money, simulated money, and prices (docs.alpaca.markets/docs/paper-trading and
#: .../docs/about-market-data-api).
LIVE_HOSTS = frozenset({"api.alpaca.markets"})
PAPER_HOSTS = frozenset({"paper-api.alpaca.markets"})
DATA_HOSTS = frozenset({"data.alpaca.markets", "data.sandbox.alpaca.markets"})
#: Requests per minute and account; Alpaca answers 429 above 200 (docs/facts/alpaca.md#3.5).
PER_MINUTE = 190


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
        key_id=settings.get("key_id") or variable("APCA_API_KEY_ID") or settings.need("key_id", name),
        secret_key=settings.get("secret_key") or variable("APCA_API_SECRET_KEY") or settings.need("secret_key", name),
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
