"""alpaca-py against the Alpaca door: strict pydantic models of everything the door answers, and its TradingStream."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.requests import (
    StockBarsRequest,
    StockLatestBarRequest,
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
    StockSnapshotRequest,
)
from alpaca.data.timeframe import TimeFrame
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetAssetsRequest,
    GetCalendarRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
    StopOrderRequest,
    TrailingStopOrderRequest,
)
from alpaca.trading.stream import TradingStream
from driver import PORTS, Complaints, control, eventually, refusal, report, url

BUY = {"symbol": "AAPL", "qty": 10, "side": OrderSide.BUY, "time_in_force": TimeInForce.DAY}
SELL = {**BUY, "side": OrderSide.SELL}


class AlpacaPyStream(TradingStream):
    """The SDK's stream, which tells when it is being listened to."""

    def __init__(self) -> None:
        address = f"ws://127.0.0.1:{PORTS['alpaca']}/stream"
        super().__init__("k", "s", paper=True, url_override=address)
        self.listening = threading.Event()
        self.updates: list[Any] = []

    async def _dispatch(self, msg: dict[str, Any]) -> None:
        await super()._dispatch(msg)
        if msg.get("stream") == "listening":
            self.listening.set()

    async def collect(self, update: Any) -> None:
        self.updates.append(update)

    def of(self, order: Any) -> list[Any]:
        return [u for u in self.updates if u.order.id == order.id]

    def events(self, order: Any) -> list[str]:
        return [getattr(u.event, "value", u.event) for u in self.of(order)]


def main() -> None:
    control("/price", symbol="AAPL", price="100")
    control("/position", door="alpaca", symbol="MSFT", quantity="7")
    api = TradingClient("k", "s", paper=True, url_override=url("alpaca"))
    data = StockHistoricalDataClient("k", "s", url_override=url("alpaca"))
    complaints: list[str] = []
    logging.getLogger("alpaca.trading.stream").addHandler(Complaints(complaints))
    stream = AlpacaPyStream()
    stream.subscribe_trade_updates(stream.collect)
    threading.Thread(target=stream.run, daemon=True).start()
    assert stream.listening.wait(10), "never listened"
    seen: dict[str, Any] = {"complaints": complaints}
    reading(api, seen)
    prices(data, seen)
    orders(api, stream, seen)
    refusals(api, data, seen)
    report(seen)


def reading(api: Any, seen: dict[str, Any]) -> None:
    account = api.get_account()
    seen["account"] = [account.account_number, account.status.value, account.cash, account.buying_power]
    (held,) = api.get_all_positions()
    one = api.get_open_position("MSFT")
    assert one == api.get_open_position(one.asset_id) == held
    seen["position"] = [held.symbol, held.qty, held.side.value, held.qty_available]
    clock = api.get_clock()
    seen["clock"] = [clock.is_open, clock.next_close > clock.timestamp]
    week = GetCalendarRequest(start=date(2026, 1, 5), end=date(2026, 1, 9))
    seen["calendar"] = [[day.date, day.open, day.close] for day in api.get_calendar(week)]
    asset = api.get_asset("AAPL")
    seen["asset"] = [asset.symbol, asset.exchange.value, asset.tradable, asset.fractionable]
    seen["assets"] = len(api.get_all_assets(GetAssetsRequest()))


def prices(data: Any, seen: dict[str, Any]) -> None:
    quote = data.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols="AAPL"))["AAPL"]
    seen["quote"] = [quote.bid_price, quote.ask_price, quote.bid_size]
    seen["trade"] = data.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols="AAPL"))["AAPL"].price
    seen["bar"] = data.get_stock_latest_bar(StockLatestBarRequest(symbol_or_symbols=["AAPL", "SPY"]))["SPY"].symbol
    snapshot = data.get_stock_snapshot(StockSnapshotRequest(symbol_or_symbols=["AAPL"]))["AAPL"]
    seen["snapshot"] = [snapshot.latest_quote.ask_price, snapshot.daily_bar.volume > 0]
    start, end = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 17, tzinfo=UTC)
    asked = StockBarsRequest(symbol_or_symbols=["AAPL", "SPY"], timeframe=TimeFrame.Day, start=start, end=end)
    frame = data.get_stock_bars(asked).df
    rows = zip(frame.index, frame.values.tolist(), strict=True)
    seen["bars"] = [[symbol, at.isoformat(), *row] for (symbol, at), row in rows]
    minutes = StockBarsRequest(symbol_or_symbols="AAPL", timeframe=TimeFrame.Minute, start=start, end=end)
    seen["minutes"] = len(data.get_stock_bars(minutes)["AAPL"])  # more than a page


