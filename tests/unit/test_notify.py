"""Notifications: settings without secrets, real rows, several leaders, and a real receiver of HTTP."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from models.errors import ConfigurationError, DatabaseUnavailable
from models.notify import NewsKind
from models.outward import outward
from models.record import tally
from models.record.database import Database
from models.record.notice_tables import notifications
from models.record.notices import take_message, waiting_since
from models.record.tables import (
    attempts,
    control_events,
    controls,
    incidents,
    leases,
    position_locks,
    workers,
)
from models.settings import Settings, load_settings
from tests.kit.receiver import Receiver
from tests.order_steps import OrderSteps
from worker.checks.house import judge_notify
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.notify import notifier as notifier_module
from worker.notify import sending
from worker.notify.notifier import Notifier

# -- SETTINGS ---
SECRET = "T0pS3cretPathToken"
KINDS = "unresolved,locked,tripped,killed,overfilled,database_down,worker_silent"


@pytest.mark.usefixtures("bare")
def test_several_urls_come_from_one_variable_and_no_part_of_them_is_ever_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = f"json://user:hunter2hunter@127.0.0.1:9/{SECRET}, slack://TokenA123/TokenB456/TokenC789?to=a,b"
    monkeypatch.setenv("CORRO_NOTIFY__URLS", urls)
    monkeypatch.setenv("CORRO_NOTIFY__EVENTS", "unresolved,locked")
    settings = load_settings()
    assert len(settings.notify.urls) == 2
    assert settings.notify.wanted == {NewsKind.UNRESOLVED, NewsKind.LOCKED}
    told = outward(f"{settings!r} {urls} POST /{SECRET} hunter2hunter TokenA123 at 127.0.0.1")
    for secret in (SECRET, "hunter2hunter", "TokenA123", "TokenB456"):
        assert secret not in told
    assert "127.0.0.1" in told


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("URLS", "T0pS3cretWord", "notify.urls"),
        ("EVENTS", "unresolvd", "notify.events"),
        ("HEARTBEAT_URL", "json://T0pS3cretWord", "notify.heartbeat_url"),
    ],
)
def test_a_wrong_setting_is_named_without_its_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"CORRO_NOTIFY__{name}", value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert words in str(refused.value)
    assert "T0pS3cretWord" not in str(refused.value)


# -- ROWS, LEADERS AND A RECEIVER ---
@pytest.fixture
def receiver() -> Iterator[Receiver]:
    pytest.importorskip("apprise")
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def told_settings(bare: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CORRO_NOTIFY__URLS", f"json://{receiver.place}/{SECRET}")
    monkeypatch.setenv("CORRO_NOTIFY__HEARTBEAT_URL", f"http://{receiver.place}/beat/{SECRET}")
    monkeypatch.setenv(
        "CORRO_NOTIFY__EVENTS", "unresolved,locked,tripped,killed,overfilled,database_down,worker_silent"
    )
    return load_settings(home=bare)


class Leaders:
    """Several leaders, each with its notifier, over one record."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.notifiers = [Notifier(settings, database, name, threading.Event()) for name in ("a", "b", "c")]

    def look(self) -> None:
        for one in self.notifiers:
            one.look()

    def turn(self) -> None:
        self.look()
        for one in self.notifiers:
            one.send()


def unknown(database: Database, id_: str, seconds: float = 40) -> None:
    steps = OrderSteps(database)
    steps.order(id_, ["ibkr"], status="submitted")
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    steps.attempt(id_, 1, "ibkr", outcome="unknown", started_at=at)


def an_hour_passes(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(notifications).values(made_at=datetime.now(UTC) - timedelta(hours=1)))


