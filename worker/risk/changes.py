"""Limits as people change them: a row, and a line in the journal that is kept for ever."""

from __future__ import annotations

import structlog
from sqlalchemy import Connection

from models.errors import InvalidRequest, NotFound
from models.record.database import Database
from models.record.limits import limit_rows, put_limit, take_limits
from models.record.settling import claims_end, nobody_counts
from models.risk.names import Limit, RiskSettings, from_settings, limit_told, scope_words, value_text
from models.risk.strictness import OF_ROWS, must_only_tighten
from worker.control.controls import journal
from worker.risk.recount import count_before, take_in
from worker.runtime.clock import utcnow

log = structlog.get_logger()

#: Characters of a scope in the journal.
_LONGEST_SCOPE = 128


def set_limit(database: Database, risk: RiskSettings, limit: Limit, *, reason: str, only_tighter: bool = False) -> int:
    """Set a limit in place of the row of its name and scope; it returns when every order sent without it counts.

    Args:
        database: the record.
        risk: for the day, and the limits that are there already.
        limit: with who sets it.
        reason: why.
        only_tighter: whoever sets it may loosen none, now or later.

    Returns:
        How many orders that were sent before count from now on.

    Raises:
        InvalidRequest: the name or the reason is blank, or it would limit nothing.
        Untrusted: it would loosen a limit.
    """
    if limit.name not in OF_ROWS:
        raise InvalidRequest(f"{limit.name}: is read from [risk] of the settings alone; nobody would look at this one")

    def work(connection: Connection) -> int:
        rows = _of_scope(connection, limit)
        before = next((row for row in rows if row.place == limit.place), None)
        was = f", was {value_text(before.value)} by {before.set_by}" if before else ""
        detail = f"{limit_told(limit, with_scope=False)}{was}"
        put_limit(connection, limit, reason, utcnow())
        if only_tighter:
            must_only_tighten(from_settings(risk), rows, _of_scope(connection, limit), utcnow())
        scope = limit.scope[:_LONGEST_SCOPE]
        journal(connection, "limit_set", limit.scope_kind, scope, by=limit.set_by, reason=reason, detail=detail)
        return count_before(connection, risk) if database.is_sqlite else 0

    if database.is_sqlite:  # one writer: nobody is on the way, and nobody comes between
        return database.transact(work)
    with nobody_counts(database):
        database.transact(work)
        if late := claims_end(database):
            log.warning("claims_do_not_end", limit=limit.words, processes=late)
        return take_in(database, risk)


def _of_scope(connection: Connection, limit: Limit) -> list[Limit]:
    return [row for row in limit_rows(connection) if row.place[:2] == limit.place[:2]]


def clear_limit(database: Database, place: tuple[str, str, str], *, by: str, reason: str) -> Limit:
    """End a limit that somebody has set; returns it.

    Raises:
        NotFound: nobody has set it.
        InvalidRequest: the name or the reason is blank.
    """
    kind, scope, name = place

    def work(connection: Connection) -> Limit:
        taken = take_limits(connection, [place])
        if not taken:
            raise NotFound(
                f"nobody has set {name} of {scope_words(kind, scope)}; `corro limits` lists what is in force"
            )
        detail = f"{taken[0].allows} by {taken[0].set_by}"
        journal(connection, "limit_clear", kind, scope[:_LONGEST_SCOPE], by=by, reason=reason, detail=detail)
        return taken[0]

    return database.transact(work)