def orders(api: Any, stream: AlpacaPyStream, seen: dict[str, Any]) -> None:
    market = api.submit_order(MarketOrderRequest(**BUY, client_order_id="py-1"))
    eventually(lambda: "fill" in stream.events(market), "the stream tells the fill")
    fill = next(u for u in stream.of(market) if u.event == "fill")
    seen["market_events"] = stream.events(market)
    seen["fill"] = [fill.price, fill.qty, fill.position_qty, fill.order.filled_avg_price, fill.order.status.value]
    found = api.get_order_by_client_id("py-1")
    assert found == api.get_order_by_id(market.id)
    seen["found"] = [found.status.value, found.filled_qty, found.filled_avg_price]
    (activity,) = api.get("/account/activities/FILL")
    seen["activity"] = [activity["order_id"] == str(market.id), activity["qty"], activity["price"]]
    seen["execution"] = activity["id"].endswith(str(fill.execution_id))

    asked = {
        "limit": LimitOrderRequest(**BUY, limit_price=95.5),
        "stop": StopOrderRequest(**SELL | {"qty": 2}, stop_price=90),
        "stop_limit": StopLimitOrderRequest(**SELL | {"qty": 2}, stop_price=90, limit_price=89.5),
        "trail_price": TrailingStopOrderRequest(**SELL | {"qty": 2}, trail_price=3),
        "trail_percent": TrailingStopOrderRequest(**SELL | {"qty": 2}, trail_percent=5),
        "gtc": LimitOrderRequest(**BUY | {"time_in_force": TimeInForce.GTC}, limit_price=50),
    }
    resting = {name: api.submit_order(request) for name, request in asked.items()}
    eventually(lambda: all("new" in stream.events(order) for order in resting.values()), "all are new")
    now = {name: api.get_order_by_id(order.id) for name, order in resting.items()}
    seen["resting"] = {
        name: [o.type.value, o.status.value, o.limit_price, o.stop_price, o.trail_price, o.trail_percent, o.hwm]
        for name, o in now.items()
    }
    since = GetOrdersRequest(status=QueryOrderStatus.ALL, after=market.submitted_at, until=datetime.now(UTC))
    seen["listed"] = len(api.get_orders(since))
    seen["open"] = len(api.get_orders())

    limit = resting["limit"]
    changed = api.replace_order_by_id(limit.id, ReplaceOrderRequest(qty=5, limit_price=96.25))
    eventually(lambda: "new" in stream.events(changed), "the replacement works")
    old = api.get_order_by_id(limit.id)
    seen["replaced"] = [changed.qty, changed.limit_price, changed.replaces == limit.id, old.replaced_by == changed.id]
    seen["replaced_events"] = stream.events(limit)
    seen["replaced_status"] = old.status.value
    api.cancel_order_by_id(changed.id)
    eventually(lambda: "canceled" in stream.events(changed), "the cancel is told")
    seen["canceled_events"] = stream.events(changed)
    gone = api.get_order_by_id(changed.id)
    seen["canceled"] = [gone.status.value, gone.canceled_at is not None]
    seen["cancel_again"] = refusal(lambda: api.cancel_order_by_id(changed.id))

    control("/faults", door="alpaca", kind="partial", count=1)
    part = api.submit_order(LimitOrderRequest(**BUY, limit_price=101))
    eventually(lambda: "partial_fill" in stream.events(part), "half is filled")
    half = api.get_order_by_id(part.id)
    seen["partial"] = [half.status.value, half.filled_qty]
    statuses = {answer.status for answer in api.cancel_orders()}
    seen["cancel_all"] = sorted(statuses)
    eventually(lambda: not api.get_orders(), "nothing is open")

    closed = api.close_position("MSFT", close_options=ClosePositionRequest(qty="3"))
    eventually(lambda: api.get_order_by_id(closed.id).status.value == "filled", "a part is closed")
    seen["closed"] = [closed.side.value, closed.qty, api.get_open_position("MSFT").qty]
    answers = api.close_all_positions(cancel_orders=True)
    seen["close_all"] = sorted([a.symbol, a.status] for a in answers)
    eventually(lambda: not api.get_all_positions(), "nothing is held")
    last = GetOrdersRequest(status=QueryOrderStatus.CLOSED, limit=500, after=datetime.now(UTC) - timedelta(days=1))
    seen["all_orders"] = [[str(o.id), o.status.value, o.filled_qty] for o in api.get_orders(last)]


def refusals(api: Any, data: Any, seen: dict[str, Any]) -> None:
    wrong = TradingClient("wrong", "wrong", paper=True, url_override=url("alpaca"))
    nothing = StockLatestQuoteRequest(symbol_or_symbols="NOPE")
    seen["refused"] = {
        "symbol": refusal(lambda: api.submit_order(MarketOrderRequest(**BUY | {"symbol": "NOPE"}))),
        "funds": refusal(lambda: api.submit_order(MarketOrderRequest(**BUY | {"qty": 1_000_000}))),
        "twice": refusal(lambda: api.submit_order(MarketOrderRequest(**BUY, client_order_id="py-1"))),
        "sub_penny": refusal(lambda: api.submit_order(LimitOrderRequest(**BUY, limit_price=99.999))),
        "order": refusal(lambda: api.get_order_by_id("00000000-0000-0000-0000-000000000001")),
        "client_id": refusal(lambda: api.get_order_by_client_id("nobody")),
        "position": refusal(lambda: api.get_open_position("TSLA")),
        "asset": refusal(lambda: api.get_asset("NOPE")),
        "keys": refusal(wrong.get_account),
    }
    seen["unknown_quote"] = sorted(data.get_stock_latest_quote(nothing))


main()
