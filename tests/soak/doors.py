"""What was asked for, and what came of it at the doors: their ledger, folded anew into one entry for every order.

Executions count as they stand: what was put right with its last price, what was taken back not at all. Orders of
strangers are known by a mark in the ledger, which the doors show to nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


#: What an order is recognised by at a door: symbol, quantity, amount of money in its place, whether it buys, type.
Key = tuple[str, Decimal | None, Decimal | None, bool, str]


@dataclass(frozen=True)
class AskedLeg:
    """One leg of an order with several, as it was asked for."""

    symbol: str
    side: str
    ratio: int

    @property
    def turn(self) -> int:
        return 1 if self.side.startswith("buy") else -1


@dataclass
class Intent:
    """One order as it was asked for: the truth that both sides are held against."""

    client_order_id: str
    symbol: str
    side: str
    quantity: Decimal
    route: tuple[str, ...]
    #: A submit of it returned, so it must be in the books.
    recorded: bool = False
    order_type: str = "market"
    #: Of linked orders: the id of their group, how they are linked, and which leg it is.
    group: str | None = None
    kind: str | None = None
    leg: str | None = None
    #: Of an order with legs: what it trades.
    parts: tuple[AskedLeg, ...] = ()
    #: The bracket whose exits it stands for: nobody asked for it, `on_partial` did.
    protects: str | None = None
    #: An order of money: how much may be spent; its quantity is 0.
    money: Decimal | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names that a door may give it: an order with legs is called after its share, or after its first leg."""
        return (self.symbol, self.parts[0].symbol) if self.parts else (self.symbol,)

    @property
    def keys(self) -> tuple[Key, ...]:
        """What it is recognised by at a door."""
        size = (self.quantity, None) if self.money is None else (None, self.money)
        return tuple((name, *size, self.side.startswith("buy"), self.order_type) for name in self.symbols)


@dataclass
class AtDoor:
    """One order at a door, folded from the ledger."""

    number: int
    door: str
    client_order_id: str | None
    wire_id: str | None
    symbol: str
    quantity: Decimal
    state: str = "live"
    filled: Decimal = Decimal(0)
    reasons: list[str] = field(default_factory=list)
    #: What stands of each execution: quantity and price.
    executions: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    #: Somebody else has placed it.
    stranger: bool = False
    #: Its door has said that it is refused, and kept it.
    doubted: bool = False
    side: str = "buy"
    order_type: str = "market"
    #: An execution of it was put right or taken back.
    amended: bool = False
    #: Of an order with legs: each of them, by its number.
    legs: dict[int, AtDoor] = field(default_factory=dict)
    #: An order of money: how much it may spend; its quantity is what the door thought of at first.
    money: Decimal | None = None

    @property
    def key(self) -> Key:
        """What it is recognised by."""
        size = (self.quantity, None) if self.money is None else (None, self.money)
        return self.symbol, *size, self.side.startswith("buy"), self.order_type

    @property
    def spent(self) -> Decimal:
        """The worth of what stands of its executions."""
        return sum((quantity * price for quantity, price in self.executions.values()), Decimal(0))

    @property
    def counts(self) -> bool:
        """Live, or traded."""
        return self.state == "live" or self.filled > 0

    @property
    def was_taken(self) -> bool:
        """The door had it, if only for a moment."""
        return self.state != "rejected" or any("after acceptance" in reason for reason in self.reasons)

    @property
    def was_refused(self) -> bool:
        """The door said no in so many words: not swallowed, not a server's error; or no at first, and then canceled."""
        if self.doubted and self.state == "canceled" and not self.filled:
            return True
        return self.state == "rejected" and not any(r == "swallowed" or r.startswith("status ") for r in self.reasons)

    def __str__(self) -> str:
        return f"{self.door}#{self.number} {self.state} {self.filled}/{self.quantity} {self.reasons or ''}".strip()


def fold(lines: Iterable[Row], wire_ids: Mapping[int, str]) -> list[AtDoor]:
    """Fold the ledger's lines into one entry for every order that reached a door."""
    found: dict[int, AtDoor] = {}
    inner: set[int] = set()
    for line in lines:
        number = line.get("number")
        if line["event"] == "arrived":
            extra = line.get("extra") or {}
            # Alpaca gives an order that belongs to another an id of its own.
            told = None if line["door"] == "alpaca" and extra.get("parent") else line["client_order_id"]
            found[number] = AtDoor(
                number, line["door"], told, wire_ids.get(number), line["symbol"], Decimal(line["quantity"]),
                stranger=bool(extra.get("stranger")), side=line["side"], order_type=line["order_type"],
                money=None if extra.get("notional") is None else Decimal(extra["notional"]),
            )  # fmt: skip
            if "leg" in extra:
                found[extra["parent"]].legs[extra["leg"]] = found[number]
                inner.add(number)
        elif number in found:
            entry = found[number]
            if line["event"] in ("fill", "amended"):
                entry.executions[line["execution_id"]] = Decimal(line["quantity"]), Decimal(line["price"])
                entry.filled = sum((quantity for quantity, _ in entry.executions.values()), Decimal(0))
                whole = line.get("state") == "filled" if entry.money else entry.filled >= entry.quantity
                entry.state = "filled" if whole else entry.state
                entry.amended |= line["event"] == "amended"
            elif line["event"] == "doubted":
                entry.doubted = True
            elif line["event"] in ("canceled", "rejected", "expired", "replaced"):
                entry.state = line["event"]
                entry.reasons.append(line.get("reason") or "")
    return [entry for number, entry in found.items() if number not in inner]


def read_ledger(path: Path) -> list[Row]:
    """Read the ledger's file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
