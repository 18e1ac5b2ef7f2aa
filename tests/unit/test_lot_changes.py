"""Lots follow what a broker told besides trades: expiries and exercises close them, splits change their size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update

from models.history import History, v_pnl
from models.record.cash import book
from models.record.executions import held_now
from models.record.holders import holders
from models.record.keeping import keep
from models.record.tables import external_fills, fills, position_events
from models.record.trading_days import begin_of, day_of
from models.reports import CashEventReport
from models.settings import Settings
from models.vocabulary import CashKind, Side
from tests.unit.position_desk import BROKER, PositionDesk, desk_on
from worker.brokers.alpaca.activities import event_of
from worker.brokers.ibkr import flex
from worker.runtime.clock import utcnow

D = Decimal
CALL = "AAPL261218C00200000"
TODAY = begin_of(day_of(utcnow()))
#: Seconds since a moment that is on another day than today.
YESTERDAY = (utcnow() - TODAY).total_seconds() + 3600


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request: pytest.FixtureRequest, settings: Settings) -> Iterator[PositionDesk]:
    yield from desk_on(request, settings)


def tell(desk: PositionDesk, kind: CashKind, quantity: object, *, symbol: str = "KO", n: int = 1, **more: Any) -> None:
    facts = {"at": TODAY, "quantity": D(str(quantity)), "symbol": symbol} | more
    told = CashEventReport(event_id=f"e{n}", kind=kind, **facts)
    desk.database.transact(lambda connection: book(connection, BROKER, [told]))


def kept(desk: PositionDesk) -> None:
    """Keep everything in balances: once marked, then kept."""
    for _ in range(2):
        keep(desk.database, utcnow(), settle=timedelta(0), patience=timedelta(0))


def lines(desk: PositionDesk, method: str = "fifo") -> dict[str | None, tuple[Decimal, Decimal | None]]:
    """Return shares and cost of each line; the sum of all shares is what the broker shows."""
    rows = History(desk.database).positions(method=method)
    for symbol, shown in desk.paper.held.items():
        assert sum(row["quantity"] for row in rows if row["symbol"] == symbol) == shown, rows
    return {row["strategy"]: (row["quantity"], row["cost"]) for row in rows if row["symbol"] != "F"}


def realized(desk: PositionDesk, method: str = "fifo") -> dict[str | None, Decimal | None]:
    return {row["strategy"]: row["realized"] for row in History(desk.database).pnl("strategy", method=method)}


def moved(desk: PositionDesk) -> list[str]:
    p = position_events.c
    return [reason for (reason,) in desk._rows(select(p.reason).where(p.kind == "moved").order_by(p.id))]


# -- CLOSED ---
@pytest.mark.parametrize("after", [lambda desk: None, kept], ids=["reckoned", "kept"])
def test_an_option_that_expired_is_closed_at_nothing_and_its_loss_is_realized(desk: PositionDesk, after: Any) -> None:
    desk.read()
    desk.fill(CALL, "buy", 2, strategy="dip", price="1.50", age_s=YESTERDAY)
    desk.read(**{CALL: 2})
    kept(desk)
    tell(desk, CashKind.EXPIRY, -2, symbol=CALL, detail="OPEXP Option Expiry")
    desk.read(3, **{CALL: 0})
    after(desk)
    assert (lines(desk), desk.locks()) == ({}, {})
    for method in ("fifo", "average"):
        assert realized(desk, method) == {"dip": D(-300)}, "2 contracts of a hundred at 1.50"
    row = next(row for row in History(desk.database).rows(v_pnl) if row["realized"])
    assert (row["day"], row["fees_missing"]) == (day_of(TODAY), 0), "the expiry costs no fee"
    with desk.database.read() as connection:
        assert (holders(connection, BROKER), held_now(connection, ["dip"], [CALL])) == ({}, {})


def test_a_short_option_that_expired_earns_its_premium(desk: PositionDesk) -> None:
    desk.read()
    desk.fill(CALL, "sell_short", 3, strategy="wheel", price="2", age_s=YESTERDAY)
    desk.read(**{CALL: -3})
    tell(desk, CashKind.EXPIRY, 3, symbol=CALL)
    desk.read(**{CALL: 0})
    assert (lines(desk), realized(desk)) == ({}, {"wheel": D(600)})


def test_what_expired_is_closed_for_each_that_held_it_the_others_and_the_baseline_too(desk: PositionDesk) -> None:
    desk.read(**{CALL: 4})
    desk.fill(CALL, "buy", 5, strategy="a", price="1", age_s=YESTERDAY)
    desk.fill(CALL, "sell", 3, strategy="b", price="2", age_s=YESTERDAY)
    desk.others_fill(CALL, Side.BUY, 1)
    desk.read(**{CALL: 7})
    tell(desk, CashKind.EXPIRY, -7, symbol=CALL)
    with desk.database.write() as connection:  # what has settled
        for table in (fills, external_fills):
            connection.execute(update(table).values(recorded_at=utcnow() - timedelta(minutes=20)))
    desk.read(**{CALL: 0})
    assert lines(desk) == {}
    assert realized(desk) == {"a": D(-500), "b": D(600), "(external)": D(-100)}


def test_an_option_that_was_bought_on_its_last_day_is_closed_after_it_was_opened(desk: PositionDesk) -> None:
    desk.read()
    desk.fill(CALL, "buy", 1, strategy="dip", price="3", age_s=60)
    desk.read(**{CALL: 1})
    tell(desk, CashKind.EXPIRY, -1, symbol=CALL, at=utcnow() - timedelta(hours=8))
    desk.read(**{CALL: 0})
    assert (lines(desk), realized(desk)) == ({}, {"dip": D(-300)})


@pytest.mark.parametrize(
    ("told", "earned"),
    [({"amount": D(0)}, 200), ({"amount": D(-50)}, 150), ({"price": D("0.25")}, 175), ({}, None)],
    ids=["no money", "money", "a price", "neither"],
)
def test_an_assignment_closes_at_what_was_told(desk: PositionDesk, told: Any, earned: Any) -> None:
    desk.read()
    desk.fill(CALL, "sell_short", 2, strategy="wheel", price="2", age_s=YESTERDAY)
    desk.read(**{CALL: -2})
    tell(desk, CashKind.ASSIGNMENT, 1, symbol=CALL, **told)
    desk.read(**{CALL: -1})
    assert lines(desk) == {"wheel": (-1, -200)}
    assert realized(desk) == {"wheel": earned}


def test_whose_part_was_assigned_nobody_guesses(desk: PositionDesk) -> None:
    desk.read()
    for strategy in ("a", "b"):
        desk.fill(CALL, "sell_short", 2, strategy=strategy, price="2", age_s=YESTERDAY)
    desk.read(**{CALL: -4})
    tell(desk, CashKind.ASSIGNMENT, 1, symbol=CALL, amount=D(0))
    desk.read(**{CALL: -3})
    assert lines(desk) == {"a": (-2, -400), "b": (-2, -400), "(baseline)": (1, None)}
    assert moved(desk)[-1].endswith(f"; lots keep their size: whose 1 {CALL} went nobody told")


#: As Alpaca's documentation of option events shows an assignment; both rows have one id there.
ASSIGNED = [
    {"id": "20190801011955195::5f596936", "activity_type": "OPASN", "date": "2023-07-01", "net_amount": "0",
     "description": "Option Assignment", "symbol": "AAPL230721C00150000", "qty": "2", "status": "executed"},
    {"id": "20190801011955195::5f596936", "activity_type": "OPTRD", "date": "2023-07-01", "net_amount": "30000",
     "description": "Option Trade", "symbol": "AAPL", "qty": "-200", "price": "150", "status": "executed"},
]  # fmt: skip


def test_an_assignment_takes_the_option_for_nothing_and_its_shares_at_the_strike(desk: PositionDesk) -> None:
    option, shares = (replace(event_of(row), at=TODAY) for row in ASSIGNED)
    assert event_of(ASSIGNED[0] | {"activity_type": "OPEXC"}).kind is CashKind.EXERCISE
    desk.read()
    desk.fill("AAPL", "buy", 200, strategy="covered", price="140", age_s=YESTERDAY)
    desk.fill(str(option.symbol), "sell_short", 2, strategy="covered", price="4", age_s=YESTERDAY)
    held = {"AAPL": 200, str(option.symbol): -2}
    desk.read(**held)
    assert desk.database.transact(lambda connection: book(connection, BROKER, [option, shares])) == 2
    desk.read(**dict.fromkeys(held, 0))
    assert (lines(desk), desk.locks(), realized(desk)) == ({}, {}, {"covered": D(2 * 400 + 200 * 10)})


def test_ibs_statement_says_that_an_option_went_for_nothing() -> None:
    row = {"transactionType": "Assignment", "dateTime": "20261120;162000", "symbol": "AAPL  261120C00200000",
           "assetCategory": "OPT", "quantity": "2", "tradePrice": "0", "proceeds": "0", "tradeID": "7"}  # fmt: skip
    event = flex._exercise(row)
    assert (event.kind, event.quantity, event.amount, event.price) == (CashKind.ASSIGNMENT, 2, 0, None)
    assert flex._exercise(row | {"tradePrice": "1.5"}).amount is None


# -- SPLIT ---
@pytest.mark.parametrize("after", [lambda desk: None, kept], ids=["reckoned", "kept"])
def test_a_split_changes_shares_and_prices_of_every_lot_and_no_cost(desk: PositionDesk, after: Any) -> None:
    """By hand: 10 at 100 and 10 at 120, 5 sold at 130; 15 become 60: 20 at 25 and 40 at 30."""
    desk.read()
    desk.fill("KO", "buy", 10, strategy="dip", price="100", age_s=YESTERDAY + 30)
    desk.fill("KO", "buy", 10, strategy="dip", price="120", age_s=YESTERDAY + 20)
    desk.fill("KO", "sell", 5, strategy="dip", price="130", age_s=YESTERDAY + 10)
    desk.read(KO=15)
    before = TODAY - timedelta(seconds=1)
    kept(desk)
    tell(desk, CashKind.SPLIT, 45, detail="SPLIT 4 for 1")
    desk.read(KO=60)
    after(desk)
    assert (lines(desk), lines(desk, "average")) == ({"dip": (60, 1700)}, {"dip": (60, 1650)})
    assert (realized(desk), realized(desk, "average")) == ({"dip": D(150)}, {"dip": D(100)})
    assert [(row["quantity"], row["avg_price"]) for row in History(desk.database).positions(before)] == [
        (15, D("113.333333333"))
    ], "before the split there were 15"
    desk.fill("KO", "sell", 30, strategy="dip", price="32", age_s=1)
    desk.read(KO=30)
    after(desk)
    assert (lines(desk), lines(desk, "average")) == ({"dip": (30, 900)}, {"dip": (30, 825)})
    assert realized(desk) == {"dip": D(150) + 20 * 7 + 10 * 2}
    assert realized(desk, "average") == {"dip": D(100) + 30 * (D(32) - D("27.5"))}


def test_a_split_is_of_every_strategy_the_others_and_the_baseline(desk: PositionDesk) -> None:
    desk.read(KO=10)
    desk.fill("KO", "buy", 4, strategy="a", price="100", age_s=YESTERDAY)
    desk.fill("KO", "sell_short", 2, strategy="b", price="110", age_s=YESTERDAY)
    desk.read(KO=12)
    tell(desk, CashKind.SPLIT, 24, detail="stock split")
    desk.read(KO=36)
    assert lines(desk) == {"a": (12, 400), "b": (-6, -220), "(baseline)": (30, None)}
    assert realized(desk) == {"a": 0, "b": 0}
    with desk.database.read() as connection:
        assert holders(connection, BROKER, "KO") == {("a", "KO"): 12, ("b", "KO"): -6}


def test_a_reverse_split_pays_for_the_part_of_a_share(desk: PositionDesk) -> None:
    """5 become 2 and the money for half a share: its lots have 2.5 at twice the price."""
    desk.read()
    desk.fill("KO", "buy", 5, strategy="dip", price="10", age_s=YESTERDAY)
    desk.read(KO=5)
    tell(desk, CashKind.SPLIT, -3, detail="KO(US1912161007) SPLIT 1 FOR 2 (KO, COCA-COLA)")
    desk.read(KO=2)
    assert lines(desk) == {"dip": (D("2.5"), 50), "(baseline)": (D("-0.5"), None)}


def test_trades_since_the_split_are_of_after_it(desk: PositionDesk) -> None:
    desk.read()
    desk.fill("KO", "buy", 10, strategy="dip", price="100", age_s=YESTERDAY)
    desk.read(KO=10)
    desk.fill("KO", "sell", 5, strategy="dip", price="60", age_s=min(60, YESTERDAY - 3601))
    tell(desk, CashKind.SPLIT, 10)
    desk.read(KO=15)
    assert (lines(desk), realized(desk)) == ({"dip": (15, 750)}, {"dip": D(50)})


@pytest.mark.parametrize(
    ("detail", "gained"),
    [("SPLIT 3 for 1", 12), ("a split", 6)],
    ids=["other words than numbers", "a part of a share for one of two"],
)
def test_a_ratio_that_nobody_told_is_not_guessed(desk: PositionDesk, detail: str, gained: int) -> None:
    desk.read()
    for strategy, shares in (("a", 5), ("b", 7)):
        desk.fill("KO", "buy", shares, strategy=strategy, price="100", age_s=YESTERDAY)
    desk.read(KO=12)
    tell(desk, CashKind.SPLIT, gained, detail=detail)
    desk.read(KO=12 + gained)
    assert lines(desk) == {"a": (5, 500), "b": (7, 700), "(baseline)": (gained, None)}
    assert "nobody told the ratio by which 12 became" in moved(desk)[-1]


def test_what_a_merger_makes_of_lots_nobody_guesses(desk: PositionDesk) -> None:
    desk.read()
    desk.fill("KO", "buy", 5, strategy="a", price="100", age_s=YESTERDAY)
    desk.read(KO=5)
    tell(desk, CashKind.CORPORATE_ACTION, -5)
    desk.read(KO=0)
    assert lines(desk) == {"a": (5, 500), "(baseline)": (-5, None)}
    assert moved(desk)[-1].endswith("lots keep their size: nobody told what corporate_action makes of each")
