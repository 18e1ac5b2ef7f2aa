"""The TWS door as ib_insync 0.9.86 and ib_async 2.1.0 see it, and the wire itself where an SDK would hide it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from worker.sandbox.faults import Fault
from worker.sandbox.market.market import Market
from worker.sandbox.tws.door import TwsDoor

SDKS = ("ib_insync", "ib_async")


@pytest.fixture(autouse=True)
def _decoders_stay_silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Both SDKs swallow a frame they cannot read and only log it."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [r.getMessage() for r in caplog.records if r.name.endswith(".Decoder")] == []


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


async def eventually(condition: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Wait until the condition gives something true and return it."""
    async with asyncio.timeout(timeout):
        while not (found := condition()):
            await asyncio.sleep(0.005)
        return found


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(8):
            await story()

    asyncio.run(bounded())


@dataclass
class Gateway:
    """A market with AAPL at 100.00, its TWS door, and clients of one SDK."""

    sdk: Any
    market: Market
    door: TwsDoor
    clients: list[Any] = field(default_factory=list)

    async def connect(self, client_id: int = 7, timeout: float = 5) -> Any:
        ib = self.sdk.IB()
        ib.RaiseRequestErrors = True
        self.clients.append(ib)
        ib.codes = []
        ib.errorEvent += lambda number, code, text, contract: ib.codes.append((number, code))
        await ib.connectAsync("127.0.0.1", self.door.port, clientId=client_id, timeout=timeout)
        return ib

    def stock(self, symbol: str = "AAPL") -> Any:
        return self.sdk.Stock(symbol, "SMART", "USD")

    def place(self, ib: Any, kind: str = "MKT", quantity: float = 10, symbol: str = "AAPL", **fields: Any) -> Any:
        base = {"action": "BUY", "tif": "DAY", "orderRef": "s-1~1", "totalQuantity": quantity, "orderType": kind}
        return ib.placeOrder(self.stock(symbol), self.sdk.Order(**{**base, **fields}))

    def fault(self, kind: str, count: int | None = 1, **options: Any) -> None:
        self.market.faults.add(Fault("ibkr", kind, count, options=options))


@asynccontextmanager
async def open_gateway(sdk: Any = None) -> AsyncIterator[Gateway]:
    market = Market(fill_delay=0.005)
    market.set_price("AAPL", Decimal(100))
    door = TwsDoor(market, "ibkr")
    await door.start("127.0.0.1", 0)
    gateway = Gateway(sdk, market, door)
    try:
        yield gateway
    finally:
        for ib in gateway.clients:
            ib.disconnect()
        await door.stop()
        market.close()


def status(trade: Any) -> str:
    return str(trade.orderStatus.status)


# -- CONNECTING AND READING --


