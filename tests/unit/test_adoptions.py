"""What a person may adopt: an order that the broker has shown, and of which nothing says that it is another one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from models.errors import InvalidOrder
from models.messages import utcnow
from models.record.database import Database
from models.record.evidence import fold
from models.record.tables import attempts
from models.reports import Ambiguous, BrokerStatus, OrderReport
from models.settings import Settings
from models.vocabulary import OrderType, Side, TimeInForce
from producers.client import OrderClient
from tests.unit.words import Put
from worker.orders.resolve import resolve


@pytest.fixture
def client(settings: Settings, database: Database) -> Iterator[OrderClient]:
    found = OrderClient(settings)
    found.database.close()
    found.database = database
    yield found
    found.close()


def shown(put: Put, **terms: Any) -> None:
    """Have an unknown attempt at which the broker has shown one order, which no listing of now has."""
    order: dict[str, Any] = {"symbol": "KO", "side": Side.BUY, "quantity": Decimal(10)} | terms
    report = OrderReport(broker_order_id="7", status=BrokerStatus.FILLED, **order)
    evidence = fold(None, Ambiguous(candidates=(report,), words="under our id"), utcnow(), {})
    put(symbol="KO", quantity=10, attempt={"outcome": "unknown", "evidence": evidence})


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"side": Side.SELL}, "side sell instead of buy"),
        ({"symbol": "PEP"}, "symbol PEP instead of KO"),
        ({"quantity": Decimal(99)}, "quantity 99 instead of 10"),
        ({"order_type": OrderType.STOP, "stop_price": Decimal(3)}, "order_type stop"),
        ({"time_in_force": TimeInForce.GTC}, "time_in_force gtc"),
        ({"submitted_at": utcnow() - timedelta(days=400)}, "before this order was made"),
    ],
)
def test_what_a_look_has_shown_on_other_terms_is_not_adopted(
    client: OrderClient, put: Put, database: Database, terms: dict[str, Any], words: str
) -> None:
    """Last month's order under our id is in no listing of external orders: what the look kept of it says enough."""
    shown(put, **terms)
    with pytest.raises(InvalidOrder, match=f"order 7 at ibkr is not o-1: it has .*{words}"):
        resolve(client, "o-1", adopt="7", by="ana")
    with database.read() as connection:
        assert connection.execute(select(attempts.c.outcome)).scalar() == "unknown"


def test_what_says_nothing_against_it_is_adopted(client: OrderClient, put: Put) -> None:
    shown(put, symbol=None, side=None)
    row = resolve(client, "o-1", adopt="7", by="ana")
    assert (row["status"], row["broker_order_id"]) == ("accepted", "7")
