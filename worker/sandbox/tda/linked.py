"""Linked orders at the TDA and Schwab doors: an order that triggers another one, or two of which one cancels the other.

By Schwab's documents: `orderStrategyType` TRIGGER with a child in `childOrderStrategies`, or with an OCO of two. A
listing shows the outer order with the inner ones in it; each has an id of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.sandbox.tda.dialect import DoorDialect, Json


def split(body: Json, dialect: DoorDialect) -> tuple[Json, list[Json]]:
    """Return an order body as a single one, and those that it triggers; Refusal (400) for another kind of group."""
    if not isinstance(body, dict) or body.get("orderStrategyType") != "TRIGGER":
        return body, []
    children = body.get("childOrderStrategies")
    if not isinstance(children, list) or len(children) != 1 or not isinstance(children[0], dict):
        raise dialect.invalid("a TRIGGER holds one order, or one OCO, in childOrderStrategies")
    found = [children[0]]
    if children[0].get("orderStrategyType") == "OCO":
        found = children[0].get("childOrderStrategies") or []
        if len(found) != 2:
            raise dialect.invalid("an OCO holds two orders in childOrderStrategies")
    single = {name: value for name, value in body.items() if name != "childOrderStrategies"}
    return single | {"orderStrategyType": "SINGLE"}, found


def nest(row: Json, inner: Sequence[Json]) -> Json:
    """Return an order as it is listed with the orders that it triggers."""
    if not inner:
        return row
    group = {"orderStrategyType": "OCO", "orderId": row["orderId"] * 10 + 7, "status": row["status"]}
    group["enteredTime"] = row["enteredTime"]
    held = [group | {"childOrderStrategies": list(inner)}] if len(inner) > 1 else list(inner)
    return row | {"orderStrategyType": "TRIGGER", "childOrderStrategies": held}
