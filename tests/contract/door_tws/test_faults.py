"""The TWS door's faults as ib_insync 0.9.86 and ib_async 2.1.0 see them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.door_tws.gateway import open_gateway, status
from tests.kit.stories import eventually, run
from worker.sandbox.faults import Fault

# -- FAULTS --


def test_a_busy_client_id_is_turned_away(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            await gateway.connect(5)
            with pytest.raises((ConnectionError, TimeoutError, asyncio.TimeoutError)):
                await gateway.connect(5, timeout=0.3)
            gateway.fault("client_id_in_use")
            with pytest.raises((ConnectionError, TimeoutError, asyncio.TimeoutError)):
                await gateway.connect(6, timeout=0.3)
            assert (await gateway.connect(6)).isConnected()

    run(story)


def test_a_gateway_without_next_valid_id_never_becomes_ready(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            gateway.fault("no_next_valid_id")
            with pytest.raises((ConnectionError, TimeoutError, asyncio.TimeoutError)):
                await gateway.connect(timeout=0.3)

    run(story)


@pytest.mark.parametrize(("kind", "taken"), [("hang", False), ("accept_hang", True)])
def test_a_swallowed_order_is_never_answered(sdk: Any, kind: str, taken: bool) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.fault(kind)
            silent, heard = gateway.place(ib, orderRef="silent"), gateway.place(ib, orderRef="heard")
            await eventually(lambda: status(heard) == "Filled")
            assert status(silent) == "PendingSubmit"
            fills = {f.execution.orderRef for f in await ib.reqExecutionsAsync()}
            assert fills == ({"silent", "heard"} if taken else {"heard"})

    run(story)


def test_an_order_taken_before_the_cut_is_found_by_its_reference(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.fault("accept_drop")
            trade = gateway.place(ib, orderRef="lost")
            await eventually(lambda: not ib.isConnected())
            assert status(trade) == "PendingSubmit"
            again = await gateway.connect()
            await eventually(lambda: gateway.market.orders("ibkr")[0].state == "filled")
            assert [f.execution.orderRef for f in await again.reqExecutionsAsync()] == ["lost"]

    run(story)


def test_noise_and_half_an_answer_leave_the_order_at_the_broker(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.fault("garbage")
            noise = gateway.place(ib, orderRef="noise")
            await eventually(lambda: noise.fills)
            assert status(noise) == "PendingSubmit"
            gateway.fault("half_reply")
            half = gateway.place(ib, orderRef="half")
            await eventually(lambda: not ib.isConnected())
            assert status(half) == "PendingSubmit"
            assert [o.client_order_id for o in gateway.market.orders("ibkr")] == ["noise", "half"]

    run(story)


def test_a_refusal_carries_its_code_and_places_nothing(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.fault("refuse", code=203, text="The security is not available for this account")
            trade = gateway.place(ib)
            await eventually(lambda: (trade.order.orderId, 203) in ib.codes)
            assert gateway.market.orders("ibkr") == []

    run(story)


@pytest.mark.parametrize("code", [399, 110, 504])
def test_an_error_code_leaves_the_order_live_only_where_ib_does(sdk: Any, code: int) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.fault("error_code", code=code, text="sandbox")
            trade = gateway.place(ib)
            await eventually(lambda: (trade.order.orderId, code) in ib.codes)
            assert len(gateway.market.orders("ibkr")) == (1 if code == 399 else 0)

    run(story)


def test_an_order_with_a_preset_notice_fills_all_the_same(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.fault("tif_preset")
            trade = gateway.place(ib)
            await eventually(lambda: trade.fills)
            assert (trade.order.orderId, 10349) in ib.codes

    run(story)


def test_a_cancel_refused_with_10148_leaves_the_order_live(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            trade = gateway.place(ib, "LMT", lmtPrice=95.0)
            await eventually(lambda: status(trade) == "Submitted")
            gateway.fault("cancel_10148")
            ib.cancelOrder(trade.order)
            await eventually(lambda: (trade.order.orderId, 10148) in ib.codes)
            assert gateway.market.orders("ibkr")[0].is_live

    run(story)


def test_fills_arrive_without_any_status_when_status_is_swallowed(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.fault("swallow_status")
            trade = gateway.place(ib)
            await eventually(lambda: trade.fills)
            assert status(trade) == "PendingSubmit"
            assert trade.filled() == 10

    run(story)


def test_a_located_order_is_inactive_first_and_filled_later(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.fault("locate_hold", seconds=0.1)
            trade = gateway.place(ib, "LMT", lmtPrice=101.0)
            await eventually(lambda: status(trade) == "Inactive")
            assert trade.orderStatus.whyHeld == "locate"
            await eventually(lambda: status(trade) == "Filled")
            assert (trade.order.orderId, 404) in ib.codes

    run(story)


def test_the_nightly_reset_keeps_the_socket_and_loses_the_news(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            trade = gateway.place(ib, "LMT", lmtPrice=95.0)
            await eventually(lambda: status(trade) == "Submitted")
            gateway.fault("nightly_reset", seconds=0.2)
            await eventually(lambda: (-1, 1100) in ib.codes)
            gateway.market.set_price("AAPL", Decimal(90))
            await eventually(lambda: (-1, 1102) in ib.codes)
            assert ib.isConnected()
            assert (status(trade), trade.fills) == ("Submitted", [])
            assert len(await ib.reqExecutionsAsync()) == 1

    run(story)


def test_a_door_that_is_down_refuses_connections_until_cleared(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            port = gateway.door.port
            gateway.fault("down", count=None)
            await eventually(lambda: not ib.isConnected())
            with pytest.raises(OSError):  # noqa: PT011 - refused, whatever the words
                await gateway.connect(timeout=0.3)
            gateway.market.faults.clear("ibkr")
            await eventually(lambda: gateway.door._server is not None)
            assert gateway.door.port == port
            assert (await gateway.connect()).isConnected()

    run(story)


def test_slow_disconnect_and_rejection_after_acceptance(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.fault("slow", seconds=0.15)
            slow = gateway.place(ib)
            await eventually(lambda: [o.state for o in gateway.market.orders("ibkr")] == ["filled"])
            assert status(slow) == "PendingSubmit"
            await eventually(lambda: status(slow) == "Filled")
            gateway.fault("reject_after_accept", text="no shares")
            rejected = gateway.place(ib)
            await eventually(lambda: (rejected.order.orderId, 201) in ib.codes)
            assert "Inactive" in [entry.status for entry in rejected.log]
            gateway.fault("disconnect")
            await eventually(lambda: not ib.isConnected())
            assert gateway.market.faults.all() == []

    run(story)


def test_requests_can_hang_or_fail_one_by_one(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            gateway.market.faults.add(Fault("ibkr", "hang", 1, operation="positions"))
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(ib.reqPositionsAsync(), 0.1)
            gateway.market.faults.add(
                Fault("ibkr", "error_code", 1, operation="bars", options={"code": 162, "text": "pacing violation"})
            )
            with pytest.raises(Exception, match="pacing violation"):
                await ib.reqHistoricalDataAsync(gateway.stock(), "", "1 D", "1 day", "TRADES", True)
            gateway.fault("mute_executions")
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(ib.reqExecutionsAsync(), 0.1)

    run(story)
