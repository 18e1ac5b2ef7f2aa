"""The bell: what Celery reads is what we wrote, and a sick queue never holds a strategy up."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.worker.request import Request
from kombu import Connection

from models.errors import ConfigurationError
from models.messages import OrderRequest
from models.settings import Settings, load_settings
from producers import bell
from producers.bell import Bell, connect, envelope
from worker.transport import fault

ORDER = OrderRequest(symbol="AAPL", side="buy", quantity="1.5", tags={"note": "é, \u4e2d, 😀"})
RING = ("orders.submit", "orders.ibkr", {"orders": [ORDER.to_wire()]})


# -- THE ENVELOPE ---
def test_the_guard_lets_it_through() -> None:
    assert fault(envelope(*RING)) is None


def test_it_has_every_field_a_worker_cannot_do_without() -> None:
    """Without content-type a worker exits, without headers.id it reconnects for ever (QUEUE.md A1)."""
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
    time.sleep(0.06)
    assert not ringer.ring([RING])
    ringer.close()
    assert listener.accepted > before


def test_nothing_to_ring_needs_no_queue(bare: Path) -> None:
    ringer = Bell(url_settings(bare, "redis://127.0.0.1:1/0"))
    assert ringer.ring([])
    ringer.close()


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


@pytest.mark.parametrize("url", ["amqp://h", "http://h", "h:6379"])
def test_an_unknown_scheme_is_named(bare: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"redis_url .*redis, rediss"):
        connect(url_settings(bare, url), connect_s=0.3, answer_s=0.5)
