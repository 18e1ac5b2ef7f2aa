"""The history of accounts and positions: what a reading adds to it, and the curve of equity with its falls."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from sqlalchemy import insert, select

from models import history
from models.history import History, v_equity
from models.record.database import Database
from models.record.history_tables import account_history, position_history
from models.reports import AccountReport
from models.settings import Settings
from tests.unit.position_desk import PositionDesk
from tests.unit.words import Run
from worker.positions.past import differs

D = Decimal
NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
READING = {"equity": D(100), "cash": None, "taken_at": NOW}


@pytest.mark.parametrize(
    ("changed", "is_new"),
    [
        ({}, False),
        ({"equity": D("100.0000000000001")}, False),
        ({"equity": D("100.01")}, True),
        ({"equity": None}, True),
        ({"cash": D(0)}, True),
        ({"taken_at": NOW + timedelta(hours=14)}, False),
        ({"taken_at": NOW + timedelta(hours=14, minutes=31)}, True),
    ],
)
def test_a_reading_is_news_where_an_amount_differs_or_a_day_in_new_york_begins(
    changed: dict[str, Any], is_new: bool
) -> None:
    assert differs(READING, READING | changed, ("equity", "cash")) is is_new
    assert differs(None, READING, ("equity", "cash"))


@pytest.fixture
def desk(database: Database, settings: Settings) -> PositionDesk:
    return PositionDesk(database, settings.timing)


def sizes(desk: PositionDesk) -> list[tuple[str, int]]:
    p = position_history.c
    return [(symbol, int(quantity)) for symbol, quantity in desk._rows(select(p.symbol, p.quantity).order_by(p.id))]


def equities(desk: PositionDesk) -> list[int]:
    return [int(e) for (e,) in desk._rows(select(account_history.c.equity).order_by(account_history.c.id))]


def test_a_position_is_added_where_its_size_or_mean_price_differs_and_with_nothing_where_it_is_gone(
    desk: PositionDesk,
) -> None:
    desk.read(3, KO=5, F=1)
    assert sizes(desk) == [("KO", 5), ("F", 1)]
    desk.paper.prices["KO"] = "60"
    desk.read(2)
    desk.read(2, F=0)
    assert sizes(desk)[2:] == [("KO", 5), ("F", 0)]


def test_each_day_begins_with_a_row_and_an_account_that_moved_has_another(desk: PositionDesk) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        for equity in (100, 100, 90):
            desk.paper.account = AccountReport(account_id="A1", currency="USD", equity=D(equity))
            desk.read(KO=5)
            clock.shift(60)
        assert (sizes(desk), equities(desk)) == ([("KO", 5)], [100, 90])
        clock.shift(timedelta(days=1))
        desk.read(2)
        assert (sizes(desk), equities(desk)) == ([("KO", 5)] * 2, [100, 90, 90])


# -- THE CURVE ---
def note(database: Database, *readings: tuple[int, str, str], broker: str = "ibkr", currency: str = "USD") -> None:
    """Write readings of one account: day of January, hour, equity."""
    with database.write() as connection:
        for day, hour, equity in readings:
            at = datetime(2026, 1, day, int(hour), tzinfo=UTC)
            connection.execute(
                insert(account_history).values(
                    broker=broker, account_id="A1", currency=currency, equity=D(equity), cash=D(1), day=at.date(), at=at
                )
            )


def test_a_day_is_its_last_reading_and_a_drawdown_counts_from_the_highest_before(database: Database) -> None:
    note(database, (5, "15", "100"), (5, "20", "110"), (6, "20", "88"), (7, "20", "99"), (8, "20", "121"))
    names = ("equity", "peak", "drawdown", "drawdown_percent")
    with database.read() as connection:
        rows = list(connection.execute(select(*(v_equity.c[name] for name in names)).order_by(v_equity.c.day)))
    assert [tuple(row) for row in rows] == [
        (110, 110, 0, 0), (88, 110, -22, -20), (99, 110, -11, -10), (121, 121, 0, 0),
    ]  # fmt: skip
    found = History(database).equity(since="2026-01-06")
    assert [(row["equity"], row["peak"], row["drawdown"]) for row in found] == [(88, 88, 0), (99, 99, 0), (121, 121, 0)]


def test_accounts_together_count_with_their_last_reading_and_never_over_currencies(database: Database) -> None:
    note(database, (5, "20", "100"), (7, "20", "80"))
    note(database, (6, "20", "50"), (7, "20", "55"), broker="alpaca")
    note(database, (6, "20", "7"), broker="tda", currency="EUR")
    rows = History(database).equity(total=True)
    told = [(row["currency"], row["day"].day, row["equity"], row["drawdown"]) for row in rows]
    assert told == [("EUR", 6, 7, 0), ("USD", 5, 100, 0), ("USD", 6, 150, 0), ("USD", 7, 135, -15)]
    later = History(database).equity(total=True, since=date(2026, 1, 7), currency="USD")
    assert [(row["day"].day, row["equity"], row["peak"]) for row in later] == [(7, 135, 135)]


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_the_report_has_the_curve_and_its_worst_drawdown_and_may_be_made_again(
    corro: Run, database: Database, tmp_path: Path
) -> None:
    note(database, (5, "20", "110"), (6, "20", "88"), (7, "20", "99"))
    text = History(database).report("2026-01-01")
    assert "Worst drawdown -22.00 (-20.00 %) on 2026-01-06, from 110.00." in text
    assert text.count("<svg") == 1
    assert callable(history.report)
    assert callable(history.equity)
    code, told, _ = corro("export", "equity", "--since", "2026-01-06", "--out", str(tmp_path / "e.csv"), "--json")
    assert (code, json.loads(told)["rows"]) == (0, 2)
