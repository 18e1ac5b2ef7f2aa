"""Many orders at once over one connection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from models.errors import OutcomeUnknown
from models.messages import OrderRequest
from models.reports import Found, OrderReport
from tests.contract.suite.desk import Desk, distinct, eventually, now, ref, resting
from tests.contract.suite.desk import order as market


def test_c90_every_order_gets_its_own_answer(desk: Desk) -> None:
    """C90 As many orders at once as the capabilities allow each get their own answer, and each is there once.

    When: `parallel_orders` orders from as many threads.
    Then: every report has the symbol, quantity and id of its own order; every order is at the broker once.
    """
    wanted = [resting(quantity=number) for number in range(1, desk.can.parallel_orders + 1)]
    with ThreadPoolExecutor(len(wanted)) as pool:
        placed = list(pool.map(lambda one: desk.place(one, deadline_s=8), wanted))
    assert len({report.broker_order_id for report in placed}) == len(wanted)
    found = desk.broker.find_orders([ref(one) for one in wanted])
    for one, report, sighting in zip(wanted, placed, found, strict=True):
        assert report.quantity in (one.quantity, None)
        assert isinstance(sighting, Found)
        assert sighting.report.broker_order_id == report.broker_order_id
        desk.the_one(one)
    assert desk.arrivals() == len(wanted)


def test_c91_reads_beside_orders_disturb_neither(desk: Desk) -> None:
    """C91 Reads beside orders disturb neither.

    Given: two threads that read orders, fills, positions and the account all the time.
    When: eight orders, two at a time.
    Then: no read fails, no order is lost; and in the end the lists show all of them.
    """
    stop, errors = threading.Event(), list[Exception]()
    began, broker = now(), desk.broker

    def read() -> None:
        try:
            while not stop.wait(0.02):
                broker.get_orders()
                broker.get_fills(began)
                broker.get_positions()
                broker.get_account_info()
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    wanted = [resting(quantity=number) for number in range(1, 9)]
    try:
        with ThreadPoolExecutor(2) as pool:
            placed = list(pool.map(lambda one: desk.place(one, deadline_s=8), wanted))
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert errors == []
    assert {one.broker_order_id for one in broker.get_orders()} == {one.broker_order_id for one in placed}


def test_c92_one_unknown_among_many_is_the_only_one(desk: Desk) -> None:
    """C92 One unknown outcome among many orders at once is the only one.

    Given: the broker never answers one of four orders in flight; the connection stays.
    Then: exactly one OutcomeUnknown; all four are at the broker, once, and are found.
    """
    desk.fault("accept_hang")
    wanted = [resting(quantity=number) for number in range(1, 5)]

    def place(one: OrderRequest) -> OrderReport | OutcomeUnknown:
        try:
            return desk.place(one, deadline_s=1)
        except OutcomeUnknown as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(place, wanted))
    assert len([one for one in outcomes if isinstance(one, OutcomeUnknown)]) == 1
    for one in wanted:
        desk.the_one(one)
    assert {type(one) for one in desk.broker.find_orders([ref(one) for one in wanted])} == {Found}


def test_c93_fills_of_many_orders_go_to_their_own(desk: Desk) -> None:
    """C93 Fills of many orders at once are told for the right ones.

    When: four market orders of different quantities at once.
    Then: the fills told for each add up to its quantity.
    """
    wanted = [market(quantity=number) for number in range(1, 5)]
    with ThreadPoolExecutor(4) as pool:
        placed = list(pool.map(lambda one: desk.place(one, deadline_s=8), wanted))
    for one, report in zip(wanted, placed, strict=True):
        eventually(lambda one=one, report=report: _filled(desk, report) == one.quantity)  # type: ignore[misc]


def _filled(desk: Desk, placed: OrderReport) -> object:
    return sum(fill.quantity for fill in distinct(desk.executions(placed)))
