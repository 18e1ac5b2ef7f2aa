"""One key signs a group: who signs one leg of it alone would decide what the others are worth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from models.messages import OrderRequest, utcnow
from models.record.database import Database
from models.record.order import cancel
from models.record.tables import orders
from tests.unit.trust_desk import TrustDesk, order, sealed

APART = "one key signs all its legs, these are signed by"


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Iterator[TrustDesk]:
    found = TrustDesk(tmp_path, database)
    yield found
    found.close()


def legs(**more: Any) -> dict[str, dict[str, Any]]:
    """Return a bracket's order objects, by leg."""
    prices: dict[str, dict[str, Any]] = {
        "entry": {},
        "take_profit": {"side": "sell", "order_type": "limit", "limit_price": "90"},
        "stop_loss": {"side": "sell", "order_type": "stop", "stop_price": "20"},
    }
    return {
        leg: order(f"g.{leg}", version=2, route=["alpaca"], group={"id": "g", "kind": "bracket", "leg": leg}, **terms)
        for leg, terms in prices.items()
    }


def test_a_group_that_one_key_has_signed_goes_to_its_broker(desk: TrustDesk) -> None:
    one = desk.key()
    desk.submit(*(sealed(one, leg) for leg in legs().values()))
    assert APART not in str(desk.row("g.entry")["reason"])
    assert desk.row("g.entry")["key_id"] == "k-1"
    assert desk.attempts("g.entry") != [], "it came as far as its broker's rules"


@pytest.mark.parametrize("leg", ["entry", "take_profit", "stop_loss"])
def test_a_group_with_a_leg_of_another_key_is_denied_whole_and_names_both(desk: TrustDesk, leg: str) -> None:
    one, two = desk.key(), desk.key("k-2")
    desk.submit(*(sealed(two if name == leg else one, body) for name, body in legs().items()))
    for name in legs():
        row = desk.row(f"g.{name}")
        assert row["status"] == "denied"
        assert row["reason"].endswith(f"group g: {APART} 'k-1', 'k-2'")
    assert desk.attempts("g.entry") == []


def test_a_group_with_a_leg_that_nobody_signed_is_denied_whole(tmp_path: Path, database: Database) -> None:
    desk = TrustDesk(tmp_path, database, require="off")
    one = desk.key()
    desk.submit(*(body if name == "stop_loss" else sealed(one, body) for name, body in legs().items()))
    assert {desk.row(f"g.{name}")["status"] for name in legs()} == {"denied"}
    assert desk.row("g.entry")["reason"].endswith(f"group g: {APART} none, 'k-1'")
    desk.close()


def test_a_leg_whose_row_was_given_to_another_key_keeps_its_group_from_being_sent(desk: TrustDesk) -> None:
    one, two = desk.key(), desk.key("k-2")
    bodies = legs()
    desk.desk.batches.intake.record([OrderRequest(**body) for body in bodies.values()], one)
    text = desk.row("g.stop_loss")["signed_text"]
    seal = two.sign("order", json.loads(text))
    with desk.database.write() as connection:
        mine = update(orders).where(orders.c.client_order_id == "g.stop_loss")
        connection.execute(mine.values(key_id="k-2", signed_text=seal.text, signature=seal.sig))
    desk.desk.place.work(["g.entry"])
    assert {desk.row(f"g.{name}")["status"] for name in bodies} == {"denied"}
    assert f"group g: {APART} 'k-1', 'k-2'; a group is sent whole" in desk.row("g.entry")["reason"]


@pytest.mark.parametrize("leg", ["entry", "take_profit", "stop_loss"])
def test_a_cancel_that_nobody_asked_for_ends_no_leg_whoever_writes_to_its_group_next(desk: TrustDesk, leg: str) -> None:
    """Only the row says so: not even a write to the group that comes before its claim takes that for a wish."""
    bodies, one = legs(), desk.key()
    desk.desk.batches.intake.record([OrderRequest(**body) for body in bodies.values()], one)
    with desk.database.write() as connection:
        mine = update(orders).where(orders.c.client_order_id == f"g.{leg}")
        connection.execute(mine.values(cancel_requested_at=utcnow()))
    desk.desk.batches.change(["g.entry"], lambda batch: batch["g.entry"].set(reason="somebody writes to the group"))
    assert {desk.row(f"g.{name}")["status"] for name in bodies} == {"queued"}
    desk.desk.batches.change([f"g.{leg}"], lambda batch: cancel(batch[f"g.{leg}"]))
    assert {desk.row(f"g.{name}")["status"] for name in bodies} == {"canceled"}, "a wish that the journal tells of does"
