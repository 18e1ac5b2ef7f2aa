"""Schwab and TDA refuse one order, prices alone, or everything that we ask: only the first is an answer about it."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import (
    AccessLost,
    BrokerError,
    DataNotPermitted,
    InsufficientFunds,
    NotPermitted,
    NotSent,
    Refused,
)
from tests.contract.suite.desk import now, order, ref, resting
from tests.contract.tda_desks import DAY, desk, schwab

__all__ = ["desk", "schwab"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_access_that_ends_is_no_refusal_of_the_order(desk: Any, status: int) -> None:
    desk.fault("no_access", None, status=status)
    with pytest.raises(BrokerError) as caught:
        desk.place(order())
    assert isinstance(caught.value, AccessLost)
    assert isinstance(caught.value, NotSent)
    assert not desk.broker.is_connected()
    assert desk.orders() == []
    for read in (desk.broker.get_orders, desk.broker.get_positions, lambda: desk.find(order())):
        with pytest.raises(AccessLost):
            read()
    with pytest.raises(AccessLost):
        desk.broker.connect()
    desk.back()
    desk.place(order())


PRICES: dict[str, Any] = {
    "quote": lambda desk: desk.broker.get_market_data("AAPL"),
    "bars": lambda desk: desk.broker.get_historical_data("AAPL", "1Day", now() - 9 * DAY, now()),
}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("asked", PRICES)
def test_prices_that_are_refused_like_everything_else_are_an_access_that_is_lost(
    desk: Any, asked: str, status: int
) -> None:
    desk.fault("no_access", None, status=status, prices=True)
    with pytest.raises(AccessLost):
        PRICES[asked](desk)
    assert not desk.broker.is_connected()


@pytest.mark.parametrize("status", [401, 403])
def test_prices_that_are_refused_alone_leave_orders_their_way(desk: Any, status: int) -> None:
    desk.fault("status", None, status=status, operation=["quote", "bars"])
    for ask in (*PRICES.values(), *PRICES.values()):
        with pytest.raises(DataNotPermitted):
            ask(desk)
    assert desk.broker.is_connected()
    desk.place(order())


@pytest.mark.parametrize("asked", PRICES)
def test_a_token_that_nobody_renews_ends_the_access_of_prices_too(desk: Any, asked: str) -> None:
    desk.fault("token_expired", None)
    desk.fault("status", None, status=400, operation="token")
    with pytest.raises(AccessLost):
        PRICES[asked](desk)
    assert not desk.broker.is_connected()


@pytest.mark.parametrize("status", [404, 400])
def test_an_account_that_is_called_otherwise_is_found_anew(schwab: Any, status: int) -> None:
    kept = schwab.place(resting())
    old = schwab.broker._account
    schwab.fault("account_renamed", status=status)
    with pytest.raises(AccessLost):
        schwab.place(order())
    with pytest.raises(NotSent):
        schwab.broker.cancel_order(ref(resting(), kept.broker_order_id))
    schwab.broker.connect()
    assert schwab.broker._account != old
    schwab.place(order(symbol="MSFT"))
    schwab.broker.cancel_order(ref(resting(), kept.broker_order_id))


def test_what_is_refused_is_noted_under_whatever_name_of_the_account_it_came(schwab: Any) -> None:
    schwab.fault("account_renamed")
    schwab.fault("refuse")
    with pytest.raises(Refused):
        schwab.place(order(symbol="MSFT"))
    assert [line["symbol"] for line in schwab.house.arrivals("schwab")] == ["MSFT"]


#: What a 400 says -> what it is: all of these are about the order.
ABOUT_THE_ORDER: dict[str, type[Refused]] = {
    "This account is not approved for short selling": Refused,
    "Order quantity is not valid for this account type": Refused,
    "You do not have enough available cash/buying power for this order.": InsufficientFunds,
    "Account_Sys_0005": Refused,
    "A validation error occurred while processing the request.": Refused,
}


@pytest.mark.parametrize("words", ABOUT_THE_ORDER)
def test_a_400_about_the_order_stays_a_refusal(desk: Any, words: str) -> None:
    desk.fault("refuse", text=words)
    with pytest.raises(ABOUT_THE_ORDER[words]):
        desk.place(order())
    assert desk.broker.is_connected()


def test_a_403_to_one_order_is_a_refusal_of_it(desk: Any) -> None:
    desk.fault("refuse", status=403, text="This security may not be traded online")
    with pytest.raises(NotPermitted):
        desk.place(order())
    assert desk.broker.is_connected()


def test_the_time_of_the_last_answer_about_the_account_is_known(desk: Any) -> None:
    before = desk.broker.answered_at
    desk.broker.get_market_data("AAPL")
    assert desk.broker.answered_at == before is not None, "prices are none about the account"
    desk.broker.get_positions()
    after = desk.broker.answered_at
    assert after > before
    desk.fault("no_access", None, status=401)
    with pytest.raises(AccessLost):
        desk.broker.get_positions()
    assert desk.broker.answered_at == after
