"""Names of instruments at Alpaca and at corro: the same for shares and options, and for coins two spellings there.

Orders have `BTC/USD`; holdings and activities have `BTCUSD` (docs/facts/alpaca.md#6.3), and only holdings say that it
is a coin. A coin is held once, whichever pair it was bought in, and shown under its pair with the dollar.
"""

from __future__ import annotations

import re

from models.instruments import told_class
from models.vocabulary import AssetClass
from worker.brokers.values import Raw

#: Alpaca's classes that corro trades there.
ASSET_CLASSES = {"us_equity": AssetClass.US_EQUITY, "us_option": AssetClass.OPTION, "crypto": AssetClass.CRYPTO}
#: What the record takes as a symbol.
_SYMBOL = re.compile(r"[!-~]{1,64}")
#: A coin's name before its quote currency, without the stroke; shares have at most five letters in a row.
_JOINED = re.compile(r"(?P<base>[A-Z0-9]{2,10}?)(?P<quote>USDT|USDC|USD|BTC)")
_SHORTEST_JOINED = 6
_NOT_SAID = (None, "")


def symbol_of(raw: Raw) -> str | None:
    """Return a symbol, qualified where corro trades no such thing: `TREASURY:912828YK0`; None if it is absent.

    Raises:
        ValueError: it is no name that the record takes.
    """
    symbol, kind = raw.get("symbol"), raw.get("asset_class")
    if symbol in _NOT_SAID:
        return None
    if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"symbol is {str(symbol)[:100]!r}")
    if "/" in symbol:
        return symbol
    pair = _pair(symbol)
    if kind in _NOT_SAID:
        return (
            pair if pair and len(symbol) >= _SHORTEST_JOINED and told_class(symbol) is not AssetClass.OPTION else symbol
        )
    known = ASSET_CLASSES.get(str(kind))
    if known is AssetClass.CRYPTO and pair:
        return pair
    return symbol if known in (AssetClass.US_EQUITY, AssetClass.OPTION) else f"{str(kind).upper()}:{symbol}"[:64]


def _pair(symbol: str) -> str | None:
    found = _JOINED.fullmatch(symbol)
    return found and f"{found['base']}/{found['quote']}"


def currency_of(symbol: str | None) -> str | None:
    """Return the currency of the prices of a pair; None of what trades in the account's."""
    return symbol.partition("/")[2] or None if symbol else None
