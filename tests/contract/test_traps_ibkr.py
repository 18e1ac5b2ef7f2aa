"""Traps of Interactive Brokers and its SDKs, each with our guard against it; the list is in test_traps.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    ConnectionLost,
    DataError,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    QuotaExhausted,
    Refused,
    SubmitTimeout,
    UnreadableReply,
)
from models.reports import BrokerStatus, CommissionReport, FillReport, Missing, OrderReport
from tests.contract.desks import IbAsyncDesk, IbInsyncDesk
from tests.contract.suite.desk import Desk, eventually, now, order, reconnect, ref, resting
from worker.sandbox.tws import messages as tws_messages
from worker.sandbox.tws.messages import TwsOrder, error, order_status
from worker.sandbox.tws.orders import OrderDesk, _unplaced


@pytest.fixture(params=[IbInsyncDesk, IbAsyncDesk], ids=lambda kind: kind.name)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with closing(request.param(tmp_path)) as found:
        found.broker.connect()
        yield found


def states(desk: Desk, placed: OrderReport) -> set[BrokerStatus]:
    return {report.status for report in desk.pushed(placed)}


# -- WHAT THE SDK SAYS OF AN ORDER ---
def test_a_preset_notice_10349_is_no_cancel(desk: Desk) -> None:
    """The SDK calls the order Cancelled after 10349; it is filled a moment later, in the field 0.7 to 8.3 s later.

    Guard: `codes` lists 10349 under LIVES, and the SDK's Trade is never read. docs/facts/ibkr.md#4.1, #4.5.
    """
    desk.fault("tif_preset")
    desk.fault("slow", seconds=0.9, operation="place")
    wanted = order()
    placed = desk.place(wanted)
    desk.settled(wanted, BrokerStatus.FILLED)
    assert BrokerStatus.CANCELED not in states(desk, placed)


def test_the_time_in_force_is_always_said(desk: Any) -> None:
    """Without an explicit time in force a preset of TWS sets one, and answers 10349.

    Guard: `terms.order_fields` names the tif of every order. docs/facts/ibkr.md#4.5.
    """
    desk.place(order())
    assert [tws.request.tif for tws in desk.door.desk.all()] == ["DAY"]


@pytest.mark.parametrize("code", [10148, 161, 10147, 135])
def test_a_cancel_that_fails_leaves_a_live_order_live(desk: Desk, code: int) -> None:
    """The SDK calls a live order Cancelled when its cancel fails with 10148, 161, 10147 or 135.

    Guard: `codes` has them under CANCEL_FAILED: the cancel is Refused, the order stays. docs/facts/ibkr.md#4.1,
    #4.7.
    """
    wanted = resting()
    placed = desk.place(wanted)
    desk.fault("error_code", operation="cancel", code=code, text="cannot be cancelled")
    with pytest.raises(Refused) as caught:
        desk.broker.cancel_order(ref(wanted, placed.broker_order_id))
    assert caught.value.code == str(code)
    assert desk.found(wanted).status is BrokerStatus.ACCEPTED
    assert states(desk, placed) == {BrokerStatus.ACCEPTED}


@pytest.mark.parametrize("code", [110, 434])
def test_a_refusal_that_the_sdk_takes_for_a_warning_is_refused(desk: Desk, code: int) -> None:
    """110 and 434 are warnings to the SDK: the order stays PendingSubmit for ever.

    Guard: `codes` has them under REFUSED. docs/facts/ibkr.md#4.2, #4.4.
    """
    desk.fault("refuse", code=code, text="sandbox says no")
    began = time.monotonic()
    with pytest.raises(OrderRejected, match="sandbox says no"):
        desk.place(order())
    assert time.monotonic() - began < 2
    assert isinstance(desk.find(order()), Missing)


def test_an_order_held_while_shares_are_located_is_live(desk: Desk) -> None:
    """404 with Inactive and whyHeld=locate looks like a rejection; the order lives and may be filled.

    Guard: `PendingOrder.see` and `terms.open_status` read whyHeld. docs/facts/ibkr.md#3.6, #3.8.
    """
    desk.fault("locate_hold", seconds=30)
    placed = desk.place(order(side="sell_short"))
    assert (placed.status, placed.raw_status) == (BrokerStatus.ACCEPTED, "Inactive")
    assert states(desk, placed) == {BrokerStatus.ACCEPTED}


def test_an_order_message_399_leaves_the_order_live(desk: Desk) -> None:
    """399 ("will not be placed at the exchange until 09:30") reads like a no; the order is live.

    Guard: `codes` has it under LIVES. docs/facts/ibkr.md#4.6.
    """
    desk.fault("slow", seconds=0.9, operation="place")
    desk.fault("error_code", code=399, text="Order Message: will not be placed at the exchange until 09:30")
    wanted = resting()
    placed = desk.place(wanted)
    assert placed.status is BrokerStatus.ACCEPTED
    assert desk.found(wanted).status is BrokerStatus.ACCEPTED


def test_a_code_that_nobody_has_classified_is_unknown(desk: Desk) -> None:
    """A code without a row reads like a refusal; IB adds codes, and some of them leave the order live.

    Guard: `codes.code_of` calls it UNMAPPED. docs/facts/ibkr.md#4.8.
    """
    desk.fault("refuse", code=10289, text="never seen before")
    with pytest.raises(OutcomeUnknown) as caught:
        desk.place(order(), deadline_s=4)
    assert caught.value.code == "10289"


# -- INACTIVE ---
def test_inactive_after_the_error_is_a_rejection(desk: Desk) -> None:
    """201 first, then Inactive: the SDK says Cancelled, then Inactive.

    Guard: `verdicts.decide_order` waits for the wire after a refusing code. docs/facts/ibkr.md#3.6.
    """
    desk.fault("refuse", code=201, text="no", inactive=True)
    with pytest.raises(OrderRejected):
        desk.place(order())


def test_inactive_before_the_error_is_a_rejection_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inactive first, then 201: the SDK stays at Inactive, which it may also say of a held order.

    Guard: `verdicts.decide_order` decides by the code, not by a bare Inactive. docs/facts/ibkr.md#3.6.
    """

    def inactive_first(self: OrderDesk, client: Any, request: Any, fields: Any, fault: Any) -> None:
        self.market.turn_away("201", **fields)
        ghost = TwsOrder(_unplaced(fields), request, client.client_id, request.order_id)
        client.answer(order_status(ghost, "Inactive"), error(request.order_id, 201, "no", client.version))

    monkeypatch.setattr(OrderDesk, "_turn_away", inactive_first)
    desk.fault("refuse")
    with pytest.raises(OrderRejected):
        desk.place(order())


