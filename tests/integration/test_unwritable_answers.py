"""What a broker says that the record cannot take: it must not cost the answers that came with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from models.errors import OrderRejected
from models.messages import OrderRequest
from models.record.database import Database, upgrade
from models.record.fills import INFERRED
from models.record.intake import Intake
from models.record.tables import attempts, fills, orders
from models.reports import BrokerStatus, FillReport, OrderReport
from models.settings import BrokerSettings, Settings
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
