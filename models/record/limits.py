"""The limits that people have set, as rows; and the journal that keeps who set them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, select

from models.record.rows import RiskLimitRow
from models.record.statements import Query, upsert
from models.record.tables import risk_limits
from models.risk.names import Limit, read_value, value_text

_ROWS = Query(select(risk_limits), RiskLimitRow)


def limit_rows(connection: Connection) -> list[Limit]:
    """Return the limits that people have set, those whose time is over included."""
    return [limit_of(row) for row in _ROWS.rows(connection)]


def limit_of(row: RiskLimitRow) -> Limit:
    """Return what a row says."""
    value = read_value(row["name"], row["value"])
    return Limit(row["scope_kind"], row["scope"], row["name"], value, row["until"], row["set_by"])


def put_limit(connection: Connection, limit: Limit, reason: str, now: datetime) -> None:
    """Write a limit in place of the one of its name and scope."""
    values = {
        "value": value_text(limit.value), "until": limit.until, "set_by": limit.set_by, "reason": reason, "set_at": now,
    }  # fmt: skip
    kind, scope, name = limit.place
    put = upsert(connection, risk_limits).values(scope_kind=kind, scope=scope, name=name, **values)
    connection.execute(put.on_conflict_do_update(index_elements=list(risk_limits.primary_key), set_=values))


def take_limits(connection: Connection, places: Iterable[tuple[str, str, str]]) -> list[Limit]:
    """Remove limits that people have set; returns those that there were."""
    r, taken = risk_limits.c, []
    rows = {limit.place: limit for limit in limit_rows(connection)}
    for kind, scope, name in places:
        if (limit := rows.get((kind, scope, name))) is not None:
            mine = (r.scope_kind == kind) & (r.scope == scope) & (r.name == name)
            connection.execute(delete(risk_limits).where(mine))
            taken.append(limit)
    return taken
