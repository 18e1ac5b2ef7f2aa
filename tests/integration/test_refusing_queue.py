"""Whatever Redis answers is the queue being sick: the worker stops consuming, tells it, and comes back by itself.

A real Celery worker with our transport and consumer, in this process, behind a port that answers some commands with an
error of Redis's. That the rest of a worker lives on meanwhile is in tests/chaos/test_sick_queue.py.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.worker import state
from kombu import Connection, Consumer, Queue

from models.queue_url import parse
from models.record.database import Database, upgrade
from models.settings import load_settings
from producers.bell import envelope
from tests.kit import eventually
from tests.proxies import Refusing
from worker.messaging import queue_health
from worker.messaging.dead_letters import SET_ASIDE
from worker.messaging.embedded_queue import server_binary
from worker.messaging.queue_health import health
from worker.messaging.queue_look import QueueLooker
from worker.messaging.transport import SCHEME, install
from worker.notify.notifier import Notifier

#: As Redis 7 and Valkey 9 say it.
REPLIES = {
    "readonly": b"READONLY You can't write against a read only replica.",
    "unblocked": b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "oom": b"OOM command not allowed when used memory > 'maxmemory'.",
    "noperm": b"NOPERM User worker has no permissions to access one of the keys used as arguments",
    "misconf": b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "crossslot": b"CROSSSLOT Keys in request don't hash to the same slot",
    "loading": b"LOADING Redis is loading the dataset in memory",
    "busy": b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "masterdown": b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "clusterdown": b"CLUSTERDOWN The cluster is down",
    "moved": b"MOVED 3999 127.0.0.1:6381",
    "noauth": b"NOAUTH Authentication required.",
    "noreplicas": b"NOREPLICAS Not enough good replicas to write.",
    "wrongtype": b"WRONGTYPE Operation against a key holding the wrong kind of value",
    "unknown": b"ERR something that nobody has seen before",
    "no error at all": b"+OK",
}
#: Place -> the commands by which kombu goes there.
PLACES: dict[str, tuple[bytes, ...]] = {
    "start": (b"HELLO", b"SADD"),
    "brpop": (b"BRPOP",),
    "note as taken": (b"ZADD",),
    "acknowledge": (b"ZREM",),
}
#: Where it is tried again as long as the queue says no; a message is noted and acknowledged once.
AGAIN = ("start", "brpop")


def _server(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(server_binary()), *arguments, "--dir", str(folder), "--save", "", "--logfile", str(folder / "log")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@dataclass
class Consuming:
    """A worker in this process, and what it has done."""

    proxy: Refusing
    queue: redis.Redis
    worker: Any
    thread: threading.Thread
    done: list[Any] = field(default_factory=lambda: DONE)
    _sent: int = 0

    def send(self) -> str:
        self._sent += 1
        name = f"o-{self._sent}-{id(self)}"
        self.queue.lpush(
            "orders.ibkr", envelope("orders.submit", "orders.ibkr", {"orders": [{"client_order_id": name}]})
        )
        return name

    def is_well(self) -> bool:
        return not health.trouble


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The unix socket of a server that refuses nothing."""
    folder = tmp_path_factory.mktemp("q")
    path = folder / "s"
    server = _server(folder, "--port", "0", "--unixsocket", str(path))
    with redis.Redis(unix_socket_path=str(path)) as queue:
        eventually(lambda: path.exists() and queue.ping())
    yield path
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def consuming(real: Path) -> Iterator[Consuming]:
    patience = pytest.MonkeyPatch()
    patience.setattr(queue_health, "FIRST_S", 0.2)
    patience.setattr(queue_health, "LONGEST_S", 0.2)
    health.answered()
    proxy = Refusing(real)
    with redis.Redis(unix_socket_path=str(real)) as queue:
        made = Consuming(proxy, queue, *_worker(f"redis://127.0.0.1:{proxy.port}/0"))
        made.thread.start()
        try:
            yield made
        finally:
            proxy.rule = lambda _: None
            state.should_stop = 0
            made.thread.join(10)
            state.should_stop = None
            proxy.close()
            patience.undo()


#: What has been executed.
DONE: list[Any] = []


def submit(orders: Any) -> None:
    DONE.append(orders)


def _worker(url: str) -> tuple[Any, threading.Thread]:
    install()
    app = Celery("refusing", set_as_current=False)
    app.conf.update(
        broker_url=f"{SCHEME}://queue",
        broker_transport_options={"address": parse(url), "master": "mymaster", "visibility_timeout": 60},
        worker_consumer="worker.messaging.consuming:QueueConsumer",
        task_queues=[Queue("orders.ibkr", routing_key="orders.ibkr")],
        task_create_missing_queues=False,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        task_ignore_result=True,
    )

    app.task(name="orders.submit", shared=False)(submit)
    app.set_default()  # pool threads know tasks by the default app
    worker = app.WorkController(
        pool="threads", concurrency=2, without_gossip=True, without_mingle=True, without_heartbeat=True, quiet=True
    )
    return worker, threading.Thread(target=worker.start, daemon=True)


