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
    for line in lines:
        number = line.get("number")
        if line["event"] == "arrived":
            found[number] = AtDoor(
                number, line["door"], line["client_order_id"], wire_ids.get(number), line["symbol"],
                Decimal(line["quantity"]), stranger=bool((line.get("extra") or {}).get("stranger")),
            )  # fmt: skip
        elif number in found:
            entry = found[number]
            if line["event"] in ("fill", "amended"):
                entry.executions[line["execution_id"]] = Decimal(line["quantity"]), Decimal(line["price"])
                entry.filled = sum((quantity for quantity, _ in entry.executions.values()), Decimal(0))
                entry.state = "filled" if entry.filled >= entry.quantity else entry.state
            elif line["event"] == "doubted":
                entry.doubted = True
            elif line["event"] in ("canceled", "rejected", "expired", "replaced"):
                entry.state = line["event"]
                entry.reasons.append(line.get("reason") or "")
    return list(found.values())


def read_ledger(path: Path) -> list[Row]:
    """Read the ledger's file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
