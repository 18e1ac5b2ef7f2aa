"""Any history of executions, corrected, busted and told late, earns what the definition says, share by share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from models.history import History, v_position_days
from models.record.balance_tables import (
    position_changes,
    position_days,
    position_lots,
    position_progress,
    position_states,
)
from models.record.database import Database, upgrade
from models.record.executions import held_by, held_now
from models.record.tables import external_fills, fills, orders
from tests.unit.trades import Defined, MadeTrade, TradeLedger, define, keep_all, later

#: `CORRO_PROPERTY_EXAMPLES` makes the run longer.
EXAMPLES = int(os.environ.get("CORRO_PROPERTY_EXAMPLES", "25"))


@pytest.fixture(scope="module")
def both(database_url: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database(database_url or f"sqlite:///{tmp_path_factory.mktemp('trades') / 'corro.db'}")
    upgrade(database)
    yield database
    database.close()


def emptied(database: Database) -> TradeLedger:
    """Take every row out of the database."""
    with database.write() as connection:
        for table in (position_days, position_lots, position_states, fills, external_fills, orders, position_changes):
            connection.execute(delete(table))
        connection.execute(position_progress.update().values(kept_id=0, marked_id=0, marked_at=None, turn=0))
    return TradeLedger(database)


TRADES = st.builds(
    MadeTrade,
    shares=st.integers(-6, 6).filter(bool),
    price=st.one_of(st.decimals(1, 50, places=2).map(str), st.decimals(1, 50, places=2).map(str), st.none()),
    at=st.integers(0, 60 * 24 * 3).map(lambda minutes: later(minutes=minutes)),
    symbol=st.sampled_from(["AAPL", "KO"]),
    strategy=st.sampled_from(["a", "b", None]),
    broker=st.just("alpaca"),
    fee=st.one_of(st.none(), st.decimals(0, 3, places=2).map(str)),
    external=st.booleans(),
)
STEPS = st.one_of(
    st.lists(TRADES, min_size=1, max_size=6),
    st.just("keep"),
    st.just("keep"),
    st.tuples(st.integers(0, 30), st.integers(0, 6), st.decimals(1, 50, places=2).map(str)),
)


def _near(found: Decimal | None, right: Fraction | None) -> bool:
    if found is None or right is None:
        return found is right
    return abs(Fraction(found) - right) < Fraction(1, 10**6)


def open_ones(right: dict[Any, Defined]) -> dict[Any, int]:
    return {key: told.quantity for key, told in right.items() if told.quantity}


def agrees(ledger: TradeLedger) -> None:
    """Hold every figure of this history against the definition."""
    history, right = History(ledger.database), define(ledger.trades)
    for method in ("fifo", "average"):
        costs = {key: told.cost if method == "fifo" else told.cost_average for key, told in right.items()}
        found = {(r["broker"], r["strategy"], r["symbol"]): r for r in history.positions(method=method)}
        assert {key: r["quantity"] for key, r in found.items()} == {
            k: t.quantity for k, t in right.items() if t.quantity
        }
        assert [key for key, row in found.items() if not _near(row["cost"], costs[key])] == []
        rows = {(r["broker"], r["strategy"], r["symbol"], r["day"]): r for r in history.pnl(method=method)}
        for key, told in right.items():
            for day in told.ends:
                row = rows.pop((*key, day))
                realized = told.realized if method == "fifo" else told.realized_average
                assert _near(row["realized"], realized[day]), (method, key, day, row, realized[day])
                assert row["fees_missing"] == told.fees_missing[day]
                assert _near(row["fees"], told.fees.get(day)), (key, day, row)
        assert not [row for row in rows.values() if row["realized"] or row["fees"]]
    ends = history.rows(v_position_days, newest_first=False)
    told_ends = {(*key, day): end for key, told in right.items() for day, end in told.ends.items()}
    assert {(r["broker"], r["strategy"], r["symbol"], r["day"]): r["quantity"] for r in ends} == told_ends


def is_held(ledger: TradeLedger) -> None:
    """Hold the sizes that limits are asked of, which take kept balances, against the sums of all executions."""
    who, what = ["a", "b"], ["AAPL", "KO"]
    with ledger.database.read() as connection:
        summed = held_by(connection, lambda table: table.c.strategy.in_(who) & table.c.symbol.in_(what))
        assert held_now(connection, who, what) == summed
        mine = {key: units for key, units in summed.items() if key == ("a", "KO")}
        assert held_now(connection, ["a"], ["KO"]) == mine


def play(ledger: TradeLedger, steps: list[Any]) -> None:
    for step in steps:
        if step == "keep":
            keep_all(ledger.database)
        elif isinstance(step, list):
            ledger.trade(*step)
        elif ledger.trades:
            number, shares, price = step
            number %= len(ledger.trades)
            sign = 1 if float(ledger.trades[number].shares) >= 0 else -1
            ledger.change(number, shares=sign * shares, price=price)
        is_held(ledger)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=1, max_size=7), when=st.integers(0, 60 * 24 * 3))
def test_any_history_earns_what_the_definition_says(both: Database, steps: list[Any], when: int) -> None:
    ledger = emptied(both)
    play(ledger, steps)
    agrees(ledger)
    moment = later(minutes=when)
    right = define([one for one in ledger.trades if one.at <= moment])
    for method in ("fifo", "average"):
        found = {(r["broker"], r["strategy"], r["symbol"]): r for r in History(both).positions(moment, method=method)}
        assert {key: r["quantity"] for key, r in found.items()} == {
            k: t.quantity for k, t in right.items() if t.quantity
        }
        for key, row in found.items():
            assert _near(row["cost"], right[key].cost if method == "fifo" else right[key].cost_average), (method, row)
