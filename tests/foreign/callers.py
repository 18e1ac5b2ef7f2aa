"""Everything that the HTTP doors offer, asked once as any HTTP client would, and the answers judged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from tests.foreign.conftest import HERE, clean_environment
from tests.foreign.documents import DOCUMENTS, REPAIRS, Json, Repair
from tests.kit.waiting import eventually
from worker.sandbox.control import SandboxControl


class Caller:
    """Asks a door as any HTTP client would and keeps every answer."""

    def __init__(self, document: str, address: str, base: str, **headers: str) -> None:
        self.document = document
        self.answers: list[Json] = []
        self.address = address
        self._url = address + base
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update(headers)

    def __call__(self, method: str, path: str, **more: Any) -> Any:
        answer = self._session.request(method, self._url + path, timeout=5, **more)
        body = answer.json() if answer.content else None
        key = {"document": self.document, "method": method, "path": path, "status": answer.status_code}
        self.answers.append({**key, "body": body})
        return body if answer.content else answer.headers.get("Location", "").rpartition("/")[2]


def judged(
    python: Path, answers: list[Json], documents: dict[str, str] = DOCUMENTS, repairs: list[Repair] = REPAIRS
) -> list[tuple[str, str]]:
    """Return every complaint about the answers: the document, and the complaint with the operation in front."""
    used = {answer["document"] for answer in answers}
    asked = {
        "documents": {name: source for name, source in documents.items() if name in used},
        "repairs": [repair[:3] for repair in repairs if repair[0] in used],
        "answers": answers,
    }
    command = [str(python), "-W", "ignore", str(HERE / "check_schemas.py")]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=False, env=clean_environment()
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [
        (answer["document"], f"{answer['method']} {answer['path']} {answer['status']} {complaint}")
        for answer, complaints in zip(answers, json.loads(done.stdout), strict=True)
        for complaint in complaints
    ]


def trade_at_alpaca(ask: Caller, control: SandboxControl) -> None:
    def place(**order: Any) -> Any:
        usual = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
        return ask("POST", "/v2/orders", json={**usual, **order})

    def reach(order: Json, status: str) -> Any:
        path = f"/v2/orders/{order['id']}"
        eventually(lambda: ask("GET", path)["status"] == status)
        return ask("GET", path)

    reach(place(client_order_id="spec-1"), "filled")
    ask("GET", "/v2/orders:by_client_order_id", params={"client_order_id": "spec-1"})
    reach(place(qty=None, notional="150.25"), "filled")
    control.add_fault("alpaca", "partial", count=1)
    reach(place(type="limit", limit_price="101"), "partially_filled")
    limit = reach(place(type="limit", limit_price="95.5", time_in_force="gtc"), "new")
    changed = reach(ask("PATCH", f"/v2/orders/{limit['id']}", json={"limit_price": "96"}), "new")
    reach(limit, "replaced")
    place(side="sell", qty="1", type="stop", stop_price="90")
    place(side="sell", qty="1", type="stop_limit", stop_price="90", limit_price="89.5")
    place(side="sell", qty="1", type="trailing_stop", trail_percent="5")
    control.add_fault("alpaca", "reject_after_accept", count=1)
    reach(place(), "rejected")
    ask("DELETE", f"/v2/orders/{changed['id']}")
    reach(changed, "canceled")
    ask("DELETE", f"/v2/orders/{changed['id']}")
    ask("GET", "/v2/orders", params={"status": "all", "limit": 500})
    link_at_alpaca(ask, place, reach)
    for no in ({"symbol": "NOPE"}, {"qty": "10000000"}, {"client_order_id": "spec-1"}, {"qty": "-1"}):
        place(**no)
    for path in ("account", "positions", "positions/MSFT", "positions/TSLA", "clock", "assets", "assets/AAPL"):
        ask("GET", f"/v2/{path}")
    for path in ("assets/NOPE", "assets/SIM900", "account/activities", "account/activities/FILL"):
        ask("GET", f"/v2/{path}")
    for path in ("orders/00000000-0000-0000-0000-000000000001", "orders/7", "positions/SPY"):
        ask("GET", f"/v2/{path}")
    stranger = Caller(ask.document, ask.address, "")
    stranger("GET", "/v2/account")
    ask.answers += stranger.answers
    ask("GET", "/v2/calendar", params={"start": "2026-01-05", "end": "2026-01-16"})
    ask("DELETE", "/v2/orders")
    eventually(lambda: not ask("GET", "/v2/orders"))
    ask("DELETE", "/v2/positions/MSFT", params={"qty": "3"})
    ask("DELETE", "/v2/positions")


def link_at_alpaca(ask: Caller, place: Callable[..., Any], reach: Callable[[Json, str], Any]) -> None:
    """Orders that belong together, options, and coins."""
    exits = {"take_profit": {"limit_price": "120"}, "stop_loss": {"stop_price": "80", "limit_price": "79"}}
    bracket = place(order_class="bracket", **exits)
    reach(bracket, "filled")
    ask("GET", f"/v2/orders/{bracket['id']}", params={"nested": "true"})
    place(type="limit", limit_price="90", order_class="oto", stop_loss={"stop_price": "80"})
    place(side="sell", type="limit", order_class="oco", **exits)
    ask("GET", "/v2/orders", params={"nested": "true"})
    rows = ask("GET", "/v2/options/contracts", params={"underlying_symbols": "AAPL", "limit": 2})["option_contracts"]
    low, high = (row["symbol"] for row in rows)
    ask("GET", f"/v2/options/contracts/{low}")
    reach(place(symbol=low, qty="1", position_intent="buy_to_open"), "filled")
    legs = [{"symbol": low, "ratio_qty": "1", "side": "buy"}, {"symbol": high, "ratio_qty": "1", "side": "sell"}]
    package = {"qty": "1", "type": "market", "time_in_force": "day", "order_class": "mleg", "legs": legs}
    reach(ask("POST", "/v2/orders", json=package), "filled")
    reach(place(symbol="BTC/USD", qty="0.01", time_in_force="gtc"), "filled")
    for path in ("positions/BTCUSD", f"positions/{low}", "assets/BTC%2FUSD"):
        ask("GET", f"/v2/{path}")


def tda_story(control: SandboxControl, dialect: str, trader: str, market_data: str) -> tuple[Caller, Caller]:
    control.set_price("AAPL", "100")
    control.set_position(dialect, "MSFT", 7)
    control.set_position(dialect, "SPY", 2)
    control.set_position(dialect, "TSLA", -3)
    address = f"http://127.0.0.1:{control.ports()[dialect]}"
    form = {"grant_type": "refresh_token", "refresh_token": "rt"}
    if dialect == "tda":
        token = requests.post(f"{address}/v1/oauth2/token", data={**form, "client_id": "K"}, timeout=5).json()
    else:
        token = requests.post(f"{address}/v1/oauth/token", data=form, auth=("k", "s"), timeout=5).json()
    bearer = f"Bearer {token['access_token']}"
    trading = Caller(dialect, address, trader, Authorization=bearer)
    document = "schwab_data" if dialect == "schwab" else "tda"
    data = Caller(document, address, market_data, Authorization=bearer)
    trade_at_tda(trading, control, dialect)
    stranger = Caller(dialect, address, trader, Authorization="Bearer nobody")
    stranger("GET", "/accounts")
    trading.answers += stranger.answers
    ask_tda_for_prices(data, dialect)
    return trading, data


def trade_at_tda(ask: Caller, control: SandboxControl, dialect: str) -> None:
    if dialect == "schwab":
        (row,) = ask("GET", "/accounts/accountNumbers")
        home = f"/accounts/{row['hashValue']}"
        ask("GET", "/userPreference")
    else:
        home = f"/accounts/{ask('GET', '/accounts')[0]['securitiesAccount']['accountId']}"

    def place(method: str = "POST", path: str = f"{home}/orders", **order: Any) -> str:
        leg = {"instruction": order.pop("instruction", "BUY"), "quantity": order.pop("quantity", 10)}
        leg["instrument"] = {"assetType": "EQUITY", "symbol": order.pop("symbol", "AAPL")}
        usual = {"session": "NORMAL", "duration": "DAY", "orderType": "MARKET", "orderStrategyType": "SINGLE"}
        return str(ask(method, path, json={**usual, "orderLegCollection": [leg], **order}))

    def reach(number: str, *statuses: str) -> Any:
        path = f"{home}/orders/{number}"
        eventually(lambda: ask("GET", path)["status"] in statuses)
        return ask("GET", path)

    reach(place(), "FILLED")
    control.add_fault(dialect, "partial", count=1)
    half = place(orderType="LIMIT", price="101.00")
    eventually(lambda: ask("GET", f"{home}/orders/{half}")["filledQuantity"])
    limit = place(orderType="LIMIT", price="95.50", duration="GOOD_TILL_CANCEL")
    stop = place(orderType="STOP", stopPrice="90.00", instruction="SELL", quantity=1)
    place(orderType="STOP_LIMIT", stopPrice="90.00", price="89.50", instruction="SELL", quantity=1)
    trail = {"stopPriceLinkBasis": "LAST", "stopPriceLinkType": "PERCENT", "stopPriceOffset": 5}
    place(orderType="TRAILING_STOP", instruction="SELL", quantity=1, **trail)
    reach(limit, "WORKING")
    successor = place("PUT", f"{home}/orders/{limit}", orderType="LIMIT", price="96.00")
    reach(limit, "REPLACED")
    ask("DELETE", f"{home}/orders/{successor}")
    reach(successor, "CANCELED")
    reach(stop, "WORKING", "AWAITING_STOP_CONDITION")
    reach(place(quantity=1_000_000), "REJECTED")
    now = datetime.now(UTC)
    ends = {"fromEnteredTime": now - timedelta(days=1), "toEnteredTime": now + timedelta(hours=1)}
    window = {name: f"{at:%Y-%m-%dT%H:%M:%S}.000Z" for name, at in ends.items()}
    ask("GET", f"{home}/orders", params=window)
    ask("GET", "/orders", params=window)
    ask("GET", "/accounts", params={"fields": "positions"})
    ask("GET", home, params={"fields": "positions" if dialect == "schwab" else "positions,orders"})
    for path in (f"{home}/orders/4711", "/accounts/12345"):
        ask("GET", path)
    ask("DELETE", f"{home}/orders/{successor}")
    place(symbol="NOPE")
    place(orderType="LIMIT")
    link_at_tda(ask, home, dialect, reach)
    if dialect == "schwab":
        place(path=f"{home}/previewOrder", orderType="LIMIT", price="95.00")
        ask("GET", f"{home}/orders")


def link_at_tda(ask: Caller, home: str, dialect: str, reach: Callable[..., Any]) -> None:
    """A bracket, an oco, an option, and a vertical."""
    usual = {"session": "NORMAL", "duration": "DAY", "orderStrategyType": "SINGLE"}

    def leg(instruction: str, symbol: str = "AAPL", kind: str = "EQUITY") -> Json:
        return {"instruction": instruction, "quantity": 10, "instrument": {"assetType": kind, "symbol": symbol}}

    def one(*legs: Json, **terms: Any) -> Json:
        return {**usual, "orderLegCollection": list(legs), **terms}

    sell = leg("SELL")
    exits = [one(sell, orderType="LIMIT", price="120.00"), one(sell, orderType="STOP", stopPrice="80.00")]
    pair = {"orderStrategyType": "OCO", "childOrderStrategies": exits}
    entry = one(leg("BUY"), orderType="MARKET")
    bracket = ask(
        "POST", f"{home}/orders", json={**entry, "orderStrategyType": "TRIGGER", "childOrderStrategies": [pair]}
    )
    reach(bracket, "FILLED")
    ask("POST", f"{home}/orders", json=pair)
    calls = (
        ("AAPL  281215C00100000", "AAPL  281215C00110000")
        if dialect == "schwab"
        else ("AAPL_121528C100", "AAPL_121528C110")
    )
    reach(ask("POST", f"{home}/orders", json=one(leg("BUY_TO_OPEN", calls[0], "OPTION"), orderType="MARKET")), "FILLED")
    both = [leg(word, name, "OPTION") for word, name in zip(("BUY_TO_OPEN", "SELL_TO_OPEN"), calls, strict=True)]
    vertical = one(*both, orderType="NET_DEBIT", price="9.00", complexOrderStrategyType="VERTICAL")
    reach(ask("POST", f"{home}/orders", json=vertical), "FILLED")
    if dialect == "schwab":
        ask("POST", f"{home}/previewOrder", json=vertical)


def ask_tda_for_prices(ask: Caller, dialect: str) -> None:
    if dialect == "schwab":
        ask("GET", "/quotes", params={"symbols": "AAPL,SPY"})
        ask("GET", "/quotes", params={"symbols": "AAPL,NOPE", "fields": "quote,reference"})
        ask("GET", "/AAPL/quotes")
        ask("GET", "/NOPE/quotes")
        ask("GET", "/quotes")
        ask("GET", "/pricehistory", params={"symbol": "AAPL", "periodType": "month", "frequencyType": "daily"})
        ask("GET", "/pricehistory", params={"symbol": "AAPL", "needPreviousClose": "true"})
        ask("GET", "/pricehistory", params={"symbol": "NOPE"})
        ask("GET", "/pricehistory", params={"symbol": "AAPL", "periodType": "eon"})
        return
    ask("GET", "/marketdata/quotes", params={"symbol": "AAPL,SPY"})
    ask("GET", "/marketdata/AAPL/quotes")
    ask("GET", "/marketdata/quotes")
    ask("GET", "/marketdata/AAPL/pricehistory", params={"periodType": "month", "frequencyType": "daily"})
