"""What a part of the measurements hands back, and how it is shown: text, docs/performance.md, JSON."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """Something that has to hold."""

    words: str
    met: bool
    figure: str
    #: Which paragraph of the page says why it is missed, where it is: see `document.MISSES`.
    why: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Figures with their headings."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclass(slots=True)
class Part:
    """One part's tables, targets and raw figures."""

    name: str
    title: str
    words: str
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Args:
        quick: a first look: fewer rounds, fewer orders.
        until: the moment, monotonic, after which a part takes no more rounds than its fewest.
    """

    quick: bool = False
    until: float = math.inf

    def rounds(self, least: int, most: int, seconds: float) -> Iterator[int]:
        """Count rounds: as many as fit into so many seconds, so that a busy machine takes no longer than a calm one."""
        began = time.monotonic()
        for round_ in range(1 if self.quick else most):
            now = time.monotonic()
            if round_ >= least and ((now - began) * (round_ + 1) / round_ > seconds or now > self.until):
                return
            yield round_

    def of(self, full: int, quick: int) -> int:
        """Choose."""
        return quick if self.quick else full


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which so many percent lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Write a median with the least and the most."""
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    return f"{median(values):,.{digits}f} [{min(values):,.{digits}f}-{max(values):,.{digits}f}]"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over the rounds of ours to theirs: each round is compared with itself."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def as_text(part: Part) -> str:
    """Write a part for a terminal."""
    lines = [f"\n{part.title}"]
    for table in part.tables:
        rows = [list(map(str, table.columns)), *(list(map(str, row)) for row in table.rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
        lines.append(f"  {table.title}")
        lines += [
            "    "
            + "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
    lines += [f"  {'met   ' if target.met else 'MISSED'} {target.words}: {target.figure}" for target in part.targets]
    return "\n".join(lines)
