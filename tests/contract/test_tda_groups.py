"""Linked orders at the TDA and Schwab doors, by the whole worker in this process: one order triggers the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.messages import OrderRequest
from models.record.tables import external_orders
from models.settings import BrokerSettings
from producers.client import OrderClient
from producers.groups import OrderGroup
from tests.contract.doors import SandboxThread, same_clock
from tests.kit.waiting import eventually
from worker.brokers.tda.adapter import SchwabBroker, TdaBroker
from worker.rehearsal import rehearsal
from worker.sandbox.tda.door import TdaDoor

TIMING = {"open_orders_every": 0.3, "positions_every": 0.5, "reconcile": (0.05, 0.2), "alert_after": 30.0}


class TriggeringDesk:
    """A client whose orders go to a door of either dialect."""

    def __init__(self, client: OrderClient, house: SandboxThread, door: TdaDoor) -> None:
        self.client, self.house, self.door, self.name = client, house, door, door.name

    def bracket(self, **terms: Any) -> OrderGroup:
        given = {"symbol": "AAPL", "side": "buy", "quantity": 10, "client_order_id": "e"} | terms
        return self.client.submit_bracket(OrderRequest(**given), take_profit="110", stop_loss=("95", "94.5"))

    def until(self, group: OrderGroup, **wanted: str) -> OrderGroup:
        def there() -> OrderGroup | None:
            now = self.client.group(group.group_id)
            return now if {name: str(now.legs[name].status) for name in wanted} == wanted else None

        return eventually(there, 25, lambda: self.client.group(group.group_id))

    def replace(self, order_id: str, **terms: str) -> None:
        """Replace an order as somebody does it in the broker's own pages, another type too: it stays in its group."""
        door, wires = self.door, {"limit_price": "price", "stop_price": "stopPrice"}

        def work() -> None:
            order = next(one for one in door.market.orders(self.name) if one.extra["order_id"] == int(order_id))
            prices: dict[str, Any] = {name: Decimal(terms[name]) if name in terms else None for name in wires}
            wire = {name: value for name, value in order.extra["wire"].items() if name not in wires.values()}
            wire |= {wires[name]: float(value) for name, value in prices.items() if value is not None}
            kind = terms.get("order_type", order.order_type)
            extra = {"order_id": door.next_id(), **door.links.inherited(order)}
            extra["wire"] = wire | {"orderType": kind.upper()}
            door.links.succeed(door.keep(door.market.replace(order, order_type=kind, extra=extra, **prices)))

        self.house.call(work)

    def at_the_door(self) -> list[tuple[str, str]]:
        orders = self.house.call(lambda: list(self.house.market.orders(self.name)))
        return [(order.side, order.state) for order in orders]


@pytest.fixture(params=["schwab", "tda"])
def desk(house: SandboxThread, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TriggeringDesk]:
    name: Any = request.param
    door: Any = house.open(lambda market: TdaDoor(market, name, name))
    house.price("AAPL", "100")
    kind = SchwabBroker if name == "schwab" else TdaBroker
    root = f"{door.url}/v1" if name == "tda" else door.url
    table = {"base_url": root, "api_key": "k", "refresh_token": "rt", "account_id": door.account, "poll_s": 0.05}
    table |= {"app_secret": "s"} if name == "schwab" else {}
    more: dict[str, Any] = {"requests_per_minute": 0, "token_path": str(tmp_path / "tokens.json")}
    broker = same_clock(kind(name, BrokerSettings(adapter=name, **table, **more)))
    with rehearsal(tmp_path / "home", broker, timing=TIMING) as client:
        yield TriggeringDesk(client, house, door)


def test_a_bracket_wakes_its_exits_and_ends_one_by_the_other(desk: TriggeringDesk) -> None:
    live = desk.until(desk.bracket(), entry="filled", take_profit="accepted", stop_loss="accepted")
    assert live.status == "live"
    desk.house.price("AAPL", "111")
    done = desk.until(live, take_profit="filled", stop_loss="canceled")
    assert done.status == "closed"
    assert sorted(desk.at_the_door()) == [("buy", "filled"), ("sell", "canceled"), ("sell", "filled")]


def test_a_lost_answer_is_found_again_by_its_terms_with_every_leg(desk: TriggeringDesk) -> None:
    desk.house.fault(desk.name, "accept_drop")
    group = desk.until(desk.bracket(), entry="filled", take_profit="accepted", stop_loss="accepted")
    assert {"unknown", "found"} <= {event["kind"] for event in group.legs["entry"].events}
    assert len(desk.at_the_door()) == 3


def test_a_canceled_entry_takes_its_exits_along(desk: TriggeringDesk) -> None:
    desk.house.fault(desk.name, "no_fill")
    group = desk.until(desk.bracket(), entry="accepted", take_profit="accepted", stop_loss="accepted")
    group.cancel()
    assert desk.until(group, entry="canceled", take_profit="canceled", stop_loss="canceled").status == "closed"


