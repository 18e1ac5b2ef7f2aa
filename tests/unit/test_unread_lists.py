"""A message on a list that nobody reads is no silent loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from models.settings import Settings, load_settings
from producers.bell import envelope
from tests.proxies import Refusing
from tests.unit.words import Run
from worker.checks.steps import Verdict
from worker.checks.system import System, look_at_queue
from worker.cli.dead_letters import hint
from worker.messaging.dead_letters import DeadLetters
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.messaging.unread import look, unread_lists

LOST = envelope("orders.submit", "celery", {"orders": [{"client_order_id": "a", "symbol": "KO"}]})


@pytest.fixture
def settings(bare: Path) -> Settings:
    return load_settings(home=bare)


@pytest.fixture
def queue(settings: Settings) -> Iterator[redis.Redis]:
    with EmbeddedQueue(settings) as embedded, redis.Redis(unix_socket_path=str(embedded.socket)) as own:
        yield own


def test_lists_that_nobody_reads_are_named(settings: Settings, queue: redis.Redis) -> None:
    for name in ("orders.ibkr", "orders.ibkr\x06\x163", "control.tda", "data.alpaca"):
        queue.lpush(name, b"1")
    assert unread_lists(queue, settings.all_brokers) == {}
    queue.lpush("orders.alpca", LOST, LOST)
    queue.lpush("celery", LOST)
    assert unread_lists(queue, settings.all_brokers) == {"orders.alpca": 2, "celery": 1}
    assert "orders.alpca (2)" in str(hint(settings))
    found: Verdict = look_at_queue(System(settings, 5.0))
    assert "orders.alpca (2)" in found.words


def test_a_message_of_ours_that_names_no_queue_is_set_aside_and_others_stay(
    settings: Settings, queue: redis.Redis
) -> None:
    theirs = envelope("other.task", "celery", {})
    queue.lpush("celery", b"garbage", theirs, LOST, LOST)
    look(settings)
    assert queue.lrange("celery", 0, -1) == [theirs, b"garbage"]
    assert DeadLetters(queue).counts() == {"no_queue": 2}
    assert DeadLetters(queue).kept()[0]["message"] == LOST.decode()


@pytest.mark.parametrize(
    ("command", "reply"),
    [(b"LPUSH", b"OOM command not allowed"), (b"LPUSH", b"READONLY You can't write"), (b"SREM", b"NOPERM no access"),
     (b"HDEL", b"MISCONF unable to persist"), (b"ZREM", b"CROSSSLOT Keys")],
)  # fmt: skip
def test_check_and_fleet_say_that_a_queue_refuses_writes(
    queue: redis.Redis, bare: Path, command: bytes, reply: bytes
) -> None:
    proxy = Refusing(bare / "queue.sock")
    proxy.rule = lambda words: reply if words[0] == command else None
    settings = load_settings(home=bare, redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    found = look_at_queue(System(settings, 5.0))
    told = hint(settings) or ""
    proxy.close()
    assert f"the queue refuses writes: {reply.decode()}" in told
    assert found.state == "fail"
    assert "refuses writes" in found.words
    assert not queue.keys("corro.check*")


def test_a_queue_without_memory_is_told_at_once_while_no_worker_has_met_it(
    settings: Settings, queue: redis.Redis, corro: Run
) -> None:
    """A worker that has nothing to do only waits, and waiting is not refused."""
    assert hint(settings) is None
    queue.config_set("maxmemory", "1")
    try:
        assert queue.ping()
        assert "the queue refuses writes: OOM " in corro("fleet")[2]
        status, out, _ = corro("check")
        assert status == 1
        assert "refuses writes" in out
    finally:
        queue.config_set("maxmemory", "0")
    assert hint(settings) is None
