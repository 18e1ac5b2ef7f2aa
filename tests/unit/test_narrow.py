"""Tables of long names in a narrow terminal: each row shows what was traded, and its id is taken as it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from rich.cells import cell_len
from sqlalchemy import insert

from models.record.database import Database
from models.record.tables import order_groups
from producers.cli.earnings import _TCA_COLUMNS
from producers.cli.layout import layout, short_ids
from producers.cli.lists import _FILL_COLUMNS, ORDER_COLUMNS
from tests.unit.words import Put, Run
from worker.risk.report import COLUMNS as LIMIT_COLUMNS

NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
#: Ids that begin alike for longer than a terminal is wide.
ALIKE = [f"{'rebalance-2026-11-30-of-the-whole-portfolio-at-the-close-':x<61}{n:03d}" for n in (1, 2, 12)]


def shown(rows: Sequence[dict[str, Any]], names: Sequence[str], width: int) -> list[str]:
    fitted = layout(rows, names, width)
    assert sum(column.width for column in fitted.columns) + 2 * (len(fitted.columns) - 1) <= width
    return [column.name for column in fitted.columns]


def row(id_: str, **more: Any) -> dict[str, Any]:
    return {
        "client_order_id": id_, "created_at": NOW, "filled_at": NOW, "strategy": "\u6226\u7565-" * 20, "side": "buy",
        "quantity": Decimal(10), "symbol": "AAPL261218C00200000", "order_type": "limit", "status": "accepted",
        "broker": "alpaca", "account": "a-very-long-account-name", "filled_quantity": Decimal(5),
        "price": Decimal("1.25"), **more,
    }  # fmt: skip


@pytest.mark.parametrize(("width", "those"), [(60, {"side", "quantity"}), (80, {"side", "quantity", "broker"})])
def test_long_ids_and_names_leave_room_for_what_is_ordered(width: int, those: set[str]) -> None:
    rows = [row(id_) for id_ in ALIKE]
    assert those <= set(shown(rows, ORDER_COLUMNS, width))
    assert those <= set(shown(rows, _FILL_COLUMNS, width))
    assert {"side", "quantity"} <= set(shown(rows, _TCA_COLUMNS, width))


EARNED = ("strategy", "symbol", "currency", "realized", "unrealized", "fees", "fees_missing", "rate")


@pytest.mark.parametrize("width", [60, 80])
def test_what_tells_lines_of_profit_apart_stays_and_so_do_several_currencies(width: int) -> None:
    def earned(strategy: str, currency: str) -> dict[str, Any]:
        amounts = dict.fromkeys(EARNED[3:], Decimal("-123456.123456"))
        return {"strategy": strategy, "symbol": "AAPL261218C00200000", "currency": currency, **amounts}

    def told(*rows: dict[str, Any]) -> set[str]:
        fitted = layout(rows, EARNED, width, keys=EARNED[:2])
        assert sum(column.width for column in fitted.columns) + 2 * (len(fitted.columns) - 1) <= width
        return {column.name for column in fitted.columns}

    assert told(earned("dip", "USD"), earned("mom", "USD")) >= {"strategy", "symbol", "realized"}
    assert told(earned("dip", "USD"), earned("mom", "CAD")) >= {"strategy", "symbol", "currency", "realized"}
    assert "strategy" not in told(earned("dip", "USD"), earned("dip", "USD")) or width == 80


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_list_of_what_executions_cost_shows_what_they_cost(width: int) -> None:
    cost = dict.fromkeys(("slippage_decision", "slippage_arrival", "slippage_vwap"), Decimal("12.5"))
    points = {f"{name}_bps": Decimal("4.3478") for name in cost}
    prices = dict.fromkeys(("decision_price", "arrival_mid", "interval_vwap"), Decimal("230.08"))
    rows = [row(f"dip-{n}", strategy="dip", symbol="KO", currency="USD", **cost, **points, **prices) for n in (1, 2)]
    wanted = {60: ["slippage_decision", "slippage_arrival"], 80: list(cost), 140: [*cost, *points]}
    assert set(wanted[width]) <= set(shown(rows, _TCA_COLUMNS, width))


@pytest.mark.parametrize("width", [60, 80])
def test_a_limit_of_a_long_name_shows_its_name_and_value(width: int) -> None:
    limit = {"scope_kind": "strategy+symbol", "scope": "\u6226\u7565-" * 20 + ":KO", "name": "orders_per_minute",
             "value": Decimal(5), "used": Decimal(1), "left": Decimal(4), "set_by": "ann"}  # fmt: skip
    assert {"scope_kind", "scope", "name", "value"} <= set(shown([limit], LIMIT_COLUMNS, width))


def test_ids_that_begin_alike_for_long_keep_start_and_end_and_differ() -> None:
    short = short_ids([*ALIKE, "bracket-with-a-rather-long-id-000001", "bracket-with-a-rather-long-id-000001.tp"])
    assert len(set(short)) == 5
    assert max(map(cell_len, short)) <= 26
    for whole, cut in zip(ALIKE, short, strict=False):
        start, _, end = cut.partition("\u2026")
        assert (whole.startswith(start), whole.endswith(end), bool(end)) == (True, True, True)


def test_commands_take_an_id_as_the_tables_cut_it(corro: Run, put: Put) -> None:
    for id_ in ALIKE:
        put(id_, attempt_no=0, status="queued")
    for id_, cut in zip(ALIKE, short_ids(ALIKE), strict=True):
        assert json.loads(corro("order", cut, "--json")[1])["client_order_id"] == id_
    assert json.loads(corro("cancel", short_ids(ALIKE)[1], "--json")[1])["client_order_id"] == ALIKE[1]
    status, _, err = corro("cancel", f"{ALIKE[0][:16]}\u20262")
    assert (status, "several orders have an id that begins with" in err, "ends with '2'" in err) == (2, True, True)
    assert corro("cancel", f"{ALIKE[0][:16]}\u20269")[0] == 1


@pytest.mark.parametrize("given", ["REBALANCE-A…", "Rebalance-a-1…", "rebalance-a…-Buy", "rebal…lance-a-1-buy"])
def test_a_cut_id_means_no_order_that_differs_in_a_letter(corro: Run, put: Put, given: str) -> None:
    """SQLite's LIKE takes large letters for small ones; the sign stands for one letter at least."""
    put("rebalance-a-1-buy", attempt_no=0, status="queued")
    assert corro("cancel", given)[0] == 1
    assert json.loads(corro("order", "rebalance-a-1-buy", "--json")[1])["status"] == "queued"
    assert json.loads(corro("cancel", "rebalance-a…-buy", "--json")[1])["status"] == "canceled"


def test_a_group_is_settled_under_its_id_as_the_tables_cut_it(corro: Run, database: Database) -> None:
    orphan = {"kind": "oto", "status": "queued", "created_at": NOW, "updated_at": NOW}
    with database.write() as connection:
        for id_ in ALIKE:
            connection.execute(insert(order_groups).values(group_id=id_, **orphan))
    status, out, err = corro("settle", short_ids(ALIKE)[2], "--by", "ana", "--reason", "no legs", "--json")
    assert status == 0, err
    assert (json.loads(out)["group_id"], json.loads(out)["status"]) == (ALIKE[2], "closed")
    status, _, err = corro("settle", "nothing-like-it", "--by", "ana", "--reason", "no legs")
    assert (status, "no group has the group_id 'nothing-like-it'" in err) == (1, True)
