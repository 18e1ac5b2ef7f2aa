"""What a broker says that the record cannot take: it must not cost the answers that came with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from models.errors import OrderRejected
from models.instruments import read_instrument
from models.lookups import InstrumentReport, report_of
from models.messages import OrderRequest
from models.record.cash import book
from models.record.database import Database, upgrade
from models.record.fills import INFERRED
from models.record.history_tables import cash_events
from models.record.instrument_tables import instruments
from models.record.instruments import keep_instruments
from models.record.intake import Intake
from models.record.tables import attempts, external_fills, external_orders, fills, orders, position_snapshots
from models.reports import (
    AccountReport,
    BrokerStatus,
    CashEventReport,
    CommissionReport,
    FillReport,
    OrderReport,
    PositionReport,
)
from models.settings import BrokerSettings, Settings
from models.vocabulary import AssetClass, CashKind, Side
from tests.open_desk import open_desk
from tests.property.ledger import BrokerLedger, Seat
from worker.orders.command import Claimed
from worker.orders.selection import named
from worker.runtime.clock import utcnow

D = Decimal


class Bench:
    """One broker's code over a database, and three orders that are on their way to it."""

    def __init__(self, database: Database, broker: str = "ibkr") -> None:
        settings = Settings.model_construct(brokers={broker: BrokerSettings(adapter="model")})
        seat = Seat(
            BrokerLedger(broker, "keeps", SimpleNamespace(now=utcnow)), lambda _name: None, lambda _ticket: None
        )
        seat.connect()
        self.database = database
        self.desk = open_desk(settings, database, seat)
        wanted = [OrderRequest(symbol="KO", side="buy", quantity=5, route=[broker]) for _ in range(3)]
        Intake(settings, database).record(wanted)
        self.ids = [request.client_order_id for request in wanted]
        by_id = {claimed.id: claimed for claimed in self.desk.place.claim(named(self.ids))}
        self.claimed: list[Claimed] = [by_id[i] for i in self.ids]

    def answer(self, answers: Iterable[tuple[Claimed, Any]]) -> None:
        self.desk.way.record(self.desk.place, list(answers))

    def orders(self) -> dict[str, Any]:
        with self.database.read() as connection:
            found = {row["client_order_id"]: row for row in connection.execute(select(orders)).mappings()}
        return {str(self.ids.index(i)): found[i] for i in self.ids}

    def outcomes(self) -> list[tuple[str, str]]:
        with self.database.read() as connection:
            tries = {row["client_order_id"]: row for row in connection.execute(select(attempts)).mappings()}
        return [(row["status"], tries[row["client_order_id"]]["outcome"]) for row in self.orders().values()]

    def executions(self) -> list[str]:
        with self.database.read() as connection:
            return sorted(connection.execute(select(fills.c.execution_id)).scalars())


@pytest.fixture
def desk(database_url: str | None, request: pytest.FixtureRequest) -> Iterator[Bench]:
    home = request.getfixturevalue("tmp_path")
    database = Database(request.getfixturevalue("postgres").fresh() if database_url else f"sqlite:///{home / 'c.db'}")
    upgrade(database)
    yield Bench(database)
    database.close()


def filled(claimed: Claimed, number: str, *executions: str) -> OrderReport:
    """The order filled at once, with these executions, or only as a total."""
    quantity = D(5)
    return OrderReport(
        broker_order_id=number, status=BrokerStatus.FILLED, filled_quantity=quantity, avg_fill_price=D(100),
        broker_client_order_id=claimed.broker_client_order_id, symbol=claimed.order.symbol,
        side=claimed.order.side, quantity=claimed.order.quantity,
        fills=tuple(
            FillReport(execution_id=one, quantity=quantity / len(executions), price=D(100), filled_at=utcnow())
            for one in executions
        ),
    )  # fmt: skip


def test_an_execution_id_that_comes_twice_costs_its_own_answer_only(desk: Bench) -> None:
    """Three answers in one commit; the second's execution is the first's by its id, so it cannot be booked."""
    names = ("a", "a", "b")
    desk.answer((c, filled(c, str(n), names[n])) for n, c in enumerate(desk.claimed))
    assert desk.outcomes() == [("filled", "accepted"), ("submitted", "sending"), ("filled", "accepted")]
    assert desk.executions() == ["a", "b"]


def test_a_report_that_cannot_be_applied_keeps_no_other_from_it(desk: Bench) -> None:
    """A leader reads them all at once after a connect; its broker would stay closed for new orders."""
    names = ("a", "a", "b")
    desk.desk.readings.apply([filled(c, str(n), names[n]) for n, c in enumerate(desk.claimed)])
    assert desk.outcomes() == [("filled", "accepted"), ("submitted", "sending"), ("filled", "accepted")]


