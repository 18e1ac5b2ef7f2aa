"""Orders with legs at every door, by the whole worker in this process: one order, fills by leg, positions by leg."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.history.past import History
from models.history.views import v_positions
from models.messages import OrderRequest
from models.record.tables import external_fills, external_orders, position_locks
from producers.client import OrderClient
from producers.handles import Order
from tests.contract.brokers import AdapterBench
from tests.contract.doors import SandboxThread
from tests.kit.waiting import eventually
from worker.rehearsal import rehearsal

TIMING = {
    "lock_after": 0.5,
    "open_orders_every": 0.3,
    "positions_every": 0.5,
    "reconcile": (0.05, 0.2),
    "alert_after": 30.0,
}
LOW, HIGH = "KO280121C00060000", "KO280121C00065000"
OPEN = [
    {"symbol": LOW, "side": "buy", "ratio": 1, "position_effect": "open"},
    {"symbol": HIGH, "side": "sell", "ratio": 1, "position_effect": "open"},
]
CLOSE = [
    {"symbol": LOW, "side": "sell", "ratio": 1, "position_effect": "close"},
    {"symbol": HIGH, "side": "buy", "ratio": 1, "position_effect": "close"},
]


class PackageDesk:
    """A client whose orders go to one door."""

    def __init__(self, client: OrderClient, bench: AdapterBench) -> None:
        self.client, self.house, self.name, self.broker = client, bench.house, bench.name, bench.broker

    def order(self, id_: str = "v", **terms: Any) -> Order:
        given = {"symbol": "KO", "side": "buy", "quantity": 2, "legs": OPEN, "strategy": "spreads"} | terms
        return self.client.submit(OrderRequest(client_order_id=id_, **given))

    def until(self, order: Order, status: str) -> Order:
        def there() -> Order | None:
            now = self.client.order(order.client_order_id)
            return now if str(now.status) == status else None

        return eventually(there, 20, lambda: dict(self.client.order(order.client_order_id).row))

    def at_the_door(self) -> dict[str, Decimal]:
        positions = self.house.call(lambda: self.house.market.account(self.name).positions)
        return {symbol: position.quantity for symbol, position in positions.items()}

    def rows(self, table: Any) -> list[Any]:
        with self.client.database.read() as connection:
            return list(connection.execute(select(table)).mappings())


def at(*brokers: str) -> pytest.MarkDecorator:
    """Say where a test takes place: each is a worker of its own."""
    return pytest.mark.parametrize("desk", brokers, indirect=True)


@pytest.fixture
def desk(house: SandboxThread, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PackageDesk]:
    house.price("KO", "62")
    bench = AdapterBench(house, request.param, tmp_path)
    with rehearsal(tmp_path / "home", bench.broker, timing=TIMING) as client:
        yield PackageDesk(client, bench)


@at("alpaca", "schwab", "ib_async")
def test_a_vertical_is_opened_and_closed_with_its_positions_and_its_profit(desk: PackageDesk) -> None:
    opened = desk.until(desk.order(), "filled")
    assert opened.filled_quantity == 2
    fills = sorted((f["leg"], f["symbol"], f["side"], f["quantity"]) for f in opened.fills)
    assert fills == [(1, LOW, "buy", 2), (2, HIGH, "sell", 2)]
    paid = {f["leg"]: f["price"] for f in opened.fills}
    assert opened.avg_fill_price == paid[1] - paid[2]
    assert desk.at_the_door() == {LOW: 2, HIGH: -2}
    eventually(lambda: all(not fill["inferred"] for fill in desk.client.order("v").fills), 20)
    history = History(desk.client.database)
    assert {(row["symbol"], row["quantity"]) for row in history.rows(v_positions)} == {(LOW, 2), (HIGH, -2)}
    assert (desk.rows(external_orders), desk.rows(external_fills), desk.rows(position_locks)) == ([], [], [])
    desk.house.price("KO", "64")
    closed = desk.until(desk.order("w", legs=CLOSE, order_type="limit", limit_price="5"), "filled")
    got = {f["leg"]: f["price"] for f in closed.fills}
    assert closed.avg_fill_price == got[2] - got[1]
    assert desk.at_the_door() == {}
    listed = desk.broker.get_fills(datetime.now(UTC) - timedelta(hours=1))
    assert {fill.symbol for fill in listed} == {LOW, HIGH}  # also where the package has an execution of its own
    denied = desk.until(desk.order("x", legs=CLOSE), "denied")
    assert denied.row["reason_code"] == "no_position"


@at("schwab")
def test_a_lost_answer_is_found_again(desk: PackageDesk) -> None:
    desk.house.fault(desk.name, "accept_drop")
    found = desk.until(desk.order(), "filled")
    assert {"unknown", "late_answer"} & {event["kind"] for event in found.events}
    assert desk.at_the_door() == {LOW: 2, HIGH: -2}


@at("alpaca")
def test_a_package_that_is_canceled_half_filled_has_whole_packages(desk: PackageDesk) -> None:
    desk.house.fault(desk.name, "partial")
    order = desk.until(desk.order(), "partially_filled")
    desk.client.cancel(order.client_order_id)
    ended = desk.until(order, "canceled")
    assert ended.filled_quantity == 1
    assert desk.at_the_door() == {LOW: 1, HIGH: -1}


@at("ib_async")
def test_a_credit_below_its_limit_rests_until_it_is_paid(desk: PackageDesk) -> None:
    short = [{**OPEN[0], "side": "sell"}, {**OPEN[1], "side": "buy"}]
    order = desk.until(desk.order(legs=short, order_type="limit", limit_price="-4.50"), "accepted")
    assert order.row["limit_price"] == Decimal("-4.5")
    desk.house.price("KO", "70")
    done = desk.until(order, "filled")
    assert done.avg_fill_price is not None
    assert done.avg_fill_price <= Decimal("-4.5")