def test_inactive_without_a_reason_decides_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inactive alone may be a rejection, a hold or a deactivated order.

    Guard: `verdicts.decide_order` waits, and what is still open at the deadline is unknown. docs/facts/ibkr.md#3.6.
    """

    def only_inactive(self: OrderDesk, client: Any, request: Any, fields: Any, fault: Any) -> None:
        ghost = TwsOrder(_unplaced(fields), request, client.client_id, request.order_id)
        client.answer(order_status(ghost, "Inactive"))

    monkeypatch.setattr(OrderDesk, "_turn_away", only_inactive)
    desk.fault("refuse")
    with pytest.raises(SubmitTimeout):
        desk.place(order(), deadline_s=1.2)


def test_a_refusal_after_ib_has_shown_the_order_is_unknown(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """201 while the wire shows the order as PendingSubmit with a permId: two truths.

    Guard: `verdicts.decide_order` believes only the wire's own Inactive or Cancelled then. docs/facts/ibkr.md#4.8.
    """

    def shown_and_refused(self: OrderDesk, client: Any, request: Any, fields: Any, fault: Any) -> None:
        ghost = TwsOrder(_unplaced(fields), request, client.client_id, request.order_id)
        client.answer(order_status(ghost, "PendingSubmit"), error(request.order_id, 201, "no", client.version))

    monkeypatch.setattr(OrderDesk, "_turn_away", shown_and_refused)
    desk.fault("refuse")
    with pytest.raises(UnreadableReply):
        desk.place(order(), deadline_s=4)


# -- STATUS AND EXECUTIONS ---
def test_a_fill_without_any_status_is_seen(desk: Desk) -> None:
    """A fill may come without an orderStatus: the SDK says Submitted and isDone False.

    Guard: `OrderBook.on_execution` is evidence for the send, and executions are what is counted.
    docs/facts/ibkr.md#3.2, #6.1.
    """
    desk.fault("swallow_status")
    placed = desk.place(order())
    assert (placed.status, placed.filled_quantity) == (BrokerStatus.FILLED, 10)


def test_doubled_statuses_change_nothing(desk: Desk) -> None:
    """TWS repeats orderStatus lines.

    Guard: `OrderBook._push` tells what differs only. docs/facts/ibkr.md#3.2.
    """
    desk.fault("duplicate_status")
    placed = desk.place(order())
    eventually(lambda: [r for r in desk.reports if isinstance(r, CommissionReport)])
    assert len([r for r in desk.reports if isinstance(r, FillReport)]) == 1
    told = [report.status for report in desk.pushed(placed)[1:]]
    assert len(told) == len(set(told))


def test_an_execution_replayed_after_a_reconnect_is_told_once_and_not_lost(desk: Desk) -> None:
    """On connect the SDK takes in the day's executions without an event, the ones that were missed as well.

    Guard: `TwsSession.open` reads executions into the book, which emits those it has not seen. docs/facts/ibkr.md#6.2.
    """
    seen = desk.place(order(quantity=3))
    eventually(lambda: desk.executions(seen))
    desk.fault("no_fill")
    missed = desk.place(order())
    desk.down()
    desk.release()
    eventually(lambda: desk.the_one(order()).state == "filled")
    desk.back()
    assert [r.quantity for r in desk.reports if isinstance(r, FillReport)] == [3, 10]
    assert [fill.quantity for fill in desk.executions(missed)] == [10]


def test_a_naive_execution_time_is_read_in_the_gateways_zone(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older gateways send execution times without a zone: the SDK takes the host's, and hours go wrong.

    Guard: `TwsSession._prepare` sets TimezoneTWS from the setting `timezone`. docs/facts/ibkr.md#6.3.
    """
    monkeypatch.setattr(tws_messages, "ib_time", lambda at: f"{at.astimezone(tws_messages.NEW_YORK):%Y%m%d  %H:%M:%S}")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        broker = desk.connected(client_id=5, timezone="America/New_York")
        told: list[Any] = []
        broker.updates(told.append)
        desk.place(order(), by=broker)
        eventually(lambda: [r for r in told if isinstance(r, FillReport)])
    finally:
        monkeypatch.undo()
        time.tzset()
    (fill,) = (r for r in told if isinstance(r, FillReport))
    assert abs(fill.filled_at - now()) < timedelta(minutes=1)


