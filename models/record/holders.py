"""Which strategy holds what at a broker, by its fills; and which orders close that.

A broker shows one position a symbol, whoever brought it about. Each share of it is closed in the name of the strategy
whose fills explain it, so that the books of strategies are flat when the account is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Select, Table, and_, select, true

from models.destinations import broker_of
from models.instruments import told_class
from models.record.archive_tables import archived_orders
from models.record.destinations import is_at
from models.record.executions import Holders, held_by
from models.record.instrument_tables import instruments
from models.record.tables import orders, position_snapshots
from models.vocabulary import Side

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Closing:
    """An order that closes what one strategy holds at one broker."""

    symbol: str
    side: Side
    quantity: Decimal
    strategy: str | None
    #: Where: a broker, or one of several accounts behind its login.
    where: str = ""


def holders(connection: Connection, broker: str, symbol: str | None = None) -> Holders:
    """Return what each strategy holds at a broker, or in one of its accounts (`ibkr:ira`), by all its fills there."""
    return held_by(
        connection,
        lambda table: and_(is_at(table, broker), true() if symbol is None else table.c.symbol == symbol),
    )


def positions_shown(connection: Connection, broker: str) -> dict[str, Decimal]:
    """Return what a broker, or an account of one, showed at the last reading of its positions: symbol -> shares."""
    p = position_snapshots.c
    found = connection.execute(select(p.symbol, p.quantity).where(p.broker == broker))
    return {symbol: size for symbol, size in found if size}


def class_terms(connection: Connection, broker: str, symbol: str) -> dict[str, str]:
    """Return what an order in a symbol has to say of its class where the text does not: EUR/USD, SHOP@TSE, ESZ26@CME.

    What has traded there is known by the newest order that was filled, archived or not, else by what the broker
    has told of its instruments; where neither says one class alone, nothing is said.
    """
    if told_class(symbol) is not None:
        return {}
    name = broker_of(broker)
    i = instruments.c
    told = select(i.asset_class, i.currency).where(i.symbol == symbol, i.broker == name).distinct().limit(2)
    for query in (_traded(orders, name, symbol), _traded(archived_orders, name, symbol), told):
        found = connection.execute(query).all()
        if len(found) == 1:
            return {key: value for key, value in zip(("asset_class", "currency"), found[0], strict=True) if value}
    return {}


def _traded(table: Table, broker: str, symbol: str) -> Select[Any]:
    """Ask for class and currency of the newest order of a table that was filled there and says them."""
    o = table.c
    traded = select(o.asset_class, o.currency).where(o.symbol == symbol, o.broker == broker, o.filled_quantity > 0)
    return traded.where(o.asset_class.is_not(None)).order_by(o.created_at.desc()).limit(1)


def decide_closings(
    shown: Mapping[str, Decimal], held: Mapping[tuple[str | None, str], Decimal], *, external: bool = False
) -> list[Closing]:
    """Decide which orders close the positions at a broker, one for each symbol and strategy.

    | a strategy holds                  | its order                                                  |
    |-----------------------------------|------------------------------------------------------------|
    | on the side that the broker shows | what it holds, but together no more than the broker shows  |
    | on the other side                 | none: nothing is there to close; the others close less     |
    | nothing explains                  | none; with `external` one that names no strategy           |

    Args:
        shown: symbol -> shares by the broker, negative when short.
        held: (strategy, symbol) -> shares by the fills of the strategies; those that may be closed.
        external: what nobody holds is closed, too.
    """
    found = []
    for symbol, total in sorted(shown.items()):
        side, left = (Side.SELL if total > 0 else Side.BUY_TO_COVER), abs(total)
        mine = [(strategy, shares) for (strategy, of), shares in held.items() if of == symbol and shares * total > 0]
        for strategy, shares in sorted(mine, key=lambda one: (-abs(one[1]), one[0] or "")):
            quantity = min(abs(shares), left)
            left -= quantity
            if quantity:
                found.append(Closing(symbol, side, quantity, strategy))
        if left and external:
            found.append(Closing(symbol, side, left, None))
    return _joined(found)


def _joined(closings: Iterable[Closing]) -> list[Closing]:
    """Make one order of two with the same strategy: what names none, and what nobody holds."""
    sums: dict[tuple[str, Side, str | None], Decimal] = {}
    for one in closings:
        key = (one.symbol, one.side, one.strategy)
        sums[key] = sums.get(key, _ZERO) + one.quantity
    return [Closing(symbol, side, quantity, strategy) for (symbol, side, strategy), quantity in sums.items()]