def test_an_oco_closes_a_position_once_whether_its_answer_comes_or_is_lost(desk: TriggeringDesk) -> None:
    desk.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=10)).wait(15)
    if desk.name == "schwab":
        desk.house.fault(desk.name, "accept_drop")
    terms = {"symbol": "AAPL", "side": "sell", "quantity": 10}
    first = OrderRequest(**terms, order_type="limit", limit_price="110", client_order_id="o")
    second = OrderRequest(**terms, order_type="stop", stop_price="95", client_order_id="o.sl")
    group = desk.until(desk.client.submit_oco(first, second), first="accepted", second="accepted")
    assert len(desk.at_the_door()) == 3
    desk.house.price("AAPL", "94")
    assert desk.until(group, first="canceled", second="filled").status == "closed"


def test_what_is_not_linked_so_is_unsupported_before_anything_is_sent(desk: TriggeringDesk) -> None:
    done = desk.bracket(extended_hours=True, order_type="limit", limit_price="100").wait(10)
    assert [str(order.status) for order in done.legs.values()] == ["denied"] * 3
    assert "links no orders in extended hours" in str(done.legs["entry"].reason)
    assert desk.at_the_door() == []


def later() -> None:
    """Wait until what happens now is told from what has happened: times are shown to the second."""
    before = int(time.time())
    eventually(lambda: time.time() > before + 2)


def test_an_exit_that_is_replaced_by_an_order_of_another_type_is_that_order(desk: TriggeringDesk) -> None:
    """As recorded at TDA in 2022: a limit order that somebody has made one at the market."""
    group = desk.until(desk.bracket(), entry="filled", take_profit="accepted", stop_loss="accepted")
    later()
    desk.replace(str(group.legs["take_profit"].broker_order_id), order_type="stop", stop_price="97")
    row = eventually(lambda: (now := group.legs["take_profit"].refresh().row)["order_type"] == "stop" and now, 20)
    assert (row["limit_price"], row["stop_price"], row["status"]) == (None, 97, "accepted")
    later()
    desk.replace(str(row["broker_order_id"]), order_type="market")
    done = desk.until(group, entry="filled", take_profit="filled", stop_loss="canceled")
    assert done.legs["take_profit"].row["order_type"] == "market"
    assert (done.status, done.legs["take_profit"].filled_quantity) == ("closed", 10)
    with desk.client.database.read() as connection:
        assert connection.execute(select(external_orders.c.broker_order_id)).all() == []


def test_the_first_of_two_exits_that_is_replaced_stays_the_lead_of_its_group(desk: TriggeringDesk) -> None:
    desk.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=10)).wait(15)
    terms = {"symbol": "AAPL", "side": "sell", "quantity": 10}
    first = OrderRequest(**terms, order_type="limit", limit_price="110", client_order_id="o")
    second = OrderRequest(**terms, order_type="stop", stop_price="95", client_order_id="o.sl")
    group = desk.until(desk.client.submit_oco(first, second), first="accepted", second="accepted")
    later()
    old = str(group.legs["first"].broker_order_id)
    desk.replace(old, limit_price="108")
    eventually(lambda: group.legs["first"].refresh().broker_order_id != old, 20)
    assert desk.until(group, first="accepted", second="accepted").status == "live"
    desk.house.price("AAPL", "109")
    done = desk.until(group, first="filled", second="canceled")
    assert (done.status, done.legs["first"].row["limit_price"]) == ("closed", 108)


def test_an_exit_that_is_replaced_at_its_broker_is_followed_to_the_order_in_its_place(desk: TriggeringDesk) -> None:
    """In the broker's own pages, twice, and while a listing fails."""
    group = desk.until(desk.bracket(), entry="filled", take_profit="accepted", stop_loss="accepted")
    for price in ("112", "108"):
        later()
        old = str(group.legs["take_profit"].refresh().broker_order_id)
        desk.house.fault(desk.name, "status", 2, status=503, operation="list")
        desk.replace(old, limit_price=price)
        eventually(lambda old=old: group.legs["take_profit"].refresh().broker_order_id != old, 20)
    live = desk.until(group, take_profit="accepted", stop_loss="accepted")
    assert (live.status, live.legs["take_profit"].row["limit_price"]) == ("live", 108)
    desk.house.price("AAPL", "109")
    done = desk.until(group, entry="filled", take_profit="filled", stop_loss="canceled")
    assert (done.status, done.legs["take_profit"].filled_quantity) == ("closed", 10)
    told = {event["kind"] for leg in done.legs.values() for event in leg.events}
    assert "replaced" in told
    assert not {"unprotected", "replaced_outside"} & told
    with desk.client.database.read() as connection:
        assert connection.execute(select(external_orders.c.broker_order_id)).all() == []
