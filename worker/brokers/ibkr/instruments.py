"""Instruments in Interactive Brokers' words: what to ask for, and the canonical text of a contract. Pure.

| class     | secType | asked for by                                   | its text is read from                         |
|-----------|---------|------------------------------------------------|-----------------------------------------------|
| us_equity | STK     | symbol, USD, SMART                             | symbol, where it is listed (`names`)          |
| equity    | STK     | symbol, primary exchange, SMART                | symbol, where it is listed                    |
| option    | OPT     | OCC symbol as localSymbol, USD, SMART          | localSymbol                                   |
| future    | FUT     | symbol, contract month, exchange               | symbol, month in localSymbol, its exchange    |
| forex     | CASH    | symbol, currency, IDEALPRO                     | symbol, currency                              |
| crypto    | CRYPTO  | symbol, currency, PAXOS                        | symbol, currency                              |

Source: docs/facts/ibkr.md#9.1, #9.2, #9.3, #9.4, #9.5, #9.6. A contract whose text would be another one than was asked
for is refused: what corro trades it must be able to find again in listings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from models.errors import InstrumentUnknown, Unsupported
from models.instruments import MONTHS, US_LISTINGS, Instrument, compact, padded, read_instrument
from models.vocabulary import AssetClass
from worker.brokers.ibkr.sdk import SdkContract
from worker.brokers.values import positive, soft

#: secType of each class.
KINDS = {
    AssetClass.US_EQUITY: "STK",
    AssetClass.EQUITY: "STK",
    AssetClass.OPTION: "OPT",
    AssetClass.FUTURE: "FUT",
    AssetClass.FOREX: "CASH",
    AssetClass.CRYPTO: "CRYPTO",
}
_PAIRS = {"CASH": AssetClass.FOREX, "CRYPTO": AssetClass.CRYPTO}
#: Where orders go that need no exchange of their own.
_VENUES = {AssetClass.FOREX: "IDEALPRO", AssetClass.CRYPTO: "PAXOS"}
#: Month and the last digit of the year at the end of a future's localSymbol.
_MONTH = re.compile(rf"[A-Z0-9]+([{MONTHS}])([0-9])")
#: A listing that is none: what is delisted, or waits for a corporate action.
_NO_LISTINGS = frozenset({"VALUE", "CORPACT"})


def asked(instrument: Instrument) -> dict[str, str]:
    """Return the fields of the contract to ask details for; a share's symbol is spelled as IB does."""
    kind = instrument.asset_class
    fields = {"secType": KINDS[kind], "exchange": _VENUES.get(kind, "SMART")}
    if instrument.currency is not None:
        fields["currency"] = instrument.currency
    if kind is AssetClass.OPTION:
        return fields | {"localSymbol": padded(instrument)}
    if kind is AssetClass.FUTURE:
        assert instrument.month is not None
        month = f"{instrument.month:%Y%m}"
        fields |= {"exchange": str(instrument.listing), "lastTradeDateOrContractMonth": month}
    elif kind is AssetClass.EQUITY:
        fields["primaryExchange"] = str(instrument.listing)
    return fields | {"symbol": to_ib_symbol(instrument.underlying)}


def to_ib_symbol(symbol: str) -> str:
    """Return IB's spelling: share classes with a blank (BRK B)."""
    return symbol.replace(".", " ")


def from_ib_symbol(symbol: str) -> str:
    """Return corro's spelling: share classes with a dot (BRK.B)."""
    return symbol.replace(" ", ".")


def canonical(contract: SdkContract, listing: str = "") -> str | None:
    """Return the canonical text of a contract that is no share in the United States; None where it has none.

    Args:
        contract: as a message has it.
        listing: its primary exchange, of a future its exchange; empty where that is not known.
    """
    kind, symbol, currency = contract.secType, from_ib_symbol(contract.symbol), contract.currency
    if kind == "OPT":
        return compact(contract.localSymbol) if currency == "USD" else None
    if kind in _PAIRS:
        return _readable(f"{symbol}/{currency}", _PAIRS[kind])
    if kind == "FUT" and listing and (month := _month(contract)):
        return _readable(f"{symbol}{month}@{listing}", AssetClass.FUTURE)
    if kind == "STK" and currency and listing and listing not in US_LISTINGS | _NO_LISTINGS:
        return _readable(f"{symbol}@{listing}", AssetClass.EQUITY)
    return None


def _readable(text: str, kind: AssetClass) -> str | None:
    try:
        return read_instrument(text, kind).symbol
    except ValueError:
        return None


def _month(contract: SdkContract) -> str | None:
    """Return month and year, `Z26`: a contract may end trading before its month, never more than a year before."""
    found = _MONTH.fullmatch(contract.localSymbol)
    ends = str(contract.lastTradeDateOrContractMonth)
    if found is None or not ends[:4].isdecimal():
        return None
    year = next(year for year in range(int(ends[:4]), int(ends[:4]) + 10) if year % 10 == int(found[2]))
    return f"{found[1]}{year % 100:02d}" if year <= int(ends[:4]) + 1 else None


def choose_one(contracts: Iterable[tuple[SdkContract, str]], wanted: Instrument, broker: str) -> SdkContract:
    """Pick the contract that a text means; several are refused rather than guessed.

    Args:
        contracts: that IB knows, with the listing of each.
        wanted: what the text means.
        broker: for messages.

    Raises:
        InstrumentUnknown: none has this very text, and this currency.
        Unsupported: several have.
    """
    exact = {
        contract.conId: contract
        for contract, listing in contracts
        if canonical(contract, listing) == wanted.symbol and wanted.currency in (None, contract.currency)
    }
    if len(exact) == 1:
        return next(iter(exact.values()))
    if exact:
        money = ", ".join(sorted({contract.currency for contract in exact.values()}))
        words = f"{wanted} is ambiguous, {len(exact)} contracts match, in {money}: currency may say which"
        raise Unsupported(f"{broker}: {words}", broker=broker, code="200")
    in_money = f" in {wanted.currency}" if wanted.currency else ""
    words = f"no {wanted.asset_class} {wanted}{in_money} is known there under that very name"
    raise InstrumentUnknown(f"{broker}: {words}", broker=broker, code="200")


@dataclass(frozen=True, slots=True)
class Size:
    """What one unit of a contract is: money per unit and unit of price, and the currency.

    IB writes some prices in hundredths (shares in London, grains in Chicago): `magnifier` is that hundred, which only
    the contract's details tell.
    """

    multiplier: Decimal | None
    currency: str | None


def size_of(contract: SdkContract, magnifier: int | None) -> Size:
    """Return the size of a contract; its multiplier is None of a plain share, and where nobody has told it."""
    hundredths = soft(positive, magnifier) or Decimal(1)
    if contract.secType in ("STK", "CASH", "CRYPTO"):
        return Size(None if hundredths == 1 else 1 / hundredths, contract.currency or None)
    told = soft(positive, contract.multiplier)
    return Size(None if told is None else told / hundredths, contract.currency or None)