def test_three_leaders_tell_once_and_then_that_it_is_over(
    told_settings: Settings, database: Database, receiver: Receiver
) -> None:
    leaders = Leaders(told_settings, database)
    unknown(database, "o-1")
    for _ in range(3):
        leaders.turn()
    assert receiver.titles == ["corro unresolved: o-1"]
    assert receiver.told[0]["type"] == "warning"
    an_hour_passes(database)
    with database.write() as connection:
        connection.execute(update(attempts).values(outcome="accepted"))
    for _ in range(3):
        leaders.turn()
    assert receiver.titles[1:] == ["corro unresolved over: o-1"]
    assert receiver.told[1]["type"] == "success"
    with database.read() as connection:
        assert connection.execute(select(incidents)).all() == []


def test_another_leader_goes_on_where_the_one_before_has_ended(
    told_settings: Settings, database: Database, receiver: Receiver
) -> None:
    first, second, _ = Leaders(told_settings, database).notifiers
    unknown(database, "o-1")
    first.look()
    second.look()
    with database.write() as connection:  # its worker has stopped, or its lease has run out
        connection.execute(delete(leases).where(leases.c.name == "notify", leases.c.holder == "a"))
    unknown(database, "o-2")
    second.look()
    second.send()
    assert receiver.titles == ["corro unresolved: o-1"]
    an_hour_passes(database)
    second.look()
    second.send()
    assert receiver.titles == ["corro unresolved: o-1", "corro unresolved: o-2"]


