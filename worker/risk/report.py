"""Every limit in force, and what is used of it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, func, select, union

from models.record.balance_tables import position_states
from models.record.limits import limit_rows
from models.record.tables import (
    external_fills,
    fills,
    position_baselines,
    position_ledgers,
    position_snapshots,
    risk_tallies,
)
from models.risk.names import Limit, RiskSettings, from_settings, in_force, value_text
from worker.risk.exposure import Exposure

#: Above all ids that there will be: of a range of ids PostgreSQL guesses few rows.
_FAR = 10**12
#: Columns of the list, for a person and for programs.
COLUMNS = ("scope_kind", "scope", "name", "value", "used", "left", "until", "set_by")


def limits_report(connection: Connection, risk: RiskSettings, now: datetime) -> list[dict[str, object]]:
    """Return the limits in force, the widest first.

    Args:
        connection: to read by.
        risk: the settings' limits, currency and day.
        now: the time.

    Returns:
        Rows of COLUMNS: `used` and `left` are None where a limit is about one order alone.
    """
    limits = in_force(from_settings(risk), limit_rows(connection), now)
    if not limits:
        return []
    exposure = Exposure(connection, _symbols(connection), limits, now, (risk.day(now), risk.day_began(now)))
    return [_row(limit, exposure) for limit in limits]


def _row(limit: Limit, exposure: Exposure) -> dict[str, object]:
    used = _used(limit, exposure)
    left = None if used is None else max(limit.number - used, Decimal(0))
    values = (limit.scope_kind, limit.scope, limit.name, value_text(limit.value), used, left, limit.until, limit.set_by)
    return dict(zip(COLUMNS, values, strict=True))


def _used(limit: Limit, exposure: Exposure) -> Decimal | None:
    sums = exposure.sums(limit)
    used: dict[str, Decimal | int] = {
        "max_open_orders": sums.open_orders,
        "max_open_value": sums.open_value,
        "max_day_value": sums.sent_value,
        "max_day_loss": max(-sums.realized, Decimal(0)),
        "orders_per_minute": sums.orders_gone + len(sums.orders_at),
        "messages_per_minute": sums.messages_gone + len(sums.messages_at),
        "max_position": exposure.largest_position(limit),
    }
    return Decimal(used[limit.name]) if limit.name in used else None


def _symbols(connection: Connection) -> list[str]:
    """Return the symbols in which something is held, or open."""
    t, p, b, s, g = (
        table.c for table in (risk_tallies, position_snapshots, position_baselines, position_states, position_ledgers)
    )
    since, external_since = (select(func.min(at)).scalar_subquery() for at in (g.fills_id, g.external_fills_id))
    query = union(
        select(t.symbol).where(t.open_orders != 0),
        select(p.symbol),
        select(b.symbol),
        select(s.symbol).where(s.quantity != 0),
        select(fills.c.symbol).where(fills.c.id.between(since, since + _FAR)),
        select(external_fills.c.symbol).where(external_fills.c.id.between(external_since, external_since + _FAR)),
    )
    return [symbol for symbol in connection.execute(query).scalars() if symbol is not None]
