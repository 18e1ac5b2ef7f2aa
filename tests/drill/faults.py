"""The faults of a drill as data: how each is injected, what the page says of it, which alert and message follow."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert

from models.clock import utcnow
from models.notify import NewsKind
from models.record.tables import order_events
from tests.kit import PostgresServer, World
from tests.kit.postgres import SickDatabase

#: So many refusals, or fallbacks, are more than their alerts let pass.
_MANY = 25


@dataclass(frozen=True)
class Scene:
    """A world that trades, and the server of its database."""

    world: World
    postgres: PostgresServer


Strike = Callable[[Scene], AbstractContextManager[None]]


@dataclass(frozen=True)
class Drill:
    """One fault.

    Args:
        name: what happens.
        strike: injects the fault, and heals it at its end.
        shows: a pattern of what the page says.
        alert: of deploy/prometheus/alerts.yml, whose expression has to hold.
        path: the page that says it.
        news: the message that people get; None: none is sent.
        row: what the table in docs/page.md calls it, where that is not the name.
        tables: settings of the world beyond the usual ones.
        on_sqlite: the record is a file; else PostgreSQL keeps it.
        heals: it is over with its cause; else processes have to be started again.
    """

    name: str
    strike: Strike
    shows: str
    alert: str
    path: str = "/fleet"
    news: NewsKind | None = None
    row: str = ""
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    on_sqlite: bool = False
    heals: bool = True


def _door(door: str, kind: str, *, orders: int = 0, route: tuple[str, ...] = (), **aim: Any) -> Strike:
    """Let a door of the sandbox misbehave, and send so many orders to it."""

    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        scene.world.control.add_fault(door, kind, **aim)
        for _ in range(orders):
            scene.world.orders.send("KO", "buy", 1, route=list(route or (door,)))
        yield
        scene.world.control.clear_faults()

    return strike


@contextmanager
def _swallowed(scene: Scene) -> Iterator[None]:
    """IB has taken the request and lists nothing: whether the order exists is a person's to say."""
    scene.world.control.add_fault("ibkr", "hang", count=1, operation="place")
    order = scene.world.orders.send("KO", "buy", 1, route=["ibkr"])
    yield
    said = ("--absent", "--by", "ana", "--reason", "drill")
    assert scene.world.corro("resolve", order.client_order_id, *said).status == 0


@contextmanager
def _killed(scene: Scene) -> Iterator[None]:
    fleet = scene.world.fleet
    fleet.kill(fleet.processes["ibkr"])
    yield
    fleet.start("ibkr")


@contextmanager
def _nobody_sends(scene: Scene) -> Iterator[None]:
    with _killed(scene):
        scene.world.orders.send("KO", "buy", 1, route=["ibkr"])
        yield


@contextmanager
def _hung(scene: Scene) -> Iterator[None]:
    worker = scene.world.fleet.processes["ibkr"]
    scene.world.fleet.suspend(worker)
    yield
    worker.popen.send_signal(signal.SIGCONT)


@contextmanager
def _queue_dead(scene: Scene) -> Iterator[None]:
    scene.world.fleet.kill_queue(wipe=False)
    yield
    scene.world.fleet.start_queue()


@contextmanager
def _queue_frozen(scene: Scene) -> Iterator[None]:
    server = scene.world.fleet.queue_pid()
    os.kill(server, signal.SIGSTOP)
    yield
    os.kill(server, signal.SIGCONT)


@contextmanager
def _queue_refuses(scene: Scene) -> Iterator[None]:
    queue = scene.world.fleet.queue
    queue.execute_command("CLIENT", "NO-EVICT", "ON")
    queue.config_set("maxmemory", "1")
    yield
    queue.config_set("maxmemory", "0")


@contextmanager
def _database_down(scene: Scene) -> Iterator[None]:
    scene.postgres.stop()
    yield
    scene.postgres.start()


@contextmanager
def _file_removed(scene: Scene) -> Iterator[None]:
    file = Path(str(scene.world.database.engine.url.database))
    away = file.with_suffix(".away")
    file.rename(away)
    yield
    away.rename(file)


@contextmanager
def _reads_only(scene: Scene) -> Iterator[None]:
    server = SickDatabase(scene.world.settings.database)
    with server.read_only():
        yield
    server.close()


@contextmanager
def _disk_full(scene: Scene) -> Iterator[None]:
    server = SickDatabase(scene.world.settings.database)
    with server.full("workers", "order_events", "leases"):
        yield
    server.close()


@contextmanager
def _events_held(scene: Scene) -> Iterator[None]:
    engine = create_engine(scene.world.settings.database)
    with engine.connect() as connection:
        order = scene.world.orders.send("KO", "buy", 1)
        event = {"client_order_id": order.client_order_id, "at": utcnow(), "kind": "note"}
        connection.execute(insert(order_events).values(**event))  # a transaction that does not end
        yield
        connection.rollback()
    engine.dispose()


