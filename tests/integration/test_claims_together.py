"""Two workers claim at the same moment, on the database that lets both try: one order, or two that close a position."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
from sqlalchemy import Connection, event, insert, select

from models.messages import OrderRequest
from models.record.database import Database
from models.record.intake import Intake
from models.record.tables import orders, position_snapshots, workers
from models.settings import BrokerSettings, Settings
from tests.kit import eventually
from tests.open_desk import open_desk
from tests.property.ledger import BrokerLedger, Seat
from worker.fleet.identity import Identity
from worker.orders.desk import BrokerDesk
from worker.orders.selection import named
from worker.positions.closing import Asked
from worker.positions.reading import keep
from worker.runtime.clock import utcnow


@contextmanager
def before_the_first_commits(database: Database, claim: Callable[[int], None]) -> Iterator[threading.Thread]:
    """Let two threads claim, `first` and `second`: the first has not committed yet as long as this lasts."""
    holding, go = threading.Event(), threading.Event()

    def before_commit(_connection: Connection) -> None:
        if threading.current_thread().name == "first":
            holding.set()
            assert go.wait(30)

    event.listen(database.engine, "commit", before_commit)
    first, second = (threading.Thread(target=claim, args=(n,), name=name) for n, name in enumerate(("first", "second")))
    first.start()
    try:
        assert holding.wait(10)
        second.start()
        yield second
    finally:
        go.set()
        first.join(10)
        if second.ident is not None:
            second.join(20)
        event.remove(database.engine, "commit", before_commit)


def test_of_two_claims_at_once_one_gets_the_order(database: Database) -> None:
    """The first holds its rows and has not committed yet; the second neither takes them nor waits for them."""
    settings = Settings.model_construct(brokers={"ibkr": BrokerSettings(adapter="model")})
    request = OrderRequest(symbol="KO", side="buy", quantity=1, route=["ibkr"])
    Intake(settings, database).record([request])
    claims = [_desk(settings, database, name).place for name in ("first", "second")]
    taken: dict[str, int] = {}

    def claim(number: int) -> None:
        taken[threading.current_thread().name] = len(claims[number].claim(named([request.client_order_id])))

    with before_the_first_commits(database, claim) as second:
        second.join(4)
        assert not second.is_alive(), "it waits for the other one's rows"
        assert taken == {"second": 0}
    assert taken == {"first": 1, "second": 0}


@pytest.mark.parametrize(("side", "held"), [("sell", 100), ("buy_to_cover", -100)])
def test_of_two_closing_orders_claimed_at_once_no_more_than_is_held_is_sent(
    database: Database, side: str, held: int
) -> None:
    """Each alone would fit the holding; the first has claimed and not committed yet when the second looks."""
    settings = Settings.model_construct(brokers={"ibkr": BrokerSettings(adapter="model")})
    requests = [OrderRequest(symbol="KO", side=side, quantity=60, route=["ibkr"]) for _ in range(2)]
    Intake(settings, database).record(requests)
    _holds(database, held)
    claims = [_desk(settings, database, name).place for name in ("first", "second")]
    taken: dict[str, list[Decimal]] = {}
    asked = {"first": Asked(), "second": Asked()}

    def claim(number: int) -> None:
        name = threading.current_thread().name
        found = claims[number].claim(named([requests[number].client_order_id], asked[name]))
        taken[name] = [one.order.quantity for one in found]

    with before_the_first_commits(database, claim) as second:
        eventually(lambda: _waits_for_lock(database) or not second.is_alive())
    assert taken == {"first": [60], "second": []}
    assert list(asked["second"].ids) == [requests[1].client_order_id]  # it waits for a reading of its own
    with database.read() as connection:
        rows = connection.execute(select(orders.c.client_order_id, orders.c.status)).all()
    assert {row.client_order_id: row.status for row in rows} == {
        requests[0].client_order_id: "submitted",
        requests[1].client_order_id: "queued",
    }


def _holds(database: Database, shares: int) -> None:
    """A worker has just read that the broker holds so many shares."""
    now = utcnow()
    worker = {"worker": "w", "broker": "ibkr", "host": "h", "boot": "b", "pid": 1, "state": "ready"}
    with database.write() as connection:
        connection.execute(insert(workers).values(**worker, started_at=now, heartbeat_at=now, positions_at=now))
        keep(
            connection,
            position_snapshots,
            "ibkr",
            now,
            [{"broker": "ibkr", "symbol": "KO", "quantity": Decimal(shares), "taken_at": now}],
        )


def _waits_for_lock(database: Database) -> bool:
    with database.read() as connection:
        return bool(connection.exec_driver_sql("select count(*) from pg_locks where not granted").scalar())


def _desk(settings: Settings, database: Database, host: str) -> BrokerDesk:
    seat = Seat(BrokerLedger("ibkr", "keeps", None), lambda _name: None, lambda _ticket: None)
    seat.connect()
    return open_desk(settings, database, seat, Identity("ibkr", host=host))
