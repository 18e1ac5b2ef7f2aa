"""Where a TWS or Gateway is, as whom corro speaks to it, and whether its money is real: the adapter's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from models.errors import ConfigurationError
from models.settings import BrokerSettings
from worker.brokers.address import real_money
from worker.brokers.ibkr.accounts import TradedAccounts, traded_accounts
from worker.brokers.ibkr.pacing import PER_10_MINUTES

#: TWS and Gateway listen here for real money (docs/facts/ibkr.md#1.9).
LIVE_PORTS = frozenset({7496, 4001})
#: Seconds that somebody may wait for an answer.
_TIMEOUTS = (0.01, 600)
#: TWS reads client ids as 32 bits; `corro check` adds 100 to ours.
_LAST_CLIENT_ID = 2_000_000_000
#: Whether listings that miss an order may prove that it is not there: never, or (at the user's own risk) they do.
ABSENCE = ("never", "listings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The adapter's settings, read once.

    Args:
        broker: name of the broker in the settings, for messages.
        host, port, client_id: where TWS or Gateway listens, and as whom we speak; one live socket per client id.
        account: required only if the login manages several: a number; or the name of the usual one of `accounts`.
        accounts: several that are traded: name -> number.
        connect_options: sent with the first frame, as `+PACEAPI`; the sandbox's name where it is meant.
        live: real money is meant.
        sdk: ib_insync or ib_async; None takes what is installed.
        timezone: zone of execution times that carry none; set TWS to send its instrument zone, or to UTC.
        connect_timeout_s: for the TCP connect and again for the handshake.
        request_timeout_s: for every single read.
        messages_per_s: of all workers at this TWS; it disconnects above 50.
        history_per_10_minutes: requests for bars of all workers at this TWS; 0 is no limit.
        heartbeat_s: pause between probes of a silent socket; three silent ones end it.
        delayed_quotes: ask for delayed quotes where live ones are not subscribed.
    """

    broker: str
    host: str
    port: int
    client_id: int
    account: str
    accounts: Mapping[str, str]
    connect_options: str
    live: bool
    sdk: str | None
    timezone: tzinfo
    connect_timeout_s: float
    request_timeout_s: float
    messages_per_s: int
    history_per_10_minutes: int
    heartbeat_s: float
    delayed_quotes: bool

    @classmethod
    def read(cls, broker: str, settings: BrokerSettings) -> Options:
        """Read and check the settings.

        Raises:
            ConfigurationError: names the setting; also for a live port without live = true.
        """
        get = settings.get
        try:
            options = cls(
                broker=broker,
                host=str(get("host", "127.0.0.1")),
                port=settings.whole("port", 7497, 1, 65_535),
                client_id=settings.whole("client_id", 1, 0, _LAST_CLIENT_ID),
                account=str(get("account") or ""),
                accounts=settings.accounts,
                connect_options=str(get("connect_options") or ""),
                live=settings.live,
                sdk=get("sdk"),
                timezone=ZoneInfo(str(get("timezone", "UTC"))),
                connect_timeout_s=settings.number("connect_timeout", 20, *_TIMEOUTS),
                request_timeout_s=settings.number("request_timeout", 10, *_TIMEOUTS),
                messages_per_s=settings.whole("messages_per_second", 45, 1, 1000),
                history_per_10_minutes=settings.whole("history_per_10_minutes", PER_10_MINUTES, 0, 100_000),
                heartbeat_s=max(settings.number("heartbeat", 5, 0, 600), 0.05),
                delayed_quotes=str(get("delayed_quotes", False)).lower() in ("1", "true", "yes"),
            )
        except (ValueError, ZoneInfoNotFoundError) as error:
            raise ConfigurationError(f"brokers.{broker}: {error}") from None
        if get("absence", "never") not in ABSENCE:
            words = f"absence must be one of {', '.join(ABSENCE)}, was {get('absence')!r}"
            raise ConfigurationError(f"brokers.{broker}: {words}")
        if options.accounts and options.account and settings.usual_account is None:
            raise ConfigurationError(f"brokers.{broker}.account: must be one of {', '.join(sorted(options.accounts))}")
        if options.port in LIVE_PORTS and not options.live:
            raise real_money(f"brokers.{broker}.port", f"the live port {options.port}", "7497 and 4002 are paper")
        return options

    def check_accounts(self, managed: list[str]) -> TradedAccounts:
        """Return the accounts to trade, or raise ConfigurationError if that is not clear or not allowed."""
        return traded_accounts(self.broker, managed, self.account, self.accounts, live=self.live)

    @property
    def where(self) -> str:
        """The connection in words."""
        return f"{self.host}:{self.port} (client id {self.client_id})"
