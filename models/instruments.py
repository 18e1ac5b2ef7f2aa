"""What is traded: one frozen value with one canonical text, and the rules of its class. Pure.

| class     | text                                       | example               | is                                 |
|-----------|--------------------------------------------|-----------------------|------------------------------------|
| us_equity | ticker, a class of shares behind a dot     | `AAPL`, `BRK.B`       | in USD                             |
| option    | OCC's 21 characters without their blanks   | `AAPL261218C00200000` | in USD, of 100 shares              |
| equity    | ticker@exchange of its primary listing     | `SHOP@TSE`            | in the currency of that listing    |
| future    | root, month, two digits of a year@exchange | `ESZ26@CME`           | in its contract's currency and size |
| forex     | base/quote                                 | `EUR/USD`             | in the quote's currency            |
| crypto    | base/quote                                 | `BTC/USD`             | in the quote's currency            |

The text of a share or an option says its class; a pair may be forex or crypto, and a text with an exchange a share or a
future, so these need `asset_class` beside them. Two texts are never one instrument, whichever broker shows it: adapters
write and read their brokers' own spellings.

What a class does not take is refused at the call (`misfit`). What a broker does not take is its adapter's to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from models.vocabulary import AssetClass, OrderType, Side, TimeInForce

if TYPE_CHECKING:
    from models.messages import OrderRequest

#: Exchanges whose listings are `us_equity`, and carry none: `primaryExchange` as IB writes it
#: (docs/facts/ibkr.md#5.9).
US_LISTINGS = frozenset(
    {
        "NYSE", "NASDAQ", "NASDAQ.NMS", "NASDAQ.SCM", "ISLAND", "ARCA", "AMEX", "BATS", "CHX", "IEX", "LTSE", "NYSENAT",
    }
)  # fmt: skip
#: Letters of the months in which futures expire.
MONTHS = "FGHJKMNQUVXZ"
#: How many shares a listed option is of, unless its contract was adjusted: then its broker says so.
SHARES_PER_OPTION = Decimal(100)
_TICKER = r"[A-Z0-9]+(?:\.[A-Z0-9]+)*"
_EXCHANGE = r"[A-Z0-9]+(?:\.[A-Z0-9]+)*"
_FORMS: Mapping[AssetClass, re.Pattern[str]] = {
    AssetClass.US_EQUITY: re.compile(rf"(?P<underlying>{_TICKER})"),
    AssetClass.OPTION: re.compile(
        r"(?P<underlying>[A-Z0-9]{1,6})(?P<expiry>[0-9]{6})(?P<right>[CP])(?P<strike>[0-9]{8})"
    ),
    AssetClass.EQUITY: re.compile(rf"(?P<underlying>{_TICKER})@(?P<listing>{_EXCHANGE})"),
    AssetClass.FUTURE: re.compile(
        rf"(?P<underlying>[A-Z0-9]{{1,6}}?)(?P<month>[{MONTHS}])(?P<year>[0-9]{{1,2}})@(?P<listing>{_EXCHANGE})"
    ),
    AssetClass.FOREX: re.compile(r"(?P<underlying>[A-Z]{3})/(?P<currency>[A-Z]{3})"),
    AssetClass.CRYPTO: re.compile(r"(?P<underlying>[A-Z0-9]{2,10})/(?P<currency>[A-Z]{3,5})"),
}
_EXAMPLES: Mapping[AssetClass, str] = {
    AssetClass.US_EQUITY: "a ticker such as AAPL or BRK.B",
    AssetClass.OPTION: "an OCC symbol without blanks, such as AAPL261218C00200000",
    AssetClass.EQUITY: "ticker@exchange, such as SHOP@TSE",
    AssetClass.FUTURE: "root, month and year@exchange, such as ESZ26@CME",
    AssetClass.FOREX: "base/quote, such as EUR/USD",
    AssetClass.CRYPTO: "base/quote, such as BTC/USD",
}
#: Currency of a class whose every instrument has the same.
_USD = frozenset({AssetClass.US_EQUITY, AssetClass.OPTION})
_CURRENCY = re.compile(r"[A-Z]{3,5}")
#: Classes that a text alone says.
PLAIN = frozenset({AssetClass.US_EQUITY, AssetClass.OPTION})


@dataclass(frozen=True, slots=True)
class Instrument:
    """One thing that is traded.

    Args:
        symbol: its canonical text.
        asset_class: its class.
        underlying: ticker, root, or base of a pair.
        currency: of its prices; None where only its listing, or contract, tells.
        listing: the exchange behind the @.
        expiry: the last day of an option.
        month: the month in which a future expires, as its first day.
        right: C or P.
        strike: of an option, money per share.
        multiplier: money per unit and unit of price; None where only its contract tells.
    """

    symbol: str
    asset_class: AssetClass
    underlying: str
    currency: str | None = None
    listing: str | None = None
    expiry: date | None = None
    month: date | None = None
    right: str | None = None
    strike: Decimal | None = None
    multiplier: Decimal | None = Decimal(1)

    def __str__(self) -> str:
        """Its canonical text."""
        return self.symbol


def told_class(symbol: str) -> AssetClass | None:
    """Return the class that a text says by itself; None for pairs and for what names an exchange."""
    if "/" in symbol or "@" in symbol:
        return None
    is_option = len(symbol) > 15 and _FORMS[AssetClass.OPTION].fullmatch(symbol)
    return AssetClass.OPTION if is_option else AssetClass.US_EQUITY


def may_be(symbol: str) -> tuple[AssetClass, ...]:
    """Return the classes that a text may be of, the likelier first."""
    told = told_class(symbol)
    if told is not None:
        return (told,)
    is_pair = "/" in symbol
    return (AssetClass.FOREX, AssetClass.CRYPTO) if is_pair else (AssetClass.FUTURE, AssetClass.EQUITY)


def class_of(symbol: str, asset_class: AssetClass | str | None = None) -> AssetClass:
    """Return the class of an instrument: what is said, else what its text says.

    Raises:
        ValueError: nothing says it.
    """
    if asset_class:
        return AssetClass(asset_class)
    told = told_class(symbol)
    if told is None:
        kinds = "forex or crypto" if "/" in symbol else "an equity or a future"
        raise ValueError(f"symbol: asset_class has to say whether it is {kinds}, was {symbol!r}")
    return told


@lru_cache(maxsize=4096)
def read_instrument(
    symbol: str, asset_class: AssetClass | str | None = None, currency: str | None = None
) -> Instrument:
    """Read a canonical text.

    Args:
        symbol: the text, in capitals.
        asset_class: its class; may be left out where the text says it.
        currency: of its prices; may be left out where the class says it, or the listing does.

    Raises:
        ValueError: names the field, what it has to be and what it was.
    """
    kind = class_of(symbol, asset_class)
    found = _FORMS[kind].fullmatch(symbol)
    if found is None or (kind is AssetClass.US_EQUITY and told_class(symbol) is not kind):
        raise ValueError(f"symbol: of asset_class {kind} it is {_EXAMPLES[kind]}, was {symbol!r}")
    parts = found.groupdict()
    if parts.get("listing") in US_LISTINGS and kind is AssetClass.EQUITY:
        raise ValueError(f"symbol: a share listed in the US is {parts['underlying']}, was {symbol!r}")
    instrument = Instrument(
        symbol=symbol,
        asset_class=kind,
        underlying=parts["underlying"],
        currency="USD" if kind in _USD else parts.get("currency"),
        listing=parts.get("listing"),
        expiry=_day(symbol, parts["expiry"]) if kind is AssetClass.OPTION else None,
        month=_month(symbol, parts) if kind is AssetClass.FUTURE else None,
        right=parts.get("right"),
        strike=Decimal(parts["strike"]).scaleb(-3) if kind is AssetClass.OPTION else None,
        multiplier=RULES[kind].multiplier,
    )
    if instrument.strike == 0:
        raise ValueError(f"symbol: a strike is above zero, was 0 in {symbol}")
    if instrument.underlying == instrument.currency:
        raise ValueError(f"symbol: a pair is of two currencies, was {symbol!r}")
    return _in_currency(instrument, currency)


def _in_currency(instrument: Instrument, currency: str | None) -> Instrument:
    """Return an instrument with the currency that somebody gave for it; only a listing has several."""
    if currency is None or currency == instrument.currency:
        return instrument
    if instrument.currency is not None or not _CURRENCY.fullmatch(currency):
        told = instrument.currency or "a code such as CAD"
        raise ValueError(f"currency: of {instrument.symbol} it is {told}, was {currency!r}")
    values = {name: getattr(instrument, name) for name in instrument.__slots__}
    return Instrument(**{**values, "currency": currency})


def _day(symbol: str, digits: str) -> date:
    try:
        return date(2000 + int(digits[:2]), int(digits[2:4]), int(digits[4:]))
    except ValueError:
        raise ValueError(f"symbol: {digits} in {symbol} is no day, as year, month and day") from None


def _month(symbol: str, parts: Mapping[str, str]) -> date:
    if len(parts["year"]) == 1:
        raise ValueError(f"symbol: a year has two digits in {symbol}")
    return date(2000 + int(parts["year"]), MONTHS.index(parts["month"]) + 1, 1)


def told_multiplier(symbol: str) -> Decimal | None:
    """Return money per unit and unit of price, as a text says it; None of a future, whose contract alone tells."""
    if _FORMS[AssetClass.FUTURE].fullmatch(symbol):
        return None
    return SHARES_PER_OPTION if told_class(symbol) is AssetClass.OPTION else Decimal(1)


def told_currency(symbol: str) -> str | None:
    """Return the currency of a symbol's prices, as its text says it; None where only a listing or a contract tells."""
    if "@" in symbol or ":" in symbol:
        return None
    _, is_pair, quoted_in = symbol.partition("/")
    return quoted_in if is_pair else "USD"


