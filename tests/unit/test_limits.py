"""Budgets: never more than the limit in any window, who goes first, and how long anybody waits."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as rounds
from hypothesis import strategies as st

from models.errors import QuotaExhausted
from models.vocabulary import Side
from tests.unit.budgets import CountInMemory, HandClock
from worker.pacing import budget as limits
from worker.pacing.budget import ALL, PATIENCE_S, SHARES, Budget, Use, use_of, using
from worker.pacing.window import MovingWindow, Rate, TokensTaken

#: Seconds that a slow shared count takes: many turns of a loop.
SLOW_COUNT_S = 0.3
USES = st.sampled_from(list(Use))
#: What a worker asks for, after how many seconds.
ASKS = st.lists(st.tuples(st.integers(0, 3), USES, st.floats(0, 2)), max_size=150)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def most_in_any(times: list[float], seconds: float) -> int:
    """The largest number of times that lie within so many seconds."""
    return max((sum(at <= other < at + seconds for other in times) for at in times), default=0)


# -- THE ARITHMETIC ---
@given(st.integers(1, 40), st.lists(st.tuples(USES, st.floats(0, 3)), max_size=200))
def test_never_more_than_the_limit_in_any_window(limit: int, asks: list[tuple[Use, float]]) -> None:
    clock = HandClock()
    budget, sent = Budget("b", Rate(limit, 10.0), clock=clock), []
    for use, pause in asks:
        clock.now += pause
        if budget.try_spend(use) == 0:
            sent.append((clock(), use))
    assert most_in_any([at for at, _ in sent], 10.0) <= limit
    for use, share in SHARES.items():  # when one goes out, its share was not used up before
        for place, (at, what) in enumerate(sent):
            before = [other for other, _ in sent[:place] if other > at - 10.0]
            assert what is not use or len(before) < max(1, int(limit * share))


@given(
    st.integers(1, 30), st.integers(1, 4), st.lists(st.tuples(st.integers(0, 3), USES, st.floats(0, 2)), max_size=150)
)
@rounds(max_examples=60)
def test_workers_together_keep_the_limit(limit: int, workers: int, asks: list[tuple[int, Use, float]]) -> None:
    clock = HandClock()
    ledger = CountInMemory(clock)
    budgets = [Budget("b", Rate(limit, 10.0), ledger, clock=clock) for _ in range(workers)]
    sent = []
    for which, use, pause in asks:
        clock.now += pause
        if budgets[which % workers].try_spend(use) == 0:
            sent.append(clock())
    assert most_in_any(sent, 10.0) <= limit


@given(st.integers(1, 50), st.lists(st.floats(0, 2), max_size=80))
def test_a_wait_is_as_long_as_it_says(limit: int, pauses: list[float]) -> None:
    now, window = 0.0, MovingWindow(10.0)
    for pause in pauses:
        now += pause
        wait = window.wait(limit, now)
        if wait > 0:
            assert window.wait(limit, now + wait * 0.98) > 0 or wait < 1e-6
            now += wait + 1e-9
        assert window.wait(limit, now) == 0
        window.add(now)


def test_a_window_longer_than_the_brokers_makes_up_for_the_way() -> None:
    for rate in (Rate(45, 1.0), Rate(190, 60.0), Rate(30, 5.0)):
        assert rate.seconds + rate.lease_s < rate.window_s < rate.seconds * 1.15
        assert rate.lease_s <= 0.25


# -- WHO GOES FIRST ---
def fill(budget: Budget, use: Use) -> int:
    """Spend until there is nothing left for a use; returns how many there were."""
    count = 0
    while budget.try_spend(use) == 0:
        count += 1
        assert count < 1000
    return count


def test_every_use_leaves_room_for_those_that_go_before_it(clock: HandClock) -> None:
    budget = Budget("b", Rate(100, 60.0), clock=clock)
    assert [fill(budget, use) for use in Use] == [50, 10, 20, 10, 5, 5]
    assert budget.left() == 0


def test_a_cancel_takes_what_a_fetch_has_fetched_but_not_the_reverse(clock: HandClock) -> None:
    ledger = CountInMemory(clock)
    budget = Budget("b", Rate(100, 60.0), ledger, clock=clock)
    budget.waiting = 4
    assert budget.try_spend(Use.DATA) == 0  # asked for four, three are left
    asked = ledger.asked
    assert budget.try_spend(Use.URGENT) == 0
    assert ledger.asked == asked
    budget._stock = [(Use.URGENT, 3, clock() + 1)]
    assert budget.try_spend(Use.DATA) == 0
    assert ledger.asked > asked
    assert (Use.URGENT, 3, clock() + 1) in budget._stock


def test_closing_orders_are_told_from_those_that_open() -> None:
    assert {side: use_of(side) for side in Side} == {
        Side.BUY: Use.ORDER,
        Side.SELL_SHORT: Use.ORDER,
        Side.SELL: Use.CLOSING,
        Side.BUY_TO_COVER: Use.CLOSING,
    }
    shares = [SHARES[use] for use in (Use.DATA, Use.ORDER, Use.CLOSING, Use.URGENT)]
    assert shares == sorted(shares)


def test_what_a_request_is_for_is_said_around_it() -> None:
    assert limits._use.get() is Use.STATUS
    with using(Use.DATA):
        with using(Use.URGENT):
            assert limits._use.get() is Use.URGENT
        assert limits._use.get() is Use.DATA
    assert limits._use.get() is Use.STATUS


# -- WAITING ---
def test_a_turn_that_comes_soon_is_waited_for() -> None:
    budget = Budget("b", Rate(5, 0.4))
    started = time.monotonic()
    with using(Use.URGENT):
        for _ in range(10):
            budget.spend(10.0)
    assert 0.4 <= time.monotonic() - started < 3.0


@pytest.mark.parametrize("use", Use)
def test_nobody_waits_longer_than_a_bound(use: Use) -> None:
    budget = Budget("b", Rate(2, 60.0))
    with using(Use.URGENT):
        budget.spend(10.0)
        budget.spend(10.0)
    started = time.monotonic()
    with using(use), pytest.raises(QuotaExhausted, match="used up") as held:
        budget.spend(10.0)
    assert time.monotonic() - started < 0.5  # it is known at once that waiting is no use
    assert 55 < (held.value.retry_after or 0) < 65


def test_nobody_waits_for_most_of_the_time_that_a_request_has(clock: HandClock) -> None:
    budget = Budget("b", Rate(1, 4.0), clock=clock)
    budget.try_spend(Use.URGENT)
    with using(Use.URGENT), pytest.raises(QuotaExhausted):
        budget.spend(3.0)
    assert all(bound <= 4.0 for bound in PATIENCE_S.values())


def test_those_held_back_are_told_to_come_one_after_the_other(clock: HandClock) -> None:
    """Everybody at once, when only one token comes back, would be a stampede."""
    budget = Budget("b", Rate(10, 60.0), clock=clock, shares=ALL)
    for _ in range(10):
        assert budget.try_spend(Use.ORDER) == 0
        clock.now += 2.0
    told = []
    for _ in range(12):
        with using(Use.ORDER), pytest.raises(QuotaExhausted) as held:
            budget.spend(10.0)
        told.append(held.value.retry_after or 0)
    assert told == sorted(told)
    assert [round(later - sooner) for sooner, later in pairwise(told[:10])] == [2] * 9
    assert told[10] == pytest.approx(told[0] + budget.rate.window_s, abs=0.2), (
        "the eleventh gets a turn of the next window"
    )
    clock.now += told[0] + 0.001
    assert budget.try_spend(Use.ORDER) == 0


def test_a_loop_is_not_held_up_by_a_slow_count() -> None:
    class Slow(CountInMemory):
        def take(self, wanted: int, limit: int, window_s: float) -> TokensTaken:
            time.sleep(SLOW_COUNT_S)
            return TokensTaken(1, 0.0)

    async def run() -> int:
        budget, ticks = Budget("b", Rate(45, 1.0), Slow(HandClock())), 0
        turn = asyncio.create_task(budget.turn(5.0))
        while not turn.done():
            ticks += 1
            await asyncio.sleep(0.01)
        await turn
        return ticks

    assert asyncio.run(run()) > 10


# -- BLOCKS ---
def test_a_burst_asks_the_shared_count_in_blocks(clock: HandClock) -> None:
    ledger = CountInMemory(clock)
    budget = Budget("b", Rate(200, 60.0), ledger, clock=clock)
    for _ in range(100):
        assert budget.try_spend(Use.ORDER) == 0
        clock.now += 0.001
    assert ledger.asked < 40  # two calls a block: what is to be charged, and a block
    clock.now += 0.3
    assert not [lot for lot in budget._stock if lot[2] > clock()]  # what is not spent in a moment is not kept
    assert len(ledger.taken) - 100 <= 20


def test_a_slow_trickle_takes_no_more_than_it_needs(clock: HandClock) -> None:
    ledger = CountInMemory(clock)
    budget = Budget("b", Rate(200, 60.0), ledger, clock=clock)
    for _ in range(20):
        assert budget.try_spend(Use.ORDER) == 0
        clock.now += 1.0
    assert len(ledger.taken) == 20


def test_it_is_not_asked_again_for_what_it_has_just_refused(clock: HandClock) -> None:
    ledger = CountInMemory(clock)
    budget = Budget("b", Rate(10, 60.0), ledger, clock=clock)
    fill(budget, Use.URGENT)
    asked = ledger.asked
    for _ in range(100):
        assert budget.try_spend(Use.URGENT) > 0
    assert ledger.asked == asked


# -- WITHOUT REDIS ---
def test_without_the_shared_count_everybody_keeps_his_part(clock: HandClock) -> None:
    ledger = CountInMemory(clock)
    ledger.away = True
    budget = Budget("b", Rate(90, 60.0), ledger, clock=clock)
    assert fill(budget, Use.URGENT) == 90 // ledger.peers
    clock.now += 62
    assert budget.try_spend(Use.URGENT) == 0


def test_what_went_out_meanwhile_is_counted_when_it_is_back(clock: HandClock) -> None:
    ledger = CountInMemory(clock)
    ledger.away = True
    budget = Budget("b", Rate(90, 60.0), ledger, clock=clock)
    for _ in range(7):
        assert budget.try_spend(Use.ORDER) == 0
    ledger.away = False
    assert budget.try_spend(Use.ORDER) == 0
    assert ledger.charged == [7]
    clock.now += 1
    assert budget.try_spend(Use.ORDER) == 0
    assert ledger.charged == [7]


# -- THE BROKER'S OWN WORD ---
def test_too_many_requests_stops_everybody_until_the_broker_says(clock: HandClock) -> None:
    ledger = CountInMemory(clock)
    budget = Budget("b", Rate(100, 60.0), ledger, clock=clock)
    budget.limited(7.0)
    assert ledger.word == (0.0, 7.0)
    assert [round(budget.try_spend(use)) for use in Use] == [7] * 6
    budget.hear(0.9, 60)  # an answer that was under way
    assert budget.try_spend(Use.URGENT) > 0
    ledger.word = None
    clock.now += 7.01
    assert budget.try_spend(Use.URGENT) == 0


def test_the_word_reaches_a_worker_that_did_not_hear_it(clock: HandClock) -> None:
    ledger = CountInMemory(clock)
    first, second = (Budget("b", Rate(100, 60.0), ledger, clock=clock) for _ in range(2))
    first.limited(7.0)
    assert second.try_spend(Use.ORDER) > 0


@given(st.floats(0, 1), USES)
def test_what_the_broker_has_left_is_shared_out_like_what_we_count(left: float, use: Use) -> None:
    budget = Budget("b", Rate(100, 60.0), clock=HandClock())
    budget.hear(left, 30.0)
    assert (budget.try_spend(use) == 0) == (left > 1 - SHARES[use])


def test_an_absurd_word_does_not_stop_trading_for_ever(clock: HandClock) -> None:
    budget = Budget("b", Rate(100, 60.0), clock=clock)
    budget.limited(1e9)
    assert budget.try_spend(Use.URGENT) <= limits.LONGEST_PAUSE_S
    budget = Budget("b", Rate(100, 60.0), clock=clock)
    budget.limited(None)
    assert budget.try_spend(Use.URGENT) == limits.USUAL_PAUSE_S


@pytest.fixture
def crowd() -> Budget:
    return Budget("b", Rate(60, 1.0))


def test_many_threads_share_one_budget(crowd: Budget) -> None:
    sent, lock = [], threading.Lock()

    def work() -> None:
        with using(Use.URGENT):
            for _ in range(10):
                crowd.spend(30.0)
                with lock:
                    sent.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 120
    assert most_in_any(sent, 1.0) <= 60
    assert crowd.waiting == 0


# -- A HOST THAT NOBODY KNOWS ---
def test_a_presumed_limit_holds_from_the_moment_somebody_speaks_of_it() -> None:
    now = [100.0]
    budget = Budget("alpaca", Rate(10, 60.0, presumed=True), clock=lambda: now[0])
    assert [budget.try_spend(Use.DATA) for _ in range(50)] == [0.0] * 50
    budget.hear(0.9, 30.0)
    assert budget.try_spend(Use.URGENT) > 0  # what was spent before counts
    now[0] += 70.0
    assert budget.try_spend(Use.URGENT) == 0.0