def test_what_no_service_takes_is_tried_again_and_counted(
    told_settings: Settings, database: Database, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    leaders = Leaders(told_settings, database)
    unknown(database, "o-1")
    receiver.status = 500
    leaders.turn()
    leaders.turn()
    assert len(receiver.told) == 1
    with database.read() as connection:
        assert waiting_since(connection) is not None
    receiver.status = 200
    with database.write() as connection:  # its pause is over
        connection.execute(update(notifications).values(try_at=datetime.now(UTC)))
    leaders.turn()
    leaders.turn()
    assert len(receiver.told) == 2
    with database.read() as connection:
        assert waiting_since(connection) is None
        assert tally.counts(connection).of("notifications") == {("unresolved", "failed"): 1, ("unresolved", "sent"): 1}
    assert SECRET not in "".join(capsys.readouterr())


def test_a_message_that_somebody_is_sending_is_nobody_elses(told_settings: Settings, database: Database) -> None:
    first, *_ = Leaders(told_settings, database).notifiers
    unknown(database, "o-1")
    first.look()
    now = datetime.now(UTC)
    took = [database.transact(lambda connection: take_message(connection, now, 90)) for _ in range(2)]
    assert [row is not None for row in took] == [True, False]


def test_locks_trips_kills_and_silent_workers_are_told(
    told_settings: Settings, database: Database, receiver: Receiver
) -> None:
    leaders, now = Leaders(told_settings, database), datetime.now(UTC)
    leaders.turn()
    worker = {"host": "h", "boot": "b", "pid": 7, "state": "ready", "started_at": now}
    with database.write() as connection:
        lock = {"expected": 0, "found": 5, "since": now, "read_at": now}
        connection.execute(insert(position_locks).values(broker="ibkr", symbol="KO", **lock))
        for scope, kind, kill in (("dip", "trip", None), ("runaway", "kill", {"done": []})):
            about = {"scope_kind": "strategy", "scope": scope, "by": "ann", "reason": "why", "at": now}
            event = insert(control_events).values(kind=kind, **about).returning(control_events.c.id)
            number = connection.execute(event).scalar_one()
            connection.execute(insert(controls).values(state="halted", generation=number, kill=kill, **about))
        for name, age in (("ibkr@h:1", 90), ("alpaca@h:2", 90), ("alpaca@h:3", 0)):
            row = worker | {
                "worker": name,
                "broker": name.partition("@")[0],
                "heartbeat_at": now - timedelta(seconds=age),
            }
            connection.execute(insert(workers).values(**row))
    OrderSteps(database).order("o-9", ["ibkr"])
    OrderSteps(database).event("o-9", "overfilled", "filled", "filled")
    leaders.turn()
    leaders.turn()
    assert sorted(receiver.titles) == [
        "corro killed: strategy runaway", "corro locked: ibkr:KO", "corro overfilled: o-9",
        "corro tripped: strategy dip", "corro worker_silent: ibkr@h",
    ]  # fmt: skip


def test_a_heartbeat_goes_out_once_a_minute_while_all_is_well(
    told_settings: Settings, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Notifier(told_settings, database, "a", threading.Event())
    monkeypatch.setattr(leader, "_ask_queue", lambda: (0, []))  # no queue runs here, and that is not its matter
    leader.look()
    leader.look()
    assert receiver.beats == 1
    now = datetime.now(UTC)
    row = {"worker": "ibkr@h:1", "broker": "ibkr", "host": "h", "boot": "b", "pid": 1, "state": "ready"}
    with database.write() as connection:
        connection.execute(insert(workers).values(**row, started_at=now, heartbeat_at=now - timedelta(seconds=120)))
    monkeypatch.setattr(notifier_module, "_HEARTBEAT_S", 0.0)
    leader.look()
    assert receiver.beats == 1


def test_a_database_that_is_away_is_told_by_one_leader_and_over_afterwards(
    told_settings: Settings, database: Database, receiver: Receiver, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.record.database.PATIENCE_S", 0.05)
    seen = Database(str(database.url))
    server = EmbeddedQueue(told_settings)
    server.acquire()
    try:
        leaders = Leaders(told_settings, seen)
        leaders.turn()
        other = sqlite3.connect(bare / "corro.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")  # nobody can write: as good as away
        for seconds in (0, 30, 32):
            at = datetime.now(UTC) + timedelta(seconds=seconds)
            monkeypatch.setattr("worker.notify.notifier.utcnow", lambda at=at: at)
            for one in leaders.notifiers:
                one.look()
        for one in leaders.notifiers:
            with contextlib.suppress(DatabaseUnavailable):
                one.send()
        assert receiver.titles == ["corro database_down"]
        other.execute("ROLLBACK")
        for one in leaders.notifiers:
            one.look()
        monkeypatch.setattr("worker.notify.notifier.utcnow", lambda: at + timedelta(seconds=120))
        leaders.turn()
        leaders.turn()
        assert receiver.titles == ["corro database_down", "corro database_down over: database"]
    finally:
        server.release()
        seen.close()


def test_the_end_of_an_outage_is_told_by_whoever_comes_after_the_process_that_told_its_beginning(
    told_settings: Settings, database: Database, receiver: Receiver, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.record.database.PATIENCE_S", 0.05)
    seen = Database(str(database.url))
    server = EmbeddedQueue(told_settings)
    server.acquire()
    try:
        before, began = Leaders(told_settings, seen), datetime.now(UTC)
        other = sqlite3.connect(bare / "corro.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        for seconds in (0, 30):
            at = began + timedelta(seconds=seconds)
            monkeypatch.setattr("worker.notify.notifier.utcnow", lambda at=at: at)
            before.look()
        with contextlib.suppress(DatabaseUnavailable):
            before.notifiers[0].send()
        assert receiver.titles == ["corro database_down"]
        after = Leaders(told_settings, seen)  # every process was started anew, the database still away
        after.look()
        other.execute("ROLLBACK")
        monkeypatch.setattr("worker.notify.notifier.utcnow", lambda: began + timedelta(seconds=120))
        again = Leaders(told_settings, seen)  # and once more
        for leaders in (again, after):
            leaders.turn()
            leaders.turn()
        assert receiver.titles == ["corro database_down", "corro database_down over: database"]
        assert "after 2 min" in receiver.told[1]["message"]
    finally:
        server.release()
        seen.close()


def test_the_check_names_services_and_no_secret(told_settings: Settings, receiver: Receiver) -> None:
    verdict = judge_notify(told_settings)
    assert verdict.state == "ok"
    assert "json://***" in verdict.words
    assert SECRET not in verdict.words


def test_a_url_that_apprise_does_not_know_is_named_by_its_place() -> None:
    pytest.importorskip("apprise")
    with pytest.raises(ConfigurationError, match="number 1, nosuch"):
        sending.must_be_usable([f"nosuch://{SECRET}"])