def with_full_year(symbol: str, today: date) -> str:
    """Write the year of a future with two digits: one is taken as input, and means the next such year.

    Args:
        symbol: any text; what is no future of one digit comes back as it is.
        today: the month of this day has not expired yet.
    """
    found = _FORMS[AssetClass.FUTURE].fullmatch(symbol)
    if found is None or len(found["year"]) != 1:
        return symbol
    month = MONTHS.index(found["month"]) + 1
    first = today.year if month >= today.month else today.year + 1
    year = next(year for year in range(first, first + 10) if year % 10 == int(found["year"]))
    return f"{found['underlying']}{found['month']}{year % 100:02d}@{found['listing']}"


# -- OTHER SPELLINGS ---
def padded(instrument: Instrument) -> str:
    """Return an option's OCC symbol with the blanks that fill its root up to six characters."""
    return f"{instrument.underlying:<6}{instrument.symbol[len(instrument.underlying) :]}"


def compact(text: str) -> str | None:
    """Return an option's canonical text from an OCC symbol with its blanks; None where it is none."""
    found = text.replace(" ", "")
    return found if told_class(found) is AssetClass.OPTION else None


# -- RULES ---
@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRules:
    """What orders in a class may say, whatever broker takes them.

    Args:
        order_types, times_in_force: that there are.
        usual: the time in force of an order that names none.
        whole: only whole units trade.
        notional: an amount of money may be bought.
        extended_hours: there is a session beside the regular one.
        shorts: may be sold without being held.
        increment: steps of prices that hold for the whole class; None where each contract has its own.
        multiplier: None where each contract has its own.
    """

    order_types: frozenset[OrderType] = frozenset(OrderType)
    times_in_force: frozenset[TimeInForce] = frozenset(TimeInForce)
    usual: TimeInForce = TimeInForce.DAY
    whole: bool = True
    notional: bool = False
    extended_hours: bool = False
    shorts: bool = True
    increment: Decimal | None = None
    multiplier: Decimal | None = Decimal(1)


