"""The TWS door as ib_insync 0.9.86 and ib_async 2.1.0 see it: orders from the first word to the last."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.door_tws.gateway import open_gateway, status
from tests.kit.stories import eventually, run

# -- ORDERS --


def test_a_market_order_fills_with_everything_a_client_needs_to_know(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            seen: list[str] = []
            ib.orderStatusEvent += lambda trade: seen.append(status(trade))
            trade = gateway.place(ib)
            await eventually(lambda: trade.fills and trade.fills[0].commissionReport.execId)
            fill = trade.fills[0]
            assert seen[-2:] == ["PreSubmitted", "Filled"]
            assert "Submitted" not in seen
            assert (fill.execution.shares, fill.execution.price, fill.execution.side) == (10, 100.01, "BOT")
            assert fill.execution.orderRef == "s-1~1"
            assert fill.execution.permId == trade.order.permId == trade.orderStatus.permId > 0
            assert abs((fill.execution.time - datetime.now(UTC)).total_seconds()) < 10
            assert fill.commissionReport.commission == 1.0
            await eventually(lambda: [p.position for p in ib.positions()] == [10])
            assert gateway.market.ledger.lines[0]["client_order_id"] == "s-1~1"

    run(story)


def test_limit_stop_and_stop_limit_orders_rest_and_then_fill(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            limit = gateway.place(ib, "LMT", lmtPrice=95.0)
            stop = gateway.place(ib, "STP", action="SELL", auxPrice=94.0)
            stop_limit = gateway.place(ib, "STP LMT", action="SELL", auxPrice=94.0, lmtPrice=90.0)
            trail = gateway.place(ib, "TRAIL", action="SELL", trailingPercent=10.0)
            resting = [limit, stop, stop_limit, trail]
            await eventually(lambda: status(limit) == "Submitted" and status(trail) == "PreSubmitted")
            await eventually(lambda: status(stop) == status(stop_limit) == "PreSubmitted")
            open_orders = await ib.reqAllOpenOrdersAsync()
            assert {(t.order.orderType, t.order.auxPrice) for t in open_orders} >= {("STP", 94.0), ("STP LMT", 94.0)}
            gateway.market.set_price("AAPL", Decimal(90))
            await eventually(lambda: all(t.isDone() or status(t) == "Submitted" for t in resting))
            assert [status(t) for t in (limit, stop, trail)] == ["Filled"] * 3
            gateway.market.set_price("AAPL", Decimal(91))
            await eventually(lambda: status(stop_limit) == "Filled")

    run(story)


def test_a_canceled_order_says_pending_cancel_then_canceled_with_code_202(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            trade = gateway.place(ib, "LMT", lmtPrice=95.0)
            await eventually(lambda: status(trade) == "Submitted")
            ib.cancelOrder(trade.order)
            await eventually(lambda: (trade.order.orderId, 202) in ib.codes)
            said = [entry.status for entry in trade.log]
            assert said[said.index("PendingCancel") + 1] == "Cancelled"

    run(story)


def test_canceling_unknown_or_closed_orders_is_10147_or_10148(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            trade = gateway.place(ib)
            await eventually(lambda: status(trade) == "Filled")
            ib.client.cancelOrder(trade.order.orderId, "")
            ib.client.cancelOrder(4711, "")
            await eventually(lambda: {(trade.order.orderId, 10148), (4711, 10147)} <= set(ib.codes))

    run(story)


def test_the_same_order_id_modifies_a_live_order_and_is_refused_for_a_filled_one(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            trade = gateway.place(ib, "LMT", lmtPrice=95.0)
            await eventually(lambda: status(trade) == "Submitted")
            trade.order.lmtPrice = 101.0
            ib.placeOrder(trade.contract, trade.order)
            await eventually(lambda: status(trade) == "Filled")
            assert len(gateway.market.orders("ibkr")) == 1
            ib.client.placeOrder(trade.order.orderId, trade.contract, trade.order)
            await eventually(lambda: (trade.order.orderId, 104) in ib.codes)

    run(story)


@pytest.mark.parametrize(
    ("code", "order"),
    [
        (200, {"symbol": "NOPE"}),
        (201, {"quantity": 1_000_000}),
        (110, {"kind": "LMT", "lmtPrice": 99.999}),
        (10243, {"quantity": 0.5}),
        (321, {"account": "U1"}),
    ],
)
def test_a_bad_order_is_refused_under_its_own_id(sdk: Any, code: int, order: dict[str, Any]) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            trade = gateway.place(ib, **order)
            await eventually(lambda: (trade.order.orderId, code) in ib.codes)
            assert gateway.market.orders("ibkr") == []
            assert [line["event"] for line in gateway.market.ledger.lines] == ["arrived", "rejected"]

    run(story)


def test_a_what_if_order_tells_margins_and_places_nothing(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            order = sdk.Order(action="BUY", orderType="MKT", totalQuantity=10, tif="DAY")
            state = await ib.whatIfOrderAsync(gateway.stock(), order)
            assert float(state.initMarginChange) == pytest.approx(250.02, abs=0.01)
            assert gateway.market.ledger.lines == []

    run(story)


def test_everything_is_found_again_after_a_reconnect(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.place(ib, orderRef="filled")
            gateway.place(ib, "LMT", lmtPrice=90.0, orderRef="resting")
            gone = gateway.place(ib, "LMT", lmtPrice=90.0, orderRef="gone")
            await eventually(lambda: status(gone) == "Submitted")
            ib.cancelOrder(gone.order)
            await eventually(lambda: status(gone) == "Cancelled" and len(ib.fills()) == 1)
            last_id = gone.order.orderId
            ib.disconnect()
            await eventually(lambda: not gateway.door.sessions)
            again = await gateway.connect()
            assert [t.order.orderRef for t in again.openTrades()] == ["resting"]
            fills = await again.reqExecutionsAsync()
            assert [(f.execution.orderRef, f.execution.clientId) for f in fills] == [("filled", 7)]
            done = {t.order.orderRef: t for t in await again.reqCompletedOrdersAsync(False)}
            assert {ref: status(t) for ref, t in done.items()} == {"filled": "Filled", "gone": "Cancelled"}
            assert done["filled"].order.filledQuantity == 10
            assert again.client.getReqId() > last_id

    run(story)


def test_clients_see_their_own_open_orders_and_on_request_those_of_all(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            first, second = await gateway.connect(1), await gateway.connect(2)
            gateway.place(first, "LMT", lmtPrice=90.0, orderRef="mine")
            await eventually(lambda: gateway.market.orders("ibkr"))
            assert await second.reqOpenOrdersAsync() == []
            assert [t.order.orderRef for t in await second.reqAllOpenOrdersAsync()] == ["mine"]
            second.reqGlobalCancel()
            await eventually(lambda: gateway.market.orders("ibkr")[0].state == "canceled")

    run(story)
