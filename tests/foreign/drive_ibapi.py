"""IBKR's own client against the TWS door. Every message must be used up to its last field by the official decoder."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import ibapi.client
from driver import PORTS, Complaints, control, eventually, report
from ibapi.client import EClient
from ibapi.contract import ComboLeg, Contract
from ibapi.decoder import Decoder
from ibapi.execution import ExecutionFilter
from ibapi.order import Order
from ibapi.order_cancel import OrderCancel
from ibapi.tag_value import TagValue
from ibapi.wrapper import EWrapper

leftovers: list[Any] = []
kinds_read: set[int] = set()
complaints: list[str] = []


class ReadFields(list):
    """The fields of a message, which remembers how far they were read."""

    def __iter__(self) -> Any:
        self.rest = super().__iter__()
        return self.rest


class StrictDecoder(Decoder):
    def interpret(self, fields: Any, kind: int) -> None:
        line = ReadFields(fields)
        super().interpret(line, kind)
        kinds_read.add(kind)
        rest = [field.decode() for field in getattr(line, "rest", ())]
        if rest:
            leftovers.append([kind, rest])


class App(EWrapper, EClient):
    """Collects what it is told, by callback."""

    def __init__(self) -> None:
        EClient.__init__(self, self)
        self.heard: dict[str, list[Any]] = {}
        self.statuses: dict[int, list[str]] = {}
        self.codes: set[tuple[int, int]] = set()
        self.open: dict[int, Any] = {}

    def orderStatus(self, orderId: int, status: str, *_: Any) -> None:
        self.statuses.setdefault(orderId, []).append(status)

    def openOrder(self, orderId: int, contract: Any, order: Any, state: Any) -> None:
        self.open[orderId] = (contract, order, state)

    def error(self, reqId: int, errorTime: int, errorCode: int, errorString: str, *_: Any) -> None:
        self.codes.add((reqId, errorCode))

    def got(self, name: str, count: int = 1) -> list[Any]:
        return eventually(lambda: len(self.heard.get(name, ())) >= count and self.heard[name], name)

    def last(self, order_id: int) -> str:
        return self.statuses.get(order_id, [""])[-1]


COLLECTED = (
    *("nextValidId", "managedAccounts", "currentTime", "accountSummary", "accountSummaryEnd", "position"),
    *("positionEnd", "updateAccountValue", "updatePortfolio", "accountDownloadEnd", "contractDetails"),
    *("contractDetailsEnd", "tickPrice", "tickSize", "tickSnapshotEnd", "historicalData", "historicalDataEnd"),
    *("execDetails", "execDetailsEnd", "commissionAndFeesReport", "openOrderEnd", "completedOrder"),
    *("completedOrdersEnd", "accountUpdateMulti", "accountUpdateMultiEnd"),
    *("securityDefinitionOptionParameter", "securityDefinitionOptionParameterEnd", "symbolSamples"),
)


def collect(name: str) -> Any:
    return lambda app, *args: app.heard.setdefault(name, []).append(args)


for name in COLLECTED:
    assert hasattr(EWrapper, name), name
    setattr(App, name, collect(name))


def stock(symbol: str = "AAPL") -> Any:
    contract = Contract()
    contract.symbol, contract.secType, contract.exchange, contract.currency = symbol, "STK", "SMART", "USD"
    return contract


def order(kind: str = "MKT", action: str = "BUY", quantity: int = 10, **more: Any) -> Any:
    made = Order()
    made.action, made.orderType, made.totalQuantity, made.tif, made.orderRef = action, kind, quantity, "DAY", "ref-1"
    for name, value in more.items():
        setattr(made, name, value)
    return made


def main() -> None:
    for name in ("ibapi.decoder", "ibapi.client", "ibapi.reader", "ibapi.connection"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.addHandler(Complaints(complaints))
    ibapi.client.decoder.Decoder = StrictDecoder
    control("/price", symbol="AAPL", price="100")
    control("/position", door="ibkr", symbol="BRK.B", quantity="5")
    app = App()
    app.connect("127.0.0.1", PORTS["ibkr"], 41)
    reader = threading.Thread(target=app.run, daemon=True)
    reader.start()
    seen: dict[str, Any] = {"server_version": app.serverVersion()}
    next_id = app.got("nextValidId")[0][0]
    seen["accounts"] = app.got("managedAccounts")[0][0]
    account_and_positions(app, seen)
    contracts_and_prices(app, seen)
    orders(app, seen, next_id)
    looking_back(app, seen)
    instruments(app, seen)
    app.reqIds(-1)
    first = app.got("nextValidId", 2)[-1][0]
    packages(app, seen, first)
    linked(app, seen, first + 10)
    rarer_kinds(app, seen, first + 20)
    seen |= {"kinds_read": sorted(kinds_read), "leftovers": leftovers, "complaints": complaints}
    seen["codes"] = sorted(app.codes)
    app.disconnect()
    reader.join(5)
    report(seen)


def account_and_positions(app: App, seen: dict[str, Any]) -> None:
    app.reqCurrentTime()
    seen["time"] = app.got("currentTime")[0][0]
    app.reqAccountSummary(9001, "All", "NetLiquidation,TotalCashValue,BuyingPower")
    app.got("accountSummaryEnd")
    seen["summary"] = {tag: [value, currency] for _, _, tag, value, currency in app.heard["accountSummary"]}
    app.reqPositions()
    app.got("positionEnd")
    seen["positions"] = [[a, c.symbol, str(p), cost] for a, c, p, cost in app.heard["position"]]
    app.reqAccountUpdates(True, "")
    app.got("accountDownloadEnd")
    seen["values"] = {key: value for key, value, *_ in app.heard["updateAccountValue"]}
    seen["portfolio"] = [[row[0].symbol, str(row[1])] for row in app.heard["updatePortfolio"]]
    app.reqAccountUpdatesMulti(9002, "DU1000001", "", False)
    app.got("accountUpdateMultiEnd")
    seen["multi"] = len(app.heard["accountUpdateMulti"])


def contracts_and_prices(app: App, seen: dict[str, Any]) -> None:
    app.reqContractDetails(9003, stock())
    details = app.got("contractDetails")[0][1]
    seen["contract"] = [details.contract.conId, details.contract.primaryExchange, details.minTick, details.longName]
    app.reqContractDetails(9004, stock("NOPE"))
    eventually(lambda: (9004, 200) in app.codes, "200 for an unknown contract")
    app.reqMktData(9005, stock(), "", True, False, [])
    app.got("tickSnapshotEnd")
    seen["ticks"] = {kind: price for _, kind, price, _ in app.heard["tickPrice"]}
    seen["sizes"] = {kind: str(size) for _, kind, size in app.heard["tickSize"]}
    app.reqHistoricalData(9006, stock(), "20260114 16:00:00 US/Eastern", "5 D", "1 day", "TRADES", 1, 1, False, [])
    app.got("historicalDataEnd")
    bars = [bar for _, bar in app.heard["historicalData"]]
    seen["bars"] = [[b.date, b.open, b.high, b.low, b.close, str(b.volume), str(b.wap), b.barCount] for b in bars]


def orders(app: App, seen: dict[str, Any], first: int) -> None:
    app.placeOrder(first, stock(), order(orderRef="market"))
    commission = app.got("commissionAndFeesReport")[0][0]
    eventually(lambda: app.last(first) == "Filled", "the market order fills")
    _, contract, fill = app.got("execDetails")[0]
    seen["fill"] = [contract.symbol, fill.side, str(fill.shares), fill.price, fill.orderRef, str(fill.cumQty)]
    seen["fill_ids"] = [fill.execId == commission.execId, fill.permId > 0, fill.orderId == first, fill.clientId]
    seen["commission"] = [commission.commissionAndFees, commission.currency]
    seen["market_statuses"] = app.statuses[first]

    limit = first + 1
    app.placeOrder(limit, stock(), order("LMT", lmtPrice=95.0, orderRef="limit"))
    eventually(lambda: app.last(limit) == "Submitted", "the limit order works")
    app.placeOrder(limit, stock(), order("LMT", lmtPrice=96.5, orderRef="limit"))
    eventually(lambda: app.open[limit][1].lmtPrice == 96.5, "the change shows")
    seen["modified"] = [app.open[limit][1].lmtPrice, str(app.open[limit][1].totalQuantity)]
    app.cancelOrder(limit, OrderCancel())
    eventually(lambda: (limit, 202) in app.codes, "the cancel is told with 202")
    seen["limit_statuses"] = sorted(set(app.statuses[limit]))

    kinds = {
        "stop": order("STP", "SELL", 10, auxPrice=90.0),
        "stop_limit": order("STP LMT", "SELL", 10, auxPrice=90.0, lmtPrice=89.5),
        "trail": order("TRAIL", "SELL", 10, auxPrice=3.0),
        "trail_percent": order("TRAIL", "SELL", 10, trailingPercent=5.0),
        "gtc": order("LMT", "BUY", 10, lmtPrice=50.0, tif="GTC", outsideRth=True),
    }
    numbers = {name: limit + 1 + index for index, name in enumerate(kinds)}
    for name, number in numbers.items():
        app.placeOrder(number, stock(), kinds[name])
    eventually(lambda: all(app.last(number) for number in numbers.values()), "resting orders are told")
    app.reqAllOpenOrders()
    app.got("openOrderEnd")
    seen["resting"] = {
        name: [o.orderType, o.tif, o.lmtPrice, o.auxPrice, o.trailingPercent, o.trailStopPrice, s.status]
        for name, number in numbers.items()
        for _, o, s in [app.open[number]]
    }
    app.reqGlobalCancel(OrderCancel())
    eventually(lambda: all(app.last(n) == "Cancelled" for n in numbers.values()), "all are canceled")

    bad = max(numbers.values()) + 1
    refused = {
        bad: (200, stock("NOPE"), order()),
        bad + 1: (201, stock(), order(quantity=10_000_000)),
        bad + 2: (110, stock(), order("LMT", lmtPrice=99.999)),
    }
    for number, (code, contract, wanted) in refused.items():
        app.placeOrder(number, contract, wanted)
        eventually(lambda n=number, c=code: (n, c) in app.codes, f"refusal {code}")
    app.cancelOrder(first, OrderCancel())
    app.cancelOrder(4711, OrderCancel())
    eventually(lambda: {(first, 10148), (4711, 10147)} <= app.codes, "cancels that cannot be")
    seen["refused"] = sorted(code for code, *_ in refused.values())

    question = bad + 3
    app.placeOrder(question, stock(), order(whatIf=True))
    state = eventually(lambda: app.open.get(question), "the what-if answer")[2]
    seen["what_if"] = [state.initMarginChange, state.commissionAndFees]


def looking_back(app: App, seen: dict[str, Any]) -> None:
    before = len(app.heard["execDetails"])
    app.reqExecutions(9007, ExecutionFilter())
    app.got("execDetailsEnd")
    seen["executions"] = [[e.orderRef, str(e.shares)] for _, _, e in app.heard["execDetails"][before:]]
    app.reqCompletedOrders(False)
    app.got("completedOrdersEnd")
    seen["completed"] = sorted(
        [o.orderRef, s.status, str(o.filledQuantity), s.completedStatus] for _, o, s in app.heard["completedOrder"]
    )


# -- INSTRUMENTS, PACKAGES, LINKED ORDERS, RARER KINDS ---
def contract(kind: str, symbol: str, exchange: str = "SMART", currency: str = "USD", **more: Any) -> Any:
    made = Contract()
    made.secType, made.symbol, made.exchange, made.currency = kind, symbol, exchange, currency
    for name, value in more.items():
        setattr(made, name, value)
    return made


def details(app: App, number: int, asked: Any) -> list[Any]:
    """Look contracts up by what is known of them."""
    app.reqContractDetails(number, asked)
    eventually(lambda: any(end[0] == number for end in app.heard.get("contractDetailsEnd", ())), f"details {asked}")
    return [found for of, found in app.heard["contractDetails"] if of == number]


def chain(app: App, number: int) -> tuple[str, list[float]]:
    """Return the first expiry of options on KO, and the strikes about 60; takes two numbers of requests."""
    (under,) = details(app, number, stock("KO"))
    app.reqSecDefOptParams(number + 1, "KO", "", "STK", under.contract.conId)
    app.got("securityDefinitionOptionParameterEnd")
    _, _, _, _, size, days, strikes = app.heard["securityDefinitionOptionParameter"][0]
    assert str(size) == "100"
    return min(days), sorted(strikes, key=lambda strike: abs(strike - 60))[:3]


def instruments(app: App, seen: dict[str, Any]) -> None:
    control("/price", symbol="KO", price="60")
    day, strikes = chain(app, 9010)
    option = {"lastTradeDateOrContractMonth": day, "right": "C", "strike": min(strikes)}
    asked = {
        "option": contract("OPT", "KO", **option),
        "future": contract("FUT", "ES", "CME"),
        "forex": contract("CASH", "EUR", "IDEALPRO"),
        "crypto": contract("CRYPTO", "BTC", "PAXOS"),
        "abroad": contract("STK", "SHOP", "SMART", "CAD", primaryExchange="TSE"),
    }
    for number, (name, wanted) in enumerate(asked.items(), 9020):
        found = details(app, number, wanted)[0]
        one = found.contract
        seen[name] = [one.secType, one.symbol, one.currency, str(one.multiplier), found.minTick, one.conId > 0]
    app.reqMatchingSymbols(9040, "KO")
    _, samples = app.got("symbolSamples")[0]
    seen["samples"] = [[s.contract.symbol, s.contract.secType, s.derivativeSecTypes] for s in samples]


def packages(app: App, seen: dict[str, Any], first: int) -> None:
    """A call, then a vertical: asked about, bought, and told by leg."""
    day, strikes = chain(app, 9012)
    calls = [
        details(app, 9050 + n, contract("OPT", "KO", lastTradeDateOrContractMonth=day, right="C", strike=strike))[0]
        for n, strike in enumerate(sorted(strikes)[:2])
    ]
    app.placeOrder(first, calls[0].contract, order("MKT", "BUY", 1, orderRef="call"))
    eventually(lambda: app.last(first) == "Filled", "the call is bought")
    bag = contract("BAG", "KO", comboLegs=[])
    for found, action in zip(calls, ("BUY", "SELL"), strict=True):
        leg = ComboLeg()
        leg.conId, leg.ratio, leg.action, leg.exchange = found.contract.conId, 1, action, "SMART"
        bag.comboLegs.append(leg)
    app.placeOrder(first + 1, bag, order("LMT", "BUY", 2, lmtPrice=3.0, whatIf=True))
    state = eventually(lambda: app.open.get(first + 1), "what if, of a package")[2]
    seen["package_what_if"] = [float(state.initMarginChange) > 0, float(state.initMarginAfter) > 0]
    app.placeOrder(first + 2, bag, order("LMT", "BUY", 2, lmtPrice=5.0, orderRef="vertical"))
    eventually(lambda: app.last(first + 2) == "Filled", "the vertical is bought")
    rows = eventually(
        lambda: len(rows := [(c, e) for _, c, e in app.heard["execDetails"] if e.orderRef == "vertical"]) > 2 and rows,
        "executions of the package and of both legs",
    )
    seen["package"] = sorted([c.secType, e.side, str(e.shares)] for c, e in rows)
    legs = {c.conId: e.price for c, e in rows if c.secType == "OPT"}
    assert set(legs) == {found.contract.conId for found in calls}
    net = legs[calls[0].contract.conId] - legs[calls[1].contract.conId]
    seen["package_net"] = [abs(e.price - net) < 0.001 for c, e in rows if c.secType == "BAG"]
    (shown,) = [c for c, o, _ in app.open.values() if o.orderRef == "vertical"]
    seen["package_legs"] = [[leg.ratio, leg.action] for leg in shown.comboLegs]


def linked(app: App, seen: dict[str, Any], first: int) -> None:
    """A bracket by parentId and transmit, as IBKR's samples write it, and an OCA group."""
    target, stop = first + 1, first + 2
    app.placeOrder(first, stock("KO"), order(orderRef="entry", transmit=False))
    exits = {"parentId": first, "tif": "GTC"}
    app.placeOrder(target, stock("KO"), order("LMT", "SELL", lmtPrice=66.0, transmit=False, **exits))
    app.reqCurrentTime()
    app.got("currentTime", 2)
    seen["staged"] = [number in app.open for number in (first, target)]
    app.placeOrder(stop, stock("KO"), order("STP", "SELL", auxPrice=55.0, **exits))
    eventually(lambda: app.last(first) == "Filled" and app.last(target) == "Submitted", "the exits wake")
    seen["parents"] = [app.open[number][1].parentId == first for number in (target, stop)]
    control("/price", symbol="KO", price="67")
    eventually(lambda: app.last(target) == "Filled" and app.last(stop) == "Cancelled", "one exit ends the other")
    group = {"ocaGroup": "pair", "ocaType": 1, "tif": "GTC"}
    app.placeOrder(first + 3, stock("KO"), order("LMT", lmtPrice=50.0, **group))
    app.placeOrder(first + 4, stock("KO"), order("LMT", lmtPrice=51.0, **group))
    eventually(lambda: app.last(first + 3) == app.last(first + 4) == "Submitted", "both work")
    seen["oca"] = [app.open[number][1].ocaGroup for number in (first + 3, first + 4)]
    app.cancelOrder(first + 3, OrderCancel())
    eventually(lambda: app.last(first + 4) == "Cancelled", "the cancel of one ends the other")


