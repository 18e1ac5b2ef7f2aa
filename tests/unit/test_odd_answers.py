"""Whatever a queue answers to those who ask it something: it is no answer, and nobody who asks dies of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import select

from models.errors import CorroError
from models.record.database import Database
from models.record.notice_tables import notifications
from models.settings import Settings, load_settings
from tests.unit.test_bell import Listener
from worker.fleet import one_fleet
from worker.messaging.dead_letters import COUNTS, SET_ASIDE, DeadLetters
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.messaging.queue_look import QueueLooker
from worker.notify.notifier import Notifier
from worker.notify.outage import Outage
from worker.orders.early_cancels import EarlyCancels

REPLIES = [
    b"+OK\r\n" * 20, b":1\r\n" * 20, b"*0\r\n" * 20, b"$-1\r\n" * 20, b"%1\r\n+a\r\n+b\r\n", b"_\r\n" * 9,
    b"-READONLY no\r\n" * 9, b"-NOPERM no\r\n" * 9, b"-OOM no\r\n" * 9, b"*1\r\n*1\r\n+x\r\n" * 9,
    b"HTTP/1.1 400\r\n\r\n",
]  # fmt: skip


@pytest.fixture
def queue(bare: Path) -> Iterator[redis.Redis]:
    with EmbeddedQueue(load_settings(home=bare)) as embedded, redis.Redis(unix_socket_path=str(embedded.socket)) as own:
        yield own


@pytest.fixture(params=REPLIES, ids=lambda reply: repr(reply[:12]))
def odd(request: pytest.FixtureRequest, bare: Path) -> Iterator[Settings]:
    server = Listener(request.param)
    yield load_settings(home=bare, redis_url=f"redis://127.0.0.1:{server.port}/0")
    server.close()


def test_whatever_a_queue_answers_alarms_scrapes_and_cancels_go_on(odd: Settings, database: Database) -> None:
    assert not QueueLooker(odd).look().up
    outage, now = Outage(odd, "me"), datetime.now(UTC)
    for at in (now, now + timedelta(hours=1)):
        outage.lasts(OSError("away"), at)
    outage.over(now + timedelta(hours=2))
    told = Notifier(odd, database, "me", threading.Event())
    assert isinstance(told._ask_queue(), str)
    told.look()
    assert one_fleet._in_queue(odd, "ours") == "ours"
    letters, early = DeadLetters.of(odd, 0.2), EarlyCancels(odd)
    for ask in (letters.kept, letters.counts, letters.size, lambda: letters.one("x"), lambda: letters.drop(None)):
        with suppress(CorroError):  # and nothing else
            ask()
    for cancel in (early.of, early.remember, early.forget):
        with suppress(CorroError):  # and nothing else
            cancel(["o-1"])


def test_whatever_stands_where_messages_are_set_aside_is_told_and_stops_no_alarm(
    bare: Path, queue: redis.Redis, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRO_NOTIFY__URLS", "json://127.0.0.1:1/nobody")
    settings = load_settings(home=bare)
    queue.hset(COUNTS, mapping={"odd": b"9" * 5000, "more": b"99999999999999999999", "\xff": "x", "one": "3"})
    queue.lpush(SET_ASIDE, b"\xff", b"[" * 100_000, json.dumps({"id": "\0" + "x" * 5000, "reason": ["\ud800"]}))
    assert QueueLooker(settings).look().total == {"one": 3}
    told = Notifier(settings, database, "me", threading.Event())
    told.look()
    queue.hset(COUNTS, "one", 6)
    told.look()
    with database.read() as connection:
        bodies = list(
            connection.execute(select(notifications.c.body).where(notifications.c.kind == "dead_letter")).scalars()
        )
    assert len(bodies) == 1
    assert "xxx" in bodies[0]


def test_a_mark_that_somebody_else_has_made_costs_no_order(settings: Settings, queue: redis.Redis) -> None:
    queue.set("corro.early_cancel:o-1", b"\xff\xfe")
    assert set(EarlyCancels(settings).of(["o-1", "o-2"])) == {"o-1"}
