"""The history: what an analyst gets, empty or full, exact and with its types."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, Boolean, Integer, Table

from models import history
from models.errors import InvalidRequest
from models.history import (
    History,
    frame_of,
    order_events,
    to_json,
    v_attempts,
    v_external_fills,
    v_external_orders,
    v_fills,
    v_latency,
    v_orders,
)
from models.record.batch import OrderBatch
from models.record.columns import Money, UtcTime
from models.record.database import Database
from models.record.tables import control_events
from models.reports import FillReport
from models.settings import Settings
from tests.unit.words import Put

D = Decimal
VIEWS: list[Table] = [v_orders, v_fills, v_attempts, v_latency, order_events]
T = datetime.fromisoformat("2026-01-05T14:30:00+00:00")


@pytest.fixture
def past(database: Database) -> History:
    return History(database)


def trade(database: Database, client_order_id: str, *parts: tuple[str, str], at: datetime = T) -> None:
    with database.write() as connection:
        batch = OrderBatch.open(connection, [client_order_id], at + timedelta(seconds=2))
        for number, (quantity, price) in enumerate(parts):
            report = FillReport(
                execution_id=f"{client_order_id}-{number}", quantity=D(quantity), price=D(price), filled_at=at
            )
            batch[client_order_id].fill(1, report)
        batch.write()


# -- ROWS ---
def test_newest_first_and_filtered(past: History, put: Put) -> None:
    put("a", created_at=T, symbol="AAPL", strategy="x")
    put("b", created_at=T + timedelta(minutes=1), symbol="MSFT", status="filled")
    put("c", created_at=T + timedelta(minutes=2), symbol="AAPL", broker="tda")

    def ids(**filters: Any) -> list[str]:
        return [row["client_order_id"] for row in past.rows(v_orders, **filters)]

    assert ids() == ["c", "b", "a"]
    assert ids(newest_first=False) == ["a", "b", "c"]
    assert ids(symbol="AAPL") == ["c", "a"]
    assert ids(symbol=["AAPL", "MSFT"], status="filled") == ["b"]
    assert ids(strategy="x") == ["a"]
    assert ids(broker="tda") == ["c"]
    assert ids(limit=2) == ["c", "b"]
    assert ids(symbol=None) == ["c", "b", "a"]
    assert ids(since=T + timedelta(minutes=1)) == ["c", "b"], "since is inclusive"
    assert ids(until=T + timedelta(minutes=1)) == ["a"], "until is exclusive"
    assert ids(symbol="'; DROP TABLE orders; --") == []


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_filter_that_a_view_does_not_have_is_named(past: History, view: Table) -> None:
    with pytest.raises(ValueError, match="colour"):
        past.rows(view, colour="red")


def test_a_naive_time_is_refused(past: History) -> None:
    with pytest.raises(Exception, match="needs a zone"):
        past.rows(v_orders, since=T.replace(tzinfo=None))


@pytest.mark.parametrize("when", [T.isoformat(), T.strftime("%Y-%m-%dT%H:%M:%S"), T.date().isoformat(), T.date()])
def test_a_time_may_be_a_text_or_a_date(past: History, put: Put, when: Any) -> None:
    put("a", created_at=T)
    put("old", created_at=T - timedelta(days=2))
    assert [row["client_order_id"] for row in past.rows(v_orders, since=when)] == ["a"]
    assert [row["client_order_id"] for row in past.rows(v_orders, until=when)] == ["old"]


@pytest.mark.parametrize("view", [v_orders, v_fills])
def test_a_time_that_ends_before_it_begins_is_refused_and_not_empty(past: History, view: Table) -> None:
    with pytest.raises(InvalidRequest, match="later than until"):
        past.rows(view, since="2026-02-01", until="2026-01-01")
    with pytest.raises(InvalidRequest, match="later than until"):
        past.count(view, since="2026-02-01", until="2026-01-01")


def test_one_order_comes_with_everything_that_happened(past: History, database: Database, put: Put) -> None:
    put("a", status="accepted")
    trade(database, "a", ("4", "100"), ("6", "101"))
    found = past.order("a")
    assert found is not None
    assert found["status"] == "filled"
    assert found["attempt_count"] == 1
    assert [row["attempt_no"] for row in found["attempts"]] == [1]
    assert [row["quantity"] for row in found["fills"]] == [4, 6]
    assert [row["kind"] for row in found["events"]] == ["filled", "filled"]
    assert past.order("nobody") is None


# -- EXACT NUMBERS ---
@pytest.mark.parametrize(
    ("quantity", "filled", "price"),
    [("0.3", "0.1", "3"), ("1.1", "0.2", "0.1"), ("10", "3", "33.33"), ("7", "7", "0.07")],
)
def test_what_a_view_reckons_is_exact(
    past: History, database: Database, put: Put, quantity: str, filled: str, price: str
) -> None:
    """SQLite reckons in floats; an analyst must not read 0.19999999999999998 shares."""
    put("a", quantity=D(quantity), status="accepted")
    trade(database, "a", (filled, price))
    (row,) = past.rows(v_orders)
    (fill,) = past.rows(v_fills)
    assert row["remaining_quantity"] == D(quantity) - D(filled)
    assert row["filled_notional"] == D(filled) * D(price)
    assert fill["notional"] == D(filled) * D(price)


def test_latencies_are_milliseconds(past: History, database: Database, put: Put) -> None:
    attempt = {"started_at": T + timedelta(seconds=1), "ended_at": T + timedelta(seconds=1.5), "outcome": "accepted"}
    put("a", created_at=T, status="accepted", accepted_at=T + timedelta(seconds=1.5), attempt=attempt)
    trade(database, "a", ("10", "1"))
    (row,) = past.rows(v_latency)
    assert [row[n] for n in ("queue_ms", "send_ms", "accept_ms", "fill_ms")] == [1000, 500, 1500, 2000]


def test_what_has_not_happened_has_no_latency(past: History, put: Put) -> None:
    put("a", status="queued", attempt_no=0)
    (row,) = past.rows(v_latency)
    assert [row[n] for n in ("queue_ms", "send_ms", "accept_ms", "fill_ms")] == [None] * 4


# -- FRAMES ---
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_an_empty_frame_has_the_columns_and_types_of_a_full_one(
    past: History, database: Database, put: Put, view: Table
) -> None:
    empty = past.frame(view)
    put("a", status="accepted")
    trade(database, "a", ("4", "100"))
    full = past.frame(view)
    assert len(empty) == 0
    assert len(full) == 1
    assert list(empty.columns) == list(full.columns) == [column.name for column in view.c]
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert past.frame(view, floats=True).dtypes.to_dict() == past.frame(view, floats=True, limit=0).dtypes.to_dict()


#: A value that a column of each type may hold.
_SOME: dict[type, st.SearchStrategy[Any]] = {
    UtcTime: st.timedeltas(timedelta(-15000), timedelta(60000)).map(lambda age: T + age),
    Money: st.decimals(-(10**9), 10**9, places=4),
    Boolean: st.booleans(),
    Integer: st.integers(-(2**31), 2**31 - 1),
    JSON: st.just({"a": [1]}),
}


@given(
    data=st.data(),
    view=st.sampled_from([*VIEWS, v_external_orders, v_external_fills, control_events]),
    floats=st.booleans(),
)
def test_a_frame_has_the_dtypes_of_its_view_whatever_its_rows_hold(
    data: st.DataObject, view: Table, floats: bool
) -> None:
    """Also where a column is empty in every row, or in the first one."""
    text = st.text(max_size=5)
    strategies = {c.name: next((s for kind, s in _SOME.items() if isinstance(c.type, kind)), text) for c in view.c}
    rows = data.draw(st.lists(st.fixed_dictionaries({n: st.none() | s for n, s in strategies.items()}), max_size=3))
    frame = frame_of(view, rows, floats=floats)
    assert frame.dtypes.to_dict() == frame_of(view, [], floats=floats).dtypes.to_dict()
    assert list(frame.columns) == [c.name for c in view.c]
    assert len(frame) == len(rows)


def test_numbers_are_decimals_or_on_request_floats(past: History, database: Database, put: Put) -> None:
    put("a", quantity=D("0.3"), status="accepted")
    trade(database, "a", ("0.1", "99.99"))
    exact, floats = past.frame(v_orders), past.frame(v_orders, floats=True)
    assert type(exact["quantity"][0]) is Decimal
    assert exact["quantity"][0] == D("0.3")
    assert exact["avg_fill_price"][0] == D("99.99")
    assert str(floats["quantity"].dtype) == str(floats["limit_price"].dtype) == "float64"
    assert floats["quantity"][0] == 0.3


def test_the_functions_read_the_database_of_the_settings(
    settings: Settings, database: Database, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRO_HOME", str(settings.home))
    put("a", created_at=T)
    assert list(history.orders()["client_order_id"]) == ["a"]
    assert list(history.attempts()["attempt_no"]) == [1]
    assert len(history.fills()) == len(history.events()) == 0
    assert len(history.latency(since=T)) == 1


# -- JSON ---
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (D("10.00"), "10"), (D("1E+3"), "1000"), (D("0.10"), "0.1"), (D("0E-9"), "0"), (D("1E-9"), "0.000000001"),
        (D("-0.5"), "-0.5"), (T, "2026-01-05T14:30:00Z"), (None, None), (True, True), (7, 7), ("x", "x"),
        ({"a": [D(1), {"b": (D("2.50"),)}]}, {"a": ["1", {"b": ["2.5"]}]}),
    ],
)  # fmt: skip
def test_json_has_decimal_strings_and_utc_times(value: Any, expected: Any) -> None:
    assert to_json(value) == expected
    json.dumps(to_json(value))
