"""The details of a contract, read: what its instrument is, and by which steps it trades. Pure.

`minTick` is the finest step of its prices, in the parts of its currency that they are in; coarser ones in some ranges
of prices are in its market rules (`hours`, docs/facts/ibkr.md#9.10).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from models.instruments import US_LISTINGS, Instrument, read_instrument
from models.lookups import InstrumentReport, report_of
from models.vocabulary import AssetClass
from worker.brokers.ibkr.hours import hours_of
from worker.brokers.ibkr.instruments import canonical, from_ib_symbol, size_of
from worker.brokers.ibkr.sdk import Sdk, SdkContract, SdkDetails
from worker.brokers.values import identity, positive, soft

_DAY = re.compile(r"[0-9]{8}")
_CURRENCY = re.compile(r"[A-Z]{3}")
#: Fields of a contract, and of its details, that are remembered.
_CONTRACT = (
    "conId", "symbol", "secType", "lastTradeDateOrContractMonth", "strike", "right", "multiplier", "exchange",
    "primaryExchange", "currency", "localSymbol", "tradingClass",
)  # fmt: skip
_TOLD = ("orderTypes", "priceMagnifier", "minTick", "longName", "sizeIncrement", "validExchanges", "marketRuleIds")


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
    """Read the details of a contract; None where its name is no text of corro's, or its currency is none."""
    contract = details.contract
    text = canonical(contract, listing_of(details))
    if text is None or not _CURRENCY.fullmatch(str(contract.currency)):
        return None
    kind = AssetClass.FUTURE if contract.secType == "FUT" else AssetClass.OPTION
    try:
        return report(read_instrument(text, kind), details)
    except (ValueError, ArithmeticError):  # such as an option whose localSymbol is no OCC symbol
        return None


def read_match(contract: SdkContract) -> InstrumentReport | None:
    """Read one find of a search; None where it is no share, its name no text of corro's, or its currency none."""
    at_home = contract.currency == "USD" and contract.primaryExchange in US_LISTINGS
    text = from_ib_symbol(contract.symbol) if at_home else canonical(contract, contract.primaryExchange)
    if contract.secType != "STK" or text is None or not _CURRENCY.fullmatch(str(contract.currency)):
        return None
    try:
        instrument = read_instrument(text, AssetClass.US_EQUITY if at_home else AssetClass.EQUITY)
    except ValueError:
        return None
    return report_of(
        instrument, contract.currency, listing=contract.primaryExchange or None, broker_symbol=contract.symbol,
        broker_id=soft(identity, contract.conId), name=getattr(contract, "description", ""),
    )  # fmt: skip


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
        hours=hours_of(details),
        lot_size=soft(positive, details.sizeIncrement) or _whole(instrument),
        broker_symbol=contract.localSymbol or None,
        broker_id=soft(identity, contract.conId),
        name=details.longName,
        detail=detail_of(details),
    )


def detail_of(details: SdkDetails) -> dict[str, str]:
    """Return what is needed to know a contract again without asking."""
    told = {name: str(getattr(details.contract, name)) for name in _CONTRACT}
    return told | {name: str(getattr(details, name)) for name in _TOLD}


@dataclass(slots=True)
class RememberedDetails:
    """The details of a contract from before a restart."""

    contract: SdkContract
    orderTypes: str  # IB's words
    priceMagnifier: int
    minTick: float
    longName: str
    sizeIncrement: object
    validExchanges: str
    marketRuleIds: str
    timeZoneId: str = ""
    tradingHours: str = ""
    liquidHours: str = ""


def remembered(sdk: Sdk, detail: Mapping[str, str]) -> SdkDetails | None:
    """Return the details that `detail_of` wrote; None where they cannot be read."""
    try:
        fields: dict[str, object] = {name: detail[name] for name in _CONTRACT}
        contract = sdk.Contract(**fields | {"conId": int(detail["conId"]), "strike": float(detail["strike"] or 0)})
        return RememberedDetails(
            contract, detail["orderTypes"], int(detail["priceMagnifier"]), float(detail["minTick"]), detail["longName"],
            detail["sizeIncrement"], detail["validExchanges"], detail["marketRuleIds"],
        )  # fmt: skip
    except (KeyError, ValueError):
        return None


def _whole(instrument: Instrument) -> Decimal | None:
    return Decimal(1) if instrument.asset_class in (AssetClass.OPTION, AssetClass.FUTURE) else None
