"""Positions and profit: hand-computed cases, a textbook's, and random histories against the definition."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import InvalidRequest
from models.history import History, frame_of, pnl_columns
from models.record.database import Database
from models.record.lots import money
from tests.unit.trades import MadeTrade, TradeLedger, define, keep_all, later
from tests.unit.words import Run
from worker.positions.ledger import PositionLedger, unlock

D = Decimal
MON, TUE = date(2026, 1, 5), date(2026, 1, 6)
AT_ONCE: dict[str, Any] = {"settle": timedelta(0), "patience": timedelta(0)}


@pytest.fixture
def ledger(database: Database) -> TradeLedger:
    return TradeLedger(database)


def profit(ledger: TradeLedger, **how: Any) -> dict[Any, Any]:
    rows = History(ledger.database).pnl(**how)
    return {row["day"]: row["realized"] for row in reversed(rows) if row["unrealized"] is None}


def held(ledger: TradeLedger, **how: Any) -> dict[str, tuple[Decimal, Decimal]]:
    method = how.pop("method", "fifo")
    rows = History(ledger.database).positions(method=method, **how)
    return {row["symbol"]: (row["quantity"], row["cost"]) for row in rows}


# -- RIGHT VALUES ---
def test_an_amount_has_no_zeros_at_its_end_and_no_sign_where_it_is_nothing() -> None:
    texts = [str(money(D(text))) for text in ("-0.0000000001", "-0.00", "0E+3", "1E+3", "-1.50")]
    assert texts == ["0", "0", "0", "1000", "-1.5"]
    assert money(None) is money(D("NaN")) is None


#: Internal Revenue Service, Publication 550, "Identification not possible": 100 shares at 10, 200 at 11, 50 of the
#: first given away (here: sold at what they cost), 100 at 9, then 130 sold: their basis is 50 x 10 + 80 x 11 = 1,380.
IRS_550 = [
    MadeTrade(100, "10", later(days=0)), MadeTrade(200, "11", later(days=7)), MadeTrade(-50, "10", later(days=14)),
    MadeTrade(100, "9", later(days=21)), MadeTrade(-130, "12", later(days=28)),
]  # fmt: skip


def test_the_example_of_a_tax_authority(ledger: TradeLedger) -> None:
    ledger.trade(*IRS_550)
    assert sum(profit(ledger, method="fifo").values()) == 130 * 12 - 1380
    assert held(ledger) == {"AAPL": (220, 120 * 11 + 100 * 9)}


@pytest.mark.parametrize(
    ("trades", "fifo", "average", "quantity", "cost"),
    [
        # bought at 10 and 20, one of each sold at 30 / 25
        ([(10, "10"), (10, "20"), (-10, "30")], "200", "150", 10, "200"),
        ([(10, "10"), (10, "20"), (-15, "30"), (-5, "25")], "275", "275", 0, None),
        # a short position earns when the price falls
        ([(-10, "50"), (4, "40")], "40", "40", -6, "-300"),
        ([(-10, "50"), (-10, "60"), (10, "55")], "-50", "0", -10, "-600"),
        # one order through zero: the rest is a new position at its own price
        ([(10, "10"), (-25, "12")], "20", "20", -15, "-180"),
        ([(-5, "100"), (20, "90")], "50", "50", 15, "1350"),
        # fractions of a share
        ([("0.3", "10"), ("0.1", "20"), ("-0.2", "30")], "4", "3.5", "0.2", "3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kept", [False, True])
def test_by_hand(
    ledger: TradeLedger, trades: Any, fifo: str, average: str, quantity: Any, cost: str | None, kept: bool
) -> None:
    for number, (shares, price) in enumerate(trades):
        ledger.trade(MadeTrade(shares, price, later(minutes=number)))
        if kept:
            keep_all(ledger.database)
    assert sum(profit(ledger, method="fifo").values()) == D(fifo)
    assert sum(profit(ledger, method="average").values()) == D(average)
    assert held(ledger) == ({} if cost is None else {"AAPL": (D(quantity), D(cost))})


def test_an_option_is_of_a_hundred_shares(ledger: TradeLedger) -> None:
    ledger.trade(
        MadeTrade(2, "1.50", symbol="AAPL261218C00200000"), MadeTrade(-1, "2", later(hours=1), "AAPL261218C00200000")
    )
    (row,) = History(ledger.database).positions()
    assert (row["multiplier"], row["cost"], row["avg_price"]) == (100, 150, D("1.5"))
    assert profit(ledger) == {MON: 50}


def test_a_day_ends_in_new_york(ledger: TradeLedger) -> None:
    evening = datetime(2026, 1, 6, 3, 0, tzinfo=UTC)  # ten at night, the day before
    ledger.trade(MadeTrade(10, "10"), MadeTrade(-5, "11", evening), MadeTrade(-5, "12", later(days=1)))
    assert profit(ledger) == {MON: 5, TUE: 10}
    assert profit(ledger, since="2026-01-06") == {TUE: 10}
    assert profit(ledger, until=date(2026, 1, 6)) == {MON: 5}
    assert profit(ledger, since=evening) == {MON: 5, TUE: 10}


@pytest.mark.parametrize("at", ["2026-03-08T06:59:59", "2026-03-08T07:00:00", "2026-11-01T05:59:59",
                                "2026-11-01T06:00:00", "2027-03-14T04:30:00", "2026-07-01T03:59:59"])  # fmt: skip
def test_the_views_know_when_clocks_are_changed(ledger: TradeLedger, at: str) -> None:
    for minutes in (-240, -60, 0, 240):
        ledger.trade(MadeTrade(1, "1", datetime.fromisoformat(at + "+00:00") + timedelta(minutes=minutes)))
    assert {row["day"] for row in History(ledger.database).pnl() if row["fees"] is not None} >= set(
        define(ledger.trades)["alpaca", "dip", "AAPL"].ends
    )


def test_fees_are_told_beside_and_what_is_not_known_is_counted(ledger: TradeLedger) -> None:
    ledger.trade(
        MadeTrade(10, "10", fee="1"), MadeTrade(-5, "11", later(hours=1), fee=None), MadeTrade(-5, "11", later(hours=2))
    )
    ledger.trade(MadeTrade(1, "10", symbol="KO", fee=None))
    (first, second) = History(ledger.database).pnl("symbol")
    assert (first["realized"], first["fees"], first["fees_missing"]) == (10, 1, 1)
    assert (second["fees"], second["fees_missing"]) == (None, 1), "not known is null, never nothing"
    keep_all(ledger.database)
    assert [row["fees_missing"] for row in History(ledger.database).pnl("symbol")] == [1, 1]
    ledger.change(1, fee="0.5")  # told long after it was kept
    assert History(ledger.database).pnl("symbol")[0]["fees"] == D("1.5")


def test_a_fee_in_another_currency_is_a_line_of_its_own(ledger: TradeLedger) -> None:
    ledger.trade(MadeTrade(10, "10", fee="0.01", fee_currency="BTC", currency="USD"))
    for _ in range(2):
        rows = History(ledger.database).pnl("month")
        assert {row["currency"]: row["fees"] for row in rows} == {"BTC": D("0.01"), "USD": 0}
        keep_all(ledger.database)


@pytest.mark.parametrize("kept", [False, True])
def test_a_price_that_nobody_told_leaves_only_unknown_what_depends_on_it(ledger: TradeLedger, kept: bool) -> None:
    ledger.trade(MadeTrade(5, "10"), MadeTrade(5, None, later(minutes=1)), MadeTrade(-5, "12", later(minutes=2)))
    ledger.trade(MadeTrade(-5, "12", later(days=1)))
    if kept:
        keep_all(ledger.database)
    rows = {row["day"]: row["realized"] for row in History(ledger.database).pnl(method="fifo")}
    assert rows == {MON: 10, TUE: None}
    ledger.change(1, price="11")
    rows = {row["day"]: row["realized"] for row in History(ledger.database).pnl(method="fifo")}
    assert rows == {MON: 10, TUE: 5}


@pytest.mark.parametrize("kept", [False, True])
def test_a_correction_a_bust_and_a_late_one_count_from_when_they_traded(ledger: TradeLedger, kept: bool) -> None:
    ledger.trade(MadeTrade(10, "10"), MadeTrade(-10, "11", later(days=1)))
    if kept:
        keep_all(ledger.database)
    assert profit(ledger) == {MON: 0, TUE: 10}
    ledger.change(0, price="9")
    assert profit(ledger) == {MON: 0, TUE: 20}
    ledger.trade(MadeTrade(10, "8", later(minutes=-1)))  # traded before, told after
    assert profit(ledger) == {MON: 0, TUE: 30}
    if kept:
        keep_all(ledger.database)
    ledger.change(1, shares=0)
    assert held(ledger) == {"AAPL": (20, 170)}
    assert profit(ledger) == {MON: 0}


def test_strategies_others_and_brokers_have_lots_of_their_own(ledger: TradeLedger) -> None:
    ledger.trade(
        MadeTrade(10, "10", strategy="a"), MadeTrade(-10, "11", strategy="b"), MadeTrade(5, "9", external=True),
        MadeTrade(-5, "12", strategy="a", broker="ibkr"), MadeTrade(1, "10", strategy=None),
    )  # fmt: skip
    rows = History(ledger.database).positions()
    assert [(r["broker"], r["strategy"], r["source"], r["quantity"]) for r in rows] == [
        ("alpaca", "(external)", "external", 5), ("alpaca", None, "ours", 1), ("alpaca", "a", "ours", 10),
        ("alpaca", "b", "ours", -10), ("ibkr", "a", "ours", -5),
    ]  # fmt: skip
    assert [r["quantity"] for r in History(ledger.database).positions(strategy=["a", "b"], broker="alpaca")] == [
        10,
        -10,
    ]
    assert [(r["symbol"], r["realized"]) for r in History(ledger.database).pnl("symbol", source="ours")] == [
        ("AAPL", 0)
    ]


@pytest.mark.parametrize("method", ["fifo", "average"])
def test_a_position_at_a_moment_is_what_was_held_then(ledger: TradeLedger, method: str) -> None:
    ledger.trade(*IRS_550)
    keep_all(ledger.database)
    ledger.trade(MadeTrade(-100, "13", later(days=28, hours=1)))
    assert held(ledger, at=later(hours=-1), method=method) == {}
    assert held(ledger, at=later(days=3), method=method) == {"AAPL": (100, 1000)}
    found = {"fifo": D(50 * 10 + 200 * 11), "average": D(250 * 3200) / 300}[method]
    assert held(ledger, at=later(days=15), method=method) == {"AAPL": (250, round(found, 9))}
    assert held(ledger, at=later(days=28, minutes=30), method=method)["AAPL"][0] == 220
    assert held(ledger, at=later(days=28, hours=2), method=method) == held(ledger, method=method)
    assert held(ledger, at=later(days=28, minutes=30)) == {"AAPL": (220, 2220)}


def test_what_is_asked_has_to_be_possible(ledger: TradeLedger) -> None:
    with pytest.raises(InvalidRequest, match="lifo"):
        History(ledger.database).pnl(method="lifo")
    with pytest.raises(InvalidRequest, match="colour"):
        History(ledger.database).pnl(["colour"], method="fifo")
    with pytest.raises(InvalidRequest, match="in the future"):
        History(ledger.database).positions(datetime.now(UTC) + timedelta(minutes=5))


def test_profit_may_be_added_up_by_every_column_and_each_name_counts_once(ledger: TradeLedger) -> None:
    ledger.trade(*IRS_550)
    for by in ("currency", ["currency", "month"], ["day", "day"], "source"):
        names = [by] if isinstance(by, str) else list(dict.fromkeys(by))
        rows = History(ledger.database).pnl(by, method="fifo")
        columns = list(dict.fromkeys([*names, "currency", "realized", "unrealized", "fees", "fees_missing"]))
        assert list(frame_of(pnl_columns(by), rows).columns) == columns
        assert sum(row["realized"] for row in rows) == 180


# -- THE BROKER'S POSITION ---
def by_symbol(rows: list[dict[str, Any]]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for row in rows:
        found[row["symbol"]] = found.get(row["symbol"], D(0)) + row["quantity"]
    return {symbol: shares for symbol, shares in found.items() if shares}


def test_all_lines_of_a_broker_are_its_position(ledger: TradeLedger) -> None:
    """What was there before, what others did and what a person took over are lines of their own."""
    database = ledger.database
    ledger.trade(MadeTrade(3, "10", later(days=-2)))
    with database.write() as connection:
        PositionLedger.open(connection, "alpaca", {"AAPL": D(10), "KO": D(4)})
    ledger.trade(MadeTrade(-8, "12", later(hours=1)), MadeTrade(2, "11", later(hours=2), strategy="b"))
    ledger.trade(MadeTrade(-1, "11", later(hours=3), external=True))
    for shown in ({"AAPL": D(3), "KO": D(4)}, {"AAPL": D(5), "KO": D(4)}):
        with database.write() as connection:
            opened = PositionLedger.open(connection, "alpaca", {})
            assert opened.expected == shown
            opened.fold()
        assert by_symbol(History(database).positions()) == shown
        keep_all(database)
        assert by_symbol(History(database).positions()) == shown
        if shown["AAPL"] == D(3):
            before = datetime.now(UTC)
            with database.write() as connection:
                PositionLedger.open(connection, "alpaca", {}).lock("AAPL", D(3), D(5), before)
            unlock(database, "alpaca", "AAPL", by="ann", reason="bought at the desk")
            assert by_symbol(History(database).positions(before)) == shown, "a moment before it was taken over"
    held = {row["strategy"]: row["quantity"] for row in History(database).positions(symbol="AAPL")}
    assert held == {"dip": -5, "b": 2, "(external)": -1, "(baseline)": 9}


# -- THE COMMANDS ---
def test_the_command_tells_what_was_earned(ledger: TradeLedger, corro: Run) -> None:
    ledger.trade(*IRS_550)
    _, told, _ = corro("pnl", "--json")
    (row,) = json.loads(told)
    assert (row["strategy"], row["symbol"], row["realized"], row["currency"]) == ("dip", "AAPL", "180", "USD")
    _, told, _ = corro("pnl", "--by", "month", "--method", "average", "--until", "2026-02-28", "--json")
    assert [row["month"] for row in json.loads(told)] == ["2026-01", "2026-02"]
    _, told, _ = corro("pnl", "--by", "month,currency,month", "--json")
    assert [(row["month"], row["currency"]) for row in json.loads(told)][:2] == [("2026-01", "USD"), ("2026-02", "USD")]
    _, told, _ = corro("pnl", "--by", "month")
    assert told.splitlines()[0].split() == ["month", "currency", "realized", "unrealized", "fees", "fees_missing"]
    code, _, said = corro("pnl", "--by", "colour")
    assert (code, "colour" in said) == (2, True)
    _, told, _ = corro("positions", "--at", "2026-01-20", "--json")
    assert [(row["symbol"], row["quantity"], row["cost"]) for row in json.loads(told)] == [("AAPL", "250", "2700")]


@pytest.mark.parametrize("moment", ["0001-01-01", "0001-01-01T00:00", "9999-12-31T23:59:59"])
def test_any_moment_that_can_be_written_bounds_what_is_asked(corro: Run, tmp_path: Path, moment: str) -> None:
    """In the first hours of the year 1 it is no day in New York yet."""
    page = str(tmp_path / "r.html")
    for command in (
        ("pnl", "--since", moment), ("pnl", "--until", moment),
        ("export", "pnl", "--until", moment, "--out", "-"), ("export", "equity", "--since", moment, "--out", "-"),
        ("report", "--since", moment, "--out", page), ("tca", "--since", moment),
    ):  # fmt: skip
        assert corro(*command)[0] == 0, command
    status, _, err = corro("positions", "--at", moment)
    assert (status, "in the future" in err) == ((2, True) if moment > "2026" else (0, False))
