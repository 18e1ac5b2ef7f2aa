"""deploy/roles.sql and the tables: what a producer may write of an order is decided for every column."""

from __future__ import annotations

import re

from models.record.changes import FillChanges
from models.record.tables import orders
from tests.kit import ROOT

ROLES = (ROOT / "deploy/roles.sql").read_text()


def listed(name: str) -> list[str]:
    """Return the columns of an array in the file."""
    found = re.search(rf"^  {name} text\[\] := ARRAY\[(.*?)\];", ROLES, re.DOTALL | re.MULTILINE)
    assert found, name
    return re.findall(r"'(\w+)'", found[1])


def test_of_each_column_of_orders_it_is_said_whether_a_producer_may_write_it() -> None:
    assert sorted(listed("said") + listed("not_said")) == sorted(orders.c.keys())


def test_a_producer_may_write_what_it_records() -> None:
    from models.messages import OrderRequest, utcnow
    from models.record.intake import row_of

    row = row_of(OrderRequest(symbol="KO", side="buy", quantity=1), ["alpaca"], utcnow())
    assert {name for name, value in row.items() if value is not None} <= set(listed("said"))


def test_a_worker_may_write_what_a_later_word_of_a_broker_changes_of_an_execution_and_no_more() -> None:
    found = re.search(r"GRANT UPDATE \(([\w\s,]+)\) ON fills TO corro_worker", ROLES)
    assert found
    assert set(re.findall(r"\w+", found[1])) == set(FillChanges.__annotations__)