# -- IDS ---
def test_order_ids_are_never_used_again_after_a_rollback(desk: Desk) -> None:
    """nextValidId may roll back; an order under an id that lives would change that order.

    Guard: `OrderBook.id_floor`, raised by everything that was sent or seen. docs/facts/ibkr.md#2.3.
    """
    for number in range(1, 7):
        desk.place(resting(quantity=number))
    desk.fault("rollback_next_valid_id")
    desk.cut()
    eventually(lambda: not desk.broker.is_connected())
    reconnect(desk.broker)
    desk.place(resting(quantity=7))
    assert [seen.quantity for seen in desk.orders()] == [1, 2, 3, 4, 5, 6, 7]


def test_a_rollback_after_our_own_restart_is_caught_by_what_ib_shows(desk: Desk) -> None:
    """As above, by a process that remembers nothing.

    Guard: `TwsSession._synchronise` reads open orders and executions before the first id is given out.
    docs/facts/ibkr.md#2.3.
    """
    for number in range(1, 7):
        desk.place(resting(quantity=number))
    desk.fault("rollback_next_valid_id")
    desk.restart()
    desk.place(resting(quantity=7))
    assert [seen.quantity for seen in desk.orders()] == [1, 2, 3, 4, 5, 6, 7]


# -- THE WAY TO IB ---
def test_what_1100_cut_off_is_unknown_and_nothing_is_sent_until_it_is_read_again(desk: Any) -> None:
    """1100 leaves the socket up: the SDK sends on, and fills until 1102 are not replayed.

    Guard: `TwsSession._on_system_code` closes the gate, and reads orders and executions before it opens.
    docs/facts/ibkr.md#1.6.
    """
    desk.fault("no_fill")
    placed = desk.place(order())
    session = desk.broker.session
    desk.fault("nightly_reset", seconds=0.5)
    eventually(lambda: not desk.broker.is_connected())
    during = (lambda: desk.place(order()), desk.broker.connect, lambda: desk.find(order()))
    for attempt in during:
        with pytest.raises(NotConnected):
            attempt()
    desk.release()
    eventually(desk.broker.is_connected)
    assert desk.broker.session == session + 1
    eventually(lambda: [fill.quantity for fill in desk.executions(placed)] == [10])
    assert desk.arrivals() == 1


