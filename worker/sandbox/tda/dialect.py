"""What tells TD Ameritrade v1 and Schwab's Trader API apart: paths, words and error bodies. Data, no behaviour.

The rest of the two protocols is the same (docs/facts/schwab.md#1.5, docs/facts/tda.md#1.2).
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from worker.sandbox.http_door import Refusal
from worker.sandbox.market.listed import listed

Json = dict[str, Any]

#: Wire order type to the market's order type and, where the name says so, its time in force.
ORDER_TYPES: dict[str, tuple[str, str | None]] = {
    "MARKET": ("market", None),
    "LIMIT": ("limit", None),
    "STOP": ("stop", None),
    "STOP_LIMIT": ("stop_limit", None),
    "TRAILING_STOP": ("trailing_stop", None),
    "MARKET_ON_CLOSE": ("market", "cls"),
    "LIMIT_ON_CLOSE": ("limit", "cls"),
}
INSTRUCTIONS = {"BUY": "buy", "SELL": "sell", "SELL_SHORT": "sell_short", "BUY_TO_COVER": "buy_to_cover"}
#: Options have instructions of their own.
OPTION_INSTRUCTIONS = {
    "BUY_TO_OPEN": "buy",
    "SELL_TO_CLOSE": "sell",
    "SELL_TO_OPEN": "sell_short",
    "BUY_TO_CLOSE": "buy_to_cover",
}
#: TDA's name of an option: root, month and day, year, right, strike.
_UNDERLINED = re.compile(r"([A-Z0-9]{1,6})_([0-9]{4})([0-9]{2})([CP])([0-9]+(?:\.[0-9]{1,3})?)")
SESSIONS = ("NORMAL", "AM", "PM", "SEAMLESS")
LINK_BASES = ("MANUAL", "BASE", "TRIGGER", "LAST", "BID", "ASK", "ASK_BID", "MARK", "AVERAGE")
FUNDS = frozenset({"SPY", "QQQ", "IWM", "DIA", "VTI", "VOO", "EFA", "EEM", "TLT", "IEF", "AGG", "GLD", "SLV"})
FUNDS |= {"XLF", "XLK", "XLE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorDialect:
    """One of the two protocols."""

    name: str
    token_path: str
    trader: str
    data: str
    #: What the real service puts in front of `trader` in a Location header.
    literal_host: str
    account: str
    account_key: str
    refresh_lifetime_s: int
    durations: dict[str, str]
    order_types: frozenset[str]
    #: The asset type of a fund in orders and positions.
    fund_type: str
    #: Status of an order that was received and is not working yet.
    received: str
    #: Status of a stop that was not reached yet.
    waiting: str
    tag: str
    #: What stands before a class of shares: BRK.B or BRK/B.
    share_class: str
    list_window_required: bool
    max_window_days: int

    def theirs(self, symbol: str) -> str:
        """Return the dialect's spelling of a market symbol: options have blanks or an underline."""
        thing = listed(symbol)
        if thing is not None and thing.day is not None and thing.kind == "option":
            if self.name == "schwab":
                return f"{thing.root:<6}{symbol[len(thing.root) :]}"
            return f"{thing.root}_{thing.day:%m%d%y}{thing.right}{thing.strike.normalize():f}"
        return symbol.replace(".", self.share_class)

    def ours(self, symbol: str) -> str:
        """Return the market's spelling of a symbol; BRK.B is taken everywhere."""
        found = _UNDERLINED.fullmatch(symbol)
        if found is not None and self.name == "tda":
            root, day, year, right, strike = found.groups()
            return f"{root}{year}{day}{right}{int(Decimal(strike) * 1000):08d}"
        if len(symbol) == 21 and self.name == "schwab":
            return symbol.replace(" ", "")
        return symbol.replace(self.share_class, ".")

    def no(self, status: int, text: str, *errors: str) -> Refusal:
        """Return a refusal of the trading API in this dialect's words."""
        if self.name == "tda":
            return Refusal(status, {"error": errors[0] if errors else text})
        return Refusal(status, {"message": text, "errors": list(errors)}, correlation())

    def invalid(self, *errors: str) -> Refusal:
        """Return the refusal of an order that does not pass validation."""
        return self.no(400, "A validation error occurred while processing the request.", *errors)

    def no_word(self, name: str, value: object) -> Refusal:
        """Return the refusal of a word that is none of a list; of Schwab a message without errors was recorded."""
        if self.name == "schwab" and isinstance(value, str):
            return Refusal(400, {"message": f"Invalid value '{value}'"}, correlation())
        return self.invalid(f"{name} is not valid, was {value!r}")

    def no_data(self, status: int, title: str, detail: str) -> Refusal:
        """Return a refusal of the market data API in this dialect's words."""
        if self.name == "tda":
            return Refusal(status, {"error": detail})
        error = {"id": str(uuid.uuid4()), "status": str(status), "title": title, "detail": detail}
        return Refusal(status, {"errors": [error]}, correlation())


def correlation() -> dict[str, str]:
    """Return the header that Schwab's support asks for; nothing can be looked up by it."""
    return {"Schwab-Client-CorrelId": str(uuid.uuid4())}


_DURATIONS = {"DAY": "day", "GOOD_TILL_CANCEL": "gtc", "FILL_OR_KILL": "fok"}
TDA = DoorDialect(
    name="tda",
    token_path="/v1/oauth2/token",  # noqa: S106 - a path
    trader="/v1",
    data="/v1/marketdata",
    literal_host="https://api.tdameritrade.com",
    account="123456789",
    account_key="accountId",
    refresh_lifetime_s=7_776_000,
    durations=_DURATIONS,
    order_types=frozenset(ORDER_TYPES) - {"LIMIT_ON_CLOSE"},
    fund_type="EQUITY",
    received="QUEUED",
    waiting="WORKING",
    tag="API_TDAM:corro",
    share_class=".",
    list_window_required=False,
    max_window_days=60,
)
SCHWAB = DoorDialect(
    name="schwab",
    token_path="/v1/oauth/token",  # noqa: S106 - a path
    trader="/trader/v1",
    data="/marketdata/v1",
    literal_host="https://api.schwabapi.com",
    account="12345678",
    account_key="accountNumber",
    refresh_lifetime_s=604_800,
    durations=_DURATIONS,  # recorded: the other words of the specification are refused
    order_types=frozenset(ORDER_TYPES),
    fund_type="COLLECTIVE_INVESTMENT",
    received="PENDING_ACKNOWLEDGEMENT",
    waiting="AWAITING_STOP_CONDITION",
    tag="API_TOS:corro",
    share_class="/",
    list_window_required=True,
    max_window_days=366,
)
DIALECTS = {dialect.name: dialect for dialect in (TDA, SCHWAB)}
