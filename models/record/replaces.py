"""Changing an order that is under way: what may change, and how the wish is recorded.

An order that is still queued changes at once. For one that may be at a broker the wish is written on the row, and the
broker's worker carries it out; until the broker has confirmed it, the order keeps its terms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from models.errors import InvalidOrder
from models.messages import OrderRequest, plain
from models.record.changes import OrderChanges
from models.record.holds import APPROVAL, reasons
from models.record.intake import request_of
from models.record.order import RETYPED, TERMS, OrderRecord, Row, is_changing
from models.record.rows import AnyOrder
from models.vocabulary import TERMINAL, UNSENT, Side


def changed_terms(order: OrderRequest, changes: Mapping[str, object]) -> OrderRequest:
    """Return the order with new terms.

    Raises:
        InvalidOrder: names a field that cannot be changed, or whose new value does not fit the order.
    """
    unknown = sorted(set(changes) - set(TERMS))
    if unknown:
        raise InvalidOrder(f"{unknown[0]}: a replace can change {', '.join(TERMS)} only")
    given = {name: value for name, value in changes.items() if value is not None}
    return with_terms(order, given)


def with_terms(order: OrderRequest, terms: Mapping[str, object]) -> OrderRequest:
    """Return the order with other terms, those of another order type among them.

    Raises:
        InvalidOrder: they do not fit the order.
    """
    # Not its version: a claim has given it an account that an object of version 1 need not have named.
    return OrderRequest(**{**order.model_dump(exclude={"version"}), **terms})


def changed(row: AnyOrder, changes: Mapping[str, object]) -> dict[str, str]:
    """Return the terms that changes would give an order otherwise than it has them, as they travel.

    Raises:
        InvalidOrder: it has ended, the new terms do not fit it, or nothing would change.
    """
    if row["status"] in TERMINAL:
        raise InvalidOrder(f"{row['client_order_id']} cannot be replaced: it is {row['status']}")
    now = request_of(row)
    new = changed_terms(now, changes)
    found = {name: _json(getattr(new, name)) for name in TERMS if getattr(new, name) != getattr(now, name)}
    if not found:
        raise InvalidOrder(f"{now.client_order_id}: the new terms are those it has")
    return found


#: Stored terms that are no numbers, and those that are prices.
_WORDS = ("order_type", "time_in_force")
_PRICES = tuple(name for name in RETYPED if name not in (*_WORDS, "quantity"))
#: How the events begin of a change that was made at once, and of one that was taken by its broker and came to nothing.
_UNSENT, TAKEN = "before it was sent: ", "after it was taken: "
#: How events name the attempt that they are about.
_OF_ATTEMPT = re.compile(r"attempt (\d+) at [^:]+: ")
#: Which way a limit price goes when an order becomes less aggressive: it buys for less, it sells for more.
_LESS = {Side.BUY: -1, Side.BUY_TO_COVER: -1, Side.SELL: 1, Side.SELL_SHORT: 1}


def lessens(old: OrderRequest, new: OrderRequest) -> bool:
    """Tell whether a change makes an order only smaller or less aggressive, so that it may pass a halt.

    | quantity | limit price     | anything else | lessens |
    |----------|-----------------|---------------|---------|
    | smaller  | same, or less   | same          | yes     |
    | same     | less aggressive | same          | yes     |
    | same     | same            | same          | no      |
    | larger   | any             | any           | no      |
    | any      | more aggressive | any           | no      |
    | any      | any             | different     | no      |

    Anything else is a trigger, a distance or how long the order lives: no change of these is surely a lessening.
    """
    if any(getattr(old, name) != getattr(new, name) for name in TERMS if name not in ("quantity", "limit_price")):
        return False
    shrinks = old.units - new.units
    before, after = old.limit_price, new.limit_price
    retreats = Decimal(0) if before is None or after is None else (after - before) * _LESS[old.side]
    if (before is None) != (after is None):
        return False
    return min(shrinks, retreats) >= 0 and max(shrinks, retreats) > 0


def unapproved(entry: OrderRecord, new: OrderRequest, *, by_whom_it_is_asked: bool = False) -> str | None:
    """Say why somebody would have to approve a change; None where nobody has to.

    An approval is of the terms that were approved, and whoever is asked for one has seen the terms as they were: from
    the moment at which an order waits for it, it may only become less.

    Args:
        entry: the order.
        new: its new terms.
        by_whom_it_is_asked: the orders of the key that asks need approval.
    """
    now = request_of(entry.order)
    if lessens(now, new):
        return None
    if not (by_whom_it_is_asked or APPROVAL in reasons(entry) or entry.batch.last_event(entry.id, ("approved",))):
        return None
    terms = words({name: value for name in TERMS if (value := getattr(now, name)) is not None})
    todo = "a replace may only make it smaller or its limit price less aggressive; for more, cancel it and submit anew"
    return f"{entry.id}: somebody has to approve it, on the terms it has ({terms}): {todo}"


def request_replace(
    entry: OrderRecord,
    changes: Mapping[str, object],
    signed_at: datetime | None = None,
    *,
    needs_approval: bool = False,
) -> None:
    """Record the wish to change an order; asking for the terms that it has withdraws a wish nobody has sent yet.

    Args:
        entry: the order.
        changes: the new terms.
        signed_at: of a signed wish, when it was made.
        needs_approval: the orders of the key that asks need approval.

    Raises:
        InvalidOrder: the order has ended or is being canceled, the new terms do not fit it, nothing would change, or
            somebody would have to approve it.
    """
    if entry.status in TERMINAL or entry.order["cancel_requested_at"] is not None:
        raise InvalidOrder(f"{entry.id} cannot be replaced: it is {entry.status}")
    if entry.order["group_id"] is not None:
        of = f"it is the {entry.order['leg']} of group {entry.order['group_id']}, whose legs are not changed singly"
        raise InvalidOrder(f"{entry.id} cannot be replaced: {of}; cancel the group and submit a new one")
    if entry.order["legs"] is not None:
        raise InvalidOrder(f"{entry.id} cannot be replaced: it has legs; cancel it and submit a new one")
    if entry.order["notional"] is not None:
        raise InvalidOrder(
            f"{entry.id} cannot be replaced: it is for an amount of money; cancel it and submit a new one"
        )
    now = request_of(entry.order)
    new = changed_terms(now, changes)
    different: Row = {name: getattr(new, name) for name in TERMS if getattr(new, name) != getattr(now, name)}
    if not different and entry.order["replace_request"] and not is_changing(entry):
        entry.set(replace_request=None)
        entry.waits_no_more()
        entry.note("replace_withdrawn", "it keeps the terms that it has")
        return
    if not different:
        raise InvalidOrder(f"{entry.id}: the new terms are those it has")
    if new.units <= entry.order["filled_quantity"]:
        filled = plain(entry.order["filled_quantity"])
        raise InvalidOrder(f"quantity: {filled} are filled already, was {plain(new.units)}; cancel it instead")
    if objection := unapproved(entry, new, by_whom_it_is_asked=needs_approval):
        raise InvalidOrder(objection)
    if entry.order["key_id"] is not None:  # its terms are no longer those that were signed
        entry.set(amended_at=signed_at or entry.now)
    if entry.status in UNSENT:
        entry.set(**cast("OrderChanges", {name: _column(value) for name, value in different.items()}))
        entry.note("replaced", f"{_UNSENT}{words(different)}")
        return
    entry.set(replace_request={name: _json(value) for name, value in different.items()}, available_at=entry.now)
    entry.note("replace_requested", words(different))


def tell(changes: list[tuple[int, dict[str, str]]], kind: str, detail: str | None) -> None:
    """Take in what an event tells of an order's terms.

    | event                                                  | its terms are                        |
    |--------------------------------------------------------|--------------------------------------|
    | replaced, before it was sent                           | those                                |
    | replaced, by an attempt                                | those, as its broker has confirmed   |
    | replace_refused of such an attempt, after it was taken | what they were before that attempt   |

    Args:
        changes: with the attempt that made each, the newest last; 0 of one that was made at once.
        kind: of the event.
        detail: its words.
    """
    told = detail or ""
    found = _OF_ATTEMPT.match(told)
    number, rest = (int(found[1]), told[found.end() :]) if found else (0, told.removeprefix(_UNSENT))
    if kind == "replace_refused" and number and rest.startswith(TAKEN):
        changes[:] = [change for change in changes if change[0] != number]
    elif kind == "replaced" and (number or told.startswith(_UNSENT)):
        changes.append((number, _read(rest)))


def is_told(entry: OrderRecord, wanted: Mapping[str, object]) -> bool:
    """Tell whether the journal knows of the wish that stands on an order's row."""
    asked = entry.batch.last_event(entry.id, ["replace_requested"])
    return bool(asked) and _read(asked[0][1] or "") == {name: _json(value) for name, value in wanted.items()}


def _read(told: str) -> dict[str, str]:
    """Read what `words` has written."""
    return {name: value for name, _, value in (term.partition(" ") for term in told.split(", "))}


def terms_of(stored: Mapping[str, Any] | None) -> Row:
    """Return stored terms as column values; beside a type stand all prices of the order, so any other is none."""
    found: Row = {n: value if n in _WORDS else Decimal(value) for n, value in (stored or {}).items()}
    return dict.fromkeys(_PRICES) | found if "order_type" in found else found


def words(terms: Mapping[str, object]) -> str:
    """Write terms for a person."""
    return ", ".join(f"{name} {_json(value)}" for name, value in terms.items())


def _json(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)


def _column(value: object) -> Decimal | str:
    return value if isinstance(value, Decimal) else str(value)
