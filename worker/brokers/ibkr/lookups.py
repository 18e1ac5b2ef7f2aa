"""Which instruments Interactive Brokers has: by the details of contracts, and of options by what a share has of them.

An option chain is asked for day by day, the next first: IB throttles whoever asks for a whole chain at once
(docs/facts/ibkr.md#9.9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime

from models.errors import BrokerError, DataError, InstrumentUnknown, NoSuchSymbol, QuotaExhausted
from models.instruments import Instrument, read_instrument
from models.lookups import FoundInstruments, InstrumentQuery, InstrumentReport
from models.vocabulary import AssetClass
from worker.brokers.ibkr.details import day_of, read_details, read_match
from worker.brokers.ibkr.instruments import to_ib_symbol
from worker.brokers.ibkr.sdk import SdkDetails
from worker.brokers.ibkr.session import TwsSession, paced

#: Days of one chain that are asked for at most, each with a request.
MOST_DAYS = 60
#: Seconds for the contracts of one day.
CHAIN_TIMEOUT_S = 30.0


async def find(session: TwsSession, wanted: InstrumentQuery) -> FoundInstruments:
    """Return what IB knows under a name, the options on a share, or the futures of a root.

    Raises:
        NoSuchSymbol: it has none. DataError, BrokerError: it could not be read.
    """
    if wanted.search:
        return await _search(session, wanted)
    if wanted.is_chain:
        is_future = wanted.asset_class is AssetClass.FUTURE
        return await (_futures(session, wanted) if is_future else _options(session, wanted))
    unknown: Exception = NoSuchSymbol(f"{session.options.broker}: {wanted.text} is the name of nothing")
    for instrument in wanted.named:
        try:
            return FoundInstruments([await _one(session, instrument)])
        except InstrumentUnknown as error:
            unknown = NoSuchSymbol(str(error))
    raise unknown


async def _one(session: TwsSession, instrument: Instrument) -> InstrumentReport:
    try:
        contract = await session.contracts.of(instrument)
        one, details = session.contracts.told(instrument)
        # What was resolved before a restart has no hours; those that cannot be read are no better a second time.
        if not details.timeZoneId or (one.hours is not None and one.hours.until <= datetime.now(UTC)):
            contract = await session.contracts.again(instrument)
            one, details = session.contracts.told(instrument)
    except QuotaExhausted as error:
        raise paced(error) from None
    return await session.contracts.banded(one, details, contract.exchange)


async def _search(session: TwsSession, wanted: InstrumentQuery) -> FoundInstruments:
    """Return the shares that IB finds by a name or the beginning of a symbol: few, and without their steps."""
    what = f"names like {wanted.text}"
    rows = await session.read(what, lambda: session.ib.reqMatchingSymbolsAsync(wanted.text))
    found = [one for one in (read_match(row.contract) for row in rows or ()) if one is not None]
    if not found:
        raise NoSuchSymbol(f"{session.options.broker}: no share is known there by {wanted.text}")
    return FoundInstruments(found, limit=wanted.limit)


async def _futures(session: TwsSession, wanted: InstrumentQuery) -> FoundInstruments:
    """Return the futures of a root, on one exchange or wherever they are."""
    fields = {"secType": "FUT", "symbol": wanted.root, "exchange": wanted.exchange or ""}
    rows = await _details(session, f"futures {wanted.text}", fields)
    found = await _read(session, rows, wanted)
    if not found:
        raise NoSuchSymbol(f"{session.options.broker}: lists no futures of {wanted.text} in these days")
    return FoundInstruments(found, limit=wanted.limit)


async def _options(session: TwsSession, wanted: InstrumentQuery) -> FoundInstruments:
    """Return the options on a share, day by day until the limit."""
    days = [day for day in await _days(session, wanted.root) if wanted.expires_in(day)]
    found: list[InstrumentReport] = []
    asked = 0
    for day in days[:MOST_DAYS]:
        fields = {"secType": "OPT", "symbol": to_ib_symbol(wanted.root), "exchange": "SMART", "currency": "USD"}
        fields["lastTradeDateOrContractMonth"] = f"{day:%Y%m%d}"
        rows = await _details(session, f"options on {wanted.root} of {day}", fields)
        found += await _read(session, rows, wanted)
        asked += 1
        if len(found) > wanted.limit:
            break
    if not found:
        raise NoSuchSymbol(f"{session.options.broker}: lists no options on {wanted.root} in these days")
    return FoundInstruments(found, more=asked < len(days), limit=wanted.limit)


async def _days(session: TwsSession, root: str) -> list[date]:
    """Return the days on which options on a share expire."""
    try:
        share = await session.contracts.of(read_instrument(root, AssetClass.US_EQUITY))
    except (InstrumentUnknown, ValueError) as error:
        raise NoSuchSymbol(str(error)) from None
    except QuotaExhausted as error:
        raise paced(error) from None
    chains = await session.read(
        f"options on {root}",
        lambda: session.ib.reqSecDefOptParamsAsync(to_ib_symbol(root), "", "STK", share.conId),
    )
    told = {day_of(str(text)) for chain in chains for text in chain.expirations}
    return sorted(day for day in told if day is not None)


async def _details(session: TwsSession, what: str, fields: dict[str, str]) -> Sequence[SdkDetails]:
    wanted = session.sdk.Contract(**fields)
    if session.frames.broken:  # "no security definition" then says nothing
        farms = ", ".join(sorted(session.frames.broken))
        raise DataError(f"{session.options.broker}: IB's {farms} is broken, so {what} cannot be told")
    try:
        rows: Sequence[SdkDetails] = await session.read(
            what, lambda: session.ib.reqContractDetailsAsync(wanted), CHAIN_TIMEOUT_S
        )
    except NoSuchSymbol:
        return ()
    except BrokerError as error:
        raise DataError(str(error)) from error
    return rows


async def _read(session: TwsSession, rows: Sequence[SdkDetails], wanted: InstrumentQuery) -> list[InstrumentReport]:
    """Return what rows of a chain tell of the contracts that were asked for."""
    read = [(one, details) for details in rows if (one := read_details(details)) is not None and _is_in(one, wanted)]
    # All at once: contracts of one market rule share the question, also one that nobody answers.
    return await asyncio.gather(
        *(session.contracts.banded(one, details, details.contract.exchange) for one, details in read)
    )


def _is_in(one: InstrumentReport, wanted: InstrumentQuery) -> bool:
    return one.expiry is not None and wanted.expires_in(one.expiry)
