"""alpaca-trade-api, as it comes, against the Alpaca door: its entities, its own retries, and its stream."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from driver import control, eventually, refusal, report, url

os.environ |= {"APCA_API_DATA_URL": url("alpaca"), "APCA_RETRY_MAX": "2", "APCA_RETRY_WAIT": "0"}

from alpaca_trade_api import REST, TimeFrame
from alpaca_trade_api.stream import TradingStream


class TradeApiStream(TradingStream):
    """The SDK's stream, which tells when it is being listened to."""

    def __init__(self) -> None:
        super().__init__("k", "s", url("alpaca"))
        self.listening = threading.Event()
        self.updates: list[Any] = []

    async def _dispatch(self, msg: dict[str, Any]) -> None:
        await super()._dispatch(msg)
        if msg.get("stream") == "listening":
            self.listening.set()

    async def collect(self, update: Any) -> None:
        self.updates.append(update)

    def events(self, order: Any) -> list[str]:
        return [u.event for u in self.updates if u.order["id"] == order.id]


def main() -> None:
    control("/price", symbol="AAPL", price="100")
    control("/position", door="alpaca", symbol="MSFT", quantity="7")
    api = REST("k", "s", url("alpaca"))
    stream = TradeApiStream()
    stream.subscribe_trade_updates(stream.collect)
    threading.Thread(target=lambda: asyncio.run(stream._run_forever()), daemon=True).start()
    assert stream.listening.wait(10), "never listened"
    seen: dict[str, Any] = {}
    reading(api, seen)
    orders(api, stream, seen)
    refusals(api, seen)
    linked_and_for_money(api, seen)
    report(seen)


def reading(api: Any, seen: dict[str, Any]) -> None:
    account = api.get_account()
    seen["account"] = [account.account_number, account.status, account.cash, account.buying_power]
    seen["position"] = [[p.symbol, p.qty, p.side] for p in api.list_positions()]
    assert api.get_position("MSFT").qty == "7"
    clock = api.get_clock()
    seen["clock"] = [clock.is_open, clock.next_close > clock.timestamp]
    seen["calendar"] = [day.date.isoformat() for day in api.get_calendar("2026-01-05", "2026-01-09")]
    seen["asset"] = [api.get_asset("AAPL").symbol, len(api.list_assets(status="active"))]
    quote = api.get_latest_quote("AAPL")
    seen["quote"] = [quote.bp, quote.ap]
    seen["quotes"] = {symbol: q.ap for symbol, q in api.get_latest_quotes(["AAPL"]).items()}
    seen["trade"] = api.get_latest_trade("AAPL").p
    seen["snapshot"] = api.get_snapshot("AAPL").latest_trade.p
    frame = api.get_bars("AAPL", TimeFrame.Day, "2026-01-05", "2026-01-17").df
    seen["bars"] = [[index.isoformat(), *row] for index, row in zip(frame.index, frame.values.tolist(), strict=True)]
    seen["columns"] = list(frame.columns)
    many = api.get_bars(["AAPL", "SPY"], TimeFrame.Day, "2026-01-05", "2026-01-17").df
    seen["many"] = {symbol: int(count) for symbol, count in many["symbol"].value_counts().items()}
    seen["minutes"] = len(api.get_bars("AAPL", TimeFrame.Minute, "2026-01-05", "2026-01-17"))  # more than a page


def orders(api: Any, stream: TradeApiStream, seen: dict[str, Any]) -> None:
    market = api.submit_order("AAPL", 10, "buy", "market", "day", client_order_id="old-1")
    eventually(lambda: "fill" in stream.events(market), "the stream tells the fill")
    seen["market_events"] = stream.events(market)
    found = api.get_order_by_client_order_id("old-1")
    seen["found"] = [found.status, found.filled_qty, found.filled_avg_price]
    seen["activities"] = [[a.order_id == market.id, a.qty, a.price] for a in api.get_activities("FILL")]

    asked: dict[str, dict[str, Any]] = {
        "limit": {"limit_price": 95.5},
        "stop": {"side": "sell", "qty": 2, "stop_price": 90},
        "stop_limit": {"side": "sell", "qty": 2, "stop_price": 90, "limit_price": 89.5},
        "trailing_stop": {"side": "sell", "qty": 2, "trail_percent": 5},
    }
    usual = {"symbol": "AAPL", "qty": 10, "side": "buy", "time_in_force": "day"}
    resting = {kind: api.submit_order(**usual | more, type=kind) for kind, more in asked.items()}
    eventually(lambda: all("new" in stream.events(order) for order in resting.values()), "all are new")
    seen["open"] = sorted(o.type for o in api.list_orders())
    changed = api.replace_order(resting["limit"].id, qty=5, limit_price=96.25)
    eventually(lambda: "new" in stream.events(changed), "the replacement works")
    seen["replaced"] = [changed.qty, changed.limit_price, changed.replaces == resting["limit"].id]
    api.cancel_order(changed.id)
    eventually(lambda: "canceled" in stream.events(changed), "the cancel is told")
    seen["canceled_events"] = stream.events(changed)
    api.cancel_all_orders()
    eventually(lambda: not api.list_orders(), "nothing is open")
    seen["listed"] = sorted(o.status for o in api.list_orders("all", limit=500))
    closed = api.close_position("MSFT")
    eventually(lambda: api.get_order(closed.id).status == "filled", "the position is closed")
    seen["left"] = [p.symbol for p in api.list_positions()]


def refusals(api: Any, seen: dict[str, Any]) -> None:
    wrong = REST("wrong", "wrong", url("alpaca"))
    seen["refused"] = {
        "symbol": refusal(lambda: api.submit_order("NOPE", 1)),
        "funds": refusal(lambda: api.submit_order("AAPL", 1_000_000)),
        "twice": refusal(lambda: api.submit_order("AAPL", 1, client_order_id="old-1")),
        "client_id": refusal(lambda: api.get_order_by_client_order_id("nobody")),
        "position": refusal(lambda: api.get_position("TSLA")),
        "keys": refusal(wrong.get_account),
    }
    # The SDK repeats a POST on 504: the broker took the first one, so the name is not free any more
    # (docs/facts/alpaca.md#1.1, #2.1).
    control("/faults", door="alpaca", kind="status", count=1, options={"status": 504, "accepted": True})
    seen["repeated"] = refusal(lambda: api.submit_order("AAPL", 1, client_order_id="old-2"))
    seen["exists"] = api.get_order_by_client_order_id("old-2").qty


def linked_and_for_money(api: Any, seen: dict[str, Any]) -> None:
    control("/price", symbol="KO", price="60")
    exits = {"take_profit": {"limit_price": "66"}, "stop_loss": {"stop_price": "55"}}
    usual = {"side": "buy", "type": "market"}
    bracket = api.submit_order("KO", 10, time_in_force="gtc", order_class="bracket", **usual, **exits)
    ends = lambda: sorted(leg.status for leg in api.get_order(bracket.id, nested=True).legs)  # noqa: E731
    eventually(lambda: api.get_order(bracket.id).status == "filled", "the entry is filled")
    control("/price", symbol="KO", price="54")
    eventually(lambda: ends() == ["canceled", "filled"], "one exit ends the other")
    seen["bracket"] = [bracket.order_class, ends()]
    some = api.submit_order("KO", notional=150.25, time_in_force="day", **usual)
    eventually(lambda: api.get_order(some.id).status == "filled", "bought for an amount")
    done = api.get_order(some.id)
    seen["notional"] = [done.notional, float(done.filled_qty) * float(done.filled_avg_price)]


main()
