"""Transactions that meet another one and have to give way are done again: a real deadlock, on PostgreSQL.

The other one holds the event log and then wants the orders, which the transaction under test holds and therefore never
gets the log (or other people's executions and orders). PostgreSQL ends the one whose patience is over first: ours,
because the other one's is long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, func, select

from models.errors import SubmitTimeout
from models.messages import OrderRequest
from models.record.database import Database, upgrade
from models.record.tables import external_fills, external_orders, order_events, orders
from models.reports import BrokerStatus, FillReport, OrderReport
from models.settings import Settings, load_settings
from models.vocabulary import Side
from producers import OrderClient
from tests.kit import PostgresServer, eventually
from tests.open_desk import open_desk
from tests.property.ledger import BrokerLedger, Seat
from worker.orders.resolve import resolve
from worker.orders.selection import named
from worker.positions.external import External

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
#: Milliseconds after which a waiting session looks whether it waits in a circle.
PATIENCE = 500


class MeetingPlace:
    """A client and a worker's execution on one PostgreSQL database, without queue or broker."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        made = Database(url)
        upgrade(made)
        with made.engine.connect() as connection:
            name = connection.exec_driver_sql("select current_database()").scalar()
            connection.exec_driver_sql(f"alter database {name} set deadlock_timeout = {PATIENCE}")
            connection.commit()
        made.close()
        self.settings: Settings = load_settings(home=home, database_url=url)
        self.client = OrderClient(self.settings)
        self.database = self.client.database
        seat = Seat(BrokerLedger("ibkr", "keeps", None), lambda _name: None, lambda _ticket: None)
        seat.connect()
        self.desk = open_desk(self.settings, self.database, seat)

    def close(self) -> None:
        self.desk.close()
        self.client.close()

    def order(self, id_: str = "met") -> OrderRequest:
        terms = {"symbol": "KO", "side": "buy", "quantity": 10, "order_type": "limit", "limit_price": 5}
        return OrderRequest(client_order_id=id_, **terms)

    def meets_another(self, work: Callable[[], Any], late: str = "order_events", early: str = "orders") -> Any:
        """Do some work, which is the one that PostgreSQL ends; returns what it returned.

        Args:
            work: writes the table `early` before it touches the table `late`.
            late: what the other one holds.
            early: what it wants.
        """
        rollbacks: list[Any] = []
        event.listen(self.database.engine, "rollback", rollbacks.append)
        came: list[Any] = []
        thread = threading.Thread(target=lambda: came.append(work()))
        url = self.url.replace("+psycopg", "")
        with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as looker:
            other.execute("set local deadlock_timeout = '1h'")
            other.execute(f"lock table {late} in access exclusive mode")
            thread.start()
            waiting = "select count(*) from pg_locks where not granted"
            eventually(lambda: (looker.execute(waiting).fetchone() or [0])[0])
            other.execute(f"lock table {early} in exclusive mode")  # granted once ours has given way
            other.rollback()
            thread.join(20)
        assert rollbacks, "nothing had to give way"
        assert came, "it was not done again"
        return came[0]

    def kinds(self, id_: str = "met") -> list[str]:
        with self.database.read() as connection:
            query = select(order_events.c.kind).where(order_events.c.client_order_id == id_)
            return list(connection.execute(query.order_by(order_events.c.id)).scalars())

    def row(self, id_: str = "met") -> dict[str, Any]:
        with self.database.read() as connection:
            return dict(connection.execute(select(orders).where(orders.c.client_order_id == id_)).mappings().one())


@pytest.fixture
def place(postgres: PostgresServer, tmp_path: Path) -> Iterator[MeetingPlace]:
    made = MeetingPlace(postgres.fresh(), tmp_path)
    yield made
    made.close()


def test_a_submit_that_met_another_transaction_is_recorded_once(place: MeetingPlace) -> None:
    order = place.meets_another(lambda: place.client.submit(place.order()))
    assert order.status == "queued"
    assert place.kinds() == ["queued"]


def test_many_that_met_another_transaction_are_recorded_once_each(place: MeetingPlace) -> None:
    ids = ["m-1", "m-2", "m-3"]
    place.meets_another(lambda: place.client.submit_many([place.order(id_) for id_ in ids]))
    assert [place.kinds(id_) for id_ in ids] == [["queued"]] * 3


def test_an_order_from_a_message_that_met_another_transaction_is_recorded_once(place: MeetingPlace) -> None:
    body = place.order().to_wire()
    assert place.meets_another(lambda: place.desk.place.intake.take([body], "ibkr")) == {"met": "ibkr"}
    assert place.kinds() == ["queued"]


def test_a_cancel_that_met_another_transaction_cancels_once(place: MeetingPlace) -> None:
    place.client.submit(place.order())
    assert place.meets_another(lambda: place.client.cancel("met")).status == "canceled"
    assert place.kinds() == ["queued", "cancel_requested", "canceled"]


def test_a_replace_that_met_another_transaction_changes_once(place: MeetingPlace) -> None:
    place.client.submit(place.order())
    place.meets_another(lambda: place.client.replace("met", quantity=7))
    assert place.row()["quantity"] == 7
    assert place.kinds().count("replaced") == 1


def test_a_claim_that_met_another_transaction_takes_the_order_once(place: MeetingPlace) -> None:
    place.client.submit(place.order())
    (claimed,) = place.meets_another(lambda: place.desk.place.claim(named(["met"])))
    assert claimed.attempt_no == 1
    assert (place.row()["status"], place.row()["attempt_no"]) == ("submitted", 1)
    assert place.kinds() == ["queued", "claimed"]


def test_an_answer_that_met_another_transaction_is_recorded_once(place: MeetingPlace) -> None:
    place.client.submit(place.order())
    (claimed,) = place.desk.place.claim(named(["met"]))
    answer = OrderReport(broker_order_id="7", status=BrokerStatus.PARTIALLY_FILLED, filled_quantity=Decimal(4))
    place.meets_another(lambda: place.desk.way._commit(place.desk.place, [(claimed, answer)]))
    assert (place.row()["status"], place.row()["broker_order_id"]) == ("accepted", "7")
    assert place.kinds() == ["queued", "claimed", "accepted"]


def test_a_persons_word_that_met_another_transaction_is_taken_once(place: MeetingPlace) -> None:
    place.client.submit(place.order())
    (claimed,) = place.desk.place.claim(named(["met"]))
    place.desk.way._commit(place.desk.place, [(claimed, SubmitTimeout("no answer", broker="ibkr"))])
    place.meets_another(lambda: resolve(place.client, "met", adopt=None, by="somebody"))
    assert place.kinds().count("resolved") == 1


def test_an_execution_of_a_stranger_that_met_another_transaction_is_recorded_once(place: MeetingPlace) -> None:
    told = FillReport(
        execution_id="e1", broker_order_id="5", quantity=Decimal(3), price=Decimal(60), filled_at=NOON, symbol="KO",
        side=Side.BUY,
    )  # fmt: skip
    external = External(place.database, "ibkr")
    assert place.meets_another(lambda: external.note([told]), "external_fills", "external_orders")
    with place.database.read() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(t)).scalar() for t in (external_orders, external_fills)
        ]
    assert counts == [1, 1]
