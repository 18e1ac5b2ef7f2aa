"""Profit in one currency: by prices that somebody told in time, each named with its time and source; else null."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, update

from models.errors import InvalidRequest
from models.history import History, pnl_columns
from models.record.archive_tables import archived_fills
from models.record.database import Database, upgrade
from models.record.tables import bars, fills, reference_prices
from tests.unit.trades import MadeTrade, TradeLedger, keep_all, later
from tests.unit.words import NOW, Run

D = Decimal
MON, TUE, WED = (date(2026, 1, 5) + timedelta(days=n) for n in range(3))
_CAD: dict[str, Any] = {"symbol": "SHOP@TSE", "currency": "CAD", "fee_currency": "CAD"}
IN_CANADA = [
    MadeTrade(10, "10", **_CAD, fee="1"), MadeTrade(-5, "12", later(hours=1), **_CAD),
    MadeTrade(-5, "14", later(days=1), **_CAD, fee="2"),
]  # fmt: skip


@pytest.fixture
def ledger(database: Database) -> TradeLedger:
    """Shares in Toronto earn 10 CAD on Monday and 20 on Tuesday, shares in New York 5 USD on Monday."""
    made = TradeLedger(database)
    made.trade(*IN_CANADA, MadeTrade(1, "10"), MadeTrade(-1, "15", later(minutes=5)))
    return made


def bar(
    database: Database, symbol: str, start: datetime, close: str, timeframe: str = "1Min", complete: bool | None = True
) -> None:
    """Store a bar as if a broker had told it."""
    prices = dict.fromkeys(("open", "high", "low"), D(close))
    with database.write() as connection:
        connection.execute(
            insert(bars).values(
                broker="ibkr",
                symbol=symbol,
                timeframe=timeframe,
                start=start,
                close=D(close),
                volume=D(0),
                complete=complete,
                **prices,
            )
        )


def asked(ledger: TradeLedger, by: Any = "day", into: str = "USD", **how: Any) -> list[tuple[Any, ...]]:
    names = [by] if isinstance(by, str) else by
    names = ["traded_in" if name == "currency" else name for name in names]
    columns = (*names, "currency", "realized", "fees", "rate", "rate_at", "rate_source", "rates_missing")
    return [tuple(row[name] for name in columns) for row in History(ledger.database).pnl(by, in_=into, **how)]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("method", ["fifo", "average"])
def test_each_day_is_converted_by_the_newest_rate_told_by_its_end(ledger: TradeLedger, kept: bool, method: str) -> None:
    bar(ledger.database, "CAD/USD", later(hours=2), "0.70")
    bar(ledger.database, "CAD/USD", later(days=1, hours=1), "0.75")
    bar(ledger.database, "CAD/USD", later(days=2), "0.99")
    if kept:
        keep_all(ledger.database)
    monday, tuesday = later(hours=2, minutes=1), later(days=1, hours=1, minutes=1)
    source = "CAD/USD bar 1Min ibkr"
    assert asked(ledger, method=method) == [
        (MON, "USD", D(12), D("0.7"), D("0.7"), monday, source, 0),
        (TUE, "USD", D(15), D("1.5"), D("0.75"), tuesday, source, 0),
    ]
    assert asked(ledger, "month", method=method) == [("2026-01", "USD", D(27), D("2.2"), None, monday, source, 0)], (
        "of several rates none is told as the one, and the oldest says how old they are"
    )
    assert asked(ledger, "currency", method=method) == [
        ("CAD", "USD", D(22), D("2.2"), None, monday, source, 0), ("USD", "USD", D(5), D(0), None, None, None, 0),
    ]  # fmt: skip


def test_an_amount_without_a_rate_is_not_known_and_is_counted(ledger: TradeLedger) -> None:
    bar(ledger.database, "CAD/USD", later(hours=2), "0.70")
    bar(ledger.database, "CAD/EUR", later(hours=2), "0.60")
    assert asked(ledger, ["day"], "EUR") == [
        (MON, "EUR", None, D("0.6"), D("0.6"), later(hours=2, minutes=1), "CAD/EUR bar 1Min ibkr", 1),
        (TUE, "EUR", D(12), D("1.2"), D("0.6"), later(hours=2, minutes=1), "CAD/EUR bar 1Min ibkr", 0),
    ], "of USD in EUR nobody has told, and no rate goes by a third currency"
    assert asked(ledger, "symbol", "JPY") == [
        ("AAPL", "JPY", None, D(0), None, None, None, 1), ("SHOP@TSE", "JPY", None, None, None, None, None, 2),
    ], "nothing is nothing in any currency"  # fmt: skip


def test_a_rate_of_after_the_day_or_of_more_than_a_week_before_is_none(ledger: TradeLedger) -> None:
    bar(ledger.database, "CAD/USD", datetime(2025, 12, 30, 4, 58, tzinfo=UTC), "0.5")  # Monday ends a week later
    bar(ledger.database, "CAD/USD", datetime(2026, 1, 6, 4, 59, 30, tzinfo=UTC), "0.6")  # over when Tuesday has begun
    assert [(row[0], row[2], row[-1]) for row in asked(ledger)] == [(MON, None, 1), (TUE, D(12), 0)]
    bar(ledger.database, "CAD/USD", datetime(2025, 12, 30, 5, 0, tzinfo=UTC), "0.7")
    assert [(row[0], row[2], row[-1]) for row in asked(ledger)] == [(MON, D(12), 0), (TUE, D(12), 0)]


def test_a_bar_of_a_day_counts_when_it_is_over_and_none_of_a_week_does(ledger: TradeLedger) -> None:
    midnight = datetime(2026, 1, 5, 5, tzinfo=UTC)
    bar(ledger.database, "CAD/USD", midnight, "0.7", "1Day")
    bar(ledger.database, "CAD/USD", midnight - timedelta(days=7), "0.1", "1Week")
    over = midnight + timedelta(days=1)
    assert [(row[2], row[5]) for row in asked(ledger)] == [(D(12), over), (D(14), over)]


@pytest.mark.parametrize("timeframe", ["1Day", "1Hour"])
@pytest.mark.parametrize("complete", [False, None], ids=["forming", "nobody knows"])
def test_a_bar_that_was_told_while_it_formed_is_no_rate_of_its_day(
    ledger: TradeLedger, timeframe: str, complete: bool | None
) -> None:
    midnight = datetime(2026, 1, 5, 5, tzinfo=UTC)
    bar(ledger.database, "CAD/USD", midnight, "0.9", timeframe, complete)
    assert [(row[2], row[-1]) for row in asked(ledger)] == [(None, 1), (None, 1)]
    bar(ledger.database, "CAD/USD", midnight - timedelta(days=1), "0.7", timeframe)
    found = asked(ledger)
    before = midnight if timeframe == "1Day" else midnight - timedelta(hours=23)
    assert [(row[2], row[5]) for row in found] == [(D(12), before), (D(14), before)], "the last that was over"


@pytest.mark.parametrize("on_postgres", [False, True], ids=["sqlite", "postgresql"])
def test_who_may_tell_a_rate(database: Database, on_postgres: bool, request: pytest.FixtureRequest) -> None:
    """Executions in the pair, either way round: ours, archived, of others; and what limits judged by."""
    if not on_postgres:
        told_by(TradeLedger(database))
        return
    other = Database(request.getfixturevalue("postgres").fresh())
    upgrade(other)
    told_by(TradeLedger(other))
    other.close()


def told_by(ledger: TradeLedger) -> None:
    """Let one after the other tell a newer rate."""
    ledger.trade(*IN_CANADA)
    told = [
        MadeTrade(1, "1.25", later(hours=3), "USD/CAD", broker="ibkr"),
        MadeTrade(1, "0.81", later(hours=4), "CAD/USD", external=True),
    ]
    ledger.trade(told[0])
    shop = {"strategy": "dip", "symbol": "SHOP@TSE"}

    def found() -> tuple[Any, ...]:
        return asked(ledger, **shop)[0][4:7]

    assert found() == (D("0.8"), later(hours=3), "USD/CAD fill ibkr")
    ledger.trade(told[1])
    assert found() == (D("0.81"), later(hours=4), "CAD/USD fill of others alpaca")
    with ledger.database.write() as connection:
        archived = {"id": 999, "broker": "ibkr", "execution_id": "a", "symbol": "CAD/USD", "side": "buy"}
        connection.execute(
            insert(archived_fills).values(**archived, quantity=1, price=D("0.82"), filled_at=later(hours=5))
        )
        judged = {"symbol": "CAD/USD", "currency": "USD", "source": "quote alpaca"}
        connection.execute(insert(reference_prices).values(**judged, price=D("0.83"), at=later(hours=6)))
    assert found() == (D("0.83"), later(hours=6), "CAD/USD quote alpaca")
    with ledger.database.write() as connection:
        connection.execute(update(reference_prices).values(currency="CAD"))
    assert found() == (D("0.82"), later(hours=5), "CAD/USD fill ibkr")


@pytest.mark.parametrize("wrong", [{"inferred": True}, {"voided_at": NOW}, {"price": None}, {"currency": "CHF"}])
def test_an_execution_that_nobody_told_or_that_was_taken_back_tells_no_rate(
    ledger: TradeLedger, wrong: dict[str, Any]
) -> None:
    ledger.trade(MadeTrade(1, "0.8", later(hours=3), "CAD/USD"))
    with ledger.database.write() as connection:
        connection.execute(update(fills).where(fills.c.symbol == "CAD/USD").values(**wrong))
    assert [row[2] for row in asked(ledger, symbol="SHOP@TSE")] == [None, None]


def test_the_rows_themselves_are_converted_too_and_what_is_open_by_todays_rate(database: Database) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    ledger = TradeLedger(database)
    ledger.trade(MadeTrade(10, "2", now - timedelta(hours=1), "BP@LSE", currency="GBP", fee_currency="GBP", fee="1"))
    ledger.trade(MadeTrade(10, "3", now - timedelta(minutes=30), "BP@LSE", broker="ibkr", currency="GBP", fee=None))
    unknown = History(database).pnl("source", in_="USD")
    assert (unknown[0]["unrealized"], unknown[0]["rates_missing"]) == (None, 1)
    bar(database, "GBP/USD", now - timedelta(minutes=10), "1.5")
    (row,) = History(database).pnl("source", in_="usd")
    assert (row["unrealized"], row["fees"], row["fees_missing"], row["currency"]) == (15, D("1.5"), 1, "USD")
    rows = [row for row in History(database).pnl(in_="USD") if row["broker"] == "alpaca" and row["unrealized"]]
    assert [(row["traded_in"], row["unrealized"], row["rate"]) for row in rows] == [("GBP", 15, D("1.5"))]
    assert set(rows[0]) == {column.name for column in pnl_columns(None, "USD").c}


def test_a_fee_that_is_taken_in_a_coin_is_worth_what_the_coin_was_worth(database: Database) -> None:
    ledger = TradeLedger(database)
    ledger.trade(MadeTrade("0.5", "41000", symbol="BTC/USD", fee="0.001", fee_currency="BTC"))
    assert [str(value) for value in asked(ledger, until="2026-01-06")[0][3:5]] == ["41", "41000"]


def test_the_command_tells_the_rates(ledger: TradeLedger, corro: Run) -> None:
    bar(ledger.database, "CAD/USD", later(hours=2), "0.70")
    _, told, _ = corro("pnl", "--by", "day,currency", "--in", "usd", "--json")
    rows = json.loads(told)
    assert [(row["traded_in"], row["currency"], row["realized"], row["rate"]) for row in rows] == [
        ("CAD", "USD", "7", "0.7"), ("USD", "USD", "5", None), ("CAD", "USD", "14", "0.7"),
    ]  # fmt: skip
    assert {row["rate_source"] for row in rows} == {"CAD/USD bar 1Min ibkr", None}
    code, _, said = corro("pnl", "--in", "$")
    assert (code, "in: must be a currency" in said) == (2, True)
    with pytest.raises(InvalidRequest):
        History(ledger.database).pnl("day", in_="")
