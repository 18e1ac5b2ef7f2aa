"""Halts and drains: rows that every claim and every gate looks at, so they hold everywhere and survive everything.

Every act is kept for ever in `control_events`: who did it, to which scope, when and why.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, delete, insert, select

from models.errors import Denied, InvalidRequest
from models.record.database import Database
from models.record.rows import HaltRow
from models.record.statements import Query, fetch
from models.record.tables import control_events, halts
from models.vocabulary import Denial
from worker.runtime.clock import elapsed, utcnow

#: Characters of a name in the journal.
_LONGEST_NAME = 128
#: The scope of everything.
EVERYTHING = "*"
#: A reading of the halts is good for this long before a send is begun, seconds ...
_GOOD_S = 0.1
#: ... and for this long at the gate before its first byte, where an adapter's own thread would have to wait for one.
_GOOD_AT_GATE_S = 0.25
_STOPS = Query(
    select(halts)
    .where(halts.c.scope.in_([EVERYTHING, bindparam("broker")]))
    .order_by(halts.c.kind.desc(), halts.c.scope)
    .limit(1),
    HaltRow,
)


# -- WHAT PEOPLE DO ---
def stop(database: Database, scope: str, kind: str, reason: str, by: str) -> None:
    """Put a halt or a drain in force.

    Args:
        database: the record.
        scope: a broker's name, or * for all.
        kind: `halt` (nothing is sent) or `drain` (nothing new is taken).
        reason: kept with the orders it denies.
        by: who.

    Raises:
        InvalidRequest: the name or the reason is blank.
    """

    def work(connection: Connection) -> None:
        connection.execute(delete(halts).where(halts.c.scope == scope, halts.c.kind == kind))
        connection.execute(insert(halts).values(scope=scope, kind=kind, reason=reason, by=by, at=utcnow()))
        journal(connection, kind, *_scoped(scope), by=by, reason=reason)

    database.transact(work)


def resume(database: Database, scope: str | None, *, by: str, reason: str | None = None) -> list[HaltRow]:
    """End the halt and the drain of one scope, and nobody else's.

    Args:
        database: the record.
        scope: a broker's name, * for the halt of everything, None for every one in force.
        by: who.
        reason: why, for the record.

    Returns:
        The rows that were ended.

    Raises:
        InvalidRequest: the name or the reason is blank.
    """
    must_say_who(by, reason)
    which = halts.c.scope == scope if scope else halts.c.scope.is_not(None)

    def work(connection: Connection) -> list[HaltRow]:
        query = select(halts).where(which).order_by(halts.c.scope, halts.c.kind)
        ended = fetch(connection, query, HaltRow)
        connection.execute(delete(halts).where(which))
        for row in ended:
            words = f"ends the {row['kind']} by {row['by']} of {row['at']:%Y-%m-%d %H:%M:%S} UTC: {row['reason']}"
            journal(connection, "resume", *_scoped(row["scope"]), by=by, reason=reason, detail=words)
        return ended

    return database.transact(work)


def journal(
    connection: Connection,
    kind: str,
    scope_kind: str,
    scope: str,
    *,
    by: str,
    reason: str | None = None,
    detail: str | None = None,
) -> None:
    """Append to the journal of what people did to trading.

    Args:
        connection: of the transaction that does it.
        kind: halt, drain, resume, unlock, resolve.
        scope_kind: `*`, broker, symbol, order.
        scope: which one; `*` for everything, `alpaca:KO` for a symbol at a broker.
        by: who.
        reason: why, in their words.
        detail: what it changed, in ours.

    Raises:
        InvalidRequest: the name or the reason is blank.
    """
    must_say_who(by, reason)
    values = {"kind": kind, "scope_kind": scope_kind, "scope": scope, "by": by, "reason": reason, "detail": detail}
    connection.execute(insert(control_events).values(**values, at=utcnow()))


def must_say_who(by: str, reason: str | None) -> None:
    """See that an act has a name, and a reason with words in it where it has one: the journal is read years later.

    Raises:
        InvalidRequest: names the field and the value.
    """
    if not _has_words(by) or not by.isprintable() or len(by) > _LONGEST_NAME:
        raise InvalidRequest(f"by: must be a name of 1 to {_LONGEST_NAME} printable characters, was {by!r:.200}")
    if reason is not None and not _has_words(reason):
        raise InvalidRequest(f"reason: must say why, was {reason!r:.200}")


def _has_words(text: str) -> bool:
    return any(character.isprintable() and not character.isspace() for character in text)


def in_force(connection: Connection) -> list[HaltRow]:
    """Return the halts and drains in force, the widest first."""
    query = select(halts).order_by(halts.c.scope, halts.c.kind)
    return fetch(connection, query, HaltRow)


def _scoped(scope: str) -> tuple[str, str]:
    return (EVERYTHING if scope == EVERYTHING else "broker"), scope


# -- WHAT SENDERS ASK ---
def stopped(connection: Connection, broker: str) -> dict[str, str] | None:
    """Return the halt or drain in force for a broker, the widest first, as scope, kind and words; None without one."""
    for row in _STOPS.rows(connection, broker=broker):
        return {"scope": row["scope"], "kind": row["kind"], "words": f"{row['reason'] or row['kind']} (by {row['by']})"}
    return None


def denial(broker: str, halt: Mapping[str, str]) -> Denied:
    """Return the error of an order that a halt has stopped."""
    words = f"{broker}: halted: {halt['words']}"
    return Denied(words, broker=broker, code=Denial.HALTED, everywhere=halt["scope"] == EVERYTHING)


class Brake:
    """The halts of a broker as they were a moment ago: what claimed orders meet before their first byte.

    A claim has looked at the halts too, but a batch of claimed orders may take seconds to leave. Asked by many threads;
    one of them reads.

    Args:
        database: the record.
        broker: whose halts.
    """

    def __init__(self, database: Database, broker: str) -> None:
        self.database, self.broker = database, broker
        self._lock = threading.Lock()
        self._halt: Mapping[str, str] | None = None
        self._read_at: float | None = None

    def look(self) -> None:
        """Before a send is begun: see that nothing is halted.

        Raises:
            Denied: it is.
            DatabaseUnavailable: nobody can say, so nothing may be sent.
        """
        self._check(_GOOD_S)

    def gate(self) -> None:
        """Immediately before the first byte: the same, by a reading that is 0.25 s old at most."""
        self._check(_GOOD_AT_GATE_S)

    def _check(self, good_s: float) -> None:
        """Raise if a halt is in force; what was read up to `good_s` seconds ago is good enough."""
        with self._lock:
            begun = elapsed()
            if self._read_at is None or not 0 <= begun - self._read_at <= good_s:
                self._halt = self._read()
                self._read_at = begun
            halt = self._halt
        if halt is not None:
            raise denial(self.broker, halt)

    def _read(self) -> Mapping[str, str] | None:
        with self.database.read() as connection:
            found = stopped(connection, self.broker)
        return found if found and found["kind"] == "halt" else None
