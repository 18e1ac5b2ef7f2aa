"""The batch on a real database: each share once, whatever the feeds say, and a hundred orders for the price of one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from models.lifecycle import Fact
from models.record.database import Database
from models.record.evidence import unresolved
from models.record.order import OrderRecord, cancel, is_changing
from models.record.tables import attempts, order_events
from models.reports import BrokerStatus, CommissionReport, OrderReport
from models.settings import Settings
from models.vocabulary import Status
from tests.unit.booking import NOW, D, booked, execution, fill, kinds, opened, order, shown
from tests.unit.words import Put
from worker.orders.record import Recorder


@pytest.mark.parametrize("fact", [Fact.ACCEPTED, Fact.FILLED])
def test_why_an_order_waited_is_no_reason_once_it_stands_at_its_broker(
    database: Database, put: Put, fact: Fact
) -> None:
    put("o-1", status="submitted", quantity="10", reason="alpaca: timed out; it may have been received")
    with opened(database) as batch:
        batch["o-1"].happen(fact, attempt_no=1, quantity=D(10 if fact is Fact.FILLED else 0))
    assert order(database)["reason"] is None


def test_a_step_is_told_with_the_broker_it_happened_at(database: Database, put: Put) -> None:
    put("o-1", status="queued", broker="ibkr")
    with opened(database) as batch:
        batch["o-1"].happen(Fact.CLAIMED, attempt_no=2)
        batch["o-1"].happen(Fact.REQUEUED, attempt_no=2, detail="to alpaca")
        batch["o-1"].set(broker="alpaca")
    assert [(kind, about["broker"]) for kind, about in batch["o-1"].steps] == [
        ("claimed", "ibkr"),
        ("requeued", "ibkr"),
    ]


# -- EACH SHARE ONCE ---
def test_an_execution_is_booked_once_by_its_id(database: Database, put: Put) -> None:
    put()
    assert fill(database, execution("e1", "4")) == [True]
    assert fill(database, execution("e1", "4"), execution("e1", "4", "999")) == [False, False]
    assert [row["quantity"] for row in booked(database)] == [4]
    assert order(database)["filled_quantity"] == 4
    assert order(database)["avg_fill_price"] == 100


def test_an_execution_with_two_names_is_booked_once_by_its_stretch(database: Database, put: Put) -> None:
    """Alpaca's stream and its activities name the same execution differently."""
    put()
    assert fill(database, execution("stream-1", "4", up_to="4"), execution("stream-2", "6", up_to="10")) == [True, True]
    assert fill(database, execution("rest-1", "4", up_to="4"), execution("rest-2", "6", up_to="10")) == [False, False]
    assert order(database)["filled_quantity"] == 10


def test_the_next_stretch_is_a_new_execution(database: Database, put: Put) -> None:
    put()
    assert fill(database, execution("a", "4", up_to="4")) == [True]
    assert fill(database, execution("b", "4", up_to="8")) == [True]
    assert order(database)["filled_quantity"] == 8


def test_stretches_may_come_in_any_order(database: Database, put: Put) -> None:
    put()
    assert fill(database, execution("b", "6", up_to="10"), execution("a", "4", up_to="4")) == [True, True]
    assert order(database)["status"] == Status.FILLED


def test_a_part_of_a_known_stretch_is_known(database: Database, put: Put) -> None:
    put()
    fill(database, execution("whole", "10", up_to="10"))
    assert fill(database, execution("part", "3", up_to="5")) == [False]
    assert order(database)["filled_quantity"] == 10


def test_two_attempts_have_stretches_of_their_own(database: Database, put: Put) -> None:
    put(attempt_no=2)
    with database.write() as connection:
        connection.execute(insert(attempts).values(
            client_order_id="o-1", attempt_no=2, broker="alpaca", broker_client_order_id="o-1~2", outcome="accepted",
            worker="w", started_at=NOW, lease_until=NOW, checks=0, missing=0,
        ))  # fmt: skip
    assert fill(database, execution("a", "4", up_to="4"), attempt_no=1) == [True]
    assert fill(database, execution("b", "4", up_to="4"), attempt_no=2) == [True]
    assert order(database)["filled_quantity"] == 8


