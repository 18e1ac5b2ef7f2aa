"""A starting worker may read its queue before its broker is connected: what rings then is sent once it is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from models.record.database import Database
from models.record.tables import orders
from models.settings import load_settings
from tests.kit import never
from tests.open_desk import open_desk
from tests.unit.trust_desk import order
from worker.brokers.fake import FakeBroker
from worker.engine import Engine


@pytest.fixture
def engine(tmp_path: Path, database: Database) -> Iterator[Engine]:
    """An engine whose broker is still being connected, and an order that is recorded for it."""
    settings = load_settings(
        home=tmp_path, redis_url=f"unix://{tmp_path}/no-queue", brokers={"alpaca": {"adapter": "fake"}},
        routing={"route": ["alpaca"]}, timing={"sweep_after": 60},
    )  # fmt: skip
    broker = FakeBroker("alpaca")
    broker.connect()
    found = Engine(settings, broker)
    found.desk = open_desk(settings, database, broker)
    found.gate = found.desk.gate
    found.gate.close("the first connect is under way")
    found.gate.has_tried.clear()
    found.desk.place.intake.take([order("o-1")], queue_broker="alpaca")
    yield found
    found.desk.close()


@pytest.fixture
def ring(engine: Engine) -> Iterator[Future[None]]:
    """The ring of that order."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(engine.submit, [order("o-1")], recorded=True)


def status(database: Database) -> str:
    """What became of the order."""
    with database.read() as connection:
        return str(connection.execute(select(orders.c.status)).scalar_one())


def test_an_order_that_rings_before_the_first_connect_is_sent_as_soon_as_the_gate_opens(
    engine: Engine, ring: Future[None], database: Database
) -> None:
    never(ring.done, 0.15)
    engine.gate.open()
    ring.result(5)
    assert status(database) == "filled"


def test_a_process_that_is_told_to_end_waits_for_no_connect(
    engine: Engine, ring: Future[None], database: Database
) -> None:
    engine.gate.stopping.set()
    ring.result(5)
    assert status(database) == "queued"


def test_a_connect_that_takes_too_long_leaves_the_order_to_the_sweep(engine: Engine, database: Database) -> None:
    engine.gate.await_first_try(0.01)
    assert not engine.gate.may_claim()
    assert status(database) == "queued"
