"""What analysts and leaders ask again and again is answered from an index, however long the history is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from benchmarks.histories import duties, questions
from models.history import History
from models.history.blotter import Choice, Listed, blotter
from models.record import stream
from models.record.database import Database, upgrade
from models.record.evidence import unresolved
from models.record.matching import index_of
from models.record.statements import Query
from models.record.tables import LOST_INDEX, STRAY_INDEX, UNSETTLED, fills
from models.reports import BrokerStatus, OrderReport
from models.risk.names import RiskSettings
from models.settings import load_settings
from models.vocabulary import OPEN
from tests.traced import traced
from tests.unit.words import NOW
from worker.orders import plain, selection
from worker.positions.external import External
from worker.risk.report import limits_report

#: One order's parts, and the few unresolved attempts, are sorted after they were found.
_SORTED_AFTERWARDS = ("order(id), with everything", "unresolved", "attempts(outcome=)")
#: A broker is a third of everything: finding its rows is no better than reading the table.
_ALL_OF_A_BROKER = re.compile(r"SEARCH (o|a|f|orders|attempts|fills|order_events) USING .*\(broker=\?\)")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """SQLite plans by the schema alone: it has no statistics."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('flat') / 'corro.db'}")
    upgrade(database)
    return database


def _asked(database: Database, home: Path) -> dict[str, Any]:
    return questions(History(database)) | duties(load_settings(home=home), database)


NAMES = [*questions(None), *("live", "cancels", "unknown", "positions", "sweep")]  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_no_table_is_read_from_end_to_end(number: int, empty: Database, tmp_path: Path) -> None:
    name, ask = list(_asked(empty, tmp_path).items())[number]
    with traced(empty) as statements:
        ask()
    selects = [one for one in statements if one.startswith("SELECT")]
    assert selects
    for statement in selects:
        with empty.read() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
        # Without a limit an index is read from end to end as well as a table is, unless hardly anything is in it.
        small = (
            " deployment",
            " keys ",
            *(("INDEX",) if "LIMIT" in statement else (str(STRAY_INDEX.name), str(LOST_INDEX.name))),
        )
        scans = [line for line in plan if line.startswith("SCAN") and not any(word in line for word in small)]
        assert not [line for line in scans if "subquery" not in line and "CONSTANT" not in line], (name, plan)
        assert not [line for line in plan if _ALL_OF_A_BROKER.fullmatch(line)], (name, plan)
        if not name.startswith(_SORTED_AFTERWARDS) and not name.startswith("leader"):
            assert "USE TEMP B-TREE FOR ORDER BY" not in plan, (name, plan)


def test_loose_ends_are_found_among_the_orders_that_are_live(empty: Database) -> None:
    """Not among all attempts that were ever accepted: a page asks each second, and of a million they are seconds."""
    with traced(empty) as statements:
        unresolved(empty, 10.0)
    (ends,) = (one for one in statements if "reason_code" in one.partition("WHERE")[2])
    with empty.read() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {ends}")]
    assert plan[0].startswith("SEARCH orders USING INDEX ix_orders_status"), plan


def test_orders_that_no_listing_has_are_found_by_the_index_of_those(empty: Database) -> None:
    with traced(empty) as statements:
        unresolved(empty, 10.0)
    (lost,) = (one for one in statements if "missing >= 3" in one)
    with empty.read() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {lost}")]
    assert plan[0] == f"SCAN attempts USING INDEX {LOST_INDEX.name}", plan


@pytest.mark.parametrize("view", ["v_pnl", "v_positions", "v_position_days"])
def test_positions_read_no_execution_that_is_kept(view: str, empty: Database) -> None:
    """SQLite looks into the parts of all executions only where they are alike to the affinity of each column."""
    with empty.read() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN SELECT * FROM {view}")]
    assert "SEARCH f USING INTEGER PRIMARY KEY (rowid>?)" in plan, plan
    assert "SCAN f" not in plan, plan
    assert "MATERIALIZE position_executions" not in plan, plan


