"""The ledger: every order that reached a door, written before anything else happens, then what became of it.

It is the sandbox's own evidence, independent of what the doors tell their clients: `duplicates` finds an order that
is live or filled in more than one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.sandbox.market.orders import MarketOrder

Line = dict[str, Any]
ORDER_FIELDS = (
    "door",
    "account",
    "number",
    "client_order_id",
    "symbol",
    "side",
    "quantity",
    "order_type",
    "limit_price",
    "stop_price",
    "trail_amount",
    "trail_percent",
    "time_in_force",
    "extended_hours",
    "replaces",
    "extra",
    "received_at",
)
#: In the `extra` of an order that somebody else has placed.
STRANGER = "stranger"
#: Events after which an order is not live any more.
_CLOSING = {"canceled": "canceled", "rejected": "rejected", "expired": "expired", "replaced": "replaced"}


class Ledger:
    """Append-only list of lines, mirrored to a JSONL file when a path is given (flushed line by line).

    `lines` has those of the runs before, too, except that a run was opened.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.lines: list[Line] = []
        self.last_number = 0
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lines = [line for line in read_ledger(path) if line.get("event") != "opened"]
            self.last_number = max((int(line.get("number", 0)) for line in self.lines), default=0)
            self._file = path.open("a", encoding="utf-8")
            if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
                self._file.write("\n")  # the last run was killed within a line
            self._write({"event": "opened", "at": datetime.now(UTC).isoformat()})

    def arrived(self, order: MarketOrder, *, taken: bool = True) -> None:
        """Record an order as it reached its door, and whether it will be taken."""
        self.record("arrived", **{name: getattr(order, name) for name in ORDER_FIELDS}, taken=taken)

    def record(self, event: str, **fields: object) -> None:
        """Append one line.

        Events: arrived, fill, amended (of an execution), canceled, rejected, expired, replaced, modified, doubted (said
        to be refused, and kept), limited, position (by hand).
        """
        line = {"event": event, "at": datetime.now(UTC).isoformat()}
        line.update({key: plain_json(value) for key, value in fields.items()})
        self.lines.append(line)
        self._write(line)

    def duplicates(self) -> list[Line]:
        """See `duplicates`."""
        return duplicates(self.lines)

    def close(self) -> None:
        """Close the file; the lines stay readable."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: Line) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._file.flush()


def read_ledger(path: Path) -> list[Line]:
    """Read a ledger file back, oldest line first; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines: list[Line] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def summary(lines: Iterable[Line]) -> dict[int, Line]:
    """Fold lines into one entry per order number: the arrived line plus `state` and `filled_quantity`.

    States: live, filled, canceled, rejected, expired or replaced.
    """
    orders: dict[int, Line] = {}
    for line in lines:
        event, number = line["event"], line.get("number")
        if event == "arrived":
            orders[line["number"]] = {**line, "state": "live", "filled_quantity": "0"}
        elif number in orders:
            _fold(orders[number], line)
    return orders


def _fold(entry: Line, line: Line) -> None:
    """Apply one line to the entry of its order."""
    if line["event"] == "fill":
        entry["filled_quantity"] = line["cumulative"]
        entry.setdefault("executions", {})[line["execution_id"]] = Decimal(line["quantity"])
        entry["state"] = "filled" if line["state"] == "filled" else entry["state"]
    elif line["event"] == "amended":
        executions, name, left = entry["executions"], line["execution_id"], Decimal(line["quantity"])
        entry["filled_quantity"] = str(Decimal(entry["filled_quantity"]) - (executions[name] - left))
        executions[name] = left
    elif line["event"] == "modified":
        entry.update({k: v for k, v in line.items() if k in ORDER_FIELDS})
    else:
        entry["state"] = _CLOSING.get(line["event"], entry["state"])


def base_id(client_order_id: str) -> str:
    """Return the id of the order as the strategy knows it: the text before `~` (what follows names the attempt)."""
    return client_order_id.split("~", 1)[0]


def duplicates(lines: Iterable[Line]) -> list[Line]:
    """Find orders that are live or (partly) filled in more than one place.

    Returns:
        One entry per base id with more than one such order: `client_order_id` and `orders` (the folded lines).
        Orders without a client order id (TDA, Schwab) cannot be compared and are left out.
    """
    places: dict[str, list[Line]] = {}
    for entry in summary(lines).values():
        name = entry.get("client_order_id")
        counts = entry["state"] in ("live", "filled") or (
            entry["state"] != "replaced" and float(entry["filled_quantity"]) > 0
        )
        if name and counts:
            places.setdefault(base_id(name), []).append(entry)
    return [{"client_order_id": name, "orders": found} for name, found in places.items() if len(found) > 1]


def plain_json(value: object) -> Any:
    """Make a value JSON-ready: decimals and times as text."""
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else str(value)
