"""Executions put into a database in few words, and the definition of profit, share by share, to hold them against."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, insert, update

from models.record.database import Database
from models.record.keeping import keep
from models.record.tables import external_fills, fills, orders
from tests.unit.words import NOW


@dataclass
class MadeTrade:
    """One execution as a test tells it; a negative number of shares is a sale."""

    shares: int | str
    price: str | None
    at: datetime = NOW
    symbol: str = "AAPL"
    strategy: str | None = "dip"
    broker: str = "alpaca"
    fee: str | None = "0"
    external: bool = False
    currency: str | None = None
    fee_currency: str | None = None


@dataclass
class TradeLedger:
    """Writes executions, changes them, and remembers what it wrote."""

    database: Database
    trades: list[MadeTrade] = field(default_factory=list)

    def trade(self, *trades: MadeTrade) -> None:
        with self.database.write() as connection:
            for one in trades:
                self._write(connection, one, len(self.trades))
                self.trades.append(one)

    def _write(self, connection: Connection, one: MadeTrade, number: int) -> None:
        bought = float(one.shares) > 0
        same = {
            "broker": one.broker, "symbol": one.symbol, "execution_id": f"e{number}", "price": one.price,
            "quantity": str(one.shares).lstrip("-"), "commission": one.fee, "currency": one.currency,
            "commission_currency": one.fee_currency, "filled_at": one.at, "recorded_at": one.at,
        }  # fmt: skip
        if one.external:
            connection.execute(insert(external_fills).values(**same, side="buy" if bought else "sell"))
            return
        connection.execute(
            insert(orders).values(
                client_order_id=f"o{number}", version=1, strategy=one.strategy, symbol=one.symbol, status="filled",
                side="buy" if bought else "sell_short", quantity=same["quantity"], body_hash="", available_at=one.at,
                created_at=one.at, updated_at=one.at, filled_quantity=same["quantity"], attempt_no=1, broker=one.broker,
            )
        )  # fmt: skip
        row = insert(fills).values(**same, client_order_id=f"o{number}", attempt_no=1, strategy=one.strategy)
        connection.execute(row)

    def change(self, number: int, **values: Any) -> None:
        """Correct an execution: `shares`, `price`, `fee`; shares of 0 take it back."""
        one = self.trades[number]
        for name, value in values.items():
            setattr(one, name, value)
        table = external_fills if one.external else fills
        void = one.at if float(one.shares) == 0 else None
        changed = {
            "price": one.price,
            "quantity": str(one.shares).lstrip("-"),
            "commission": one.fee,
            "voided_at": void,
        }
        with self.database.write() as connection:
            connection.execute(update(table).where(table.c.execution_id == f"e{number}").values(**changed))


# -- THE DEFINITION ---
@dataclass
class Defined:
    """What the definition says of one (broker, strategy, symbol); None where a price is not known."""

    quantity: int = 0
    cost: Fraction | None = Fraction(0)
    cost_average: Fraction | None = Fraction(0)
    realized: dict[date, Fraction | None] = field(default_factory=lambda: defaultdict(Fraction))
    realized_average: dict[date, Fraction | None] = field(default_factory=lambda: defaultdict(Fraction))
    fees: dict[date, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    fees_missing: dict[date, int] = field(default_factory=lambda: defaultdict(int))
    ends: dict[date, int] = field(default_factory=dict)


def _plus(a: Fraction | None, b: Fraction | None) -> Fraction | None:
    return None if a is None or b is None else a + b


def _times(a: Fraction | None, b: Fraction | int) -> Fraction | None:
    return None if a is None else a * b


def define(trades: list[MadeTrade]) -> dict[tuple[str, str | None, str], Defined]:
    """Tell what whole shares earn: each is one object in a queue, and the average is a fraction."""
    found: dict[tuple[str, str | None, str], Defined] = defaultdict(Defined)
    queues: dict[object, list[Fraction | None]] = defaultdict(list)
    for _, one in sorted(enumerate(trades), key=lambda pair: (pair[1].at, pair[1].external, pair[0])):
        if not (count := abs(int(one.shares))):
            continue
        key = one.broker, "(external)" if one.external else one.strategy, one.symbol
        told, queue = found[key], queues[key]
        sign = 1 if int(one.shares) > 0 else -1
        price = None if one.price is None else Fraction(one.price)
        day = one.at.astimezone(ZoneInfo("America/New_York")).date()
        for _ in range(count):
            if told.quantity * sign < 0:  # this share closes the oldest
                gain = _plus(price, _times(queue.pop(0), -1))
                told.realized[day] = _plus(told.realized[day], _times(gain, -sign))
                mean = _times(told.cost_average, Fraction(1, told.quantity))
                gain = _plus(price, _times(mean, -1))
                told.realized_average[day] = _plus(told.realized_average[day], _times(gain, -sign))
                told.cost_average = _plus(told.cost_average, _times(mean, sign))
                told.quantity += sign
                if not told.quantity:
                    told.cost_average = Fraction(0)
            else:
                queue.append(price)
                told.cost_average = _plus(told.cost_average, _times(price, sign))
                told.quantity += sign
        told.realized[day] = _plus(told.realized[day], Fraction(0))
        told.ends[day] = told.quantity
        if one.fee is None:
            told.fees_missing[day] += 1
        else:
            told.fees[day] += Fraction(one.fee)
        side = 1 if told.quantity > 0 else -1
        told.cost = Fraction(0)
        for each in queue:
            told.cost = _plus(told.cost, _times(each, side))
    return found


def later(**how: float) -> datetime:
    """Return a moment after NOW."""
    return NOW + timedelta(**how)


def keep_all(database: Database) -> None:
    """Keep everything that there is, however new it is."""
    at_once = timedelta(0)
    for _ in range(3):  # it is marked, kept, and what has changed meanwhile is kept again
        keep(database, datetime.now(UTC) + timedelta(days=1), settle=at_once, patience=at_once)
