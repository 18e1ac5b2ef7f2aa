"""Linked orders at Alpaca's door, through the whole worker in this process: claimed, sent, followed, canceled as one."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from models.messages import OrderRequest
from models.record.tables import external_orders, position_locks
from producers.client import OrderClient
from producers.groups import OrderGroup
from tests.contract.connected_alpaca import ConnectedAlpaca
from tests.contract.doors import SandboxThread
from tests.kit.waiting import eventually
from worker.rehearsal import rehearsal

TIMING = {"open_orders_every": 0.3, "positions_every": 0.5, "reconcile": (0.05, 0.2), "alert_after": 1.0}


class Desk:
    """A client whose orders go to Alpaca's door."""

    def __init__(self, client: OrderClient, house: SandboxThread) -> None:
        self.client, self.house = client, house

    def until(self, group: OrderGroup, **wanted: str) -> OrderGroup:
        """Wait until these legs have these statuses."""

        def there() -> OrderGroup | None:
            now = self.client.group(group.group_id)
            return now if {name: str(now.legs[name].status) for name in wanted} == wanted else None

        return eventually(there, 20)

    def at_the_door(self) -> list[tuple[str, str, Decimal]]:
        orders = self.house.call(lambda: list(self.house.market.orders("alpaca")))
        return [(order.side, order.state, order.filled_quantity) for order in orders]


@pytest.fixture
def desk(house: SandboxThread, tmp_path: Path) -> Iterator[Desk]:
    alpaca = ConnectedAlpaca(house)
    house.price("AAPL", "100")
    with rehearsal(tmp_path, alpaca.broker, timing=TIMING) as client:
        yield Desk(client, house)


def bracket(desk: Desk, **terms: object) -> OrderGroup:
    given = {"symbol": "AAPL", "side": "buy", "quantity": 10, "client_order_id": "e"} | terms
    return desk.client.submit_bracket(OrderRequest(**given), take_profit="110", stop_loss="95")


def test_a_bracket_wakes_its_exits_and_ends_one_by_the_other(desk: Desk) -> None:
    group = bracket(desk)
    live = desk.until(group, entry="filled", take_profit="accepted", stop_loss="accepted")
    assert live.status == "live"
    desk.house.price("AAPL", "111")
    done = desk.until(live, entry="filled", take_profit="filled", stop_loss="canceled")
    assert done.status == "closed"
    assert done.legs["take_profit"].filled_quantity == 10
    assert desk.at_the_door() == [("buy", "filled", 10), ("sell", "filled", 10), ("sell", "canceled", 0)]
    with desk.client.database.read() as connection:
        assert connection.execute(select(external_orders.c.broker_order_id)).all() == []
