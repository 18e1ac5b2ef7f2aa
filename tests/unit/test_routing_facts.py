"""What an order's earlier attempts say of the one that follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from models.errors import Denied, Unsupported
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


@pytest.mark.parametrize(
    ("attempt", "end"),
    [
        ({"outcome": "refused", "code": "200", "message": "200 No security definition"},
         (Status.REJECTED, "ibkr: 200 No security definition", None)),
        ({"outcome": "not_sent", "code": "no_position", "message": "ibkr holds 0 AAPL, and 10 are to be closed"},
         (Status.DENIED, "ibkr holds 0 AAPL, and 10 are to be closed", "no_position")),
        ({"outcome": "not_sent", "code": "unsupported", "message": "ibkr takes no such order"},
         (Status.DENIED, "ibkr takes no such order", "unsupported")),
        ({"outcome": "not_sent", "code": None, "message": "ibkr is not connected"}, None),
    ],
)  # fmt: skip
def test_what_an_earlier_attempt_says_outlasts_that_the_last_broker_cannot(
    database: Database, settings: Settings, put: Callable[..., None], attempt: dict[str, object], end: object
) -> None:
    put(route=["ibkr", "tda"], status="queued", broker="tda", attempt=attempt | {"broker": "ibkr"})
    cannot = Unsupported("tda does not take asset_class future", broker="tda")
    with database.write() as connection:
        batch = OrderBatch.open(connection, ["o-1"], utcnow())
        decision = decide(FactsReader(settings, "tda", dedupes=False).read(batch.entries["o-1"], 0, cannot))
    told = (decision.status, decision.reason, decision.code) if isinstance(decision, Stop) else None
    assert told == end
