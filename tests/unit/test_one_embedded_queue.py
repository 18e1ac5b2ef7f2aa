"""One home has one server, whatever that server answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from models.settings import load_settings
from tests.proxies import Refusing
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.pacing.shared import LONGEST_WORD_S, read_word


@pytest.mark.parametrize(
    "reply", [b"MISCONF Redis is configured to save RDB snapshots", b"NOAUTH Authentication required.", b"ERR odd",
              b"LOADING Redis is loading the dataset in memory", b"+OK"]
)  # fmt: skip
def test_a_server_that_says_no_gets_no_second_one_beside_it(bare: Path, tmp_path: Path, reply: bytes) -> None:
    real = EmbeddedQueue(load_settings(home=tmp_path / "real"))
    with real, redis.Redis(unix_socket_path=str(real.socket)) as queue:
        queue.ping()
        ours = EmbeddedQueue(load_settings(home=bare))
        proxy = Refusing(real.socket, ours.socket)
        proxy.rule = lambda words: reply if words[0] in (b"PING", b"HELLO") else None
        started = ours.home / "queue.pid"
        with capture_logs() as lines:
            ours.acquire()
            for _ in range(5):  # `corro up` looks twice a second
                ours.revive()
        assert [line["event"] for line in lines].count("queue_silent") <= 1
        assert not started.exists(), "a second server has been started on the same files"
        proxy.rule = lambda words: b"ERR not this one" if words[0] == b"SHUTDOWN" else None
        ours.release()
        proxy.close()
        assert queue.ping()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5 61000", (0.5, 60.0)), ("0.0 99999999999999", (0.0, LONGEST_WORD_S)), ("garbage", None), ("", None),
        ("0.5", None), ("1 2 3", None), ("nan 5000", None), ("0.5 nan", None), ("inf 5000", None), ("0.5 inf", None),
        ("-1 5000", None), ("0.5 1e999", None), ("0.5 500", (0.5, -0.5)), ("[" * 200_000, None),
        ("\ufffd \ufffd", None),
    ],
)  # fmt: skip
def test_what_stands_as_a_brokers_word_is_bounded_or_none(text: str, expected: tuple[float, float] | None) -> None:
    """Anybody can write to Redis: a word for three thousand years would stop every order of the account."""
    assert read_word(text, 1000.0) == expected