def test_two_brokers_may_name_their_executions_alike(database: Database, put: Put) -> None:
    """An execution_id is unique at its broker, no further."""
    put(attempt_no=2)
    with database.write() as connection:
        connection.execute(insert(attempts).values(
            client_order_id="o-1", attempt_no=2, broker="alpaca", broker_client_order_id="o-1~2", outcome="accepted",
            worker="w", started_at=NOW, lease_until=NOW, checks=0, missing=0,
        ))  # fmt: skip
    assert fill(database, execution("1", "4"), attempt_no=1) == [True]
    assert fill(database, execution("1", "5"), attempt_no=2) == [True]
    assert order(database)["filled_quantity"] == 9


# -- A STATUS THAT DECIDES NOTHING ---
@pytest.mark.parametrize("status", ["submitted", "accepted"])
def test_a_status_that_decides_nothing_is_shown_until_the_broker_says_more(
    database: Database, settings: Settings, put: Put, status: str
) -> None:
    """Recorded of IB: openOrder, then Inactive, without a code."""
    put(status=status, attempt={"outcome": "accepted", "broker_order_id": "7"})
    bare = OrderReport(broker_order_id="7", status=BrokerStatus.UNKNOWN, raw_status="Inactive")
    for _ in range(2):
        shown(database, settings, bare)
    row, words = order(database), "ibkr shows it as Inactive, which says neither that it works nor that it has ended"
    assert (row["status"], row["reason"], row["reason_code"]) == (status, words, "unclear_at_broker")
    assert kinds(database).count("unclear_at_broker") == 1
    (listed,) = unresolved(database, 60)
    assert (listed["latest"], listed["unclear"]) == (words, words)
    shown(database, settings, replace(bare, status=BrokerStatus.ACCEPTED, raw_status="Submitted"))
    row = order(database)
    assert (row["status"], row["reason"], row["reason_code"]) == ("accepted", None, None)
    assert unresolved(database, 60) == []


def test_the_brokers_own_word_stands_beside_our_status(database: Database, settings: Settings, put: Put) -> None:
    """An exit that sleeps at its broker is accepted here, `held` there; another word alone is no write of its own."""

    def told(status: BrokerStatus, word: str | None, *, reading: bool = True) -> tuple[str, str | None]:
        report = OrderReport(broker_order_id="7", status=status, raw_status=word)
        shown(database, settings, report, reading=reading)
        with database.read() as connection:
            (row,) = connection.exec_driver_sql("SELECT status, broker_status FROM v_orders").all()
        return row[0], row[1]

    put(status="submitted", attempt={"outcome": "accepted", "broker_order_id": "7"})
    assert told(BrokerStatus.ACCEPTED, "held") == ("accepted", "held")
    before = order(database)["updated_at"]
    assert told(BrokerStatus.ACCEPTED, "new", reading=False) == ("accepted", "held")
    assert order(database)["updated_at"] == before
    assert told(BrokerStatus.ACCEPTED, "new") == ("accepted", "new")
    assert told(BrokerStatus.UNKNOWN, "executions only") == ("accepted", "new"), "no word of the broker's"
    assert told(BrokerStatus.ACCEPTED, None) == ("accepted", "new")
    assert told(BrokerStatus.CANCELED, "canceled") == ("canceled", "canceled")
    assert told(BrokerStatus.ACCEPTED, "new") == ("canceled", "canceled"), "told late"


def test_the_word_of_an_order_at_work_does_not_outlive_its_last_fill(
    database: Database, settings: Settings, put: Put
) -> None:
    put(status="accepted", attempt={"outcome": "accepted", "broker_order_id": "7"}, broker_status="Submitted")
    fill(database, execution("a", "4"))
    assert order(database)["broker_status"] == "Submitted"
    fill(database, execution("b", "6"))
    assert (order(database)["status"], order(database)["broker_status"]) == ("filled", None)
    shown(database, settings, OrderReport(broker_order_id="7", status=BrokerStatus.FILLED, raw_status="Filled"))
    assert order(database)["broker_status"] == "Filled"


