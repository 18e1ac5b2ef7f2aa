"""The journal as a stream on PostgreSQL: concurrent transactions draw their ids early and show them late."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from models.messages import OrderRequest, utcnow
from models.record.database import Database
from models.record.intake import Intake
from models.record.statements import insert_many
from models.record.stream import EventStream, Holdup, holdup
from models.record.tables import order_events
from models.settings import load_settings
from tests.kit import eventually
from worker.fleet.picture import remarks_of_the_record


@pytest.fixture(autouse=True)
def _orders(database: Database, bare: object) -> None:
    requests = [OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id=f"o-{n}") for n in range(4)]
    Intake(load_settings(), database).record(requests)


def write(connection: Connection, detail: str, order: str = "o-0") -> None:
    """Append an event as corro does."""
    event = {"client_order_id": order, "at": utcnow(), "kind": "noted", "detail": detail}
    insert_many(connection, order_events, [{**event, "from_status": "queued", "to_status": "queued"}])


@contextmanager
def writer(database: Database, detail: str) -> Iterator[Connection]:
    """A transaction that has written an event and is open until the block ends; `rollback` may end it before."""
    with database.engine.connect() as connection, connection.begin():
        write(connection, detail)
        yield connection


def details(stream: EventStream) -> list[str | None]:
    return [event["detail"] for event in stream.look()]


@pytest.fixture
def stream(database: Database) -> EventStream:
    """A reader who has seen how the orders were queued."""
    found = EventStream(database)
    assert [event["kind"] for event in found.look()] == ["queued"] * 4
    return found


def test_an_event_waits_for_those_with_smaller_ids_that_may_still_come(database: Database, stream: EventStream) -> None:
    with writer(database, "early id, late commit"):
        with writer(database, "late id, early commit"):
            pass
        assert details(stream) == []
        assert EventStream(database, stream.since).look() == []  # whoever begins now skips nothing either
    assert details(stream) == ["early id, late commit", "late id, early commit"]


def test_what_was_written_before_an_open_writer_is_handed_out_to_whoever_comes(database: Database) -> None:
    with writer(database, "before"):
        pass
    with writer(database, "open"):
        with writer(database, "behind"):
            pass
        assert details(EventStream(database, 4)) == ["before"]


def test_ids_that_were_rolled_back_are_passed_at_once(database: Database, stream: EventStream) -> None:
    with writer(database, "never") as given_up, writer(database, "kept"):
        given_up.rollback()
        with writer(database, "after"):
            pass
        assert details(stream) == []
    assert details(stream) == ["kept", "after"]


def test_a_savepoint_that_is_rolled_back_holds_nothing(database: Database, stream: EventStream) -> None:
    with database.engine.connect() as connection, connection.begin():
        with connection.begin_nested() as savepoint:
            write(connection, "never")
            savepoint.rollback()
        with writer(database, "behind"):
            pass
        assert details(stream) == ["behind"]
        write(connection, "from now on it holds")
        with writer(database, "later"):
            pass
        assert details(stream) == []
    assert details(stream) == ["from now on it holds", "later"]


def test_a_newer_transaction_that_draws_a_smaller_id_is_waited_for(database: Database, stream: EventStream) -> None:
    with database.engine.connect() as old, old.begin():
        old.execute(text("SELECT pg_current_xact_id()"))
        with writer(database, "newer transaction, smaller id"):
            write(old, "older transaction, larger id")
            old.commit()
            assert details(stream) == []
    assert details(stream) == ["newer transaction, smaller id", "older transaction, larger id"]


def test_readers_hold_nothing(database: Database, stream: EventStream) -> None:
    with database.engine.connect() as analyst, analyst.begin():
        analyst.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        analyst.execute(text("SELECT 1 FROM order_events JOIN orders USING (client_order_id) FOR SHARE OF orders"))
        with writer(database, "written meanwhile"):
            pass
        assert details(stream) == ["written meanwhile"]
        assert holdup(analyst) == Holdup()


def test_a_writer_that_stays_open_is_named_with_its_age(database: Database) -> None:
    with writer(database, "open") as connection, database.read() as reading:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        first = holdup(reading)
        assert first.words.startswith(f"process {pid} of postgres")
        eventually(lambda: holdup(reading).seconds > first.seconds > 0, 5)
    with database.read() as reading:
        assert holdup(reading) == Holdup()


def test_the_fleet_says_who_holds_the_stream(database: Database, bare: Path) -> None:
    with writer(database, "open") as connection, database.read() as reading:
        connection.exec_driver_sql("SELECT pg_backend_pid()")
        eventually(lambda: holdup(reading).seconds > 1, 5)
        remarks = remarks_of_the_record(load_settings(home=bare), database)
    assert any(line.startswith("events are held back by a transaction that has been open for") for line in remarks)


def test_only_the_events_of_a_strategy_come_and_the_place_moves_on_all_the_same(database: Database) -> None:
    request = OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="dip-1", strategy="dip")
    Intake(load_settings(), database).record([request])
    with writer(database, "of nobody"):
        pass
    stream = EventStream(database, strategy="dip")
    assert [(e["client_order_id"], e["strategy"]) for e in stream.look()] == [("dip-1", "dip")]
    assert stream.since == 6


def test_many_writers_at_once_lose_no_event_and_ids_only_rise(database: Database, stream: EventStream) -> None:
    """Eight writers of one to three events a transaction, every fifth of which is rolled back, and a reader."""
    done = threading.Event()
    committed: set[str] = set()
    lock = threading.Lock()

    def work(number: int) -> None:
        dice = random.Random(number)
        for turn in range(40):
            words = [f"{number}.{turn}.{n}" for n in range(dice.randint(1, 3))]
            with database.engine.connect() as connection, connection.begin() as transaction:
                for word in words:
                    write(connection, word, f"o-{dice.randrange(4)}")
                if dice.random() < 0.5:
                    connection.exec_driver_sql(f"SELECT pg_sleep({dice.uniform(0, 0.01)})")
                if dice.random() < 0.2:
                    transaction.rollback()
                    continue
            with lock:
                committed.update(words)

    seen: list[tuple[int, str]] = []

    def read(ended: Callable[[], bool]) -> None:
        while True:
            last = ended()
            seen.extend((event["id"], str(event["detail"])) for event in stream.look())
            if last:
                return

    writers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    reader = threading.Thread(target=read, args=(done.is_set,))
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    ids = [id_ for id_, _ in seen]
    assert ids == sorted(set(ids))
    assert {detail for _, detail in seen} == committed
    assert len(seen) == len(committed) > 300
