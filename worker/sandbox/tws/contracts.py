"""Contracts as TWS writes them: which thing of the market one names, and how one is shown. Pure.

Source: recorded contracts of stocks; options, futures, pairs of currencies and coins by the documentation of IB's API.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from worker.sandbox.market.listed import ABROAD, FUTURES, ListedThing, listed
from worker.sandbox.market.prices import BASE_PRICES

if TYPE_CHECKING:
    from worker.sandbox.tws.wire import Fields

_KNOWN_CON_IDS = {"AAPL": 265598, "TSLA": 76792991, "SPY": 756733, "MSFT": 272093, "IBM": 8314, "BRK.B": 72063691}
_NYSE_ARCA = frozenset(
    ("SPY", "IWM", "DIA", "VTI", "VOO", "EFA", "EEM", "IEF", "AGG", "GLD", "SLV", "XLF", "XLK", "XLE"),
)
_NASDAQ = frozenset(
    (
        *("AAPL", "MSFT", "AMZN", "GOOGL", "GOOG", "META", "NVDA", "TSLA", "PEP", "COST", "NFLX", "ADBE", "INTC"),
        *("AMD", "CSCO", "QQQ", "TLT"),
    ),
)
#: What trades here, and IB's word for it.
SEC_TYPES = {"option": "OPT", "future": "FUT", "forex": "CASH", "crypto": "CRYPTO", "abroad": "STK"}
_MONTHS = "FGHJKMNQUVXZ"


@dataclass(slots=True, frozen=True)
class Contract:
    """What a client names: the twelve contract fields."""

    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    primary_exchange: str
    currency: str
    local_symbol: str
    trading_class: str
    ends: str = ""
    strike: str = ""
    right: str = ""

    @property
    def market_symbol(self) -> str | None:
        """The symbol in the market's spelling; None where the market has no such thing."""
        if not self.symbol and not self.local_symbol:
            return symbol_of(self.con_id)
        named = _NAMED.get(self.sec_type or "STK")
        return named(self) if named is not None else None


def _stock(contract: Contract) -> str | None:
    name = (contract.symbol or contract.local_symbol).replace(" ", ".")
    for there, (currency, _, _) in ABROAD.items():
        ticker, _, exchange = there.partition("@")
        places = (contract.primary_exchange, contract.exchange)
        if ticker == name and exchange in places and contract.currency in (currency, ""):
            return there
    at_home = contract.currency in ("USD", "") and contract.primary_exchange not in _EXCHANGES_ABROAD
    return name or None if at_home else None


_EXCHANGES_ABROAD = frozenset(name.partition("@")[2] for name in ABROAD)


def _option(contract: Contract) -> str | None:
    name = contract.local_symbol.replace(" ", "")
    if not name and contract.ends and contract.strike:
        strike = round(float(contract.strike) * 1000)
        name = f"{contract.symbol}{contract.ends[2:8]}{contract.right[:1]}{strike:08d}"
    return name if listed(name) is not None and contract.currency in ("USD", "") else None


def _future(contract: Contract) -> str | None:
    root = contract.symbol
    if root not in FUTURES or len(contract.ends) < 6 or not contract.ends[:6].isdecimal():
        return None
    month = f"{_MONTHS[int(contract.ends[4:6]) - 1]}{contract.ends[2:4]}"
    exchange = FUTURES[root][0]
    return f"{root}{month}@{exchange}" if contract.exchange in (exchange, "") else None


def _pair(contract: Contract) -> str | None:
    name = f"{contract.symbol}/{contract.currency}"
    thing = listed(name)
    return name if thing is not None and SEC_TYPES[thing.kind] == contract.sec_type else None


_NAMED: dict[str, Callable[[Contract], str | None]] = {
    "STK": _stock, "OPT": _option, "FUT": _future, "CASH": _pair, "CRYPTO": _pair,
}  # fmt: skip


def read_contract(fields: Fields) -> Contract:
    """Read the twelve contract fields."""
    number, symbol, sec_type = fields.integer(), fields.text(), fields.text()
    ends, strike, right = fields.text(), fields.text(), fields.text()
    fields.skip(1)  # multiplier
    exchange, primary, currency = fields.text(), fields.text(), fields.text()
    local, trading_class = fields.text(), fields.text()
    return Contract(number, symbol, sec_type, exchange, primary, currency, local, trading_class, ends, strike, right)


#: Contract id -> name, of what is no share in the United States and was shown.
_shown: dict[int, str] = {}


