"""Random histories with splits and expiries earn and hold what the independent definition says of them.

To the definition a split makes of each earlier trade one of so many shares at a price so much lower, and an expiry is a
sale, or a purchase, of all that is open at nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from models.clock import utcnow
from models.history import History
from models.record.cash import book
from models.record.database import Database, upgrade
from models.record.keeping import keep
from models.record.tables import attempts, fills, orders, position_ledgers
from models.record.trading_days import begin_of, day_of
from models.reports import CashEventReport
from models.vocabulary import CashKind
from tests.property.earned import DefinedTrade, Earned, Whose, earned
from worker.positions.ledger import PositionLedger
from worker.risk.losses import gains

HISTORIES, DAYS, BROKER = 24, 8, "alpaca"
RATIOS = ("4 FOR 1", "3 FOR 2", "1 FOR 2", "1 FOR 5", "10 FOR 1")
NEAR = Fraction(1, 10**5)


class ToldHistories:
    """Histories of one symbol each at one broker, which are traded, split and expire day by day."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database, self.dice, self.number, self.events = database, random.Random(seed), 0, 0
        self.trades: list[DefinedTrade] = []
        self.begin = begin_of(day_of(utcnow())) - timedelta(days=DAYS)
        self.shown = {
            (f"S{n}" if n % 2 else f"S{n}261218C00100000"): Decimal(self.dice.choice((0, 0, 7, -4)))
            for n in range(HISTORIES)
        }
        with database.write() as connection:
            PositionLedger.open(connection, BROKER, self.shown)
            connection.execute(update(position_ledgers).values(opened_at=self.begin))

    def whose(self, symbol: str, strategy: str) -> Whose:
        return Whose("ours", BROKER, None, strategy, symbol, "USD")

    def held(self, symbol: str, strategy: str) -> Fraction:
        whose = self.whose(symbol, strategy)
        return sum((one.shares for one in self.trades if one.whose == whose), Fraction(0))

    def live(self) -> None:
        for n in range(DAYS):
            day = self.begin + timedelta(days=n)
            for symbol in self.shown:
                if n and not self.dice.randrange(3):
                    self.told(symbol, day)
                for hour in sorted(self.dice.sample(range(10, 20), self.dice.randrange(4))):
                    self.trade(symbol, day + timedelta(hours=hour))
            if self.dice.randrange(2):
                for _ in range(2):
                    keep(self.database, utcnow(), settle=timedelta(0), patience=timedelta(0), most=10_000)

    def trade(self, symbol: str, at: datetime) -> None:
        self.number += 1
        strategy, price = self.dice.choice(("a", "b")), Decimal(self.dice.randrange(100, 90_000)) / 100
        shares = self.dice.choice((-1, 1)) * self.dice.randrange(1, 30)
        name, side = f"o{self.number}", "buy" if shares > 0 else "sell_short"
        common = {"client_order_id": name, "broker": BROKER, "attempt_no": 1}
        with self.database.write() as connection:
            connection.execute(
                insert(orders).values(
                    **common, symbol=symbol, side=side, quantity=abs(shares), filled_quantity=abs(shares),
                    status="filled", body_hash="x", strategy=strategy, available_at=at, created_at=at, updated_at=at,
                )
            )  # fmt: skip
            connection.execute(
                insert(attempts).values(
                    **common, broker_client_order_id=name, outcome="accepted", worker="w", started_at=at, lease_until=at
                )
            )
            connection.execute(
                insert(fills).values(
                    **common, execution_id=name, symbol=symbol, strategy=strategy, quantity=abs(shares), price=price,
                    commission=1, filled_at=at, recorded_at=at, late=False,
                )
            )  # fmt: skip
        self.shown[symbol] += shares
        self.add(symbol, strategy, at, Fraction(shares), Fraction(price), Fraction(1))

    def add(self, symbol: str, strategy: str, at: datetime, shares: Fraction, price: Fraction, fee: Fraction) -> None:
        multiplier = Fraction(100 if len(symbol) > 8 else 1)
        self.trades.append(
            DefinedTrade(
                self.whose(symbol, strategy), len(self.trades), at, day_of(at), shares, price, multiplier, fee, "USD"
            )
        )

    def told(self, symbol: str, at: datetime) -> None:
        if len(symbol) > 8:
            self.expire(symbol, at)
        else:
            self.divide(symbol, at)

    def expire(self, symbol: str, at: datetime) -> None:
        if self.shown[symbol]:
            self.explain(symbol, at, CashKind.EXPIRY, Decimal(0), "OPEXP")
            for strategy in ("a", "b"):
                if held := self.held(symbol, strategy):
                    self.add(symbol, strategy, at, -held, Fraction(0), Fraction(0))

    def divide(self, symbol: str, at: datetime) -> None:
        words, before = self.dice.choice(RATIOS), self.shown[symbol]
        new, old = words.split(" FOR ")
        ratio = Fraction(int(new), int(old))
        after = Decimal(int(Fraction(before) * ratio))
        if after in (before, 0):
            return
        self.explain(symbol, at, CashKind.SPLIT, after, words)
        self.trades = [
            replace(one, shares=one.shares * ratio, price=(one.price or 0) / ratio)
            if one.whose.symbol == symbol
            else one
            for one in self.trades
        ]

    def explain(self, symbol: str, at: datetime, kind: CashKind, after: Decimal, words: str) -> None:
        self.events += 1
        told = CashEventReport(
            event_id=f"e{self.events}", kind=kind, at=at, symbol=symbol, quantity=after - self.shown[symbol],
            detail=words,
        )  # fmt: skip
        with self.database.write() as connection:
            book(connection, BROKER, [told])
            PositionLedger.open(connection, BROKER, {}).explain(symbol, after)
        self.shown[symbol] = after


