"""Rows that no client of ours would record: each is denied as `invalid`, and the orders of others go on beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from models.history import History, v_orders
from models.messages import OrderRequest
from models.record.database import Database
from models.record.tables import attempts, orders
from models.settings import load_settings
from producers import OrderClient
from tests.integration.test_producers_words import LIMIT, put
from tests.open_desk import open_desk
from worker.brokers.fake import FakeBroker
from worker.control.kill import begin
from worker.control.scopes import Scope
from worker.leader import Leader

LONG_AGO = {"available_at": "now() - interval '5 s'", "updated_at": "now() - interval '5 s'"}
POISON: dict[str, dict[str, str]] = {
    "side": {"side": "'frob'"}, "type": {"order_type": "'weird'"}, "forever": {"expires_at": "'infinity'"},
    "born-never": {"created_at": "'-infinity'"}, "before-christ": {"created_at": "'4000-01-01 BC'"},
    "huge": {"quantity": "1e30"}, "negative": {"quantity": "-5"}, "nan": {"quantity": "'NaN'"},
    "none": {"quantity": "null"},
    "priceless": {"order_type": "'limit'"}, "price": LIMIT | {"limit_price": "-1"}, "o~2": {}, "tags": {"tags": "'5'"},
    "route": {"route": "'5'"}, "tif": {"time_in_force": "'soon'"}, "symbol": {"symbol": "null"},
    "kind": {"group_id": "'g'", "group_kind": "'weird'", "leg": "'entry'"}, "version": {"version": "7"},
}  # fmt: skip


class PoisonedRecord:
    """A leader of `ibkr` over a record that holds every poison, and one honest order."""

    def __init__(self, home: Path, database: Database) -> None:
        brokers = {name: {"adapter": "fake"} for name in ("ibkr", "tda")}
        settings = load_settings(
            home=home, redis_url=f"unix://{home}/no-queue", database_url=database.engine.url.render_as_string(False),
            brokers=brokers, routing={"route": ["ibkr", "tda"]},
        )  # fmt: skip
        self.database, self.client = database, OrderClient(settings)
        self.broker = FakeBroker("ibkr")
        self.broker.connect()
        self.desk = open_desk(settings, database, self.broker)
        self.client.submit(OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="honest", strategy="dip"))
        with database.write() as connection:
            for id_, changes in POISON.items():
                put(connection, **LONG_AGO | {"client_order_id": f"'{id_}'"} | changes)

    def statuses(self) -> dict[str, tuple[str, str | None]]:
        with self.database.read() as connection:
            rows = connection.execute(select(orders.c.client_order_id, orders.c.status, orders.c.reason_code))
            return {row[0]: (row[1], row[2]) for row in rows}

    def close(self) -> None:
        self.desk.pulse.stop()
        self.desk.close()
        self.client.close()


DENIED = dict.fromkeys(POISON, ("denied", "invalid"))


@pytest.fixture
def bench(tmp_path: Path, database: Database) -> Iterator[PoisonedRecord]:
    made = PoisonedRecord(tmp_path, database)
    yield made
    made.close()


def sent(bench: PoisonedRecord) -> list[str]:
    with bench.database.read() as connection:
        outcomes = connection.execute(select(attempts.c.client_order_id, attempts.c.outcome)).all()
    assert {outcome for id_, outcome in outcomes if id_ in POISON} <= {"not_sent"}
    return [id_ for id_, outcome in outcomes if outcome == "accepted"]


def test_the_sweep_denies_them_and_sends_what_is_left(bench: PoisonedRecord) -> None:
    with bench.database.write() as connection:
        connection.exec_driver_sql("UPDATE orders SET available_at = now() - interval '4 s', updated_at = now() - "
                                   "interval '4 s' WHERE client_order_id = 'honest'")  # fmt: skip
    Leader(bench.desk).sweep()
    found = bench.statuses()
    assert sent(bench) == ["honest"]
    assert {id_: found[id_] for id_ in POISON} == DENIED


def test_a_ring_that_names_them_sends_the_honest_one_alone(bench: PoisonedRecord) -> None:
    bench.desk.place.submit([{"client_order_id": id_} for id_ in ("honest", *POISON)], recorded=True)
    assert sent(bench) == ["honest"]
    assert {id_: bench.statuses()[id_] for id_ in POISON} == DENIED


def test_a_kill_ends_everything(bench: PoisonedRecord) -> None:
    begin(bench.database, Scope.of(strategy="dip"), by="ben", reason="now", kill={})
    assert bench.statuses()["honest"][0] == "canceled"
    begin(bench.database, Scope.of(strategy="evil"), by="ben", reason="now", kill={})
    assert {id_: bench.statuses()[id_] for id_ in POISON} == DENIED


def test_they_are_listed_and_canceled_with_the_others(bench: PoisonedRecord) -> None:
    assert len(History(bench.database).frame(v_orders)) == len(POISON) + 1
    assert {order.client_order_id for order in bench.client.cancel_all()} == {"honest", *POISON}
    assert bench.statuses() == DENIED | {"honest": ("canceled", None)}


def test_one_that_is_held_is_denied_when_its_time_comes(bench: PoisonedRecord) -> None:
    with bench.database.write() as connection:
        put(connection, client_order_id="'held'", status="'held'", held_for="'not_before'", side="'frob'",
            created_at="'-infinity'")  # fmt: skip
    bench.desk.releases.look()
    assert bench.statuses()["held"] == ("denied", "invalid")


def test_those_of_a_dead_broker_are_moved_without_them(bench: PoisonedRecord) -> None:
    with bench.database.write() as connection:
        for id_, changes in {"left": {}, "odd": {"side": "'frob'", "created_at": "'-infinity'"}}.items():
            at = {"broker": "'tda'", "route": """'["tda", "ibkr"]'""", "available_at": "now() - interval '1 minute'"}
            put(connection, client_order_id=f"'{id_}'", **(at | changes))
    bench.desk.pulse.beat()
    Leader(bench.desk).stranded()
    assert bench.statuses()["odd"] == ("denied", "invalid")
    with bench.database.read() as connection:
        assert connection.execute(select(orders.c.broker).where(orders.c.client_order_id == "left")).scalar() == "ibkr"
