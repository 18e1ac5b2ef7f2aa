"""Look-ups that name several contracts: options and futures asked for by root, and what there is of options on a share.

Source: the documentation of IB's API, "Option Chains", "Contracts".
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from worker.sandbox.market.chains import expiries, futures, options, strikes
from worker.sandbox.market.listed import ABROAD, listed
from worker.sandbox.market.market import Market
from worker.sandbox.market.prices import BASE_PRICES
from worker.sandbox.tws.contracts import Contract, con_id, listing, shown
from worker.sandbox.tws.wire import encode

_NO_STRIKE = frozenset({"", "0", "0.0"})
_FAR = timedelta(days=4000)
#: Finds that one search brings.
_MOST_SAMPLES = 16


def several(market: Market, asked: Contract) -> list[str] | None:
    """Return the symbols that a contract without its whole name means; None where it names one."""
    if asked.local_symbol or asked.con_id:
        return None
    today = datetime.now(UTC).date()
    if asked.sec_type == "FUT" and len(asked.ends) < 6:
        return futures(asked.symbol, today, asked.exchange)
    if asked.sec_type == "OPT" and asked.strike in _NO_STRIKE:
        first, last = _days(asked.ends, today)
        found = options(market, asked.symbol.replace(" ", "."), max(first, today), last)
        return [name for name in found if asked.right[:1] in ("", "?", "0", _right(name))]
    return None


def _right(symbol: str) -> str:
    thing = listed(symbol)
    return thing.right if thing is not None else ""


def _days(ends: str, today: date) -> tuple[date, date]:
    """Return the days that an expiry means: a day, a month, or all."""
    if len(ends) == 8 and ends.isdecimal():
        day = date(int(ends[:4]), int(ends[4:6]), int(ends[6:]))
        return day, day
    if len(ends) == 6 and ends.isdecimal():
        first = date(int(ends[:4]), int(ends[4:]), 1)
        return first, first + timedelta(days=30)
    return today, today + _FAR


def matching(request_id: int, words: str, version: int) -> bytes:
    """Return symbolSamples: the shares whose symbol begins so, and those abroad, sixteen at most as at IB."""
    begin = words.upper().replace(".", " ")
    names = [*sorted(BASE_PRICES), *ABROAD]
    found = [name for name in names if shown(name).symbol.startswith(begin)][:_MOST_SAMPLES]
    fields: list[object] = []
    for name in found:
        s = shown(name)
        primary = s.primary or listing(name)[0]
        fields += [con_id(name), s.symbol, "STK", primary, s.currency, 1, "OPT"]
        fields += [f"{s.symbol} INC", ""] if version >= 176 else []
    return encode(79, request_id, len(found), *fields)


def option_parameters(market: Market, request_id: int, symbol: str, under: int) -> list[bytes]:
    """Return securityDefinitionOptionalParameter and its end: days and strikes of the options on a share."""
    name = symbol.replace(" ", ".")
    if not market.prices.is_share(name) or under not in (0, con_id(name)):
        return [encode(76, request_id)]
    days = [f"{day:%Y%m%d}" for day in expiries(datetime.now(UTC).date())]
    around = [f"{strike.normalize():f}" for strike in strikes(market.quote(name).last)]
    exchanges = ("SMART", "CBOE")
    rows = (
        encode(75, request_id, where, con_id(name), symbol, 100, len(days), *days, len(around), *around)
        for where in exchanges
    )
    return [*rows, encode(76, request_id)]
