"""A row of a signed order says what was signed, whatever the settings have added; any other row is nobody's order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from models.destinations import destination_of, split
from models.errors import Untrusted
from models.messages import OrderRequest, utcnow
from models.preview_digest import digest_of
from models.record.intake import request_of, row_of
from models.routes import route_of
from models.settings import Settings
from models.trust import Journaled, must_be_the_same

ACCOUNTS = {"ira": "DU1111111", "tax": "DU2222222"}
SETTINGS = Settings.model_validate(
    {
        "brokers": {"ibkr": {"accounts": ACCOUNTS, "account": "tax"}, "alpaca": {}},
        "routing": {"route": ["ibkr", "alpaca"]},
    }
)
NOW = utcnow()
LATER = NOW + timedelta(days=9)
LIMIT = {"order_type": "limit", "limit_price": "5"}
COVERED = {"symbol": "KO", "quantity": "100", "legs": [
    {"symbol": "KO", "side": "buy", "ratio": 100},
    {"symbol": "KO351221C00060000", "side": "sell", "ratio": 1, "position_effect": "open"},
]}  # fmt: skip
#: Texts that together say every field of an order.
TEXTS: list[dict[str, Any]] = [
    {}, {"account": "ira"}, {"account": "tax"}, {"route": ["ibkr:ira"]}, {"route": ["ibkr"]}, {"route": ["alpaca"]},
    {"route": ["ibkr:ira", "ibkr", "alpaca"]}, {"route": ["ibkr", "ibkr:tax"]}, {"route": ["ibkr"], "account": "ira"},
    {"asset_class": "us_equity"}, {"currency": "USD"}, {"symbol": "KO351221C00060000", "asset_class": "option"},
    {"symbol": "SHOP@TSE", "asset_class": "equity"}, {"symbol": "SHOP@TSE", "asset_class": "equity", "currency": "CAD"},
    {"symbol": "ESZ35@CME", "asset_class": "future"}, {"symbol": "EUR/USD", "asset_class": "forex"},
    {"symbol": "BTC/USD", "asset_class": "crypto"},
    {"quantity": None, "notional": "100"}, {"tags": {"why": "dip"}}, {"tags": []}, {"version": 1},
    {"order_type": "stop", "stop_price": "4.5"}, {"order_type": "trailing_stop", "trail_percent": "1.5"},
    {"order_type": "trail_limit", "trail_amount": "1", "limit_offset": "0.1", "side": "sell"},
    LIMIT | {"time_in_force": "gtd", "good_till": LATER, "algo": {"name": "adaptive"}},
    LIMIT | {"display_quantity": "1"},
    LIMIT | {"hidden": True, "extended_hours": True, "decision_price": "5.01", "session": "any"},
    {"not_before": NOW}, {"group": {"id": "g-1", "kind": "oco", "leg": "first"}} | LIMIT, COVERED,
    {"created_at": NOW, "client_order_id": "o-1", "strategy": "dip"},
]  # fmt: skip


def signed(**text: Any) -> OrderRequest:
    return OrderRequest(**{"symbol": "KO", "side": "buy", "quantity": "5"} | text)


def compare(request: OrderRequest, **forged: Any) -> None:
    row: Any = {**row_of(request, route_of(SETTINGS, request), utcnow()), **forged}
    must_be_the_same(request, request_of(row), destination_of(row), SETTINGS, Journaled("queued", {}, {}))


@pytest.mark.parametrize("text", TEXTS)
def test_a_row_is_what_was_signed_whatever_the_settings_have_added(text: dict[str, Any]) -> None:
    compare(signed(**text))
    if "group" not in text and text.get("version") != 1:
        compare(signed(**text, preview=digest_of(signed(**text))))


def test_those_texts_say_every_field() -> None:
    said = {name for text in TEXTS for name in text}
    assert set(OrderRequest.model_fields) - said == {"expires_at", "preview"}, "what has a default, what the test adds"


@pytest.mark.parametrize("at", ["ibkr:ira", "alpaca"])
def test_an_order_falls_back_along_the_route_that_was_signed(at: str) -> None:
    broker, account = split(at)
    compare(signed(route=["ibkr:ira", "alpaca"]), broker=broker, account=account)


@pytest.mark.parametrize(
    ("text", "forged"),
    [
        ({"account": "ira"}, {"account": "tax"}),
        ({"account": "ira"}, {"account": None}),
        ({"account": "ira"}, {"route": ["ibkr:ira", "ibkr:tax"]}),
        ({"route": ["ibkr:ira"]}, {"account": "tax"}),
        ({"route": ["ibkr:ira"]}, {"account": "tax", "route": ["ibkr:tax"]}),
        ({"route": ["ibkr:ira"]}, {"broker": "alpaca", "account": None}),
        ({"route": ["ibkr:ira", "alpaca"]}, {"route": ["alpaca", "ibkr:ira"]}),
        ({"route": ["ibkr:ira", "alpaca"]}, {"route": ["ibkr:ira"]}),
        ({"route": ["ibkr"]}, {"route": ["ibkr:tax", "ibkr:ira"]}),
        ({"route": ["ibkr"]}, {"account": "ira"}),
        ({"route": ["ibkr"]}, {"account": "ira", "route": ["ibkr:ira"]}),
        ({}, {"account": "ira"}),
        ({}, {"account": "ira", "route": ["ibkr:ira", "alpaca"]}),
        ({}, {"route": ["ibkr:tax", "ibkr:ira"]}),
        ({"account": "ira"}, {"account": "tax", "route": ["ibkr:tax"]}),
        ({}, {"account": "old", "route": ["ibkr:old"]}),
        ({"symbol": "SHOP@TSE", "asset_class": "equity"}, {"currency": "USD"}),
        ({"symbol": "SHOP@TSE", "asset_class": "equity"}, {"asset_class": "forex"}),
        ({}, {"asset_class": "crypto"}),
    ],
    ids=str,
)
def test_a_row_that_goes_elsewhere_than_its_text_is_nobodys(text: dict[str, Any], forged: dict[str, Any]) -> None:
    with pytest.raises(Untrusted, match="was signed as"):
        compare(signed(**text), **forged)


def test_a_row_that_was_taken_out_of_its_group_is_told_in_words() -> None:
    leg = signed(group={"id": "g-1", "kind": "oco", "leg": "first"}, **LIMIT)
    with pytest.raises(Untrusted, match="group was signed as first of oco g-1, and recorded as None"):
        compare(leg, group_id=None, group_kind=None, leg=None)
