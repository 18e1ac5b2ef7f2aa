"""Faults a test or the demo asks of a door: what goes wrong, for which symbol, how many times.

`Market.place` consumes `no_fill`, `partial` and `reject_after_accept`; every other kind is honoured by the doors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

#: Kinds every door honours.
COMMON_KINDS = frozenset(
    {
        "refuse",  # definitive rejection: options code, text
        "hang",  # request swallowed, never answered, order not taken
        "accept_hang",  # order taken, never answered
        "accept_drop",  # order taken, connection cut before the answer
        "disconnect",  # cut every socket of the door once
        "down",  # refuse new connections and cut the old ones until cleared
        "slow",  # options seconds before answering; HTTP doors: options.before waits before it takes the order, too;
        # TWS: with options.reverse what was held back is told backwards
        "no_fill",  # order rests
        "partial",  # half is filled, the rest rests
        "reject_after_accept",  # accepted, rejected a moment later
        "status",  # HTTP doors: answer options.status; options.accepted takes the order first
        "garbage",  # HTTP doors: 200 with bytes that are no JSON; options.accepted takes the order first
        "half_reply",  # HTTP doors: headers promise more bytes than come; options.accepted takes the order first
        "rate_limit",  # HTTP doors: at most options per_minute calls; options.headers false: no headers
    }
)
#: Kinds that only the TWS door knows (BROKERS.md 1.14).
TWS_KINDS = frozenset(
    {
        "client_id_in_use",
        "swallow_status",
        "tif_preset",
        "cancel_10148",
        "nightly_reset",
        "mute_executions",
        "duplicate_status",
        "locate_hold",
        "error_code",
        "no_next_valid_id",
        "rollback_next_valid_id",
    }
)
#: Kinds that only HTTP doors know: TDA and Schwab first, Alpaca after them.
HTTP_KINDS = frozenset(
    {
        "token_expired",
        "list_lag",
        "location_missing",
        "location_foreign",
        "not_found_lag",
        "stream_silent",
        "duplicate_update",
        "late_update",  # Alpaca: updates come options.seconds late, with options.reverse the last one first
        "garbage_update",
        "replace_rejected",  # Alpaca: a replace is answered with 200, and its order rejected a moment later
    }
)
KINDS = COMMON_KINDS | TWS_KINDS | HTTP_KINDS


@dataclass(slots=True)
class Fault:
    """One planned failure. A `count` of None lasts until it is cleared; an integer is used up by `Faults.take`."""

    door: str
    kind: str
    count: int | None = None
    symbol: str | None = None
    operation: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def matches(self, door: str, kinds: Iterable[str], symbol: str | None, operation: str | None) -> bool:
        """Tell whether this fault concerns the request described by the arguments."""
        return (
            self.door in (door, "*")
            and self.kind in kinds
            and (self.symbol is None or self.symbol == symbol)
            and (self.operation is None or operation is None or self.operation == operation)
        )


FaultListener = Callable[[Fault], None]


class Faults:
    """The faults in force, oldest first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
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
            ValueError: the kind is unknown, or a count below one.
        """
        if fault.kind not in KINDS:
            raise ValueError(f"unknown fault kind {fault.kind!r}; one of {', '.join(sorted(KINDS))}")
        if fault.count is not None and fault.count < 1:
            raise ValueError(f"fault count must be at least 1, not {fault.count}")
        # One word, two places: doors may look at either.
        if fault.operation is not None:
            fault.options.setdefault("operation", fault.operation)
        elif isinstance(fault.options.get("operation"), str):
            fault.operation = fault.options["operation"]
        self._faults.append(fault)
        for listener in self._added:
            listener(fault)
        return fault

    def peek(
        self, door: str, kinds: str | Iterable[str], symbol: str | None = None, operation: str | None = None
    ) -> Fault | None:
        """Return the first fault that matches, without using it up."""
        wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        return next((f for f in self._faults if f.matches(door, wanted, symbol, operation)), None)

    def take(
        self, door: str, kinds: str | Iterable[str], symbol: str | None = None, operation: str | None = None
    ) -> Fault | None:
        """Return the first fault that matches and use up one of its count; None when the door shall behave."""
        return self._use_up(self.peek(door, kinds, symbol, operation))

    def take_aimed(self, door: str, kinds: Iterable[str], operation: str, symbol: str | None = None) -> Fault | None:
        """Like `take`, but only a fault that names this very operation."""
        found = (f for f in self._faults if f.operation == operation and f.matches(door, kinds, symbol, operation))
        return self._use_up(next(found, None))

    def _use_up(self, fault: Fault | None) -> Fault | None:
        if fault is not None and fault.count is not None:
            fault.count -= 1
            if fault.count <= 0:
                self._faults.remove(fault)
        return fault

    def clear(self, door: str | None = None) -> None:
        """Remove the faults of one door, or all."""
        self._faults = [f for f in self._faults if door is not None and f.door != door]
        for listener in self._cleared:
            listener()

    def all(self) -> list[Fault]:
        """Return the faults in force, oldest first."""
        return list(self._faults)
