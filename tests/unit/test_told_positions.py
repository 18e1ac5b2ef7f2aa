"""Positions as brokers told them last: a broker that nobody has read is named, and never shown as holding nothing."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import cast

import pytest

from models.record.rows import PositionRow, WorkerRow
from tests.unit.words import NOW
from worker.positions.told import with_the_unknown

GOOD_FOR = timedelta(seconds=135)


def held(broker: str, ago_s: float) -> PositionRow:
    return {
        "broker": broker, "symbol": "KO", "quantity": Decimal(5), "avg_price": None, "market_value": None,
        "unrealized_pnl": None, "account_id": None, "currency": None, "taken_at": NOW - timedelta(seconds=ago_s),
    }  # fmt: skip


def worker(read_s: float | None, heard_s: float = 0, state: str = "ready", detail: str | None = None) -> WorkerRow:
    read = None if read_s is None else NOW - timedelta(seconds=read_s)
    row = {"broker": "ibkr", "heartbeat_at": NOW - timedelta(seconds=heard_s), "state": state, "detail": detail}
    return cast("WorkerRow", row | {"positions_at": read})


@pytest.mark.parametrize(
    ("rows", "workers", "told"),
    [
        ([], [], [(None, "not known: never read; no worker of ibkr has been seen")]),
        ([], [worker(None, detail="ibkr: 127.0.0.1:7497: connection refused", state="disconnected")],
         [(None, "not known: never read; its worker is disconnected: ibkr: 127.0.0.1:7497: connection refused")]),
        ([], [worker(30)], []),
        ([], [worker(600, 600)], [(None, "not known since 2026-01-05 14:20:00 UTC; its worker is silent")]),
        ([held("ibkr", 30)], [worker(30)], [("KO", None)]),
        ([held("ibkr", 600)], [worker(600, state="stopped")],
         [("KO", "not known since 2026-01-05 14:20:00 UTC; its worker is stopped")]),
        ([held("ibkr", 600)], [worker(600, 600), worker(30)], [("KO", None)]),
    ],
)  # fmt: skip
def test_a_broker_is_silent_or_holds_nothing_and_the_two_are_told_apart(
    rows: list[PositionRow], workers: list[WorkerRow], told: list[tuple[str | None, str | None]]
) -> None:
    found = with_the_unknown(rows, workers, ["ibkr"], NOW, GOOD_FOR)
    assert [(row["symbol"], row["error"]) for row in found] == told
    assert all(row["quantity"] is None for row in found if row["symbol"] is None)


def test_what_a_broker_or_an_account_held_that_is_not_configured_any_more_is_not_known() -> None:
    rows = [held("oldbroker", 600), held("ibkr:ira", 30), held("ibkr:gone", 600)]
    found = with_the_unknown(rows, [worker(30)], ["ibkr:ira", "ibkr:main"], NOW, GOOD_FOR)
    since = "not known since 2026-01-05 14:20:00 UTC"
    assert {str(row["broker"]): row["error"] for row in found} == {
        "ibkr:ira": None,
        "oldbroker": f"{since}; oldbroker is not configured",
        "ibkr:gone": f"{since}; ibkr:gone is not configured",
    }
