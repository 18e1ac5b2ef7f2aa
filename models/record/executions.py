"""Our executions, in the record or archived, and lines that are no trades: what is held is the sum of all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from decimal import Decimal
from typing import TypedDict

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Subquery,
    and_,
    cast,
    exists,
    func,
    literal,
    literal_column,
    select,
    type_coerce,
    union_all,
)

from models.record.archive_tables import archived_fills
from models.record.balance_tables import position_changes, position_progress, position_states
from models.record.position_tables import told_executions
from models.record.statements import Query, Selected, among, fetch, unindexed
from models.record.tables import SIDE_OF_FILL, fills, orders
from models.vocabulary import Side, signed

#: (strategy, symbol) -> shares, negative when short; a strategy may be None, as orders may name none.
Holders = dict[tuple[str | None, str], Decimal]
#: Makes a condition for `fills` and for `archived_fills`.
Which = Callable[[FromClause], ColumnElement[bool]]
_ZERO = Decimal(0)
#: Decimals of a quantity that count; and digits that SQLite keeps of each.
_PLACES, _DIGITS = 9, 15
#: Above all ids that there will be: of a range PostgreSQL guesses few, of `>` alone a third of all.
_FAR = 10**12
_KEPT = (
    select(position_progress.c.kept_id).where(position_progress.c.source == "ours").correlate(None).scalar_subquery()
)


class HeldSum(TypedDict):
    """What was bought, or sold, of a symbol by a strategy: whole units, and parts of one."""

    strategy: str | None
    symbol: str
    side: str
    units: int
    parts: int


def held_by(connection: Connection, where: Which) -> Holders:
    """Return what strategies hold of symbols by the executions for which a condition holds; nothing that is flat."""
    return held_of(fetch(connection, _sums(_executions(where)), HeldSum))


def held_now(connection: Connection, strategies: Collection[str], symbols: Collection[str]) -> Holders:
    """Return what these strategies hold of these symbols, wherever; nothing that is flat.

    The same as `held_by` of all their executions, by one statement whose work does not grow with them: what is kept in
    balances, the executions since, and all those of a balance of which one has changed since.
    """
    return held_of(HELD_NOW.rows(connection, strategies=sorted(strategies), symbols=sorted(symbols)))


def _now() -> Selected:
    s, c = position_states.c, position_changes.c
    stale = select(c.broker, c.strategy, c.symbol).where(c.source == "ours", *_asked(c.strategy, c.symbol)).distinct()
    every = stale.cte("stale")

    def is_stale(table: FromClause) -> ColumnElement[bool]:
        return and_(*(every.c[name] == table.c[name] for name in ("broker", "strategy", "symbol")))

    def since(table: FromClause) -> ColumnElement[bool]:
        t = table.c
        mine = _asked(unindexed(t.strategy), unindexed(t.symbol))
        changed = exists(select(every.c.symbol).where(is_stale(table)).correlate(table))
        return and_(t.id > _KEPT, t.id < _KEPT + _FAR, *mine, ~changed)

    kept = select(s.strategy, s.symbol, literal(str(Side.BUY)).label("side"), s.quantity).where(
        s.source == "ours",
        *_asked(s.strategy, s.symbol),
        ~exists(select(every.c.symbol).where(is_stale(position_states)).correlate(position_states)),
    )
    own, gone, told = _parts(None)
    again = (
        own.join(every, is_stale(fills)),
        gone.join(every, is_stale(archived_fills)),
        told.join(every, is_stale(told_executions)),
    )
    new = own.where(since(fills)), gone.where(since(archived_fills))
    return _sums(union_all(kept, *new, *again).subquery())


def _asked(strategy: ColumnElement[str], symbol: ColumnElement[str]) -> tuple[ColumnElement[bool], ...]:
    return among(strategy, "strategies"), among(symbol, "symbols")


def _sums(executions: Subquery) -> Selected:
    """Add up in the database, whole units and parts of one as integers: SQLite's floats leave crumbs of nothing."""
    every = executions.c
    quantity = type_coerce(every.quantity, Float)
    whole = cast(quantity, BigInteger)
    parts_of_one = cast(func.round((quantity - whole) * literal_column(f"1e{_PLACES}")), BigInteger)
    sums = func.sum(whole).label("units"), func.sum(parts_of_one).label("parts")
    return select(every.strategy, every.symbol, every.side, *sums).group_by(every.strategy, every.symbol, every.side)


def held_of(rows: Iterable[HeldSum]) -> Holders:
    """Return what sums of bought and sold units come to; nothing that is flat."""
    sums: dict[tuple[str | None, str], list[Decimal]] = {}
    for row in rows:
        held = Decimal(row["units"]) + Decimal(row["parts"]).scaleb(-_PLACES)
        sums.setdefault((row["strategy"], row["symbol"]), []).append(signed(Side(row["side"])) * held)
    found = {whose: round(sum(parts, _ZERO), _places(parts)) for whose, parts in sums.items()}
    return {whose: held for whose, held in found.items() if held}


def _places(sums: Iterable[Decimal]) -> int:
    return min(_PLACES, _DIGITS - 1 - max(one.adjusted() for one in sums))


def _executions(where: Which) -> Subquery:
    """Return strategy, symbol, side and quantity of every execution for which a condition holds."""
    return union_all(*_parts(where)).subquery()


def _parts(where: Which | None) -> tuple[Selected, Selected, Selected]:
    """Return the queries of the executions in the record, of the archived ones, and of lines that are no trades."""
    f, a, t = fills.c, archived_fills.c, told_executions.c
    own = select(f.strategy, f.symbol, SIDE_OF_FILL.label("side"), f.quantity)
    own = own.join_from(fills, orders, f.client_order_id == orders.c.client_order_id)
    replaced = exists(select(t.id).where(t.replaces == a.id).correlate(archived_fills))
    gone = select(a.strategy, a.symbol, a.side, a.quantity).where(~replaced)
    told = select(t.strategy, t.symbol, literal(str(Side.BUY)).label("side"), t.shares.label("quantity"))
    told = told.where(t.source == "ours")
    if where is None:
        return own, gone, told
    return own.where(where(fills)), gone.where(where(archived_fills)), told.where(where(told_executions))


#: The same as a question, read by `held_of`; bind `strategies` and `symbols`.
HELD_NOW = Query(_now(), HeldSum)
