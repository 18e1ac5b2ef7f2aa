"""Placing an order that the broker answers: what is sent, and what counts as acceptance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import (
    InstrumentUnknown,
    InsufficientFunds,
    NotSent,
    OutcomeUnknown,
    QuotaExhausted,
    RateLimited,
    Refused,
    Stale,
    Unsupported,
)
from models.messages import OrderRequest
from models.reports import DONE, BrokerStatus, OrderReport
from models.vocabulary import OrderType, Side, TimeInForce
from tests.contract.suite.desk import Desk, eventually, fresh_id, is_of, needs, order, resting, ticket

#: Prices by type, at which nothing is filled by itself.
TERMS: dict[OrderType, dict[str, Any]] = {
    OrderType.MARKET: {},
    OrderType.LIMIT: {"limit_price": "1.25"},
    OrderType.STOP: {"stop_price": "9000.50"},
    OrderType.STOP_LIMIT: {"stop_price": "9000.50", "limit_price": "9001.25"},
    OrderType.TRAILING_STOP: {"trail_percent": "5"},
    OrderType.TRAIL_LIMIT: {"trail_percent": "5", "stop_price": "9000.50", "limit_offset": "0.25"},
    OrderType.IF_TOUCHED: {"stop_price": "1.50"},
    OrderType.LIMIT_IF_TOUCHED: {"stop_price": "1.50", "limit_price": "1.75"},
}
LIVE = (BrokerStatus.ACCEPTED, BrokerStatus.PARTIALLY_FILLED, BrokerStatus.FILLED)


def test_c20_a_market_order_is_accepted_filled_and_told(desk: Desk) -> None:
    """C20 A market order is accepted, filled, and told by executions.

    When: a market order for 10 shares.
    Then: place_order returns a live or filled order with the broker's id, and ours where the broker keeps it; updates
    bring one fill of 10 with an execution id, a price, an aware time and the running total, and FILLED at the end.
    """
    wanted = order()
    placed = desk.place(wanted)
    assert placed.status in LIVE
    assert placed.broker_order_id
    if desk.can.client_order_id_length is not None:
        assert placed.broker_client_order_id == wanted.client_order_id
    (fill,) = eventually(lambda: desk.executions(placed))
    assert (fill.quantity, fill.cumulative_quantity) == (10, 10)
    assert fill.execution_id
    assert fill.price > 0
    assert fill.filled_at.tzinfo is not None
    last = eventually(lambda: [r for r in desk.pushed(placed) if r.status is BrokerStatus.FILLED])[-1]
    assert last.filled_quantity == 10
    assert desk.the_one(wanted).state == "filled"


@pytest.mark.parametrize("kind", list(OrderType))
def test_c21_every_order_type_with_every_time_in_force_arrives_as_meant(desk: Desk, kind: OrderType) -> None:
    """C21 Every order type with every time in force arrives as meant, or does not arrive.

    When: one order of each combination.
    Then: a report and exactly one order at the broker with that type, time in force and those prices; or Unsupported,
    or Refused, and none. What the capabilities leave out is Unsupported.
    """
    for number, tif in enumerate(TimeInForce, 11):
        till = {"good_till": datetime.now(UTC) + timedelta(days=2)} if tif is TimeInForce.GTD else {}
        wanted = order(quantity=number, order_type=kind, time_in_force=tif, **TERMS[kind], **till)
        allowed = kind in desk.can.order_types and tif in desk.can.times_in_force
        placed = _answer(desk, wanted)
        if isinstance(placed, NotSent | Refused):
            assert isinstance(placed, Unsupported | Refused if allowed else Unsupported), (tif, placed)
            assert not [seen for seen in desk.at_broker(wanted) if seen.state == "live"], (tif, placed)
            continue
        assert allowed, tif
        assert placed.status not in (BrokerStatus.UNKNOWN, BrokerStatus.REJECTED)
        seen = desk.the_one(wanted)
        assert (seen.order_type, seen.time_in_force, seen.side) == (kind, tif, "buy")
        prices = (wanted.limit_price, wanted.stop_price)
        assert (seen.limit_price, seen.stop_price) == prices or "trail_percent" in TERMS[kind]
    assert desk.arrivals() >= (kind in desk.can.order_types)


def _answer(desk: Desk, wanted: OrderRequest) -> OrderReport | NotSent | Refused:
    try:
        return desk.place(wanted)
    except (NotSent, Refused) as error:
        return error


def test_c22_extended_hours_are_asked_for_or_refused_here(desk: Desk) -> None:
    """C22 Extended hours are asked for, or Unsupported.

    When: a limit order for the day with extended_hours.
    Then: it is at the broker with extended hours; or Unsupported and nothing arrived.
    """
    wanted = resting(extended_hours=True)
    if desk.can.extended_hours:
        desk.place(wanted)
        assert desk.the_one(wanted).extended_hours
        return
    with pytest.raises(Unsupported):
        desk.place(wanted)
    assert desk.arrivals() == 0


def test_c23_fractions_of_shares_are_exact_or_refused_here(desk: Desk) -> None:
    """C23 Fractions of shares are sent exactly, or Unsupported.

    When: an order for 0.123456789 shares.
    Then: exactly that quantity is at the broker and is filled; or Unsupported and nothing arrived.
    """
    wanted = order(quantity="0.123456789")
    if desk.can.fractional:
        placed = desk.place(wanted)
        (fill,) = eventually(lambda: desk.executions(placed))
        assert fill.quantity == desk.the_one(wanted).quantity == Decimal("0.123456789")
        return
    with pytest.raises(Unsupported):
        desk.place(wanted)
    assert desk.arrivals() == 0


@pytest.mark.parametrize("side", list(Side))
def test_c24_every_side_moves_the_position_its_way(desk: Desk, side: Side) -> None:
    """C24 Every side moves the position its way.

    Given: 10 shares held for `sell`, 10 short for `buy_to_cover`.
    When: a market order for 4.
    Then: it is filled and the position is what it should be; what the capabilities leave out is Unsupported.
    """
    start, change = {"sell": (10, -4), "buy_to_cover": (-10, 4), "sell_short": (0, -4)}.get(side, (0, 4))
    desk.hold("MSFT", start)
    wanted = order("MSFT", side, 4)
    if side not in desk.can.sides:
        with pytest.raises(Unsupported):
            desk.place(wanted)
        return
    placed = desk.place(wanted)
    eventually(lambda: desk.executions(placed))
    assert desk.the_one(wanted).side == side.partition("_")[0]
    eventually(lambda: {p.symbol: p.quantity for p in desk.broker.get_positions()} == {"MSFT": start + change})


def test_c25_a_partial_fill_is_a_state_of_its_own(desk: Desk) -> None:
    """C25 A partial fill is a state of its own, and the rest follows.

    Given: the broker fills half of the order, and later the rest.
    Then: PARTIALLY_FILLED with 5; afterwards FILLED with 10, and two fills whose running totals are 5 and 10.
    """
    desk.fault("partial")
    wanted = order()
    placed = desk.place(wanted)
    assert desk.settled(wanted, BrokerStatus.PARTIALLY_FILLED).filled_quantity == 5
    eventually(lambda: [r for r in desk.pushed(placed) if r.status is BrokerStatus.PARTIALLY_FILLED])
    desk.release()
    assert desk.settled(wanted, BrokerStatus.FILLED).filled_quantity == 10
    fills = eventually(lambda: (found := desk.executions(placed))[1:] and found)
    assert [(fill.quantity, fill.cumulative_quantity) for fill in fills] == [(5, 5), (5, 10)]
    assert len({fill.execution_id for fill in fills}) == 2


def test_c26_an_unknown_symbol_is_refused(desk: Desk) -> None:
    """C26 An unknown symbol is refused as InstrumentUnknown.

    Then: InstrumentUnknown, which may fall back to a broker that knows it; nothing is live.
    """
    with pytest.raises(InstrumentUnknown):
        desk.place(order("ZZZZ"))
    assert desk.orders() == []


def test_c27_too_little_money_is_refused_as_such(desk: Desk) -> None:
    """C27 Too little money is refused as InsufficientFunds.

    Then: InsufficientFunds; what the broker may show of it is dead and unfilled.
    """
    with pytest.raises(InsufficientFunds):
        desk.place(order(quantity=9_000_000))
    assert {(seen.state, seen.filled) for seen in desk.orders()} <= {("rejected", 0)}


def test_c28_a_definitive_no_is_refused_with_the_brokers_words(desk: Desk) -> None:
    """C28 A definitive no is Refused, with the broker's code and words.

    Given: the broker refuses the next order.
    Then: Refused with a code and the words; one order arrived and none was taken; the next one goes through.
    """
    desk.fault("refuse", text="no such luck today")
    with pytest.raises(Refused, match="no such luck today") as caught:
        desk.place(order())
    assert caught.value.code
    assert (desk.arrivals(), desk.orders()) == (1, [])
    desk.place(order())


def test_c29_an_order_rejected_after_acceptance_is_told_so(desk: Desk) -> None:
    """C29 An order that is accepted and then rejected is told as REJECTED, with nothing filled.

    Given: the broker takes the order and rejects it a moment later.
    Then: place_order returns it as accepted, or raises Refused if the rejection came first; a reading or an update
    shows REJECTED with 0 filled.
    """
    desk.fault("reject_after_accept", text="on second thoughts")
    wanted = order()
    try:
        placed: OrderReport | None = desk.place(wanted)
    except Refused:
        placed = None
    report = desk.settled(wanted, BrokerStatus.REJECTED)
    assert not report.filled_quantity
    if placed is not None:
        told = eventually(lambda: [r for r in desk.pushed(placed) if r.status in DONE])
        assert (told[-1].status, told[-1].filled_quantity or 0) == (BrokerStatus.REJECTED, 0)


def test_c30_what_the_broker_cannot_do_is_known_before_a_byte(desk: Desk) -> None:
    """C30 What the capabilities leave out is Unsupported before a byte.

    When: an order of every side, type and time in force that is not in them.
    Then: Unsupported; nothing arrived.
    Skipped: adapters that can do everything.
    """
    can = desk.can
    odd = [order(side=side) for side in set(Side) - can.sides]
    odd += [order(order_type=kind, **TERMS[kind]) for kind in set(OrderType) - can.order_types]
    till = {TimeInForce.GTD: {"good_till": datetime.now(UTC) + timedelta(days=2)}}
    odd += [resting(time_in_force=tif, **till.get(tif, {})) for tif in set(TimeInForce) - can.times_in_force]
    odd += [order(quantity="1.5")] * (not can.fractional) + [resting(extended_hours=True)] * (not can.extended_hours)
    needs(odd, "it can do everything that can be asked for")
    for wanted in odd:
        with pytest.raises(Unsupported):
            desk.place(wanted)
    assert desk.arrivals() == 0


def test_c31_the_longest_id_comes_back_whole(desk: Desk) -> None:
    """C31 An id as long as the capabilities allow comes back whole.

    When: an order under an id of client_order_id_length characters.
    Then: the broker keeps it whole, and it is found under it.
    Skipped: brokers without client order ids.
    """
    length = desk.can.client_order_id_length
    needs(length, "no client order ids")
    our_id = (fresh_id() * 16)[: length or 0]
    wanted = resting()
    desk.broker.place_order(ticket(wanted, our_id=our_id))
    assert desk.the_one(wanted).client_order_id == our_id
    assert desk.found(wanted, broker_client_order_id=our_id).broker_client_order_id == our_id


def test_c32_a_stale_claim_sends_nothing(desk: Desk) -> None:
    """C32 A claim that has aged out sends nothing.

    Given: `ticket.still_mine` raises Stale.
    Then: Stale; not a byte of the order arrived; the connection goes on.
    """

    def still_mine() -> None:
        raise Stale("claimed long ago")

    with pytest.raises(Stale):
        desk.place(order(), still_mine=still_mine)
    assert desk.arrivals() == 0
    desk.place(order())
    assert desk.arrivals() == 1


def test_c33_the_claim_is_checked_right_before_the_first_byte(desk: Desk) -> None:
    """C33 The claim is checked before the first byte, after everything that takes time.

    When: an order, and at the time of `still_mine` the arrivals are counted.
    Then: it was called, at least once, and nothing had arrived.
    """
    arrived: list[int] = []
    desk.place(order(), still_mine=lambda: arrived.append(desk.arrivals()))
    assert arrived
    assert set(arrived) == {0}


def test_c34_a_slow_answer_within_the_deadline_is_waited_for(desk: Desk) -> None:
    """C34 A slow answer within the deadline is waited for.

    Given: the broker answers after 0.4 s.
    Then: the report, and one order.
    """
    desk.fault("slow", seconds=0.4, operation="place")
    wanted = resting()
    assert desk.place(wanted, deadline_s=4).status is BrokerStatus.ACCEPTED
    desk.the_one(wanted)


def test_c35_throttled_is_not_taken(desk: Desk) -> None:
    """C35 An order that a limit holds back is known not to be taken.

    When: orders, one after another, until a limit strikes.
    Then: RateLimited or QuotaExhausted, and as many orders at the broker as were accepted before.
    """
    broker, accepted = desk.throttled(), list[OrderReport]()

    def send() -> None:
        for number in range(1, 20):
            accepted.append(desk.place(resting(quantity=number), deadline_s=0.5, by=broker))

    with pytest.raises((RateLimited, QuotaExhausted)) as caught:
        send()
    assert caught.value.retry_after is None or caught.value.retry_after >= 0
    assert (desk.arrivals(), len(desk.orders())) == (len(accepted), len(accepted))


def test_c36_an_id_that_was_used_is_our_own_first_send(desk: Desk) -> None:
    """C36 An id that was used before is our own first send.

    When: the same order twice under one id.
    Then: the same order is returned, and there is one at the broker.
    Skipped: brokers that take an id twice.
    """
    needs(desk.can.dedupes_client_order_id, "the broker takes an id twice")
    wanted = resting()
    first = desk.place(wanted)
    assert is_of(desk.place(wanted), first)
    desk.the_one(wanted)


def test_c37_an_id_that_was_used_for_another_order_stays_unknown(desk: Desk) -> None:
    """C37 An id that was used for an order with other terms is never adopted.

    When: another order under the id of a first one.
    Then: OutcomeUnknown, for a person to see; one order at the broker.
    Skipped: brokers that take an id twice.
    """
    needs(desk.can.dedupes_client_order_id, "the broker takes an id twice")
    wanted = resting()
    desk.place(wanted)
    with pytest.raises(OutcomeUnknown):
        desk.place(resting(quantity=11, client_order_id=wanted.client_order_id))
    assert len(desk.orders()) == 1


def test_c38_down_is_not_sent(desk: Desk) -> None:
    """C38 An order to a broker that is down is NotSent, within its deadline.

    Given: the broker refuses connections.
    Then: NotSent; nothing arrived.
    """
    desk.down()
    with pytest.raises(NotSent):
        desk.place(order(), deadline_s=2)
    assert desk.arrivals() == 0
