"""Budgets in a real Redis: several processes, one account; and a Redis that is frozen, gone or wiped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from models.settings import Settings, load_settings
from tests.kit import ROOT, eventually
from tests.proxies import Refusing
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.pacing import shared
from worker.pacing.budget import Budget, Use, using
from worker.pacing.shared import SharedLimits, SharedWindow
from worker.pacing.window import Away, Rate, TokensTaken

#: Seconds between two orders while Redis is frozen.
ORDER_EVERY_S = 0.02
#: Seconds that an answer of a slow Redis takes: less than the time after which it is left alone.
SLOW_S = 0.08
#: A worker: spends as fast as it may for some seconds, and tells when, on the clock that all processes share.
WORKER = """
import json, sys, time
from models.errors import QuotaExhausted
from models.settings import load_settings
from worker.pacing.budget import Use, using
from worker.pacing.window import Rate
from worker.pacing.shared import SharedLimits
home, limit, seconds, lasts = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
made = SharedLimits(load_settings(home=home))
budget, sent = made.budget("b", "kind", "account", Rate(limit, seconds)), []
print("ready", flush=True)
sys.stdin.readline()
ends = time.monotonic() + lasts
with using(Use.URGENT):
    while time.monotonic() < ends:
        try:
            budget.spend(3.0)
        except QuotaExhausted as held:
            time.sleep(min(held.retry_after, 0.2))
        else:
            sent.append(budget._mine._spent[-1])
