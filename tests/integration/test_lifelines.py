"""Lifelines: locks that the server lets go of when a worker's connection is gone, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from models.record.database import Database
from models.settings import TimingSettings
from tests.kit import eventually
from worker.fleet.identity import Identity
from worker.fleet.liveness import alive_brokers
from worker.fleet.members import Heartbeat

TIMING = TimingSettings()


def elsewhere(database: Database, name: str) -> Heartbeat:
    """The heart of a worker on another machine."""
    pulse = Heartbeat(database, Identity(name, host=f"of-{name}", pid=1, boot="another-boot/1"), TIMING)
    pulse.state = "ready"
    pulse.beat()
    return pulse


@pytest.fixture
def hearts(database: Database) -> Iterator[tuple[Heartbeat, Heartbeat]]:
    """A worker of alpaca, which looks, and one of ibkr, on machines of their own."""
    both = elsewhere(database, "alpaca"), elsewhere(database, "ibkr")
    yield both
    for pulse in both:
        pulse.stop()


def seen_dead(witness: Heartbeat, seconds_later: float) -> set[str]:
    later = datetime.now(UTC) + timedelta(seconds=seconds_later)
    with witness.database.read() as connection:
        return set(witness.witness.dead(connection, ["ibkr"], later).values())


def test_the_server_lets_go_of_a_dead_workers_lifeline_and_not_of_a_slow_ones(
    database: Database, hearts: tuple[Heartbeat, Heartbeat]
) -> None:
    ours, theirs = hearts
    ours.witness.timing = TIMING.model_copy(update={"dead_after": 0.0})
    assert seen_dead(ours, 5) == set()
    theirs.lifeline.close()  # as the kernel does for a process that has died
    eventually(lambda: seen_dead(ours, 5) == {"ibkr"}, 5)
    assert seen_dead(ours, 0) == set()
    theirs.beat()  # it lives after all: only its connection was cut
    assert seen_dead(ours, 5) == set()
    with database.read() as connection:
        everybody = {"alpaca", "ibkr"}
        assert alive_brokers(connection, datetime.now(UTC), 10) == everybody
        assert alive_brokers(connection, datetime.now(UTC), 10, but=[theirs.me.name]) == {"alpaca"}


def test_where_every_connection_was_cut_nobody_is_dead(hearts: tuple[Heartbeat, Heartbeat]) -> None:
    """A restart, a failover: our own lifeline went too, and has to stand for as long as silence would take."""
    ours, theirs = hearts
    theirs.lifeline.close()
    ours.lifeline.close()
    assert seen_dead(ours, 5) == set()
    ours.beat()
    assert seen_dead(ours, 5) == set()
