"""`corro equity` and `corro cash`: what accounts were worth, and what they were paid or charged, as every list."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import insert

from models.history import v_cash, v_equity
from models.record.cash import book
from models.record.database import Database
from models.record.history_tables import account_history
from models.reports import CashEventReport
from models.vocabulary import CashKind
from tests.unit.words import Run

READINGS = [
    ("2026-01-05", "ibkr", "U1", "USD", "1000"), ("2026-01-05", "alpaca", "A1", "USD", "500"),
    ("2026-01-06", "ibkr", "U1", "USD", "900"), ("2026-01-07", "ibkr", "U1", "USD", "950"),
    ("2026-01-06", "ibkr", "U2", "CAD", "70"),
]  # fmt: skip
EVENTS = [
    ("alpaca", "d1", CashKind.DIVIDEND, "12.5", "KO", "2026-01-05T15:00"),
    ("alpaca", "t1", CashKind.TAX, "-1.88", "KO", "2026-01-05T15:01"),
    ("ibkr", "i1", CashKind.INTEREST, "3", None, "2026-01-07T05:00"),
]


@pytest.fixture(autouse=True)
def told(database: Database) -> None:
    with database.write() as connection:
        for day, broker, account, currency, worth in READINGS:
            at = datetime.fromisoformat(f"{day}T21:00+00:00")
            row = {"broker": broker, "account_id": account, "currency": currency, "equity": Decimal(worth)}
            connection.execute(insert(account_history).values(**row, cash=Decimal(10), day=at.date(), at=at))
        for broker, id_, kind, amount, symbol, when in EVENTS:
            at = datetime.fromisoformat(when).replace(tzinfo=UTC)
            money = {"amount": Decimal(amount), "currency": "CAD" if broker == "ibkr" else "USD"}
            book(connection, broker, [CashEventReport(event_id=id_, kind=kind, at=at, symbol=symbol, **money)])


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["07 U1 950 -50", "06 U1 900 -100", "06 U2 70 0", "05 A1 500 0", "05 U1 1000 0"]),
        (("--since", "2026-01-06", "--currency", "usd"), ["07 U1 950 0", "06 U1 900 0"]),
        (("--until", "2026-01-06", "--broker", "alpaca"), ["05 A1 500 0"]),
        (("--account", "U2"), ["06 U2 70 0"]),
        (("--total", "--currency", "USD"), ["07 None 1450 -50", "06 None 1400 -100", "05 None 1500 0"]),
        (("--limit", "1"), ["07 U1 950 -50"]),
    ],
    ids=str,
)
def test_equity_is_listed_by_day_newest_first_with_the_fall_from_the_peak(
    corro: Run, options: tuple[str, ...], found: list[str]
) -> None:
    rows = json.loads(corro("equity", *options, "--json")[1])
    assert [f"{r['day'][-2:]} {r['account']} {r['equity']} {r['drawdown']}" for r in rows] == found


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["i1", "t1", "d1"]), (("--kind", "dividend,tax"), ["t1", "d1"]), (("--symbol", "ko"), ["t1", "d1"]),
        (("--broker", "ibkr"), ["i1"]), (("--currency", "cad"), ["i1"]), (("--since", "2026-01-06"), ["i1"]),
        (("--until", "2026-01-05T15:01"), ["d1"]), (("--limit", "2"), ["i1", "t1"]),
    ],
    ids=str,
)  # fmt: skip
def test_cash_events_are_listed_newest_first_with_their_filters(
    corro: Run, options: tuple[str, ...], found: list[str]
) -> None:
    assert [row["event_id"] for row in json.loads(corro("cash", *options, "--json")[1])] == found


@pytest.mark.parametrize("what", [v_equity, v_cash], ids=["equity", "cash"])
def test_both_have_the_columns_of_their_view_also_in_a_file_and_with_nothing_to_show(
    corro: Run, tmp_path: Path, what: object
) -> None:
    name, columns = str(what).removeprefix("v_"), list(what.c.keys())
    assert all(list(row) == columns for row in json.loads(corro(name, "--json")[1]))
    for options, count in (((), 5 if name == "equity" else 3), (("--since", "2027-01-01"), 0)):
        file = tmp_path / f"{count}.csv"
        assert corro(name, *options, "--out", str(file))[0] == 0
        head, *rows = csv.reader(file.read_text().splitlines())
        assert (head, len(rows)) == (columns, count)


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (("cash", "--kind", "dividends"), "--kind"), (("equity", "--broker", "ibrk"), "ibrk"),
        (("cash", "--broker", "ibrk"), "ibrk"), (("equity", "--since", "soon"), "--since"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_wrong_usage(corro: Run, command: tuple[str, ...], word: str) -> None:
    status, out, err = corro(*command)
    assert (status, out, word in err) == (2, "", True)
