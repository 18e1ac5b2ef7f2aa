"""What is more than one order of so many shares: an amount of money, orders with legs, linked orders, previews."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import Unsupported
from models.groups import LEGS, GroupKind, Membership
from models.messages import OrderRequest
from models.reports import BrokerStatus, FillReport
from tests.contract.suite.desk import Desk, eventually, fresh_id, order
from worker.brokers.base import LinkedOrder, Ticket

_DAY = f"{datetime.now(UTC).date() + timedelta(days=60):%y%m%d}"
_LOW, _HIGH = f"KO{_DAY}C00060000", f"KO{_DAY}C00065000"
VERTICAL = [
    {"symbol": _LOW, "side": "buy", "ratio": 1, "position_effect": "open"},
    {"symbol": _HIGH, "side": "sell", "ratio": 1, "position_effect": "open"},
]
#: Terms of each leg at which both exits of a purchase at 60 rest.
EXITS: dict[str, dict[str, Any]] = {
    "entry": {"side": "buy"},
    "take_profit": {"side": "sell", "order_type": "limit", "limit_price": "66"},
    "stop_loss": {"side": "sell", "order_type": "stop", "stop_price": "55"},
}


def test_c13_an_amount_of_money_buys_no_more_than_that(desk: Desk) -> None:
    """C13 An order for an amount of money buys for no more than that, or is not sent.

    When: a purchase of KO for 100.
    Then: fills that are worth at most 100, and nearly so; or, where the capabilities leave it out, Unsupported, and
    nothing has reached the broker.
    """
    desk.price("KO", "60")
    wanted = order("KO", quantity=None, notional="100")
    if not desk.can.notional:
        with pytest.raises(Unsupported, match="notional"):
            desk.place(wanted)
        assert desk.arrivals() == 0
        return
    placed = desk.place(wanted)
    worth = lambda: sum((fill.quantity * fill.price for fill in desk.executions(placed)), Decimal(0))  # noqa: E731
    eventually(lambda: worth() > Decimal("99.9"))
    assert worth() <= 100


def test_c14_a_package_is_one_order_whose_fills_are_its_legs(desk: Desk) -> None:
    """C14 An order with legs is one order, and its fills are those of its legs, or it is not sent.

    When: two verticals at a limit that is met, and a new adapter that knows nothing.
    Then: an order of two packages that is found again, listed fills of two for each leg under the leg's own name (and
    number, where they have one), and positions by leg; or, where the capabilities leave it out, Unsupported, and
    nothing has reached the broker.
    """
    desk.price("KO", "62")
    wanted = order("KO", quantity=2, legs=VERTICAL, order_type="limit", limit_price="5", version=2)
    if not desk.can.most_legs:
        with pytest.raises(Unsupported):
            desk.place(wanted)
        assert desk.arrivals() == 0
        return
    placed = desk.place(wanted)
    eventually(lambda: _held(desk) == {_LOW: 2, _HIGH: -2})
    desk.restart()
    found = desk.settled(wanted, BrokerStatus.FILLED, broker_order_id=placed.broker_order_id)
    assert (found.quantity, found.filled_quantity, found.limit_price) == (2, 2, 5)
    since = wanted.created_at - timedelta(seconds=5)
    fills = eventually(lambda: len(fills := desk.broker.get_fills(since)) == 2 and fills)
    told = sorted((fill.symbol, fill.quantity, fill.leg or number) for number, fill in _numbered(fills))
    assert told == [(_LOW, 2, 1), (_HIGH, 2, 2)]


def test_c15_a_bracket_is_linked_by_its_broker(desk: Desk) -> None:
    """C15 A bracket goes out as one, its exits wake by its entry, and one ends the other, or it is not sent.

    When: a bracket around ten KO, and then a price at which the take profit is met.
    Then: the answer shows each leg; the entry and the take profit are filled, the stop is canceled, and nothing else is
    at the broker; or, where the capabilities leave brackets out, Unsupported, and nothing has reached the broker.
    """
    desk.price("KO", "60")
    orders = _bracket()
    if GroupKind.BRACKET not in desk.can.groups:
        with pytest.raises(Unsupported, match="bracket"):
            desk.place(orders[0])
        assert desk.arrivals() == 0
        return
    numbers = [*desk.broker.reserve_ids(len(orders)), *(None for _ in orders)]
    links = tuple(
        LinkedOrder(order=one, broker_client_order_id=one.client_order_id, session_order_id=number)
        for one, number in zip(orders[1:], numbers[1:], strict=False)
    )
    answer = desk.broker.place_order(
        Ticket(
            order=orders[0], broker_client_order_id=orders[0].client_order_id, deadline_s=3.0,
            still_mine=lambda: None, legs=links, session_order_id=numbers[0],
        )
    )  # fmt: skip
    assert len(answer.legs) == len(links)
    eventually(lambda: _states(desk) == {"market": "filled", "limit": "live", "stop": "live"})
    desk.price("KO", "67")
    eventually(lambda: _states(desk) == {"market": "filled", "limit": "filled", "stop": "canceled"})
    found = desk.settled(orders[0], BrokerStatus.FILLED, broker_order_id=answer.broker_order_id, legs=links)
    assert found.filled_quantity == 10


def test_c16_a_preview_places_nothing(desk: Desk) -> None:
    """C16 A preview tells of an order what the broker can tell, and places nothing.

    When: a preview of an order that would be filled at once.
    Then: it is supported, and nothing is at the broker, in a listing, or told.
    """
    told = desk.broker.preview_order(order("KO"))
    assert told.supported
    assert told.refused is None
    assert desk.orders() == []
    assert list(desk.broker.get_orders(open_only=False)) == []
    assert desk.reports == []


def _numbered(fills: Sequence[FillReport]) -> list[tuple[int, FillReport]]:
    return [([_LOW, _HIGH].index(str(fill.symbol)) + 1, fill) for fill in fills]


def _bracket() -> list[OrderRequest]:
    id_ = fresh_id()
    return [
        order(
            "KO", client_order_id=id_ if leg == "entry" else f"{id_}.{leg}", time_in_force="gtc", version=2,
            group=Membership(id_, GroupKind.BRACKET, leg), **EXITS[leg],
        )
        for leg in LEGS[GroupKind.BRACKET]
    ]  # fmt: skip


def _held(desk: Desk) -> dict[str, Any]:
    return {held.symbol: held.quantity for held in desk.broker.get_positions()}


def _states(desk: Desk) -> dict[str, str]:
    seen = desk.orders()
    assert len(seen) <= len(EXITS), "more than a bracket is at the broker"
    return {one.order_type: one.state for one in seen}
