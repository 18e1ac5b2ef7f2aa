"""The lists of the command line: which rows they have, under which filters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from models.history import v_attempts
from models.record.database import Database
from models.record.tables import attempts
from models.settings import Settings
from producers.cli.layout import layout, with_account
from producers.cli.lists import ORDER_COLUMNS
from tests.unit.words import NOW, Run


@pytest.fixture
def tries(put: Callable[..., None], database: Database) -> None:
    """Two orders: one that a broker refused and the next one took, one of which nobody knows."""
    put("a-1", broker="alpaca", attempt_no=2, strategy="s-1", attempt={"broker": "ibkr", "attempt_no": 1,
        "outcome": "refused", "code": "201", "message": "insufficient buying power"})  # fmt: skip
    put("b-1", symbol="KO", broker="tda", attempt={"outcome": "unknown", "started_at": NOW + timedelta(hours=1)})
    second = {
        "client_order_id": "a-1", "attempt_no": 2, "broker": "alpaca", "broker_client_order_id": "a-1~2",
        "outcome": "accepted", "worker": "w", "started_at": NOW + timedelta(seconds=1), "lease_until": NOW,
        "broker_order_id": "f-1",
    }  # fmt: skip
    with database.write() as connection:
        connection.execute(insert(attempts).values(**second))


@pytest.mark.usefixtures("tries")
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), ["b-1 1", "a-1 2", "a-1 1"]), (("--outcome", "refused,unknown"), ["b-1 1", "a-1 1"]),
        (("--broker", "ibkr"), ["a-1 1"]), (("--symbol", "ko"), ["b-1 1"]), (("--strategy", "s-1"), ["a-1 2", "a-1 1"]),
        (("--since", "2026-01-05T15:00"), ["b-1 1"]), (("--until", "2026-01-05T15:00"), ["a-1 2", "a-1 1"]),
        (("--limit", "1"), ["b-1 1"]),
    ],
    ids=str,
)  # fmt: skip
def test_attempts_are_listed_newest_first_with_the_filters_of_their_siblings(
    corro: Run, filters: tuple[str, ...], found: list[str]
) -> None:
    rows = json.loads(corro("attempts", *filters, "--json")[1])
    assert [f"{row['client_order_id']} {row['attempt_no']}" for row in rows] == found


@pytest.mark.usefixtures("tries")
def test_attempts_have_the_columns_of_their_view(corro: Run, tmp_path: Path) -> None:
    rows = json.loads(corro("attempts", "--json")[1])
    assert all(list(row) == [column.name for column in v_attempts.c] for row in rows)
    assert corro("attempts", "--out", str(tmp_path / "a.csv"))[0] == 0
    assert (tmp_path / "a.csv").read_text().splitlines()[0].split(",") == list(v_attempts.c.keys())
    status, out, _ = corro("attempts")
    assert status == 0
    assert "insufficient buying power" in out


def test_an_outcome_that_does_not_exist_is_wrong_usage(corro: Run) -> None:
    status, out, err = corro("attempts", "--outcome", "lost")
    assert (status, out) == (2, "")
    assert "refused" in err


def test_the_account_stands_beside_the_broker_where_there_are_several(corro: Run, put: Callable[..., None]) -> None:
    put("c-1", broker="alpaca")
    assert "account" not in corro("orders")[1].splitlines()[0].split("\t")
    put("c-2", broker="ibkr", account="ira")
    head, *rows = corro("orders")[1].splitlines()
    at = head.split("\t").index("broker")
    assert head.split("\t")[at : at + 2] == ["broker", "account"]
    assert sorted(row.split("\t")[at : at + 2] for row in rows) == [["alpaca", ""], ["ibkr", "ira"]]


def test_one_order_is_shown_with_the_account_of_it_and_of_each_attempt(corro: Run, put: Callable[..., None]) -> None:
    put("c-2", broker="ibkr", account="ira", attempt={"account": "tax"})
    lines = [line.split("\t") for line in corro("order", "c-2")[1].splitlines()]
    heads = [(at, line.index("broker")) for at, line in enumerate(lines) if "broker" in line]
    assert [lines[at][where : where + 2] for at, where in heads[:2]] == [["broker", "account"]] * 2
    assert [lines[at + 1][where : where + 2] for at, where in heads[:2]] == [["ibkr", "ira"], ["ibkr", "tax"]]


@pytest.mark.parametrize("width", range(40, 121, 4))
def test_no_account_stands_without_its_broker(width: int) -> None:
    row = dict.fromkeys(ORDER_COLUMNS, "x" * 8) | {"broker": "interactive", "account": "retirement"}
    shown = [column.name for column in layout([row], with_account([row], ORDER_COLUMNS), width).columns]
    assert "account" not in shown or "broker" in shown


def test_the_page_shows_the_account_where_a_login_has_several(settings: Settings, put: Callable[..., None]) -> None:
    pytest.importorskip("fastapi")
    from tests.unit.page_site import Site

    put("c-1", broker="alpaca")
    put("c-2", broker="ibkr", account="ira", attempt={"account": "tax"})
    site = Site(settings)
    try:
        one, both = site.page("/orders/c-2"), site.page("/")
    finally:
        site.close()
    assert one.count("ibkr:ira") == 1
    assert "ibkr:tax" in one
    assert sorted(found.strip() for found in re.findall('class="broker">([^<]*)<', both)) == ["alpaca", "ibkr:ira"]
