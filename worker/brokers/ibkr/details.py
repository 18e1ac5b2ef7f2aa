"""The details of a contract, read: what its instrument is, and by which steps it trades. Pure.

`minTick` is the finest step of its prices, in the parts of its currency that they are in; coarser ones in some ranges
of prices are in its market rules, which are not read (docs/facts/ibkr.md#9.10).
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

from models.instruments import Instrument, read_instrument
from models.lookups import InstrumentReport, report_of
from models.vocabulary import AssetClass
from worker.brokers.ibkr.instruments import canonical, size_of
from worker.brokers.ibkr.sdk import SdkDetails
from worker.brokers.values import positive, soft

_DAY = re.compile(r"[0-9]{8}")


def day_of(text: str) -> date | None:
    """Read a day as IB writes it; None where it is none."""
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:])) if _DAY.fullmatch(text) else None
    except ValueError:
        return None


def listing_of(details: SdkDetails) -> str:
    """Return where a contract is listed: a future is where it trades."""
    contract = details.contract
    return str(contract.exchange if contract.secType == "FUT" else contract.primaryExchange)


def read_details(details: SdkDetails) -> InstrumentReport | None:
    """Read the details of a contract; None where its name is no text of corro's."""
    contract = details.contract
    text = canonical(contract, listing_of(details))
    if text is None:
        return None
    kind = AssetClass.FUTURE if contract.secType == "FUT" else AssetClass.OPTION
    return report(read_instrument(text, kind), details)


def report(instrument: Instrument, details: SdkDetails) -> InstrumentReport:
    """Return the report of an instrument by the details of its contract."""
    contract = details.contract
    size = size_of(contract, int(details.priceMagnifier or 1))
    ends = day_of(str(contract.lastTradeDateOrContractMonth)[:8])
    return report_of(
        instrument,
        contract.currency,
        listing=listing_of(details) or instrument.listing,
        expiry=ends if instrument.asset_class is AssetClass.FUTURE else None,
        multiplier=size.multiplier,
        price_increment=soft(positive, details.minTick),
        lot_size=soft(positive, getattr(details, "sizeIncrement", None)) or _whole(instrument),
        broker_symbol=contract.localSymbol or None,
        broker_id=str(contract.conId) if contract.conId else None,
        name=str(details.longName or "")[:128] or None,
    )


def _whole(instrument: Instrument) -> Decimal | None:
    return Decimal(1) if instrument.asset_class in (AssetClass.OPTION, AssetClass.FUTURE) else None
