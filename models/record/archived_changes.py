"""Archived executions that their brokers tell otherwise later: a line stands for each, as nobody writes in the archive.

| a report on an archived execution                            | becomes                                         |
|--------------------------------------------------------------|-------------------------------------------------|
| with what is known of it                                     | nothing                                         |
| it was taken back                                            | a line without shares that replaces it: `bust`  |
| with a higher revision, or in a listing, and other content   | a line that replaces it: `correction`           |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, insert, select, update

from models.destinations import destination_of
from models.encoding import plain
from models.record.archive_rows import ArchivedFillRow
from models.record.archive_tables import archived_fills
from models.record.balance_tables import position_executions
from models.record.balances import ShortKey
from models.record.baselines import shift_baseline
from models.record.history_rows import ToldExecutionRow
from models.record.lot_changes import reckon_anew
from models.record.position_tables import position_events, position_ledgers, told_executions
from models.record.statements import fetch
from models.reports import FillReport
from models.vocabulary import Side, signed

_ZERO = Decimal(0)
#: Less than this is how a database rounds, not what a broker corrects.
_FINEST = Decimal("1E-8")


@dataclass(frozen=True, slots=True)
class ArchivedChange:
    """An archived execution, and what its broker tells of it now."""

    #: As archived.
    row: ArchivedFillRow
    #: The line that stands for it already, if one does.
    line: ToldExecutionRow | None
    report: FillReport

    @property
    def quantity(self) -> Decimal:
        """As it counts until now."""
        return self.row["quantity"] if self.line is None else abs(self.line["shares"])

    @property
    def is_new(self) -> bool:
        """Tell whether the report says something else than is known."""
        told, revision = self.report, 0 if self.line is None else self.line["revision"]
        if told.busted:
            return bool(self.quantity)
        if told.revision < revision or (told.revision == revision and not (told.listed and self.quantity)):
            return False
        price = self.row["price"] if self.line is None else self.line["price"]
        pairs = ((told.quantity, self.quantity), (told.price, price))
        return any(new is not None and old is not None and abs(new - old) > _FINEST for new, old in pairs)


def changes_of(connection: Connection, broker: str, told: Iterable[FillReport]) -> list[ArchivedChange]:
    """Return the archived executions that a broker tells otherwise now."""
    reports = {fill.execution_id: fill for fill in told}
    f, t = archived_fills.c, told_executions.c
    known = select(archived_fills).where(f.broker == broker, f.execution_id.in_(sorted(reports)))
    rows = fetch(connection, known, ArchivedFillRow)
    replaced = select(told_executions).where(t.replaces.in_([row["id"] for row in rows]))
    lines = {line["replaces"]: line for line in fetch(connection, replaced, ToldExecutionRow)}
    found = [ArchivedChange(row, lines.get(row["id"]), reports[row["execution_id"]]) for row in rows]
    return [change for change in found if change.is_new and change.row["side"] and change.row["symbol"]]


def record(connection: Connection, broker: str, told: Sequence[FillReport], now: datetime) -> list[Mapping[str, str]]:
    """Let a line stand for each archived execution that is told otherwise, and the baselines follow.

    Returns:
        Words for the log on each.
    """
    found = changes_of(connection, broker, told)
    for change in found:
        _record(connection, change, now)
    return [_words(change) for change in found]


def _record(connection: Connection, change: ArchivedChange, now: datetime) -> None:
    row, told, e, t = change.row, change.report, position_executions.c, told_executions.c
    turn, symbol = signed(Side(str(row["side"]))), str(row["symbol"])
    shares = _ZERO if told.busted else turn * told.quantity
    price = row["price"] if change.line is None else change.line["price"]
    values = {
        "shares": shares, "price": price if told.price is None else told.price, "revision": told.revision,
        "filled_at": row["filled_at"] if told.busted else told.filled_at, "moved": shares - turn * row["quantity"],
        "kind": "bust" if told.busted else "correction", "reason": _reason(change), "recorded_at": now,
    }  # fmt: skip
    if change.line is not None:
        connection.execute(update(told_executions).where(t.id == change.line["id"]).values(**values))
    else:
        view = connection.execute(
            select(position_executions).where(e.source == "ours", e.id == row["id"])
        ).one()  # with the currency and the multiplier that count
        connection.execute(
            insert(told_executions).values(
                source="ours", broker=row["broker"], account=row["account"], strategy=row["strategy"], symbol=symbol,
                currency=view.currency, multiplier=view.multiplier, fee=view.fee, fee_currency=view.fee_currency,
                event_id=row["execution_id"], replaces=row["id"], **values,
            )
        )  # fmt: skip
    reckon_anew(connection, [ShortKey("ours", row["broker"], row["strategy"] or "", symbol)])
    where = destination_of({"broker": row["broker"], "account": row["account"]})
    is_kept = select(position_ledgers.c.broker).where(position_ledgers.c.broker == where).with_for_update()
    if connection.execute(is_kept).first() is None:
        return
    was = turn * change.quantity  # archived executions are in the baseline
    shift_baseline(connection, where, symbol, shares - was, now)
    moved = {"broker": where, "symbol": symbol, "at": now, "kind": "moved", "expected": was, "found": shares}
    connection.execute(insert(position_events).values(**moved, reason=_reason(change), event_id=row["execution_id"]))


def _reason(change: ArchivedChange) -> str:
    told, row = change.report, change.row
    was = f"{row['side']} {plain(change.quantity)} {row['symbol']}"
    if told.busted:
        return f"{row['broker']} has taken back execution {row['execution_id']} ({was}), which is archived"
    price = "an unknown price" if told.price is None else plain(told.price)
    now = f"{plain(told.quantity)} @ {price}"
    return f"{row['broker']} has corrected execution {row['execution_id']} ({was}), which is archived: {now}"


def _words(change: ArchivedChange) -> dict[str, str]:
    row = change.row
    return {"execution_id": row["execution_id"], "strategy": str(row["strategy"]), "detail": _reason(change)}
