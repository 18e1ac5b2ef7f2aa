"""Books and doors of a storm by hand, for tests of the check that holds them against each other."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.soak.doors import AtDoor, Intent
from tests.soak.evidence import SoakVerdict, judge

ASKED = Intent("a", "SIM001", "buy", Decimal(2), ("alpaca", "tda"), recorded=True)
TWIN = Intent("b", "SIM001", "buy", Decimal(2), ("tda",), recorded=True)


def row(id_: str = "a", status: str = "filled", filled: int = 2, **more: Any) -> dict[str, Any]:
    times = {"created_at": "2026-01-05 10:00:00", "accepted_at": "2026-01-05 10:00:01", "closed_at": None}
    names = {"client_order_id": id_, "status": status, "filled_quantity": filled, "broker": "alpaca"}
    return {**names, **times, "cancel_requested_at": None, "avg_fill_price": 50, **more}


def attempt(id_: str = "a", number: int = 1, broker: str = "alpaca", outcome: str = "accepted", **more: Any) -> Any:
    theirs = id_ if number == 1 else f"{id_}~{number}"
    names = {"client_order_id": id_, "attempt_no": number, "broker": broker, "outcome": outcome, "code": None}
    return {**names, "broker_client_order_id": theirs, "broker_order_id": f"{broker}-{theirs}", **more}


def at_door(
    door: str = "alpaca", name: str | None = "a", state: str = "filled", filled: int = 2, **more: Any
) -> AtDoor:
    more.setdefault("executions", {"e1": (Decimal(filled), Decimal(50))} if filled else {})
    wire_id = None if name and door == "alpaca" else more.pop("wire_id", f"{door}-{name}")
    return AtDoor(
        1, door, name if door == "alpaca" else None, wire_id, "SIM001", Decimal(2), state, Decimal(filled), **more
    )


def fill(id_: str = "a", quantity: int = 2, price: Any = 50, inferred: bool = False) -> dict[str, Any]:
    return {"client_order_id": id_, "quantity": quantity, "price": price, "inferred": inferred}


def event(before: str | None, after: str) -> dict[str, Any]:
    return {"client_order_id": "a", "from_status": before, "to_status": after}


def found(entries: list[AtDoor], intents: tuple[Intent, ...] = (ASKED,), **books: list[Any]) -> SoakVerdict:
    usual: dict[str, list[Any]] = {"orders": [row()], "attempts": [attempt()], "fills": [fill()], "order_events": []}
    return judge(intents, entries, {**usual, **books})
