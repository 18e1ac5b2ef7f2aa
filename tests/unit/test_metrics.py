"""`/metrics`: every name of the table in every scrape, counters that count entries and never become smaller."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import delete, insert, select

from models.record import tally
from models.record.database import Database
from models.record.tables import attempts, halts, order_events, orders, position_locks, workers
from models.settings import Settings, load_settings
from producers.bell import connect
from tests.order_steps import OrderSteps
from worker.messaging.dead_letters import DeadLetters
from worker.messaging.embedded_queue import EmbeddedQueue
from worker.page.metrics import METRICS, Metrics, used_ratios
from worker.risk.report import limits_report
from worker.runtime.clock import utcnow

Scrape = Callable[[], dict[str, dict[tuple[str, ...], float]]]


@pytest.fixture
def metrics(settings: Settings, database: Database) -> Metrics:
    return Metrics(settings, database)


@pytest.fixture
def scrape(metrics: Metrics) -> Scrape:
    def read() -> dict[str, dict[tuple[str, ...], float]]:
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(metrics.text().decode()):
            found.setdefault(family.name, {})
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    return read


@pytest.fixture
def story(database: Database) -> OrderSteps:
    told = OrderSteps(database)
    told.one_falls_back_and_one_is_canceled()
    return told


def test_every_metric_of_the_table_is_in_a_scrape_of_an_empty_database_and_no_other(scrape: Scrape) -> None:
    found = {name for name in scrape() if not name.endswith(("_total", "_bucket", "_sum", "_count"))}
    assert found == set(METRICS)


def test_counters_count_entries_once_for_each_order_and_status(story: OrderSteps, scrape: Scrape) -> None:
    counted = scrape()
    assert counted["corro_orders_total"] == {
        ("ibkr", "queued"): 2, ("ibkr", "submitted"): 2, ("ibkr", "canceled"): 1,
        ("alpaca", "partially_filled"): 1, ("alpaca", "filled"): 1,
    }  # fmt: skip
    assert counted["corro_attempts_total"] == {
        ("ibkr", "sending"): 2, ("ibkr", "refused"): 1, ("ibkr", "accepted"): 1,
        ("alpaca", "sending"): 1, ("alpaca", "accepted"): 1,
    }  # fmt: skip
    assert counted["corro_fallbacks_total"] == {("ibkr", "alpaca"): 1}


def test_a_cancel_after_a_send_in_vain_is_no_acceptance(database: Database, scrape: Scrape) -> None:
    told = OrderSteps(database)
    told.order("o-1", ["ibkr"])
    told.attempt("o-1", 1, "ibkr", outcome="not_sent")
    told.event("o-1", "not_sent", "submitted", "submitted")
    told.event("o-1", "canceled", "submitted", "canceled", later=0)
    assert scrape()["corro_attempts_total"] == {("ibkr", "sending"): 1, ("ibkr", "not_sent"): 1}


def test_how_long_the_first_send_took_is_a_histogram(story: OrderSteps, scrape: Scrape) -> None:
    found = scrape()
    buckets = found["corro_submit_to_broker_seconds_bucket"]
    assert len(buckets) == len(tally.BUCKETS) + 1
    assert buckets["+Inf",] == found["corro_submit_to_broker_seconds_count"][()] == 2
    assert (buckets["0.1",], buckets["0.25",]) == (1, 2)
    assert found["corro_submit_to_broker_seconds_sum"][()] == pytest.approx(0.203, abs=0.01)


def test_counting_goes_on_where_it_stopped_and_survives_the_rows(story: OrderSteps, scrape: Scrape) -> None:
    before = scrape()["corro_orders_total"]
    assert scrape()["corro_orders_total"] == before
    with story.database.write() as connection:  # as an archive does
        for table in (order_events, attempts, orders):
            connection.execute(delete(table).where(table.c.client_order_id == "o-1"))
    story.order("o-3", ["ibkr"])
    assert scrape()["corro_orders_total"] == before | {("ibkr", "queued"): 3}


def test_many_parts_are_counted_as_one(story: OrderSteps, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_PART", 2)
    first = tally.count_on(database, budget_s=0)
    assert first.upto == 2
    whole = tally.count_on(database)
    with database.read() as connection:
        assert whole.upto == connection.execute(select(order_events.c.id).order_by(order_events.c.id.desc())).scalar()
    assert sum(whole.of("orders").values()) == 7


def test_gauges_stand_at_nothing_for_every_configured_broker(scrape: Scrape) -> None:
    found = scrape()
    brokers = {("ibkr",), ("alpaca",), ("tda",)}
    for name in ("corro_broker_connected", "corro_oldest_queued_seconds", "corro_unresolved", "corro_position_locks"):
        assert found[name] == dict.fromkeys(brokers, 0.0), name
    assert {broker for broker, _ in found["corro_open_orders"]} == {"ibkr", "alpaca", "tda"}
    assert set(found["corro_controls"].values()) == {0.0}
    assert found["corro_controls"]["*", "halted"] == found["corro_controls"]["broker:tda", "reducing"] == 0


def test_gauges_say_how_things_stand(database: Database, scrape: Scrape) -> None:
    told, now = OrderSteps(database), utcnow()
    told.order("o-1", ["ibkr"], created_ago=30)
    told.order("o-2", ["alpaca"], created_ago=90, status="submitted")
    told.attempt("o-2", 1, "alpaca", outcome="unknown", started_at=now - timedelta(seconds=80))
    row = {"host": "h", "boot": "b", "pid": 7, "state": "ready", "started_at": now, "heartbeat_at": now}
    with database.write() as connection:
        for name, changes in {
            "ibkr": {},
            "alpaca": {"detail": "cannot read orders (last read 12:00:00Z): HTTP 500"},
            "tda": {"heartbeat_at": now - timedelta(seconds=40)},
        }.items():
            connection.execute(insert(workers).values(**row | {"worker": f"{name}@h:7.ab", "broker": name} | changes))
        connection.execute(insert(halts).values(scope="alpaca", kind="halt", reason="x", by="y", at=now))
        lock = {"expected": 0, "found": 5, "since": now, "read_at": now}
        connection.execute(insert(position_locks).values(broker="ibkr", symbol="KO", **lock))
    found = scrape()
    assert found["corro_broker_connected"] == {("ibkr",): 1, ("alpaca",): 0, ("tda",): 0}
    assert found["corro_open_orders"]["ibkr", "queued"] == found["corro_open_orders"]["alpaca", "submitted"] == 1
    assert found["corro_oldest_queued_seconds"]["ibkr",] == pytest.approx(30, abs=5)
    assert found["corro_unresolved"]["alpaca",] == 1
    assert found["corro_oldest_unresolved_seconds"][()] == pytest.approx(80, abs=5)
    assert found["corro_worker_heartbeat_age_seconds"]["tda@h",] == pytest.approx(40, abs=5)
    assert found["corro_controls"]["broker:alpaca", "halted"] == 1
    assert found["corro_position_locks"]["ibkr",] == 1


def test_the_used_share_of_limits_is_told_by_scope(
    database: Database, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRO_RISK__MAX_OPEN_ORDERS", "4")
    monkeypatch.setenv("CORRO_RISK__MAX_QUANTITY", "100")
    rows = limits_report_of(load_settings(home=bare), database)
    assert used_ratios(rows) == {("*", "max_open_orders"): 0.0}
    assert used_ratios([row | {"used": Decimal(3)} for row in rows if row["name"] == "max_open_orders"]) == {
        ("*", "max_open_orders"): 0.75
    }
    strategy = {"scope_kind": "strategy", "scope": "dip", "name": "max_day_loss", "value": "200", "used": Decimal(50)}
    assert used_ratios([strategy]) == {("strategy:dip", "max_day_loss"): 0.25}


def limits_report_of(settings: Settings, database: Database) -> list[dict[str, object]]:
    with database.read() as connection:
        return limits_report(connection, settings.risk, utcnow())


def test_without_a_database_a_scrape_is_answered_and_says_so(metrics: Metrics, scrape: Scrape, bare: Path) -> None:
    metrics.database.close()
    (bare / "corro.db").rename(bare / "away")
    (bare / "corro.db").mkdir()
    found = scrape()
    assert (found["corro_database_up"], found["corro_queue_up"]) == ({(): 0.0}, {(): 0.0})
    (bare / "corro.db").rmdir()
    (bare / "away").rename(bare / "corro.db")
    assert scrape()["corro_database_up"] == {(): 1.0}


def test_dead_letters_are_counted_on_when_the_queue_has_lost_its_data(settings: Settings, scrape: Scrape) -> None:
    server = EmbeddedQueue(settings)
    server.acquire()
    try:
        with closing(DeadLetters.of(settings)) as letters:
            for put, total in ((2, 2), (1, 3), (0, 3), (1, 4)):
                for _ in range(put):
                    letters.put("orders.ibkr", b"{}", "time", "eta is no time")
                found = scrape()
                assert found["corro_queue_up"] == {(): 1}
                assert found["corro_dead_letters_total"] == {("time",): total}
                assert found["corro_dead_letters_waiting"]["time",] == letters.size()
                if total == 3 and not put:
                    letters.drop(None)
                    with connect(settings, connect_s=1, answer_s=1) as client:
                        client.flushall()
    finally:
        server.release()
    assert scrape()["corro_dead_letters_total"] == {("time",): 4}
