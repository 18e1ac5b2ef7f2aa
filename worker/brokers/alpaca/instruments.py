"""Which instruments Alpaca has: shares and coins by its assets, options by its contracts.

Source: docs/facts/alpaca.md#6.7, #6.8. It tells no price increment of shares and options.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

from models.clock import utcnow
from models.errors import CorroError, NoSuchSymbol, Refused, Unsupported
from models.instruments import Instrument, read_instrument
from models.lookups import FoundInstruments, InstrumentQuery, InstrumentReport, report_of
from models.vocabulary import AssetClass
from worker.brokers.alpaca.rest import AlpacaRest
from worker.brokers.alpaca.symbols import ASSET_CLASSES
from worker.brokers.lookups import meant
from worker.brokers.oddities import Oddities
from worker.brokers.rest.http import as_data_error
from worker.brokers.rest.reading import Paging
from worker.brokers.values import Raw, identity, needed, positive, segment, soft

#: Contracts of one page; and how far ahead options are listed where nobody says until when.
_PAGE, _FAR = 1000, timedelta(days=3 * 366)


def find(rest: AlpacaRest, wanted: InstrumentQuery, broker: str, odd: Oddities) -> FoundInstruments:
    """Return what Alpaca knows under a name, or the options on a share; `odd` hears of contracts that nobody can read.

    Raises:
        NoSuchSymbol: it has none. Unsupported: it does not trade that class.
        DataError, BrokerError: it could not be read.
    """
    if wanted.search:
        raise Unsupported(f"{broker} finds no instruments by words", broker=broker)
    if wanted.is_chain and wanted.asset_class is AssetClass.OPTION:
        return _chain(rest, wanted, broker, odd)
    return FoundInstruments([_one(rest, meant(wanted, tuple(ASSET_CLASSES.values()), broker), broker)])


def _one(rest: AlpacaRest, instrument: Instrument, broker: str) -> InstrumentReport:
    is_option = instrument.asset_class is AssetClass.OPTION
    path = f"/options/contracts/{segment(instrument.symbol)}" if is_option else f"/assets/{segment(instrument.symbol)}"
    raw = _read(rest, path, {}, instrument.symbol, broker)
    if is_option:
        return rest.parse_data(contract_report, raw)
    return rest.parse_data(lambda asset: asset_report(instrument, asset), raw)


def _chain(rest: AlpacaRest, wanted: InstrumentQuery, broker: str, odd: Oddities) -> FoundInstruments:
    """Read the pages of the options on a share, until the limit."""
    today = utcnow().date()
    found: list[InstrumentReport] = []
    for page in _pages(rest, wanted, max(wanted.first or today, today), wanted.last or today + _FAR, broker):
        every = rest.parse_data(lambda rows: odd.readable("contract", rows, contract_report), page)
        found += [one for one in every if one.expiry is not None and wanted.expires_in(one.expiry)]
        if len(found) > wanted.limit:
            break
    if not found:
        raise NoSuchSymbol(f"{broker}: lists no options on {wanted.text} in these days")
    return FoundInstruments(found, limit=wanted.limit)


def _pages(rest: AlpacaRest, wanted: InstrumentQuery, first: date, last: date, broker: str) -> Iterator[list[Raw]]:
    query: dict[str, str | int | None] = {
        "underlying_symbols": wanted.text, "status": "active", "expiration_date_gte": first.isoformat(),
        "expiration_date_lte": last.isoformat(), "limit": min(wanted.limit + 1, _PAGE),
    }  # fmt: skip
    pages = Paging(broker, f"options on {wanted.text}")
    while True:
        answer = _read(rest, "/options/contracts", query, wanted.text, broker)
        yield rest.parse_data(lambda raw: list(raw.get("option_contracts") or ()), answer)
        if not (token := answer.get("next_page_token")):
            return
        query["page_token"] = pages.turn(token)


def _read(rest: AlpacaRest, path: str, query: dict[str, str | int | None], symbol: str, broker: str) -> Raw:
    try:
        return rest.read(path, query, dict)
    except Refused as error:
        if str(error.code).startswith(("404", "422")):
            raise NoSuchSymbol(f"{broker}: no {symbol} is known there: {error}") from error
        raise as_data_error(error) from error
    except CorroError as error:
        raise as_data_error(error) from error


# -- READ: pure ---
def asset_report(instrument: Instrument, raw: Raw) -> InstrumentReport:
    """Read an asset.

    Raises:
        ValueError: it is another one than was asked for.
    """
    kind = ASSET_CLASSES.get(str(raw.get("class")))
    if kind is not instrument.asset_class or str(raw.get("symbol")) != instrument.symbol:
        raise ValueError(f"asked for {instrument.symbol}, was {raw.get('class')} {raw.get('symbol')}")
    is_coin = kind is AssetClass.CRYPTO
    whole = None if raw.get("fractionable") is not False else Decimal(1)
    return report_of(
        instrument,
        instrument.currency or "USD",
        listing=str(raw.get("exchange") or "") or None,
        price_increment=soft(positive, raw.get("price_increment")),
        lot_size=soft(positive, raw.get("min_trade_increment")) if is_coin else whole,
        broker_symbol=instrument.symbol,
        broker_id=soft(identity, raw.get("id")),
        name=raw.get("name"),
        tradable=bool(raw.get("tradable")) and raw.get("status") == "active",
    )


def contract_report(raw: Raw) -> InstrumentReport:
    """Read an option contract.

    Raises:
        ValueError: it is none.
    """
    instrument = read_instrument(str(raw["symbol"]), AssetClass.OPTION)
    multiplier = soft(positive, raw.get("multiplier") or raw.get("size"))
    return report_of(
        instrument,
        "USD",
        underlying=str(raw.get("underlying_symbol") or instrument.underlying),
        expiry=date.fromisoformat(str(raw["expiration_date"])),
        strike=needed(raw, "strike_price", positive),
        multiplier=multiplier,
        lot_size=Decimal(1),
        broker_symbol=instrument.symbol,
        broker_id=soft(identity, raw.get("id")),
        name=raw.get("name"),
        tradable=bool(raw.get("tradable")) and raw.get("status") == "active",
    )