def test_an_order_in_flight_at_1100_is_unknown(desk: Desk) -> None:
    """An order that was on its way when IB was lost gets no answer any more.

    Guard: `OrderBook.lose`. docs/facts/ibkr.md#1.6.
    """
    desk.fault("accept_hang")
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(desk.place, order())
        eventually(desk.arrivals)
        desk.fault("nightly_reset", seconds=0.2)
        with pytest.raises(ConnectionLost):
            flying.result(3)


def test_an_order_in_flight_at_a_gateway_restart_is_unknown_and_found(desk: Any) -> None:
    """The daily restart cuts the socket; the SDK forgets its trades and does not come back by itself.

    Guard: `TwsSession._on_lost` ends all that is pending as ConnectionLost, and find_order asks IB.
    docs/facts/ibkr.md#1.7, #2.1.
    """
    desk.fault("accept_hang")
    wanted, session = order(), desk.broker.session
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(desk.place, wanted)
        eventually(desk.arrivals)
        desk.down()
        with pytest.raises(ConnectionLost):
            flying.result(3)
    with pytest.raises(NotConnected):
        desk.find(wanted)
    desk.back()
    assert desk.broker.session > session
    report = desk.settled(wanted, BrokerStatus.FILLED)
    assert ([fill.quantity for fill in report.fills], desk.arrivals()) == ([10], 1)


def test_a_client_id_in_use_is_said_so_at_once(desk: Desk) -> None:
    """326 and a closed socket: the SDK waits until its timeout and speaks of a timeout.

    Guard: `shake_hands` races it against apiError, and `TwsSession._why` names the code. docs/facts/ibkr.md#1.5.
    """
    second = desk.adapter(connect_timeout=5)
    began = time.monotonic()
    with pytest.raises(NotConnected, match=r"326 .*client id is already in use.*own client_id"):
        second.connect()
    assert time.monotonic() - began < 2
    assert desk.broker.is_connected()


def test_a_failed_request_is_an_error_and_not_an_empty_result(desk: Desk) -> None:
    """RaiseRequestErrors is off by default: a failed request becomes an empty list or a ticker full of NaN.

    Guard: `TwsSession._prepare` switches it on. docs/facts/ibkr.md#1.4.
    """
    desk.fault("error_code", operation="quote", code=354, text="not subscribed")
    with pytest.raises(DataError, match="not subscribed"):
        desk.broker.get_market_data("SPY")
    desk.fault("error_code", operation="bars", code=162, text="Historical data request pacing violation")
    with pytest.raises(DataError, match="pacing"):
        desk.broker.get_historical_data("SPY", "1Day", now() - timedelta(days=5), now())


def test_a_connect_whose_executions_are_not_answered_stays_closed(desk: Desk) -> None:
    """One SDK aborts connect without a word when reqExecutions is not answered, the other goes on without them.

    Guard: `TwsSession.open` reads them itself and stays closed without them. docs/facts/ibkr.md#1.4.
    """
    desk.fault("mute_executions")
    broker = desk.adapter(client_id=8, request_timeout=0.3)
    with pytest.raises(NotConnected, match="executions"):
        broker.connect()
    assert not broker.is_connected()
    broker.connect()


def test_orders_never_wait_in_the_sdks_own_queue(desk: Desk) -> None:
    """Above 45 messages a second placeOrder returns before its bytes leave, and a cut discards them silently.

    Guard: `TwsSession._prepare` sets MaxRequests to 0; `TwsSession.turn` waits. docs/facts/ibkr.md#1.10.
    """
    broker = desk.connected(client_id=6, messages_per_second=8)
    outcomes: list[object] = []
    for number in range(1, 13):
        try:
            outcomes.append(desk.place(order(quantity=number), deadline_s=0.4, by=broker))
        except QuotaExhausted as held:
            outcomes.append(held)
    held_back = [one for one in outcomes if isinstance(one, QuotaExhausted)]
    assert held_back
    assert desk.arrivals() == 12 - len(held_back)
