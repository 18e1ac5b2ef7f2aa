"""What an order uses of limits: a pure function of its row and its attempts, kept in `risk_tallies` as they change.

Every change of an order goes through an `OrderBatch`. What the order used before and what it uses now are told by
`uses`; the difference is added to the tallies in the same transaction. So nothing has to remember to reserve, to
release or to convert: a claim adds, a refusal takes away, a fill turns what is open into what is held, an unknown
attempt goes on counting until there is evidence, and the tallies are at any time the sum over all orders.

An attempt counts if its `reserved` says as what: {"day", "price", "key"?}, the price being money per unit with the
multiplier in it. It is written by the claim, where a limit is in force; other orders cost nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TypedDict, cast

from sqlalchemy import Connection, bindparam, or_

from models.legs import stored_legs
from models.record.asking import Questionnaire
from models.record.rows import AttemptRow, ReadableOrder, by_name
from models.record.statements import Query, upsert
from models.record.tables import risk_tallies
from models.sizes import left_of, units_for
from models.vocabulary import LIVE, Outcome, Side, Status, signed

#: Columns that find a tally, and those that are added up.
KEY = tuple(column.name for column in risk_tallies.primary_key)
#: A tally of something open: an order, or a leg of one, which counts in units alone.
STILL_OPEN = or_(risk_tallies.c.open_orders != 0, risk_tallies.c.buying != 0, risk_tallies.c.selling != 0)
COUNTED = ("sent", "sent_value", "open_orders", "buying", "selling", "open_buy", "open_sell")
#: A tally's key -> what an order adds to each of COUNTED.
Uses = dict[tuple[str, ...], dict[str, Decimal]]
#: It is at its broker, was there, or may be.
_REACHED = (Outcome.SENDING, Outcome.UNKNOWN, Outcome.ACCEPTED)
_UNDECIDED = (Outcome.SENDING, Outcome.UNKNOWN)
_AT_BROKER = LIVE | {Status.SUBMITTED}
_ZERO, _ONE = Decimal(0), Decimal(1)


def is_counted(attempts: Mapping[int, AttemptRow]) -> bool:
    """Tell whether one of an order's attempts counts."""
    return any(attempt["reserved"] is not None for attempt in attempts.values())


def uses(order: ReadableOrder, attempts: Mapping[int, AttemptRow]) -> Uses:
    """Return what an order uses.

    | of an order                                   | counts as                                                      |
    |-----------------------------------------------|----------------------------------------------------------------|
    | an attempt that reached its broker, or may have | one sent, with its value                                     |
    | a replace that did, or may have               | the value that it adds                                         |
    | not ended, its newest attempt at a broker     | one open; what is not filled, the larger size while it changes |
    """
    found: Uses = {}
    for number, attempt in attempts.items():
        if attempt["reserved"] is None or attempt["outcome"] not in _REACHED:
            continue
        value = _value(order, attempts, number)
        if attempt["replaces"] is None:
            _add(found, order, attempt, sent=_ONE, sent_value=value)
        elif attempt["replaces"] in attempts:
            before = _value(order, attempts, attempt["replaces"])
            _add(found, order, attempt, sent_value=max(value - before, _ZERO))
    current = attempts.get(order["attempt_no"])
    if current is not None and current["reserved"] is not None and Status(order["status"]) in _AT_BROKER:
        _add(found, order, current, **_open(order, attempts, current))
        for leg in stored_legs(order["legs"]):  # positions are those of the legs
            left = left_of(order) * leg.ratio
            one = cast("ReadableOrder", by_name(order) | {"symbol": leg.symbol})
            _add(found, one, current, **{"buying" if leg.turn > 0 else "selling": max(left, _ZERO)})
    return found


def _open(order: ReadableOrder, attempts: Mapping[int, AttemptRow], current: AttemptRow) -> dict[str, Decimal]:
    number = order["attempt_no"]
    changing = [no for no, a in attempts.items() if a["replaces"] == number and a["outcome"] in _UNDECIDED]
    most = max(_quantity(order, attempts, no) for no in (number, *changing))
    left = max(most - order["filled_quantity"], _ZERO)
    value = left * max(_price(a) for a in (current, *(attempts[no] for no in changing)))
    if order["legs"]:
        return {"open_orders": _ONE, "open_buy": value}
    if (money := order["notional"]) is not None:
        value = max(money - order["filled_quantity"] * (order.get("avg_fill_price") or _ZERO), _ZERO)
    if signed(Side(order["side"])) > 0:
        return {"open_orders": _ONE, "buying": left, "open_buy": value}
    return {"open_orders": _ONE, "selling": left, "open_sell": value}


