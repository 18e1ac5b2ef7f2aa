"""What a question about profit reads of a long history is added up where it is kept, and handed over as sums."""

from __future__ import annotations

from datetime import timedelta

import pytest

from models.history import History
from models.record.database import Database
from tests.traced import traced
from tests.unit.trades import MadeTrade, TradeLedger, keep_all, later

METHODS = pytest.mark.parametrize("method", ["fifo", "average"])
GROUPS = ["day", "month", "strategy", ["symbol", "broker"], ["broker", "account"], "source"]


@pytest.fixture
def ledger(database: Database) -> TradeLedger:
    return TradeLedger(database)


def trade_on(ledger: TradeLedger, days: range) -> None:
    """Buy two and sell one each day, and let it be kept."""
    for day in days:
        ledger.trade(MadeTrade(2, f"{10 + day % 7}", later(days=day)), MadeTrade(-1, "12", later(days=day, hours=1)))
    keep_all(ledger.database)


def handed_over(ledger: TradeLedger, method: str) -> int:
    """Return how many rows the statements of a question about profit by strategy have."""
    with traced(ledger.database) as statements:
        History(ledger.database).pnl("strategy", method=method)
    with ledger.database.read() as connection:
        return sum(len(connection.exec_driver_sql(one).all()) for one in statements if one.startswith("SELECT"))


@METHODS
def test_a_longer_history_hands_over_no_more_rows(ledger: TradeLedger, method: str) -> None:
    trade_on(ledger, range(10))
    short = handed_over(ledger, method)
    trade_on(ledger, range(10, 60))
    assert handed_over(ledger, method) == short


@METHODS
@pytest.mark.parametrize("fresh", [False, True], ids=["all kept", "one strategy has traded since"])
def test_what_is_added_up_where_it_is_kept_is_what_its_rows_come_to(
    ledger: TradeLedger, method: str, fresh: bool
) -> None:
    for number, strategy in enumerate(("a", "b", None)):
        ledger.trade(*(MadeTrade(3 - number * day, f"{10 + day}", later(days=day), strategy=strategy, fee="0.1")
                       for day in range(4)))  # fmt: skip
    ledger.trade(MadeTrade(-5, "9", later(days=1), broker="ibkr", fee=None), MadeTrade(5, None, later(days=2), "KO"))
    keep_all(ledger.database)
    if fresh:
        ledger.trade(MadeTrade(-1, "13", later(days=2, hours=1), strategy="b"))
    history, since = History(ledger.database), later(days=1)
    for equal in ({}, {"strategy": "b"}, {"broker": ["ibkr"], "source": "ours"}):
        rows = history.pnl(since=since, method=method, **equal)
        for by, added in zip(GROUPS, history.pnl_by(GROUPS, since=since, method=method, **equal), strict=True):
            assert added == history.pnl(by, since=since, method=method, **equal)
            for name in ("realized", "fees"):
                known = [row[name] for row in rows if row[name] is not None]
                sums = [row[name] for row in added if row[name] is not None]
                assert sum(sums) == sum(known) or None in [row["realized"] for row in rows], (by, equal, name)
            assert sum(row["fees_missing"] for row in added) == sum(row["fees_missing"] for row in rows)


def test_groups_without_days_are_added_up_from_one_sum(ledger: TradeLedger) -> None:
    trade_on(ledger, range(3))
    asked = []
    for groups in (["strategy"], ["strategy", "symbol", ["broker", "account"]], ["day", "strategy", "symbol"]):
        with traced(ledger.database) as statements:
            History(ledger.database).pnl_by(groups, method="fifo")
        asked.append(len([one for one in statements if one.startswith("SELECT")]))
    assert asked == [asked[0], asked[0], asked[0] + 1]


def test_a_look_leaves_a_connection_as_it_was(ledger: TradeLedger) -> None:
    def kept() -> int:
        with ledger.database.read() as connection:
            return int(connection.exec_driver_sql("PRAGMA cache_size").scalar_one())

    before = kept()
    trade_on(ledger, range(2))
    History(ledger.database).pnl("day", since=later(days=-1), until=later(days=1) + timedelta(days=9))
    assert kept() == before < 0


def test_what_was_held_at_a_moment_is_asked_of_all_keys_at_once(ledger: TradeLedger) -> None:
    """Lots a day, a month and two years old, of which the day itself has closed a part."""
    asked = []
    for strategies in (range(1), range(1, 7)):
        for number in strategies:
            for day in (-700, 0, 30):
                ledger.trade(MadeTrade(4, f"{10 + number}", later(days=day), "BTC/USD", strategy=f"s{number}"))
            ledger.trade(MadeTrade(-5, "20", later(days=31), "BTC/USD", strategy=f"s{number}"))
        keep_all(ledger.database)
        with traced(ledger.database) as statements:
            rows = History(ledger.database).positions(later(days=31, hours=1), method="fifo")
        assert [(row["quantity"], row["cost"]) for row in rows] == [
            (7, 7 * (10 + number)) for number in range(strategies.stop)
        ]
        asked.append(len(statements))
    assert asked[0] == asked[1]