def test_the_use_of_limits_reads_no_execution_that_is_kept(empty: Database) -> None:
    with traced(empty) as statements, empty.read() as connection:
        assert limits_report(connection, RiskSettings(), NOW) == []
        assert not [one for one in statements if "fills" in one]
        limits_report(connection, RiskSettings(max_open_orders=3), NOW)
    (symbols,) = (one for one in statements if "position_ledgers" in one)
    with empty.read() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {symbols}")]
    assert "SCAN fills" not in plan, plan
    assert "SEARCH fills USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plan, plan


def _plan(database: Database, query: Query[Any]) -> list[str]:
    with database.read() as connection:
        compiled = query.statement.compile(dialect=connection.dialect)
        explained = f"EXPLAIN QUERY PLAN {compiled}"
        return [
            row[3] for row in connection.exec_driver_sql(explained, tuple(None for _ in compiled.positiontup or ()))
        ]


def test_a_claim_finds_its_orders_by_their_ids_alone(empty: Database) -> None:
    """An index of a column that is null for nearly all of them leads to the whole of the history."""
    for claim in (plain._MARK, selection._NAMED):
        plan = _plan(empty, claim)
        found = [line for line in plan if re.match("(SEARCH|SCAN) orders ", line)]
        assert found, plan
        assert all(line.endswith("(client_order_id=?)") for line in found), plan


def test_what_a_broker_tells_is_matched_by_its_ids_and_not_among_all_of_its_attempts(empty: Database) -> None:
    told = OrderReport(broker_order_id="B-1", status=BrokerStatus.ACCEPTED, broker_client_order_id="o-1")
    reports = [told, replace(told, broker_order_id="B-2", broker_client_order_id=None)]
    with traced(empty) as statements, empty.read() as connection:
        index_of(connection, "alpaca", reports)
        External(empty, "alpaca")._sort(connection, reports)
    matching = [one for one in statements if "broker_client_order_id IN" in one]
    assert len(matching) == 2
    for statement in matching:
        with empty.read() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
        found = [line for line in plan if line.startswith("SEARCH attempts")]
        assert [re.sub(".*\\(", "", line) for line in found] == [
            "broker=? AND broker_client_order_id=?)", "broker=? AND broker_order_id=?)"
        ], plan  # fmt: skip


def test_what_is_not_settled_is_found_by_the_index_of_that(empty: Database) -> None:
    query = select(fills.c.id).where(fills.c.broker == "alpaca", UNSETTLED)
    assert _plan(empty, Query(query)) == ["SEARCH fills USING INDEX ix_fills_unsettled (broker=?)"]


@pytest.mark.parametrize("of_one_strategy", [False, True])
def test_events_are_found_by_their_own_ids(of_one_strategy: bool, empty: Database) -> None:
    plan = _plan(empty, stream._NEXT[of_one_strategy])
    assert plan[0] == "SEARCH order_events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)", plan


CHOICES = {
    "newest": Choice(), "one status": Choice(statuses=("filled",)), "ended": Choice(statuses=("rejected", "denied")),
    "strategy": Choice(strategy="dip"), "symbol": Choice(symbol="KO"), "broker": Choice(broker="tda"),
    "open": Choice(statuses=tuple(map(str, OPEN)), broker="tda"), "text": Choice(text="o-1", since=NOW),
    "behind": Choice(before=Listed(NOW, "o-1")),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_a_page_of_orders_is_found_by_an_index(name: str, empty: Database) -> None:
    with traced(empty) as statements:
        blotter(empty, CHOICES[name], ["ibkr", "tda"])
    for statement in (one for one in statements if one.startswith("SELECT")):
        with empty.read() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [line for line in plan if line.startswith("SCAN") and "INDEX" not in line], (name, plan)
        assert not [line for line in plan if _ALL_OF_A_BROKER.fullmatch(line)], (name, plan)
