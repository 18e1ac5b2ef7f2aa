"""Rows of IB's listings that the SDK cannot decode: whose they may be, read from the fields that name an order.

One row that cannot be read must not close the broker. A foreign one is left out and said once; of ours, nothing is
concluded. Field numbers: both SDKs' decoders (`openOrder`, `completedOrder`, `execDetails`, `position`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from worker.brokers.base import OrderRef
from worker.brokers.ibkr.instruments import KINDS
from worker.brokers.ibkr.sdk import SdkComboLeg, SdkContract

T = TypeVar("T")

#: Kind of message -> its name, and where its ids are.
_PLACES: dict[str, tuple[str, dict[str, int]]] = {
    "5": ("open order", {"order_id": 1, "account": 20, "ref": 23, "client_id": 24, "perm_id": 25}),
    "101": ("completed order", {"account": 19, "ref": 22, "perm_id": 23}),
    "11": (
        "execution",
        {"request_id": 1, "order_id": 2, "execution_id": 14, "account": 16, "ref": 26, "client_id": 22, "perm_id": 21},
    ),
    "61": (
        "position",
        {"account": 2, "con_id": 3, "symbol": 4, "kind": 5, "ends": 6, "exchange": 10, "currency": 11, "local": 12},
    ),
}
#: Answers and news that no listing of orders hangs on: the row of an order says its status, too.
_APART = frozenset({"1", "2", "3", "4", "6", "7", "8", "10", "17", "45", "46", "49", "58", "59", "63", "73", "81"})


class Rows(list[T]):
    """A complete listing; `spoiled` are those of its rows that could not be read."""

    def __init__(self, rows: Sequence[T] = (), spoiled: Sequence[Spoiled] = ()) -> None:
        super().__init__(rows)
        self.spoiled = list(spoiled)


@dataclass(frozen=True, slots=True)
class Spoiled:
    """One row that could not be decoded. An id of None could not be read either."""

    what: str
    ids: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """Return an id as it was sent; None where the row is too short for it."""
        return dict(self.ids).get(name)

    def number(self, name: str) -> int | None:
        """Return an id as a number; None where it is none."""
        text = self.get(name) or ""
        return int(text) if text.isascii() and text.isdecimal() else None

    def may_be(self, ref: OrderRef) -> bool:
        """Tell whether this could be the order: its reference or permId fits, or could not be read."""
        our_ref, perm_id = self.get("ref"), self.number("perm_id")
        if our_ref is None or perm_id is None:
            return our_ref in (None, ref.broker_client_order_id)
        if str(perm_id) in ref.known:
            return False
        return our_ref == ref.broker_client_order_id or (perm_id > 0 and str(perm_id) == ref.broker_order_id)

    @property
    def is_named(self) -> bool:
        """Tell whether its permId could be read."""
        return self.number("perm_id") is not None

    @property
    def is_never_traded(self) -> bool:
        """Tell whether a position is surely in something that corro does not trade."""
        return self.get("kind") not in (None, *KINDS.values())

    @property
    def contract(self) -> SdkContract | None:
        """The contract of a position, as far as its name needs it; None where too little can be read."""
        told = [self.get(name) for name in ("symbol", "kind", "ends", "exchange", "currency", "local")]
        con_id = self.number("con_id")
        return None if con_id is None or None in told else SpoiledContract(con_id, *map(str, told))

    def __str__(self) -> str:
        """Its kind and ids, the same at every reading: the id of the request is none of the row's."""
        named = (f"{name} {value!r}" for name, value in self.ids if name != "request_id")
        return f"{self.what} ({', '.join(named)})"


@dataclass(slots=True)
class SpoiledContract:
    """The contract in a row that could not be decoded, under the SDK's names."""

    conId: int
    symbol: str
    secType: str
    lastTradeDateOrContractMonth: str
    exchange: str
    currency: str
    localSymbol: str
    primaryExchange: str = ""
    multiplier: str = ""
    comboLegs: Sequence[SdkComboLeg] | None = field(default=None, init=False)


def spoiled(fields: Sequence[str]) -> Spoiled | None:
    """Return the row behind a frame that could not be decoded; None where nothing tells its kind."""
    what, places = _PLACES.get(fields[0] if fields else "", (None, {}))
    if what is None:
        return None
    return Spoiled(what, tuple((name, fields[at]) for name, at in places.items() if at < len(fields)))


def is_apart(fields: Sequence[str]) -> bool:
    """Tell whether a frame is of a kind that no listing waits for."""
    return bool(fields) and fields[0] in _APART
