"""A closing order is sent only where the position is: at the first broker as at every fallback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.record.tables import order_events
from models.reports import BrokerStatus, OrderReport
from models.settings import RoutingSettings
from models.vocabulary import Side
from tests.property.scenario import ANONYMOUS, DEDUPES, KEEPS, Scenario
from worker.orders.desk import BrokerDesk
from worker.positions.closing import decide_closing
from worker.positions.holdings import Holding

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
LIMIT = {"order_type": "limit", "limit_price": 100}
SHARES = st.integers(-20, 20).map(Decimal)
AGES = st.none() | st.integers(0, 300)


@given(st.integers(1, 20).map(Decimal), SHARES, st.none() | SHARES, st.integers(0, 20).map(Decimal), AGES, AGES)
def test_it_is_sent_only_if_broker_and_books_allow_it_and_denied_only_if_both_forbid_it(
    wanted: Decimal, shown: Decimal, books: Decimal | None, busy: Decimal, age: int | None, asked: int | None
) -> None:
    read_at = None if age is None else NOW - timedelta(seconds=age)
    asked_at = None if asked is None else NOW - timedelta(seconds=asked)
    held = Holding(read_at, shown, books, busy)
    verdict = decide_closing(wanted, held, now=NOW, valid_s=180, asked_at=asked_at)
    free = [shares - busy for shares in (shown, books) if shares is not None]
    if verdict == "send":
        assert all(wanted <= shares for shares in free)
        assert age is not None
        assert age <= 180
    if verdict == "no position":
        assert all(wanted > shares for shares in free)
        assert read_at is not None and asked_at is not None  # noqa: PT018
        assert read_at >= asked_at


def test_a_sell_begins_at_the_broker_that_holds_the_position(at: Scenario) -> None:
    at.holds(DEDUPES, 10)
    id_ = at.order(KEEPS, ANONYMOUS, DEDUPES, side="sell")
    at.work(KEEPS, id_)
    assert (at.row(id_)["broker"], at.tries(id_)) == (DEDUPES, [])
    at.work(DEDUPES, id_, meets="fill")
    assert at.tries(id_) == [(DEDUPES, "accepted")]
    assert at.at_brokers() == [DEDUPES]


@pytest.mark.parametrize(
    ("side", "held"), [("sell", 9), ("sell", -10), ("buy_to_cover", -9), ("buy_to_cover", 10), ("buy_to_cover", 0)]
)
def test_where_nobody_holds_it_a_closing_order_is_denied_in_words(at: Scenario, side: str, held: int) -> None:
    at.holds(KEEPS, held)
    id_ = at.order(KEEPS, DEDUPES, side=side)
    at.work(KEEPS, id_)
    row = at.row(id_)
    assert (row["status"], row["reason_code"]) == ("denied", "no_position")
    assert row["reason"].startswith(f"ibkr holds {max(held if side == 'sell' else -held, 0)} KO")
    assert (" KO short" in row["reason"]) == (side == "buy_to_cover")
    assert at.tries(id_) == [(KEEPS, "not_sent")]
    assert at.at_brokers() == []


def test_a_denial_names_the_broker_that_holds_it_though_it_is_not_on_the_route(at: Scenario) -> None:
    at.holds(DEDUPES, 10)
    id_ = at.order(KEEPS, side="sell")
    at.work(KEEPS, id_)
    assert at.row(id_)["reason"] == "ibkr holds 0 KO, and 10 are to be closed; 10 are at alpaca"


def test_a_denial_names_what_was_bought_since_the_last_reading(at: Scenario) -> None:
    bought = at.order(DEDUPES)
    at.work(DEDUPES, bought, meets="fill")
    id_ = at.order(KEEPS, side="sell", quantity=50)
    at.work(KEEPS, id_)
    assert (
        at.row(id_)["reason"]
        == "ibkr holds 0 KO, and 50 are to be closed; 10 are at alpaca by our books, 0 by its last reading"
    )


@pytest.mark.parametrize(("side", "held"), [("sell", 10), ("buy_to_cover", -10)])
def test_what_the_broker_holds_is_closed_there(at: Scenario, side: str, held: int) -> None:
    at.holds(KEEPS, held)
    id_ = at.order(KEEPS, DEDUPES, side=side)
    at.work(KEEPS, id_)
    assert at.tries(id_) == [(KEEPS, "accepted")]


def test_two_sells_of_one_position_are_not_both_sent(at: Scenario) -> None:
    at.holds(KEEPS, 10)
    first, second = at.order(KEEPS, side="sell"), at.order(KEEPS, side="sell")
    at.work(KEEPS, first, meets="hang_lost")  # unknown: it may be there
    at.work(KEEPS, second)
    assert (at.tries(first), at.status(second)) == ([(KEEPS, "unknown")], "denied")
    assert "of which other orders may take 10" in at.row(second)["reason"]


def test_two_sells_of_one_message_are_not_both_sent(at: Scenario) -> None:
    at.holds(KEEPS, 10)
    ids = [at.order(KEEPS, side="sell") for _ in range(2)]
    at.work(KEEPS, *ids, meets="accept accept")
    assert at.at_brokers() == [KEEPS]
    assert sorted(at.status(id_) for id_ in ids) == ["accepted", "denied"]


def test_an_opening_order_of_the_same_message_does_not_wait_for_a_reading(at: Scenario) -> None:
    sell, buy = at.order(KEEPS, side="sell"), at.order(KEEPS)
    seen = []
    read = at.worker[KEEPS].desk.place._read_positions
    at.worker[KEEPS].desk.place._read_positions = lambda: (seen.append(at.at_brokers()), read())[1]
    at.work(KEEPS, sell, buy)
    assert seen == [[KEEPS]]
    assert (at.status(buy), at.status(sell)) == ("accepted", "denied")


def test_somebody_elses_sell_takes_from_the_position(at: Scenario) -> None:
    at.holds(KEEPS, 10)
    theirs = OrderReport(
        broker_order_id="x-1", status=BrokerStatus.ACCEPTED, symbol="KO", side=Side.SELL,
        quantity=Decimal(4), filled_quantity=Decimal(0),
    )  # fmt: skip
    at.worker[KEEPS].desk.readings.external.note([theirs])
    id_ = at.order(KEEPS, side="sell")
    at.work(KEEPS, id_)
    assert at.status(id_) == "denied"
    assert at.at_brokers() == []


def test_what_was_sold_since_the_reading_is_not_sold_again(at: Scenario) -> None:
    at.holds(KEEPS, 10)
    first, second = at.order(KEEPS, side="sell"), at.order(KEEPS, side="sell")
    at.work(KEEPS, first)
    at.world.ledgers[KEEPS].fill(at.kept(KEEPS)[0], Decimal(10))
    at.worker[KEEPS].apply([report for _, report in at.world.pushed])
    assert at.status(first) == "filled"
    at.work(KEEPS, second)
    assert at.at_brokers() == [KEEPS]
    assert at.row(second)["reason_code"] == "no_position"


def test_what_somebody_bought_meanwhile_is_seen_before_a_sell_is_denied(at: Scenario) -> None:
    at.world.pass_time(100)
    at.world.ledgers[KEEPS].held["KO"] = Decimal(10)
    id_ = at.order(KEEPS, side="sell")
    at.work(KEEPS, id_)
    assert at.status(id_) == "queued"
    assert "ibkr holds 10 KO, our books say 0: the order waits" in at.row(id_)["reason"]


def test_where_positions_cannot_be_read_a_sell_waits_and_says_so(at: Scenario) -> None:
    at.world.ledgers[KEEPS].readings_fail = True
    id_ = at.order(KEEPS, side="sell")
    at.work(KEEPS, id_)
    assert at.status(id_) == "queued"
    assert "its positions cannot be read, so the order waits" in at.row(id_)["reason"]
    at.world.pass_time(61)
    at.worker[KEEPS].leader.sweep()
    assert at.status(id_) == "expired"
    assert at.at_brokers() == []


def test_a_sell_that_waits_is_sent_when_the_position_is_there(at: Scenario) -> None:
    at.world.ledgers[KEEPS].readings_fail = True
    id_ = at.order(KEEPS, side="sell")
    at.work(KEEPS, id_)
    at.world.ledgers[KEEPS].readings_fail = False
    at.holds(KEEPS, 10)
    at.world.pass_time(2.5)
    at.worker[KEEPS].leader.sweep()
    assert at.tries(id_) == [(KEEPS, "accepted")]


@pytest.mark.parametrize(("quantity", "becomes"), [(15, 15), (16, 10)])
def test_a_sell_grows_only_as_far_as_the_position(at: Scenario, quantity: int, becomes: int) -> None:
    at.holds(KEEPS, 15)
    id_ = at.order(KEEPS, side="sell", **LIMIT)
    at.work(KEEPS, id_)
    at.wish(id_, quantity=quantity)
    at.replace(KEEPS)
    assert at.kept(KEEPS)[0].ticket.order.quantity == becomes
    refused = [e for e in at.world.rows(order_events) if e["kind"] == "replace_refused"]
    assert (at.row(id_)["replace_request"], len(refused)) == (None, int(becomes == 10))


def test_a_replace_under_way_takes_what_it_asks_for(at: Scenario) -> None:
    at.holds(KEEPS, 20)
    first, second = at.order(KEEPS, side="sell", **LIMIT), at.order(KEEPS, side="sell")
    at.work(KEEPS, first)
    at.wish(first, quantity=15)
    at.replace(KEEPS, meets="hang_lost")
    at.work(KEEPS, second)
    assert at.status(second) == "denied"


def test_as_ordered_the_first_broker_gets_a_sell_unseen(at: Scenario) -> None:
    process = at.worker[KEEPS]
    settings = at.world.settings.model_copy(update={"routing": RoutingSettings(sell="as_ordered")})
    process.desk = BrokerDesk(settings, at.world.database, process.seat, process.me, at.world, process.pulse)  # type: ignore[arg-type]
    process.desk.gate.open()
    id_ = at.order(KEEPS, DEDUPES, side="sell")
    at.work(KEEPS, id_)
    assert at.tries(id_) == [(KEEPS, "accepted")]
