"""What the HTTP doors answer, judged by the brokers' public OpenAPI documents and by recorded traffic."""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.callers import Caller, judged, tda_story, trade_at_alpaca
from tests.foreign.documents import BEYOND, DOCUMENTS, REPAIRS, SPECS, Json, Repair
from worker.sandbox.control import SandboxControl

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


# -- JUDGED --


def check(python: Path, *callers: Caller) -> None:
    """Assert that every complaint about the answers is one we know, and that no known one is out of date."""
    complaints = judged(python, [answer for caller in callers for answer in caller.answers])
    unknown = sorted({text for name, text in complaints if not is_known(name, text)})
    assert not unknown, "\n".join(unknown)
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
    kinds = {type(value) for body in found for name, value in body.items() if name != "legs"}
    assert kinds == {str, bool, type(None)}
