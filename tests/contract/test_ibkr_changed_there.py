"""An order that somebody changes in TWS stays ours: its terms, its type and what it counts are what TWS shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.messages import OrderRequest
from models.record.tables import external_orders, risk_tallies
from producers.handles import Order
from tests.contract.doors import SandboxThread
from tests.contract.test_ibkr_groups import TwsDesk, opened
from tests.kit.waiting import eventually


@pytest.fixture
def desk(house: SandboxThread, tmp_path: Path) -> Iterator[TwsDesk]:
    with opened(house, tmp_path, risk={"max_open_value": "100000"}) as found:
        yield found


def change(desk: TwsDesk, client_order_id: str, **terms: Any) -> None:
    """Change an order as a person does in TWS; its own client hears of it."""

    def work() -> None:
        door = desk.doors.door.desk
        tws = next(one for one in door.all() if one.order.client_order_id == client_order_id)
        client = door._outlet(tws)
        door._apply_change(client, tws, replace(tws.request, **terms))

    desk.house.call(work)


def resting(desk: TwsDesk, **terms: Any) -> Order:
    given = {"symbol": "AAPL", "side": "buy", "quantity": 10, "order_type": "limit", "limit_price": "90"}
    order = desk.client.submit(OrderRequest(**{**given, "client_order_id": "o", **terms}))
    eventually(lambda: order.refresh().status == "accepted", 15)
    return order


def has(order: Order, **columns: Any) -> bool:
    row = order.refresh().row
    return {name: row[name] for name in columns} == columns


def test_an_order_that_somebody_changes_in_tws_has_the_terms_that_tws_shows(desk: TwsDesk) -> None:
    order = resting(desk)
    change(desk, "o", quantity=Decimal(20), limit_price=Decimal(91))
    eventually(lambda: has(order, quantity=20, limit_price=91), 15, lambda: order.events)
    assert has(order, status="accepted", order_type="limit")
    said = [event for event in order.events if event["kind"] == "replaced_outside"]
    assert ["somebody has changed it there: quantity 20, limit_price 91" in event["detail"] for event in said] == [True]
    with desk.client.database.read() as connection:
        assert connection.execute(select(risk_tallies.c.buying)).scalars().all() == [20]
    desk.house.price("AAPL", "90.5")
    eventually(lambda: has(order, status="filled", filled_quantity=20), 15, lambda: order.events)
    assert len(desk.at_the_door()) == 1
    with desk.client.database.read() as connection:
        assert connection.execute(select(external_orders.c.broker_order_id)).all() == []


def test_an_order_that_somebody_makes_one_of_another_type_in_tws_is_that(desk: TwsDesk) -> None:
    order = resting(desk, side="sell_short", limit_price="110")
    change(desk, "o", order_type="STP", limit_price=None, aux_price=Decimal(95))
    eventually(lambda: has(order, order_type="stop", limit_price=None, stop_price=95), 15, lambda: order.events)
    order.replace(stop_price="96")
    eventually(lambda: has(order, stop_price=96), 15, lambda: order.events)
    desk.house.price("AAPL", "95.5")
    eventually(lambda: has(order, status="filled"), 15, lambda: order.events)
    assert [event["kind"] for event in order.events].count("replaced_outside") == 1


def test_a_leg_that_somebody_changes_in_tws_stays_that_leg(desk: TwsDesk) -> None:
    group = desk.until(desk.bracket(), entry="filled", take_profit="accepted", stop_loss="accepted")
    change(desk, "e.tp", order_type="MKT", limit_price=None)
    done = desk.until(group, entry="filled", take_profit="filled", stop_loss="canceled")
    assert done.status == "closed"


def test_our_own_replace_is_no_change_of_somebody_elses(desk: TwsDesk) -> None:
    order = resting(desk)
    for price in ("91", "92", "93"):
        order.replace(limit_price=price)
        eventually(lambda price=price: has(order, limit_price=Decimal(price)), 15, lambda: order.events)
    eventually(lambda: has(order, limit_price=93, status="accepted"), 5)
    assert "replaced_outside" not in [event["kind"] for event in order.events]
