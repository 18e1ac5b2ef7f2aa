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
from alpaca.trading.enums import ContractType, OrderClass, OrderSide, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetAssetsRequest,
    GetCalendarRequest,
    GetOptionContractsRequest,
    GetOrderByIdRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    OptionLegRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
    StopLossRequest,
    StopOrderRequest,
    TakeProfitRequest,
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
    control("/price", symbol="KO", price="60")
    linked(api, seen)
    options(api, seen)
    money(api, seen)
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


# -- LINKED ORDERS, OPTIONS, MONEY ---
def reach(api: Any, order: Any, *statuses: str) -> Any:
    """Wait until an order has a status; returns it with its legs."""
    nested = GetOrderByIdRequest(nested=True)
    look = lambda: api.get_order_by_id(order.id, nested)  # noqa: E731
    eventually(lambda: look().status.value in statuses, f"{statuses}")
    return look()


def ends(api: Any, order: Any) -> list[str]:
    return sorted(leg.status.value for leg in api.get_order_by_id(order.id, GetOrderByIdRequest(nested=True)).legs)


def linked(api: Any, seen: dict[str, Any]) -> None:
    usual = {"symbol": "KO", "qty": 10, "time_in_force": TimeInForce.GTC}
    target, stop = TakeProfitRequest(limit_price=66), StopLossRequest(stop_price=55, limit_price=54.5)
    asked = MarketOrderRequest(
        **usual, side=OrderSide.BUY, order_class=OrderClass.BRACKET, take_profit=target, stop_loss=stop
    )
    bracket = api.submit_order(asked)
    seen["bracket_legs"] = sorted(
        [leg.type.value, leg.side.value, leg.qty, leg.limit_price, leg.stop_price] for leg in bracket.legs
    )
    reach(api, bracket, "filled")
    control("/price", symbol="KO", price="67")
    eventually(lambda: ends(api, bracket) == ["canceled", "filled"], "one exit ends the other")
    seen["bracket"] = [api.get_order_by_id(bracket.id).order_class.value, ends(api, bracket)]

    reach(api, api.submit_order(MarketOrderRequest(**usual, side=OrderSide.BUY)), "filled")
    exits = {"take_profit": TakeProfitRequest(limit_price=90), "stop_loss": StopLossRequest(stop_price=55)}
    pair = api.submit_order(LimitOrderRequest(**usual, side=OrderSide.SELL, order_class=OrderClass.OCO, **exits))
    reach(api, pair, "new")
    seen["oco"] = [pair.order_class.value, pair.limit_price, [leg.stop_price for leg in pair.legs]]
    control("/price", symbol="KO", price="54")
    reach(api, pair, "canceled")
    seen["oco_ends"] = ends(api, pair)

    exits = {"order_class": OrderClass.OTO, "stop_loss": StopLossRequest(stop_price=35)}
    then = LimitOrderRequest(**usual, side=OrderSide.BUY, limit_price=40, **exits)
    waiting = reach(api, api.submit_order(then), "new")
    seen["oto"] = [leg.status.value for leg in waiting.legs]
    api.cancel_order_by_id(waiting.id)
    reach(api, waiting, "canceled")
    seen["oto_ends"] = ends(api, waiting)


def options(api: Any, seen: dict[str, Any]) -> None:
    control("/price", symbol="KO", price="60")
    asked = GetOptionContractsRequest(underlying_symbols=["KO"], type=ContractType.CALL)
    found = api.get_option_contracts(asked).option_contracts
    low, high = sorted(sorted(found, key=lambda c: abs(c.strike_price - 60))[:2], key=lambda c: c.strike_price)
    one = api.get_option_contract(low.symbol)
    seen["contract"] = [one.symbol == low.symbol, one.underlying_symbol, one.type.value, one.size]
    call = {"symbol": low.symbol, "qty": 1, "side": OrderSide.BUY, "time_in_force": TimeInForce.DAY}
    bought = reach(api, api.submit_order(MarketOrderRequest(**call, position_intent="buy_to_open")), "filled")
    seen["option"] = [bought.asset_class.value, bought.position_intent.value, bought.filled_qty]
    legs = [
        OptionLegRequest(symbol=low.symbol, ratio_qty=1, side=OrderSide.BUY),
        OptionLegRequest(symbol=high.symbol, ratio_qty=1, position_intent="sell_to_open"),
    ]
    wanted = LimitOrderRequest(
        qty=2, time_in_force=TimeInForce.DAY, limit_price=5, order_class=OrderClass.MLEG, legs=legs
    )
    package = reach(api, api.submit_order(wanted), "filled")
    paid = {leg.symbol: float(leg.filled_avg_price) for leg in package.legs}
    seen["package"] = [package.order_class.value, package.symbol, package.filled_qty]
    seen["package_legs"] = [[leg.side.value, leg.filled_qty, leg.position_intent.value] for leg in package.legs]
    seen["package_net"] = abs(float(package.filled_avg_price) - (paid[low.symbol] - paid[high.symbol])) < 0.001
    held = {p.symbol: p.qty for p in api.get_all_positions() if p.asset_class.value == "us_option"}
    seen["options_held"] = [held[low.symbol], held[high.symbol]]
    credit = wanted.model_copy(update={"limit_price": -5.0, "qty": 1})
    resting = reach(api, api.submit_order(credit), "new")
    api.cancel_order_by_id(resting.id)
    seen["credit"] = [resting.limit_price, ends(api, reach(api, resting, "canceled"))]


def money(api: Any, seen: dict[str, Any]) -> None:
    usual = {"side": OrderSide.BUY, "time_in_force": TimeInForce.DAY}
    some = reach(api, api.submit_order(MarketOrderRequest(symbol="KO", notional=150.25, **usual)), "filled")
    seen["notional"] = [some.notional, some.qty, float(some.filled_qty) * float(some.filled_avg_price)]
    coin = {"symbol": "BTC/USD", "qty": 0.01, "side": OrderSide.BUY, "time_in_force": TimeInForce.GTC}
    bought = reach(api, api.submit_order(MarketOrderRequest(**coin)), "filled")
    seen["coin"] = [bought.asset_class.value, bought.symbol, bought.filled_qty]
    (held,) = [p for p in api.get_all_positions() if p.asset_class.value == "crypto"]
    seen["coin_held"] = [held.symbol, held.qty]
    seen["coin_refused"] = refusal(
        lambda: api.submit_order(MarketOrderRequest(**coin | {"time_in_force": TimeInForce.DAY}))
    )


main()
