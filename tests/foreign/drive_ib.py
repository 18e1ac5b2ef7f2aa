"""ib_insync or ib_async (the second argument names it) against the TWS door, from a process of its own."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
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
    control("/price", symbol="KO", price="60")
    await packages(ib, seen)
    await linked(ib, seen)
    await rarer_kinds(ib, seen)
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


# -- PACKAGES, LINKED ORDERS, RARER KINDS --
async def packages(ib: Any, seen: dict[str, Any]) -> None:
    under = stock("KO")
    await ib.qualifyContractsAsync(under)
    (first, *_) = await ib.reqSecDefOptParamsAsync("KO", "", "STK", under.conId)
    day, strikes = min(first.expirations), sorted(sorted(first.strikes, key=lambda strike: abs(strike - 60))[:2])
    calls = [sdk.Option("KO", day, strike, "C", "SMART") for strike in strikes]
    await ib.qualifyContractsAsync(*calls)
    seen["chain"] = [str(first.multiplier), all(call.conId > 0 for call in calls)]
    legs = [
        sdk.ComboLeg(conId=call.conId, ratio=1, action=action, exchange="SMART")
        for call, action in zip(calls, ("BUY", "SELL"), strict=True)
    ]
    bag = sdk.Bag(symbol="KO", exchange="SMART", currency="USD", comboLegs=legs)
    state = await ib.whatIfOrderAsync(bag, order("LMT", quantity=2, lmtPrice=3.0))
    seen["package_what_if"] = [float(state.initMarginChange) > 0, float(state.initMarginAfter) > 0]
    trade = ib.placeOrder(bag, order("LMT", quantity=2, lmtPrice=5.0, orderRef="vertical"))
    await eventually(lambda: trade.orderStatus.status == "Filled" and len(trade.fills) > 2, "the vertical is bought")
    rows = [(fill.contract, fill.execution) for fill in trade.fills]
    seen["package"] = sorted([c.secType, e.side, e.shares] for c, e in rows)
    prices = {c.conId: e.price for c, e in rows}
    net = prices[calls[0].conId] - prices[calls[1].conId]
    seen["package_net"] = all(abs(e.price - net) < 0.001 for c, e in rows if c.secType == "BAG")


async def linked(ib: Any, seen: dict[str, Any]) -> None:
    bracket = ib.bracketOrder("BUY", 10, limitPrice=61.0, takeProfitPrice=66.0, stopLossPrice=55.0)
    trades = [ib.placeOrder(stock("KO"), one) for one in bracket]
    now = lambda: [trade.orderStatus.status for trade in trades]  # noqa: E731
    await eventually(lambda: now()[:2] == ["Filled", "Submitted"], "the exits wake")
    control("/price", symbol="KO", price="67")
    await eventually(lambda: now()[1:] == ["Filled", "Cancelled"], "one exit ends the other")
    seen["bracket"] = now()
    pair = ib.oneCancelsAll([order("LMT", lmtPrice=price) for price in (50.0, 51.0)], "pair", 1)
    both = [ib.placeOrder(stock("KO"), one) for one in pair]
    await eventually(lambda: all(trade.orderStatus.status == "Submitted" for trade in both), "both work")
    ib.cancelOrder(both[0].order)
    await eventually(lambda: all(trade.orderStatus.status == "Cancelled" for trade in both), "one ends the other")
    seen["oca"] = [trade.orderStatus.status for trade in both]


async def rarer_kinds(ib: Any, seen: dict[str, Any]) -> None:
    until = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y%m%d-%H:%M:%S")
    patient = [sdk.TagValue("adaptivePriority", "Patient")]
    kinds = {
        "gtd": order("LMT", lmtPrice=40.0, tif="GTD", goodTillDate=until),
        "if_touched": order("MIT", auxPrice=40.0),
        "trail_limit": order("TRAIL LIMIT", "SELL", auxPrice=3.0, trailStopPrice=50.0, lmtPriceOffset=0.25),
        "adaptive": order("LMT", lmtPrice=40.0, algoStrategy="Adaptive", algoParams=patient),
    }
    trades = {name: ib.placeOrder(stock("KO"), wanted) for name, wanted in kinds.items()}
    await eventually(lambda: all(t.orderStatus.permId for t in trades.values()), "the rarer kinds are told")
    shown = {t.order.orderId: t.order for t in await ib.reqAllOpenOrdersAsync()}
    of = {name: shown[trade.order.orderId] for name, trade in trades.items()}
    seen["rarer"] = {name: [one.orderType, one.tif] for name, one in of.items()}
    seen["algo"] = [of["adaptive"].algoStrategy, of["adaptive"].algoParams[0].value]
    for trade in trades.values():
        ib.cancelOrder(trade.order)
    await eventually(lambda: all(t.orderStatus.status == "Cancelled" for t in trades.values()), "all are canceled")


decoder = logging.getLogger(f"{NAME}.Decoder")  # the only one that tells of a message it cannot read
decoder.addHandler(Complaints(complaints))
report(asyncio.get_event_loop().run_until_complete(story()))
