"""How an account at TDA or Schwab is entered: its settings, its budget, its tokens, and its name in paths."""

from __future__ import annotations

from models.errors import ConfigurationError
from models.settings import BrokerSettings
from models.troubles import trouble
from worker.brokers.address import judge
from worker.brokers.oddities import Oddities
from worker.brokers.tda.account import account_number
from worker.brokers.tda.dialects import TdaDialect
from worker.brokers.tda.rest import PER_MINUTE, TdaRest
from worker.brokers.tda.tokens import TokenKeeper, token_path
from worker.brokers.values import UNREADABLE, Raw
from worker.pacing.budget import Budget, Limits
from worker.pacing.window import location, rate_from


def check_access(name: str, settings: BrokerSettings, dialect: TdaDialect) -> None:
    """Check the settings without touching the network.

    Raises:
        ConfigurationError: a key is missing, or base_url must not be given any, or none without live = true.
    """
    url = settings.get("base_url") or dialect.default_url
    try:
        judge(name, "base_url", url, live=settings.live, real={dialect.live_host}, simulated=())
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} ({dialect.retired})" if dialect.retired else str(error)) from None
    for key in ("api_key", "refresh_token", *(["app_secret"] if dialect.uses_secret else [])):
        settings.need(key, name)
    rate_from(name, settings, "requests_per_minute", PER_MINUTE)
    polled_every(name, settings)


def polled_every(name: str, settings: BrokerSettings) -> float:
    """Return the seconds between two listings of orders.

    Raises:
        ConfigurationError: it is no such number.
    """
    try:
        return settings.number("poll_s", 1, 0.01, 600)
    except ValueError as error:
        raise ConfigurationError(f"brokers.{name}: {error}") from None


class TdaAccess:
    """The way into one account.

    Args:
        broker: name from the settings.
        settings: of this broker.
        dialect: of its protocol.
        rest: the way there.
        odd: is told of accounts that cannot be read.
    """

    def __init__(
        self, broker: str, settings: BrokerSettings, dialect: TdaDialect, rest: TdaRest, odd: Oddities
    ) -> None:
        self._broker, self._settings, self._dialect, self._rest, self._odd = broker, settings, dialect, rest, odd

    def budget(self, limits: Limits) -> Budget | None:
        """Return the budget that every request pays from; None is no limit."""
        get, is_theirs = self._settings.get, self._dialect.live_host in self._rest.root
        rate = rate_from(self._broker, self._settings, "requests_per_minute", PER_MINUTE, is_theirs=is_theirs)
        payer = f"{location(self._rest.root)} {get('api_key')} {get('account_id') or ''}"
        return limits.budget(self._broker, self._dialect.name, payer, rate) if rate else None

    def keeper(self) -> TokenKeeper:
        """Return the keeper of the tokens that these settings buy.

        Raises:
            ConfigurationError: a key is missing.
        """
        settings, dialect = self._settings, self._dialect
        client = settings.need("api_key", self._broker).removesuffix(dialect.client_suffix)
        basic = (client, settings.need("app_secret", self._broker)) if dialect.uses_secret else None

        def grant(refresh_token: str) -> Raw:
            form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
            if not basic:
                form["client_id"] = client + dialect.client_suffix
            return self._rest.buy_token(dialect.token_path, form, basic)

        return TokenKeeper(
            self._broker,
            token_path(self._broker, settings.get("token_path"), settings.get("home")),
            settings.need("refresh_token", self._broker),
            grant,
            refresh_lifetime_s=dialect.refresh_lifetime_s,
        )

    def find_account(self) -> str:
        """Return the account's name in paths: its number, or Schwab's hash of it.

        Raises:
            ConfigurationError: these tokens do not open the account, or several without saying which.
            BrokerError: the accounts could not be read.
        """
        wanted = str(self._settings.get("account_id") or "")
        if wanted and not self._dialect.hashed_accounts:
            return wanted
        known, count = self._accounts()
        self._rest.veil.hide_account(*known, *known.values())
        if wanted and (wanted in known or wanted in known.values()):
            return known.get(wanted, wanted)
        if wanted or len(known) != 1 or count != 1:
            words = f"is {wanted or 'missing'}, and these tokens open {count} accounts"
            raise ConfigurationError(self._rest.veil.clean(f"brokers.{self._broker}.account_id {words}"))
        return next(iter(known.values()))

    def _accounts(self) -> tuple[dict[str, str], int]:
        """Return account number -> its name in paths, and how many accounts there are: some may be unreadable."""
        trader, key, is_hashed = self._dialect.trader, self._dialect.account_key, self._dialect.hashed_accounts
        rows = self._rest.read(f"{trader}/accounts{'/accountNumbers' if is_hashed else ''}", None, list)
        found: dict[str, str] = {}
        for place, row in enumerate(rows, 1):
            try:
                if is_hashed:
                    found[account_number(row, "accountNumber")] = account_number(row, "hashValue")
                else:
                    number = account_number(row["securitiesAccount"], key)
                    found[number] = number
            except UNREADABLE as error:
                self._odd.note(f"account {place} of {len(rows)}", trouble(error))
        return found, len(rows)