def test_connect_reads_account_and_positions(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            gateway.market.set_position("ibkr", "BRK.B", Decimal(5))
            ib = await gateway.connect()
            assert ib.client.serverVersion() == 176
            assert ib.managedAccounts() == ["DU1000001"]
            assert [(p.contract.symbol, p.position) for p in ib.positions()] == [("BRK B", 5)]
            values = {v.tag: v.value for v in ib.accountValues() if v.currency == "USD"}
            assert values["TotalCashValue"] == "1000000.00"
            summary = {v.tag: v.value for v in await ib.accountSummaryAsync()}
            assert summary["NetLiquidation"] == values["NetLiquidation"]
            assert [i.contract.symbol for i in ib.portfolio()] == ["BRK B"]
            assert abs((await ib.reqCurrentTimeAsync()).timestamp() - datetime.now(UTC).timestamp()) < 5

    run(story)


def test_contracts_qualify_in_ib_spelling_and_unknown_ones_are_an_error_200(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            apple, berkshire = gateway.stock(), gateway.stock("BRK B")
            await ib.qualifyContractsAsync(apple, berkshire)
            assert (apple.conId, apple.primaryExchange) == (265598, "NASDAQ")
            assert berkshire.conId > 0
            with pytest.raises(Exception, match="200"):
                await ib.reqContractDetailsAsync(gateway.stock("NOPE"))

    run(story)


def test_quotes_come_as_snapshot_and_as_stream(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            stock = gateway.stock()
            await ib.qualifyContractsAsync(stock)  # ib_async wants it
            (ticker,) = await ib.reqTickersAsync(stock)
            assert (ticker.bid, ticker.ask, ticker.last) == (99.99, 100.01, 100.0)
            assert ticker.close > 0
            live = ib.reqMktData(stock, "", False, False)
            await eventually(lambda: live.bid == 99.99)
            gateway.market.set_price("AAPL", Decimal(120))
            await eventually(lambda: live.ask == 120.01)

    run(story)


@pytest.mark.parametrize(
    ("size", "duration", "count"),
    [("1 day", "20 D", 20), ("1 min", "1 D", 390), ("1 hour", "2 D", 14), ("30 secs", "600 S", 20), ("1W", "4 W", 5)],
)
def test_bars_have_the_asked_size_and_duration(sdk: Any, size: str, duration: str, count: int) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            end = "20260114 16:00:00 US/Eastern"
            ask = (gateway.stock(), end, duration, size, "TRADES", True)
            bars = await ib.reqHistoricalDataAsync(*ask, 1)
            seconds = await ib.reqHistoricalDataAsync(*ask, 2)
            assert len(bars) == count
            assert [b.close for b in bars] == [b.close for b in seconds]
            if "min" in size:
                assert bars[0].date.astimezone(UTC) == seconds[0].date.astimezone(UTC)

    run(story)


def test_bars_without_data_are_an_error_162_and_a_bad_request_a_321(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            with pytest.raises(Exception, match="162"):
                await ib.reqHistoricalDataAsync(
                    gateway.stock(), "19990101 00:00:00 US/Eastern", "1 D", "1 day", "TRADES", True
                )
            # ib_async takes 321 for a warning and waits on.
            bad = ib.reqHistoricalDataAsync(gateway.stock(), "", "400 D", "1 day", "TRADES", True, timeout=0.2)
            await asyncio.gather(bad, return_exceptions=True)
            assert 321 in [code for _, code in ib.codes]

    run(story)


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


# -- THE WIRE --


class RawClient:
    """Speaks the wire without an SDK."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, versions: str, client_id: int = 1) -> tuple[RawClient, list[str]]:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.writer.write(b"API\0" + struct.pack(">I", len(versions)) + versions.encode())
        hello = await client.receive()
        client.send(71, 2, client_id, "")
        return client, hello

    def send(self, *fields: object) -> None:
        payload = "".join(f"{f}\0" for f in fields).encode()
        self.writer.write(struct.pack(">I", len(payload)) + payload)

    async def receive(self, kind: str | None = None) -> list[str]:
        async with asyncio.timeout(5):
            while True:
                (length,) = struct.unpack(">I", await self.reader.readexactly(4))
                fields = (await self.reader.readexactly(length)).decode().split("\0")[:-1]
                if kind is None or fields[0] == kind:
                    return fields


def _market_order(order_id: int, version: int, unset: str) -> list[object]:
    """Return placeOrder the way the official client writes it, unset numbers as literals."""
    contract = [0, "AAPL", "STK", "", "0.0", "", "", "SMART", "", "USD", "", ""]
    head = [3, order_id, *contract, "", "", "BUY", 10, "MKT", unset, unset, "DAY", "", "", "", 0, "ref-1", 1, 0, 0, 0]
    head += [0, 0, 0, 0, "", 0, "", "", "", "", "", "", "", 0, "", -1, 0, "", "", 0, 2147483647, unset, 0, 0, unset]
    head += [0, unset, unset, unset, unset, unset, 0, unset, 2147483647, "", unset, 0, 2147483647, unset, unset]
    head += [2147483647, 2147483647, unset, "", "", "", "", 0, "", "", 0, 0, "", "", 0, "", 0, 0, 0, 0, "", unset]
    head += [unset, unset, unset, unset, 0, "", "", "", unset, "", "", "", "", 0, 0, 0, 2147483647]
    return [*head, *("" for gate in (158, 160, 162, 166, 169) if version >= gate)]


@pytest.mark.parametrize(("version", "open_fields", "completed_fields"), [(164, 131, 96), (176, 136, 101)])
def test_long_messages_have_the_recorded_number_of_fields(
    version: int, open_fields: int, completed_fields: int
) -> None:
    async def story() -> None:
        async with open_gateway() as gateway:
            client, hello = await RawClient.connect(gateway.door.port, f"v157..{version}")
            assert (hello[0], len(hello)) == (str(version), 2)
            client.send(*_market_order(1, version, "1.7976931348623157e+308"))
            opened = await client.receive("5")
            assert len(opened) == open_fields
            assert (opened[23], opened[94]) == ("ref-1", "PreSubmitted")
            assert len(await client.receive("3")) == 12
            assert len(await client.receive("11")) == 31
            assert len(await client.receive("59")) == 8
            client.send(99, 0)
            completed = await client.receive("101")
            assert len(completed) == completed_fields
            assert (completed[87], completed[95]) == ("10", "Filled Size: 10")
            client.writer.close()

    run(story)


def test_the_order_of_messages_is_that_of_a_recorded_market_order() -> None:
    async def story() -> None:
        async with open_gateway() as gateway:
            client, _ = await RawClient.connect(gateway.door.port, "v157..176")
            client.send(*_market_order(1, 176, ""))
            first = await client.receive("5")
            kinds = [(first[0], first[94])]
            while kinds[-1][0] != "59":
                fields = await client.receive()
                kinds.append((fields[0], {"5": 94, "3": 2}.get(fields[0]) and fields[{"5": 94, "3": 2}[fields[0]]]))
            assert [(kind, status or "") for kind, status in kinds] == [
                ("5", "PreSubmitted"),
                ("3", "PreSubmitted"),
                ("11", ""),
                ("5", "Filled"),
                ("3", "Filled"),
                ("5", "Filled"),
                ("59", ""),
            ]
            client.writer.close()

    run(story)


def test_duplicated_status_lines_and_rolled_back_ids_are_sent_on_request() -> None:
    async def story() -> None:
        async with open_gateway() as gateway:
            client, _ = await RawClient.connect(gateway.door.port, "v157..176")
            assert (await client.receive("9"))[2] == "1"
            gateway.fault("duplicate_status")
            client.send(*_market_order(1, 176, ""))
            first, second = await client.receive("3"), await client.receive("3")
            assert first == second
            await client.receive("59")
            client.send(8, 1, 1)
            assert (await client.receive("9"))[2] == "2"
            gateway.fault("rollback_next_valid_id", by=1)
            client.send(8, 1, 1)
            assert (await client.receive("9"))[2] == "1"
            client.send(*_market_order(1, 176, ""))
            assert (await client.receive("4"))[2:4] == ["1", "104"]
            client.writer.close()

    run(story)


def test_garbage_is_answered_or_cut_and_harms_no_one_else() -> None:
    async def story() -> None:
        async with open_gateway() as gateway:
            client, _ = await RawClient.connect(gateway.door.port, "v157..176")
            stranger, writer = await asyncio.open_connection("127.0.0.1", gateway.door.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await stranger.read() == b""
            writer.close()
            client.send(3, 1, "not", "an", "order")
            await client.receive("9")
            error = await client.receive("4")
            while error[3] != "320":
                error = await client.receive("4")
            client.send(49, 1)
            assert await client.receive("49")
            client.writer.close()

    run(story)
