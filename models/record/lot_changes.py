"""Lots follow what a broker told besides trades: an option that expired closes them, a split changes their size.

| the broker told               | lots of whoever holds the symbol there                                       |
|-------------------------------|------------------------------------------------------------------------------|
| expiry, and nothing is left   | all are closed, at the money that was told: 0 where there was none           |
| expiry, exercise, assignment  | closed at the money that was told, where they are one holder's, or all there |
| the same of a part of several | stay: whose shares went nobody told                                          |
| split                         | shares times the ratio, prices by it: the cost stays, nothing is realized    |
| any other                     | stay                                                                         |

Each is a line of its own in `told_executions`. What lots do not follow is in the line (baseline), as before, and said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import ColumnElement, Connection, insert, select

from models.destinations import split
from models.encoding import plain
from models.record.balance_tables import position_changes, position_executions
from models.record.balances import ShortKey, executions, reckoned
from models.record.history_rows import CashEventRow
from models.record.lots import BalanceKey, OpenLots
from models.record.position_tables import told_executions
from models.record.trading_days import day_of
from models.vocabulary import CashKind

_ZERO, _ONE = Decimal(0), Decimal(1)
_CLOSING = frozenset({CashKind.EXPIRY, CashKind.EXERCISE, CashKind.ASSIGNMENT})
#: Decimals of shares, and of prices: more than are told, so that a cost stays what it was.
_PLACES, _PRICE_PLACES = 9, 15
#: Two numbers of shares, the new ones first: "10 FOR 1", "1-for-10", "4:1".
_RATIO = re.compile(r"(?<![\d.:])(\d+(?:\.\d+)?)\s*(?:-?\s*for\s*-?|:)\s*(\d+(?:\.\d+)?)(?![\d:])", re.IGNORECASE)
_NEXT = timedelta(microseconds=1)

Held = Mapping[BalanceKey, OpenLots]


@dataclass(frozen=True, slots=True)
class LotChange:
    """A line that is no trade."""

    key: BalanceKey
    shares: Decimal
    price: Decimal | None
    at: datetime
    multiplier: Decimal
    average_price: Decimal | None = None


def follow(
    connection: Connection, where: str, symbol: str, rows: Sequence[CashEventRow], expected: Decimal, now: datetime
) -> str | None:
    """Let lots follow the events that explain a position.

    Args:
        connection: of the transaction.
        where: a broker, or one of several accounts there: a destination.
        symbol: of which.
        rows: the events.
        expected: the position before them.
        now: the time.

    Returns:
        Why lots did not follow, in words; None where they did, or where there are none.
    """
    splits = [row for row in rows if row["kind"] == CashKind.SPLIT]
    if splits and len(splits) == len(rows):
        return _split(connection, where, symbol, splits, expected, now)
    said = []
    for row in rows:
        kind, shares = CashKind(row["kind"]), row["quantity"] or _ZERO
        if kind in _CLOSING:
            said.append(_close(connection, where, row, expected, now))
        elif kind in (CashKind.SPLIT, CashKind.CORPORATE_ACTION) and _lots_of(connection, where, symbol):
            said.append(f"lots keep their size: nobody told what {kind} makes of each")
        expected += shares
    return "; ".join(filter(None, said)) or None


def _lots_of(connection: Connection, where: str, symbol: str, *which: ColumnElement[bool]) -> Held:
    """Return the lots of a symbol at a destination, by whose they are: of all executions, or of some."""
    (name, account), e = split(where), position_executions.c
    whose = select(e.source, e.strategy).where(e.broker == name, e.symbol == symbol).distinct()
    keys = {ShortKey(source, name, strategy, symbol) for source, strategy in connection.execute(whose)}
    found = reckoned(connection, [], keys, *which).holdings
    return {key: held for key, held in found.items() if key.account == (account or "") and held.quantity}


# -- CLOSED ---
def _close(connection: Connection, where: str, row: CashEventRow, expected: Decimal, now: datetime) -> str | None:
    shares, symbol = row["quantity"] or _ZERO, str(row["symbol"])
    held = _lots_of(connection, where, symbol)
    parts = closed_by(row["kind"], shares, expected, {key: lots.quantity for key, lots in held.items()})
    if parts is None:
        return f"lots keep their size: whose {plain(abs(shares))} {symbol} went nobody told"
    changes = []
    for key, part in parts.items():
        lots = held[key]
        at = max(row["at"], lots.last_at + _NEXT) if lots.last_at is not None else row["at"]
        changes.append(LotChange(key, part, told_price(row, lots.multiplier), at, lots.multiplier))
    _write(connection, row, changes, now)
    return None


def closed_by(
    kind: str, shares: Decimal, expected: Decimal, held: Mapping[BalanceKey, Decimal]
) -> dict[BalanceKey, Decimal] | None:
    """Tell what an event takes from whom: pure.

    Args:
        kind: of the event.
        shares: what the position gains by it.
        expected: the position before it.
        held: what is held there, by whose lots.

    Returns:
        Shares for each, signed; None where nobody has told whose they were.
    """
    if kind == CashKind.EXPIRY and not expected + shares:
        return {key: -quantity for key, quantity in held.items()}
    takes = {key: quantity for key, quantity in held.items() if quantity * shares < 0}
    others = expected - sum(held.values(), _ZERO)  # what no execution explains
    is_theirs = others * shares < 0
    if not takes:
        return {}
    if sum(takes.values(), others if is_theirs else _ZERO) == -shares:
        return {key: -quantity for key, quantity in takes.items()}
    ((key, quantity), *more) = takes.items()
    return None if more or is_theirs or abs(quantity) < abs(shares) else {key: shares}


def told_price(row: CashEventRow, multiplier: Decimal) -> Decimal | None:
    """Return the price at which an event closed lots: by its money, else as told; None where nobody told one."""
    amount, shares = row["amount"], row["quantity"] or _ZERO
    if amount is not None and shares:
        price = -amount / shares / multiplier
        return round(price, _PRICE_PLACES) if price >= 0 else None
    if row["kind"] == CashKind.EXPIRY:
        return _ZERO
    return row["price"]


# -- SPLIT ---
def _split(
    connection: Connection, where: str, symbol: str, rows: Sequence[CashEventRow], expected: Decimal, now: datetime
) -> str | None:
    row, e = rows[0], position_executions.c
    gained = sum((one["quantity"] or _ZERO for one in rows), _ZERO)
    held = _lots_of(connection, where, symbol, e.filled_at < row["at"])
    if not held:
        return None
    name, account = split(where)
    later = [
        one
        for one in executions(connection, e.broker == name, e.symbol == symbol)
        if one.key.account == (account or "") and one.day >= day_of(row["at"], symbol)
    ]
    if any(one.filled_at < row["at"] for one in later):
        return "lots keep their size: nobody told whether trades of that day were before the split or after it"
    before = expected - sum((one.shares for one in later), _ZERO)
    quantities = {key: lots.quantity for key, lots in held.items()}
    ratio = told_ratio([str(one["detail"] or "") for one in rows], before, gained, quantities.values())
    if ratio is None:
        return f"lots keep their size: nobody told the ratio by which {plain(before)} became {plain(before + gained)}"
    if any(cost.is_nan() for lots in held.values() for cost in (lots.cost, lots.cost_average)):
        return "lots keep their size: nobody told the price of one of them"
    for key, lots in held.items():
        _write(connection, row, list(_times(key, lots, ratio, row["at"])), now)
    return None


def told_ratio(words: Iterable[str], before: Decimal, gained: Decimal, held: Iterable[Decimal]) -> Decimal | None:
    """Return how many shares one has become: pure.

    Args:
        words: of the broker, on the split.
        before: the position before it.
        gained: what it gained.
        held: what each holds of it by lots.

    Returns:
        The ratio in words that fits to less than a share, for which money was paid; without words that of the
        position, where one holder has all of it, or each has a whole number as before. Otherwise None.
    """
    after = before + gained
    if not before or before * after <= 0:
        return None
    pairs = [(Decimal(a), Decimal(b)) for text in words for a, b in _RATIO.findall(text)]
    told = {a / b for one in pairs for a, b in (one, one[::-1]) if a and b}
    if told:
        fitting = [ratio for ratio in told if abs(before * ratio - after) < 1 and (ratio > 1) == (gained * before > 0)]
        return fitting[0] if len(fitting) == 1 else None
    ratio, each = after / before, [*held]
    rest = before - sum(each, _ZERO)
    if len(each) == 1 and not rest:
        return ratio
    whole = all(quantity != round(quantity) or _is_whole(quantity * ratio) for quantity in (*each, rest))
    return ratio if whole else None


def _is_whole(quantity: Decimal) -> bool:
    return round(quantity, _PLACES) == round(quantity)


def _times(key: BalanceKey, lots: OpenLots, ratio: Decimal, at: datetime) -> Iterator[LotChange]:
    """Yield lines that close each lot at its own price, and open it anew as so many shares of the same cost."""
    mean = lots.cost_average / lots.quantity / lots.multiplier
    for lot in lots.lots:
        yield LotChange(key, -lot.shares, lot.price, at, lots.multiplier, round(mean, _PRICE_PLACES))
    left, mean = round(lots.quantity * ratio, _PLACES), round(mean / ratio, _PRICE_PLACES)
    for n, lot in enumerate(lots.lots, 1):
        shares = left if n == len(lots.lots) else round(lot.shares * ratio, _PLACES)
        left -= shares
        price = round(lot.shares * lot.price / shares, _PRICE_PLACES)
        yield LotChange(key, shares, price, at, lots.multiplier, mean)


# -- WRITTEN ---
def _write(connection: Connection, row: CashEventRow, changes: Sequence[LotChange], now: datetime) -> None:
    if not changes:
        return
    reason = f"{row['kind']} of {row['at']:%Y-%m-%d}: {row['detail'] or row['event_id']}"
    lines = [
        {
            "source": one.key.source, "broker": one.key.broker, "account": one.key.account or None,
            "strategy": one.key.strategy or None, "symbol": one.key.symbol, "currency": one.key.currency,
            "shares": one.shares, "moved": one.shares, "price": one.price, "average_price": one.average_price,
            "multiplier": one.multiplier, "fee": _ZERO, "fee_currency": one.key.currency, "filled_at": one.at,
            "kind": row["kind"], "event_id": row["event_id"], "reason": reason, "recorded_at": now,
        }
        for one in changes
        if one.shares
    ]  # fmt: skip
    connection.execute(insert(told_executions), lines)
    reckon_anew(connection, {ShortKey.of(one.key) for one in changes})


def reckon_anew(connection: Connection, keys: Iterable[ShortKey]) -> None:
    """Say that what is kept of these does not hold any more."""
    connection.execute(insert(position_changes), [key._asdict() for key in sorted(keys)])