print(json.dumps({"sent": sent, "trips": made.trips}))
"""


class RedisHouse:
    """A Redis server of its own."""

    def __init__(self, home: Path) -> None:
        self.settings: Settings = load_settings(home=home)
        self.queue = EmbeddedQueue(self.settings)
        self.queue.acquire()
        self.client = redis.Redis(unix_socket_path=str(self.queue.socket), socket_timeout=5)
        self.pid = int(self.client.info("server")["process_id"])
        self.made: list[SharedLimits] = []

    def worker(self) -> SharedLimits:
        self.made.append(SharedLimits(self.settings))
        return self.made[-1]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        for made in self.made:
            made.close()
        self.client.close()
        self.queue.release()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[RedisHouse]:
    found = RedisHouse(tmp_path)
    yield found
    found.close()


def budget_of(made: SharedLimits, limit: int = 100, seconds: float = 60.0) -> Budget:
    return made.budget("b", "kind", "account", Rate(limit, seconds))


def spent(budget: Budget, use: Use = Use.URGENT, most: int = 1000) -> int:
    """Spend until there is nothing left; returns how many there were."""
    count = 0
    while count < most and budget.try_spend(use) == 0:
        count += 1
    return count


def most_in_any(times: list[float], seconds: float) -> int:
    times, most, first = sorted(times), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


# -- ONE ACCOUNT, SEVERAL WORKERS ---
def test_processes_together_keep_the_limit(house: RedisHouse) -> None:
    limit, seconds = 60, 1.5
    arguments = [str(house.settings.home), str(limit), str(seconds), "4.5"]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    told = [json.loads(worker.communicate(timeout=60)[0].splitlines()[-1]) for worker in workers]
    sent = [at for one in told for at in one["sent"]]
    assert most_in_any(sent, seconds) <= limit
    lasted = max(sent) - min(sent)
    assert len(sent) > 0.6 * limit * lasted / seconds, "the budget is used, not only kept"
    assert min(len(one["sent"]) for one in told) > 0, "nobody is left out"


def test_another_name_for_the_account_shares_its_budget(house: RedisHouse) -> None:
    first, second = house.worker(), house.worker()
    assert spent(budget_of(first)) == 100
    assert second.budget("other_name", "kind", "account", Rate(100, 60)).try_spend(Use.URGENT) > 50
    assert second.budget("other", "kind", "another account", Rate(100, 60)).try_spend(Use.URGENT) == 0


def test_a_fetching_worker_leaves_room_for_the_cancels_of_another(house: RedisHouse) -> None:
    first, second = (budget_of(house.worker()) for _ in range(2))
    assert spent(first, Use.DATA) == 50
    assert second.try_spend(Use.DATA) > 0
    assert spent(second, Use.ORDER) == 30
    assert first.try_spend(Use.CLOSING) == 0
    assert first.try_spend(Use.URGENT) == 0


def test_no_secret_is_in_the_keys(house: RedisHouse) -> None:
    budget = house.worker().budget("b", "alpaca", "host SECRET-KEY", Rate(10, 60))
    assert budget.try_spend(Use.ORDER) == 0
    budget.limited(5)
    keys = [key.decode() for key in house.client.keys("*")]
    assert any(key.startswith("corro.budget:alpaca:") for key in keys)
    assert not [key for key in keys if "SECRET" in key]


def test_a_429_stops_the_other_workers(house: RedisHouse) -> None:
    first, second = (budget_of(house.worker()) for _ in range(2))
    assert second.try_spend(Use.ORDER) == 0
    first.limited(1.5)
    eventually(lambda: second.try_spend(Use.URGENT) > 0.5, shared.WORD_S + 1.0)
    eventually(lambda: second.try_spend(Use.URGENT) == 0, 3.0)


def test_the_same_request_is_made_once(house: RedisHouse) -> None:
    first, second = (SharedWindow(house.worker()._link, "bars") for _ in range(2))  # type: ignore[arg-type]
    assert first.once("SPY 1 D", 0.4) == 0
    left = second.once("SPY 1 D", 0.4)
    assert 0 < left <= 0.4
    assert second.once("KO 1 D", 0.4) == 0
    eventually(lambda: second.once("SPY 1 D", 0.4) == 0, left + 2.0)


def test_tokens_of_a_slow_redis_count_for_the_time_at_which_they_can_be_spent(
    house: RedisHouse, tmp_path: Path
) -> None:
    slow = Refusing(house.queue.socket)
    slow.rule = lambda words: time.sleep(SLOW_S) if words[0].upper() == b"EVALSHA" else None
    made = SharedLimits(load_settings(home=tmp_path / "far", redis_url=f"redis://127.0.0.1:{slow.port}/0"))
    window = made.window("kind:account")
    window.take(1, 10, 60.0)  # loads the script
    window._lag_ms = 0.0
    assert window.take(1, 10, 60.0).late_s >= SLOW_S, "the first answer is not expected to be slow"
    asked_at = window._now_ms()
    late = window.take(1, 10, 60.0).late_s
    newest = float(house.client.lindex("corro.budget:kind:account", 0))
    assert newest >= asked_at + SLOW_S * 1000
    budget = Budget("b", Rate(10, 1.0), window)
    assert late < SLOW_S
    assert budget.try_spend(Use.URGENT) == 0, "an answer that is always slow stops nobody"
    made.close()


def test_tokens_that_came_too_late_are_not_spent(house: RedisHouse) -> None:
    budget = budget_of(house.worker(), 10, 1.0)
    assert budget.try_spend(Use.ORDER) == 0
    window = budget._shared
    assert window is not None
    late = TokensTaken(1, 0.0, late_s=budget.rate.lease_s)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "take", lambda *_: late)
        budget._restock(Use.ORDER)
    assert budget._from_stock(Use.ORDER) is None


# -- WHAT IT COSTS ---
def test_a_burst_of_orders_costs_few_round_trips(house: RedisHouse) -> None:
    made = house.worker()
    budget = budget_of(made, 200)
    assert budget.try_spend(Use.ORDER) == 0
    before, started = made.trips, time.perf_counter()
    with using(Use.ORDER):
        for _ in range(100):
            budget.spend(10.0)
    took = time.perf_counter() - started
    print(f"{1e6 * took / 100:.0f} us a request, {made.trips - before} round trips for 100")
    assert made.trips - before <= 30


# -- A SICK REDIS ---
def test_a_frozen_redis_holds_nobody_up(house: RedisHouse) -> None:
    budget = budget_of(house.worker(), 300)
    assert budget.try_spend(Use.ORDER) == 0
    longest = 0.0
    with house.frozen():
        for _ in range(60):
            started = time.monotonic()
            assert budget.try_spend(Use.ORDER) == 0, "trading goes on"
            longest = max(longest, time.monotonic() - started)
            time.sleep(ORDER_EVERY_S)
    assert longest < shared.CONNECT_S + shared.ANSWER_S + 0.5
    uncounted = budget._uncounted
    assert uncounted > 40
    eventually(lambda: budget.try_spend(Use.ORDER) == 0 and budget._uncounted == 0, 5.0)
    assert budget.left() <= 300 - 60, "what went out meanwhile was counted then"


def test_without_redis_each_worker_keeps_its_part(house: RedisHouse) -> None:
    budgets = [budget_of(house.worker()) for _ in range(4)]
    for budget in budgets:
        assert budget.try_spend(Use.ORDER) == 0
    for budget in budgets:  # everybody looks around again, and sees the others
        budget._shared._synced_at = -100.0  # type: ignore[union-attr]
        assert budget.left() > 0
    assert budgets[0]._shared.peers == 4  # type: ignore[union-attr]
    os.kill(house.pid, signal.SIGKILL)
    os.waitpid(house.pid, 0)
    assert sum(spent(budget) for budget in budgets) <= 100
    assert str(budgets[0]).startswith("budget 0 of 100")


def test_a_wiped_redis_is_told_what_went_out(house: RedisHouse) -> None:
    first, second = (budget_of(house.worker()) for _ in range(2))
    assert spent(first, most=40) == 40
    assert second.try_spend(Use.ORDER) == 0
    house.client.flushall()
    for budget in (first, second):
        budget._shared._synced_at = -100.0  # type: ignore[union-attr]
        budget._stock.clear()
        assert budget.try_spend(Use.ORDER) == 0
    assert 40 <= 100 - second.left() <= 60


def test_a_clock_put_back_does_not_stop_trading(house: RedisHouse) -> None:
    budget = budget_of(house.worker(), 5)
    assert spent(budget) == 5
    key = next(key for key in house.client.keys("corro.budget:kind:*") if key.count(b":") == 2)
    hour = 3_600_000
    ahead = [float(at) + hour for at in house.client.lrange(key, 0, -1)]
    house.client.delete(key)
    house.client.rpush(key, *ahead)
    budget._dry.clear()
    eventually(lambda: budget.try_spend(Use.URGENT) == 0, 2.0)


def test_a_key_of_the_wrong_type_is_told_in_the_fleet_until_it_is_gone(
    house: RedisHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = house.worker()
    budget = budget_of(made)
    assert budget.try_spend(Use.ORDER) == 0
    assert "not shared" not in made.words()
    key = next(key for key in house.client.keys("corro.budget:kind:*") if key.count(b":") == 2)
    house.client.delete(key)
    house.client.set(key, "somebody's")
    eventually(lambda: budget.try_spend(Use.URGENT) == 0 and "WRONGTYPE" in made.words(), 5.0)
    assert made.words().startswith("budgets are not shared, every worker keeps its part: WRONGTYPE")
    house.client.delete(key)
    monkeypatch.setattr(shared, "TOLD_FOR_S", 0.05)
    eventually(lambda: "not shared" not in made.words(), 5.0)


def test_no_redis_at_all(tmp_path: Path) -> None:
    made = SharedLimits(load_settings(home=tmp_path, redis_url="redis://127.0.0.1:1/0"))
    budget = budget_of(made, 10)
    started = time.monotonic()
    assert spent(budget) == 5  # two workers, until somebody has looked
    assert time.monotonic() - started < 2.0
    with pytest.raises(Away):
        made._link.do(lambda storage: storage.storage.ping())  # type: ignore[union-attr]
    made.close()
