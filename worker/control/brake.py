"""What every sender asks: may this order move now? The rule is pure; `Brake` knows the controls of a moment ago.

| state    | it opens or grows | it closes | it only lessens | it is canceled |
|----------|-------------------|-----------|-----------------|----------------|
| halted   | no                | no        | yes             | yes            |
| reducing | no                | yes       | yes             | yes            |
| draining | yes, if claimed   | the same  | yes             | yes            |
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from sqlalchemy import Connection

from models.destinations import split
from models.errors import Denied
from models.legs import only_closes, stored_legs, symbols_of
from models.record.controls import DRAINING, HALTED, REDUCING, ControlRow, in_force
from models.record.database import Database
from models.vocabulary import CLOSING, Denial
from worker.control.scopes import facts_of, scope_of
from worker.runtime.clock import elapsed

#: A reading of the controls is good for this long before a send is begun, seconds ...
_GOOD_S = 0.1
#: ... and for this long at the gate before its first byte, where an adapter's own thread would have to wait for one.
_GOOD_AT_GATE_S = 0.25
_CODES = {HALTED: Denial.HALTED, REDUCING: Denial.REDUCING}


class Movement(Enum):
    """What sending something would do to a position."""

    OPENS = "opens"
    CLOSES = "closes"
    #: A replace that makes an order smaller or less aggressive, and nothing else.
    LESSENS = "lessens"


_PASS = {
    HALTED: frozenset({Movement.LESSENS}),
    REDUCING: frozenset({Movement.LESSENS, Movement.CLOSES}),
    DRAINING: frozenset(Movement),
}


def movement_of(order: Mapping[str, object]) -> Movement:
    """Return what an order would do: its row, or its request's fields."""
    if legs := stored_legs(order.get("legs")):
        return Movement.CLOSES if only_closes(legs) else Movement.OPENS
    return Movement.CLOSES if order["side"] in CLOSING else Movement.OPENS


def stop_of(
    controls: Sequence[ControlRow], order: Mapping[str, object], broker: str, movement: Movement
) -> ControlRow | None:
    """Return the control that stops an order on its way to a broker; None where it may move.

    Of several the widest is told: one that holds at every broker before one that lets it go on elsewhere.

    Args:
        controls: in force.
        order: its row, or its request's fields.
        broker: where it would be sent.
        movement: what that would do.
    """
    if not controls:
        return None
    symbols = symbols_of(str(order["symbol"]), order.get("legs"))
    facts = [facts_of({**order, "symbol": symbol}, broker) for symbol in symbols]
    stops = [
        row for row in controls if movement not in _PASS.get(row["state"], ()) and any(map(scope_of(row).covers, facts))
    ]
    return min(stops, key=lambda row: (not scope_of(row).everywhere, row["state"] != HALTED), default=None)


def drain_of(controls: Iterable[ControlRow], broker: str) -> ControlRow | None:
    """Return the drain of a broker; None without one."""
    return next((row for row in controls if row["state"] == DRAINING and row["scope"] in ("*", broker)), None)


def shut(
    connection: Connection, order: Mapping[str, object], brokers: Iterable[str], movement: Movement | None = None
) -> set[str]:
    """Return the destinations among these that would not take an order now because of a control."""
    if not (controls := in_force(connection)):
        return set()
    what = movement or movement_of(order)
    there = ((where, *split(where)) for where in brokers)
    return {
        where
        for where, broker, account in there
        if drain_of(controls, broker) or stop_of(controls, {**order, "account": account}, broker, what)
    }


def words(control: ControlRow) -> str:
    """Say why, and by whom."""
    return f"{control['reason'] or control['state']} (by {control['by']})"


def denial(broker: str, control: ControlRow) -> Denied:
    """Return the error of an order that a control has stopped."""
    scope = scope_of(control)
    about = "" if scope.kind in ("*", "broker") else f" ({scope.words})"
    said = f"{broker}: {control['state']}{about}: {words(control)}"
    code = _CODES.get(control["state"], Denial.HALTED)
    return Denied(said, broker=broker, code=code, everywhere=scope.everywhere)


class Brake:
    """The controls as they were a moment ago: what claimed orders meet before their first byte.

    A claim has looked at the controls too, but a batch of claimed orders may take seconds to leave. Asked by many
    threads; one of them reads.

    Args:
        database: the record.
        broker: whose orders ask.
    """

    def __init__(self, database: Database, broker: str) -> None:
        self.database, self.broker = database, broker
        self._lock = threading.Lock()
        self._controls: Sequence[ControlRow] = ()
        self._read_at: float | None = None

    def look(self, order: Mapping[str, object], movement: Movement) -> None:
        """Before a send is begun: see that nothing stops it.

        Args:
            order: its row, or its request's fields.
            movement: what sending it would do.

        Raises:
            Denied: a control stops it.
            DatabaseUnavailable: nobody can say, so nothing may be sent.
        """
        self._check(order, movement, _GOOD_S)

    def gate(self, order: Mapping[str, object], movement: Movement) -> None:
        """Immediately before the first byte: the same, by a reading that is 0.25 s old at most."""
        self._check(order, movement, _GOOD_AT_GATE_S)

    def _check(self, order: Mapping[str, object], movement: Movement, good_s: float) -> None:
        if not stop_of(self.reading(good_s), order, self.broker, movement):
            return
        self.refresh()  # it ends the order, so what was resumed since does not count
        if control := stop_of(self._controls, order, self.broker, movement):
            raise denial(self.broker, control)

    def refresh(self) -> None:
        """Read the controls, so that senders find them read; none waits for this reading.

        Raises:
            DatabaseUnavailable: they cannot be read.
        """
        begun = elapsed()
        with self.database.read() as connection:
            controls = in_force(connection)
        with self._lock:
            if self._read_at is None or begun > self._read_at:
                self._controls, self._read_at = controls, begun

    def reading(self, good_s: float) -> Sequence[ControlRow]:
        """Return the controls in force, by a reading that is so many seconds old at most.

        Raises:
            DatabaseUnavailable: there is none.
        """
        with self._lock:
            begun = elapsed()
            if self._read_at is None or not 0 <= begun - self._read_at <= good_s:
                with self.database.read() as connection:
                    self._controls = in_force(connection)
                self._read_at = begun
            return self._controls
