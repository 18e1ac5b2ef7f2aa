"""The second bell: what a worker has committed is heard at once where the queue is well, and found where it is not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from models.messages import OrderRequest
from models.record.database import Connection
from models.record.told import changed
from models.settings import Settings, load_settings
from models.vocabulary import Status
from producers import OrderClient
from producers.handles import Order
from tests.kit import eventually
from worker.messaging.announcer import Announcer
from worker.messaging.embedded_queue import EmbeddedQueue


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ear")


@pytest.fixture(scope="module")
def queue(home: Path) -> Iterator[EmbeddedQueue]:
    server = EmbeddedQueue(load_settings(home=home))
    server.acquire()
    yield server
    server.release()


@pytest.fixture
def settings(queue: EmbeddedQueue, home: Path) -> Settings:
    return load_settings(home=home)


@pytest.fixture
def client(settings: Settings) -> Iterator[OrderClient]:
    with OrderClient(settings) as opened:
        yield opened


@contextmanager
def announced(settings: Settings, client: OrderClient) -> Iterator[Announcer]:
    """A worker's mouth, on the database of a client."""
    announcer = Announcer(settings, client.database.deployment)
    announcer.start()
    client.database.after_commit = announcer.committed
    yield announcer
    announcer.close()


def order(client: OrderClient) -> str:
    return client.submit(OrderRequest(symbol="KO", side="buy", quantity=1)).client_order_id


def returned_after(client: OrderClient) -> float:
    """Seconds from a commit to the return of a wait for it, when looks have become rare."""
    mine = client.submit(OrderRequest(symbol="KO", side="buy", quantity=1))
    looks: list[float] = []

    def is_over(order: Order) -> bool:
        looks.append(time.monotonic())
        return order.is_terminal

    waiter = threading.Thread(target=lambda: mine.wait(10, until=is_over))
    waiter.start()
    eventually(lambda: len(looks) > 9, 5)  # they are a tenth of a second apart by now
    assert client.cancel(mine.client_order_id).status is Status.CANCELED
    done = time.monotonic()
    waiter.join()
    return looks[-1] - done


def test_a_commit_wakes_who_waits_for_that_order_long_before_the_next_look(
    settings: Settings, client: OrderClient
) -> None:
    with announced(settings, client):
        with client.ear.listening("any"):
            assert client.ear.hears.wait(5)
        assert sorted(returned_after(client) for _ in range(3))[1] < 0.02


def test_who_waits_for_another_order_sleeps_on(settings: Settings, client: OrderClient) -> None:
    with announced(settings, client), client.ear.listening("another") as other, client.ear.listening("mine") as mine:
        assert client.ear.hears.wait(5)
        other.clear()
        mine.clear()
        client.database.after_commit(["mine"])  # type: ignore[misc]
        assert mine.wait(5)
        assert not other.is_set()


def test_every_commit_of_orders_wakes_who_reads_events(settings: Settings, client: OrderClient) -> None:
    with announced(settings, client):
        events = client.events(timeout=5)
        first = next(events)
        mine = order(client)
        assert [first["kind"], next(e for e in events if e["client_order_id"] == mine)["kind"]] == ["queued", "queued"]
        client.cancel(mine)
        kinds = [next(events)["kind"], next(events)["kind"]]
    assert kinds == ["cancel_requested", "canceled"]


def test_a_rolled_back_change_is_not_announced_by_itself(client: OrderClient) -> None:
    told: list[object] = []
    client.database.after_commit = told.append

    def fail(connection: Connection) -> None:
        changed(connection, ["never"])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.database.transact(fail)
    assert told == []


@contextmanager
def refusing() -> Iterator[int]:
    """The port of a server that answers everybody that nothing is allowed."""
    lines: list[socket.socket] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                lines.append(server.accept()[0])
                lines[-1].sendall(b"-NOPERM this user has no permissions\r\n" * 9)

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    for opened in (server, *lines):
        opened.close()


@pytest.mark.parametrize("how", ["dead", "refusing"])
def test_without_the_queue_a_wait_ends_by_looking(bare: Path, how: str) -> None:
    with ExitStack() as stack:
        port = 1 if how == "dead" else stack.enter_context(refusing())
        client = stack.enter_context(OrderClient(load_settings(home=bare, redis_url=f"redis://127.0.0.1:{port}/0")))
        with announced(client.settings, client):
            assert 0 < returned_after(client) < 1
        assert not client.ear.hears.is_set()
