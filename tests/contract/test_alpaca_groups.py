"""Linked orders at Alpaca's door, by the whole worker in this process: claimed, sent, followed, canceled as one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select

from models.messages import OrderRequest
from models.record.tables import external_orders, position_locks
from producers.client import OrderClient
from producers.groups import OrderGroup
from tests.contract.connected_alpaca import ConnectedAlpaca
from tests.contract.doors import SandboxThread
from tests.kit.waiting import eventually
from worker.rehearsal import rehearsal
from worker.sandbox.alpaca.bodies import order_id

TIMING = {
    "lock_after": 0.5,
    "open_orders_every": 0.3,
    "positions_every": 0.5,
    "reconcile": (0.05, 0.2),
    "alert_after": 1.0,
}


class GroupDesk:
    """A client whose orders go to Alpaca's door."""

    def __init__(self, client: OrderClient, house: SandboxThread, door: Any) -> None:
        self.client, self.house, self.door, self.door_url = client, house, door, door.url

    def until(self, group: OrderGroup, **wanted: str) -> OrderGroup:
        """Wait until these legs have these statuses."""

        def there() -> OrderGroup | None:
            now = self.client.group(group.group_id)
            return now if {name: str(now.legs[name].status) for name in wanted} == wanted else None

        def seen() -> list[str]:
            legs = self.client.group(group.group_id).legs.values()
            return [f"{leg.client_order_id}: {leg.status} ({leg.row['reason']}), {leg.events}" for leg in legs]

        return eventually(there, 20, seen)

    def put_in_place(self, id_: str, **terms: Any) -> None:
        """Have Alpaca put another order in the place of one."""

        def work() -> None:
            order = next(one for one in self.house.market.orders("alpaca") if order_id(one) == id_)
            extra = {**self.door.links.inherited(order), "replaces": id_}
            self.door.succeed(order, self.house.market.replace(order, extra=extra, client_order_id="alpacas", **terms))

        self.house.call(work)

    def at_the_door(self) -> list[tuple[str, str, Decimal]]:
        orders = self.house.call(lambda: list(self.house.market.orders("alpaca")))
        return [(order.side, order.state, order.filled_quantity) for order in orders]


@pytest.fixture
def desk(house: SandboxThread, tmp_path: Path) -> Iterator[GroupDesk]:
    alpaca = ConnectedAlpaca(house)
    house.price("AAPL", "100")
    with rehearsal(tmp_path, alpaca.broker, timing=TIMING) as client:
        yield GroupDesk(client, house, alpaca.door)


def bracket(desk: GroupDesk, **terms: object) -> OrderGroup:
    given = {"symbol": "AAPL", "side": "buy", "quantity": 10, "client_order_id": "e"} | terms
    return desk.client.submit_bracket(OrderRequest(**given), take_profit="110", stop_loss="95")


def test_a_bracket_wakes_its_exits_and_ends_one_by_the_other(desk: GroupDesk) -> None:
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


@pytest.mark.parametrize("stream", ["tells", "is silent"])
def test_a_lost_answer_is_found_again_with_every_leg(desk: GroupDesk, stream: str) -> None:
    if stream == "is silent":
        desk.house.fault("alpaca", "stream_silent", count=None)
    desk.house.fault("alpaca", "accept_drop")
    group = desk.until(bracket(desk), entry="filled", take_profit="accepted", stop_loss="accepted")
    assert {"unknown", "late_answer"} & {event["kind"] for event in group.legs["entry"].events}
    assert len(desk.at_the_door()) == 3
    desk.house.price("AAPL", "94")
    done = desk.until(group, entry="filled", take_profit="canceled", stop_loss="filled")
    assert done.status == "closed"


@pytest.mark.parametrize("stream", ["tells", "is silent"])
def test_an_exit_that_is_replaced_at_alpaca_is_followed_to_the_order_in_its_place(desk: GroupDesk, stream: str) -> None:
    if stream == "is silent":
        desk.house.fault("alpaca", "stream_silent", count=None)
    group = desk.until(bracket(desk), entry="filled", take_profit="accepted", stop_loss="accepted")
    for limit_price in ("112", "108"):  # twice
        replaced = group.legs["take_profit"].refresh().broker_order_id
        url = f"{desk.door_url}/v2/orders/{replaced}"
        keys = {"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"}
        requests.patch(url, json={"limit_price": limit_price}, headers=keys, timeout=5).raise_for_status()
        eventually(lambda old=replaced: group.legs["take_profit"].refresh().broker_order_id != old, 20)
    live = desk.until(group, take_profit="accepted", stop_loss="accepted")
    assert (live.status, live.legs["take_profit"].row["limit_price"]) == ("live", 108)
    desk.house.price("AAPL", "109")
    done = desk.until(group, entry="filled", take_profit="filled", stop_loss="canceled")
    assert (done.status, done.legs["take_profit"].filled_quantity) == ("closed", 10)
    assert not {"unprotected", "replaced_outside"} & {e["kind"] for leg in done.legs.values() for e in leg.events}
    with desk.client.database.read() as connection:
        assert connection.execute(select(external_orders.c.broker_order_id)).all() == []


