"""Guards of limits, each in the one situation in which only this one stands before an order that is too much.

What a scope has used is at every end compared with what its orders use: reserved, released and converted is nothing
but the difference of two such sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.record.batch import OrderBatch
from models.record.limits import put_limit
from models.record.tables import attempts, controls, fills, orders, reference_prices, risk_tallies
from models.record.usage import COUNTED, KEY, Uses, total, uses
from models.risk.decision import Pass, Refuse
from models.risk.names import EVERYTHING, Limit, read_value
from tests.property.ledger import PRICE
from tests.property.scenario import ANONYMOUS, DEDUPES, KEEPS, Scenario
from tests.property.simulation import Simulation
from worker.orders.selection import named


def limit(at: Scenario, name: str, value: str, kind: str = EVERYTHING, scope: str = EVERYTHING, **more: Any) -> None:
    """Set a limit, as a person does."""
    made = Limit(kind, scope, name, read_value(name, value), set_by="ann", **more)
    with at.world.database.write() as connection:
        put_limit(connection, made, "a test", at.world.clock.now())


def know_price(at: Scenario, price: Decimal = PRICE, age_s: float = 0.0) -> None:
    seen = at.world.clock.now() - timedelta(seconds=age_s)
    values = {"symbol": "KO", "price": price, "currency": "USD", "at": seen, "source": "quote test"}
    with at.world.database.write() as connection:
        connection.execute(reference_prices.insert().values(**values))


def kept(world: Simulation) -> Uses:
    """What the tallies say."""
    rows = {tuple(str(row[n]) for n in KEY): {n: Decimal(row[n]) for n in COUNTED} for row in world.rows(risk_tallies)}
    return {key: values for key, values in rows.items() if any(values.values())}


def recomputed(world: Simulation) -> Uses:
    """What all orders use."""
    tries: dict[str, dict[int, Any]] = {}
    for row in world.rows(attempts):
        tries.setdefault(row["client_order_id"], {})[row["attempt_no"]] = row
    every: Any = [uses(order, tries.get(order["client_order_id"], {})) for order in world.rows(orders)]  # type: ignore[arg-type]
    return {key: values for key, values in total(every).items() if any(values.values())}


@pytest.fixture(autouse=True)
def _used_is_what_orders_use(at: Scenario) -> Iterator[None]:
    yield
    assert kept(at.world) == recomputed(at.world)


def used(at: Scenario, name: str) -> Decimal:
    return sum((values[name] for values in kept(at.world).values()), Decimal(0))


def denied(at: Scenario, id_: str) -> tuple[str, str | None]:
    return at.status(id_), at.row(id_)["reason_code"]


# -- ASKED IN THE CLAIM ---
def test_an_order_beyond_a_limit_is_not_sent(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    limit(at, "max_quantity", "9")
    at.work(KEEPS, id_)
    assert at.at_brokers() == []
    assert denied(at, id_) == ("denied", "order_quantity")
    assert at.kinds(id_)[-2:] == ["risk_denied", "denied"]
    assert at.tries(id_) == []


def test_without_a_limit_nothing_is_counted(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_, meets="fill")
    assert at.world.rows(risk_tallies) == []
    assert at.world.rows(attempts)[0]["reserved"] is None


def test_a_limit_whose_time_is_over_holds_no_more(at: Scenario) -> None:
    limit(at, "max_quantity", "9", until=at.world.clock.later(5))
    at.world.pass_time(6)
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    assert at.at_brokers() == [KEEPS]


def test_a_limit_of_one_broker_sends_the_order_on(at: Scenario) -> None:
    limit(at, "max_quantity", "9", "broker", KEEPS)
    id_ = at.order(KEEPS, DEDUPES)
    at.work(KEEPS, id_)
    at.work(DEDUPES, id_)
    assert at.tries(id_) == [(KEEPS, "not_sent"), (DEDUPES, "accepted")]
    assert "risk_denied" in at.kinds(id_)
    assert at.world.rows(attempts)[0]["code"] == "order_quantity"


def test_an_order_that_no_broker_may_have_ends_with_the_first_code(at: Scenario) -> None:
    limit(at, "max_quantity", "9", "broker", KEEPS)
    limit(at, "max_open_orders", "0", "broker", DEDUPES)
    id_ = at.order(KEEPS, DEDUPES)
    at.work(KEEPS, id_)
    at.work(DEDUPES, id_)
    assert denied(at, id_) == ("denied", "order_quantity")
    assert at.at_brokers() == []


def test_the_next_broker_has_limits_of_its_own(at: Scenario) -> None:
    limit(at, "max_quantity", "9", "broker", DEDUPES)
    id_ = at.order(KEEPS, DEDUPES)
    at.work(KEEPS, id_, meets="refuse")
    at.work(DEDUPES, id_)
    assert at.at_brokers() == []
    assert at.status(id_) == "rejected"


def test_a_batch_counts_at_once(at: Scenario) -> None:
    limit(at, "max_position", "35")
    ids = [at.order(KEEPS) for _ in range(5)]
    at.work(KEEPS, *ids)
    assert at.at_brokers() == [KEEPS] * 3
    assert sorted(at.status(id_) for id_ in ids) == ["accepted"] * 3 + ["denied"] * 2


# -- RESERVED, RELEASED, CONVERTED ---
@pytest.mark.parametrize(
    ("meets", "opened"),
    [
        ("accept", 10),
        ("part", 9),
        ("fill", 0),
        ("refuse", 0),
        ("not_connected", 0),
        ("hang_taken", 10),
        ("hang_lost", 10),
    ],
)
def test_what_is_open_is_what_may_still_trade(at: Scenario, meets: str, opened: int) -> None:
    limit(at, "max_position", "100")
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_, meets=meets)
    at.worker[KEEPS].apply([report for _, report in at.world.pushed])
    assert used(at, "buying") == opened


def test_an_unknown_order_holds_its_place_until_there_is_evidence(at: Scenario) -> None:
    limit(at, "max_position", "15")
    first, second = at.order(DEDUPES), at.order(DEDUPES)
    at.work(DEDUPES, first, meets="hang_lost")
    at.work(DEDUPES, second)
    assert denied(at, second) == ("denied", "position")
    at.reconcile(DEDUPES, rounds=5)
    third = at.order(KEEPS)
    assert at.status(first) in ("queued", "submitted", "accepted")
    at.change(orders, first, cancel_requested_at=at.world.clock.now())
    at.work(DEDUPES, first)
    at.work(KEEPS, third)
    assert at.status(third) == "accepted"


def test_a_claim_whose_worker_died_counts(at: Scenario) -> None:
    limit(at, "max_open_orders", "1")
    first, second = at.order(KEEPS), at.order(DEDUPES)
    at.work(KEEPS, first, fault="die", at=2)
    at.work(DEDUPES, second)
    assert denied(at, second) == ("denied", "open_orders")


def test_what_is_filled_counts_as_held(at: Scenario) -> None:
    limit(at, "max_position", "15")
    first, second = at.order(KEEPS), at.order(DEDUPES)
    at.work(KEEPS, first, meets="fill")
    at.worker[KEEPS].apply([report for _, report in at.world.pushed])
    at.work(DEDUPES, second)
    assert denied(at, second) == ("denied", "position")


def test_the_value_of_a_day_counts_what_reached_a_broker(at: Scenario) -> None:
    limit(at, "max_day_value", "2000")
    know_price(at)
    for meets in ("refuse", "fill", "hang_taken"):
        at.work(KEEPS, at.order(KEEPS), meets=meets)
    at.worker[KEEPS].apply([report for _, report in at.world.pushed])
    last = at.order(KEEPS)
    at.work(KEEPS, last)
    assert denied(at, last) == ("denied", "day_value")
    assert used(at, "sent_value") == 2000


# -- PRICES ---
def test_an_order_without_a_price_is_not_sent_where_its_value_is_limited(at: Scenario) -> None:
    limit(at, "max_value", "1000000")
    know_price(at, age_s=61)
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    assert denied(at, id_) == ("denied", "no_price")
    assert at.at_brokers() == []


def test_a_fill_is_a_price(at: Scenario) -> None:
    limit(at, "max_value", "1000")
    first, second = at.order(KEEPS, order_type="limit", limit_price="100"), at.order(KEEPS)
    at.work(KEEPS, first, meets="fill")
    at.worker[KEEPS].apply([report for _, report in at.world.pushed])
    at.work(KEEPS, second)
    assert at.status(second) == "accepted"
    assert [row["source"] for row in at.world.rows(reference_prices)] == [f"fill {KEEPS}"]


# -- RATE, REPEAT, SELF TRADE ---
def test_orders_above_the_rate_wait_for_their_turn_and_are_denied_if_it_is_far(at: Scenario) -> None:
    limit(at, "orders_per_minute", "2")
    first, second, third = (at.order(KEEPS) for _ in range(3))
    at.work(KEEPS, first, second)
    at.work(KEEPS, third)
    assert denied(at, third) == ("denied", "rate")
    at.world.pass_time(59.5)
    fourth = at.order(KEEPS)
    at.work(KEEPS, fourth)
    assert denied(at, fourth) == ("queued", "rate")
    at.world.pass_time(0.6)
    at.work(KEEPS, fourth)
    assert denied(at, fourth) == ("accepted", None)


def test_the_third_order_alike_is_denied(at: Scenario) -> None:
    limit(at, "repeat_count", "3")
    alike = [at.order(KEEPS, quantity=7, strategy="dip") for _ in range(3)]
    other = at.order(KEEPS, quantity=7)
    for id_ in (*alike, other):
        at.work(KEEPS, id_)
    assert [at.row(id_)["reason_code"] for id_ in alike] == [None, None, "repeat"]
    assert at.status(other) == "accepted"


def test_the_third_order_alike_stops_its_strategy_until_somebody_resumes(at: Scenario) -> None:
    limit(at, "repeat_count", "3")
    alike = [at.order(KEEPS, quantity=7, strategy="dip") for _ in range(3)]
    for id_ in alike:
        at.work(KEEPS, id_)
    found = at.world.rows(controls)
    assert [(row["scope_kind"], row["scope"], row["state"], row["by"]) for row in found] == [
        ("strategy", "dip", "halted", "corro")
    ]
    assert "number 3 of orders alike within 10 s" in found[0]["reason"]
    at.world.pass_time(30)
    wild, tame = at.order(KEEPS, quantity=8, strategy="dip"), at.order(KEEPS, quantity=8, strategy="calm")
    at.work(KEEPS, wild, tame)
    assert denied(at, wild) == ("denied", "halted")
    assert at.status(tame) == "accepted"


def test_a_days_loss_leaves_its_scope_reducing(at: Scenario) -> None:
    limit(at, "max_day_loss", "50", "strategy", "dip")
    bought = at.order(KEEPS, strategy="dip")
    at.work(KEEPS, bought, meets="fill")
    at.worker[KEEPS].apply([report for _, report in at.world.pushed])
    with at.world.database.write() as connection:  # somebody else would have paid less
        connection.execute(fills.update().values(price=Decimal(110)))
    at.holds(KEEPS, 10)
    sold = at.order(KEEPS, strategy="dip", side="sell")
    at.work(KEEPS, sold, meets="fill")
    at.worker[KEEPS].apply([report for _, report in at.world.pushed])
    again = at.order(KEEPS, strategy="dip")
    at.work(KEEPS, again)
    assert denied(at, again) == ("denied", "day_loss")
    assert [(row["scope"], row["state"]) for row in at.world.rows(controls)] == [("dip", "reducing")]


def test_a_fallback_is_no_repetition(at: Scenario) -> None:
    limit(at, "repeat_count", "2")
    id_ = at.order(KEEPS, DEDUPES)
    at.work(KEEPS, id_, meets="refuse")
    at.work(DEDUPES, id_)
    assert at.status(id_) == "accepted"


def test_no_order_meets_one_of_ours(at: Scenario) -> None:
    limit(at, "self_trade", "deny")
    at.holds(DEDUPES, 11)
    at.work(KEEPS, at.order(KEEPS, order_type="limit", limit_price="100"))
    above = at.order(DEDUPES, side="sell", order_type="limit", limit_price="100.01")
    meets = at.order(DEDUPES, side="sell", quantity=1, order_type="limit", limit_price="100")
    at.work(DEDUPES, above)
    at.work(DEDUPES, meets)
    assert denied(at, above) == ("accepted", None)
    assert denied(at, meets) == ("denied", "self_trade")


# -- REPLACES ---
def test_a_replace_is_asked_about_what_it_adds(at: Scenario) -> None:
    limit(at, "max_position", "15")
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=16)
    at.replace(KEEPS)
    assert at.row(id_)["quantity"] == 10
    assert at.row(id_)["replace_request"] is None
    assert at.kinds(id_)[-2:] == ["risk_denied", "replace_refused"]
    at.wish(id_, quantity=15)
    at.replace(KEEPS)
    assert at.row(id_)["quantity"] == 15
    assert used(at, "buying") == 15


def test_a_replace_nobody_knows_of_counts_with_the_larger_size(at: Scenario) -> None:
    limit(at, "max_position", "20")
    id_, other = at.order(KEEPS), at.order(KEEPS)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=15)
    at.replace(KEEPS, meets="hang_taken")
    assert used(at, "buying") == 15
    at.work(KEEPS, other)
    assert denied(at, other) == ("denied", "position")


def test_a_replace_that_only_lessens_passes(at: Scenario) -> None:
    id_ = at.order(KEEPS)
    at.work(KEEPS, id_)
    limit(at, "max_quantity", "5")
    at.wish(id_, quantity=8)
    at.replace(KEEPS)
    assert at.row(id_)["quantity"] == 8


# -- CLOSING ORDERS ---
def test_an_order_that_only_reduces_passes_limits_of_exposure(at: Scenario) -> None:
    limit(at, "max_position", "0")
    limit(at, "max_open_orders", "0")
    at.holds(KEEPS, 10)
    id_ = at.order(KEEPS, side="sell")
    at.work(KEEPS, id_)
    assert at.status(id_) == "accepted"


def test_short_sales_that_are_not_allowed_are_not_sent(at: Scenario) -> None:
    limit(at, "allow_short", "false")
    id_ = at.order(KEEPS, side="sell_short")
    at.work(KEEPS, id_)
    assert denied(at, id_) == ("denied", "short")


@pytest.mark.parametrize("broker", [DEDUPES, KEEPS, ANONYMOUS])
def test_each_broker_counts_what_it_sends(at: Scenario, broker: str) -> None:
    limit(at, "max_open_orders", "5")
    at.worker[broker].desk.place.claim(named([at.order(broker)]))
    assert used(at, "open_orders") == 1


def test_a_limit_of_a_key_holds_for_the_orders_signed_with_it(at: Scenario) -> None:
    limit(at, "orders_per_minute", "1", "key", "k-1")
    signed, same, other = (at.order(KEEPS) for _ in range(3))
    limiter = at.worker[KEEPS].desk.limiter
    for id_ in (signed, same):
        at.change(orders, id_, key_id="k-1")
    with at.world.database.write() as connection:
        batch = OrderBatch.open(connection, [signed, same, other], at.world.clock.now())
        asked = limiter.about(connection, [(one, ()) for one in batch.entries.values()], at.world.clock.now())
        assert asked is not None
        assert [type(asked.judge(id_)) for id_ in (signed, same, other)] == [Pass, Refuse, Pass]
        assert asked.reserved([signed])[signed] == {"day": "2026-01-05", "price": "0", "key": "k-1"}
