"""The shapes of TDA's and Schwab's rows: orders within orders, legs, and the names of instruments.

A listing shows only the outermost orders; brackets and OCO groups hold theirs in `childOrderStrategies`, at any depth,
and a group may have no leg of its own. Recorded (2022, a TRIGGER order with an OCO group of three): every one has its
own orderId, status and executions; an order replaced inside a group stays listed there as REPLACED, names no successor,
and the successor's enteredTime is its closeTime.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from models.vocabulary import Side
from worker.brokers.tda.options import occ
from worker.brokers.values import Raw, identity, moment, positive, size, soft

#: Where `flat` notes the id of the order around a row.
PARENT = "parentOrderId"
#: Where it notes, for each of two orders of which one cancels the other and which nothing triggers, the other one.
BESIDE = "besideOrder"
_DEEPEST = 20
_SHARE_CLASS = re.compile(r"^([A-Z]{1,5})/([A-Z]{1,2})$")
#: A ticker as corro writes it, which a plain order in a US share can mean.
_TICKER = re.compile(r"[A-Z0-9$^][A-Z0-9.\-/]{0,31}")
_DIGITS = re.compile(r"[0-9]{1,64}")
_WORD = re.compile(r"[A-Z_]{1,24}")
_UNKNOWN = "UNKNOWN"
#: Longest name that the record takes.
_LONGEST = 64
#: Kinds of instrument that a plain ticker means. Schwab lists ETFs as COLLECTIVE_INVESTMENT, TDA as EQUITY or ETF.
_SHARES = frozenset({"EQUITY", "ETF", "COLLECTIVE_INVESTMENT"})
#: Options have instructions of their own, which open and close alike.
SIDES: dict[str, Side] = {side.value.upper(): side for side in Side} | {
    "BUY_TO_OPEN": Side.BUY,
    "SELL_TO_CLOSE": Side.SELL,
    "SELL_TO_OPEN": Side.SELL_SHORT,
    "BUY_TO_CLOSE": Side.BUY_TO_COVER,
    "SELL_SHORT_EXEMPT": Side.SELL_SHORT,
}


def rows_in(value: object) -> list[Raw]:
    """Return the objects in a list; anything else in it is left out, and no list is an empty one."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


# -- ORDERS ---
def order_id(raw: Raw) -> str | None:
    """Return an order's id, up to 64 digits; None where it cannot be read."""
    found = soft(identity, raw.get("orderId"))
    return found if found is not None and _DIGITS.fullmatch(found) else None


def flat(rows: Iterable[Raw]) -> list[Raw]:
    """Return every order of a listing, the inner ones with the id of the one around them under `PARENT`, each once.

    An inner order that has traded may be listed as one of the outer ones, too (a report of a user, not recorded).
    """
    found: dict[object, Raw] = {}
    for raw in _walked(rows, None, _DEEPEST):
        key = order_id(raw) or id(raw)
        if key not in found or PARENT in found[key]:
            found[key] = raw
    return list(found.values())


def _walked(rows: Iterable[Raw], parent: str | None, depth: int) -> Iterator[Raw]:
    for raw in rows:
        yield raw if parent is None else {**raw, PARENT: parent}
        if depth and raw.get("childOrderStrategies"):
            inside = rows_in(raw["childOrderStrategies"])
            if parent is None and raw.get("orderStrategyType") == "OCO" and len(inside) == 2:
                inside = beside(*inside)
            yield from _walked(inside, order_id(raw) or "?", depth - 1)


def beside(first: Raw, second: Raw) -> list[Raw]:
    """Return two orders of which one cancels the other, each with the other one noted."""
    return [{**first, BESIDE: second}, {**second, BESIDE: first}]


def successors(rows: Sequence[Raw]) -> dict[str, Raw]:
    """Return the order that took each replaced one's place, where exactly one can have done so.

    Where the broker does not name it, it is the one order of the same symbol and direction beside it (in the same
    group, or in none) that was entered in the second in which the old one was closed; of several, the one of its type.
    """
    by_id = {named: row for row in rows if (named := order_id(row)) is not None}
    found: dict[str, str] = {}
    for mine, raw in by_id.items():
        if raw.get("status") != "REPLACED":
            continue
        told = {named: row for row in rows_in(raw.get("replacingOrderCollection")) if (named := order_id(row))}
        by_id = told | by_id
        heirs = [named for named in told if named != mine]
        heirs = heirs or [named for named, row in by_id.items() if named != mine and _took_over(row, raw)]
        alike = [named for named in heirs if by_id[named].get("orderType") == raw.get("orderType")]
        if len(heirs) == 1 or len(alike) == 1:
            found[mine] = heirs[0] if len(heirs) == 1 else alike[0]
    taken = list(found.values())
    return {old: by_id[new] for old, new in found.items() if taken.count(new) == 1}