_CONTINUOUS = frozenset({TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTD})
_NO_TRAILS = frozenset(OrderType) - {OrderType.TRAILING_STOP, OrderType.TRAIL_LIMIT}
RULES: Mapping[AssetClass, ClassRules] = {
    AssetClass.US_EQUITY: ClassRules(whole=False, notional=True, extended_hours=True),
    AssetClass.EQUITY: ClassRules(),
    AssetClass.OPTION: ClassRules(
        order_types=_NO_TRAILS, times_in_force=_CONTINUOUS, increment=Decimal("0.01"), multiplier=SHARES_PER_OPTION
    ),
    AssetClass.FUTURE: ClassRules(times_in_force=_CONTINUOUS, extended_hours=True, multiplier=None),
    AssetClass.FOREX: ClassRules(times_in_force=_CONTINUOUS),
    AssetClass.CRYPTO: ClassRules(
        order_types=frozenset({OrderType.MARKET, OrderType.LIMIT, OrderType.STOP_LIMIT}),
        times_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC}),
        usual=TimeInForce.GTC,
        whole=False,
        notional=True,
        shorts=False,
    ),
}


def misfit(order: OrderRequest, instrument: Instrument, today: date) -> str | None:
    """Return the rule of its class that an order breaks, with the field first; None where it fits.

    Args:
        order: the terms.
        instrument: in which.
        today: the day on which the order was made: what had expired by then is traded no more.
    """
    kind, rules = instrument.asset_class, RULES[instrument.asset_class]
    for name, value, allowed in (
        ("order_type", order.order_type, rules.order_types),
        ("time_in_force", order.time_in_force, rules.times_in_force),
    ):
        if value not in allowed:
            return f"{name}: asset_class {kind} takes {', '.join(sorted(allowed))}, was {str(value)!r}"
    if rules.whole and order.quantity is not None and order.quantity != order.quantity.to_integral_value():
        return f"quantity: asset_class {kind} takes whole units only, was {order.quantity.normalize():f}"
    if order.extended_hours and not rules.extended_hours:
        return f"extended_hours: asset_class {kind} has no extended hours"
    if order.side is Side.SELL_SHORT and not rules.shorts:
        return f"side: asset_class {kind} cannot be sold short, was {order.side}"
    last = instrument.expiry or (instrument.month and _end_of(instrument.month))
    if last is not None and last < today:
        return f"symbol: {instrument.symbol} has expired: its last day is {last}, at the latest"
    return _off_the_steps(order, kind, rules.increment)


def _off_the_steps(order: OrderRequest, kind: AssetClass, step: Decimal | None) -> str | None:
    for name, price in (("limit_price", order.limit_price), ("stop_price", order.stop_price)):
        if step is not None and price is not None and price % step:
            return f"{name}: prices of asset_class {kind} go in steps of {step}, was {price.normalize():f}"
    return None


def _end_of(month: date) -> date:
    """Return a day that no contract of a month outlives."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)
