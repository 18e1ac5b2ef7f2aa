"""An order that a broker made and calls rejected: it may work again, so it is looked for before another broker gets it.

Alpaca answers 200 with status `rejected`, Schwab and TDA 201 and then REJECTED: an order with an id is there.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from models.errors import InsufficientFunds, OrderRejected
from models.reports import BrokerStatus
from tests.unit.test_succession import Contest, contest, executed, shown
from tests.unit.words import Put
from worker.orders.succession import LATE_REFUSAL, is_doubted

__all__ = ["contest"]
D = Decimal
NO = InsufficientFunds("alpaca rejected the order: no", broker="alpaca", broker_order_id="b1")
SENT_ON = ("queued", "ibkr", "refused")


def waits(contest: Contest) -> bool:
    """It is to be canceled and looked for: no other broker has got it."""
    assert (contest.order["status"], contest.order["broker"]) == ("submitted", "alpaca")
    assert (contest.row(1)["code"], contest.row(1)["broker_order_id"]) == (LATE_REFUSAL, "b1")
    return is_doubted(contest.row(1))


def test_an_answer_that_names_a_rejected_order_moves_on_only_when_it_is_dead(contest: Contest, put: Put) -> None:
    put(broker="alpaca", route=["alpaca", "ibkr"])
    contest.answered(1, NO)
    assert waits(contest)
    assert contest.row(1)["ended_at"] is not None  # whoever sent it is back from its send
    contest.told(shown(1, BrokerStatus.REJECTED, filled_quantity=D(0)))  # overheard, it says no more than before
    assert waits(contest)
    contest.answered(1, OrderRejected("looked for, and dead", broker="alpaca"))
    assert (contest.order["status"], contest.order["broker"], contest.row(1)["outcome"]) == (
        "queued",
        "ibkr",
        "refused",
    )


def test_a_rejected_order_that_fills_is_not_sent_elsewhere(contest: Contest, put: Put) -> None:
    put(broker="alpaca", route=["alpaca", "ibkr"])
    contest.answered(1, NO)
    contest.told(executed(1, "10"))
    assert (contest.order["status"], contest.order["filled_quantity"]) == ("filled", 10)


@pytest.mark.parametrize("outcome", ["sending", "unknown"])
def test_an_order_that_was_found_rejected_is_canceled_and_looked_for(contest: Contest, put: Put, outcome: str) -> None:
    put(broker="alpaca", route=["alpaca", "ibkr"], attempt={"outcome": outcome})
    contest.told(shown(1, BrokerStatus.REJECTED, filled_quantity=D(0)), infer=True)
    assert waits(contest)


def test_a_refusal_without_an_order_goes_on_at_once(contest: Contest, put: Put) -> None:
    put(broker="alpaca", route=["alpaca", "ibkr"])
    contest.answered(1, InsufficientFunds("no", broker="alpaca"))
    assert (contest.order["status"], contest.order["broker"], contest.row(1)["outcome"]) == SENT_ON


def test_a_replace_whose_new_order_is_rejected_is_refused_and_keeps_its_id(contest: Contest, put: Put) -> None:
    put(status="accepted", broker="alpaca", attempt={"outcome": "accepted", "broker_order_id": "b1"})
    contest.attempt(2, replaces=1, terms={"quantity": "20"})
    contest.answered(2, OrderRejected("no", broker="alpaca", broker_order_id="b2"))
    assert (contest.row(2)["outcome"], contest.row(2)["broker_order_id"]) == ("refused", "b2")
    assert (contest.order["status"], contest.order["attempt_no"]) == ("accepted", 1)
