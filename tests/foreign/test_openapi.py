"""What the HTTP doors answer, judged by the brokers' public OpenAPI documents and by recorded traffic."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contract.doors import eventually
from tests.foreign.conftest import HERE, clean_environment
from worker.sandbox.control import SandboxControl

Json = dict[str, Any]
Repair = tuple[str, str, Any, str]

#: Third-party copies of what the brokers publish; they lie beside a clone, and a newcomer has none.
SPECS = HERE.parents[2] / "shared" / "specs"
PACKAGE = "alpaca_mcp_server"
DOCUMENTS = {
    "trading": f"{PACKAGE}:specs/trading-api.json",
    "data": f"{PACKAGE}:specs/market-data-api.json",
    "schwab": str(SPECS / "schwab_trader.json"),
    "schwab_data": str(SPECS / "schwab_md.json"),
    "tda": str(SPECS / "tda_swagger.yml"),
}


EQUITIES = "#/components/schemas/EquityResponse"
ACCOUNT, ORDER = "#/components/schemas/Account", "#/components/schemas/Order"
_TDA_OK = "responses/200/content/application~1json/schema"

#: TDA's own documentation of an equity quote (docs/facts/tda.md#3.1: GetQuotes/response.json): type to keys.
TDA_QUOTE = {
    "string": "symbol description bidId askId lastId exchange exchangeName divDate securityStatus",
    "boolean": "marginable shortable",
    "integer": (
        "bidSize askSize lastSize totalVolume quoteTimeInLong tradeTimeInLong digits regularMarketLastSize "
        "regularMarketTradeTimeInLong"
    ),
    "number": (
        "bidPrice askPrice lastPrice openPrice highPrice lowPrice closePrice netChange mark volatility 52WkHigh "
        "52WkLow peRatio divAmount divYield regularMarketLastPrice regularMarketNetChange"
    ),
}


def tda_quotes() -> Json:
    """Return the schema of a map of symbols to quotes; a documented key may not be missing."""
    known = {key: {"type": kind} for kind, keys in TDA_QUOTE.items() for key in keys.split()}
    recorded: Json = {"assetType": {"type": "string"}, "delayed": {"type": "boolean"}, "nAV": {"type": "number"}}
    quote = {"type": "object", "properties": known | recorded, "required": list(known)}
    return {"type": "object", "additionalProperties": quote}


def ref(target: str) -> Json:
    return {"$ref": target}


#: Where a document is wrong about its own service: what is put there instead, and why.
REPAIRS: list[Repair] = [
    *(
        ("schwab", f"/components/schemas/{name}/required", ["assetType"], "`name` is no property and never sent")
        for name in ("AccountsBaseInstrument", "TransactionBaseInstrument")
    ),
    (
        "schwab",
        "/components/schemas/AccountsInstrument/discriminator/mapping/COLLECTIVE_INVESTMENT",
        "#/components/schemas/CollectiveInvestment",
        "funds are COLLECTIVE_INVESTMENT; the base knows the word, the mapping forgot it",
    ),
    (
        "schwab",
        f"/paths/~1userPreference/get/{_TDA_OK}",
        ref("#/components/schemas/UserPreference"),
        "one object, no list: schwab-py takes streamerInfo out of it",
    ),
    (
        "schwab_data",
        "/components/schemas/QuoteResponse",
        {"type": "object", "properties": {"errors": ref("#/components/schemas/QuoteError")}}
        | {"additionalProperties": ref(EQUITIES)},
        "a choice of eight without a discriminator takes anything; here are only equities",
    ),
    ("tda", f"/paths/~1accounts/get/{_TDA_OK}", {"type": "array", "items": ref(ACCOUNT)}, "a list of accounts"),
    (
        "tda",
        f"/paths/~1accounts~1{{accountId}}~1orders/get/{_TDA_OK}",
        {"type": "array", "items": ref(ORDER)},
        "a list of orders",
    ),
    (
        "tda",
        "/paths/~1orders/get/responses/200",
        {"content": {"application/json": {"schema": {"type": "array", "items": ref(ORDER)}}}},
        "the good answer was left out",
    ),
    *(
        ("tda", f"/paths/~1marketdata~1{path}/get/{_TDA_OK}", tda_quotes(), "a map of symbols to quotes, not to names")
        for path in ("quotes", "{symbol}~1quotes")
    ),
    (
        "tda",
        "/components/schemas/AccountType",
        ref("#/components/schemas/MarginAccount"),
        "a choice without a discriminator takes anything; here is only a margin account",
    ),
    (
        "tda",
        "/components/schemas/InstrumentType",
        ref("#/components/schemas/Equity"),
        "a choice without a discriminator takes anything; here are only equities",
    ),
    (
        "tda",
        "/components/schemas/MarginAccount/properties/orderStrategies/items",
        ref(ORDER),
        "an order like any other; its copy in the account has one activity where a list belongs",
    ),
    (
        "tda",
        "/components/schemas/Order/properties/orderLegCollection/items/properties/orderLegType",
        ref("#/components/schemas/AssetType"),
        "the legs' type is an asset type, as the document itself has it in OrderCollection",
    ),
]

#: Where the real service is known to answer something that its document does not know: complaint, and the evidence.
BEYOND = {
    "trading": {
        "*source undocumented": "recorded order",
        "*subtag undocumented": "recorded order",
        "* /v2/account 200 admin_configurations undocumented": "recorded account",
        "* /v2/account 200 crypto_tier undocumented": "recorded account",
        "* /v2/account 200 effective_buying_power undocumented": "recorded account",
        "* /v2/account 200 position_market_value undocumented": "recorded account",
        "* /v2/account 200 user_configurations undocumented": "recorded account",
        "* /v2/assets*easy_to_borrow undocumented": "recorded asset; the document's own example has it",
        "GET /v2/account/activities/FILL 200 [] oneOf: *": "both choices take anything, nothing is required",
        "DELETE /v2/orders 207 [].body undocumented": "2.2: id, status and the order",
        "DELETE /v2/positions 207 [].body*": "the refusal, of one that cannot be closed; as alpaca-py has it",
        "* 401 status: not in the document": "2.4: unauthorized",
        "* 404 status: not in the document": "2.4: not found",
        "* 422 status: not in the document": "2.4: refused",
    },
    "data": {
        "GET /v2/stocks/AAPL/bars 200 bars type: None is not of type 'array'": "2.2: null when there are none",
        "* 404 status: not in the document": "no such symbol",
    },
    "schwab": {
        "*ime format: '*+0000' is not a 'date-time'": "3.5: real times have no colon in their zone",
        "*orderActivityCollection[].activityId undocumented": "3.5",
        "*aggregatedBalance undocumented": "3.4",
        "*securitiesAccount.currentBalances.* undocumented": "3.4: the balances of all account types come together",
    },
    "tda": {
        "*orderActivityCollection[].activityId undocumented": "recorded orders of 2022 and 2023",
        "POST */orders 201 status: not in the document": "3.1; the document has a 200",
        "PUT */orders/* 201 status: not in the document": "3.1; the document has only failures",
        "DELETE */orders/* 200 status: not in the document": "3.1; the document has only failures",
        "* 404 status: not in the document": "3.1",
    },
}


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


# -- ALPACA --


@pytest.fixture(scope="module")
def alpaca(start_sandbox: Callable[[], SandboxControl]) -> tuple[Caller, Caller]:
    """Everything the Alpaca door offers, asked once."""
    control = start_sandbox()
    control.set_price("AAPL", "100")
    control.set_position("alpaca", "MSFT", 7)
    control.set_position("alpaca", "TSLA", -3)
    address = f"http://127.0.0.1:{control.ports()['alpaca']}"
    keys = {"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"}
    trading, data = Caller("trading", address, "", **keys), Caller("data", address, "", **keys)
    trade_at_alpaca(trading, control)
    for kind in ("bars", "quotes/latest", "trades/latest", "bars/latest", "snapshots"):
        data("GET", f"/v2/stocks/{kind}", params={"symbols": "AAPL,SPY"})
        if kind != "snapshots":
            data("GET", f"/v2/stocks/AAPL/{kind}")
    data("GET", "/v2/stocks/AAPL/snapshot")
    data("GET", "/v2/stocks/AAPL/bars", params={"timeframe": "1Day", "start": "2026-01-05", "limit": 2})
    data("GET", "/v2/stocks/AAPL/bars", params={"start": "1999-01-01", "end": "1999-01-02"})
    data("GET", "/v2/stocks/AAPL/bars", params={"timeframe": "7Fortnights"})
    data("GET", "/v2/stocks/NOPE/quotes/latest")
    return trading, data


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


# -- TDA AND SCHWAB --


@pytest.fixture(scope="module")
def schwab(start_sandbox: Callable[[], SandboxControl]) -> tuple[Caller, Caller]:
    """Everything the Schwab door offers, asked once."""
    trading, data = tda_story(start_sandbox(), "schwab", "/trader/v1", "/marketdata/v1")
    return trading, data


@pytest.fixture(scope="module")
def tda(start_sandbox: Callable[[], SandboxControl]) -> tuple[Caller, Caller]:
    """Everything the TDA door offers, asked once."""
    return tda_story(start_sandbox(), "tda", "/v1", "/v1")


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
    if dialect == "schwab":
        place(path=f"{home}/previewOrder", orderType="LIMIT", price="95.00")
        ask("GET", f"{home}/orders")


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


# -- JUDGED --


def check(python: Path, *callers: Caller) -> None:
    """Assert that every complaint about the answers is one we know, and that no known one is out of date."""
    complaints = judged(python, [answer for caller in callers for answer in caller.answers])
    assert [text for name, text in complaints if not is_known(name, text)] == []
    known = [(caller.document, pattern) for caller in callers for pattern in BEYOND.get(caller.document, ())]
    assert [
        pattern for name, pattern in known if not any(is_like(t, pattern) for n, t in complaints if n == name)
    ] == []


def is_known(document: str, text: str) -> bool:
    return any(is_like(text, pattern) for pattern in BEYOND.get(document, ()))


def is_like(text: str, pattern: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def has_specs() -> None:
    if not SPECS.is_dir():
        pytest.skip("the brokers' documents are not beside this clone (../shared/specs)")


def test_alpacas_answers_keep_to_its_openapi_documents(alpaca: tuple[Caller, Caller], foreign_python: Path) -> None:
    trading, data = alpaca
    assert {answer["status"] for answer in trading.answers} == {200, 204, 207, 401, 403, 404, 422}
    check(foreign_python, trading, data)


def test_schwabs_answers_keep_to_its_openapi_documents(schwab: tuple[Caller, Caller], foreign_python: Path) -> None:
    has_specs()
    assert {answer["status"] for answer in schwab[0].answers} == {200, 201, 400, 401, 404}
    check(foreign_python, *schwab)


def test_tdas_answers_keep_to_its_swagger_document(tda: tuple[Caller, Caller], foreign_python: Path) -> None:
    has_specs()
    assert {answer["status"] for answer in tda[0].answers} == {200, 201, 400, 401, 404}
    check(foreign_python, *tda)


def test_a_wrong_answer_is_noticed(alpaca: tuple[Caller, Caller], foreign_python: Path) -> None:
    good = next(answer for answer in alpaca[0].answers if answer["path"] == "/v2/orders:by_client_order_id")
    bad = {**good, "body": {**good["body"], "qty": 10, "status": "sleeping", "id": "7", "surprise": 1}}
    told = [text.partition(" 200 ")[2].partition(":")[0] for _, text in judged(foreign_python, [bad])]
    assert told == ["id format", "qty type", "source undocumented", "status enum", "subtag undocumented", *told[5:]]
    assert told[5:] == ["surprise undocumented"]


def test_no_repair_is_out_of_date(
    schwab: tuple[Caller, Caller], tda: tuple[Caller, Caller], foreign_python: Path
) -> None:
    has_specs()
    kinds: dict[Any, Json] = {}  # of each kind the longest answer
    for answer in (answer for caller in (*schwab, *tda) for answer in caller.answers):
        path = "/".join("*" if len(step) > 30 or step.isdecimal() else step for step in answer["path"].split("/"))
        kind = (answer["document"], answer["method"], path, answer["status"])
        kinds[kind] = max(kinds.get(kind, answer), answer, key=lambda a: len(json.dumps(a["body"])))
    documents: dict[str, str] = {}
    repairs: list[Repair] = []
    answers: list[Json] = []
    for left_out in REPAIRS:  # its document with all repairs but this one
        name, without = left_out[0], f"{left_out[0]} without {left_out[1]}"
        documents[without] = DOCUMENTS[name]
        repairs += [(without, *repair[1:]) for repair in REPAIRS if repair[0] == name and repair is not left_out]
        answers += [{**answer, "document": without} for answer in kinds.values() if answer["document"] == name]
    told = judged(foreign_python, answers, documents, repairs)
    needed = {without for without, text in told if not is_known(without.partition(" ")[0], text)}
    assert set(documents) - needed == set()


# -- RECORDED KEYS (docs/facts/alpaca.md#2.12) --

RECORDED = {
    "order": """
        asset_class asset_id canceled_at client_order_id created_at expired_at expires_at extended_hours failed_at
        filled_at filled_avg_price filled_qty hwm id legs limit_price notional order_class order_type position_intent
        qty replaced_at replaced_by replaces side source status stop_price submitted_at subtag symbol time_in_force
        trail_percent trail_price type updated_at
    """,
    "position": """
        asset_class asset_id asset_marginable avg_entry_price change_today cost_basis current_price exchange
        lastday_price market_value qty qty_available side symbol unrealized_intraday_pl unrealized_intraday_plpc
        unrealized_pl unrealized_plpc
    """,
    "account": """
        account_blocked account_number accrued_fees admin_configurations balance_asof buying_power cash created_at
        crypto_status crypto_tier currency effective_buying_power equity id initial_margin intraday_adjustments
        last_equity last_maintenance_margin long_market_value maintenance_margin multiplier
        non_marginable_buying_power options_approved_level options_buying_power options_trading_level
        pending_reg_taf_fees portfolio_value position_market_value regt_buying_power short_market_value
        shorting_enabled sma status trade_suspended_by_user trading_blocked transfers_blocked user_configurations
    """,
    "activity": """
        activity_type cum_qty id leaves_qty order_id order_status price qty side symbol transaction_time type
    """,
    "asset": """
        attributes borrow_status class easy_to_borrow exchange fractionable id maintenance_margin_requirement
        margin_requirement_long margin_requirement_short marginable name shortable status symbol tradable
    """,
}


def bodies(caller: Caller, method: str, path: str) -> list[Json]:
    """Return every good body of an operation; `path` may hold wildcards."""
    found = [a for a in caller.answers if a["method"] == method and fnmatchcase(a["path"], path) and a["status"] == 200]
    return [body for a in found for body in (a["body"] if isinstance(a["body"], list) else [a["body"]])]


@pytest.mark.parametrize(
    ("what", "method", "path"),
    [
        ("order", "POST", "/v2/orders"),
        ("order", "GET", "/v2/orders*"),
        ("order", "PATCH", "/v2/orders/*"),
        ("order", "DELETE", "/v2/positions/*"),
        ("position", "GET", "/v2/positions*"),
        ("account", "GET", "/v2/account"),
        ("activity", "GET", "/v2/account/activities*"),
        ("asset", "GET", "/v2/assets*"),
    ],
)
def test_alpacas_bodies_have_the_recorded_keys(
    alpaca: tuple[Caller, Caller], what: str, method: str, path: str
) -> None:
    found = bodies(alpaca[0], method, path)
    assert found
    assert {tuple(sorted(body)) for body in found} == {tuple(sorted(RECORDED[what].split()))}


def test_every_number_of_an_alpaca_order_or_position_is_a_string(alpaca: tuple[Caller, Caller]) -> None:
    found = bodies(alpaca[0], "GET", "/v2/orders*") + bodies(alpaca[0], "GET", "/v2/positions*")
    kinds = {type(value) for body in found for value in body.values()}
    assert kinds == {str, bool, type(None)}