def test_an_order_that_ends_is_unclear_no_more(database: Database, settings: Settings, put: Put) -> None:
    put(status="accepted", attempt={"outcome": "accepted", "broker_order_id": "7"})
    shown(database, settings, OrderReport(broker_order_id="7", status=BrokerStatus.UNKNOWN, raw_status="Inactive"))
    fill(database, execution("a", "10"))
    row = order(database)
    assert (row["status"], row["reason_code"], row["reason"]) == ("filled", None, None)


# -- REPLACED ---
def replaced(database: Database, settings: Settings, quantity: str, filled: str, status: BrokerStatus) -> None:
    """The broker confirms a change in place (IB keeps the order's ids)."""
    with database.write() as connection:
        connection.execute(insert(attempts).values(
            client_order_id="o-1", attempt_no=2, broker="ibkr", broker_client_order_id="o-1", outcome="sending",
            worker="w", started_at=NOW, lease_until=NOW, checks=0, missing=0, replaces=1, terms={"quantity": quantity},
        ))  # fmt: skip
    report = OrderReport(
        broker_order_id="7", status=status, broker_client_order_id="o-1", quantity=D(quantity),
        filled_quantity=D(filled), avg_fill_price=D(100),
    )  # fmt: skip
    with opened(database) as batch:
        Recorder(settings, "ibkr", dedupes=False).settle(batch["o-1"], 2, report)


def test_a_fill_of_a_replaced_attempt_is_not_late(database: Database, settings: Settings, put: Put) -> None:
    put(status="accepted", attempt={"outcome": "accepted"})
    replaced(database, settings, "20", "0", BrokerStatus.ACCEPTED)
    fill(database, execution("a", "4"), attempt_no=1)
    row = order(database)
    assert (row["attempt_no"], row["quantity"], row["filled_quantity"]) == (2, 20, 4)
    assert not booked(database)[0]["late"]


def test_an_order_replaced_to_what_is_filled_already_is_filled(
    database: Database, settings: Settings, put: Put
) -> None:
    """The fill and the replace cross on their way: the broker has nothing left to do, so neither have we."""
    put(status="accepted", attempt={"outcome": "accepted"})
    fill(database, execution("a", "5", up_to="5"))
    replaced(database, settings, "5", "5", BrokerStatus.FILLED)
    row = order(database)
    assert (row["quantity"], row["filled_quantity"]) == (5, 5)
    assert row["status"] == Status.FILLED
    assert row["closed_at"] is not None


# -- COMMISSION AND PRICE ---
def test_a_commission_may_come_later(database: Database, settings: Settings, put: Put) -> None:
    put()
    shown(database, settings, execution("a", "4"))
    assert booked(database)[0]["commission"] is None
    shown(database, settings, CommissionReport(execution_id="a", commission=D("0.35")))
    assert booked(database)[0]["commission"] == D("0.35")


def test_a_commission_may_come_in_the_same_batch(database: Database, settings: Settings, put: Put) -> None:
    put()
    shown(database, settings, execution("a", "4"), CommissionReport(execution_id="a", commission=D("0.35")))
    assert booked(database)[0]["commission"] == D("0.35")


def test_a_second_report_adds_the_commission_and_takes_none_away(database: Database, put: Put) -> None:
    put()
    fill(database, execution("a", "4"))
    fill(database, execution("a", "4", commission="0.35"))
    fill(database, execution("a", "4"))
    assert booked(database)[0]["commission"] == D("0.35")


def test_the_average_price_is_weighted(database: Database, put: Put) -> None:
    put()
    fill(database, execution("a", "1", "100.10"), execution("b", "2", "100.40"))
    assert order(database)["avg_fill_price"] == D("100.3")
    fill(database, execution("c", "7", "99"))
    assert order(database)["avg_fill_price"] == D("99.39")


