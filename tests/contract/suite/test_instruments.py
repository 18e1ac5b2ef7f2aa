"""What is traded besides shares: one name in every reading, and not sent where the broker does not have it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import Unsupported
from models.vocabulary import AssetClass
from tests.contract.suite.desk import Desk, eventually, needs, order

_FRIDAY = datetime.now(UTC).date() + timedelta(days=60)
#: Of each class one that the desks' brokers know, in a size that they take; coins at a limit, which each takes.
TRADED: dict[AssetClass, dict[str, Any]] = {
    AssetClass.US_EQUITY: {"symbol": "KO", "quantity": 3},
    AssetClass.OPTION: {"symbol": f"AAPL{_FRIDAY:%y%m%d}C00200000", "quantity": 2},
    AssetClass.EQUITY: {"symbol": "SHOP@TSE", "currency": "CAD", "quantity": 5},
    AssetClass.FUTURE: {"symbol": f"MESZ{(_FRIDAY.year + 1) % 100:02d}@CME", "quantity": 1},
    AssetClass.FOREX: {"symbol": "EUR/USD", "quantity": 900},
    AssetClass.CRYPTO: {"symbol": "BTC/USD", "quantity": "0.25", "order_type": "limit", "limit_price": 500_000},
}


@pytest.mark.parametrize("kind", TRADED)
def test_c11_what_is_bought_is_held_under_its_name_and_sold_again(desk: Desk, kind: AssetClass) -> None:
    """C11 What is bought is held under its own name in every reading, and sold again.

    When: an order to buy some of a class that the capabilities have, and one to sell them.
    Then: its text names the fill, the listed order, and the position, by a new adapter as well; the position has that
    size, and none is left at the end.
    Skipped: asset_classes has not that class.
    """
    needs(kind in desk.can.asset_classes, f"trades {kind}")
    terms = {**TRADED[kind], "asset_class": kind}
    wanted = order(**terms)
    placed = desk.place(wanted)
    fill = eventually(lambda: desk.executions(placed))[0]
    eventually(lambda: desk.the_one(wanted).state == "filled")
    assert (fill.symbol, fill.quantity) == (wanted.symbol, wanted.quantity)
    assert fill.price > 0
    desk.restart()
    assert desk.found(wanted, broker_order_id=placed.broker_order_id).symbol == wanted.symbol
    since = wanted.created_at - timedelta(seconds=5)
    assert {one.symbol for one in desk.broker.get_fills(since)} == {wanted.symbol}
    assert {one.symbol for one in desk.broker.get_orders(open_only=False, since=since)} == {wanted.symbol}
    (held,) = desk.broker.get_positions()
    assert (held.symbol, held.quantity) == (wanted.symbol, wanted.quantity)
    assert held.avg_price is None or abs(held.avg_price / fill.price - 1) < Decimal("0.05"), "money per unit of price"
    back = {**terms, "side": "sell"} | ({"limit_price": 1} if "limit_price" in terms else {})
    desk.place(order(**back))
    eventually(lambda: _held(desk) == {})


@pytest.mark.parametrize("kind", TRADED)
def test_c12_what_the_broker_does_not_trade_is_not_sent(desk: Desk, kind: AssetClass) -> None:
    """C12 An order in what the broker does not trade is Unsupported, and never sent.

    When: an order in a class that the capabilities leave out.
    Then: Unsupported, and nothing has reached the broker.
    Skipped: asset_classes has that class.
    """
    needs(kind not in desk.can.asset_classes, f"does not trade {kind}")
    before = desk.arrivals()
    with pytest.raises(Unsupported, match=str(kind)):
        desk.place(order(**TRADED[kind], asset_class=kind))
    assert desk.arrivals() == before


def _held(desk: Desk) -> dict[str, Any]:
    return {held.symbol: held.quantity for held in desk.broker.get_positions()}
