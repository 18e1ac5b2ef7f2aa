"""Orders for an amount of money: one size, no quantity, ended by their broker's word, bounded in money."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from models.errors import IdempotencyConflict, InvalidOrder, Unsupported
from models.messages import OrderRequest
from models.record.batch import OrderBatch
from models.record.database import Database
from models.record.intake import Intake, body_of, request_of
from models.record.replaces import request_replace
from models.record.tables import order_events, orders
from models.record.usage import uses
from models.reports import BrokerStatus, OrderReport
from models.risk.decision import Pass, Refuse, RiskVerdict, decide_risk
from models.risk.facts import Intended, ReferencePrice, Usage, Used
from models.risk.names import EVERYTHING, Limit, read_value
from models.settings import Settings
from models.terms import conflicts
from models.vocabulary import Side
from tests.unit.fills import Record, execution
from tests.unit.words import NOW, Put, Run
from worker.brokers.alpaca.terms import order_body
from worker.brokers.base import Capabilities

D = Decimal
KO = {"symbol": "KO", "side": "buy", "notional": "100", "client_order_id": "n-1"}


# -- THE OBJECT ---
@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"quantity": 1}, "quantity: an order of money"),
        ({"notional": None}, "quantity: is required"),
        ({"side": "sell"}, "side: an order of money buys"),
        ({"side": "sell_short"}, "side: an order of money buys"),
        ({"order_type": "trailing_stop", "trail_percent": 1}, "order_type: an order of money"),
        ({"time_in_force": "gtc"}, "time_in_force: an order of money"),
        ({"symbol": "AAPL261218C00200000"}, "notional: asset_class option"),
        ({"symbol": "EUR/USD", "asset_class": "forex"}, "notional: asset_class forex"),
        ({"group": {"id": "g", "kind": "oco", "leg": "first"}}, "notional: no linked orders"),
        ({"version": 1}, "notional: only an order object of version 2"),
        ({"notional": 0}, "notional"),
        ({"notional": True}, "notional"),
    ],
)
def test_an_order_of_money_says_only_what_there_is(terms: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOrder, match=words):
        OrderRequest(**(KO | terms))


@pytest.mark.parametrize(
    "terms",
    [{}, {"order_type": "limit", "limit_price": 60}, {"symbol": "BTC/USD", "asset_class": "crypto"}],
)
def test_it_travels_and_is_read_again_as_it_was(intake: Intake, terms: dict[str, Any]) -> None:
    wanted = OrderRequest(**(KO | terms))
    (row,) = intake.record([wanted])
    assert (row["quantity"], row["notional"], wanted.version) == (None, 100, 2)
    for again in (request_of(row), OrderRequest(**body_of(row)), OrderRequest(**wanted.to_wire())):
        assert (again.quantity, again.notional, again.body_hash) == (None, 100, wanted.body_hash)


def test_the_same_amount_is_the_same_order_and_another_is_a_conflict(intake: Intake) -> None:
    intake.record([OrderRequest(**KO)])
    intake.record([OrderRequest(**KO | {"notional": "100.00"})])
    for other in ({"notional": "101"}, {"notional": None, "quantity": "100"}):
        with pytest.raises(IdempotencyConflict):
            intake.record([OrderRequest(**KO | other)])


def test_the_command_takes_an_amount_in_place_of_a_quantity(corro: Run) -> None:
    status, out, err = corro("submit", "KO", "buy", "--notional", "100", "--id", "n-1", "--json")
    assert (status, '"notional": "100"' in out, '"quantity": null' in out) == (0, True, True), err
    assert corro("submit", "KO", "buy", "10", "--notional", "100")[0] == 2
    _, table, _ = corro("orders")
    assert "100" in table


# -- THE BROKERS ---
def test_a_broker_without_them_refuses_in_words_before_sending() -> None:
    wanted = OrderRequest(**KO)
    with pytest.raises(Unsupported, match=r"schwab takes a quantity, and no amount of money \(notional\), was 100"):
        Capabilities().check(wanted, "schwab")
    Capabilities(fractional=True, notional=True).check(wanted, "alpaca")
    body = order_body(wanted, "n-1")
    assert (body["notional"], "qty" in body) == ("100", False)


def shown(**terms: Any) -> OrderReport:
    given = {"symbol": "KO", "side": Side.BUY, "submitted_at": datetime.now(UTC)} | terms
    return OrderReport(broker_order_id="7", status=BrokerStatus.ACCEPTED, **given)


def test_an_order_is_told_by_its_amount_like_by_its_quantity() -> None:
    money, units = OrderRequest(**KO), OrderRequest(symbol="KO", side="buy", quantity=100)
    assert conflicts(money, shown(notional=D(100))) == conflicts(units, shown(quantity=D(100))) == []
    assert conflicts(money, shown()) == []
    assert conflicts(money, shown(notional=D(99))) == ["notional 99 instead of 100"]
    assert conflicts(money, shown(quantity=D(100))) == ["quantity 100 instead of an amount of money"]
    assert conflicts(units, shown(notional=D(100))) == ["100 of money (notional) instead of a quantity"]


# -- THE RECORD ---
@pytest.fixture
def bought(database: Database, settings: Settings, put: Put) -> Record:
    put(status="accepted", quantity=None, notional=D(100), attempt={"outcome": "accepted", "broker_order_id": "7"})
    return Record(database, settings)


def told(status: BrokerStatus, filled: str) -> OrderReport:
    return OrderReport(
        broker_order_id="7", broker_client_order_id="o-1", status=status, filled_quantity=D(filled), notional=D(100)
    )


@pytest.mark.parametrize("read", [True, False])
def test_it_is_filled_when_its_broker_says_so(bought: Record, read: bool) -> None:
    tell = bought.read if read else bought.pushed
    tell(execution("a", "0.5", 100, up_to="0.5"), told(BrokerStatus.PARTIALLY_FILLED, "0.5"))
    assert bought.order["status"] == "partially_filled"
    tell(execution("b", "0.5", 100, up_to=1))
    assert bought.order["status"] == "partially_filled", "adding up ends no order of money"
    tell(told(BrokerStatus.FILLED, "1"))
    assert (bought.order["status"], bought.order["filled_quantity"], bought.order["quantity"]) == ("filled", 1, None)
    assert bought.events("overfilled") == []
    tell(execution("b", "0.5", 100, up_to=1), told(BrokerStatus.FILLED, "1"))
    assert bought.order["filled_quantity"] == 1


def test_a_word_that_comes_before_its_executions_books_each_once(bought: Record) -> None:
    bought.pushed(replace(told(BrokerStatus.FILLED, "1.25"), avg_fill_price=D(80)))
    bought.pushed(execution("a", "1.25", 80, up_to="1.25"))
    assert bought.standing == [("a", D("1.25"), D(80))]
    assert (bought.order["status"], bought.order["avg_fill_price"]) == ("filled", 80)


@pytest.mark.parametrize("end", ["canceled", "expired"])
def test_what_it_bought_until_its_end_stands(bought: Record, end: str) -> None:
    bought.read(execution("a", "0.5", 100), told(BrokerStatus(end), "0.5"))
    assert (bought.order["status"], bought.order["filled_quantity"]) == (end, D("0.5"))


def test_more_money_than_was_ordered_is_said_once_and_a_cent_is_rounding(bought: Record) -> None:
    bought.read(execution("a", "1", "100.01"))
    assert bought.events("overfilled") == []
    bought.read(execution("b", "0.01", 100), execution("b", "0.01", 100))
    assert bought.events("overfilled") == ["bought for 101.01 instead of 100"]


def test_it_is_not_replaced(bought: Record) -> None:
    with bought.database.write() as connection:
        batch = OrderBatch.open(connection, ["o-1"], NOW)
        with pytest.raises(InvalidOrder, match="for an amount of money"):
            request_replace(batch["o-1"], {"quantity": "5"})


def test_an_order_that_has_traded_is_not_sent_a_second_time(bought: Record) -> None:
    from models.lifecycle import Event, Fact, State, apply
    from models.vocabulary import Status

    state = State(Status.PARTIALLY_FILLED, None, D("0.5"), 1)
    assert not apply(state, Event(Fact.REQUEUED, 1)).changed
    assert apply(replace(state, filled_quantity=D(0)), Event(Fact.FILLED, 1, D(10**9))).state.status == state.status


# -- THE LIMITS ---
MONEY = Intended(symbol="KO", side=Side.BUY, quantity=None, adds=None, notional=D(100), created_at=NOW, broker="alpaca")
PRICE = ReferencePrice(D(50), NOW - timedelta(seconds=5), "quote alpaca")


def judged(name: str, value: str, price: ReferencePrice | None, order: Intended = MONEY, **used: Any) -> RiskVerdict:
    found = Limit(EVERYTHING, EVERYTHING, name, read_value(name, value))
    return decide_risk(order, [found], Usage({(EVERYTHING, EVERYTHING): Used(**used)}), price, "regular", NOW)


@pytest.mark.parametrize(
    ("name", "value", "price", "used", "code"),
    [
        ("max_value", "100", None, {}, None),
        ("max_value", "99.99", None, {}, "order_value"),
        ("max_day_value", "150", None, {"sent_value": D(50)}, None),
        ("max_day_value", "149", None, {"sent_value": D(50)}, "day_value"),
        ("max_open_value", "149", None, {"open_buy": D(50)}, "open_value"),
        ("max_quantity", "2", PRICE, {}, None),
        ("max_quantity", "1.9", PRICE, {}, "order_quantity"),
        ("max_quantity", "1000", None, {}, "no_price"),
        ("max_position", "12", PRICE, {"held": D(10)}, None),
        ("max_position", "11", PRICE, {"held": D(10)}, "position"),
        ("max_position", "1000", None, {}, "no_price"),
        ("max_position", "1000", replace(PRICE, at=NOW - timedelta(hours=1)), {}, "no_price"),
    ],
)
def test_limits_know_its_money_and_need_a_price_for_its_units(
    name: str, value: str, price: ReferencePrice | None, used: dict[str, Any], code: str | None
) -> None:
    verdict = judged(name, value, price, **used)
    assert (str(verdict.code) if isinstance(verdict, Refuse) else None) == code
    if price is PRICE and code is None:
        assert isinstance(verdict, Pass)
        assert verdict.price == 50


def test_what_it_uses_is_its_money_less_what_was_bought_and_the_units_that_leaves(bought: Record) -> None:
    def used() -> dict[str, Decimal]:
        with bought.database.write() as connection:
            entry = OrderBatch.open(connection, ["o-1"], NOW)["o-1"]
            entry.attempts[1]["reserved"] = {"day": "2026-01-05", "price": "50"}
            (found,) = uses(entry.order, entry.attempts).values()
            return found

    before = used()
    assert (before["sent_value"], before["open_buy"], before["buying"]) == (100, 100, 2)
    bought.read(execution("a", "1", 60), told(BrokerStatus.PARTIALLY_FILLED, "1"))
    after = used()
    assert (after["sent_value"], after["open_buy"], after["buying"]) == (100, 40, 1)
    bought.read(told(BrokerStatus.FILLED, "1"))
    assert (used()["open_buy"], used()["sent_value"]) == (0, 100)


def test_the_record_keeps_what_was_asked_of_an_amount_that_cannot_be_read(intake: Intake) -> None:
    intake.take([KO | {"side": "sell"}], "alpaca")
    with intake.database.read() as connection:
        row = connection.execute(select(orders)).mappings().one()
        kinds = list(connection.execute(select(order_events.c.kind)).scalars())
    assert (row["status"], row["notional"], row["quantity"], kinds) == ("denied", 100, None, ["denied"])
