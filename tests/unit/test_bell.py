"""The bell: what Celery reads is what we wrote, and a sick queue never holds a strategy up."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.worker.request import Request
from kombu import Connection

from models.messages import OrderRequest
from models.settings import Settings, load_settings
from producers import bell
from producers.bell import Bell, connect, envelope
from tests.kit import eventually
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.messaging.guard import fault

ORDER = OrderRequest(symbol="AAPL", side="buy", quantity="1.5", tags={"note": "é, \u4e2d, 😀"})
RING = ("orders.submit", "orders.ibkr", {"orders": [ORDER.to_wire()]})


# -- THE ENVELOPE ---
def test_the_guard_lets_it_through() -> None:
    assert fault(envelope(*RING)) is None


def test_it_has_every_field_a_worker_cannot_do_without() -> None:
    """Without content-type a worker exits, without headers.id it reconnects for ever (docs/facts/celery.md#1.1)."""
    message = json.loads(envelope(*RING))
    assert message["content-type"] == "application/json"
    assert message["content-encoding"] == "utf-8"
    assert message["headers"]["task"] == "orders.submit"
    assert message["headers"]["id"] == message["properties"]["correlation_id"]
    assert message["properties"]["delivery_info"]["routing_key"] == "orders.ibkr"
    assert message["properties"]["delivery_tag"]
    assert "reply_to" not in message["properties"]


def test_no_two_messages_share_an_id_or_a_tag() -> None:
    made = [json.loads(envelope(*RING)) for _ in range(50)]
    assert len({m["headers"]["id"] for m in made}) == 50
    assert len({m["properties"]["delivery_tag"] for m in made}) == 50


def test_neither_headers_nor_repr_show_the_orders() -> None:
    headers = json.dumps(json.loads(envelope(*RING))["headers"])
    assert "AAPL" not in headers


def test_kombu_and_celery_read_it_as_a_task() -> None:
    app = Celery("test", set_as_current=False)
    app.conf.update(accept_content=["json"], task_ignore_result=True)

    @app.task(name="orders.submit", shared=False)
    def submit(orders: object) -> None: ...

    app.finalize()
    with Connection("memory://") as connection, connection.channel() as channel:
        raw = json.loads(envelope(*RING))
        message = channel.Message(raw, channel=channel)
        args, kwargs, embed = message.decode()
        assert (args, embed) == ([], {})
        assert OrderRequest(**kwargs["orders"][0]) == ORDER
        request = Request(message, app=app, task=app.tasks["orders.submit"])
        assert request.name == "orders.submit"
        assert request.id == raw["headers"]["id"]
        assert request.kwargs == {"orders": [ORDER.to_wire()]}
        assert request.ignore_result


# -- A SICK QUEUE ---
class Listener:
    """A plain socket server that answers every connection with `reply`, or never."""

    def __init__(self, reply: bytes = b"") -> None:
        self.reply, self.accepted = reply, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.held: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            self.accepted += 1
            self.held.append(client)
            if self.reply:
                client.sendall(self.reply)

    def close(self) -> None:
        self.server.close()
        for client in self.held:
            client.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    opened = Listener()
    yield opened
    opened.close()


def url_settings(bare: Path, url: str) -> Settings:
    return load_settings(home=bare, redis_url=url)


def timed(ringer: Bell) -> tuple[bool, float]:
    start = time.monotonic()
    return ringer.ring([RING]), time.monotonic() - start


def test_no_socket_at_all_costs_nothing(bare: Path) -> None:
    ringer = Bell(url_settings(bare, ""))
    took, seconds = timed(ringer)
    ringer.close()
    assert not took
    assert seconds < 1


def test_a_refused_connection_costs_no_second(bare: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ringer = Bell(url_settings(bare, f"redis://127.0.0.1:{port}/0"))
    took, seconds = timed(ringer)
    ringer.close()
    assert not took
    assert seconds < 1


def test_a_queue_that_never_answers_costs_less_than_a_second(bare: Path, listener: Listener) -> None:
    ringer = Bell(url_settings(bare, f"redis://127.0.0.1:{listener.port}/0"))
    took, seconds = timed(ringer)
    ringer.close()
    assert not took
    assert seconds < 1


def test_a_frozen_unix_socket_costs_less_than_a_second(bare: Path) -> None:
    path = bare / "q.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        ringer = Bell(url_settings(bare, f"redis+socket://{path}"))
        took, seconds = timed(ringer)
        ringer.close()
    assert not took
    assert seconds < 1


def test_a_connection_that_is_never_accepted_costs_less_than_a_second(bare: Path) -> None:
    """A stopped Redis: the kernel takes the connection, or not even that once the backlog is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        full = []
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(server.getsockname())
            full.append(one)
        ringer = Bell(url_settings(bare, f"redis://127.0.0.1:{server.getsockname()[1]}/0"))
        took, seconds = timed(ringer)
        ringer.close()
        for one in full:
            one.close()
    assert not took
    assert seconds < 1


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-LOADING busy\r\n" * 9, b"\x00\xff\r\n"])
def test_a_server_that_is_no_redis_is_just_silence(bare: Path, reply: bytes) -> None:
    server = Listener(reply)
    ringer = Bell(url_settings(bare, f"redis://127.0.0.1:{server.port}/0"))
    took, seconds = timed(ringer)
    ringer.close()
    server.close()
    assert not took
    assert seconds < 1


def test_after_a_failure_the_bell_is_silent_for_a_moment(bare: Path, listener: Listener) -> None:
    """A thousand submits against a frozen Redis must not pay a thousand timeouts."""
    ringer = Bell(url_settings(bare, f"redis://127.0.0.1:{listener.port}/0"))
    assert not ringer.ring([RING])
    before, start = listener.accepted, time.monotonic()
    assert [ringer.ring([RING]) for _ in range(20)] == [False] * 20
    assert time.monotonic() - start < 0.2
    assert listener.accepted == before
    ringer.close()


def test_after_the_moment_it_tries_again(bare: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "SILENCE_S", 0.05)
    ringer = Bell(url_settings(bare, f"redis://127.0.0.1:{listener.port}/0"))
    assert not ringer.ring([RING])
    before = listener.accepted
    eventually(lambda: not ringer.ring([RING]) and listener.accepted > before)
    ringer.close()


def test_nothing_to_ring_needs_no_queue(bare: Path) -> None:
    ringer = Bell(url_settings(bare, "redis://127.0.0.1:1/0"))
    assert ringer.ring([])
    ringer.close()


# -- THE ANSWERS NOBODY WAITS FOR ---
@pytest.fixture
def queue(bare: Path) -> Iterator[redis.Redis]:
    with EmbeddedQueue(load_settings(home=bare)) as embedded, redis.Redis(unix_socket_path=str(embedded.socket)) as own:
        yield own


@pytest.fixture
def ringer(bare: Path, queue: redis.Redis) -> Iterator[Bell]:
    made = Bell(load_settings(home=bare))
    yield made
    made.close()


def test_every_ring_arrives_in_its_order(ringer: Bell, queue: redis.Redis) -> None:
    for n in range(50):
        assert ringer.ring([("orders.cancel", "control.ibkr", {"client_order_ids": [f"o-{n}", f"p-{n}"]})] * 2)
    ringer.close()  # waits for what is under way
    bodies = [
        json.loads(json.loads(item)["body"])[1]["client_order_ids"][0] for item in queue.lrange("control.ibkr", 0, -1)
    ]
    assert bodies[::-1] == [f"o-{n}" for n in range(50) for _ in range(2)]


def test_a_queue_that_says_no_is_noticed_at_the_next_ring(ringer: Bell, queue: redis.Redis) -> None:
    queue.set("orders.ibkr", "not a list")
    assert ringer.ring([RING])
    eventually(lambda: not ringer.ring([RING]), what="the refusal to be read")
    queue.delete("orders.ibkr")
    eventually(lambda: ringer.ring([RING]), what="the bell to ring again")


def test_a_frozen_queue_is_noticed_and_costs_nothing(ringer: Bell, queue: redis.Redis, bare: Path) -> None:
    assert ringer.ring([RING])
    pid = int(queue.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        eventually(lambda: not ringer.ring([RING]), timeout=3, what="the owed answer to be missed")
        assert 0.3 < time.monotonic() - began < 2
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: ringer.ring([RING]), what="the bell to ring again")


def test_an_answer_that_nobody_asked_for_is_no_error_of_a_submit(ringer: Bell, queue: redis.Redis) -> None:
    assert ringer.ring([RING])
    eventually(lambda: queue.llen("orders.ibkr") == 1 and ringer._line.can_read(0))
    ringer._owed.clear()
    assert ringer.ring([RING])
    ringer.close()
    assert queue.llen("orders.ibkr") == 2


def test_a_queue_that_was_restarted_is_rung_at_once(ringer: Bell, queue: redis.Redis, bare: Path) -> None:
    assert ringer.ring([RING])
    queue.shutdown(nosave=True)
    with EmbeddedQueue(load_settings(home=bare)):
        eventually(queue.ping)
        before = queue.llen("orders.ibkr")
        assert ringer.ring([RING]), "a line that went away meanwhile is opened again"
        ringer.close()
        assert queue.llen("orders.ibkr") == before + 1


# -- URLS ---
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1234/5", {"host": "h", "port": 1234, "db": 5}),
        ("redis://:pw@h:1234/0", {"host": "h", "password": "pw"}),
        ("rediss://h:1234/0", {"host": "h", "port": 1234}),
        ("redis+socket:///tmp/q.sock", {"path": "/tmp/q.sock", "db": 0}),
        ("redis+socket:///tmp/q.sock?virtual_host=3", {"path": "/tmp/q.sock", "db": 3}),
        ("unix:///tmp/q.sock?db=2", {"path": "/tmp/q.sock", "db": 2}),
    ],
)
def test_every_kind_of_url_leads_to_its_server(bare: Path, url: str, expected: dict[str, Any]) -> None:
    client = connect(url_settings(bare, url), connect_s=0.3, answer_s=0.5)
    found = client.connection_pool.connection_kwargs
    client.close()
    assert {key: found.get(key) for key in expected} == expected
    assert found["socket_timeout"] == 0.5
    assert found.get("socket_connect_timeout", 0.3) == 0.3  # a unix socket connects at once, or not at all
    assert found["retry"].get_retries() == 0


# -- WHATEVER A SERVER ANSWERS ---
@pytest.mark.parametrize(
    "reply",
    [b"+OK\r\n" * 20, b":1\r\n" * 20, b"*0\r\n" * 20, b"$-1\r\n" * 20, b"%1\r\n+a\r\n+b\r\n", b"*-1\r\n", b"_\r\n" * 9,
     b"$99999999999999999999\r\n", b"-\r\n", b"-NOAUTH\r\n" * 9, b"*3\r\n:1\r\n", b"+PONG\r\n\x00\xff"],
)  # fmt: skip
def test_a_ring_never_raises_whatever_the_server_says(bare: Path, reply: bytes) -> None:
    """What it rings for is committed: an error here would tell a strategy that nothing happened."""
    server = Listener(reply)
    ringer = Bell(url_settings(bare, f"redis://127.0.0.1:{server.port}/0"))
    for _ in range(3):
        assert ringer.ring([RING]) in (True, False)
        ringer._silent_until = 0.0
    ringer.close()
    server.close()


def test_a_ring_that_cannot_be_written_raises_nothing_either(bare: Path) -> None:
    ringer = Bell(url_settings(bare, "redis://127.0.0.1:1/0"))
    assert not ringer.ring([("orders.submit", "orders.ibkr", {"orders": [{"odd": object()}]})])
    ringer.close()
