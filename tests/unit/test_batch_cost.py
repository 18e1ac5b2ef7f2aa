"""A hundred orders cost as many statements as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from models.lifecycle import Fact
from models.record.database import Database
from models.record.order import OrderRecord
from models.reports import CommissionReport
from models.settings import Settings
from tests.traced import executions, traced
from tests.unit.booking import D, booked, execution, opened, shown
from tests.unit.words import Put


# -- WHAT IT COSTS ---
def claimed(entry: OrderRecord) -> None:
    entry.happen(Fact.CLAIMED, attempt_no=1)
    entry.begin(
        1, broker="ibkr", broker_client_order_id=entry.id, outcome="sending", worker="w", started_at=entry.now,
        lease_until=entry.now,
    )  # fmt: skip


def answered(entry: OrderRecord) -> None:
    entry.set_attempt(1, outcome="accepted", ended_at=entry.now)
    entry.happen(Fact.ACCEPTED, attempt_no=1)


def traded(entry: OrderRecord) -> None:
    entry.fill(1, execution(f"{entry.id}-x", "10", up_to="10"))


@pytest.mark.parametrize(
    ("change", "start"),
    [(claimed, {"status": "queued", "attempt_no": 0}), (answered, {}), (traded, {"status": "accepted"})],
    ids=["claim", "answer", "fill"],
)
def test_a_hundred_orders_cost_as_many_statements_as_one(
    database: Database, put: Put, change: Callable[[OrderRecord], None], start: dict[str, Any]
) -> None:
    counts = []
    for ids in (["one"], [f"many-{n}" for n in range(100)]):
        for client_order_id in ids:
            put(client_order_id, **start)
        with traced(database) as seen, opened(database, *ids) as batch:
            assert len(batch.entries) == len(ids)
            for entry in batch.entries.values():
                change(entry)
        counts.append(len(executions(seen)))
    assert counts[0] == counts[1] <= 7


def test_a_hundred_commissions_cost_as_many_statements_as_one(database: Database, settings: Settings, put: Put) -> None:
    """IB reports each commission after its execution: a batch of them must not be a statement each."""
    counts = []
    for ids in (["one"], [f"many-{n}" for n in range(100)]):
        for client_order_id in ids:
            put(client_order_id, status="accepted")
        with opened(database, *ids) as batch:
            for entry in batch.entries.values():
                traded(entry)
        reports = [CommissionReport(execution_id=f"{i}-x", commission=D(1)) for i in ids]
        with traced(database) as seen:
            assert shown(database, settings, *reports).unmatched == []
        counts.append(len(executions(seen)))
    assert {row["commission"] for row in booked(database)} == {1}
    assert counts[0] == counts[1]
