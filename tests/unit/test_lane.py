"""How many orders are claimed for a broker that is slow: no more than can be sent while a claim is fresh."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import select

from models.record.database import Database
from models.record.tables import attempts
from models.reports import OrderReport
from models.settings import load_settings
from tests.kit import eventually, never
from tests.open_desk import open_desk
from tests.unit.trust_desk import order
from worker.brokers.base import Ticket
from worker.brokers.fake import FakeBroker
from worker.orders.lane import Lane
from worker.orders.selection import named

IDS = [f"o-{number}" for number in range(100)]


@pytest.fixture
def lane() -> Lane:
    return Lane("send", 4, ThreadPoolExecutor)


def taking(lane: Lane, seconds: float) -> Lane:
    """Let the requests of a lane take so long."""
    lane._takes = seconds
    return lane


def test_a_quick_broker_gets_a_message_whole(lane: Lane) -> None:
    whole = named(IDS)
    assert [share is whole for share in taking(lane, 0.001).shares(whole, 4)] == [True]


def test_a_broker_that_has_not_answered_yet_gets_a_few_for_each_place(lane: Lane) -> None:
    assert [len(share.ids) for share in lane.shares(named(IDS[:40]), 4)] == [16, 16, 8]


def test_a_slow_broker_gets_shares_that_it_can_take_in_time(lane: Lane) -> None:
    """Four places, half a second each, within four seconds: 32, and half of them are one share."""
    shares = [list(share.ids) for share in taking(lane, 0.5).shares(named(IDS), 4)]
    assert [len(share) for share in shares] == [16] * 6 + [4]
    assert [id_ for share in shares for id_ in share] == IDS


def test_a_share_is_never_smaller_than_the_places(lane: Lane) -> None:
    assert [len(share.ids) for share in taking(lane, 60).shares(named(IDS[:10]), 4)] == [4, 4, 2]


def test_what_may_be_plain_is_asked_for_with_its_share_only(lane: Lane) -> None:
    shares = list(taking(lane, 60).shares(named(IDS[:8], may_be_plain=IDS[2:6]), 4))
    assert [list(share.may_be_plain) for share in shares] == [IDS[2:4], IDS[4:6]]


def test_a_third_share_waits_until_one_is_through(lane: Lane) -> None:
    first, second, third = (taking(lane, 60).shares(named(IDS[:4]), 4) for _ in range(3))
    next(first)
    next(second)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, third)
        assert not waiting.done()
        first.close()
        assert list(waiting.result(3).ids) == IDS[:4]


@pytest.fixture
def two_under_way(lane: Lane) -> Iterator[Callable[[], None]]:
    """Two shares of several orders of a quick broker; called, it ends one of them."""
    with ExitStack() as both, ExitStack() as one:
        for stack in (one, both):
            share = taking(lane, 0.001).shares(named(IDS), 4)
            next(share)
            stack.callback(list, share)  # goes on to its end
        yield one.close


@pytest.mark.parametrize("ids", [IDS, []], ids=["named", "unnamed"])
def test_several_orders_wait_for_their_turn_behind_two_others(
    lane: Lane, two_under_way: Callable[[], None], ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.orders.lane._TURN_S", 60)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(list, lane.shares(named(ids), 4))
        never(waiting.done, 0.05)
        two_under_way()
        assert len(waiting.result(3)) == 1


@pytest.mark.usefixtures("two_under_way")
def test_orders_that_hang_at_their_broker_do_not_hold_up_others(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.orders.lane._TURN_S", 0.01)
    assert [len(list(lane.shares(named(IDS), 4))) for _ in range(3)] == [1, 1, 1]


@pytest.mark.usefixtures("two_under_way")
def test_a_single_order_waits_for_nobodys_turn(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.orders.lane._TURN_S", 60)
    with ThreadPoolExecutor(1) as thread:
        assert list(thread.submit(next, lane.shares(named(IDS[:1]), 4)).result(3).ids) == IDS[:1]


def test_orders_that_nobody_has_named_are_one_share(lane: Lane) -> None:
    whole = named([])
    assert list(taking(lane, 60).shares(whole, 4)) == [whole]


class Silent(FakeBroker):
    """A broker that answers once it may."""

    def __init__(self) -> None:
        super().__init__("alpaca")
        self.may = threading.Event()

    def place_order(self, ticket: Ticket) -> OrderReport:
        self.may.wait()
        return super().place_order(ticket)


def test_of_four_messages_at_once_only_so_many_orders_are_claimed_as_can_be_sent(
    tmp_path: Path, database: Database
) -> None:
    settings = load_settings(
        home=tmp_path, redis_url=f"unix://{tmp_path}/no-queue", brokers={"alpaca": {"adapter": "fake"}},
        routing={"route": ["alpaca"]}, timing={"fresh": 120, "lease": 200},
    )  # fmt: skip
    broker = Silent()
    broker.connect()
    desk = open_desk(settings, database, broker)

    def outcomes() -> Counter[str]:
        with database.read() as connection:
            return Counter(connection.execute(select(attempts.c.outcome)).scalars())

    messages = [[order(f"{message}-{number}") for number in range(40)] for message in range(4)]
    with ThreadPoolExecutor(4) as threads:
        under_way = [threads.submit(desk.place.submit, bodies) for bodies in messages]
        eventually(lambda: outcomes() == {"sending": 64}, 60, outcomes)
        never(lambda: outcomes() != {"sending": 64}, 0.2)
        broker.may.set()
        for one in under_way:
            one.result()
    desk.close()
    assert outcomes() == {"accepted": 160}
