"""What passes a halt: a replace that makes an order only smaller or less aggressive."""

from __future__ import annotations

from typing import Any

import pytest

from models.messages import OrderRequest
from models.record.replaces import changed_terms, lessens

LIMIT = {"order_type": "limit", "limit_price": "50"}
STOP = {"order_type": "stop", "stop_price": "50"}
STOP_LIMIT = {"order_type": "stop_limit", "stop_price": "50", "limit_price": "50"}
TRAIL = {"order_type": "trailing_stop", "trail_amount": "1"}
LESS: dict[str, tuple[str, dict[str, Any], dict[str, Any], bool]] = {
    "smaller": ("buy", LIMIT, {"quantity": 5}, True),
    "larger": ("buy", LIMIT, {"quantity": 11}, False),
    "a lower price of a buy": ("buy", LIMIT, {"limit_price": "49"}, True),
    "a higher price of a buy": ("buy", LIMIT, {"limit_price": "51"}, False),
    "a higher price of a sell": ("sell", LIMIT, {"limit_price": "51"}, True),
    "a lower price of a sell": ("sell", LIMIT, {"limit_price": "49"}, False),
    "a higher price of a short sale": ("sell_short", LIMIT, {"limit_price": "51"}, True),
    "a lower price of a cover": ("buy_to_cover", LIMIT, {"limit_price": "49"}, True),
    "a higher price of a cover": ("buy_to_cover", LIMIT, {"limit_price": "51"}, False),
    "smaller and lower": ("buy", LIMIT, {"quantity": 5, "limit_price": "49"}, True),
    "smaller but higher": ("buy", LIMIT, {"quantity": 5, "limit_price": "51"}, False),
    "larger but lower": ("buy", LIMIT, {"quantity": 11, "limit_price": "1"}, False),
    "smaller, but it lives on": ("buy", LIMIT, {"quantity": 5, "time_in_force": "gtc"}, False),
    "it lives on": ("buy", LIMIT, {"time_in_force": "gtc"}, False),
    "another trigger above": ("buy", STOP, {"stop_price": "51"}, False),
    "another trigger below": ("sell", STOP, {"stop_price": "49"}, False),
    "smaller with a trigger": ("sell", STOP_LIMIT, {"quantity": 5}, True),
    "another distance": ("sell", TRAIL, {"trail_amount": "2"}, False),
    "smaller with a distance": ("sell", TRAIL, {"quantity": 1}, True),
    "a market order, smaller": ("buy", {}, {"quantity": 9}, True),
}


@pytest.mark.parametrize("name", LESS)
def test_a_change_lessens_an_order_only_where_nothing_grows(name: str) -> None:
    side, terms, changes, expected = LESS[name]
    old = OrderRequest(symbol="KO", side=side, quantity=10, **terms)
    assert lessens(old, changed_terms(old, changes)) is expected
