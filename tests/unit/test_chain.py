"""The chain over the journals: whatever is changed afterwards is seen."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from models.clock import utcnow
from models.record import chain
from models.record.database import Database
from models.record.key_tables import journal_chain
from models.record.tables import fills, order_events, orders
from tests.unit.trust_desk import TrustDesk, order
from tests.unit.words import Run
from worker.fleet.chaining import chain_journals

Tamper = Callable[[Any], object]


@pytest.fixture
def closed(desk: TrustDesk, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database with three orders, whose journal is closed in three links, and an event that is newer."""
    monkeypatch.setattr(chain, "LINK", 4)
    desk.submit(order("o-1"), order("o-2"), order("o-3"))
    for _ in range(3):
        chain_journals(desk.database)
    return desk.database


def verified(database: Database) -> chain.ChainVerdict:
    with database.read() as connection:
        return chain.verify(connection)


def test_what_nobody_has_touched_agrees(closed: Database) -> None:
    found = verified(closed)
    assert (found.objections, found.newer) == ([], 0)
    assert (found.links, found.rows) == (3, 9)
    assert chain_is_idle(closed)


def chain_is_idle(database: Database) -> bool:
    before = verified(database).heads
    chain_journals(database)
    return verified(database).heads == before


def e(id_: int) -> Any:
    return order_events.c.id == id_


TAMPERED: dict[str, Tamper] = {
    "a word was changed": lambda c: c.execute(update(order_events).where(e(2)).values(detail="nothing happened")),
    "a row was taken out": lambda c: c.execute(delete(order_events).where(e(5))),
    "the last row was taken out": lambda c: c.execute(delete(order_events).where(e(9))),
    "a row was put in": lambda c: (
        c.execute(delete(order_events).where(e(5))),
        c.execute(insert(order_events).values(id=5, client_order_id="o-1", at=utcnow(), kind="found")),
    ),
    "a link was taken out": lambda c: c.execute(delete(journal_chain).where(journal_chain.c.first_id == 5)),
    "the first link was taken out": lambda c: c.execute(delete(journal_chain).where(journal_chain.c.first_id == 1)),
    "a link was written anew": lambda c: c.execute(
        update(journal_chain).where(journal_chain.c.first_id == 1).values(digest="0" * 64)
    ),
    "a fill nobody told of": lambda c: (
        c.execute(update(order_events).where(order_events.c.client_order_id == "o-1").values(kind="found"))
    ),
    "another quantity": lambda c: c.execute(update(orders).where(orders.c.client_order_id == "o-1").values(
        filled_quantity=4)),
    "a status was changed": lambda c: c.execute(
        update(orders).where(orders.c.client_order_id == "o-1").values(status="accepted")
    ),
    "a fill was taken out": lambda c: c.execute(delete(fills).where(fills.c.client_order_id == "o-1")),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_changed_afterwards_is_seen(closed: Database, how: str) -> None:
    with closed.write() as connection:
        TAMPERED[how](connection)
    assert verified(closed).objections


def test_an_order_whose_row_was_taken_out_is_seen(closed: Database) -> None:
    with closing(sqlite3.connect(str(closed.url.database))) as other:  # a client that asks nobody for its foreign keys
        other.execute("DELETE FROM orders WHERE client_order_id = 'o-1'")
        other.commit()
    assert verified(closed).objections == ["order o-1: it has events, and no row"]


def test_an_order_that_says_another_status_than_its_journal_is_named(closed: Database) -> None:
    with closed.write() as connection:
        TAMPERED["a status was changed"](connection)
    assert verified(closed).objections == ["order o-1: accepted by its row, filled by the journal"]


def test_an_order_that_names_an_attempt_it_was_never_at_is_named(closed: Database) -> None:
    with closed.write() as connection:
        connection.execute(update(orders).where(orders.c.client_order_id == "o-1").values(attempt_no=7))
    assert verified(closed).objections == ["order o-1: its row names attempt 7, and it was never at that one"]


def test_the_command_says_what_does_not_agree(closed: Database, corro: Run) -> None:
    status, out, _ = corro("db", "verify", "--json")
    assert (status, json.loads(out)["ok"], json.loads(out)["rows"]) == (0, True, 9)
    with closed.write() as connection:
        TAMPERED["a row was taken out"](connection)
    status, _, said = corro("db", "verify")
    assert status == 1
    assert "order_events 5 to 8: 4 rows were noted, there are 3" in said
