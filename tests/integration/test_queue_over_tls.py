"""`rediss://` against a real TLS server: a strategy and a worker take and refuse the same certificates, by one reading.

The server is Valkey behind a port that speaks TLS; the worker's side is kombu with our transport, as a worker has it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Queue

from models.settings import Settings, load_settings
from producers.bell import Bell, connect, envelope
from tests.kit import eventually
from tests.tls import CA, CLIENT, CLIENT_KEY, OTHER_CA, TlsFront
from worker.messaging.embedded_queue import server_binary
from worker.messaging.transport import SCHEME, install

NAME = "orders.ibkr"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The unix socket of a server."""
    folder = tmp_path_factory.mktemp("q")
    path = folder / "s"
    process = subprocess.Popen(
        [str(server_binary()), "--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with redis.Redis(unix_socket_path=str(path)) as queue:
        eventually(lambda: path.exists() and queue.ping())
    yield path
    process.kill()
    process.wait()


@pytest.fixture
def front(server: Path) -> Iterator[TlsFront]:
    made = TlsFront(server)
    yield made
    made.close()


def as_strategy(settings: Settings) -> list[Any]:
    """Ask, and ring once, as a strategy does."""
    with connect(settings, connect_s=2.0, answer_s=2.0) as client:
        client.ping()
    bell = Bell(settings)
    assert bell.ring([("orders.submit", NAME, {"orders": []})])
    bell.close()
    with connect(settings, connect_s=2.0, answer_s=2.0) as client:
        return list(client.lrange(NAME, 0, -1))  # type: ignore[arg-type]


def as_worker(settings: Settings) -> list[Any]:
    """Take one message, as a worker does."""
    install()
    options = {"address": settings.queue_address, "master": settings.redis_master}
    taken: list[Any] = []
    with Connection(f"{SCHEME}://queue", transport_options=options) as connection:
        connection.connect()
        connection.default_channel.client.lpush(NAME, envelope("orders.submit", NAME, {"orders": []}))
        with Consumer(connection, [Queue(NAME)], accept=["json"], on_message=taken.append):

            def drained() -> list[Any]:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.2)
                return taken

            eventually(drained)
            taken[0].ack()
    return taken


SIDES: dict[str, Callable[[Settings], list[Any]]] = {"strategy": as_strategy, "worker": as_worker}
_SIDE = pytest.mark.parametrize("side", SIDES)


def settings_of(port: int, bare: Path, query: str = "", host: str = "127.0.0.1") -> Settings:
    return load_settings(home=bare, redis_url=f"rediss://{host}:{port}/0{query}")


def refusal(side: str, settings: Settings) -> str:
    with pytest.raises(redis.ConnectionError) as said:
        SIDES[side](settings)
    return str(said.value)


@_SIDE
def test_a_certificate_of_an_authority_that_is_named_is_taken(side: str, front: TlsFront, bare: Path) -> None:
    for host in ("127.0.0.1", "localhost"):
        assert SIDES[side](settings_of(front.port, bare, f"?ssl_ca_certs={CA}", host))
    assert front.heard


@_SIDE
@pytest.mark.parametrize("query", ["", f"?ssl_ca_certs={OTHER_CA}"], ids=["the system's", "another"])
def test_a_certificate_of_another_authority_is_refused_before_a_word_is_said(
    side: str, query: str, front: TlsFront, bare: Path
) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in refusal(side, settings_of(front.port, bare, query))
    assert front.heard == 0


def test_a_strategy_and_a_worker_refuse_in_the_same_words(front: TlsFront, bare: Path) -> None:
    for query in ("", f"?ssl_ca_certs={OTHER_CA}"):
        settings = settings_of(front.port, bare, query)
        assert refusal("strategy", settings) == refusal("worker", settings)


@_SIDE
def test_no_certificate_is_asked_for_where_that_is_said(side: str, front: TlsFront, bare: Path) -> None:
    assert SIDES[side](settings_of(front.port, bare, "?ssl_cert_reqs=CERT_NONE"))


def test_a_server_that_asks_who_we_are_is_told_by_both_and_lets_in_nobody_else(server: Path, bare: Path) -> None:
    asking = TlsFront(server, asks_for_a_certificate=True)
    ours = f"?ssl_ca_certs={CA}&ssl_certfile={CLIENT}&ssl_keyfile={CLIENT_KEY}"
    for side in SIDES:
        assert SIDES[side](settings_of(asking.port, bare, ours))
    heard = asking.heard
    for side in SIDES:
        refusal(side, settings_of(asking.port, bare, f"?ssl_ca_certs={CA}"))
    assert asking.heard == heard
    asking.close()


def test_without_tls_neither_reaches_a_server_that_wants_it(server: Path, bare: Path) -> None:
    front = TlsFront(server)
    plain = load_settings(home=bare, redis_url=f"redis://127.0.0.1:{front.port}/0")
    for side in SIDES:
        refusal(side, plain)
    assert front.heard == 0
    front.close()
