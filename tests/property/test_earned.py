"""Random histories of every kind of order hold, earn, pay and slip what an independent definition says."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import delete

from models.history import History, v_pnl, v_position_days, v_positions, v_tca
from models.record.balance_tables import (
    position_changes,
    position_days,
    position_lots,
    position_progress,
    position_states,
)
from models.record.database import Database, upgrade
from models.record.tables import attempts, external_fills, fills, orders
from tests.property.earned import Day, DefinedTrade, Earned, Whose, earned, slipped
from tests.property.made_histories import BEGIN, MadeHistories

#: `CORRO_HISTORIES=10000` makes the run as long as that.
HISTORIES = int(os.environ.get("CORRO_HISTORIES", "100"))
FIRST = int(os.environ.get("CORRO_HISTORIES_SEED", "1"))
ON_POSTGRES = bool(os.environ.get("CORRO_HISTORIES_ON_POSTGRES"))
TOGETHER = 50
#: A cent of a cent of a cent.
NEAR = Fraction(1, 10**6)


@pytest.fixture(scope="module")
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    on_sqlite = f"sqlite:///{tmp_path_factory.mktemp('earned') / 'corro.db'}"
    database = Database(request.getfixturevalue("postgres").fresh() if ON_POSTGRES else on_sqlite)
    upgrade(database)
    yield database
    database.close()


@pytest.fixture
def fresh(kept: Database) -> Database:
    """The same database with nothing in it."""
    with kept.write() as connection:
        for table in (position_days, position_lots, position_states, fills, external_fills, attempts, orders,
                      position_changes):  # fmt: skip
            connection.execute(delete(table))
        connection.execute(position_progress.update().values(kept_id=0, marked_id=0, marked_at=None, turn=0))
    return kept


def near(found: Any, right: Fraction | None, within: Fraction = NEAR) -> bool:
    if found is None or right is None:
        return found is right
    return abs(Fraction(found) - right) < within


def newest_prices(executions: list[DefinedTrade]) -> dict[str, Fraction]:
    """Of our executions: nothing else tells a price here."""
    ours = [one for one in executions if one.whose.source == "ours" and one.shares]
    ours.sort(key=lambda one: (one.at, one.number))
    return {one.whose.symbol: one.price for one in ours if one.price is not None}


def open_worth(row: Any, cost: Fraction | None, prices: dict[str, Fraction]) -> Fraction | None:
    """Return what the open lots of a row would earn at the newest price."""
    price = prices.get(row["symbol"])
    return None if cost is None or price is None else Fraction(row["quantity"] * row["multiplier"]) * price - cost


def whose(row: Any) -> Whose:
    return Whose(*(row[name] for name in Whose._fields))


def holds_what_is_defined(rows: Any, right: Earned, method: str, prices: dict[str, Fraction] | None = None) -> None:
    found = {whose(row): row for row in rows if row["source"] != "baseline"}
    assert {key: row["quantity"] for key, row in found.items()} == {key: held[0] for key, held in right.held.items()}
    for key, (quantity, fifo, average) in right.held.items():
        row, cost = found[key], fifo if method == "fifo" else average
        assert near(row["cost"], cost), (method, key, row["cost"], cost)
        mean = None if cost is None else cost / quantity / Fraction(row["multiplier"])
        assert near(row["avg_price"], mean), (method, key, row)
        if prices is not None:
            assert near(row["unrealized"], open_worth(row, cost, prices)), (method, key, row, prices)


def earns_what_is_defined(rows: Any, days: dict[Any, Day], method: str, by: tuple[str, ...]) -> None:
    found = {tuple(row[name] for name in by): row for row in rows}
    for key, day in days.items():
        row = found.pop(key, None)
        realized = day.realized if method == "fifo" else day.average
        assert row is not None, (method, key, day)
        assert near(row["realized"], realized), (method, key, row, realized)
        nothing = day.fees_missing and not row["fees"] and not day.fees  # what is known was paid in another currency
        assert nothing or near(row["fees"], day.fees), (method, key, row, day)
        assert row["fees_missing"] == day.fees_missing, (method, key, row, day)
    assert not [row for row in found.values() if row["realized"] or row["fees"] or row["fees_missing"]]


def together(days: dict[tuple[Whose, date], Day], key: Any) -> dict[Any, Day]:
    found: dict[Any, Day] = defaultdict(Day)
    for (line, day), told in days.items():
        found[key(line, day)] += told
    return found


def test_the_definition_itself() -> None:
    """Internal Revenue Service, Publication 550: of 50 at 10, 200 at 11, 100 at 9 the first 130 cost 1,380."""
    line = Whose("ours", "b", None, "s", "AAPL", "USD")
    trades = [(50, 10), (200, 11), (100, 9), (-130, 12)]
    right = earned(
        DefinedTrade(line, n, BEGIN + timedelta(days=n), (BEGIN + timedelta(days=n)).date(), Fraction(shares),
                  Fraction(price), Fraction(1), Fraction(1), "USD")
        for n, (shares, price) in enumerate(trades)
    )  # fmt: skip
    last = right.days[line, (BEGIN + timedelta(days=3)).date()]
    assert (last.realized, last.fees) == (130 * 12 - 1380, 1)
    assert right.held[line][:2] == (220, 120 * 11 + 100 * 9)


def agrees(made: MadeHistories) -> None:
    history, right, prices = History(made.database), earned(made.executions), newest_prices(made.executions)
    for method in ("fifo", "average"):
        holds_what_is_defined(held := history.positions(method=method), right, method, prices)
        rows = history.pnl(["day", *Whose._fields], method=method)
        key = ("source", "broker", "account", "strategy", "symbol", "currency", "day")
        earns_what_is_defined(rows, {(*line, day): told for (line, day), told in right.days.items()}, method, key)
        months = together(right.days, lambda line, day: (line.strategy, line.currency))
        sums = history.pnl("strategy", method=method)
        earns_what_is_defined(sums, months, method, ("strategy", "currency"))
        for row in sums:
            parts = [one["unrealized"] for one in held if whose(one)[3::2] == (row["strategy"], row["currency"])]
            known = parts and None not in parts
            assert near(row["unrealized"], Fraction(sum(parts)) if known else None), (method, row, parts)
    since, until = date(2026, 3, 7), date(2026, 3, 9)
    some = {key: told for key, told in right.days.items() if since <= key[1] < until}
    found = history.pnl(["broker", "account"], since=since, until=until, method="fifo")
    earns_what_is_defined(
        found, together(some, lambda line, day: (line.broker, line.account, line.currency)), "fifo",
        ("broker", "account", "currency"),
    )  # fmt: skip
    holds_what_is_defined(history.rows(v_positions), right, "fifo", prices)
    views = [row for row in history.rows(v_pnl) if row["unrealized"] is None]
    held_today = {(*line, day): told for (line, day), told in right.days.items()}
    earns_what_is_defined(views, held_today, "fifo", key)
    ends = {(whose(row), row["day"]): row["quantity"] for row in history.rows(v_position_days)}
    assert ends == right.ends


def at_any_moment(made: MadeHistories, moment: datetime) -> None:
    right = earned(one for one in made.executions if one.at <= moment)
    for method in ("fifo", "average"):
        holds_what_is_defined(History(made.database).positions(moment, method=method), right, method)


def slips_as_defined(made: MadeHistories) -> None:
    found = {row["execution_id"]: row for row in History(made.database).rows(v_tca)}
    for one in made.executions:
        if not one.shares or one.whose.source == "external" or one.number in made.legs:
            assert f"e{one.number}" not in found, "nobody decided at the price of a package's leg"
            continue
        row = found[f"e{one.number}"]
        for against, price in (
            ("decision", made.decided),
            ("arrival", made.arrived),
            ("vwap", dict[int, Fraction | None]()),
        ):
            money, points = slipped(one, price.get(one.number))
            assert near(row[f"slippage_{against}"], money), (against, row, one, money)
            assert near(row[f"slippage_{against}_bps"], points, Fraction(1, 10**4)), (against, row, one, points)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(1, HISTORIES // TOGETHER)))
def test_histories_earn_hold_and_slip_what_is_defined(fresh: Database, seed: int) -> None:
    made = MadeHistories(fresh, seed)
    made.live(TOGETHER)
    agrees(made)
    at_any_moment(made, BEGIN + timedelta(minutes=made.dice.randrange(9000)))
    slips_as_defined(made)