@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'corro.db'}" if on_sqlite else request.getfixturevalue("postgres").fresh()
    database = Database(url)
    upgrade(database)
    yield database
    database.close()


def near(found: Any, right: Fraction | None) -> bool:
    return found is None if right is None else abs(Fraction(found) - right) < NEAR


def see_that_limits_count_the_same(made: ToldHistories, right: Earned) -> None:
    """See that the gain that limits count since the beginning of each day is that of the average, less fees."""
    for n in range(DAYS):
        start = made.begin + timedelta(days=n)
        with made.database.read() as connection:
            counted = gains(connection, start)
        for symbol in made.shown:
            for strategy in ("a", "b"):
                days = [
                    one
                    for (whose, day), one in right.days.items()
                    if whose[3:5] == (strategy, symbol) and day >= day_of(start)
                ]
                total = sum(((one.average or Fraction(0)) - (one.fees or Fraction(0)) for one in days), Fraction(0))
                found = counted.get((BROKER, strategy, symbol), Decimal(0))
                assert near(found, total), (start, strategy, symbol, found, float(total))


def test_splits_and_expiries_earn_what_is_defined_and_all_lines_are_the_position(both: Database) -> None:
    made = ToldHistories(both, 17)
    made.live()
    right = earned(made.trades)
    see_that_limits_count_the_same(made, right)
    for method in ("fifo", "average"):
        rows = History(both).positions(method=method)
        for symbol, shown in made.shown.items():
            assert sum(row["quantity"] for row in rows if row["symbol"] == symbol) == shown, (symbol, rows)
        lots = {Whose(*(row[name] for name in Whose._fields)): row for row in rows if row["source"] == "ours"}
        assert set(lots) == set(right.held)
        for whose, (quantity, fifo, average) in right.held.items():
            assert near(lots[whose]["quantity"], quantity), (whose, lots[whose], quantity)
            cost = fifo if method == "fifo" else average
            assert near(lots[whose]["cost"], cost), (method, whose, lots[whose], cost)
        earned_by = {
            (row["strategy"], row["symbol"]): row for row in History(both).pnl(["strategy", "symbol"], method=method)
        }
        for strategy in ("a", "b"):
            for symbol in made.shown:
                days = [one for (whose, _), one in right.days.items() if whose[3:5] == (strategy, symbol)]
                gains = [one.realized if method == "fifo" else one.average for one in days]
                total = sum((gain or Fraction(0) for gain in gains), Fraction(0))
                found = earned_by.get((strategy, symbol), {"realized": 0})
                assert near(found["realized"], total), (method, strategy, symbol, found, total)
