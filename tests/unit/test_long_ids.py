"""Ids of brokers that no column takes: each is one and the same wherever it comes from, in SQL and in Python."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from models.clock import utcnow
from models.notify import Concern, NewsKind, NotifySettings
from models.record.columns import Name, metadata
from models.record.database import Database
from models.record.notice_rows import IncidentRow
from models.record.notices import incident_rows, put_incidents
from models.record.tables import external_orders
from models.reports import LONGEST_IDS, BrokerStatus, CommissionReport, OrderReport
from models.settings import Settings
from tests.unit.fills import D, Record, execution
from tests.unit.words import Put
from worker.notify.plan import decide_news
from worker.positions.external import External

ODD = ["e" * 200, "zero\0", "lone \ud800"]


@pytest.mark.parametrize("id_", ODD)
def test_an_execution_counts_once_and_is_taken_back_whatever_its_id_is(
    database: Database, settings: Settings, put: Put, id_: str
) -> None:
    put(status="accepted", attempt={"outcome": "accepted", "broker_order_id": "7"}, route=[])
    record = Record(database, settings)
    for _ in range(2):
        record.pushed(execution(id_, 4, 50))
    record.pushed(CommissionReport(execution_id=id_, commission=D("0.35"), currency="USD"))
    assert record.order["filled_quantity"] == 4
    (kept,) = record.rows
    assert kept["commission"] == D("0.35")
    record.pushed(execution(id_, 4, 50, busted=True))
    assert record.order["filled_quantity"] == 0


@pytest.mark.parametrize("id_", ODD)
def test_somebody_elses_order_is_followed_whatever_its_id_is(database: Database, id_: str) -> None:
    external = External(database, "tda")
    for status in (BrokerStatus.ACCEPTED, BrokerStatus.CANCELED):
        external.note([OrderReport(broker_order_id=id_, status=status, symbol="KO", quantity=D(5))])
    with database.read() as connection:
        assert connection.execute(select(external_orders.c.status)).scalars().all() == ["canceled"]


def test_what_people_are_told_of_is_told_once_however_long_its_name_is(database: Database) -> None:
    now = utcnow()
    ones = [Concern(NewsKind.WORKER_SILENT, "h" * 200 + end, now) for end in ("a", "b")]
    settings, before = NotifySettings(), list[IncidentRow]()
    for told in (1, 0):
        plan = decide_news(ones, before, {}, settings, now)
        with database.write() as connection:
            put_incidents(connection, plan.changed, plan.gone)
            before = incident_rows(connection)
        assert (len(before), len(plan.messages)) == (2, told)


def test_reports_have_ids_as_long_as_the_columns_keep_them() -> None:
    columns = {(c.name, c.type.longest) for t in metadata.sorted_tables for c in t.columns if isinstance(c.type, Name)}
    assert {(name, longest) for name, longest in columns if name in LONGEST_IDS} == {
        (name, LONGEST_IDS[name]) for name in ("execution_id", "broker_order_id", "broker_client_order_id", "symbol")
    }
    assert {LONGEST_IDS[name] for name in ("replaces", "replaced_by")} == {LONGEST_IDS["broker_order_id"]}
    assert LONGEST_IDS["part_of"] == LONGEST_IDS["broker_client_order_id"]
