"""ib_insync or ib_async (the second argument names it) against the TWS door, from a process of its own."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Callable
from typing import Any

from driver import PORTS, Complaints, control, report

NAME = sys.argv[2]
asyncio.set_event_loop(asyncio.new_event_loop())  # ib_insync wants one at import
sdk: Any = importlib.import_module(NAME)
complaints: list[str] = []
codes: set[tuple[int, int]] = set()


async def eventually(look: Callable[[], Any], what: str) -> Any:
    for _ in range(800):
        if found := look():
            return found
        await asyncio.sleep(0.01)
    raise TimeoutError(f"it never happened: {what}")


def stock(symbol: str = "AAPL") -> Any:
    return sdk.Stock(symbol, "SMART", "USD")


def order(kind: str = "MKT", action: str = "BUY", quantity: float = 10, **more: Any) -> Any:
    return sdk.Order(orderType=kind, action=action, totalQuantity=quantity, tif=more.pop("tif", "DAY"), **more)


async def story() -> dict[str, Any]:
    control("/price", symbol="AAPL", price="100")
    control("/position", door="ibkr", symbol="BRK.B", quantity="5")
    ib = sdk.IB()
    ib.RaiseRequestErrors = True
    ib.errorEvent += lambda number, code, *_: codes.add((number, code))
    await ib.connectAsync("127.0.0.1", PORTS["ibkr"], clientId=42, timeout=20)
    seen: dict[str, Any] = {"server_version": ib.client.serverVersion(), "accounts": ib.managedAccounts()}
    seen["summary"] = {v.tag: [v.value, v.currency] for v in await ib.accountSummaryAsync()}
    seen["positions"] = [[p.account, p.contract.symbol, p.position] for p in ib.positions()]
    seen["portfolio"] = [[item.contract.symbol, item.position] for item in ib.portfolio()]
    seen["time"] = (await ib.reqCurrentTimeAsync()).timestamp()
    await contracts_and_prices(ib, seen)
    await orders(ib, seen)
    seen["executions"] = sorted(
        [f.execution.orderRef, f.execution.shares] for f in await ib.reqExecutionsAsync() if f.execution.clientId == 42
    )
    done = await ib.reqCompletedOrdersAsync(False)
    seen["completed"] = sorted([t.order.orderRef, t.orderStatus.status, t.order.filledQuantity] for t in done)
    ib.disconnect()
    return seen | {"complaints": complaints, "codes": sorted(codes)}


async def contracts_and_prices(ib: Any, seen: dict[str, Any]) -> None:
    apple = stock()
    await ib.qualifyContractsAsync(apple)
    seen["contract"] = [apple.conId, apple.primaryExchange]
    seen["unknown"] = await _refused(ib.reqContractDetailsAsync(stock("NOPE")))
    (ticker,) = await ib.reqTickersAsync(apple)
    seen["quote"] = [ticker.bid, ticker.ask, ticker.last]
    ask = ("20260114 16:00:00 US/Eastern", "5 D", "1 day", "TRADES", True)
    bars = await ib.reqHistoricalDataAsync(apple, *ask, 1)
    seen["bars"] = [[b.date, b.open, b.high, b.low, b.close, b.volume, b.average, b.barCount] for b in bars]


async def _refused(request: Any) -> Any:
    try:
        return await request
    except Exception as error:
        return getattr(error, "code", type(error).__name__)


async def orders(ib: Any, seen: dict[str, Any]) -> None:
    trade = ib.placeOrder(stock(), order(orderRef="market"))
    await eventually(lambda: trade.fills and trade.fills[0].commissionReport.execId, "the market order fills")
    fill = trade.fills[0]
    seen["fill"] = [fill.contract.symbol, fill.execution.side, fill.execution.shares, fill.execution.price]
    seen["fill_ids"] = [fill.execution.orderRef, fill.execution.permId == trade.order.permId > 0]
    seen["commission"] = [fill.commissionReport.commission, fill.commissionReport.currency]
    seen["market_status"] = trade.orderStatus.status

    limit = ib.placeOrder(stock(), order("LMT", lmtPrice=95.0, orderRef="limit"))
    await eventually(lambda: limit.orderStatus.status == "Submitted", "the limit order works")
    limit.order.lmtPrice = 96.5
    ib.placeOrder(limit.contract, limit.order)
    # News about the change may fall into the listing: an order can be in it twice.
    listed = await ib.reqAllOpenOrdersAsync()
    seen["modified"] = sorted({t.order.lmtPrice for t in listed if t.order.orderRef == "limit"})
    ib.cancelOrder(limit.order)
    await eventually(lambda: (limit.order.orderId, 202) in codes, "the cancel is told with 202")
    seen["limit_status"] = limit.orderStatus.status

    kinds = {
        "stop": order("STP", "SELL", auxPrice=90.0),
        "stop_limit": order("STP LMT", "SELL", auxPrice=90.0, lmtPrice=89.5),
        "trail": order("TRAIL", "SELL", auxPrice=3.0),
        "trail_percent": order("TRAIL", "SELL", trailingPercent=5.0),
        "gtc": order("LMT", lmtPrice=50.0, tif="GTC", outsideRth=True),
    }
    trades = {name: ib.placeOrder(stock(), wanted) for name, wanted in kinds.items()}
    await eventually(lambda: all(t.orderStatus.permId for t in trades.values()), "resting orders are told")
    seen["resting"] = {name: t.orderStatus.status for name, t in trades.items()}
    seen["open"] = sorted({(t.order.orderId, t.order.orderType) for t in await ib.reqAllOpenOrdersAsync()})
    ib.reqGlobalCancel()
    await eventually(lambda: all(t.orderStatus.status == "Cancelled" for t in trades.values()), "all are canceled")

    refused = {200: (stock("NOPE"), order()), 201: (stock(), order(quantity=10_000_000))}
    for code, (contract, wanted) in refused.items():
        bad = ib.placeOrder(contract, wanted)
        await eventually(lambda b=bad, c=code: (b.order.orderId, c) in codes, f"refusal {code}")
    seen["refused"] = sorted(refused)


decoder = logging.getLogger(f"{NAME}.Decoder")  # the only one that tells of a message it cannot read
decoder.addHandler(Complaints(complaints))
report(asyncio.get_event_loop().run_until_complete(story()))
