"""Linked orders at the TDA and Schwab doors: an order that triggers another one, or two of which one cancels the other.

By Schwab's documents: `orderStrategyType` TRIGGER with a child in `childOrderStrategies`, or with an OCO of two; or an
OCO of two by itself. A listing shows the outer order with the inner ones in it; each has an id of its own, and so has
the OCO, to which the Location of one by itself leads (assumed).
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.sandbox.tda.dialect import DoorDialect, Json

#: A group of two has the id of its first order with this digit behind it.
_GROUP = 7


def split(body: object, dialect: DoorDialect) -> tuple[object, list[Json], bool]:
    """Return an order body as a single one, those that belong to it, and whether they wait for it.

    Raises:
        Refusal (400): it is another kind of group.
    """
    if isinstance(body, dict) and body.get("orderStrategyType") == "OCO":
        first, second = _pair(body, dialect)
        return first, [second], False
    if not isinstance(body, dict) or body.get("orderStrategyType") != "TRIGGER":
        return body, [], True
    children = body.get("childOrderStrategies")
    if not isinstance(children, list) or len(children) != 1 or not isinstance(children[0], dict):
        raise dialect.invalid("a TRIGGER holds one order, or one OCO, in childOrderStrategies")
    found = _pair(children[0], dialect) if children[0].get("orderStrategyType") == "OCO" else [children[0]]
    single = {name: value for name, value in body.items() if name != "childOrderStrategies"}
    return single | {"orderStrategyType": "SINGLE"}, found, True


def every(body: object, dialect: DoorDialect) -> list[object]:
    """Return all orders of an order body as single ones, the outer one first.

    Raises:
        Refusal (400): it is another kind of group.
    """
    first, others, _ = split(body, dialect)
    return [first, *others]


def _pair(body: Json, dialect: DoorDialect) -> list[Json]:
    found = body.get("childOrderStrategies")
    if not isinstance(found, list) or len(found) != 2:
        raise dialect.invalid("an OCO holds two orders in childOrderStrategies")
    return found


def group_id(number: int) -> int:
    """Return the id of the group whose first order has this one."""
    return number * 10 + _GROUP


def first_of(number: int) -> int:
    """Return the id of the first order of a group, by the group's."""
    return number // 10 if number % 10 == _GROUP else number


def nest(row: Json, inner: Sequence[Json], waits: bool) -> Json:
    """Return an order as it is listed with those that belong to it: inside it if they wait for it, else beside it."""
    if not inner:
        return row
    group = {"orderStrategyType": "OCO", "orderId": group_id(row["orderId"]), "status": row["status"]}
    group["enteredTime"] = row["enteredTime"]
    if not waits:
        return group | {"childOrderStrategies": [row, *inner]}
    held = [group | {"childOrderStrategies": list(inner)}] if len(inner) > 1 else list(inner)
    return row | {"orderStrategyType": "TRIGGER", "childOrderStrategies": held}
