"""What accounts were paid or given: recorded once, and what of it explains a position that moved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from models.errors import AccessLost, BrokerError, InvalidRequest
from models.history import History, v_cash
from models.record.cash import book
from models.record.database import Database
from models.record.tables import position_baselines, position_events, position_ledgers
from models.reports import CashEventReport
from models.settings import HistorySettings, Settings
from models.vocabulary import CashKind
from tests.unit.position_desk import BROKER, PositionDesk
from tests.unit.words import Put, Run
from worker.brokers.alpaca.activities import event_of
from worker.brokers.ibkr import flex
from worker.positions.cash import OVERLAP, CashReader
from worker.runtime.clock import utcnow

D = Decimal


def event(event_id: str = "e1", kind: CashKind = CashKind.SPLIT, quantity: object = 10, **more: Any) -> CashEventReport:
    facts = {"symbol": "KO", "at": utcnow(), "quantity": None if quantity is None else D(str(quantity))} | more
    return CashEventReport(event_id=event_id, kind=kind, **facts)


@pytest.fixture
def desk(database: Database, settings: Settings) -> PositionDesk:
    return PositionDesk(database, settings.timing)


def tell(desk: PositionDesk, *events: CashEventReport) -> int:
    return desk.database.transact(lambda connection: book(connection, BROKER, events))


def reasons(desk: PositionDesk) -> list[tuple[str, str | None, str | None]]:
    p = position_events.c
    return [tuple(row) for row in desk._rows(select(p.kind, p.event_id, p.reason).order_by(p.id))]


# -- WHAT EXPLAINS A POSITION ---
def test_a_split_lifts_the_lock_with_its_reason(desk: PositionDesk) -> None:
    desk.read(KO=10)
    desk.read(3, KO=20)
    assert desk.locks() == {"KO": (10, 20)}
    tell(desk, event(detail="SPLIT 2 for 1"))
    desk.read()
    assert (desk.locks(), desk.baselines()) == ({}, {"KO": 20})
    day = f"{utcnow():%Y-%m-%d}"
    words = f"split of {day}: SPLIT 2 for 1"
    assert reasons(desk) == [("locked", None, None), ("moved", "e1", words), ("explained", None, words)]


def test_what_was_told_before_the_position_moved_locks_nothing_and_is_used_once(desk: PositionDesk) -> None:
    desk.read(KO=10)
    tell(desk, event())
    desk.read(2)
    assert desk.baselines() == {"KO": 10}, "the position has not moved yet"
    desk.read(3, KO=20)
    assert (desk.locks(), desk.baselines()) == ({}, {"KO": 20})
    desk.read(3, KO=30)
    assert desk.locks() == {"KO": (20, 30)}, "the same event explains no second move"


@pytest.mark.parametrize(
    "told",
    [
        event(quantity=7),
        event(symbol="F"),
        event(kind=CashKind.DIVIDEND),
        event(at=utcnow() - timedelta(days=20)),
        event(quantity=None),
    ],
    ids=["another size", "another symbol", "shares that were paid for", "long ago", "no shares"],
)
def test_what_does_not_fit_explains_nothing(desk: PositionDesk, told: CashEventReport) -> None:
    desk.read(KO=10)
    with desk.database.write() as connection:
        connection.execute(update(position_ledgers).values(opened_at=utcnow() - timedelta(days=60)))
    tell(desk, told)
    desk.read(3, KO=20)
    assert desk.locks() == {"KO": (10, 20)}


#: As Alpaca's documentation of fees in coins shows one.
CFEE = {
    "id": "20220812000000000::53be51ba-46f9-43de-b81f-576f241dc680", "activity_type": "CFEE", "net_amount": "0",
    "description": "Coin Pair Transaction Fee (Non USD)", "symbol": "ETHUSD", "qty": "-0.000195", "price": "1884.5",
    "status": "executed",
}  # fmt: skip


def test_a_fee_in_coins_is_a_line_of_its_own_that_moves_the_holding(desk: PositionDesk) -> None:
    told = event_of(CFEE | {"date": f"{utcnow():%Y-%m-%d}", "created_at": utcnow().isoformat()})
    assert (told.kind, told.symbol, told.quantity, told.price) == (CashKind.FEE, "ETH/USD", D("-0.000195"), D("1884.5"))
    desk.paper.held["ETH/USD"] = D(2)  # type: ignore[assignment]
    desk.read()
    assert (tell(desk, told), tell(desk, told)) == (1, 0), "booked once"
    desk.paper.held["ETH/USD"] = D("1.999805")  # type: ignore[assignment]
    desk.read(3)
    kept = desk._rows(select(position_baselines.c.quantity))
    assert (desk.locks(), [quantity for (quantity,) in kept]) == ({}, [D("1.999805")])
    assert [(kind, about) for kind, about, _ in reasons(desk)] == [("moved", CFEE["id"])]
    rows = History(desk.database).rows(v_cash)
    assert [(row["kind"], row["symbol"], row["quantity"]) for row in rows] == [("fee", "ETH/USD", D("-0.000195"))]


def test_several_parts_of_one_day_explain_together(desk: PositionDesk) -> None:
    desk.read(KO=10)
    tell(desk, event("out", quantity=-10), event("in", quantity=4, kind=CashKind.CORPORATE_ACTION))
    desk.read(3, KO=4)
    assert (desk.locks(), desk.baselines()) == ({}, {"KO": 4})


def test_a_position_at_a_moment_is_that_before_the_split(desk: PositionDesk) -> None:
    desk.read(KO=10)
    before = utcnow()
    tell(desk, event())
    desk.read(KO=20)
    held = {at: History(desk.database).positions(at)[0]["quantity"] for at in (None, before)}
    assert held == {None: 20, before: 10}


# -- READING ---
class Payer:
    """As much of a broker as a reading of cash events asks."""

    name = BROKER

    def __init__(self) -> None:
        self.events: list[CashEventReport] = []
        self.fails_after: int | None = None
        self.error: Exception = BrokerError("HTTP 503")
        self.since: list[datetime] = []

    def get_cash_events(self, since: datetime) -> Iterator[CashEventReport]:
        self.since.append(since)
        for number, one in enumerate(self.events):
            if number == self.fails_after:
                raise self.error
            if one.at >= since:
                yield one


def reader(database: Database, payer: Any) -> CashReader:
    return CashReader(database, payer, HistorySettings())


def paid(database: Database) -> list[str]:
    return [row["event_id"] for row in History(database).rows(v_cash, newest_first=False)]


def test_a_reading_that_breaks_off_goes_on_where_the_record_ends_and_books_nothing_twice(database: Database) -> None:
    payer, start = Payer(), utcnow() - timedelta(days=60)
    payer.events = [event(f"e{n:03d}", CashKind.INTEREST, None, at=start + timedelta(hours=n)) for n in range(250)]
    payer.fails_after = 230
    reader(database, payer).look()
    assert len(paid(database)) == 200, "whole parts of a hundred are recorded"
    payer.fails_after = None
    assert reader(database, payer).read() == 50
    assert paid(database) == [one.event_id for one in payer.events]
    assert payer.since[1] == payer.events[199].at - OVERLAP
    assert reader(database, payer).read() == 0


def test_a_long_time_without_an_event_makes_no_reading_longer(database: Database) -> None:
    payer, old = Payer(), utcnow() - timedelta(days=400)
    payer.events = [event(at=old)]
    database.transact(lambda connection: book(connection, BROKER, payer.events))
    found = reader(database, payer)
    found.read()
    assert payer.since == [old - OVERLAP]
    payer.fails_after = 0
    with pytest.raises(BrokerError):
        found.read()
    payer.fails_after = None
    for _ in range(2):
        begun = utcnow()
        found.read()
    assert begun - OVERLAP - timedelta(minutes=1) <= payer.since[-1] <= begun - OVERLAP


def test_a_broker_that_refuses_us_is_heeded_and_one_that_tells_nothing_is_asked_once(database: Database) -> None:
    payer = Payer()
    payer.events, payer.fails_after, payer.error = [event()], 0, AccessLost("401", broker=BROKER)
    with pytest.raises(AccessLost):
        reader(database, payer).look()

    class MutePayer(Payer):
        def get_cash_events(self, since: datetime) -> Any:
            self.since.append(since)

    silent = MutePayer()
    mute = reader(database, silent)
    mute.look()
    mute._read_at -= 1e9
    mute.look()
    assert len(silent.since) == 1


def test_an_event_names_our_order_by_the_id_of_its_broker(database: Database, put: Put) -> None:
    put("o-1", attempt={"broker": BROKER, "broker_order_id": "b-7"})
    told = [event("fee", CashKind.REGULATORY_FEE, None, amount=D("-0.02"), currency="USD", broker_order_id="b-7")]
    assert database.transact(lambda connection: book(connection, BROKER, told)) == 1
    (row,) = History(database).rows(v_cash, kind="regulatory_fee")
    assert (row["client_order_id"], row["amount"], row["currency"]) == ("o-1", D("-0.02"), "USD")


# -- BY FILE ---
STATEMENT = """<?xml version="1.0" encoding="UTF-8"?>
<FlexQueryResponse queryName="cash" type="AF"><FlexStatements count="1">
<FlexStatement accountId="U1" fromDate="20261001" toDate="20261031" period="LastMonth">
<CashTransactions>
<CashTransaction accountId="U1" currency="USD" symbol="KO" description="KO CASH DIVIDEND 0.485 USD PER SHARE"
 dateTime="20261001;202000" amount="4.85" type="Dividends" transactionID="101" levelOfDetail="DETAIL"/>