def rarer_kinds(app: App, seen: dict[str, Any], first: int) -> None:
    until = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y%m%d-%H:%M:%S")
    patient = TagValue("adaptivePriority", "Patient")
    kinds = {
        "gtd": order("LMT", lmtPrice=40.0, tif="GTD", goodTillDate=until),
        "if_touched": order("MIT", auxPrice=40.0),
        "limit_if_touched": order("LIT", auxPrice=40.0, lmtPrice=40.5),
        "trail_limit": order("TRAIL LIMIT", "SELL", auxPrice=3.0, trailStopPrice=50.0, lmtPriceOffset=0.25),
        "iceberg": order("LMT", quantity=100, lmtPrice=40.0, displaySize=10),
        "hidden": order("LMT", lmtPrice=40.0, hidden=True),
        "adaptive": order("LMT", lmtPrice=40.0, algoStrategy="Adaptive", algoParams=[patient]),
    }
    numbers = {name: first + n for n, name in enumerate(kinds)}
    for name, number in numbers.items():
        app.placeOrder(number, stock("KO"), kinds[name])
    eventually(lambda: all(app.last(number) for number in numbers.values()), "the rarer kinds are told")
    shown = {name: app.open[number][1] for name, number in numbers.items()}
    seen["rarer"] = {
        "gtd": [shown["gtd"].tif, shown["gtd"].goodTillDate[:8] == until[:8]],
        "if_touched": [shown["if_touched"].orderType, shown["if_touched"].auxPrice],
        "limit_if_touched": [shown["limit_if_touched"].orderType, shown["limit_if_touched"].lmtPrice],
        "trail_limit": [shown["trail_limit"].orderType, shown["trail_limit"].lmtPriceOffset],
        "iceberg": [shown["iceberg"].displaySize],
        "hidden": [shown["hidden"].hidden],
        "adaptive": [shown["adaptive"].algoStrategy, [[p.tag, p.value] for p in shown["adaptive"].algoParams]],
    }
    app.reqGlobalCancel(OrderCancel())
    eventually(lambda: all(app.last(n) == "Cancelled" for n in numbers.values()), "all are canceled again")


if __name__ == "__main__":
    main()
