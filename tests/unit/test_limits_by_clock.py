"""A wall clock that is set, ahead or back, neither opens a limit by time nor locks it for longer than a minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from models.clock import ticking, utcnow
from models.messages import OrderRequest
from models.record.database import Database
from models.record.intake import Intake
from models.record.tables import controls, orders
from models.risk.facts import ReferencePrice
from models.risk.names import RiskSettings
from models.settings import BrokerSettings, Settings
from tests.kit.clocks import MovedClocks
from tests.open_desk import open_desk
from tests.property.ledger import BrokerLedger, Seat
from worker.orders.selection import named
from worker.risk.prices import keep_prices, known_prices

HOUR = 3600.0


@pytest.fixture
def clock() -> Iterator[MovedClocks]:
    made = MovedClocks()
    with ticking(made):
        yield made


class LimitedDesk:
    """A desk under limits, and orders that it claims."""

    def __init__(self, database: Database, **risk: object) -> None:
        self.database = database
        self.settings = Settings.model_construct(
            brokers={"ibkr": BrokerSettings(adapter="model")}, risk=RiskSettings.model_validate(risk)
        )
        seat = Seat(BrokerLedger("ibkr", "keeps", None), lambda _name: None, lambda _ticket: None)
        seat.connect()
        self.claims = open_desk(self.settings, database, seat).place.claims

    def submit(self) -> str:
        terms = {"symbol": "KO", "side": "buy", "quantity": 5, "order_type": "limit", "limit_price": 1}
        until = utcnow() + timedelta(minutes=10)
        request = OrderRequest(**terms, route=["ibkr"], strategy="dip", expires_at=until)
        Intake(self.settings, self.database).record([request])
        return request.client_order_id

    def claim(self, id_: str) -> str:
        """Try to claim an order; returns its status then."""
        self.claims.claim(named([id_]))
        with self.database.read() as connection:
            return str(connection.execute(select(orders.c.status).where(orders.c.client_order_id == id_)).scalar())

    def tripped(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.execute(select(controls.c.scope)).scalars())


@pytest.mark.parametrize("step", [HOUR, -HOUR, -24 * HOUR], ids=["ahead", "back", "back by a day"])
@pytest.mark.parametrize("limit", [{"orders_per_minute": 2}, {"messages_per_minute": 2}, {"repeat_count": 3}], ids=str)
def test_a_clock_that_is_set_lets_nobody_through_for_a_minute_and_everybody_afterwards(
    database: Database, clock: MovedClocks, step: float, limit: dict[str, int]
) -> None:
    desk = LimitedDesk(database, **limit)
    assert [desk.claim(desk.submit()) for _ in range(2)] == ["submitted", "submitted"]
    clock.on_the_wall += step
    third = desk.submit()
    for _ in range(5):
        assert desk.claim(third) == "queued", "as many have gone out in this minute as may"
        clock.pass_(10)
    clock.pass_(15)
    assert (desk.claim(third), desk.tripped()) == ("submitted", [])


def test_what_counts_is_the_minute_before_also_after_a_clock_was_set(database: Database, clock: MovedClocks) -> None:
    desk = LimitedDesk(database, orders_per_minute=2)
    clock.on_the_wall -= HOUR
    clock.pass_(90)
    assert [desk.claim(desk.submit()) for _ in range(3)] == ["queued", "queued", "queued"]
    clock.pass_(61)
    assert [desk.claim(desk.submit()) for _ in range(3)] == ["submitted", "submitted", "denied"]


@pytest.mark.parametrize("limit", [{"max_value": 100}, {"max_quantity": 10}], ids=str)
def test_limits_that_ask_no_time_wait_for_none(database: Database, clock: MovedClocks, limit: dict[str, int]) -> None:
    desk = LimitedDesk(database, **limit)
    assert desk.claim(desk.submit()) == "submitted"
    clock.on_the_wall -= HOUR
    assert desk.claim(desk.submit()) == "submitted"


def test_a_price_of_the_future_is_not_known_and_gives_way_to_the_next(database: Database, clock: MovedClocks) -> None:
    """It was told before the clock was set back, so that nobody knows how old it is."""
    kept = ReferencePrice(Decimal(50), utcnow(), "quote", "USD")
    with database.write() as connection:
        keep_prices(connection, {"KO": kept})
        assert known_prices(connection, ["KO"], utcnow(), 60.0)["KO"].price == 50
        clock.on_the_wall -= HOUR
        assert known_prices(connection, ["KO"], utcnow(), 60.0) == {}
        keep_prices(connection, {"KO": ReferencePrice(Decimal(40), utcnow() - timedelta(seconds=1), "quote", "USD")})
        assert known_prices(connection, ["KO"], utcnow(), 60.0)["KO"].price == 40
