"""Records what an account was paid, charged or given, each event once; and finds those that explain a position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast

from sqlalchemy import Connection, func, select, true

from models.clock import utcnow
from models.destinations import split
from models.record.history_rows import CashEventRow
from models.record.history_tables import cash_events
from models.record.statements import fetch, upsert
from models.record.tables import attempts, position_events
from models.record.trading_days import day_of
from models.reports import CashEventReport
from models.vocabulary import MOVING

#: Ids in one statement.
_AT_ONCE = 300
_PLACES = 9


def book(connection: Connection, broker: str, told: Iterable[CashEventReport]) -> int:
    """Record events; those that are there already stay as they are.

    Returns:
        How many are new.
    """
    reports = list(told)
    orders = _orders(connection, broker, reports)
    rows = [_row(broker, report, orders) for report in reports]
    new = 0
    for row in rows:
        put = upsert(connection, cash_events).values(**row).on_conflict_do_nothing()
        new += len(connection.execute(put.returning(cash_events.c.event_id)).all())
    return new


def _row(broker: str, report: CashEventReport, orders: dict[str, str]) -> CashEventRow:
    return {
        "broker": broker, "event_id": report.event_id, "account": report.account_id, "kind": str(report.kind),
        "amount": report.amount, "currency": report.currency, "symbol": report.symbol, "quantity": report.quantity,
        "price": report.price, "client_order_id": orders.get(report.broker_order_id or ""), "detail": report.detail,
        "at": report.at,
    }  # fmt: skip


def _orders(connection: Connection, broker: str, reports: Sequence[CashEventReport]) -> dict[str, str]:
    """Return our orders that events name, by the ids of their broker."""
    ids, a = sorted({id_ for report in reports if (id_ := report.broker_order_id)}), attempts.c
    found: dict[str, str] = {}
    for start in range(0, len(ids), _AT_ONCE):
        some = a.broker_order_id.in_(ids[start : start + _AT_ONCE])
        rows = connection.execute(select(a.broker_order_id, a.client_order_id).where(a.broker == broker, some))
        found |= {str(broker_id): str(ours) for broker_id, ours in rows}
    return found


def newest(connection: Connection, broker: str) -> datetime | None:
    """Return when the newest recorded event of a broker was, but for those of the future; None where there is none."""
    past = (cash_events.c.broker == broker) & (cash_events.c.at <= utcnow())
    found = connection.execute(select(func.max(cash_events.c.at)).where(past)).scalar()
    return cast("datetime | None", found)


# -- WHAT EXPLAINS A POSITION ---
def explaining(
    connection: Connection, broker: str, symbol: str, difference: Decimal, since: datetime
) -> list[CashEventRow]:
    """Return the events that explain why a broker shows more or less of a symbol, each usable once.

    Args:
        connection: of the transaction.
        broker: which shows it; or one of several accounts there: a destination.
        symbol: of which.
        difference: what it shows beyond what is expected.
        since: older events explain nothing any more.

    Returns:
        One event with that quantity; else those of one day, or all of them, that come to it together; empty otherwise.
    """
    (name, account), e, p = split(broker), cash_events.c, position_events.c
    used = select(p.event_id).where(p.broker == broker, p.symbol == symbol, p.event_id.is_not(None))
    query = select(cash_events).where(
        e.broker == name, true() if account is None else e.account == account, e.symbol == symbol,
        e.kind.in_(sorted(map(str, MOVING))), e.quantity != 0, e.at >= since,
        e.event_id.not_in(used),
    )  # fmt: skip
    rows = fetch(connection, query.order_by(e.at, e.event_id), CashEventRow)
    return next((some for some in _groups(rows) if _sum(some) == round(difference, _PLACES)), [])


def _groups(rows: list[CashEventRow]) -> Iterator[list[CashEventRow]]:
    yield from ([row] for row in rows)
    by_day: dict[object, list[CashEventRow]] = {}
    for row in rows:
        by_day.setdefault(day_of(row["at"]), []).append(row)
    yield from by_day.values()
    yield rows


def _sum(rows: Iterable[CashEventRow]) -> Decimal:
    return round(sum((row["quantity"] or Decimal(0) for row in rows), Decimal(0)), _PLACES)


def words_of(row: CashEventRow) -> str:
    """Say what an event was, for the journal of positions."""
    return f"{row['kind']} of {row['at']:%Y-%m-%d}: {row['detail'] or row['event_id']}"