def test_order_numbers_that_begin_anew_are_no_conflict(desk: Bench) -> None:
    """Where only a total tells of the fill, it is named by our id of the order, which is never used again."""
    desk.answer((c, filled(c, "7")) for c in desk.claimed)
    assert desk.outcomes() == [("filled", "accepted")] * 3
    assert desk.executions() == sorted(f"{INFERRED}{i}" for i in desk.ids)


@pytest.mark.parametrize("words", ["no\0money", "no \ud800 money", "n" * 5000])
def test_whatever_a_broker_says_its_no_is_recorded(desk: Bench, words: str) -> None:
    no = OrderRejected(words, broker="ibkr", code=words)
    desk.answer((c, no) for c in desk.claimed)
    assert desk.outcomes() == [("rejected", "refused")] * 3
    assert all("n" in row["reason"] for row in desk.orders().values())


# -- ROWS OF SOMEBODY ELSE ---
#: What no column of a name takes as it is.
STRANGE = ("no\0name", "no \ud800 name", "n" * 300)
ORDER = OrderReport(
    broker_order_id="7", status=BrokerStatus.ACCEPTED, broker_client_order_id="theirs", symbol="KO", side=Side.BUY,
    raw_status="working", quantity=D(1),
)  # fmt: skip
FILL = FillReport(
    execution_id="e", quantity=D(1), price=D(1), filled_at=utcnow(), currency="USD", symbol="KO", side=Side.BUY,
    broker_client_order_id="theirs", broker_order_id="8", commission=D(1), commission_currency="USD",
)  # fmt: skip
COST = CommissionReport(execution_id="e", commission=D(2), currency="USD")
HELD = PositionReport(symbol="KO", quantity=D(1), account_id="U1", currency="USD")
MONEY = AccountReport(account_id="U1", cash=D(1))
PAID = CashEventReport(
    event_id="c", kind=CashKind.FEE, at=utcnow(), currency="USD", symbol="KO", account_id="U1", broker_order_id="7",
    detail="fee",
)  # fmt: skip
SHARE = report_of(
    read_instrument("KO", AssetClass.US_EQUITY), "USD", listing="NYSE", broker_symbol="KO", broker_id="1", name="Coca",
    detail={"conId": "1"},
)  # fmt: skip


def spoilt(one: Any, *but: str) -> list[Any]:
    """Return a report once for each of its texts and each strange word."""
    texts = [field.name for field in fields_of(one) if type(getattr(one, field.name)) is str and field.name not in but]
    return [replace(one, **{name: word}) for name in texts for word in STRANGE]


def count(desk: Bench, table: Any) -> int:
    with desk.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def tell_of_orders(desk: Bench) -> None:
    theirs = [replace(one, broker_order_id=f"o{n}") for n, one in enumerate(spoilt(ORDER, "broker_order_id"))]
    theirs += [replace(ORDER, broker_order_id=word) for word in STRANGE]
    done = [replace(one, execution_id=f"e{n}") for n, one in enumerate(spoilt(FILL, "execution_id"))]
    done += [replace(FILL, execution_id=word) for word in STRANGE]
    for _ in range(2):  # read again, each is the same
        desk.desk.readings.external.note([*theirs, *done, *spoilt(COST)])
        assert count(desk, external_fills) == len(done)
        assert count(desk, external_orders) == len(theirs) + 1  # and the one that only executions tell of


def tell_of_holdings_and_money(desk: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    held, money = spoilt(HELD, "account_id"), spoilt(MONEY)
    monkeypatch.setattr(desk.desk.broker, "get_positions", lambda: held)
    monkeypatch.setattr(desk.desk.broker, "get_accounts", lambda: money)
    desk.desk.positions.read()
    assert count(desk, position_snapshots) == len(STRANGE) + 1


def tell_of_payments_and_instruments(desk: Bench) -> None:
    paid = [replace(one, event_id=f"c{n}") for n, one in enumerate(spoilt(PAID, "event_id"))]
    paid += spoilt(replace(PAID, detail=""))[: len(STRANGE)]
    shares = spoilt(SHARE, "symbol", "asset_class", "currency", "right")

    def keep(connection: Connection, told: Sequence[InstrumentReport]) -> None:
        keep_instruments(connection, "ibkr", told, utcnow())

    assert desk.database.transact(lambda connection: book(connection, "ibkr", paid)) == len(paid)
    assert desk.database.transact(lambda connection: book(connection, "ibkr", paid)) == 0
    for one in shares:
        desk.database.transact(lambda connection: keep(connection, [one]))  # noqa: B023
    assert (count(desk, cash_events), count(desk, instruments)) == (len(paid), 1)


def test_whatever_is_told_besides_our_orders_is_recorded_and_closes_nothing(
    desk: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_of_orders(desk)
    tell_of_holdings_and_money(desk, monkeypatch)
    tell_of_payments_and_instruments(desk)
