"""Names of options at Schwab and TDA: OCC's 21 characters there, `TSLA_030521P520` here. Pure.

Source: docs/facts/schwab.md#4.2, docs/facts/tda.md#3.3.
"""

from __future__ import annotations

import re
from decimal import Decimal

from models.instruments import Instrument, compact, padded
from models.messages import plain

#: Root, month, day, year, right, strike with the decimals that it needs.
_UNDERLINED = re.compile(
    r"(?P<root>[A-Z0-9]{1,6})_(?P<day>[0-9]{4})(?P<year>[0-9]{2})(?P<right>[CP])(?P<strike>[0-9.]+)"
)
_MOST = Decimal(100_000)


def with_blanks(option: Instrument) -> str:
    """Write an option as Schwab does: `AAPL  261218C00200000`."""
    return padded(option)


def underlined(option: Instrument) -> str:
    """Write an option as TDA does: `AAPL_121826C200`."""
    assert option.expiry is not None
    assert option.strike is not None
    return f"{option.underlying}_{option.expiry:%m%d%y}{option.right}{plain(option.strike)}"


def occ(symbol: str) -> str | None:
    """Return the canonical text of an option in either spelling; None where it is neither."""
    found = _UNDERLINED.fullmatch(symbol)
    if found is None:
        return compact(symbol)
    strike = Decimal(found["strike"]) if found["strike"].count(".") <= 1 and found["strike"] != "." else _MOST
    if strike >= _MOST or strike != round(strike, 3):
        return None
    return compact(f"{found['root']}{found['year']}{found['day']}{found['right']}{int(strike * 1000):08d}")
