"""Two workers claim the same order at the same moment, on the database that lets both try."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, event

from models.database import Database, upgrade
from models.intake import Intake
from models.messages import OrderRequest
from models.settings import BrokerSettings, Settings
from producers.bell import Bell
from tests.kit import Postgres
from tests.property.ledger import Ledger, Seat
from worker.claiming import these
from worker.execution import Execution


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    made = Database(postgres.fresh())
    upgrade(made)
    yield made
    made.close()


def test_of_two_claims_at_once_one_gets_the_order(database: Database) -> None:
    """The first holds its rows and has not committed yet; the second neither takes them nor waits for them."""
    settings = Settings.model_construct(brokers={"ibkr": BrokerSettings(adapter="model")})
    request = OrderRequest(symbol="KO", side="buy", quantity=1, route=["ibkr"])
    Intake(settings, database).record([request])
    claims = [_execution(settings, database, name).claims for name in ("first", "second")]
    taken: dict[str, int] = {}
    holding, go = threading.Event(), threading.Event()

    def before_commit(_connection: Connection) -> None:
        if threading.current_thread().name == "first":
            holding.set()
            assert go.wait(30)

    def claim(number: int) -> None:
        taken[threading.current_thread().name] = len(claims[number].claim(these([request.client_order_id])))

    event.listen(database.engine, "commit", before_commit)
    first, second = (threading.Thread(target=claim, args=(n,), name=name) for n, name in enumerate(("first", "second")))
    first.start()
    try:
        assert holding.wait(10)
        second.start()
        second.join(4)
        assert not second.is_alive(), "it waits for the other one's rows"
        assert taken == {"second": 0}
    finally:
        go.set()
        first.join(10)
        if second.is_alive():
            second.join(20)
        event.remove(database.engine, "commit", before_commit)
    assert taken == {"first": 1, "second": 0}


def _execution(settings: Settings, database: Database, worker: str) -> Execution:
    seat = Seat(Ledger("ibkr", "keeps", None), lambda _name: None, lambda _ticket: None)
    return Execution(settings, database, seat, worker, Bell(settings))
