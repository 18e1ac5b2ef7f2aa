"""The database file goes away under a fleet: nothing trades on, and no fresh one is taken for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.errors import DatabaseUnavailable
from producers.bell import connect, envelope
from tests.kit import World, eventually, never


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[World]:
    """A world whose money cannot be checked at the end: its books are gone with the file."""
    made = World(tmp_path, ["alpaca"])
    yield made
    made.close(check=False)


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_fleet_whose_database_is_gone_sends_nothing_more(doomed: World, how: str) -> None:
    world = doomed
    worker = world.fleet.start("alpaca")
    world.orders.wait(world.orders.send("AAPL", "buy", 1, client_order_id="used-1"), "filled")
    if how == "removed":
        for name in ("corro.db", "corro.db-wal", "corro.db-shm"):
            (world.home / name).unlink(missing_ok=True)
    else:
        (world.home / "corro.db").write_bytes(b"")
    with pytest.raises(DatabaseUnavailable, match=how):
        world.orders.send("MSFT", "buy", 1)
    again = world.corro("submit", "AAPL", "buy", "1", "--id", "used-1")
    # What was emptied may have got a page of its log back meanwhile: then it is damaged.
    assert again.status in ((2,) if how == "removed" else (1, 2)), again
    assert "put the database back" in again.err or (how == "emptied" and "damaged" in again.err), again
    bare = {"version": 1, "client_order_id": "bare-1", "symbol": "KO", "side": "buy", "quantity": "1"}
    queue = connect(world.settings, connect_s=1, answer_s=1)
    queue.lpush("orders.alpaca", envelope("orders.submit", "orders.alpaca", {"orders": [bare]}))
    eventually(lambda: "message_waits_for_database" in worker.log.read_text(), 10, lambda: worker.log.read_text())
    queue.close()
    never(lambda: len(world.control.orders()) > 1, 1.0)


def test_a_second_fleet_does_not_start_on_the_same_queue(new_world: Callable[..., World]) -> None:
    first, second = new_world(["alpaca"]), new_world(["alpaca"])
    first.fleet.start("alpaca")
    shared = second.corro("worker", "alpaca", CORRO_REDIS_URL=first.settings.queue_url)
    assert shared.status == 2, shared
    assert "two fleets on one queue" in shared.err
    assert first.corro("fleet").status == 0
