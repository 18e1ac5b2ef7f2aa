"""Several leaders at the same moment, each in a thread of its own, on both databases: people are told once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from models.record import tally
from models.record.database import Database, upgrade
from models.record.notice_tables import incidents, notifications
from models.record.tables import attempts
from models.settings import load_settings
from tests.kit.receiver import Receiver
from tests.order_steps import OrderSteps
from worker.notify.notifier import Notifier

LEADERS, TURNS = 4, 3


@pytest.fixture
def place(database_url: str | None, tmp_path: Path) -> Iterator[Database]:
    opened = Database(database_url or f"sqlite:///{tmp_path / 'corro.db'}")
    upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture
def heard() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The port of a receiver, and what it was told."""
    pytest.importorskip("apprise")
    receiver = Receiver()
    yield receiver.server.server_address[1], receiver.told
    receiver.close()


def together(leaders: list[Notifier]) -> None:
    """Let all of them look and send at once, a few times."""
    barrier, errors = threading.Barrier(len(leaders)), list[BaseException]()

    def work(leader: Notifier) -> None:
        try:
            for _ in range(TURNS):
                for duty in (leader.look, leader.send):
                    barrier.wait(30)
                    duty()
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(leader,)) for leader in leaders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def titles(told: list[dict[str, Any]]) -> list[str]:
    return sorted(one["title"] for one in told)


def test_leaders_that_look_and_send_at_once_tell_everything_once(
    place: Database, heard: tuple[int, list[dict[str, Any]]], bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, told = heard
    monkeypatch.setenv("CORRO_NOTIFY__URLS", f"json://127.0.0.1:{port}/")
    monkeypatch.setenv("CORRO_NOTIFY__EVENTS", "unresolved,overfilled")
    settings = load_settings(home=bare)
    leaders = [Notifier(settings, place, f"leader-{number}", threading.Event()) for number in range(LEADERS)]
    together(leaders)  # the first look of all begins at the newest event
    steps, old = OrderSteps(place), datetime.now(UTC) - timedelta(seconds=40)
    for number in range(3):
        steps.order(f"o-{number}", ["ibkr"], status="submitted")
        steps.attempt(f"o-{number}", 1, "ibkr", outcome="unknown", started_at=old)
    steps.event("o-0", "overfilled", "filled", "filled")
    together(leaders)
    assert titles(told) == ["corro overfilled: o-0", "corro unresolved: 3"]
    said = next(one["message"] for one in told if "unresolved" in one["title"])
    assert all(f"o-{number} since" in said for number in range(3))
    with place.write() as connection:
        connection.execute(update(attempts).values(outcome="accepted"))
        connection.execute(update(notifications).values(made_at=old - timedelta(hours=1)))
    together(leaders)
    assert titles(told[2:]) == ["corro unresolved over: 3"]
    with place.read() as connection:
        assert connection.execute(select(incidents)).all() == []
        assert tally.counts(connection).of("notifications") == {("overfilled", "sent"): 1, ("unresolved", "sent"): 2}
