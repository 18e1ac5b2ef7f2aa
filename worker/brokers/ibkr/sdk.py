"""Either SDK, ib_insync or ib_async, behind one shim.

The SDK is used as a codec only: handshake, encoding, decoding, contract and data requests. Its order state is
replaced at the wrapper by our own evidence, because it says `Cancelled` for live orders (docs/facts/ibkr.md#4.1), and
its throttle queue is switched off, because it holds orders back after `placeOrder` has returned
(docs/facts/ibkr.md#1.10).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from models.errors import ConfigurationError
from models.extras import install

SDKS = ("ib_insync", "ib_async")


# -- ITS OBJECTS: the fields that are read of them, alike in both SDKs ---
class SdkComboLeg(Protocol):
    """One leg of a BAG."""

    conId: int
    ratio: int
    action: str


class SdkContract(Protocol):
    """A security."""

    conId: int
    symbol: str
    secType: str
    exchange: str
    primaryExchange: str
    currency: str
    localSymbol: str
    lastTradeDateOrContractMonth: str
    multiplier: str
    comboLegs: Sequence[SdkComboLeg] | None


class SdkDetails(Protocol):
    """What IB tells about a contract."""

    contract: SdkContract
    orderTypes: str
    priceMagnifier: int
    minTick: float
    longName: str
    sizeIncrement: object
    validExchanges: str
    marketRuleIds: str
    timeZoneId: str
    tradingHours: str
    liquidHours: str


class SdkPriceIncrement(Protocol):
    """One line of a market rule."""

    lowEdge: float
    increment: float


class SdkOrder(Protocol):
    """The terms of an order."""

    permId: int
    orderId: int
    clientId: int
    orderRef: str
    account: str
    action: str
    orderType: str
    tif: str
    totalQuantity: float
    filledQuantity: float
    lmtPrice: float
    auxPrice: float
    trailingPercent: float
    lmtPriceOffset: float
    outsideRth: bool
    whatIf: bool


class SdkOrderState(Protocol):
    """Where an order stands."""

    status: str
    completedStatus: str
    completedTime: str
    initMarginBefore: str
    initMarginAfter: str
    commission: float
    minCommission: float
    maxCommission: float
    commissionCurrency: str
    warningText: str


class SdkExecution(Protocol):
    """One execution."""

    execId: str
    permId: int
    orderId: int
    clientId: int
    orderRef: str
    acctNumber: str
    side: str
    shares: float
    price: float
    cumQty: float
    avgPrice: float
    time: datetime


class SdkCommission(Protocol):
    """The commission of one execution."""

    execId: str
    commission: float
    currency: str


class SdkAccountValue(Protocol):
    """One value of an account."""

    account: str
    tag: str
    value: str
    currency: str


class SdkTicker(Protocol):
    """The prices of one security."""

    bid: float
    ask: float
    last: float
    bidSize: float
    askSize: float
    lastSize: float
    volume: float
    time: datetime | None
    marketDataType: int


@dataclass(frozen=True, slots=True)
class Sdk:
    """The names used of ib_insync or ib_async."""

    name: str
    IB: Any
    Contract: Any
    Order: Any
    ExecutionFilter: Any
    Ticker: Any
    ComboLeg: Any
    RequestError: type[Exception]


def load_sdk(wanted: str | None) -> Sdk:
    """Import the SDK; call it on the loop's thread, because eventkit asks for a loop at import.

    Source: docs/facts/ibkr.md#8.2.

    Raises:
        ConfigurationError: the setting names no SDK, or none is installed.
    """
    if wanted not in (None, "", *SDKS):
        raise ConfigurationError(f"brokers.<name>.sdk must be one of {', '.join(SDKS)}, was {wanted!r}")
    for name in (wanted,) if wanted else SDKS:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        error = importlib.import_module(f"{name}.wrapper").RequestError
        made = (module.IB, module.Contract, module.Order, module.ExecutionFilter, module.Ticker, module.ComboLeg)
        return Sdk(name, *made, error)
    raise ConfigurationError(f"{wanted or ' or '.join(SDKS)} is not installed: {install('ibkr')}")


class DecoderWatch:
    """Stands in for the SDK decoder's logger: it swallows unreadable frames, and a listing must not."""

    def __init__(self, logger: logging.Logger, tell: Callable[[str], None]) -> None:
        self._logger = logger
        self._tell = tell

    def exception(self, message: str, *_: object) -> None:
        """Report a frame that could not be decoded, inside its except block."""
        self._tell(message)

    def __getattr__(self, name: str) -> object:
        return getattr(self._logger, name)


def code_and_text(error: Exception) -> tuple[int, str]:
    """Return IB's answer to a request, from the SDK's RequestError."""
    told: Any = error
    return int(told.code), str(told.message)