def _quantity(order: ReadableOrder, attempts: Mapping[int, AttemptRow], number: int) -> Decimal:
    """Return the size of the order that an attempt made, or was to make, of it."""
    terms = attempts[number]["terms"] or {}
    if number != order["attempt_no"] and "quantity" in terms:
        return Decimal(terms["quantity"])
    if order["quantity"] is not None:
        return order["quantity"]
    price = _price(attempts[number])
    return units_for(order["notional"] or _ZERO, price) if price else _ZERO


def _value(order: ReadableOrder, attempts: Mapping[int, AttemptRow], number: int) -> Decimal:
    """Return what such an order is worth: of an order of money, that."""
    if order["notional"] is not None:
        return order["notional"]
    return _quantity(order, attempts, number) * _price(attempts[number])


def _price(attempt: AttemptRow) -> Decimal:
    return Decimal((attempt["reserved"] or {}).get("price") or 0)


def _add(found: Uses, order: ReadableOrder, attempt: AttemptRow, **more: Decimal) -> None:
    mine = found.setdefault(key_of(order, attempt), dict.fromkeys(COUNTED, _ZERO))
    for name, value in more.items():
        mine[name] += value


def key_of(order: ReadableOrder, attempt: AttemptRow) -> tuple[str, ...]:
    """Return the key of the tally in which an attempt counts."""
    reserved = attempt["reserved"] or {}
    names: dict[str, object] = {
        "broker": attempt["broker"],
        "account": attempt["account"],
        "strategy": order["strategy"],
        "symbol": order["symbol"],
        "key_id": reserved.get("key"),
        "day": reserved.get("day"),
    }
    return tuple(str(names[name] or "") for name in KEY)


def difference(before: Uses, after: Uses) -> Uses:
    """Return what changes from one to the other; tallies that stay as they are are left out."""
    nothing = dict.fromkeys(COUNTED, _ZERO)
    found: Uses = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key, nothing), after.get(key, nothing)
        if changes := {name: new[name] - old[name] for name in COUNTED if new[name] != old[name]}:
            found[key] = nothing | changes
    return found


def total(several: Iterable[Uses]) -> Uses:
    """Add up what several orders use."""
    found: Uses = {}
    for one in several:
        for key, values in one.items():
            mine = found.setdefault(key, dict.fromkeys(COUNTED, _ZERO))
            for name, value in values.items():
                mine[name] += value
    return found


class _Added(TypedDict):
    """A tally that was added to."""

    broker: str


#: The upsert of one tally, by dialect.
_additions: dict[str, Query[_Added]] = {}


def _addition(connection: Connection) -> Query[_Added]:
    name = connection.dialect.name
    if name not in _additions:
        _additions[name] = _made_addition(connection)
    return _additions[name]


def _made_addition(connection: Connection) -> Query[_Added]:
    columns = (*KEY, *COUNTED, "realized")
    values = {name: bindparam(name, type_=risk_tallies.c[name].type) for name in columns}
    put = upsert(connection, risk_tallies).values(values)
    more = {name: risk_tallies.c[name] + put.excluded[name] for name in COUNTED}
    put = put.on_conflict_do_update(index_elements=list(risk_tallies.primary_key), set_=more)
    return Query(put.returning(risk_tallies.c.broker), _Added)


def keep(connection: Connection, changes: Uses) -> None:
    """Add changes to the tallies."""
    asking = Questionnaire(connection)
    add_to_tallies(asking, changes)
    asking.answer()


def add_to_tallies(asking: Questionnaire, changes: Uses) -> None:
    """Ask for changes to be added to the tallies, in one order of keys so that two transactions never deadlock."""
    connection = asking.connection
    for key, values in sorted(changes.items()):
        whole = {name: int(values[name]) for name in ("sent", "open_orders")}
        row: dict[str, object] = {**dict(zip(KEY, key, strict=True)), **values, **whole, "realized": _ZERO}
        asking.ask(_addition(connection), len, **row)