def test_the_first_of_two_exits_that_is_replaced_at_alpaca_stays_the_lead_of_its_group(desk: GroupDesk) -> None:
    desk.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=10)).wait(10)
    terms = {"symbol": "AAPL", "side": "sell", "quantity": 10}
    first = OrderRequest(**terms, order_type="limit", limit_price="110", client_order_id="o")
    second = OrderRequest(**terms, order_type="stop", stop_price="95", client_order_id="o.sl")
    group = desk.until(desk.client.submit_oco(first, second), first="accepted", second="accepted")
    old = group.legs["first"].broker_order_id
    keys = {"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"}
    url = f"{desk.door_url}/v2/orders/{old}"
    requests.patch(url, json={"limit_price": "108"}, headers=keys, timeout=5).raise_for_status()
    eventually(lambda: group.legs["first"].refresh().broker_order_id != old, 20)
    assert desk.until(group, first="accepted", second="accepted").status == "live"
    desk.house.price("AAPL", "109")
    done = desk.until(group, first="filled", second="canceled")
    assert (done.status, done.legs["first"].row["limit_price"]) == ("closed", 108)


def test_an_exit_in_whose_place_alpaca_has_put_one_of_another_type_is_that_order(desk: GroupDesk) -> None:
    group = desk.until(bracket(desk), entry="filled", take_profit="accepted", stop_loss="accepted")
    desk.put_in_place(str(group.legs["take_profit"].broker_order_id), order_type="market", limit_price=None)
    done = desk.until(group, entry="filled", take_profit="filled", stop_loss="canceled")
    assert (done.status, done.legs["take_profit"].row["order_type"]) == ("closed", "market")
    with desk.client.database.read() as connection:
        assert connection.execute(select(external_orders.c.broker_order_id)).all() == []


def test_a_canceled_group_ends_whole(desk: GroupDesk) -> None:
    desk.house.fault("alpaca", "no_fill")
    group = desk.until(bracket(desk), entry="accepted", take_profit="accepted", stop_loss="accepted")
    group.cancel()
    done = desk.until(group, entry="canceled", take_profit="canceled", stop_loss="canceled")
    assert done.status == "closed"
    assert [state for _, state, _ in desk.at_the_door()] == ["canceled"] * 3


def test_an_entry_that_ends_partly_filled_without_its_exits_is_said(desk: GroupDesk) -> None:
    desk.house.fault("alpaca", "partial")
    group = desk.until(bracket(desk), entry="partially_filled", take_profit="accepted")
    group.legs["entry"].cancel()
    done = desk.until(group, entry="canceled", take_profit="canceled", stop_loss="canceled")
    assert (done.status, done.legs["entry"].filled_quantity) == ("broken", 5)
    assert "nothing closes 5" in str(done.reason)
    assert [event["kind"] for event in done.legs["entry"].events].count("unprotected") == 1


def test_a_broker_that_fills_both_exits_is_caught_recorded_and_locked(desk: GroupDesk) -> None:
    group = desk.until(bracket(desk), entry="filled", take_profit="accepted", stop_loss="accepted")
    desk.house.fault("alpaca", "both_fill", count=None)
    desk.house.price("AAPL", "111")
    desk.until(group, take_profit="filled")
    desk.house.price("AAPL", "94")
    done = desk.until(group, take_profit="filled", stop_loss="filled")
    assert done.status == "broken"
    assert "10 of 10 of the take_profit and 10 of 10 of the stop_loss" in str(done.reason)

    def lock() -> Any:
        with desk.client.database.read() as connection:
            found = connection.execute(select(position_locks)).first()
        assert found is not None, "the lock is gone"
        return found

    assert (lock().symbol, lock().note) == ("AAPL", done.reason)
    # Both fills are in the books, which explain the position: the lock stays all the same.
    eventually(lambda: lock().read_at - lock().since > timedelta(seconds=2), 15)
    assert lock().found == lock().expected == -10
    refused = desk.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=1, expires_at=None)).wait(1)
    assert refused.status == "queued"


def test_an_oco_closes_a_position_once(desk: GroupDesk) -> None:
    desk.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=10)).wait(10)
    terms = {"symbol": "AAPL", "side": "sell", "quantity": 10}
    first = OrderRequest(**terms, order_type="limit", limit_price="110", client_order_id="o")
    second = OrderRequest(**terms, order_type="stop", stop_price="95", client_order_id="o.sl")
    group = desk.until(desk.client.submit_oco(first, second), first="accepted", second="accepted")
    more = desk.client.submit(OrderRequest(symbol="AAPL", side="sell", quantity=1)).wait(10)
    assert (more.status, more.row["reason_code"]) == ("denied", "no_position"), "the group may take all of it"
    desk.house.price("AAPL", "94")
    done = desk.until(group, first="canceled", second="filled")
    assert done.status == "closed"


def test_an_exit_that_is_filled_counts_though_the_other_one_was_rejected(desk: GroupDesk) -> None:
    desk.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=10)).wait(10)
    desk.house.fault("alpaca", "reject_after_accept")
    desk.house.fault("alpaca", "accept_hang")  # the stream alone tells of the first one
    terms = {"symbol": "AAPL", "side": "sell", "quantity": 10}
    first = OrderRequest(**terms, order_type="limit", limit_price="900", client_order_id="o")
    second = OrderRequest(**terms, order_type="stop", stop_price="800", client_order_id="o.sl")
    group = desk.until(desk.client.submit_oco(first, second), second="filled")
    assert eventually(lambda: desk.client.group(group.group_id).is_terminal)
    assert desk.at_the_door()[1:] == [("sell", "rejected", 0), ("sell", "filled", 10)]


@pytest.mark.parametrize(
    ("terms", "words"),
    [({"time_in_force": "ioc"}, "day or gtc only"), ({"quantity": "1.5"}, "whole shares only")],
)
def test_a_group_that_alpaca_does_not_link_so_is_unsupported_before_anything_is_sent(
    desk: GroupDesk, terms: dict[str, object], words: str
) -> None:
    done = bracket(desk, **terms).wait(10)
    assert [str(order.status) for order in done.legs.values()] == ["denied"] * 3
    assert words in str(done.legs["entry"].reason)
    assert desk.at_the_door() == []
