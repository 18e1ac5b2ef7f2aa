"""Two workers claim at the same moment, on the database that lets both try: one order, or two that close a position."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, insert, select, update

from models.errors import DatabaseUnavailable
from models.messages import OrderRequest
from models.record.database import Database
from models.record.intake import Intake
from models.record.limits import limit_rows
from models.record.settling import claims_end
from models.record.tables import orders, position_snapshots, workers
from models.risk.facts import ReferencePrice
from models.risk.names import Limit, RiskSettings
from models.settings import BrokerSettings, Settings
from tests.kit import eventually
from tests.open_desk import open_desk
from tests.property.ledger import BrokerLedger, Seat
from worker.fleet.identity import Identity
from worker.orders.desk import BrokerDesk
from worker.orders.selection import named
from worker.positions.closing import Asked
from worker.positions.reading import keep
from worker.risk.changes import set_limit
from worker.risk.prices import keep_prices
from worker.runtime.clock import utcnow

_TEN = """
[risk]
max_quantity = 1000
max_value = 100000
collar_percent = 1000
price_max_age = 60
orders_per_minute = 10000
messages_per_minute = 10000
max_open_orders = 10000
max_position = 10000
max_open_value = 1000000
max_day_value = 1000000
max_day_loss = 1000000
"""


@contextmanager
def whoever_begins_is_held(database: Database) -> Iterator[None]:
    """Hold up who writes an attempt for as long as this lasts: its orders are taken, and nothing is committed yet."""
    with database.engine.connect() as holder:
        holder.exec_driver_sql(
            "CREATE FUNCTION hold() RETURNS trigger AS "
            "$$ BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN NEW; END $$ LANGUAGE plpgsql"
        )
        holder.exec_driver_sql("CREATE TRIGGER hold BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION hold()")
        holder.exec_driver_sql("SELECT pg_advisory_lock(77)")
        holder.commit()
        try:
            yield
        finally:
            holder.exec_driver_sql("SELECT pg_advisory_unlock(77)")
            holder.commit()
            holder.exec_driver_sql("DROP TRIGGER hold ON attempts")
            holder.exec_driver_sql("DROP FUNCTION hold()")
            holder.commit()


@contextmanager
def one_after_the_other(database: Database, claim: Callable[[int, str], None]) -> Iterator[threading.Thread]:
    """Let two threads claim, `first` and `second`: the first has not committed yet as long as this lasts."""
    first, second = (threading.Thread(target=claim, args=pair) for pair in enumerate(("first", "second")))
    with whoever_begins_is_held(database):
        first.start()
        eventually(lambda: _waiting_for_locks(database) == 1)
        second.start()
        yield second
    first.join(10)
    second.join(20)


@pytest.mark.parametrize("way", ["claim", "carefully"])
def test_of_two_claims_at_once_one_gets_the_order(database: Database, way: str) -> None:
    """The first holds its rows and has not committed yet; the second neither takes them nor waits for them."""
    settings = Settings.model_construct(brokers={"ibkr": BrokerSettings(adapter="model")})
    request = OrderRequest(symbol="KO", side="buy", quantity=1, route=["ibkr"])
    Intake(settings, database).record([request])
    claims = [_desk(settings, database, name).place.claims for name in ("first", "second")]
    taken: dict[str, int] = {}

    def claim(number: int, name: str) -> None:
        taken[name] = len(getattr(claims[number], way)(named([request.client_order_id])))

    with one_after_the_other(database, claim) as second:
        second.join(4)
        is_waiting = second.is_alive()
    assert not is_waiting, "it waits for the other one's rows"
    assert taken == {"first": 1, "second": 0}


def test_what_is_taken_is_sent_though_nothing_more_can_be_written(database: Database) -> None:
    """A plain order and one that has to be ended: the disk is full by then."""
    settings = Settings.model_construct(brokers={"ibkr": BrokerSettings(adapter="model")})
    plain, wished = (OrderRequest(symbol="KO", side="buy", quantity=1, route=["ibkr"]) for _ in range(2))
    Intake(settings, database).record([plain, wished])
    with database.write() as connection:
        connection.execute(
            update(orders)
            .where(orders.c.client_order_id == wished.client_order_id)
            .values(cancel_requested_at=utcnow())
        )
        connection.exec_driver_sql(
            "CREATE FUNCTION full_disk() RETURNS trigger AS "
            "$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$ LANGUAGE plpgsql"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER full_disk BEFORE UPDATE ON orders FOR EACH ROW "
            "WHEN (NEW.status = 'canceled') EXECUTE FUNCTION full_disk()"
        )
    claims = _desk(settings, database, "here").place.claims
    both = named([plain.client_order_id, wished.client_order_id])
    assert [one.id for one in claims.claim(both)] == [plain.client_order_id]
    with pytest.raises(DatabaseUnavailable):
        claims.claim(both)


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

    def claim(number: int, name: str) -> None:
        found = claims[number].claim(named([requests[number].client_order_id], asked[name]))
        taken[name] = [one.order.quantity for one in found]

    with one_after_the_other(database, claim) as second:
        eventually(lambda: _waiting_for_locks(database) == 2 or not second.is_alive())
    assert taken == {"first": [60], "second": []}
    assert list(asked["second"].ids) == [requests[1].client_order_id]  # it waits for a reading of its own
    with database.read() as connection:
        rows = connection.execute(select(orders.c.client_order_id, orders.c.status)).all()
    assert {row.client_order_id: row.status for row in rows} == {
        requests[0].client_order_id: "submitted",
        requests[1].client_order_id: "queued",
    }


@pytest.mark.parametrize("way", ["claim", "carefully"])
def test_a_limit_that_is_set_while_a_claim_is_under_way_is_passed_by_nobody(database: Database, way: str) -> None:
    """The first claim began before the limit and commits after it; the next is asked in between, and afterwards."""
    settings = Settings.model_construct(brokers={"ibkr": BrokerSettings(adapter="model")})
    terms = {"symbol": "KO", "side": "buy", "quantity": 500, "route": ["ibkr"], "strategy": "racer"}
    first, second = (OrderRequest(**terms) for _ in range(2))
    Intake(settings, database).record([first, second])
    begun, asked = (_desk(settings, database, name).place.claims for name in ("first", "second"))
    risk, limit = RiskSettings(), Limit("strategy", "racer", "max_position", Decimal(600), set_by="ann")
    counted: list[int] = []
    claim = threading.Thread(target=lambda: getattr(begun, way)(named([first.client_order_id])))
    sets = threading.Thread(target=lambda: counted.append(set_limit(database, risk, limit, reason="a race")))
    asks = threading.Thread(target=lambda: asked.claim(named([second.client_order_id])))
    with whoever_begins_is_held(database):
        claim.start()
        eventually(lambda: _waiting_for_locks(database) == 1)
        sets.start()
        eventually(lambda: _limits(database) == 1)
        asks.start()
        eventually(lambda: not asks.is_alive() or _waiting_for_locks(database) > 1)
        begins, is_waiting = asks.is_alive(), sets.is_alive()
    for thread in (claim, sets, asks):
        thread.join(10)
    assert (begins, is_waiting) == (False, True)
    assert _status(database, second.client_order_id) == "queued"
    assert (counted, _status(database, first.client_order_id)) == ([1], "submitted")

    def is_asked_again() -> bool:
        assert asked.claim(named([second.client_order_id])) == []
        return _status(database, second.client_order_id) == "denied"

    eventually(is_asked_again)
    with database.read() as connection:
        mine = select(orders.c.reason_code).where(orders.c.client_order_id == second.client_order_id)
        assert connection.execute(mine).scalar_one() == "position"


@contextmanager
def waits_for(database: Database, path: Path) -> Iterator[list[str]]:
    """Collect how often somebody waited for the server in a block, by what ended what was sent."""
    waited: list[str] = []

    def note(driver: Any, *_: object) -> None:
        driver.pgconn.trace(file.fileno())

    def no_more(driver: Any, *_: object) -> None:
        driver.pgconn.untrace()

    with path.open("w+") as file:
        event.listen(database.engine, "checkout", note)
        event.listen(database.engine, "checkin", no_more)
        yield waited
        event.remove(database.engine, "checkout", note)
        event.remove(database.engine, "checkin", no_more)
        words = [line.split("\t") for line in path.read_text().splitlines()]
        waited += [one[3] for one in words if one[1:2] == ["F"] and one[3] in ("Sync", "Query")]


def test_a_claim_under_ten_limits_waits_three_times_for_the_server(database: Database, tmp_path: Path) -> None:
    """For orders and limits with its begin, for all that they are asked of, and for what is written with its commit."""
    terms = tomllib.loads(_TEN)["risk"]
    settings = Settings.model_construct(brokers={"ibkr": BrokerSettings(adapter="model")}, risk=RiskSettings(**terms))
    terms = {"symbol": "KO", "side": "buy", "quantity": 5, "route": ["ibkr"], "order_type": "limit"}
    requests = [OrderRequest(**terms, limit_price=1, strategy="dip") for _ in range(2)]
    Intake(settings, database).record(requests)
    with database.write() as connection:
        keep_prices(connection, {"KO": ReferencePrice(Decimal(1), utcnow(), "quote", "USD")})
    claims, (first, second) = _desk(settings, database, "here").place.claims, requests
    assert claims.claim(named([first.client_order_id]))
    with waits_for(database, tmp_path / "trace") as waited:
        assert claims.claim(named([second.client_order_id]))
    assert len(waited) == 3, waited
    assert _status(database, second.client_order_id) == "submitted"


def test_what_cannot_be_written_is_not_committed_with_its_commit(database: Database) -> None:
    settings = Settings.model_construct(brokers={"ibkr": BrokerSettings(adapter="model")}, risk=RiskSettings())
    request = OrderRequest(symbol="KO", side="buy", quantity=5, route=["ibkr"])
    Intake(settings, database).record([request])
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE order_events ADD CHECK (kind <> 'claimed')")
    claims = _desk(settings, database, "here").place.claims
    with pytest.raises(psycopg.errors.CheckViolation):
        claims.carefully(named([request.client_order_id]))
    assert _status(database, request.client_order_id) == "queued"
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE order_events DROP CONSTRAINT order_events_kind_check")
    assert claims.carefully(named([request.client_order_id]))


def test_whoever_sets_a_limit_is_told_of_a_claim_that_does_not_end(database: Database) -> None:
    with database.engine.begin() as stuck:
        stuck.execute(select(orders).with_for_update())
        pid = stuck.exec_driver_sql("select pg_backend_pid()").scalar_one()
        assert claims_end(database, 0.05) == [pid]
    assert claims_end(database, 0.05) == []


def _limits(database: Database) -> int:
    with database.read() as connection:
        return len(limit_rows(connection))


def _status(database: Database, client_order_id: str) -> str:
    with database.read() as connection:
        mine = select(orders.c.status).where(orders.c.client_order_id == client_order_id)
        return str(connection.execute(mine).scalar_one())


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


def _waiting_for_locks(database: Database) -> int:
    with database.read() as connection:
        return int(connection.exec_driver_sql("select count(*) from pg_locks where not granted").scalar_one())


def _desk(settings: Settings, database: Database, host: str) -> BrokerDesk:
    seat = Seat(BrokerLedger("ibkr", "keeps", None), lambda _name: None, lambda _ticket: None)
    seat.connect()
    return open_desk(settings, database, seat, Identity("ibkr", host=host))