def refuse(proxy: Refusing, commands: tuple[bytes, ...], reply: bytes) -> None:
    proxy.rule = lambda words: reply if words[0] in commands else None


def ids(consuming: Consuming) -> set[Any]:
    return ids_of(consuming.done)


@pytest.mark.parametrize("place", AGAIN)
def test_whatever_the_queue_answers_the_worker_tells_it_and_tries_again(consuming: Consuming, place: str) -> None:
    eventually(consuming.is_well)
    sent = consuming.send()
    eventually(lambda: sent in ids(consuming))
    for reply in REPLIES.values():
        before = consuming.proxy.refused
        refuse(consuming.proxy, PLACES[place], reply)
        if place == "start":
            consuming.queue.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda before=before: consuming.proxy.refused > before, what=reply)  # type: ignore[misc]
        if not reply.startswith((b"WRONGTYPE", b"+")):  # the first is mended on the spot, the second is no error
            words = reply.decode().partition(" ")[2]  # redis-py makes a class of the first word
            eventually(lambda words=words: words in health.trouble, what=lambda: health.trouble)  # type: ignore[misc]
        assert consuming.thread.is_alive(), reply
    again = consuming.send()
    consuming.proxy.rule = lambda _: None
    eventually(lambda: again in ids(consuming), what="the worker to consume again")
    eventually(consuming.is_well)


def test_a_message_that_the_queue_will_not_note_is_worked_on_all_the_same(consuming: Consuming) -> None:
    """BRPOP has taken it: a message that brings an order without a row is the only copy."""
    for reply in REPLIES.values():
        before = consuming.proxy.refused
        refuse(consuming.proxy, PLACES["note as taken"], reply)
        sent = consuming.send()
        eventually(lambda before=before: consuming.proxy.refused > before, what=reply)  # type: ignore[misc]
        eventually(lambda sent=sent: sent in ids(consuming), what=reply)  # type: ignore[misc]
        assert consuming.thread.is_alive(), reply
        consuming.proxy.rule = lambda _: None
    after = consuming.send()
    eventually(lambda: after in ids(consuming))
    assert consuming.queue.llen("orders.ibkr") == 0


def test_an_acknowledgement_that_the_queue_refuses_stops_nothing_but_consuming(consuming: Consuming) -> None:
    for reply in REPLIES.values():
        before = consuming.proxy.refused
        refuse(consuming.proxy, PLACES["acknowledge"], reply)
        sent = consuming.send()
        eventually(lambda before=before: consuming.proxy.refused > before, what=reply)  # type: ignore[misc]
        eventually(lambda sent=sent: sent in ids(consuming), what=reply)  # type: ignore[misc]
        assert consuming.thread.is_alive(), reply
        consuming.proxy.rule = lambda _: None
    after = consuming.send()
    eventually(lambda: after in ids(consuming))


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [([], {"orders": 5}), ([[{"client_order_id": "by-position"}]], {}), ([], {"orders": [{"symbol": "KO"}]})],
)
def test_a_mark_that_does_not_fit_costs_no_message(consuming: Consuming, args: Any, kwargs: Any) -> None:
    """60 at once are taken along in one script; each comes to a task, or is set aside."""
    eventually(consuming.is_well)
    before, kept = len(consuming.done), consuming.queue.llen(SET_ASIDE)
    made = json.loads(envelope("orders.submit", "orders.ibkr", {"orders": [{"client_order_id": "real"}]}, ring=True))
    items = [json.dumps(made, separators=(",", ":")).encode()]
    made["body"] = json.dumps([args, kwargs, {}])
    pipe = consuming.queue.pipeline()
    for item in (*items, *[json.dumps(made, separators=(",", ":")).encode()] * 60, *items):
        pipe.lpush("orders.ibkr", item)
    pipe.execute()
    eventually(lambda: len(consuming.done) - before + consuming.queue.llen(SET_ASIDE) - kept >= 61, 20)
    assert consuming.thread.is_alive()
    assert "real" in ids_of(consuming.done[before:])


def ids_of(done: list[Any]) -> set[Any]:
    lists = [orders for orders in done if isinstance(orders, list)]
    return {order.get("client_order_id") for orders in lists for order in orders}


