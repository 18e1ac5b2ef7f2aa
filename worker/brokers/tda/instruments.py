"""Which instruments Schwab and TDA have: shares by their instruments, options by their chains.

Source: docs/facts/schwab.md#4.8, #4.9. Neither tells price increments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from models.clock import utcnow
from models.errors import NoSuchSymbol
from models.instruments import Instrument, read_instrument
from models.lookups import FoundInstruments, InstrumentQuery, InstrumentReport, report_of
from models.vocabulary import AssetClass
from worker.brokers.lookups import meant
from worker.brokers.oddities import Oddities
from worker.brokers.tda.dialects import TdaDialect
from worker.brokers.tda.options import occ
from worker.brokers.tda.rest import TdaRest
from worker.brokers.values import Raw, identity, needed, positive, soft

_MAPS = ("callExpDateMap", "putExpDateMap")
#: Asset types that are shares.
_SHARES = frozenset({"EQUITY", "ETF"})


def find(rest: TdaRest, dialect: TdaDialect, wanted: InstrumentQuery, broker: str, odd: Oddities) -> FoundInstruments:
    """Return what the broker knows under a name, or the options on a share; `odd` is told of rows that nobody can read.

    Raises:
        NoSuchSymbol: it has none. Unsupported: it does not trade that class.
        DataError, BrokerError: it could not be read.
    """
    if wanted.is_chain and wanted.asset_class is AssetClass.OPTION:
        found = _chain(rest, dialect, wanted.text, (wanted.first, wanted.last), odd)
        every = [one for one in found if one.expiry is not None and wanted.expires_in(one.expiry)]
        if not every:
            raise NoSuchSymbol(f"{broker}: lists no options on {wanted.text} in these days")
        return FoundInstruments(every, limit=wanted.limit)
    if wanted.search:
        return _search(rest, dialect, wanted, broker)
    instrument = meant(wanted, (AssetClass.US_EQUITY, AssetClass.OPTION), broker)
    look_up = _option if instrument.asset_class is AssetClass.OPTION else _share
    one = look_up(rest, dialect, instrument, odd)
    if one is None:
        raise NoSuchSymbol(f"{broker}: no {instrument.asset_class} {instrument} is known there")
    return FoundInstruments([one])


def _share(rest: TdaRest, dialect: TdaDialect, share: Instrument, _: Oddities) -> InstrumentReport | None:
    theirs = dialect.symbol(share.symbol)
    answer = rest.read_data(dialect.instruments, {"symbol": theirs, "projection": "symbol-search"})
    rows = rest.parse_data(_rows, answer)
    return next((share_report(share, row) for row in rows if row.get("symbol") == theirs), None)


def _search(rest: TdaRest, dialect: TdaDialect, wanted: InstrumentQuery, broker: str) -> FoundInstruments:
    """Return the shares whose description has these words; one whose name is no text of corro's is left out."""
    answer = rest.read_data(dialect.instruments, {"symbol": wanted.text, "projection": "desc-search"})
    found = []
    for row in rest.parse_data(_rows, answer):
        text = str(row.get("symbol")).replace(dialect.share_class, ".")
        with contextlib.suppress(ValueError):
            found.append(share_report(read_instrument(text, AssetClass.US_EQUITY), row))
    if not found:
        raise NoSuchSymbol(f"{broker}: no share is described as {wanted.text}")
    return FoundInstruments(found, limit=wanted.limit)


def _rows(answer: Raw) -> list[Raw]:
    """Return the rows of an answer: in a list at Schwab, by symbol at TDA."""
    found = answer["instruments"] if "instruments" in answer else answer.values()
    return [row for row in found if isinstance(row, dict) and row.get("assetType") in _SHARES]


def _option(rest: TdaRest, dialect: TdaDialect, option: Instrument, odd: Oddities) -> InstrumentReport | None:
    """Look for a contract in the chain of its day; that of an adjusted root is not under its share's name."""
    chain = _chain(rest, dialect, option.underlying, (option.expiry, option.expiry), odd)
    return next((one for one in chain if one.symbol == option.symbol), None)


def _chain(
    rest: TdaRest, dialect: TdaDialect, share: str, days: tuple[date | None, date | None], odd: Oddities
) -> list[InstrumentReport]:
    (first, last), today = days, utcnow().date()
    query = {"symbol": dialect.symbol(share), "contractType": "ALL", "strategy": "SINGLE"}
    query["fromDate"] = max(first or today, today).isoformat()
    if last is not None:
        query["toDate"] = last.isoformat()
    answer = rest.read_data(f"{dialect.market}/chains", query)
    return rest.parse_data(lambda raw: read_chain(share, raw, odd), answer)


# -- READ: pure ---
def read_chain(share: str, raw: Raw, odd: Oddities) -> list[InstrumentReport]:
    """Read the contracts of a chain; one whose name no text says, such as of an index in weeks of its own, is left out.

    Raises:
        ValueError, AttributeError: it is no chain.
    """
    every = odd.readable("contract", _contracts(raw), lambda row: _contract(share, row))
    return [one for one in every if one is not None]


def _contracts(raw: Raw) -> Iterator[Raw]:
    for half in _MAPS:
        for strikes in (raw.get(half) or {}).values():
            for found in strikes.values():
                yield from found if isinstance(found, list) else [found]


def _contract(share: str, row: Raw) -> InstrumentReport | None:
    symbol = occ(str(row["symbol"]))
    if symbol is None:
        return None
    instrument = read_instrument(symbol, AssetClass.OPTION)
    return report_of(
        instrument,
        "USD",
        underlying=share,
        strike=needed(row, "strikePrice", positive),
        multiplier=soft(positive, row.get("multiplier")),
        lot_size=Decimal(1),
        broker_symbol=str(row["symbol"]),
        name=row.get("description"),
    )


def share_report(share: Instrument, row: Raw) -> InstrumentReport:
    """Read a share."""
    return report_of(
        share,
        "USD",
        listing=str(row.get("exchange") or "") or None,
        lot_size=Decimal(1),
        broker_symbol=soft(identity, row["symbol"]),
        broker_id=soft(identity, row.get("cusip")),
        name=row.get("description"),
    )