<CashTransaction accountId="U1" currency="USD" symbol="KO" description="KO CASH DIVIDEND 0.485 USD PER SHARE"
 dateTime="20261001;202000" amount="4.85" type="Dividends" transactionID="" levelOfDetail="SUMMARY"/>
<CashTransaction accountId="U1" currency="USD" symbol="KO" description="KO CASH DIVIDEND - US TAX"
 dateTime="2026-10-01" amount="-0.73" type="Withholding Tax" transactionID="102"/>
<CashTransaction accountId="U1" currency="EUR" description="EUR CREDIT INT" reportDate="20261005" amount="1.10"
 type="Broker Interest Received" transactionID="103"/>
<CashTransaction accountId="U1" currency="USD" description="no time" amount="1" type="Other Fees" transactionID="104"/>
</CashTransactions>
<CorporateActions><CorporateAction accountId="U1" currency="USD" assetCategory="STK" symbol="BRK B" type="FS"
 actionDescription="BRK B SPLIT 50 FOR 1" dateTime="20261012;202500" quantity="490" amount="0" transactionID="201"/>
</CorporateActions>
</FlexStatement></FlexStatements></FlexQueryResponse>"""


@pytest.fixture
def statement(tmp_path: Path) -> Path:
    path = tmp_path / "flex.xml"
    path.write_text(STATEMENT)
    return path


def test_a_statement_is_read_in_detail_and_each_row_once(statement: Path) -> None:
    events, odd = flex.read_flex(statement)
    told = [(e.event_id, e.kind, e.amount, e.currency, e.symbol, e.quantity) for e in events]
    assert told == [
        ("cash:102", CashKind.TAX, D("-0.73"), "USD", "KO", None),
        ("cash:101", CashKind.DIVIDEND, D("4.85"), "USD", "KO", None),
        ("cash:103", CashKind.INTEREST, D("1.1"), "EUR", None, None),
        ("action:201", CashKind.SPLIT, None, "USD", "BRK.B", D(490)),
    ]
    assert events[1].at == datetime(2026, 10, 2, 0, 20, tzinfo=UTC), "times are New York's"
    assert [words.partition(":")[0] for words in odd] == ["CashTransaction 104"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><FlexQueryResponse>&b;</FlexQueryResponse>', "DOCTYPE"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><FlexQueryResponse/>', "DOCTYPE"),
        ("<FlexQueryResponse><FlexStatements>", "no XML"),
        ("<html/>", "no FlexQueryResponse"),
        ("", "no XML"),
    ],
)
def test_what_is_no_statement_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.xml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=words.replace("DOCTYPE", "document type")):
        flex.read_flex(path)


def test_a_statement_that_is_too_large_is_not_opened(statement: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "LARGEST", 100)
    with pytest.raises(InvalidRequest, match="more than"):
        flex.read_flex(statement)


def test_the_command_records_a_statement_once_and_says_what_it_could_not_read(
    corro: Run, database: Database, statement: Path, tmp_path: Path
) -> None:
    code, told, said = corro("import", "flex", str(statement), "--json")
    found = json.loads(told)
    assert (code, found["broker"], found["events"], found["new"]) == (1, "ibkr", 4, 4)
    assert "104" in said
    assert json.loads(corro("import", "flex", str(statement), "--json")[1])["new"] == 0
    code, told, _ = corro("export", "cash", "--broker", "ibkr", "--out", str(tmp_path / "cash.csv"), "--json")
    assert (code, json.loads(told)["rows"]) == (0, 4)
    for words in (("flex", str(tmp_path / "none.xml")), ("flex", str(statement), "--broker", "alpacka")):
        assert corro("import", *words)[0] == 2