def test_a_third_of_a_cent_is_kept_to_eight_digits(database: Database, put: Put) -> None:
    put()
    fill(database, execution("a", "1", "1"), execution("b", "2", "2"))
    assert order(database)["avg_fill_price"] == D("1.66666667")


# -- LATE ---
@pytest.mark.parametrize("status", ["canceled", "expired", "rejected", "denied"])
def test_a_fill_after_the_end_is_booked_and_flagged(database: Database, put: Put, status: str) -> None:
    closed = NOW - timedelta(minutes=5)
    put(status=status, closed_at=closed, reason="why it ended")
    assert fill(database, execution("late", "10")) == [True]
    row = order(database)
    assert (row["status"], row["filled_quantity"], row["reason"]) == (
        "filled",
        10,
        f"filled after it had ended as {status} (why it ended)",
    )
    assert row["closed_at"] == closed
    assert booked(database)[0]["late"]
    assert "late_fill" in kinds(database)


def test_a_fill_in_time_is_not_flagged(database: Database, put: Put) -> None:
    put(status="accepted")
    fill(database, execution("a", "10"))
    assert not booked(database)[0]["late"]
    assert kinds(database) == ["filled"]
    assert order(database)["closed_at"] is not None


def test_more_than_was_ordered_is_booked_and_said(database: Database, put: Put) -> None:
    put(status="accepted")
    fill(database, execution("a", "8"), execution("b", "8"))
    assert order(database)["filled_quantity"] == 16
    assert "overfilled" in kinds(database)


# -- WRITING ---
def test_a_failed_transaction_leaves_nothing(database: Database, put: Put) -> None:
    def crash() -> None:
        with opened(database) as batch:
            batch["o-1"].fill(1, execution("a", "4"))
            batch.write()
            raise RuntimeError

    put()
    with pytest.raises(RuntimeError):
        crash()
    assert order(database)["filled_quantity"] == 0
    assert booked(database) == []
    assert kinds(database) == []


def test_what_did_not_change_is_not_written(database: Database, put: Put) -> None:
    put()
    before = order(database)
    with opened(database) as batch:
        assert not batch["o-1"].happen(Fact.CANCEL_SENT).changed
    assert order(database) == before
    assert kinds(database) == []


def test_an_event_tells_where_the_order_came_from_and_went(database: Database, put: Put) -> None:
    put()
    with opened(database) as batch:
        batch["o-1"].happen(Fact.CANCELED, attempt_no=1, detail="as asked")
    with database.read() as connection:
        row = connection.execute(select(order_events)).mappings().one()
    assert (row["kind"], row["from_status"], row["to_status"], row["detail"]) == (
        "canceled", "submitted", "canceled", "as asked",
    )  # fmt: skip
    assert order(database)["reason"] == "as asked"


@pytest.mark.parametrize(("status", "after"), [("queued", "canceled"), ("accepted", "accepted"), ("filled", "filled")])
def test_a_cancel_ends_only_what_was_not_sent(database: Database, put: Put, status: str, after: str) -> None:
    put(status=status)
    for _ in range(2):
        with opened(database) as batch:
            cancel(batch["o-1"])
    row = order(database)
    assert row["status"] == after
    assert (row["cancel_requested_at"] is None) == (status == "filled")
    assert kinds(database).count("cancel_requested") == (status != "filled")


@pytest.mark.parametrize("outcome", ["sending", "unknown", "accepted", "refused", "absent", "not_sent"])
def test_only_an_unsettled_replace_is_a_change_under_way(database: Database, put: Put, outcome: str) -> None:
    put(attempt={"outcome": outcome, "replaces": None})
    put("o-2", attempt={"outcome": outcome, "replaces": 1})
    with opened(database, "o-1", "o-2") as batch:
        assert not is_changing(batch["o-1"])
        assert is_changing(batch["o-2"]) == (outcome in ("sending", "unknown"))


def test_an_id_that_is_no_order_is_left_out(database: Database, put: Put) -> None:
    put()
    with opened(database, "o-1", "nobody") as batch:
        assert batch.get("nobody") is None
        assert isinstance(batch["o-1"], OrderRecord)
