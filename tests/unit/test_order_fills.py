"""How a broker's word ends an order, and how its executions are written: one statement, one log line."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select, update
from structlog.testing import capture_logs

from models.errors import OrderRejected
from models.messages import utcnow
from models.record.batch import OrderBatch
from models.record.database import Database
from models.record.tables import (
    attempts,
    external_orders,
    orders,
)
from models.reports import DONE, BrokerStatus, OrderReport
from models.settings import Settings
from models.vocabulary import LIVE, TERMINAL, Side, Status
from tests.unit.fills import D, Record, execution, total
from tests.unit.words import NOW, Put
from worker.orders.record import Recorder
from worker.positions.external import External


# -- ENDS ---
@pytest.mark.parametrize("status", [*sorted(LIVE), Status.SUBMITTED])
@pytest.mark.parametrize("end", sorted(DONE))
@pytest.mark.parametrize("filled", [None, 0, 4])
def test_every_end_that_a_broker_tells_ends_the_order_from_every_open_status(
    database: Database, settings: Settings, put: Put, status: Status, end: BrokerStatus, filled: int | None
) -> None:
    done = D(4) if status is Status.PARTIALLY_FILLED else D(0)
    put(status=str(status), filled_quantity=done, attempt={"outcome": "accepted", "broker_order_id": "7"}, route=[])
    record = Record(database, settings)
    if done:
        with database.write() as connection:
            connection.execute(update(orders).values(filled_quantity=0, status="accepted"))
        record.pushed(execution("a", 4, 50, up_to=4))
    record.read(total(filled, end))
    if end is BrokerStatus.FILLED and filled == 0:  # it contradicts itself: no end, and it is read again
        assert record.order["status"] not in TERMINAL
        return
    if record.order["status"] not in TERMINAL:  # a refusal after acceptance: the broker is asked before it counts
        assert (end, filled or 0, done) == (BrokerStatus.REJECTED, 0, 0)
        with database.write() as connection:
            batch = OrderBatch.open(connection, ["o-1"], utcnow())
            assert batch["o-1"].attempts[1]["outcome"] == "unknown"
            dead = OrderRejected("looked for, and dead", broker="ibkr")
            Recorder(settings, "ibkr", dedupes=False).settle(batch["o-1"], 1, dead)
            batch.write()
    assert record.order["status"] in TERMINAL, record.order["status"]


def test_an_order_that_somebody_replaced_at_its_broker_is_canceled_and_names_its_heir(record: Record) -> None:
    record.read(execution("a", 4, 50, up_to=4), total(4, BrokerStatus.REPLACED, replaced_by="B"))
    assert (record.order["status"], record.order["filled_quantity"]) == ("canceled", 4)
    assert record.events("replaced_outside") == ["replaced at ibkr by order B, which is not ours: it is external"]
    heir = OrderReport(
        broker_order_id="B", status=BrokerStatus.ACCEPTED, broker_client_order_id="theirs", symbol="AAPL",
        side=Side.BUY, quantity=D(6), replaces="7",
    )  # fmt: skip
    assert record.read(heir).unmatched == [heir]
    External(record.database, "ibkr").note([heir])
    with record.database.read() as connection:
        assert connection.execute(select(external_orders.c.broker_order_id)).scalar() == "B"


@pytest.mark.parametrize("outcome", ["sending", "unknown", "accepted"])
def test_an_order_that_we_replaced_is_not_replaced_from_outside(record: Record, outcome: str) -> None:
    with record.database.write() as connection:
        connection.execute(insert(attempts).values(
            client_order_id="o-1", attempt_no=2, broker="ibkr", broker_client_order_id="o-1~2", broker_order_id="B",
            outcome=outcome, worker="w", started_at=NOW, lease_until=NOW, replaces=1, terms={"quantity": "12"},
        ))  # fmt: skip
    record.read(total(0, BrokerStatus.REPLACED, replaced_by="B"))
    assert record.order["status"] == "accepted"


def test_a_book_changes_an_execution_in_one_statement_however_often_it_changed(record: Record) -> None:
    record.pushed(execution("a", 10, 50))
    with record.database.write() as connection:
        batch = OrderBatch.open(connection, ["o-1"], utcnow())
        (row,) = batch["o-1"].fills
        for price in (51, 52, 53):
            batch["o-1"].change_fill(row, price=D(price))
        assert batch["o-1"].fill_changes() == [({"broker": "ibkr", "execution_id": "a"}, {"price": 53})]
        batch.write()
    assert record.standing == [("a", 10, 53)]


def test_every_step_of_an_order_is_one_log_line_with_its_id(record: Record) -> None:
    with capture_logs() as lines:
        record.pushed(execution("a", 4, 50), execution("b", 3, 50), total(7, BrokerStatus.CANCELED))
    told = [(line["event"], line["client_order_id"]) for line in lines]
    assert told == [("order_filled", "o-1"), ("order_filled", "o-1"), ("order_canceled", "o-1")]
