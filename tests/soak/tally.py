"""Add up the records of many worlds: the table of faults and outcomes, and the three zeros."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

#: What may become of an order, in the order of the table's columns.
OUTCOMES = (
    "filled at once", "filled later", "filled elsewhere", "resting", "canceled", "rejected", "denied", "expired",
    "unresolved, listed", "never recorded",
)  # fmt: skip
ZEROS = ("duplicates", "losses", "false_terminals")
Record = Mapping[str, Any]


class Tally:
    """The sum over worlds."""

    def __init__(self) -> None:
        self.worlds = self.orders = self.faults = self.crossed = self.unharmed = 0
        self.became: Counter[str] = Counter()
        self.found: dict[str, list[str]] = {name: [] for name in (*ZEROS, "touched", "died")}
        self.rows: dict[str, dict[str, Any]] = {}

    def add(self, record: Record) -> None:
        """Add one world."""
        self.worlds += 1
        self.orders += record["orders"]
        self.faults += record["faults"]
        self.crossed += record["crossed"]
        self.unharmed += record["unharmed"]
        self.became.update(record["became"])
        for name, found in self.found.items():
            found += [f"world {record['world']}: {what}" for what in record[name]]
        for label, row in record["table"].items():
            total = self.rows.setdefault(label, {"injected": 0, "orders": 0, "became": Counter(), "seconds": []})
            total["injected"] += row["injected"]
            total["orders"] += row.get("orders", 0)
            total["became"].update(row.get("became", {}))
            total["seconds"] += row.get("seconds", [])

    @property
    def clean(self) -> bool:
        return not any(self.found.values())

    def per_100_000(self, name: str) -> float:
        """Return how many of one kind there were per 100,000 faults."""
        return len(self.found[name]) / self.faults * 100_000 if self.faults else 0.0

    def document(self) -> dict[str, Any]:
        """Return everything as one JSON document."""
        rows = {
            label: {**row, "became": dict(row["became"]), "seconds": _quantiles(row["seconds"])}
            for label, row in sorted(self.rows.items())
        }
        return {
            "worlds": self.worlds, "orders": self.orders, "faults": self.faults, "crossed": self.crossed,
            "unharmed": self.unharmed, "became": dict(self.became), "table": rows,
            "per_100_000": {name: self.per_100_000(name) for name in ZEROS}, **self.found,
        }  # fmt: skip

    def table(self) -> str:
        """Return the table of faults and outcomes as Markdown, which is readable as it is."""
        head = ["fault", "injected", "orders struck", *OUTCOMES, "settled p50", "p99"]
        lines = [self._line(label, row) for label, row in sorted(self.rows.items(), key=lambda item: _order(item[0]))]
        everyone = {"injected": self.faults, "orders": self.orders, "became": self.became, "seconds": []}
        lines.append(self._line("all", everyone))
        return "\n".join(_markdown([head, *lines]))

    @staticmethod
    def _line(label: str, row: Mapping[str, Any]) -> list[str]:
        middle, high = _quantiles(row["seconds"])
        cells = [str(row["became"].get(name, 0) or "") for name in OUTCOMES]
        times = ["" if at is None else f"{at:.1f} s" for at in (middle, high)]
        return [label, f"{row['injected']:,}", f"{row['orders']:,}", *cells, *times]

    def zeros(self) -> str:
        """Return the three figures that must be zero."""
        words = [
            f"{name.replace('_', ' ')}: {len(self.found[name])} ({self.per_100_000(name):g} per 100,000 faults)"
            for name in ZEROS
        ]
        if self.found["touched"]:
            words.append(f"orders of others touched: {len(self.found['touched'])}")
        if self.found["died"]:
            words.append(f"processes that died by themselves: {len(self.found['died'])}")
        return "\n".join(words)


def _order(label: str) -> tuple[bool, str]:
    return (":" in label, label)


def _quantiles(values: Iterable[float]) -> tuple[float | None, float | None]:
    found = sorted(values)
    if not found:
        return None, None
    return tuple(found[min(int(len(found) * share), len(found) - 1)] for share in (0.5, 0.99))  # type: ignore[return-value]


def _markdown(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