def _took_over(raw: Raw, old: Raw) -> bool:
    at, ended = soft(moment, raw.get("enteredTime")), soft(moment, old.get("closeTime"))
    if raw is old or at is None or ended is None or raw.get(PARENT) != old.get(PARENT):
        return False
    if at < (soft(moment, old.get("enteredTime")) or at):
        return False
    same = [(leg.symbol, leg.instruction) for leg in legs(raw)] == [(leg.symbol, leg.instruction) for leg in legs(old)]
    return same and abs(at - ended) <= timedelta(seconds=1) and order_id(raw) != order_id(old)


def inner(raw: Raw) -> list[Raw]:
    """Return the orders inside one, at any depth, without the groups that hold them."""
    return [row for row in flat([raw])[1:] if legs(row)]


# -- LEGS ---
@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One leg of an order, as far as it can be read.

    Args:
        place: which one it is, from 1.
        leg_id: the broker's number of it, which executions name.
        symbol: its name here; None where nothing names the instrument, or its kind cannot be read.
        instruction, side: what is done.
        quantity: of it, in the whole order.
    """

    place: int
    leg_id: str | None
    symbol: str | None
    instruction: str | None
    side: Side | None
    quantity: Decimal | None


def legs(raw: Raw) -> list[Leg]:
    """Return the legs of an order; a group has none. One that cannot be read is a leg all the same."""
    rows = raw.get("orderLegCollection")
    rows = rows if isinstance(rows, list) else []
    return [_leg(row if isinstance(row, dict) else {}, place) for place, row in enumerate(rows, 1)]


def _leg(row: Raw, place: int) -> Leg:
    """Return one leg of an order; what cannot be read of it is None."""
    named = name(row.get("instrument"), row.get("orderLegType"))
    if named is not None and named.startswith(_UNKNOWN):
        named = None  # its kind is unknown: it may be the share, and may be not
    instruction = row.get("instruction")
    word = instruction if isinstance(instruction, str) and _WORD.fullmatch(instruction) else None
    return Leg(
        place=place,
        leg_id=soft(identity, row.get("legId")) if row.get("legId") is not None else None,
        symbol=named,
        instruction=word,
        side=SIDES.get(word or ""),
        quantity=soft(positive, row.get("quantity")),
    )


def name(instrument: object, kind: object = None) -> str | None:
    """Return the name of an instrument.

    A share or an ETF has its ticker. Everything else has a name that no ticker equals: an option its OCC symbol without
    blanks, the rest `MUTUAL_FUND:SWPPX`, `FIXED_INCOME:912828YK0`, and `CUSIP:912828YK0` where there is no symbol, as
    with bonds. None where nothing names it.
    """
    if not isinstance(instrument, dict):
        return None
    kind = instrument.get("assetType", kind)
    word = kind if isinstance(kind, str) and _WORD.fullmatch(kind) else _UNKNOWN
    symbol = _text(instrument.get("symbol"))
    if symbol is None:
        return next((f"{label}:{found}" for label, key in _OTHER_NAMES if (found := _text(instrument.get(key)))), None)
    if word == "OPTION" and (option := occ(symbol)) is not None:
        return option
    ours = from_wire(symbol)
    if word in _SHARES and instrument.get("type") != "UNIT_INVESTMENT_TRUST" and _TICKER.fullmatch(ours):
        return ours
    return f"{word}:{symbol}"[:_LONGEST]


_OTHER_NAMES = (("CUSIP", "cusip"), ("INSTRUMENT", "instrumentId"))


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    text = str(value).strip()
    return text if text and text.isascii() and text.isprintable() and len(text) <= _LONGEST // 2 else None


def from_wire(symbol: str) -> str:
    """Return corro's spelling: share classes with a dot; Schwab writes them BRK/B (`TdaDialect.symbol`)."""
    return _SHARE_CLASS.sub(r"\1.\2", symbol)


# -- FIELDS OF AN ORDER ---
def filled(raw: Raw) -> Decimal | None:
    """Return how many of an order's shares, or spreads, are filled; None where that cannot be read."""
    return soft(size, raw.get("filledQuantity"))


def total(raw: Raw) -> Decimal | None:
    """Return how many an order trades in all; None where that cannot be read."""
    return soft(positive, raw.get("quantity"))


def tag(raw: Raw) -> str | None:
    """Return the broker's mark of the application through which an order was entered; None where it shows none."""
    found = raw.get("tag")
    return found if isinstance(found, str) and found else None


def entered(raw: Raw) -> datetime | None:
    """Return when an order was entered, to the second."""
    return soft(moment, raw.get("enteredTime"))


def closed(raw: Raw) -> datetime | None:
    """Return when an order ended, to the second."""
    return soft(moment, raw.get("closeTime"))
