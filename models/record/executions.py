"""Our executions, whether their orders are in the record or archived: what is held is the sum of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Subquery,
    cast,
    func,
    literal_column,
    select,
    type_coerce,
    union_all,
)

from models.record.archive_tables import archived_fills
from models.record.tables import SIDE_OF_FILL, fills, orders
from models.vocabulary import Side, signed

#: (strategy, symbol) -> shares, negative when short; a strategy may be None, as orders may name none.
Holders = dict[tuple[str | None, str], Decimal]
#: Makes a condition for `fills` and for `archived_fills`.
Which = Callable[[FromClause], ColumnElement[bool]]
_ZERO = Decimal(0)
#: Decimals of a quantity that count; and digits that SQLite keeps of each.
_PLACES, _DIGITS = 9, 15


def held_by(connection: Connection, where: Which) -> Holders:
    """Return what strategies hold of symbols by the executions for which a condition holds; nothing that is flat.

    The database adds up, whole units and parts of one as integers: SQLite's floats would leave crumbs of what is flat.
    """
    every = _executions(where).c
    quantity = type_coerce(every.quantity, Float)
    whole = cast(quantity, BigInteger)
    parts_of_one = cast(func.round((quantity - whole) * literal_column(f"1e{_PLACES}")), BigInteger)
    query = select(every.strategy, every.symbol, every.side, func.sum(whole), func.sum(parts_of_one))
    sums: dict[tuple[str | None, str], list[Decimal]] = {}
    for strategy, symbol, side, units, parts in connection.execute(
        query.group_by(every.strategy, every.symbol, every.side)
    ):
        held = Decimal(units) + Decimal(parts).scaleb(-_PLACES)
        sums.setdefault((strategy, symbol), []).append(signed(Side(side)) * held)
    found = {whose: round(sum(parts, _ZERO), _places(parts)) for whose, parts in sums.items()}
    return {whose: held for whose, held in found.items() if held}


def _places(sums: Iterable[Decimal]) -> int:
    return min(_PLACES, _DIGITS - 1 - max(one.adjusted() for one in sums))


def _executions(where: Which) -> Subquery:
    """Return strategy, symbol, side and quantity of every execution for which a condition holds."""
    f, a = fills.c, archived_fills.c
    own = select(f.strategy, f.symbol, SIDE_OF_FILL.label("side"), f.quantity)
    own = own.join_from(fills, orders, f.client_order_id == orders.c.client_order_id).where(where(fills))
    gone = select(a.strategy, a.symbol, a.side, a.quantity).where(where(archived_fills))
    return union_all(own, gone).subquery()
