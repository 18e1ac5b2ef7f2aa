"""The check of one order with legs, leg by leg: what was asked for, what its door has, what our books say.

Σ(live + filled) of a leg is never more than was ordered of it, whoever counts; the fills of a leg are those of its
door, at its door's prices; the order's own figures are packages and their net price, a sale counted negative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tests.soak.doors import AskedLeg, AtDoor, Intent, Row

#: Prices agree when they differ by less.
_FINEST = Decimal("0.002")
_ZERO = Decimal(0)


@dataclass
class LegWords:
    """What is wrong with the legs of one order."""

    duplicates: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    false_terminals: list[str] = field(default_factory=list)


def look(intent: Intent, row: Row, fills: Sequence[Row], entries: Sequence[AtDoor]) -> LegWords:
    """Compare each leg.

    Args:
        intent: as it was asked for.
        row: of the order, in our books.
        fills: of the order, in our books.
        entries: the order at the doors.
    """
    words, booked = LegWords(), _number(row["filled_quantity"])
    words.duplicates += [word for entry in entries for word in _shape(intent, entry)]
    for number, part in enumerate(intent.parts, 1):
        mine = [f for f in fills if f["leg"] == number]
        there = [entry.legs[number] for entry in entries if number in entry.legs]
        listed, filled = sum((_number(f["quantity"]) for f in mine), _ZERO), sum((e.filled for e in there), _ZERO)
        exposed = sum((e.quantity if e.state == "live" else e.filled for e in there), _ZERO)
        if exposed > intent.quantity * part.ratio:
            words.duplicates.append(f"leg {number}: {exposed} live or filled of {intent.quantity * part.ratio}")
        if listed != booked * part.ratio:
            words.losses.append(f"leg {number}: {listed} in its fills, {booked} packages of {part.ratio} in its row")
        if listed > filled:
            words.false_terminals.append(f"leg {number}: {listed} filled in our books, {filled} at the doors")
        words.false_terminals += [f"leg {number}: {word}" for word in _misread(part, mine, there)]
    if any(f["leg"] not in range(1, len(intent.parts) + 1) for f in fills if _number(f["quantity"])):
        words.false_terminals.append("a fill of no leg")
    words.false_terminals += _net(intent, row, fills, entries)
    return words


def _shape(intent: Intent, entry: AtDoor) -> Iterator[str]:
    """Tell what a door has that was not asked for; an order that was turned away shows no legs."""
    wanted = {n: (p.symbol, p.turn, entry.quantity * p.ratio) for n, p in enumerate(intent.parts, 1)}
    found = {n: (e.symbol, 1 if e.side.startswith("buy") else -1, e.quantity) for n, e in entry.legs.items()}
    if found != wanted and entry.was_taken:
        yield f"legs {found} at a door, asked for were {wanted}"


def _misread(part: AskedLeg, fills: Sequence[Row], entries: Sequence[AtDoor]) -> Iterator[str]:
    """Tell of fills that are another instrument's, of the other side, or at prices that the door has not."""
    for fill in fills:
        turn = 1 if str(fill["side"]).startswith("buy") else -1
        if (fill["symbol"], turn) != (part.symbol, part.turn):
            yield f"its fill is {fill['side']} {fill['symbol']}, not {part.side} {part.symbol}"
    known = {price for e in entries for _, price in e.executions.values()}
    for fill in fills:
        price = fill["price"]
        exact = price is not None and not fill["inferred"] and _number(fill["quantity"])
        if exact and not any(abs(_number(price) - theirs) <= _FINEST for theirs in known):
            yield f"an execution at {price}, the doors have {sorted(map(str, known))}"


def _net(intent: Intent, row: Row, fills: Sequence[Row], entries: Sequence[AtDoor]) -> Iterator[str]:
    """Hold the net price of a package against the doors'; one that is not known, and says so, is no claim."""
    packages, told = sum((e.filled for e in entries), _ZERO), row["avg_fill_price"]
    if not packages or told is None or packages != _number(row["filled_quantity"]):
        return
    if any(f["price"] is None for f in fills):
        return
    worth = sum(
        (intent.parts[n - 1].turn * quantity * price for e in entries for n, leg in e.legs.items()
         for quantity, price in leg.executions.values()), _ZERO,
    )  # fmt: skip
    if abs(_number(told) - worth / packages) > _FINEST:
        yield f"{told} net in its row, {worth / packages} at the doors"


def _number(value: object) -> Decimal:
    return Decimal(str(value))
