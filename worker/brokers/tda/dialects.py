"""TD Ameritrade v1 and Schwab's Trader API side by side: their differences as data.

TD Ameritrade retired its API in May 2024; its dialect lives on for the sandbox and for strategies that move to `schwab`
(docs/facts/schwab.md#1.5, docs/facts/tda.md#1.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from models.instruments import Instrument, read_instrument, told_class
from models.vocabulary import AssetClass, OrderType, TimeInForce
from worker.brokers.tda.options import underlined, with_blanks


@dataclass(frozen=True, slots=True, kw_only=True)
class TdaDialect:
    """One of the two protocols.

    Args:
        name: for messages.
        default_url, live_host: where the real service is.
        endings: what a base_url may end with besides its root.
        token_path, trader, market: paths under the root.
        account_key: where an account says its number.
        hashed_accounts: paths take a hash instead of the account's number.
        client_suffix: completes the api_key as OAuth client id.
        uses_secret: the token endpoint wants key and secret.
        refresh_lifetime_s: life of a refresh token that refreshing does not renew; 0 if the answer tells.
        durations: time in force -> word.
        on_close: order type -> its word with time in force cls.
        time_format, time_slack: how listings take times, and how far to widen them for what the format leaves out.
        longest_window: widest time window of a listing.
        lookback: how old an order may be to be listed.
        share_class: how a class of shares is written after the symbol: BRK.B or BRK/B.
        option: writes the name of an option.
        instruments: path of the look-up of shares.
        history: path of the candles; `{symbol}` where it takes the symbol in the path.
        previews: it tells what an order would cost.
        retired: what the operator should know, if the service is gone; else empty.
    """

    name: str
    default_url: str
    live_host: str
    endings: tuple[str, ...]
    token_path: str
    trader: str
    market: str
    account_key: str
    hashed_accounts: bool
    client_suffix: str
    uses_secret: bool
    refresh_lifetime_s: float
    durations: Mapping[TimeInForce, str]
    on_close: Mapping[OrderType, str]
    time_format: str
    time_slack: timedelta
    longest_window: timedelta
    lookback: timedelta
    instruments: str
    history: str
    option: Callable[[Instrument], str]
    share_class: str = "."
    previews: bool = False
    retired: str = ""

    @property
    def times_in_force(self) -> frozenset[TimeInForce]:
        """What an order's time_in_force may be."""
        return frozenset(self.durations) | {TimeInForce.CLS}

    def symbol(self, ours: str) -> str:
        """Return the broker's spelling of a symbol; of an option, with its blanks or its underline.

        Unconfirmed: Schwab is said to write share classes with a slash, BRK/B (docs/facts/schwab.md#4.1, from memory;
        several public clients of its API do), yet Lean.Brokerages.CharlesSchwab passes BRK.B through its SymbolMapper.
        """
        if told_class(ours) is AssetClass.OPTION:
            return self.option(read_instrument(ours))
        return _SHARE_CLASS.sub(rf"\1{self.share_class}\2", ours)

    def root(self, url: str) -> str:
        """Return scheme and host of a base_url that may end in one of the service's own prefixes."""
        root = str(url).strip().rstrip("/")
        for ending in self.endings:
            if root.endswith(ending):
                return root.removesuffix(ending)
        return root

    def window(self, start: datetime, end: datetime) -> dict[str, str]:
        """Return the query of a listing of orders entered in a window; it may list more, never less."""
        first, last = start - self.time_slack, end + self.time_slack
        return {
            "fromEnteredTime": first.astimezone(UTC).strftime(self.time_format),
            "toEnteredTime": last.astimezone(UTC).strftime(self.time_format),
        }


_SHARE_CLASS = re.compile(r"^([A-Z]{1,5})\.([A-Z]{1,2})$")
_DURATIONS = {
    TimeInForce.DAY: "DAY",
    TimeInForce.GTC: "GOOD_TILL_CANCEL",
    TimeInForce.FOK: "FILL_OR_KILL",
}
TDA = TdaDialect(
    name="tda",
    default_url="https://api.tdameritrade.com/v1",
    live_host="api.tdameritrade.com",
    endings=("/v1",),
    token_path="/v1/oauth2/token",  # noqa: S106  # a path
    trader="/v1",
    market="/v1/marketdata",
    account_key="accountId",
    hashed_accounts=False,
    client_suffix="@AMER.OAUTHAP",
    uses_secret=False,
    refresh_lifetime_s=0,
    durations=_DURATIONS,
    on_close={OrderType.MARKET: "MARKET_ON_CLOSE"},
    time_format="%Y-%m-%d",
    time_slack=timedelta(days=1),
    longest_window=timedelta(days=58),
    lookback=timedelta(days=58),  # fromEnteredTime must be within sixty days of today; `time_slack` takes one of them
    instruments="/v1/instruments",
    history="/{symbol}/pricehistory",
    option=underlined,
    retired="TD Ameritrade retired this API in May 2024; use the adapter 'schwab'",
)
SCHWAB = TdaDialect(
    name="schwab",
    default_url="https://api.schwabapi.com",
    live_host="api.schwabapi.com",
    endings=("/trader/v1", "/marketdata/v1", "/v1"),
    token_path="/v1/oauth/token",  # noqa: S106  # a path
    trader="/trader/v1",
    market="/marketdata/v1",
    account_key="accountNumber",
    hashed_accounts=True,
    client_suffix="",
    uses_secret=True,
    refresh_lifetime_s=604_800,
    durations=_DURATIONS | {TimeInForce.GTD: "GOOD_TILL_CANCEL"},  # others are refused (docs/facts/schwab.md#2.11)
    on_close={OrderType.MARKET: "MARKET_ON_CLOSE", OrderType.LIMIT: "LIMIT_ON_CLOSE"},
    time_format="%Y-%m-%dT%H:%M:%S.000Z",
    time_slack=timedelta(seconds=1),
    longest_window=timedelta(days=60),
    lookback=timedelta(days=364),  # an account's orders are listed for a year; a GTC order lives for half of one
    instruments="/marketdata/v1/instruments",
    history="/pricehistory",
    option=with_blanks,
    share_class="/",
    previews=True,
)

#: Period type, frequency type, frequency, and the days one request may span (docs/facts/schwab.md#4.4).
FREQUENCIES: dict[str, tuple[str, str, int, int]] = {
    "1Min": ("day", "minute", 1, 10),
    "5Min": ("day", "minute", 5, 10),
    "15Min": ("day", "minute", 15, 10),
    "30Min": ("day", "minute", 30, 10),
    "1Day": ("year", "daily", 1, 3650),
    "1Week": ("year", "weekly", 1, 3650),
    "1Month": ("year", "monthly", 1, 3650),
}
