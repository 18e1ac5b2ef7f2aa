"""Orders with legs: what may be one, whose they are, which position an execution moves, what limits see of them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from models.errors import IdempotencyConflict, InvalidOrder, Unsupported
from models.legs import net_of, stored_legs
from models.messages import OrderRequest, utcnow
from models.record.chain import verify
from models.record.database import Database
from models.record.intake import Intake, body_of, request_of
from models.record.soundness import unsound
from models.record.tables import fills, order_events, orders
from models.record.usage import uses
from models.reports import BrokerStatus, FillReport, LegReport, OrderReport
from models.risk.decision import Refuse, decide_risk
from models.risk.facts import Intended, Usage
from models.risk.names import Limit
from models.terms import contradictions, is_another
from models.vocabulary import Side
from tests.unit.fills import Record, execution, total
from tests.unit.linked_desk import LinkedDesk
from worker.brokers.base import Capabilities
from worker.brokers.tda.dialects import SCHWAB
from worker.brokers.tda.terms import order_body
from worker.control.brake import Movement, movement_of
from worker.orders.uneven import uneven
from worker.risk.limiter import limits_of_legs

D = Decimal
LOW, HIGH = "KO280121C00060000", "KO280121C00065000"
BUY, SELL = {"symbol": LOW, "side": "buy", "ratio": 1}, {"symbol": HIGH, "side": "sell", "ratio": 1}
SHARES = {"symbol": "KO", "side": "buy", "ratio": 100}


def vertical(**more: Any) -> OrderRequest:
    given = {"client_order_id": "o-1", "symbol": "KO", "side": "buy", "quantity": 10, "legs": [BUY, SELL]}
    return OrderRequest(**given | more)


# -- WHAT MAY BE ONE ---
@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"side": "sell"}, "side:"),
        ({"quantity": "1.5"}, "quantity: .* was 1.5"),
        ({"order_type": "stop", "stop_price": 1}, "order_type: .* market or limit, was stop"),
        ({"order_type": "limit", "limit_price": "0.005"}, "limit_price: .* 0.01, was 0.005"),
        ({"time_in_force": "opg"}, "time_in_force: of options .*, was opg"),
        ({"extended_hours": True}, "extended_hours:"),
        ({"symbol": "PEP"}, "is not of PEP"),
        ({"legs": [BUY]}, "legs: must be a list of 2 to 8 legs, was 1"),
        ({"legs": [BUY, BUY]}, "legs: each trades another symbol"),
        ({"legs": [BUY | {"ratio": 2}, SELL | {"ratio": 4}]}, "lowest terms: 1:2, were 2:4"),
        ({"legs": [BUY, SELL | {"ratio": "0.5"}]}, "ratio of leg 2"),
        ({"legs": [BUY, SELL | {"symbol": "EUR/USD"}]}, "symbol of leg 2"),
        ({"legs": [BUY, SELL | {"position_effect": "roll"}]}, "position_effect of leg 2"),
        ({"legs": [BUY, SELL | {"side": "hold"}]}, "side of leg 2"),
        ({"legs": [BUY, SELL | {"account": "x"}]}, "leg 2 must be"),
        ({"legs": [BUY, {"symbol": "KO200117C00050000", "side": "sell"}]}, "has expired"),
        ({"group": {"id": "g", "kind": "oto", "leg": "first"}}, "group:"),
        ({"version": 1}, "legs: only an order object of version 2"),
    ],
)
def test_what_is_no_package_is_refused_with_its_rule(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidOrder, match=word.replace("(", r"\(")):
        vertical(**wrong)


@pytest.mark.parametrize("price", ["1.20", "-1.20", "0"])
def test_a_package_may_be_paid_received_or_even_and_nothing_else_may(price: str) -> None:
    assert vertical(order_type="limit", limit_price=price).limit_price == D(price)
    if D(price) <= 0:
        with pytest.raises(InvalidOrder, match="limit_price: must be greater than zero"):
            OrderRequest(symbol="KO", side="buy", quantity=1, order_type="limit", limit_price=price)


def test_an_order_comes_back_from_its_row_with_its_legs_and_another_body_is_a_conflict(intake: Intake) -> None:
    (row,) = intake.record([order := vertical(order_type="limit", limit_price="-0.50")])
    assert request_of(row).legs == order.legs
    assert OrderRequest(**body_of(row)).body_hash == order.body_hash
    assert unsound(row) is None
    assert intake.record([vertical(order_type="limit", limit_price="-0.5")])[0]["client_order_id"] == "o-1"
    with pytest.raises(IdempotencyConflict):
        intake.record([vertical(order_type="limit", limit_price="-0.5", legs=[BUY, SELL | {"ratio": 2}])])


# -- WHOSE IT IS ---
def shown(*legs: LegReport, **more: Any) -> OrderReport:
    return OrderReport(
        broker_order_id="7", status=BrokerStatus.ACCEPTED, quantity=D(10), package=legs, **more
    )  # fmt: skip


OURS = LegReport(symbol=LOW, side=Side.BUY, ratio=D(1)), LegReport(symbol=HIGH, side=Side.SELL_SHORT, ratio=D(1))


@pytest.mark.parametrize(
    ("report", "is_ours"),
    [
        (shown(*OURS), True),
        (shown(*reversed(OURS)), True),
        (shown(OURS[0]), False),
        (shown(OURS[0], LegReport(symbol=HIGH, side=Side.SELL, ratio=D(2))), False),
        (shown(OURS[0], LegReport(symbol=HIGH, side=Side.BUY, ratio=D(1))), False),
        (shown(OURS[0], LegReport(symbol=None, side=Side.SELL, ratio=D(1))), False),
        (shown(symbol="KO", side=Side.BUY), False),
    ],
)
def test_a_package_is_ours_by_each_of_its_legs(report: OrderReport, is_ours: bool) -> None:
    assert (contradictions(vertical(), report) == []) == is_ours
    plain = OrderRequest(symbol="KO", side="buy", quantity=10)
    assert contradictions(plain, shown(*OURS, symbol="KO", side=Side.BUY)) != []


def test_an_execution_of_the_underlying_is_none_of_a_package() -> None:
    row: Any = {"symbol": "KO", "side": "buy", "legs": [BUY, SELL]}
    assert is_another(row, execution("a", 1, symbol="KO", side=Side.BUY))
    assert is_another(row, execution("a", 1, symbol=LOW, side=Side.SELL))
    assert not is_another(row, execution("a", 1, symbol=HIGH, side=Side.SELL))


# -- FILLS BY LEG ---
@pytest.fixture
def package(record: Record) -> Record:
    record.change(symbol="KO", legs=[BUY, SELL])
    return record


def part(id_: str, symbol: str, quantity: int, price: str) -> FillReport:
    return execution(id_, quantity, price, symbol=symbol, side=Side.BUY if symbol == LOW else Side.SELL)


def test_whole_packages_count_and_each_execution_is_of_its_leg(package: Record) -> None:
    package.pushed(part("a", LOW, 6, "3.00"))
    assert (package.order["status"], package.order["filled_quantity"]) == ("partially_filled", 0)
    package.pushed(part("b", HIGH, 4, "1.00"))
    assert (package.order["filled_quantity"], package.order["avg_fill_price"]) == (4, D(2))
    package.pushed(part("c", HIGH, 6, "2.00"), part("d", LOW, 4, "3.50"))
    assert (package.order["status"], package.order["filled_quantity"]) == ("filled", 10)
    assert package.order["avg_fill_price"] == D("3.20") - D("1.60")
    assert [(row["leg"], row["symbol"], row["side"]) for row in package.rows][:2] == [
        (1, LOW, "buy"), (2, HIGH, "sell"),
    ]  # fmt: skip


def test_executions_of_two_legs_under_one_id_are_two(package: Record) -> None:
    """A fill is unique by broker, execution and leg: of a package whose broker names both alike, none is lost."""
    for _ in range(2):
        package.pushed(part("a", HIGH, 10, "1.00"), part("a", LOW, 10, "3.00"))
    assert sorted((row["leg"], row["symbol"], row["quantity"]) for row in package.rows) == [(1, LOW, 10), (2, HIGH, 10)]
    assert (package.order["status"], package.order["avg_fill_price"]) == ("filled", D(2))
    package.pushed(replace(part("a", LOW, 10, "3.50"), revision=1))
    assert package.order["avg_fill_price"] == D("2.50")


def test_an_execution_of_which_nobody_knows_the_leg_moves_nothing(package: Record) -> None:
    package.pushed(execution("a", 6, "3.00"))
    assert package.rows == []
    package.read(total(10))
    assert [(row["leg"], row["quantity"], row["inferred"]) for row in package.rows] == [(1, 10, True), (2, 10, True)]


def test_what_was_inferred_of_a_leg_gives_way_to_its_own_executions_alone(package: Record) -> None:
    package.read(total(10))
    package.pushed(part("a", HIGH, 10, "1.00"))
    assert [(row["execution_id"], row["quantity"]) for row in package.rows if row["voided_at"] is None] == [
        ("inferred:o-1/1", 10), ("a", 10),
    ]  # fmt: skip
    assert package.order["filled_quantity"] == 10
    with package.database.read() as connection:
        assert not [words for words in verify(connection).objections if "by its fills" in words]


def test_a_package_whose_legs_traded_is_not_refused_for_it(package: Record) -> None:
    """One leg traded, and its broker calls the rest rejected: nothing goes elsewhere."""
    package.pushed(part("a", LOW, 10, "3.00"), total(0, BrokerStatus.REJECTED))
    assert package.order["status"] == "canceled"
    assert len(package.rows) == 1


def test_a_package_under_an_id_that_another_has_is_told_in_words(intake: Intake) -> None:
    intake.record([vertical()])
    with pytest.raises(IdempotencyConflict, match=rf"legs \(\+1 {LOW} -1 {HIGH}; this one \+1 {LOW} -2 {HIGH}\)"):
        intake.record([vertical(legs=[BUY, SELL | {"ratio": 2}])])


# -- LIMITS, CONTROLS ---
def test_a_symbol_that_may_not_be_traded_is_traded_in_no_package() -> None:
    order = Intended(
        symbol="KO", side=Side.BUY, quantity=D(10), adds=D(10), created_at=utcnow(), multiplier=D(100),
        legs=stored_legs([BUY, SELL | {"ratio": 3}]),
    )  # fmt: skip
    limits = [Limit("symbol", HIGH, "max_quantity", D(29)), Limit("*", "*", "max_quantity", D(10))]
    found = {leg.symbol: (leg, own) for leg, own in limits_of_legs(limits, order)}
    leg, own = found[HIGH]
    assert (found[LOW][1], own) == ([], limits[:1])
    assert isinstance(decide_risk(leg, own, Usage(), None, None, utcnow()), Refuse)
    assert not isinstance(decide_risk(order, limits[1:], Usage(), None, None, utcnow()), Refuse)


@pytest.mark.parametrize(("kind", "scope"), [("symbol", "KO"), ("strategy+symbol", "dip:KO")])
def test_the_size_of_a_shares_symbol_holds_for_the_share_leg_whose_symbol_the_package_has(
    kind: str, scope: str
) -> None:
    order = Intended(
        symbol="KO", side=Side.BUY, quantity=D(10), adds=D(10), created_at=utcnow(), multiplier=D(100),
        strategy="dip", legs=stored_legs([SHARES, SELL]),
    )  # fmt: skip
    for most, is_refused in ((999, True), (1000, False)):
        limits = [Limit(kind, scope, "max_quantity", D(most)), Limit("strategy", "dip", "max_quantity", D(10))]
        (shares, own), (_, of_option) = limits_of_legs(limits, order)
        assert (own, of_option) == (limits[:1], [])
        assert isinstance(decide_risk(shares, own, Usage(), None, None, utcnow()), Refuse) == is_refused


def test_limits_count_packages_by_their_net_and_positions_by_leg() -> None:
    order = Intended(
        symbol="KO", side=Side.BUY, quantity=D(10), adds=D(10), created_at=utcnow(), limit_price=D("-1.20"),
        multiplier=D(100), legs=stored_legs([BUY, SELL | {"ratio": 3}]),
    )  # fmt: skip

    def verdict(name: str, value: int, of: Intended) -> Any:
        return decide_risk(of, [Limit("*", "*", name, D(value))], Usage(), None, None, utcnow())

    assert isinstance(verdict("max_value", 1199, order), Refuse)
    assert not isinstance(verdict("max_value", 1200, order), Refuse)
    held = {leg.symbol: verdict("max_position", 29, leg) for leg in order.by_leg}
    assert [isinstance(one, Refuse) for one in held.values()] == [False, True]


def test_an_open_package_uses_positions_of_its_legs_and_value_of_its_own(intake: Intake) -> None:
    (row,) = intake.record([vertical(order_type="limit", limit_price="-1.20")])
    attempt: Any = {
        "broker": "ibkr", "outcome": "accepted", "replaces": None, "terms": None, "account": None,
        "reserved": {"day": "2026-11-30", "price": "120"},
    }  # fmt: skip
    open_: Any = row | {"status": "accepted", "attempt_no": 1}
    found = {key[3]: (one["buying"], one["selling"], one["open_buy"]) for key, one in uses(open_, {1: attempt}).items()}
    assert found == {"KO": (0, 0, 1200), LOW: (10, 0, 0), HIGH: (0, 10, 0)}


@pytest.mark.parametrize("effects", [("close", "close"), ("close", "open"), (None, "close")])
def test_only_a_package_whose_every_leg_closes_passes_where_nothing_may_grow(effects: tuple[str | None, ...]) -> None:
    legs = [leg | {"position_effect": effect} for leg, effect in zip((BUY, SELL), effects, strict=True)]
    closes = movement_of({"side": "buy", "legs": legs}) is Movement.CLOSES
    assert closes == (effects == ("close", "close"))


# -- BROKERS ---
@pytest.mark.parametrize(
    ("takes", "legs"),
    [(Capabilities(), [BUY, SELL]), (Capabilities(most_legs=2), [BUY, SELL, SELL | {"symbol": "KO280121P00055000"}]),
     (Capabilities(most_legs=4), [SHARES, SELL])],
)  # fmt: skip
def test_a_broker_without_such_orders_refuses_them_before_sending(takes: Capabilities, legs: list[Any]) -> None:
    with pytest.raises(Unsupported):
        takes.check(vertical(legs=legs), "paper")
    Capabilities(most_legs=4, legs_in_shares=True).check(vertical(legs=legs), "paper")


@pytest.mark.parametrize(
    ("legs", "price", "words"),
    [
        ([BUY, SELL], "1.20", ("VERTICAL", "NET_DEBIT", "1.20")),
        ([BUY, SELL], "-1.20", ("VERTICAL", "NET_CREDIT", "1.20")),
        ([BUY, SELL], "0", ("VERTICAL", "NET_ZERO", None)),
        ([SHARES, SELL], "55", ("COVERED", "NET_DEBIT", "55.00")),
        ([BUY, BUY | {"symbol": "KO280121P00060000"}], None, ("STRADDLE", "MARKET", None)),
        ([BUY, BUY | {"symbol": "KO280121P00055000"}], None, ("STRANGLE", "MARKET", None)),
        ([BUY, SELL | {"symbol": "KO280616C00060000"}], None, ("CALENDAR", "MARKET", None)),
        ([BUY, SELL | {"ratio": 2}], None, ("CUSTOM", "MARKET", None)),
    ],
)
def test_schwab_is_told_the_strategy_the_net_price_and_the_size_of_each_leg(
    legs: list[Any], price: str | None, words: tuple[str, str, str | None]
) -> None:
    order = vertical(legs=legs, **({"order_type": "limit", "limit_price": price} if price else {}))
    body: Any = order_body(order, SCHWAB, "schwab")
    assert (body["complexOrderStrategyType"], body["orderType"], body.get("price")) == words
    assert [leg["quantity"] for leg in body["orderLegCollection"]] == [10 * leg["ratio"] for leg in legs]


def test_the_net_of_a_covered_call_is_per_share() -> None:
    assert net_of(stored_legs([SHARES, SELL]), [D("62"), D("1.50")]) == D("60.5")


def test_a_package_that_is_good_till_a_date_says_so_to_its_broker() -> None:
    till = utcnow() + timedelta(days=3)
    order = vertical(order_type="limit", limit_price="1.20", time_in_force="gtd", good_till=till)
    assert order_body(order, SCHWAB, "schwab")["cancelTime"] == till.strftime("%Y-%m-%dT%H:%M:%S+0000")


# -- ENDED UNEVENLY ---
@pytest.mark.parametrize(
    ("filled", "words"),
    [
        ({1: D(2), 2: D(2)}, None),
        ({}, None),
        ({1: D(2), 2: D(1)}, f"the package is canceled with 1 whole; without the other legs stand 1 {LOW} (buy)"),
        ({2: D(1)}, f"the package is canceled with 0 whole; without the other legs stand 1 {HIGH} (sell)"),
    ],
)
def test_legs_that_stand_alone_are_named(filled: dict[int, Decimal], words: str | None) -> None:
    assert uneven(vertical().legs or (), filled, "canceled") == words


def test_a_package_that_ended_unevenly_is_told_once_and_not_before_its_executions_had_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = utcnow()
    with closing(LinkedDesk(database)) as linked:
        linked.desk.batches.intake.record([vertical(route=["one"])])
        row = {"broker": "one", "execution_id": "x", "client_order_id": "o-1", "quantity": D(1), "price": D(1)}
        row |= {"leg": 2, "symbol": HIGH, "side": "sell", "filled_at": ended, "recorded_at": ended, "attempt_no": 1}
        with database.write() as connection:
            connection.execute(update(orders).values(status="canceled", closed_at=ended))
            connection.execute(insert(fills).values(**row))
        seen: list[int] = []
        for later in (timedelta(seconds=10), timedelta(days=3), timedelta(days=3, seconds=1)):  # nobody led meanwhile
            monkeypatch.setattr("worker.orders.uneven.utcnow", lambda later=later: ended + later)
            linked.desk.uneven.look()
            with database.read() as connection:
                told = connection.execute(select(order_events.c.id).where(order_events.c.kind == "legs_uneven")).all()
            seen.append(len(told))
    assert seen == [0, 1, 1]
