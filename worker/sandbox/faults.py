"""Faults a test or the demo asks of a door: what goes wrong, for which symbol, how many times.

The kinds that there are, with their options, stand in `worker.sandbox.fault_kinds`. `Market.place` consumes `no_fill`,
`partial` and `reject_after_accept`; every other kind is honoured by the doors.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from worker.sandbox import fault_kinds


@dataclass(slots=True)
class Fault:
    """One planned failure. A `count` of None lasts until it is cleared; an integer is used up by `Faults.take`.

    Option `after` of any kind that is taken: so many requests pass before it strikes.
    """

    door: str
    kind: str
    count: int | None = None
    symbol: str | None = None
    operation: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    number: int = 0  # which came first

    def matches(self, door: str, symbol: str | None, operation: str | None) -> bool:
        """Tell whether this fault concerns the request described by the arguments."""
        return (
            self.door in (door, "*")
            and (self.symbol is None or self.symbol == symbol)
            and (self.operation is None or operation is None or self.operation == operation)
        )


FaultListener = Callable[[Fault], None]
#: One time a fault struck: at (seconds since 1970), door, kind, symbol, operation, label (the fault's own option).
Strike = dict[str, object]


class Faults:
    """The faults in force, oldest first."""

    def __init__(self) -> None:
        #: Every time a fault struck, oldest first: what was only planned is not here.
        self.struck: list[Strike] = []
        #: By kind and symbol: every call to a door asks a dozen times.
        self._faults: dict[tuple[str, str | None], list[Fault]] = {}
        self._numbers = itertools.count()
        self._added: list[FaultListener] = []
        self._cleared: list[Callable[[], None]] = []

    def on_added(self, listener: FaultListener) -> None:
        """Call `listener` with every fault added: doors cut their sockets at once on `disconnect` and `down`."""
        self._added.append(listener)

    def on_cleared(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever faults were cleared."""
        self._cleared.append(listener)

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force.

        Raises:
            ValueError: a kind, an option or a door that there is not, an option that is missing; a count below one.
        """
        if fault.count is not None and fault.count < 1:
            raise ValueError(f"fault count must be at least 1, not {fault.count}")
        # One word, two places: doors may look at either.
        if fault.operation is not None:
            fault.options.setdefault("operation", fault.operation)
        elif isinstance(fault.options.get("operation"), str):
            fault.operation = fault.options["operation"]
        fault_kinds.check(fault.door, fault.kind, fault.options)
        fault.number = next(self._numbers)
        self._faults.setdefault((fault.kind, fault.symbol), []).append(fault)
        for listener in self._added:
            listener(fault)
        return fault

    def peek(
        self, door: str, kinds: str | Iterable[str], symbol: str | None = None, operation: str | None = None
    ) -> Fault | None:
        """Return the first fault that matches, without using it up."""
        return min(self._matching(door, kinds, symbol, operation), key=_age, default=None)

    def take(
        self, door: str, kinds: str | Iterable[str], symbol: str | None = None, operation: str | None = None
    ) -> Fault | None:
        """Return the first fault that matches and use up one of its count; None when the door shall behave."""
        return self._use_up(self.peek(door, kinds, symbol, operation), door, symbol, operation)

    def take_aimed(self, door: str, kinds: Iterable[str], operation: str, symbol: str | None = None) -> Fault | None:
        """Like `take`, but only a fault that names this very operation."""
        found = (f for f in self._matching(door, kinds, symbol, operation) if f.operation == operation)
        return self._use_up(min(found, key=_age, default=None), door, symbol, operation)

    def _matching(
        self, door: str, kinds: str | Iterable[str], symbol: str | None, operation: str | None
    ) -> Iterator[Fault]:
        for kind in (kinds,) if isinstance(kinds, str) else kinds:
            for about in (None,) if symbol is None else (None, symbol):
                yield from (f for f in self._faults.get((kind, about), ()) if f.matches(door, symbol, operation))

    def _use_up(self, fault: Fault | None, door: str, symbol: str | None, operation: str | None) -> Fault | None:
        """Count one strike of a fault; None while it still lets requests pass (`after`)."""
        if fault is None:
            return None
        if (left := int(fault.options.get("after", 0))) > 0:
            fault.options["after"] = left - 1
            return None
        self.note(fault, door, symbol, operation)
        self.spend(fault)
        return fault

    def spend(self, fault: Fault) -> None:
        """Use up one count of a fault."""
        if fault.count is not None:
            fault.count -= 1
            if fault.count <= 0:
                self._faults[fault.kind, fault.symbol].remove(fault)

    def note(self, fault: Fault, door: str, symbol: str | None = None, operation: str | None = None) -> None:
        """Count a strike; doors call it for the kinds that they obey without `take`."""
        label, now = fault.options.get("label", fault.kind), time.time()
        where = {"symbol": symbol or fault.symbol, "operation": operation or fault.operation}
        self.struck.append({"at": now, "door": door, "kind": fault.kind, **where, "label": label})

    def note_once(self, fault: Fault, door: str, symbol: str | None = None, operation: str | None = None) -> None:
        """Count a fault that lasts: it strikes once, however often it shows."""
        if not fault.options.get("noted"):
            fault.options["noted"] = True
            self.note(fault, door, symbol, operation)

    def clear(self, door: str | None = None, kind: str | None = None) -> None:
        """Remove the faults of one door, of one kind, or all."""
        kept = [f for f in self.all() if (door and f.door != door) or (kind and f.kind != kind)]
        self._faults = {}
        for fault in kept:
            self._faults.setdefault((fault.kind, fault.symbol), []).append(fault)
        for listener in self._cleared:
            listener()

    def all(self) -> list[Fault]:
        """Return the faults in force, oldest first."""
        return sorted((fault for found in self._faults.values() for fault in found), key=_age)


def _age(fault: Fault) -> int:
    return fault.number
