"""Sends are marked before their first byte, some at a time, where only a mark can tell later that nothing left."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import select, update

from models.errors import Stale
from models.messages import OrderRequest
from models.record.database import Database
from models.record.tables import attempts
from tests.traced import executions, traced
from tests.unit.words import Put
from worker.brokers.base import AbsenceRule, Capabilities
from worker.orders.command import Claimed
from worker.orders.marks import Marks


def claimed(*ids: str) -> list[Claimed]:
    terms = {"symbol": "AAPL", "side": "buy", "quantity": 10}
    return [Claimed(OrderRequest(client_order_id=id_, **terms), 1, id_) for id_ in ids]


def marked(database: Database) -> dict[str, datetime]:
    with database.read() as connection:
        rows = connection.execute(select(attempts.c.client_order_id, attempts.c.sent_at)).all()
    return {id_: at for id_, at in rows if at is not None}


def test_sends_are_marked_where_no_listing_proves_that_nothing_came() -> None:
    assert Capabilities(client_order_id_length=None).marks_sends
    assert Capabilities(absence=AbsenceRule(possible=False)).marks_sends
    assert not Capabilities().marks_sends


def test_what_may_leave_next_is_marked_together_and_what_waits_is_not(database: Database, put: Put) -> None:
    ids = [f"o-{n}" for n in range(5)]
    for id_ in ids:
        put(id_)
    marks = Marks(database, "ibkr", orders := claimed(*ids), 2)
    with traced(database) as seen:
        marks.mark(orders[0])
        assert set(marked(database)) == set(ids[:2])
        before = len(executions(seen))
        marks.mark(orders[1])
        assert len(executions(seen)) == before
    marks.mark(orders[3])  # threads overtake each other
    assert set(marked(database)) == {*ids[:2], ids[3], ids[2]}


def test_what_somebody_else_has_settled_is_not_marked_and_keeps_nobody_else_from_it(
    database: Database, put: Put
) -> None:
    for id_ in ("o-1", "o-2"):
        put(id_)
    with database.write() as connection:
        connection.execute(update(attempts).where(attempts.c.client_order_id == "o-1").values(outcome="absent"))
    marks = Marks(database, "ibkr", orders := claimed("o-1", "o-2"), 2)
    with pytest.raises(Stale):
        marks.mark(orders[0])
    marks.mark(orders[1])
    assert set(marked(database)) == {"o-2"}
