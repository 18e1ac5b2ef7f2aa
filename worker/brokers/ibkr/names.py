"""Which security a symbol means at Interactive Brokers, and the names of all others.

A plain ticker means one thing: the stock of that symbol, in US dollars, whose primary listing is in the United States.
What corro trades besides has its canonical text (`instruments.canonical`); everything else a name that no order can
have: `STK:SHOP@VALUE.CAD` (symbol, listing, currency), `BOND:IBCID72`. Pure: SDK objects are read by attribute only.
"""

from __future__ import annotations

from collections.abc import Iterable

from models.errors import InstrumentUnknown, Unsupported
from models.instruments import US_LISTINGS
from worker.brokers.ibkr.instruments import Size, canonical, from_ib_symbol, size_of
from worker.brokers.ibkr.sdk import SdkContract

#: Stocks that trade in the United States without a listing: the OTC markets and their tiers.
OTC = frozenset(
    {
        "PINK", "PINK.CURRENT", "PINK.LIMITED", "PINK.NOINFO", "PINK.PREMQX", "PINK.PRIMQX", "PINK.INTPREMQX",
        "PINK.INTPRIMQX", "OTC", "OTCBB", "OTCQB", "OTCQX", "OTCLNKECN", "ARCAEDGE",
    }
)  # fmt: skip
#: Tried in this order. An exchange in neither is refused, not guessed: LSEETF and FWB2 list in dollars too, VALUE holds
#: what is delisted.
_TIERS = (US_LISTINGS, OTC)
#: Longest name that the record takes.
_LONGEST = 64
#: Where an order goes, which says nothing about where its security is listed.
_ROUTES = frozenset({"", "SMART"})


def choose(contracts: Iterable[SdkContract], wanted: SdkContract, broker: str) -> SdkContract:
    """Pick the stock that a symbol means; several are refused rather than guessed.

    Raises:
        InstrumentUnknown: no stock of this very symbol is in US dollars and listed in the United States.
        Unsupported: several are.
    """
    exact = [c for c in contracts if c.symbol == wanted.symbol and c.secType == "STK" and c.currency == "USD"]
    for tier in _TIERS:
        listed = [c for c in exact if c.primaryExchange in tier]
        if len(listed) == 1:
            return listed[0]
        if listed:
            words = f"{wanted.symbol} is ambiguous, {len(listed)} US stocks match"
            raise Unsupported(f"{broker}: {words}", broker=broker, code="200")
    where = ", ".join(sorted({c.primaryExchange or "nowhere" for c in exact}))
    known = f" (in US dollars it is listed at {where})" if exact else ""
    raise InstrumentUnknown(f"{broker}: no US stock {wanted.symbol}{known}", broker=broker, code="200")


def qualified(contract: SdkContract, listing: str = "") -> str:
    """Return the name of a security that no plain ticker means: its text, or a name that no order can have."""
    if (text := canonical(contract, "" if listing in OTC else listing)) is not None:
        return text
    if contract.secType != "STK":
        return f"{contract.secType or '?'}:{contract.localSymbol or contract.symbol}"[:_LONGEST]
    return f"STK:{from_ib_symbol(contract.symbol)}@{listing or '?'}.{contract.currency or '?'}"[:_LONGEST]


class Names:
    """What contracts are called: the same in every message, by conId, and never by symbol alone."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._chosen: dict[str, int] = {}
        #: Stocks of which no message has told where they are listed, by conId.
        self._unnamed: dict[int, SdkContract] = {}
        #: Legs of packages of which nobody knows yet what they are.
        self.legs: set[int] = set()
        #: In which parts of its currency a contract's prices are, where its details were read.
        self._magnifiers: dict[int, int] = {}

    def magnified(self, con_id: int, by: int) -> None:
        """Take in that the prices of a contract are in hundredths."""
        self._magnifiers[con_id] = by

    def size(self, contract: SdkContract) -> Size:
        """Return what one unit of a contract is."""
        return size_of(contract, self._magnifiers.get(contract.conId))

    def chose(self, ticker: str, con_id: int) -> None:
        """Take in which contract a ticker means."""
        self._chosen[ticker] = con_id
        self._name(con_id, ticker)

    def listed(self, con_id: int, listing: str) -> None:
        """Take in where a contract that no ticker means is listed; empty where IB does not know it any more."""
        if con_id in self._unnamed:
            self._name(con_id, qualified(self._unnamed[con_id], listing))

    def told(self, con_id: int, name: str) -> None:
        """Take in what a contract is called."""
        self._name(con_id, name)

    def _name(self, con_id: int, name: str) -> None:
        self._names[con_id] = name
        self._unnamed.pop(con_id, None)
        self.legs.discard(con_id)

    def called(self, con_id: int | None) -> str | None:
        """Return the name of a contract that was named before."""
        return self._names.get(con_id) if con_id is not None else None

    def of(self, contract: SdkContract, listed: bool = False) -> str | None:
        """Return the name of a contract; None until it is known which one its ticker means, or where it is listed.

        Args:
            contract: of an order, an execution or a holding.
            listed: its `exchange` is where it is listed (positions), not where it traded or was sent.
        """
        if (known := self._names.get(contract.conId)) is not None:
            return known
        if contract.secType == "FUT" and contract.conId:  # its exchange, and its prices' parts, are in its details
            self._unnamed.setdefault(contract.conId, contract)
            return None
        if contract.secType != "STK":
            return qualified(contract)
        listing = contract.primaryExchange or (contract.exchange if listed else "")
        listing = "" if listing in _ROUTES else listing
        if not contract.conId:
            return qualified(contract, listing)
        ticker = self._ticker(contract)
        if ticker and listing in US_LISTINGS:
            return ticker
        if not listing or (ticker and listing in OTC):
            self._unnamed.setdefault(contract.conId, contract)
            return None
        self._name(contract.conId, qualified(contract, listing))
        return self._names[contract.conId]

    @property
    def unnamed(self) -> dict[int, str]:
        """Return the contracts to ask for before everything seen has a name: conId -> the ticker it may be, or none."""
        return {con_id: self._ticker(one) for con_id, one in self._unnamed.items()}

    def _ticker(self, contract: SdkContract) -> str:
        """Return the ticker that may mean a contract; empty where none can."""
        ticker = from_ib_symbol(contract.symbol)
        may_be = contract.secType == "STK" and contract.currency == "USD" and ticker not in self._chosen
        return ticker if may_be else ""