def _commands(*lines: tuple[str, ...]) -> Strike:
    """Run the first command, and at the end those that put it right."""

    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        who = ("--by", "ana", "--reason", "drill")
        first, *rest = lines
        done = scene.world.corro(*first, *who)
        assert done.status == 0, done
        yield
        for line in rest:
            assert scene.world.corro(*line, *who).status == 0

    return strike


@contextmanager
def _locked(scene: Scene) -> Iterator[None]:
    scene.world.control.set_position("alpaca", "PEP", 999)
    yield
    scene.world.control.set_position("alpaca", "PEP", 0)


@contextmanager
def _garbage(scene: Scene) -> Iterator[None]:
    scene.world.fleet.queue.lpush("orders.ibkr", b"\xff no message")
    yield


@contextmanager
def _resting(scene: Scene) -> Iterator[None]:
    scene.world.orders.send("KO", "buy", 1, route=["ibkr"], order_type="limit", limit_price="1")
    yield


_DEAD = r"ibkr: its worker is dead, heard \d+ s ago"
_DISCONNECTED = "CorroBrokerDisconnected", "/fleet", NewsKind.BROKER_DISCONNECTED
_SILENT = "CorroWorkerSilent", "/fleet", NewsKind.WORKER_SILENT
_QUEUE = (
    "the queue (does not answer|refuses writes): ",
    "CorroQueueDown",
    "/fleet",
    NewsKind.QUEUE_DOWN,
    "Redis dead, frozen or refusing",
)
_UNWRITABLE = (
    "the record takes no write",
    "CorroWorkerSilent",
    "/fleet",
    NewsKind.DATABASE_DOWN,
    "disk full, database only reads",
)

DRILLS = (
    Drill("gateway down, login lost", _door("ibkr", "down"), "ibkr: disconnected", *_DISCONNECTED),
    Drill("connected, and cannot be read", _door("alpaca", "garbage", operation="list"), "alpaca: cannot read",
          *_DISCONNECTED),
    Drill("worker dead", _killed, _DEAD, *_SILENT),
    Drill("worker hung, or cut off from the database", _hung, r"ibkr: its worker is silent, heard \d+ s ago", *_SILENT),
    Drill("orders wait", _nobody_sends, r"ibkr: an order has been queued for \d+ s", "CorroOrdersWait"),
    Drill("Redis dead", _queue_dead, *_QUEUE),
    Drill("Redis frozen", _queue_frozen, *_QUEUE),
    Drill("Redis refusing", _queue_refuses, *_QUEUE),
    Drill("database down", _database_down, "Database unavailable", "CorroDatabaseDown", "/", NewsKind.DATABASE_DOWN),
    Drill("file of SQLite removed", _file_removed, "Database unavailable", "CorroDatabaseDown", "/",
          row="SQLite's file removed or replaced while in use",
          news=NewsKind.DATABASE_DOWN, on_sqlite=True, heals=False),
    Drill("database only reads", _reads_only, *_UNWRITABLE),
    Drill("disk full", _disk_full, *_UNWRITABLE),
    Drill("outcome of an order unknown", _swallowed, "1 outcome nobody knows",
          "CorroUnresolved", "/attention", NewsKind.UNRESOLVED),
    Drill("throttled", _door("alpaca", "status", orders=_MANY, operation="place", status=429), "HTTP 429",
          "CorroRejections", row="throttled by the broker, or by our budget"),
    Drill("refused", _door("alpaca", "refuse", orders=_MANY), "refused|insufficient", "CorroRejections"),
    Drill("orders fall back", _door("ibkr", "refuse", orders=_MANY, route=("ibkr", "alpaca")), r"\(fell back\)",
          "CorroFallbacks", "/"),
    Drill("halted", _commands(("halt",), ("resume",)), "halt of all brokers since .* by ana: drill", "CorroStopped",
          row="halted, reducing, draining"),
    Drill("killed", _commands(("kill", "--yes"), ("resume",)), "halt of all brokers since", "CorroStopped",
          news=NewsKind.KILLED, row="halted, reducing, draining"),
    Drill("position locked", _locked, "1 symbol locked", "CorroPositionLocked", "/attention", NewsKind.LOCKED),
    Drill("message set aside", _garbage, "1 message set aside", "CorroDeadLetter", "/attention",
          NewsKind.DEAD_LETTER),
    Drill("limit nearly used", _resting, "max open orders", "CorroLimitNearlyUsed", "/risk",
          tables={"risk": {"currency": "USD", "max_open_orders": 1}}),
    Drill("events held back", _events_held, r"events are held back for \d+ s by", "CorroEventsHeld"),
)  # fmt: skip