def con_id(symbol: str) -> int:
    """Return the contract id of a market symbol: IB's own where known, else fixed by the name."""
    number = _KNOWN_CON_IDS.get(symbol, 400_000_000 + zlib.crc32(symbol.encode()) % 90_000_000)
    if listed(symbol) is not None:
        _shown[number] = symbol
    return number


@cache
def _symbols() -> dict[int, str]:
    names = [*BASE_PRICES, *(f"SIM{n:03d}" for n in range(1000))]
    return {con_id(name): name for name in names}


def symbol_of(number: int) -> str | None:
    """Return the market symbol of a contract id, if there is one."""
    return _symbols().get(number) or _shown.get(number)


def ib_symbol(symbol: str) -> str:
    """Return IB's spelling of a market symbol: `BRK B` for `BRK.B`."""
    return symbol.replace(".", " ")


def listing(symbol: str) -> tuple[str, str]:
    """Return the primary exchange and the trading class of a market symbol."""
    if symbol in _NASDAQ:
        return "NASDAQ", "NMS"
    return ("ARCA", ib_symbol(symbol)) if symbol in _NYSE_ARCA else ("NYSE", ib_symbol(symbol))


@dataclass(frozen=True, slots=True)
class Shown:
    """What TWS writes of a contract besides its id and where it was sent.

    Args:
        symbol, kind, ends, strike, multiplier, currency, local, trading_class: as they stand in a message.
        right: of an option; empty otherwise.
        venue: where it trades if a message names no other place.
        primary: where it is listed; empty of what has no such thing.
        parts: how many parts of the currency its prices are in.
        month: contract month of a future.
    """

    symbol: str
    kind: str = "STK"
    ends: str = ""
    strike: str = "0"
    right: str = ""
    multiplier: str = ""
    currency: str = "USD"
    local: str = ""
    trading_class: str = ""
    venue: str = "SMART"
    primary: str = ""
    parts: int = 1
    month: str = ""


def shown(symbol: str) -> Shown:
    """Return a market symbol as TWS writes it."""
    thing = listed(symbol)
    if thing is not None:
        return _MADE[thing.kind](symbol, thing)
    name, (primary, trading_class) = ib_symbol(symbol), listing(symbol)
    return Shown(name, local=name, trading_class=trading_class, primary=primary)


def _made_option(symbol: str, thing: ListedThing) -> Shown:
    assert thing.day is not None
    return Shown(
        thing.root, "OPT", f"{thing.day:%Y%m%d}", f"{thing.strike.normalize():f}", thing.right, "100",
        local=f"{thing.root:<6}{symbol[len(thing.root) :]}", trading_class=thing.root,
    )  # fmt: skip


def _made_future(_: str, thing: ListedThing) -> Shown:
    assert thing.day is not None
    return Shown(
        thing.root, "FUT", f"{thing.day:%Y%m%d}", multiplier=str(thing.units), trading_class=thing.root,
        local=f"{thing.root}{thing.month[0]}{thing.month[-1]}", venue=thing.exchange, parts=thing.parts,
        month=f"{thing.day:%Y%m}",
    )  # fmt: skip


def _made_pair(_: str, thing: ListedThing) -> Shown:
    venue, name = ("IDEALPRO" if thing.kind == "forex" else "PAXOS"), f"{thing.root}.{thing.currency}"
    return Shown(
        thing.root, SEC_TYPES[thing.kind], currency=thing.currency, local=name, trading_class=name, venue=venue
    )


def _made_abroad(_: str, thing: ListedThing) -> Shown:
    name = ib_symbol(thing.root)
    return Shown(
        name, currency=thing.currency, local=name, trading_class=name, primary=thing.exchange, parts=thing.parts
    )


_MADE: dict[str, Callable[[str, ListedThing], Shown]] = {
    "option": _made_option, "future": _made_future, "forex": _made_pair, "crypto": _made_pair, "abroad": _made_abroad,
}  # fmt: skip


def contract_fields(symbol: str, exchange: str = "SMART", right: str = "?") -> list[object]:
    """Return the eleven contract fields that TWS sends with orders, fills and positions.

    Args:
        symbol: of the market.
        exchange: where it was sent or has traded; what has one venue alone is shown there.
        right: what stands for the right of what has none.
    """
    s = shown(symbol)
    where = exchange if s.venue == "SMART" else s.venue
    return [
        con_id(symbol), s.symbol, s.kind, s.ends, s.strike, s.right or right, s.multiplier, where, s.currency, s.local,
        s.trading_class,
    ]  # fmt: skip
