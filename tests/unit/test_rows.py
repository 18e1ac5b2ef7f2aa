"""The rows' types say the same as the tables: names, Python types, what may be null."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from sqlalchemy import JSON, Column, Table
from sqlalchemy.types import TypeDecorator

from models.record import (
    archive_rows,
    balance_rows,
    changes,
    control_rows,
    group_rows,
    history_rows,
    instruments,
    key_rows,
    notice_rows,
    risk_rows,
    rows,
)
from models.record.tables import metadata

ROWS = {
    "orders": rows.OrderRow,
    "order_groups": group_rows.GroupRow,
    "keys": key_rows.KeyRow,
    "attempts": rows.AttemptRow,
    "fills": rows.FillRow,
    "order_events": rows.OrderEventRow,
    "fetches": rows.FetchRow,
    "bars": rows.BarRow,
    "account_snapshots": rows.AccountRow,
    "position_snapshots": rows.PositionRow,
    "workers": rows.WorkerRow,
    "leases": rows.LeaseRow,
    "controls": control_rows.ControlTableRow,
    "halts": control_rows.HaltRow,
    "control_events": control_rows.ControlEventRow,
    "tallies": rows.TallyRow,
    "journal_chain": key_rows.ChainRow,
    "deployment": key_rows.DeploymentRow,
    "risk_limits": risk_rows.RiskLimitRow,
    "risk_tallies": risk_rows.RiskTallyRow,
    "reference_prices": risk_rows.ReferencePriceRow,
    "external_orders": rows.ExternalOrderRow,
    "external_fills": rows.ExternalFillRow,
    "position_ledgers": rows.PositionLedgerRow,
    "position_baselines": rows.PositionBaselineRow,
    "position_locks": rows.PositionLockRow,
    "position_events": history_rows.PositionEventRow,
    "incidents": notice_rows.IncidentRow,
    "notifications": notice_rows.NotificationRow,
    "position_days": balance_rows.PositionDayRow,
    "position_states": balance_rows.PositionStateRow,
    "position_lots": balance_rows.PositionLotRow,
    "position_progress": balance_rows.PositionProgressRow,
    "position_changes": balance_rows.PositionChangeRow,
    "account_history": history_rows.AccountHistoryRow,
    "instruments": instruments.InstrumentRow,
    "archives": archive_rows.ArchiveRow,
    "archived_orders": archive_rows.ArchivedOrderRow,
    "archived_fills": archive_rows.ArchivedFillRow,
    "cash_events": history_rows.CashEventRow,
    "told_executions": history_rows.ToldExecutionRow,
    "position_history": history_rows.PositionHistoryRow,
}
#: Terms that an order has if its message could be read.
GIVEN = {"symbol", "side", "order_type", "time_in_force", "route", "broker"}


def is_the_databases(column: Column[Any]) -> bool:
    """The database fills it in: a row that was not inserted yet lacks it."""
    return column.primary_key and column.autoincrement is True


def hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def as_typed(column: Column[Any]) -> Any:
    type_ = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    python = type_.python_type
    hint = python | None if column.nullable else python
    return NotRequired[hint] if is_the_databases(column) else hint


def is_json(hint: Any, nullable: bool) -> bool:
    if hint is Any:  # the answer to a request for data: any JSON
        return nullable
    parts = get_args(hint) if get_origin(hint) not in (list, dict) else (hint,)
    kinds = {get_origin(part) for part in parts if part is not type(None)}
    return bool(kinds) and kinds <= {list, dict} and nullable == (type(None) in parts)


def differences(table: Table, kind: type) -> Iterator[str]:
    typed = hints(kind)
    if set(typed) != {c.name for c in table.columns}:
        yield f"columns {sorted(set(typed) ^ {c.name for c in table.columns})}"
        return
    for column in table.columns:
        hint = typed[column.name]
        right = is_json(hint, bool(column.nullable)) if isinstance(column.type, JSON) else hint == as_typed(column)
        if not right:
            yield f"{column.name}: {hint}"


def test_every_table_has_a_type_for_its_rows() -> None:
    assert set(ROWS) == set(metadata.tables)
    typed = {kind for kind in vars(rows).values() if is_typeddict(kind) and not kind.__name__.startswith("_")}
    assert typed - {rows.TypedDict} - set(ROWS.values()) == {rows.ReadableOrder, rows.NewOrder}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_typed_as_their_tables_are(name: str) -> None:
    assert list(differences(metadata.tables[name], ROWS[name])) == []


def test_an_order_that_could_be_read_has_its_terms() -> None:
    table, readable = hints(rows.OrderRow), hints(rows.ReadableOrder)
    assert {name for name in table if table[name] != readable[name]} == GIVEN
    assert all(readable[name] | None == table[name] for name in GIVEN)


@pytest.mark.parametrize(
    ("changing", "row"),
    [
        (changes.OrderChanges, rows.ReadableOrder),
        (changes.AttemptChanges, rows.AttemptRow),
        (changes.FetchChanges, rows.FetchRow),
    ],
)
def test_changes_are_typed_as_their_rows_are(changing: type, row: type) -> None:
    assert hints(changing) == {name: hint for name, hint in hints(row).items() if get_origin(hint) is not NotRequired}
    assert not changing.__required_keys__  # type: ignore[attr-defined]


def test_of_an_execution_what_it_traded_for_changes_and_nothing_that_says_whose_it_is() -> None:
    changing, row = hints(changes.FillChanges), hints(rows.FillRow)
    assert {name: row[name] for name in changing} == changing
    assert changing.keys().isdisjoint({"broker", "execution_id", "client_order_id", "attempt_no", "symbol", "strategy"})
