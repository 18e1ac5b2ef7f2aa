"""At IB an order belongs to the client id that placed it: its own worker cancels it, whoever leads."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.kit import World, eventually


def test_every_worker_cancels_what_its_own_client_id_placed(new_world: Callable[..., World]) -> None:
    world = new_world(["ibkr"])
    first = world.start("ibkr", label="seven", CORRO_BROKERS__IBKR__CLIENT_ID="7")

    def rest(count: int) -> list[str]:
        terms = {"order_type": "limit", "limit_price": "1", "time_in_force": "gtc"}
        placed = [world.send("AAPL", "buy", 1 + number, **terms) for number in range(count)]
        return [world.wait(order, "accepted", 20)["client_order_id"] for order in placed]

    ids = rest(5)
    first.popen.send_signal(signal.SIGSTOP)  # the second one has to place the next five
    world.start("ibkr", label="eight", CORRO_BROKERS__IBKR__CLIENT_ID="8")
    ids += rest(5)
    first.popen.send_signal(signal.SIGCONT)
    sessions = {id_: world.whole(id_)["attempts"][0]["session"] for id_ in ids}
    assert sorted(sessions.values()) == ["7"] * 5 + ["8"] * 5
    eventually(lambda: world.state(first) == "ready", 20)
    for id_ in ids:
        world.client.cancel(id_)
    for id_ in ids:
        world.wait(id_, "canceled", 20)
    assert {order["state"] for order in world.at_doors(symbol="AAPL")} == {"canceled"}


def test_what_a_gone_worker_placed_is_canceled_under_its_client_id(new_world: Callable[..., World]) -> None:
    world = new_world(["ibkr"])
    first = world.start("ibkr", label="seven", CORRO_BROKERS__IBKR__CLIENT_ID="7")
    order = world.send("MSFT", "buy", 3, order_type="limit", limit_price="1", time_in_force="gtc")
    world.wait(order, "accepted", 20)
    world.kill(first)
    world.start("ibkr", label="eight", CORRO_BROKERS__IBKR__CLIENT_ID="8")
    world.client.cancel(order.client_order_id)
    world.wait(order, "canceled", 30)
