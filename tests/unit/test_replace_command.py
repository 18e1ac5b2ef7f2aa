"""`corro replace`: what it can change, without a word that is nobody's business."""

from __future__ import annotations

import json
import warnings
from decimal import Decimal
from typing import Any

import pytest

from models.messages import OrderRequest
from models.record.intake import Intake, request_of
from models.record.replaces import changed_terms
from models.vocabulary import AssetClass
from tests.unit.words import Run

TRAILING = ("submit", "KO", "sell_short", "5", "--type", "trailing_stop", "--id", "t-1", "--json")


@pytest.mark.parametrize("name", ["trail_amount", "trail_percent"])
def test_the_distance_of_a_trailing_stop_is_changed(corro: Run, name: str) -> None:
    option = f"--{name.replace('_', '-')}"
    assert corro(*TRAILING, option, "5")[0] == 0
    status, out, err = corro("replace", "t-1", option, "4.5", "--json")
    assert status == 0, err
    assert json.loads(out)[name] == "4.5"


@pytest.mark.parametrize(
    "terms",
    [
        {"symbol": "ESZ29@CME", "asset_class": "future"},
        {"symbol": "EUR/USD", "asset_class": "forex"},
        {"symbol": "AAPL261218C00200000", "asset_class": "option"},
        {"symbol": "SHOP@TSE", "asset_class": "equity", "currency": "CAD"},
    ],
)
def test_an_order_of_any_class_is_read_and_changed_without_a_warning(intake: Intake, terms: dict[str, Any]) -> None:
    wanted = OrderRequest(side="buy", quantity=1, order_type="limit", limit_price="5", client_order_id="c-1", **terms)
    (row,) = intake.record([wanted])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changed = changed_terms(request_of(row), {"limit_price": Decimal(6)})
    assert (changed.limit_price, changed.instrument.asset_class) == (6, AssetClass(terms["asset_class"]))
