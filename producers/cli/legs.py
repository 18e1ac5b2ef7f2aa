"""Legs as people type them: `+1 KO261218C00060000 open`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from models.history import Row

_FORM = 'a leg is "+1 SYMBOL" or "-1 SYMBOL", and open or close behind it where you want to say that'
LEG_COLUMNS = ("leg", "side", "ratio", "symbol", "position_effect", "filled_quantity", "avg_fill_price")
_SIDES = {"+": "buy", "-": "sell"}


def legs_of(given: Sequence[str] | None) -> list[dict[str, str]] | None:
    """Return the field `legs` of an order object; None where none was given.

    Raises:
        BadParameter: one cannot be read.
    """
    return [_leg(text) for text in given] if given else None


def filled_legs(legs: Sequence[Row], fills: Sequence[Row]) -> list[Row]:
    """Return the legs of an order with what is filled of each, and at which mean price; null where one is unknown."""
    return [
        leg | _filled([f for f in fills if f["leg"] == number]) | {"leg": number} for number, leg in _numbered(legs)
    ]


def _numbered(legs: Sequence[Row]) -> list[tuple[int, Row]]:
    return [(number, dict(leg)) for number, leg in enumerate(legs, 1)]


def _filled(fills: Sequence[Row]) -> dict[str, Decimal | None]:
    done = sum((fill["quantity"] for fill in fills), Decimal(0))
    worth = [fill["quantity"] * fill["price"] for fill in fills if fill["price"] is not None]
    is_known = bool(done) and len(worth) == len(fills)
    return {"filled_quantity": done, "avg_fill_price": round(sum(worth, Decimal(0)) / done, 8) if is_known else None}


def _leg(text: str) -> dict[str, str]:
    size, *rest = text.split() or [""]
    side = _SIDES.get(size[:1], "")
    if not side or not size[1:].isdecimal() or len(rest) not in (1, 2):
        raise typer.BadParameter(f"--leg: {_FORM}, was {text!r}")
    leg = {"symbol": rest[0], "side": side, "ratio": size[1:]}
    return leg | ({"position_effect": rest[1]} if len(rest) == 2 else {})
