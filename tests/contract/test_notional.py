"""An amount of money at Alpaca's door, by the whole worker in this process; brokers without it are passed."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.messages import OrderRequest
from models.record.database import Database
from models.record.tables import attempts
from producers.client import OrderClient
from producers.handles import Order
from tests.contract.connected_alpaca import ConnectedAlpaca
from tests.contract.doors import SandboxThread
from tests.kit.waiting import eventually
from worker.brokers.fake import FakeBroker
from worker.local.audit import audit
from worker.rehearsal import rehearsal
from worker.sandbox.control import order_json

TIMING = {"open_orders_every": 0.3, "positions_every": 0.5, "reconcile": (0.05, 0.2), "alert_after": 1.0}


@pytest.fixture
def client(house: SandboxThread, tmp_path: Path) -> Iterator[OrderClient]:
    """First a broker that takes quantities alone, then Alpaca."""
    house.price("KO", "60")
    with rehearsal(tmp_path, FakeBroker("plain"), ConnectedAlpaca(house).broker, timing=TIMING) as client:
        yield client


def buy(client: OrderClient, **terms: object) -> Order:
    given = {"symbol": "KO", "side": "buy", "notional": "100", "client_order_id": "n-1"} | terms
    return client.submit(OrderRequest(**given))


def tries(client: OrderClient) -> list[Any]:
    with client.database.read() as connection:
        return list(connection.execute(select(attempts).order_by(attempts.c.attempt_no)).mappings())


def spent(house: SandboxThread, client: OrderClient) -> Decimal:
    database: Database = client.database
    found = house.call(lambda: list(house.market.orders("alpaca")))
    doors = [order_json(order) for order in found]
    assert audit(database, doors).problems == []
    return sum((e.quantity * e.price for o in found for e in o.executions), Decimal(0))


def test_the_route_goes_on_to_the_broker_that_takes_money_and_is_filled_by_its_word(
    client: OrderClient, house: SandboxThread
) -> None:
    order = buy(client).wait(20)
    assert (order.status, order.broker, order.quantity, order.notional) == ("filled", "alpaca", None, 100)
    assert [(a["broker"], a["outcome"], a["code"]) for a in tries(client)] == [
        ("plain", "not_sent", "unsupported"),
        ("alpaca", "accepted", None),
    ]
    assert "takes a quantity, and no amount of money" in tries(client)[0]["message"]
    assert Decimal("99.99") < spent(house, client) <= 100
    assert order.filled_quantity == sum(fill["quantity"] for fill in order.fills)
    assert order.filled_quantity % 1 != 0


@pytest.mark.parametrize("fault", ["accept_drop", "accept_hang"])
def test_a_lost_answer_is_found_by_its_terms_and_buys_once(
    client: OrderClient, house: SandboxThread, fault: str
) -> None:
    house.fault("alpaca", fault)
    order = buy(client).wait(30)
    assert order.status == "filled"
    assert len(house.arrivals("alpaca")) == 1
    assert spent(house, client) <= 100


def test_what_was_bought_before_a_cancel_stands_and_is_not_sent_again(
    client: OrderClient, house: SandboxThread
) -> None:
    house.fault("alpaca", "partial")
    buy(client)
    half = eventually(lambda: order if (order := client.order("n-1")).status == "partially_filled" else None, 20)
    assert 0 < half.filled_quantity < 1
    half.cancel()
    done = half.wait(20)
    assert (done.status, done.filled_quantity, len(tries(client))) == ("canceled", half.filled_quantity, 2)
    assert spent(house, client) <= 50


def test_a_stranger_under_its_id_is_not_taken_for_it(client: OrderClient, house: SandboxThread) -> None:
    house.fault("alpaca", "id_taken", quantity=77)
    order = buy(client)
    eventually(
        lambda: len(house.arrivals("alpaca")) >= 1 and tries(client)[-1]["outcome"] in ("unknown", "refused"), 20
    )
    assert order.refresh().filled_quantity == 0
    assert order.refresh().status != "filled"
