"""The decision about one order: each limit, each code, which of several wins, and what fails closed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.risk.decision import Hold, Pass, Refuse, RiskVerdict, Session, decide_risk
from models.risk.facts import Intended, ReferencePrice, Usage, Used
from models.risk.names import EVERYTHING, Limit, read_value, that_apply
from models.vocabulary import Side

NOW = datetime(2026, 11, 30, 15, 0, tzinfo=UTC)
D = Decimal
ORDER = Intended(
    symbol="KO", side=Side.BUY, quantity=D(100), adds=D(100), created_at=NOW, limit_price=D(60), strategy="dip",
    broker="alpaca",
)  # fmt: skip
MARKET = replace(ORDER, limit_price=None)
SELL = replace(ORDER, side=Side.SELL, reduces=True)
SHORT = replace(ORDER, side=Side.SELL_SHORT, opens_short=True)
FRESH = ReferencePrice(D(60), NOW - timedelta(seconds=5), "quote alpaca")
BELOW_ZERO = replace(FRESH, price=D(-40))
OLD = replace(FRESH, at=NOW - timedelta(seconds=90))


def limit(name: str, value: str, kind: str = EVERYTHING, scope: str = EVERYTHING) -> Limit:
    return Limit(kind, scope, name, read_value(name, value))


def ago(*seconds: float) -> list[datetime]:
    return [NOW - timedelta(seconds=s) for s in seconds]


def judged(
    name: str, value: str, order: Intended = ORDER, price: ReferencePrice | None = FRESH,
    session: Session | None = "regular", **used: Any,
) -> RiskVerdict:  # fmt: skip
    usage = Usage({(EVERYTHING, EVERYTHING): Used(**used)})
    return decide_risk(order, [limit(name, value)], usage, price, session, NOW)


def code(verdict: RiskVerdict) -> str:
    return str(verdict.code) if isinstance(verdict, Refuse) else type(verdict).__name__


#: limit, its value, what is different, what follows
CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("restricted", "true", {}, "restricted"),
    ("restricted", "false", {}, "Pass"),
    ("skew", "5", {"order": replace(ORDER, created_at=NOW + timedelta(seconds=6))}, "skew"),
    ("skew", "5", {"order": replace(ORDER, created_at=NOW - timedelta(seconds=6))}, "skew"),
    ("skew", "5", {"order": replace(ORDER, created_at=NOW - timedelta(seconds=5))}, "Pass"),
    ("session", "regular", {"session": "extended"}, "session"),
    ("session", "regular", {"session": None}, "Hold"),
    ("session", "regular", {"session": None, "order": replace(ORDER, waited_for="session")}, "session"),
    ("session", "regular", {"session": None, "order": replace(ORDER, is_new=False)}, "session"),
    ("session", "any", {"session": None}, "Pass"),
    ("session", "extended", {"session": "extended"}, "Pass"),
    ("session", "extended", {"session": "closed"}, "session"),
    ("session", "any", {"session": "closed"}, "Pass"),
    ("allow_short", "false", {"order": SHORT}, "short"),
    ("allow_short", "true", {"order": SHORT}, "Pass"),
    ("allow_short", "false", {"order": SELL}, "Pass"),
    ("max_quantity", "100", {}, "Pass"),
    ("max_quantity", "99.9", {}, "order_quantity"),
    ("max_quantity", "0", {}, "order_quantity"),
    ("max_quantity", "99", {"order": SELL}, "order_quantity"),
    ("max_value", "6000", {}, "Pass"),
    ("max_value", "5999.99", {}, "order_value"),
    ("max_value", "5999", {"order": SELL}, "Pass"),
    ("max_value", "5999", {"order": MARKET}, "order_value"),
    ("max_value", "5999", {"order": replace(MARKET, stop_price=D(59)), "price": None}, "Pass"),
    ("max_value", "59999", {"order": replace(ORDER, multiplier=D(10))}, "order_value"),
    ("max_value", "9999999", {"order": replace(ORDER, currency="EUR")}, "no_price"),
    ("max_value", "9999999", {"order": MARKET, "price": None}, "no_price"),
    ("max_value", "9999999", {"order": MARKET, "price": OLD}, "no_price"),
    ("max_value", "9999999", {"order": MARKET, "price": replace(FRESH, currency="EUR")}, "no_price"),
    ("max_value", "9999999", {"order": replace(MARKET, currency=None)}, "no_price"),
    ("max_value", "9999999", {"order": MARKET, "price": replace(FRESH, price=D(0))}, "no_price"),
    ("max_value", "5999", {"price": replace(FRESH, price=D(0))}, "order_value"),
    ("approve_above_value", "6000", {}, "Pass"),
    ("approve_above_value", "5999", {}, "not_approved"),
    ("approve_above_value", "5999", {"order": replace(ORDER, approved=True)}, "Pass"),
    ("approve_above_value", "5999", {"order": replace(ORDER, approved=True, is_new=False)}, "not_approved"),
    ("approve_above_value", "5999", {"order": SELL}, "Pass"),
    ("approve_above_value", "5999", {"order": MARKET, "price": None}, "no_price"),
    ("collar_percent", "5", {"order": replace(ORDER, limit_price=D(63))}, "Pass"),
    ("collar_percent", "5", {"order": replace(ORDER, limit_price=D("63.01"))}, "price_collar"),
    ("collar_percent", "5", {"order": replace(ORDER, limit_price=D(1))}, "Pass"),
    ("collar_percent", "5", {"order": replace(SELL, limit_price=D("56.99"))}, "price_collar"),
    ("collar_percent", "5", {"order": replace(SELL, limit_price=D(90))}, "Pass"),
    ("collar_percent", "5", {"order": replace(ORDER, limit_price=D("-38.00")), "price": BELOW_ZERO}, "Pass"),
    ("collar_percent", "5", {"order": replace(ORDER, limit_price=D("-37.99")), "price": BELOW_ZERO}, "price_collar"),
    ("collar_percent", "5", {"order": replace(SELL, limit_price=D("-42.00")), "price": BELOW_ZERO}, "Pass"),
    ("collar_percent", "5", {"order": replace(SELL, limit_price=D("-42.01")), "price": BELOW_ZERO}, "price_collar"),
    ("collar_percent", "5", {"price": None}, "no_price"),
    ("collar_percent", "5", {"price": replace(FRESH, price=D(0))}, "no_price"),
    ("collar_percent", "5", {"price": OLD}, "no_price"),
    ("collar_percent", "5", {"order": MARKET}, "Pass"),
    ("collar_percent", "5", {"price": replace(FRESH, currency="CAD")}, "no_price"),
    ("collar_percent", "5", {"order": replace(ORDER, currency="CAD")}, "no_price"),
    ("collar_percent", "5", {"order": replace(ORDER, currency="CAD"), "price": replace(FRESH, currency="CAD")}, "Pass"),
    ("collar_percent", "5", {"order": replace(ORDER, currency=None)}, "no_price"),
    ("self_trade", "deny", {"meets": "o-7"}, "self_trade"),
    ("self_trade", "deny", {}, "Pass"),
    ("self_trade", "allow", {"meets": "o-7"}, "Pass"),
    ("repeat_count", "3", {"repeats_at": ago(9, 1)}, "repeat"),
    ("repeat_count", "3", {"repeats_at": ago(10, 1)}, "Pass"),
    ("repeat_count", "3", {"repeats_at": ago(9, 1), "order": replace(ORDER, is_new=False)}, "Pass"),
    ("orders_per_minute", "2", {"orders_at": ago(60, 30)}, "Pass"),
    ("orders_per_minute", "2", {"orders_at": ago(40, 30)}, "rate"),
    ("orders_per_minute", "2", {"orders_at": ago(59.5, 30)}, "Hold"),
    ("orders_per_minute", "2", {"orders_at": ago(59.5, 30), "order": replace(ORDER, waited_for="rate")}, "rate"),
    ("orders_per_minute", "0", {}, "rate"),
    ("orders_per_minute", "1", {"orders_at": ago(1), "order": replace(ORDER, is_new=False)}, "Pass"),
    ("messages_per_minute", "1", {"messages_at": ago(1), "order": replace(ORDER, is_new=False)}, "rate"),
    ("max_open_orders", "3", {"open_orders": 2}, "Pass"),
    ("max_open_orders", "3", {"open_orders": 3}, "open_orders"),
    ("max_open_orders", "3", {"open_orders": 3, "order": SELL}, "Pass"),
    ("max_position", "500", {"held": D(300), "buying": D(100)}, "Pass"),
    ("max_position", "500", {"held": D(300), "buying": D(101)}, "position"),
    ("max_position", "500", {"held": D(300), "selling": D(400)}, "Pass"),
    ("max_position", "500", {"order": SHORT, "held": D(-350), "selling": D(51)}, "position"),
    ("max_position", "500", {"order": replace(ORDER, side=Side.BUY_TO_COVER), "held": D(-900)}, "Pass"),
    ("max_position", "0", {}, "position"),
    ("max_open_value", "10000", {"open_buy": D(1000), "open_sell": D(3000)}, "Pass"),
    ("max_open_value", "10000", {"open_buy": D(1000), "open_sell": D("3000.01")}, "open_value"),
    ("max_open_value", "10000", {"open_buy": D(9000), "order": replace(ORDER, counted=D(5500))}, "Pass"),
    ("max_open_value", "10000", {"order": MARKET, "price": None}, "no_price"),
    ("max_day_value", "10000", {"sent_value": D(4000)}, "Pass"),
    ("max_day_value", "10000", {"sent_value": D(4001)}, "day_value"),
    ("max_day_loss", "2000", {"realized": D(-1999)}, "Pass"),
    ("max_day_loss", "2000", {"realized": D(-2000)}, "day_loss"),
    ("max_day_loss", "2000", {"realized": D(-2000), "order": SELL}, "Pass"),
    ("max_day_loss", "0", {}, "Pass"),
    ("max_day_loss", "0", {"realized": D("-0.01")}, "day_loss"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "different", "expected"), CASES)
def test_each_limit_refuses_what_is_beyond_it_and_nothing_else(
    name: str, value: str, different: dict[str, Any], expected: str
) -> None:
    assert code(judged(name, value, **different)) == expected


def test_a_refusal_says_the_limit_its_scope_its_value_and_the_orders() -> None:
    verdict = decide_risk(ORDER, [limit("max_value", "5000", "strategy", "dip")], Usage(), FRESH, None, NOW)
    assert isinstance(verdict, Refuse)
    assert verdict.value == 6000
    assert verdict.limit.value == 5000
    assert verdict.words == "its value in USD 6000 is above 5000 (max_value 5000 of strategy dip)"


def test_the_tightest_of_several_limits_wins() -> None:
    several = [limit("max_quantity", "90"), limit("max_quantity", "50", "symbol", "KO"), limit("max_quantity", "70")]
    verdict = decide_risk(ORDER, several, Usage(), FRESH, None, NOW)
    assert isinstance(verdict, Refuse)
    assert verdict.limit.value == 50


def test_a_limit_that_ends_the_order_comes_before_one_of_its_broker() -> None:
    several = [limit("max_quantity", "1", "broker", "alpaca"), limit("max_position", "50")]
    verdict = decide_risk(ORDER, several, Usage(), FRESH, None, NOW)
    assert code(verdict) == "position"


def test_repeat_trips_to_halted_and_a_loss_to_reducing() -> None:
    repeat, loss = judged("repeat_count", "2", repeats_at=ago(1)), judged("max_day_loss", "1", realized=D(-2))
    assert isinstance(repeat, Refuse)
    assert isinstance(loss, Refuse)
    assert (repeat.trips, loss.trips) == ("halted", "reducing")


def test_a_hold_lasts_until_the_oldest_is_a_minute_old() -> None:
    verdict = judged("orders_per_minute", "2", orders_at=ago(59.4, 59.2, 30))
    assert isinstance(verdict, Hold)
    assert verdict.seconds == pytest.approx(0.8)


def test_a_refusal_comes_before_a_hold() -> None:
    usage = Usage({(EVERYTHING, EVERYTHING): Used(orders_at=ago(59.5))})
    both = [limit("orders_per_minute", "1"), limit("max_quantity", "1")]
    assert code(decide_risk(ORDER, both, usage, FRESH, None, NOW)) == "order_quantity"


def test_what_passes_counts_at_its_own_price_else_at_the_reference() -> None:
    for order, price in ((ORDER, D(60)), (replace(MARKET, multiplier=D(50)), D(3000)), (MARKET, D(60))):
        assert decide_risk(order, [limit("max_value", "999999")], Usage(), FRESH, None, NOW) == Pass(price)


def test_a_price_may_be_as_old_as_the_tightest_limit_says() -> None:
    several = [limit("max_value", "999999"), limit("price_max_age", "30"), limit("price_max_age", "3")]
    assert code(decide_risk(MARKET, several, Usage(), FRESH, None, NOW)) == "no_price"
    assert code(decide_risk(MARKET, several[:2], Usage(), FRESH, None, NOW)) == "Pass"


def test_a_price_in_another_currency_is_refused_with_both_currencies() -> None:
    in_cad = replace(FRESH, currency="CAD")
    words = {
        "no fresh price of KO in USD is known, the last is of 14:59:55 (quote alpaca, in CAD)": (MARKET, in_cad),
        "it is in CAD, the limit in USD": (replace(MARKET, currency="CAD"), in_cad),
        "the currency of KO is not known: the order does not say it": (replace(MARKET, currency=None), FRESH),
    }
    for expected, (order, price) in words.items():
        verdict = judged("max_value", "9999999", order=order, price=price)
        assert isinstance(verdict, Refuse)
        assert verdict.words.startswith(expected), verdict.words


def test_at_submit_only_what_needs_no_broker_is_asked() -> None:
    asked = [
        limit("max_quantity", "50", "broker", "alpaca"), limit("max_open_orders", "0"), limit("collar_percent", "1"),
        limit("max_value", "5000", "strategy", "dip"),
    ]  # fmt: skip
    assert code(decide_risk(ORDER, asked, None, None, None, NOW)) == "order_value"
    assert code(decide_risk(MARKET, asked, None, None, None, NOW)) == "Pass", "a price may be known when it is sent"
    assert code(decide_risk(ORDER, asked[:3], None, None, None, NOW)) == "Pass"


def test_limits_hold_in_their_scopes() -> None:
    scopes = replace(ORDER, account="ira", key="k-1").scopes
    kinds = {"broker": "alpaca", "account": "alpaca:ira", "strategy": "dip", "symbol": "KO"}
    kinds |= {"strategy+symbol": "dip:KO", "key": "k-1", EVERYTHING: EVERYTHING}
    assert scopes == kinds
    mine = [limit("max_quantity", "1", kind, scope) for kind, scope in kinds.items()]
    others = [limit("max_quantity", "1", kind, "other") for kind in kinds]
    assert that_apply([*mine, *others], scopes) == mine
