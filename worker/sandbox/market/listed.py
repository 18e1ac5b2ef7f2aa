"""What trades here besides shares: options on them, futures, pairs of currencies, coins, shares listed elsewhere.

Names are those that people write: `AAPL261218C00200000`, `ESZ26@CME`, `EUR/USD`, `BTC/USD`, `SHOP@TSE`. Prices are
seeded like those of shares; an option is worth what it would bring now and a little more. Money is never converted: an
account adds up amounts whatever their currency.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal

Kind = Literal["option", "future", "forex", "crypto", "abroad"]
_OPTION = re.compile(r"([A-Z0-9]{1,6})([0-9]{6})([CP])([0-9]{8})")
_FUTURE = re.compile(r"([A-Z0-9]{1,6}?)([FGHJKMNQUVXZ])([0-9]{2})@([A-Z]+)")
#: Root -> exchange, units of a contract, price, and how many parts of a dollar prices are in.
FUTURES: dict[str, tuple[str, int, str, int]] = {
    "ES": ("CME", 50, "6000", 1), "MES": ("CME", 5, "6000", 1), "NQ": ("CME", 20, "21000", 1),
    "CL": ("NYMEX", 1000, "70", 1), "GC": ("COMEX", 100, "2650", 1), "ZC": ("CBOT", 5000, "450", 100),
}  # fmt: skip
COINS = {"BTC/USD": "90000", "ETH/USD": "3200", "LTC/USD": "95", "DOGE/USD": "0.35"}
MONEY = {"EUR/USD": "1.0850", "GBP/USD": "1.2700", "AUD/USD": "0.6600", "USD/JPY": "151.20"}
#: Currency, price, and how many parts of the currency prices are in: London's are in pence.
ABROAD: dict[str, tuple[str, str, int]] = {
    "SHOP@TSE": ("CAD", "150", 1), "RY@TSE": ("CAD", "172", 1), "BMW@IBIS": ("EUR", "74", 1),
    "VOD@LSE": ("GBP", "72", 100),
}  # fmt: skip
#: What an option is worth beyond its own value, a share of the underlying's price.
_TIME_VALUE = Decimal("0.02")
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class ListedThing:
    """One thing that trades here.

    Args:
        kind: what it is.
        root: share under an option, root of a future, base of a pair, ticker abroad.
        currency: of its prices.
        units: of one contract.
        parts: how many parts of the currency its prices are in.
        price: that its walk keeps returning to; None of an option.
        exchange: where it is listed.
        day: expiry of an option; of a future the third Friday of its month.
        right, strike: of an option.
        month: letter and year of a future.
    """

    kind: Kind
    root: str
    currency: str = "USD"
    units: int = 1
    parts: int = 1
    price: Decimal | None = None
    exchange: str = ""
    day: date | None = None
    right: str = ""
    strike: Decimal = Decimal(0)
    month: str = ""

    @property
    def multiplier(self) -> Decimal:
        """Money per unit and unit of price."""
        return Decimal(self.units) / self.parts

    @property
    def places(self) -> int:
        """Decimals that its prices have beyond those of dollars and cents."""
        return 2 if self.price is not None and self.price < 5 else 0


@lru_cache(maxsize=4096)
def listed(symbol: str) -> ListedThing | None:
    """Return what a name means; None where it is a share, or nothing."""
    if symbol in COINS:
        return ListedThing("crypto", symbol.partition("/")[0], price=Decimal(COINS[symbol]))
    if symbol in MONEY:
        base, _, quote = symbol.partition("/")
        return ListedThing("forex", base, quote, price=Decimal(MONEY[symbol]))
    if symbol in ABROAD:
        currency, price, parts = ABROAD[symbol]
        ticker, _, exchange = symbol.partition("@")
        return ListedThing("abroad", ticker, currency, parts=parts, price=Decimal(price), exchange=exchange)
    return _option(symbol) or _future(symbol)


def _option(symbol: str) -> ListedThing | None:
    found = _OPTION.fullmatch(symbol)
    if found is None:
        return None
    root, day, right, strike = found.groups()
    try:
        expiry = date(2000 + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError:
        return None
    return ListedThing(
        "option", root, units=100, exchange="SMART", day=expiry, right=right, strike=Decimal(strike) / 1000
    )


def _future(symbol: str) -> ListedThing | None:
    found = _FUTURE.fullmatch(symbol)
    if found is None or FUTURES.get(found[1], ("",))[0] != found[4]:
        return None
    exchange, units, price, parts = FUTURES[found[1]]
    year, month = 2000 + int(found[3]), "FGHJKMNQUVXZ".index(found[2]) + 1
    friday = 15 + (4 - date(year, month, 15).weekday()) % 7
    return ListedThing(
        "future", found[1], units=units, parts=parts, price=Decimal(price), exchange=exchange,
        day=date(year, month, friday), month=found[2] + found[3],
    )  # fmt: skip


def is_over(thing: ListedThing) -> bool:
    """Tell whether it has expired."""
    return thing.day is not None and thing.day < datetime.now(UTC).date()


def option_price(thing: ListedThing, share: Decimal) -> Decimal:
    """Return what an option trades at while its share is at a price: at least two cents."""
    gain = share - thing.strike if thing.right == "C" else thing.strike - share
    near = max(1 - abs(gain) / share, Decimal(0))
    return max((max(gain, Decimal(0)) + share * _TIME_VALUE * near).quantize(_CENT), 2 * _CENT)


def has_any_sign(symbol: str) -> bool:
    """Tell whether a price may be 0 or less, as of futures."""
    thing = listed(symbol)
    return thing is not None and thing.kind == "future"


def has_hours(symbol: str) -> bool:
    """Tell whether it trades at some hours only: coins trade always."""
    thing = listed(symbol)
    return thing is None or thing.kind != "crypto"


def multiplier(symbol: str) -> Decimal:
    """Return money per unit and unit of price: 1 of shares."""
    thing = listed(symbol)
    return Decimal(1) if thing is None else thing.multiplier
