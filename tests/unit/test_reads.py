"""Whether a broker can be read is known by kind: since when not, why, and only once it has failed for a while."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import BrokerError
from models.record.database import Database
from models.settings import Settings
from models.vocabulary import CANNOT_READ
from tests.open_desk import open_desk
from tests.unit.test_readings import ReadBroker
from worker.fleet import reads
from worker.fleet.reads import Reads


class Hands:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Hands:
    found = Hands()
    monkeypatch.setattr(reads, "elapsed", found)
    return found


def fail(seen: Reads, kind: str, why: str = "HTTP 503") -> None:
    with pytest.raises(BrokerError), seen.of(kind):
        raise BrokerError(why)


def test_a_reading_that_fails_for_a_while_is_told_with_since_when_and_why(clock: Hands) -> None:
    seen = Reads()
    with seen.of("orders"):
        pass
    fail(seen, "orders")
    assert seen.trouble() == "", "one that fails is repeated first"
    clock.now += 11
    fail(seen, "orders", "HTTP 504")
    fail(seen, "positions")
    told = seen.trouble()
    assert told.startswith(f"{CANNOT_READ} orders (last read 20")
    assert told.endswith("HTTP 504")
    assert "positions" not in told
    clock.now += 11
    assert "cannot read positions (never read by this worker): HTTP 503" in seen.trouble()
    for kind in ("orders", "positions"):
        with seen.of(kind):
            pass
    assert seen.trouble() == ""


def test_orders_executions_positions_and_the_account_are_each_noted(
    clock: Hands, database: Database, settings: Settings
) -> None:
    class Garbage(ReadBroker):
        order_session = None

        def fail(self, *_: Any, **__: Any) -> Any:
            raise BrokerError("no JSON")

        get_fills = get_orders = get_positions = get_account_info = fail

    desk = open_desk(settings, database, Garbage())
    for read in (desk.readings.read, desk.positions.read):
        with pytest.raises(BrokerError):
            read()
    clock.now += 60
    told = desk.reads.trouble()
    assert [kind for kind in ("orders", "executions", "positions") if f"{CANNOT_READ} {kind}" in told] == [
        "orders",
        "executions",
        "positions",
    ]
    assert told.count("no JSON") == 3
