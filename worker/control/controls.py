"""Set and end controls, and keep for ever who did: every act is a row of `control_events`, with its name and reason."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, and_, delete, insert, select

from models.errors import InvalidRequest
from models.record.controls import HALTED, NOUNS, REDUCING, ControlRow, KillRow, in_force
from models.record.database import Database
from models.record.statements import upsert
from models.record.tables import control_events, controls, halts
from worker.control.scopes import Scope
from worker.runtime.clock import utcnow

#: Characters of a name in the journal, and of a scope there.
_LONGEST_NAME = 128
#: Who did what no person did.
CORRO = "corro"
#: What people do, and the state that it leaves.
STATES = {"halt": HALTED, "reduce": REDUCING, "kill": HALTED}


# -- WHAT PEOPLE DO ---
def stop(database: Database, scope: Scope, kind: str, reason: str, by: str) -> None:
    """Put a halt, a reduction or a drain in force; it takes the place of any other control of that scope.

    Args:
        database: the record.
        scope: of a drain: one broker.
        kind: `halt` (nothing is sent), `reduce` (closing orders alone) or `drain` (nothing new is taken).
        reason: kept with the orders it denies.
        by: who.

    Raises:
        InvalidRequest: the name or the reason is blank.
    """
    database.transact(lambda connection: put(connection, scope, kind, by=by, reason=reason))


def put(
    connection: Connection,
    scope: Scope,
    kind: str,
    *,
    by: str,
    reason: str,
    state: str | None = None,
    kill: KillRow | None = None,
    detail: str | None = None,
) -> int:
    """Put a control in force, in a transaction that may do more.

    Args:
        connection: of the transaction.
        scope: what it is about.
        kind: of the event: halt, reduce, kill, trip, drain.
        by: who.
        reason: why.
        state: where `kind` does not say it.
        kill: what is asked of the leaders.
        detail: what led to it, in our words.

    Returns:
        Its generation.
    """
    generation = journal(connection, kind, scope.kind, scope.text, by=by, reason=reason, detail=detail)
    now = utcnow()
    if kind == "drain":
        _put_halt(connection, scope.text, kind, reason, by, now)
        return generation
    row = {"state": state or STATES[kind], "generation": generation, "by": by, "reason": reason, "at": now}
    insertion = upsert(connection, controls).values(scope_kind=scope.kind, scope=scope.text, kill=kill, **row)
    changes = row if kind == "halt" else row | {"kill": kill}  # a halt on top of a kill does not end its cancels
    connection.execute(insertion.on_conflict_do_update(index_elements=["scope_kind", "scope"], set_=changes))
    if scope.kind in ("*", "broker"):  # workers of the version before look there, and send nothing at all
        _put_halt(connection, scope.text, "halt", reason, by, now)
    return generation


def _put_halt(connection: Connection, scope: str, kind: str, reason: str, by: str, at: datetime) -> None:
    connection.execute(delete(halts).where(halts.c.scope == scope, halts.c.kind == kind))
    connection.execute(insert(halts).values(scope=scope, kind=kind, reason=reason, by=by, at=at))


def trip(
    connection: Connection, scope_kind: str, scope: str, state: str, reason: str, detail: str | None = None
) -> bool:
    """Stop a scope because a limit was met: nobody asked, and a named person resumes.

    Args:
        connection: of the transaction that found it, such as a claim's.
        scope_kind: `*`, or one or two of `worker.control.scopes.KINDS` joined by +.
        scope: `*`, or their names joined by colons.
        state: halted or reducing.
        reason: which limit, in words.
        detail: the figures.

    Returns:
        Whether that changed anything: a scope that is stopped as much already stays as it is.
    """
    now = connection.execute(
        select(controls.c.state).where(controls.c.scope_kind == scope_kind, controls.c.scope == scope)
    ).scalar()
    if now in (state, HALTED):
        return False
    put(connection, Scope(scope_kind, scope), "trip", by=CORRO, reason=reason, state=state, detail=detail)
    return True


def resume(database: Database, scope: Scope | None, *, by: str, reason: str | None = None) -> list[ControlRow]:
    """End the controls of one scope, and nobody else's.

    Args:
        database: the record.
        scope: of a broker: its drain as well. None: every control in force.
        by: who.
        reason: why, for the record.

    Returns:
        The controls that were ended.

    Raises:
        InvalidRequest: the name or the reason is blank.
    """
    must_say_who(by, reason)

    def work(connection: Connection) -> list[ControlRow]:
        ended = [row for row in in_force(connection) if scope in (None, Scope(row["scope_kind"], row["scope"]))]
        for row in ended:
            connection.execute(
                delete(controls).where(
                    and_(controls.c.scope_kind == row["scope_kind"], controls.c.scope == row["scope"])
                )
            )
            if row["scope_kind"] in ("*", "broker"):
                connection.execute(delete(halts).where(halts.c.scope == row["scope"]))
            words = (
                f"ends the {NOUNS[row['state']]} by {row['by']} of {row['at']:%Y-%m-%d %H:%M:%S} UTC: {row['reason']}"
            )
            journal(connection, "resume", row["scope_kind"], row["scope"], by=by, reason=reason, detail=words)
        return ended

    return database.transact(work)


# -- THE JOURNAL ---
def journal(
    connection: Connection,
    kind: str,
    scope_kind: str,
    scope: str,
    *,
    by: str,
    reason: str | None = None,
    detail: str | None = None,
) -> int:
    """Append to the journal of what was done to trading; returns the id of the event.

    Args:
        connection: of the transaction that does it.
        kind: halt, reduce, drain, resume, kill, trip, unlock, resolve ...
        scope_kind: `*`, broker, symbol, order ...
        scope: which one; `*` for everything, `alpaca:KO` for a symbol at a broker.
        by: who.
        reason: why, in their words.
        detail: what it changed, in ours.

    Raises:
        InvalidRequest: the name or the reason is blank.
    """
    must_say_who(by, reason)
    about = {"kind": kind, "scope_kind": scope_kind[:16], "scope": scope[:_LONGEST_NAME], "at": utcnow()}
    appended = insert(control_events).values(**about, by=by, reason=reason, detail=detail)
    generation: int = connection.execute(appended.returning(control_events.c.id)).scalar_one()
    return generation


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
