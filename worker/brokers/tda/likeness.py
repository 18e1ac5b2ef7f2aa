"""When two orders are the same, where no id of ours says so: every term is compared; the unreadable proves nothing.

| every term of the listed order ...                              | it is |
|-----------------------------------------------------------------|-------|
| equals what was sent                                             | SAME  |
| equals it but the quantity, which is smaller                     | PART  |
| equals it as far as it can be read, or it is part of a group     | MAYBE |
| anything else                                                    | OTHER |

A single order inside a group may be what became of ours, and is never taken for it. A group is sent as an order that
triggers others, or as two of which one cancels the other: the same is one whose others have the same terms as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum

from worker.brokers.tda.legs import CREDIT, DEBIT
from worker.brokers.tda.shapes import BESIDE, PARENT, Leg, inner, legs
from worker.brokers.values import UNREADABLE, Raw, number


class Likeness(Enum):
    """How a listed order compares with the order that was sent."""

    SAME = "same"
    PART = "part"
    MAYBE = "maybe"
    OTHER = "other"


class _Unread:
    """A term that a row does not show, or shows unreadably: it is neither equal nor different."""

    def __repr__(self) -> str:
        return "?"


UNREAD = _Unread()
Term = str | int | Decimal | _Unread
Terms = Mapping[str, Term]

#: The prices that tell orders of a type apart; others the broker fills in by itself.
_PRICES = {
    "LIMIT": ("price",),
    "LIMIT_ON_CLOSE": ("price",),
    "STOP": ("stopPrice",),
    "STOP_LIMIT": ("price", "stopPrice"),
    "TRAILING_STOP": ("stopPriceOffset",),
    DEBIT: ("price",),
    CREDIT: ("price",),
}


def terms(raw: Raw) -> Terms:
    """Return the terms that tell orders apart: read alike from the body sent and from the order listed."""
    kind = _word(raw, "orderType")
    found = {
        "orderType": kind,
        "duration": _word(raw, "duration"),
        "session": _word(raw, "session"),
        "all_or_none": "ALL_OR_NONE" in str(raw.get("specialInstruction")),
        "alone": True if _is_alone(raw) else _triggered(raw),
        **_leg_terms(raw),
    }
    found |= {key: _read(number, raw.get(key)) for key in _PRICES.get(str(kind), ())}
    if kind == "TRAILING_STOP":
        found["stopPriceLinkType"] = _word(raw, "stopPriceLinkType")
        if raw.get("stopPriceLinkBasis") is not None:
            found["stopPriceLinkBasis"] = _word(raw, "stopPriceLinkBasis")
    return found


def compare(raw: Raw, wanted: Terms) -> Likeness:
    """Compare a listed order with the terms of the body that was sent."""
    found = terms(raw)
    if wanted["alone"] is True and found["alone"] is not True:
        found = {**found, "alone": UNREAD}  # it may be what became of ours
    shared = found.keys() & wanted.keys()
    # A type that cannot be read hides which prices would tell.
    said = [key for key in wanted if key != "stopPriceLinkBasis"]
    unread = [key for key in said if UNREAD in (found.get(key, UNREAD), wanted[key])]
    differing = [key for key in shared if UNREAD not in (found[key], wanted[key]) and found[key] != wanted[key]]
    if differing == ["quantity"] and _shares(found) < _shares(wanted):
        return Likeness.MAYBE if unread else Likeness.PART
    if differing:
        return Likeness.OTHER
    return Likeness.MAYBE if unread else Likeness.SAME


def could_be(raw: Raw, wanted: Terms) -> bool:
    """Tell whether an order known by its id can be the order that was sent: no shown term of its own says otherwise."""
    return compare(raw, {**wanted, "alone": UNREAD}) is not Likeness.OTHER


def missing(raw: Raw, wanted: Terms) -> Decimal:
    """Return how many shares fewer an order is for than the order that was sent."""
    return _shares(wanted) - _shares(terms(raw))


def _shares(found: Terms) -> Decimal:
    """Return the quantity among terms, which must be there."""
    return Decimal(str(found["quantity"]))


def is_kin(raw: Raw, other: Raw) -> bool:
    """Tell whether two orders trade the same symbol in the same direction, as far as both can be read."""
    mine, theirs = terms(raw), terms(other)
    return all(mine[key] == theirs[key] and mine[key] is not UNREAD for key in ("symbol", "instruction"))


def _leg_terms(raw: Raw) -> dict[str, Term]:
    """Return the terms of the first leg; what cannot be read is UNREAD, which neither equals nor differs."""
    found = legs(raw)
    if not found:
        return dict.fromkeys(("legs", "symbol", "instruction", "quantity"), UNREAD)
    if len(found) > 1:
        return _terms_of_package(found)
    leg = found[0]
    return {
        "legs": len(found),
        "symbol": leg.symbol if leg.symbol is not None else UNREAD,
        "instruction": leg.instruction or UNREAD,
        "quantity": leg.quantity if leg.quantity is not None else UNREAD,
    }


def _terms_of_package(found: list[Leg]) -> dict[str, Term]:
    """Return the terms of all legs, in whatever order they are listed; what cannot be read of one is UNREAD."""
    legs = sorted(found, key=lambda leg: str(leg.symbol))
    parts: dict[str, list[object]] = {
        "symbol": [leg.symbol for leg in legs],
        "instruction": [leg.instruction for leg in legs],
        "sizes": [leg.quantity for leg in legs],
    }
    told = {name: UNREAD if None in values else " ".join(map(_text, values)) for name, values in parts.items()}
    return {"legs": len(legs), "quantity": legs[0].quantity or UNREAD, **told}


def _triggered(raw: Raw) -> str | _Unread:
    """Return the terms of the orders that one triggers, or cancels, in one text.

    UNREAD where one cannot be read, and of an order inside another.
    """
    if BESIDE in raw and not raw.get("childOrderStrategies"):
        return _said([raw[BESIDE]], "cancels ")
    if PARENT in raw or raw.get("orderStrategyType") != "TRIGGER":
        return UNREAD
    return _said(inner(raw), "")


def _said(rows: Sequence[Raw], how: str) -> str | _Unread:
    """Return the terms of linked orders in one text."""
    found = [{key: value for key, value in terms(row).items() if key != "alone"} for row in rows]
    if not found or any(UNREAD in one.values() for one in found):
        return UNREAD
    return how + " + ".join(sorted(str(sorted((key, _text(value)) for key, value in one.items())) for one in found))


def _text(value: object) -> str:
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def _is_alone(raw: Raw) -> bool:
    return (
        raw.get("orderStrategyType") == "SINGLE"
        and BESIDE not in raw
        and not raw.get("childOrderStrategies")
        and PARENT not in raw
        and (raw.get("complexOrderStrategyType", "NONE") == "NONE" or len(legs(raw)) > 1)
    )


def _word(raw: Raw, key: str) -> str | _Unread:
    found = raw.get(key)
    return found if isinstance(found, str) and found.replace("_", "").isalpha() else UNREAD


def _read(read: Callable[[object], Decimal | None], value: object) -> Decimal | _Unread:
    try:
        found = read(value)
    except UNREADABLE:
        return UNREAD
    return UNREAD if found is None else found
