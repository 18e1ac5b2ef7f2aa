"""What unit tests share: settings that nothing outside can change, and a real SQLite file with the schema."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from models.record.database import Database, upgrade
from models.record.intake import Intake
from models.record.tables import attempts, orders
from models.settings import Settings, load_settings
from producers.cli.app import _asked
from tests.unit.fills import Record
from tests.unit.raw_server import RawServer
from tests.unit.trust_desk import Make, TrustDesk
from tests.unit.words import NOW, Put, Run
from worker.brokers.rest.http import Wire
from worker.cli import main


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "corro.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    database.close()
    return path


@pytest.fixture
def database(_template: Path, tmp_path: Path) -> Iterator[Database]:
    """A fresh database file with the current schema."""
    path = tmp_path / "corro.db"
    shutil.copy(_template, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.close()


@pytest.fixture
def settings(bare: Path) -> Settings:
    """The settings of somebody who has configured nothing: three sandbox brokers."""
    return load_settings(home=bare)


@pytest.fixture
def intake(settings: Settings, database: Database) -> Intake:
    """What records orders of the test's database."""
    return Intake(settings, database)


@pytest.fixture
def put(database: Database) -> Put:
    """Put an order that is at its first attempt, at `ibkr`, into the database."""

    def put(client_order_id: str = "o-1", *, attempt: dict[str, Any] | None = None, **changes: Any) -> None:
        order = {
            "client_order_id": client_order_id, "version": 1, "symbol": "AAPL", "side": "buy",
            "quantity": Decimal(10), "order_type": "market", "time_in_force": "day", "status": "submitted",
            "route": ["ibkr", "alpaca", "tda"], "broker": "ibkr", "attempt_no": 1, "filled_quantity": Decimal(0),
            "body_hash": "0" * 64, "available_at": NOW, "created_at": NOW, "updated_at": NOW,
        } | changes  # fmt: skip
        row = {
            "client_order_id": client_order_id, "attempt_no": 1, "broker": order["broker"],
            "broker_client_order_id": client_order_id, "outcome": "sending", "worker": "w", "started_at": NOW,
            "lease_until": NOW, "checks": 0, "missing": 0,
        } | (attempt or {})  # fmt: skip
        with database.write() as connection:
            connection.execute(insert(orders).values(**order))
            if order["attempt_no"]:
                connection.execute(insert(attempts).values(**row))

    return put


@pytest.fixture
def record(database: Database, settings: Settings, put: Put) -> Record:
    """One order at ibkr that is accepted, and words for what is told of it."""
    put(status="accepted", attempt={"outcome": "accepted", "broker_order_id": "7"})
    return Record(database, settings)


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    """Start servers that misbehave as told."""
    servers: list[RawServer] = []

    def start(behave: Callable[[socket.socket, bytes, int], None]) -> RawServer:
        servers.append(RawServer(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    """The HTTP client of the adapters."""
    found = Wire(connect_s=0.5, read_s=1.0)
    yield found
    found.close()


@pytest.fixture
def corro(database: Database, bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, over the test's database; returns exit status, stdout and stderr."""
    monkeypatch.setenv("CORRO_HOME", str(bare))

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setitem(_asked, "json", False)  # a process runs one command, this one many
        monkeypatch.setattr(sys, "argv", ["corro", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def make(bare: Path, database: Database) -> Iterator[Make]:
    """Build a desk whose orders are judged by keys."""
    made: list[TrustDesk] = []

    def build(**security: Any) -> TrustDesk:
        made.append(TrustDesk(bare, database, **security))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def desk(make: Make) -> TrustDesk:
    """The same, as it is where nothing is set."""
    return make()
