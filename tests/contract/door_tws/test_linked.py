"""Linked orders at the TWS door, as ib_insync's and ib_async's own `bracketOrder` and `oneCancelsAll` send them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.contract.door_tws.gateway import open_gateway, status
from tests.kit.stories import eventually, run


def test_a_bracket_of_the_sdk_waits_wakes_and_ends_with_its_parent(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.market.set_price("AAPL", Decimal(100))
            contract = sdk.Stock("AAPL", "SMART", "USD")
            first = [ib.placeOrder(contract, one) for one in ib.bracketOrder("BUY", 10, 50, 110, 40)]
            await eventually(
                lambda: [status(trade) for trade in first] == ["Submitted", "PreSubmitted", "PreSubmitted"]
            )
            assert [trade.orderStatus.whyHeld for trade in first[1:]] == ["child", "child,trigger"]
            ib.cancelOrder(first[0].order)
            await eventually(lambda: [status(trade) for trade in first] == ["Cancelled"] * 3)
            parent, target, stop = (ib.placeOrder(contract, one) for one in ib.bracketOrder("BUY", 10, 101, 110, 40))
            await eventually(lambda: (status(parent), status(target)) == ("Filled", "Submitted"))
            assert (status(stop), stop.orderStatus.whyHeld) == ("PreSubmitted", "trigger")
            ib.cancelOrder(parent.order)
            exits = ib.oneCancelsAll([sdk.LimitOrder("SELL", 1, 120), sdk.StopOrder("SELL", 1, 30)], "pair", 1)
            one, other = (ib.placeOrder(contract, order) for order in exits)
            await eventually(lambda: status(one) == "Submitted")
            gateway.market.set_price("AAPL", Decimal(125))
            await eventually(lambda: (status(one), status(other)) == ("Filled", "Cancelled"))
            late = ib.placeOrder(contract, sdk.LimitOrder("SELL", 1, 120, ocaGroup="pair", ocaType=1))
            orphan = ib.placeOrder(contract, sdk.LimitOrder("SELL", 1, 120, parentId=999))
            await eventually(lambda: [trade.log[-1].errorCode for trade in (late, orphan)] == [201, 10006])

    run(story)


def test_what_is_not_transmitted_is_silent_and_can_be_taken_back(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            contract = sdk.Stock("AAPL", "SMART", "USD")
            trades = [ib.placeOrder(contract, one) for one in ib.bracketOrder("BUY", 10, 50, 110, 40)[:2]]
            assert await ib.reqAllOpenOrdersAsync() == []
            for trade, code in zip(trades, (202, 10147), strict=True):
                ib.client.cancelOrder(trade.order.orderId, "")
                await eventually(lambda trade=trade, code=code: (trade.order.orderId, code) in ib.codes)
            assert gateway.market.orders("ibkr") == []

    run(story)
