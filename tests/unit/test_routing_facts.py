"""What an order's earlier attempts say of the one that follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from models.errors import Denied
from models.record.batch import OrderBatch
from models.record.database import Database
from models.settings import Settings
from models.vocabulary import Denial, Status
from worker.orders.routing import Stop, decide
from worker.orders.routing_facts import FactsReader
from worker.runtime.clock import utcnow


@pytest.mark.parametrize(
    ("code", "status"), [("42910000", Status.DENIED), ("429", Status.DENIED), ("40310000", Status.REJECTED)]
)
def test_an_order_that_met_a_full_limit_and_then_a_halt_was_rejected_by_nobody(
    database: Database, settings: Settings, put: Callable[..., None], code: str, status: Status
) -> None:
    put(route=["ibkr"], status="queued", attempt={"outcome": "refused", "code": code})
    halted = Denied("halted: fire", broker="ibkr", code=Denial.HALTED)
    with database.write() as connection:
        batch = OrderBatch.open(connection, ["o-1"], utcnow())
        decision = decide(FactsReader(settings, "ibkr", dedupes=False).read(batch.entries["o-1"], 0, halted))
    assert isinstance(decision, Stop)
    assert decision.status is status
