"""Recording over a line to PostgreSQL that breaks: one order, one row, one event, whenever it broke."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy import select as sql_select

from models.errors import DatabaseUnavailable, IdempotencyConflict
from models.messages import OrderRequest
from models.record.database import Database, upgrade
from models.record.intake import Intake
from models.record.tables import attempts, order_events, orders
from models.settings import BrokerSettings, Settings
from tests.kit import PostgresServer
from tests.open_desk import open_desk
from tests.property.ledger import BrokerLedger, Seat
from worker.orders.selection import named

_NAME = ".s.PGSQL.5432"


class Severed:
    """A socket in front of PostgreSQL's that ends a connection when it is told to.

    Args:
        target: the server's socket.
        folder: where this one is made.

    Attributes:
        turns: how often the server was asked something after it had said something, or for the first time.
        at: `request`: the next bytes for the server are dropped with their connection; `answer`: the next ones from it.
    """

    def __init__(self, target: Path, folder: Path) -> None:
        self.target, self.at, self.cuts, self.turns = target, "", 0, 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _NAME))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with suppress(OSError), near, socket.socket(socket.AF_UNIX) as far:
            far.connect(str(self.target))
            said = "answer"
            while True:
                for here in select([near, far], [], [])[0]:
                    name, there = ("request", far) if here is near else ("answer", near)
                    if not (data := here.recv(65536)):
                        return
                    if self.at == name:
                        self.at, self.cuts = "", self.cuts + 1
                        return
                    self.turns += name == "request" and said == "answer"
                    said = name
                    there.sendall(data)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class BreakableWay:
    """A producer's way to a database of its own, over a socket that can be cut."""

    def __init__(self, server: PostgresServer, folder: Path, settings: Settings) -> None:
        self.direct = server.fresh()
        real = Path(server.server.get_postmaster_info().socket_dir) / _NAME
        self.severed = Severed(real, folder)
        database = Database(self.direct)
        upgrade(database)
        database.close()
        self.database = Database(f"{self.direct.partition('?')[0]}?host={folder}")
        self.intake = Intake(settings, self.database)

    def end_sessions(self) -> None:
        """As a restart of the server would."""
        engine = create_engine(self.direct, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        engine.dispose()

    def told(self) -> list[tuple[str, str]]:
        """Return the id of every order with the kind of each of its events."""
        with self.database.read() as connection:
            events, mine = order_events.c, orders.c.client_order_id
            query = sql_select(mine, events.kind).outerjoin_from(orders, order_events, mine == events.client_order_id)
            return [(id_, kind) for id_, kind in connection.execute(query.order_by(mine))]


@pytest.fixture(scope="module")
def made(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BreakableWay]:
    way = BreakableWay(postgres, tmp_path_factory.mktemp("s"), Settings.model_construct(brokers={}))
    yield way
    way.database.close()
    way.severed.close()


@pytest.fixture
def way(made: BreakableWay) -> Iterator[BreakableWay]:
    """The same way, with a line in use."""
    with made.database.write() as connection:
        connection.execute(order_events.delete())
        connection.execute(attempts.delete())
        connection.execute(orders.delete())
    made.intake.record([order("before")])
    yield made
    made.severed.at = ""


def order(id_: str, **terms: Any) -> OrderRequest:
    given = {"symbol": "KO", "side": "buy", "quantity": 2, "route": ["ibkr"]} | terms
    return OrderRequest(client_order_id=id_, **given)


def test_an_order_is_recorded_in_one_round_trip_and_claimed_in_another(way: BreakableWay) -> None:
    seat = Seat(BrokerLedger("ibkr", "keeps", None), lambda _name: None, lambda _ticket: None)
    seat.connect()
    desk = open_desk(Settings.model_construct(brokers={"ibkr": BrokerSettings(adapter="model")}), way.database, seat)
    for number in range(3):  # the statements are prepared at the server, and still are one each
        before = way.severed.turns
        way.intake.record([order(f"o-{number}")])
        recorded = way.severed.turns
        assert len(desk.place.claims.claim(named([f"o-{number}"]))) == 1
        assert (recorded - before, way.severed.turns - recorded) == (1, 1)
    desk.close()


@pytest.mark.parametrize("at", ["request", "answer"])
def test_an_order_whose_line_breaks_while_it_is_recorded_is_recorded_once(way: BreakableWay, at: str) -> None:
    """Broken before the statement arrives, or behind its commit: the producer cannot tell, and need not."""
    way.severed.at, cuts = at, way.severed.cuts
    (row,) = way.intake.record([order("broken")])
    assert way.severed.cuts == cuts + 1
    assert row["status"] == "queued"
    assert way.told() == [("before", "queued"), ("broken", "queued")]


def test_lines_that_died_while_nobody_used_them_cost_nothing(way: BreakableWay) -> None:
    way.end_sessions()
    way.intake.record([order("after")])
    assert way.told() == [("after", "queued"), ("before", "queued")]


def test_a_conflict_is_found_over_a_fresh_line_too(way: BreakableWay) -> None:
    way.severed.at = "answer"
    with pytest.raises(IdempotencyConflict, match="already names another order"):
        way.intake.record([order("before", quantity=3)])
    assert way.told() == [("before", "queued")]


def test_many_are_recorded_together_or_not_at_all(way: BreakableWay) -> None:
    with pytest.raises(IdempotencyConflict):
        way.intake.record([order("new"), order("before", quantity=3)])
    assert way.told() == [("before", "queued")]
    way.intake.record([order(f"many-{n}") for n in range(3)])
    assert len(way.told()) == 4


def test_a_server_that_is_away_is_an_outage_and_records_nothing(way: BreakableWay) -> None:
    way.severed.close()
    way.end_sessions()
    with pytest.raises(DatabaseUnavailable):
        way.intake.record([order("nowhere")])