@pytest.mark.parametrize("note", [b"[" * 200_000, b"null", b"7", b"[1,2,3]", b'[{"headers": []}, "", "orders.ibkr"]'])
def test_a_note_that_cannot_be_read_stops_no_redelivery(consuming: Consuming, note: bytes) -> None:
    eventually(consuming.is_well)
    consuming.queue.delete("unacked", "unacked_index")  # of the rounds before
    consuming.queue.hset("unacked", "theirs", note)
    consuming.queue.zadd("unacked_index", {"theirs": 1.0})
    good = envelope("orders.submit", "orders.ibkr", {"orders": [{"client_order_id": "redelivered"}]})
    consuming.queue.hset("unacked", "lost", b"[" + good + b', "", "orders.ibkr"]')
    consuming.queue.zadd("unacked_index", {"lost": 0.5})
    seen = len(consuming.done)
    consuming.queue.client_kill_filter(_type="normal", skipme=True)  # a worker that connects looks at once
    eventually(lambda: "redelivered" in ids_of(consuming.done[seen:]), 15)
    eventually(lambda: consuming.queue.hlen("unacked") == 0, 15)


# -- EVERY SCHEME ---
@contextmanager
def _sentinel(folder: Path, master: int) -> Iterator[str]:
    """A sentinel that names this port as the master."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "sentinel.conf"
    config.write_text(f"sentinel monitor mymaster 127.0.0.1 {master} 1\n")
    command = [str(server_binary()), str(config), "--sentinel", "--port", str(port), "--bind", "127.0.0.1"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        with redis.Redis(port=port) as sentinel:

            def knows() -> bool:
                with suppress(redis.ConnectionError):
                    return bool(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"))
                return False

            eventually(knows)
        yield f"sentinel://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("scheme", ["redis", "redis+socket", "unix", "sentinel"])
def test_every_scheme_is_guarded_and_every_reply_is_the_queue_being_sick(
    real: Path, tmp_path: Path, scheme: str
) -> None:
    """kombu alone, as a worker uses it: a message without content-type would end the worker."""
    install()
    with ExitStack() as stack:
        proxy = Refusing(real, tmp_path / "p" if scheme in ("redis+socket", "unix") else None)
        stack.callback(proxy.close)
        url = f"{scheme}://{tmp_path / 'p'}" if proxy.port == 0 else f"redis://127.0.0.1:{proxy.port}/0"
        if scheme == "sentinel":
            url = stack.enter_context(_sentinel(tmp_path, proxy.port))
        options = {"address": parse(url), "master": "mymaster"}
        connection = stack.enter_context(Connection(f"{SCHEME}://queue", transport_options=options))
        queue = stack.enter_context(redis.Redis(unix_socket_path=str(real)))
        kept, name = queue.llen(SET_ASIDE), f"orders.{scheme}"
        taken: list[Any] = []
        stack.enter_context(Consumer(connection, [Queue(name)], accept=["json"], on_message=taken.append))
        poison = envelope("orders.submit", name, {"orders": []}).replace(b"content-type", b"content-tipe")
        queue.lpush(name, poison, b"no JSON", b"[" * 200_000, envelope("orders.submit", name, {"orders": []}))

        def drained() -> list[Any]:
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.2)
            return taken

        eventually(drained)
        assert queue.llen(SET_ASIDE) == kept + 3
        taken[0].ack()
        for reply in REPLIES.values():
            refuse(proxy, (b"BRPOP",), reply)
            if not reply.startswith((b"WRONGTYPE", b"+")):
                error = _error_of(drained)
                assert isinstance(error, connection.connection_errors)
                assert isinstance(error, redis.RedisError)


def _error_of(call: Callable[[], object]) -> Exception | None:
    try:
        for _ in range(20):
            call()
    except Exception as error:
        return error
    return None


# -- WHAT AN OPERATOR IS TOLD ---
@pytest.mark.parametrize("name", ["readonly", "oom", "misconf", "noreplicas", "noperm"])
def test_a_queue_that_refuses_writes_is_told_by_the_page_and_to_people(real: Path, tmp_path: Path, name: str) -> None:
    """It answers PING and every question, so only a write shows it."""
    proxy = Refusing(real)
    settings = load_settings(home=tmp_path, redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    database = Database(f"sqlite:///{tmp_path / 'corro.db'}")
    upgrade(database)
    people = Notifier(settings, database, "leader", threading.Event())
    looker = QueueLooker(settings)
    try:
        assert (looker.look().up, looker.look().words) == (True, "")
        refuse(proxy, (b"LPUSH",), REPLIES[name])
        look, told = looker.look(), people._ask_queue()
        said = "the queue refuses writes: "
        assert isinstance(told, str)
        assert told.startswith(said)
        # that this user may not write says nothing of the others: the page may have an account that only reads
        assert (look.up, look.words.startswith(said)) == ((True, False) if name == "noperm" else (False, True))
        assert ".;" not in look.words
        proxy.rule = lambda _: None
        assert looker.look().up
    finally:
        database.close()
        proxy.close()
