"""What may be concluded about an order that its broker refused after accepting it, or whose answer says nothing."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import select

from models.errors import BrokerError
from models.record.database import Database
from models.record.tables import attempts
from models.reports import BrokerStatus, OrderReport
from models.settings import BrokerSettings, Settings
from tests.open_desk import open_desk
from worker.brokers.base import Ticket
from worker.brokers.fake import FakeBroker
from worker.orders.absence import after_cancel, after_refusal

DEAD = (BrokerStatus.REJECTED, BrokerStatus.CANCELED, BrokerStatus.EXPIRED)
GONE = (BrokerStatus.FILLED, BrokerStatus.REPLACED)


@pytest.mark.parametrize("status", BrokerStatus)
def test_only_what_is_dead_and_never_traded_is_refused(status: BrokerStatus) -> None:
    expected = "refused" if status in DEAD else "adopt" if status in GONE else "wait"
    assert after_refusal(OrderReport(broker_order_id="7", status=status, filled_quantity=Decimal(0))) == expected
    assert after_refusal(OrderReport(broker_order_id="7", status=status)) == expected
    assert after_refusal(OrderReport(broker_order_id="7", status=status, filled_quantity=Decimal(1))) == "adopt"


def test_what_may_come_alive_again_is_not_dead_until_its_broker_says_that_it_ended() -> None:
    """IB's Inactive: a cancel that is not answered, or refused, proves nothing while the order is still listed."""
    dormant = OrderReport(
        broker_order_id="7", status=BrokerStatus.REJECTED, filled_quantity=Decimal(0), raw_status="Inactive",
        dormant=True,
    )  # fmt: skip
    assert after_refusal(dormant) == "wait"
    assert after_refusal(replace(dormant, filled_quantity=Decimal(4))) == "wait"  # of what is left nobody knows
    assert after_cancel(dormant) == "wait"


@pytest.mark.parametrize("status", BrokerStatus)
def test_an_order_that_is_one_too_many_is_settled_by_its_end_alone(status: BrokerStatus) -> None:
    expected = "adopt" if status in (*DEAD, *GONE) else "wait"
    assert after_cancel(OrderReport(broker_order_id="7", status=status)) == expected


class LeakyBroker(FakeBroker):
    """An adapter that lets an error out which says neither sent nor not sent."""

    def place_order(self, ticket: Ticket) -> OrderReport:
        raise BrokerError("one: it did not end within 5 s", broker="one")


def test_an_error_that_is_none_of_the_three_answers_is_unknown(database: Database) -> None:
    broker = LeakyBroker("one")
    broker.connect()
    desk = open_desk(Settings.model_construct(brokers={"one": BrokerSettings(adapter="fake")}), database, broker)
    desk.pulse.beat()
    try:
        desk.place.submit([{"symbol": "AAPL", "side": "buy", "quantity": "1", "client_order_id": "a"}])
        with database.read() as connection:
            assert connection.execute(select(attempts.c.outcome)).scalars().all() == ["unknown"]
    finally:
        desk.close()
