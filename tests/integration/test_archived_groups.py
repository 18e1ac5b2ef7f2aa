"""`corro archive` and linked orders: together, once nothing of them is on anybody's list."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update

from models.clock import utcnow
from models.errors import IdempotencyConflict, NotFound
from models.groups import GroupKind, Membership
from models.messages import OrderRequest
from models.record.database import Database
from models.record.group_tables import order_groups
from models.record.intake import Intake
from models.record.reading import order_row
from models.record.tables import order_events, orders
from models.settings import Settings
from producers.client import OrderClient
from tests.integration.test_archive import NOW, OLD, database, intake, put, request, run, url
from worker.orders.dealt_with import deal_with

__all__ = ["database", "intake", "url"]  # fixtures


def linked(id_: str, **terms: Any) -> list[OrderRequest]:
    of = {"first": (id_, "buy"), "then": (f"{id_}.then", "sell")}
    return [
        request(own, side=side, version=2, group=Membership("g", GroupKind.OTO, leg), **terms)
        for leg, (own, side) in of.items()
    ]


def end(connection: Connection, **group: str) -> None:
    """End the group and its legs, long ago."""
    old: dict[str, Any] = {"created_at": OLD, "closed_at": OLD, "updated_at": OLD}
    connection.execute(update(orders).where(orders.c.group_id == "g").values(**old, status="canceled"))
    connection.execute(update(order_groups).values(**old, **group))


def test_the_id_of_a_group_stays_used_and_one_that_is_broken_stays_until_a_person_has_dealt_with_it(
    url: str, database: Database, intake: Intake, tmp_path: Path
) -> None:
    intake.record(linked("l-1"))
    with database.write() as connection:
        end(connection, status="broken", reason="nothing closes 10")
        put(connection, "last", NOW, side="buy", price=60)
    run(database, tmp_path / "one", utcnow() + timedelta(minutes=5))
    assert group_ids(database) == {"l-1", "l-1.then"}, "it is on somebody's list"
    with OrderClient(Settings(database_url=url)) as client:
        deal_with(client, "g", by="ana", reason="sold by hand")
    with database.write() as connection:
        put(connection, "very-last", NOW, side="buy", price=60)
    run(database, tmp_path / "two", utcnow() + timedelta(minutes=5))
    assert group_ids(database) == set()
    assert [row["status"] for row in intake.record(linked("l-1"))] == ["canceled"] * 2
    with pytest.raises(IdempotencyConflict, match="group 'g' has other orders"):
        intake.record(linked("fresh"))
    intake.take([one.to_wire() for one in linked("bare")], "ibkr")
    with database.read() as connection:
        assert (order_row(connection, "bare") or {})["status"] == "denied"
        group = connection.execute(select(order_groups)).one()
    assert (group.status, group.reason) == ("closed", "nothing closes 10; dealt with by ana: sold by hand")


def test_linked_orders_go_together_or_stay_together(database: Database, intake: Intake, tmp_path: Path) -> None:
    intake.record(linked("l-1"))
    with database.write() as connection:
        end(connection, status="closed")
        put(connection, "last", NOW, side="buy", price=60)
        late = {"client_order_id": "l-1.then", "at": NOW, "kind": "conflict", "to_status": "canceled"}
        connection.execute(insert(order_events).values(**late, detail="its id was used again"))
    run(database, tmp_path, utcnow() + timedelta(minutes=5))
    assert group_ids(database) == {"l-1", "l-1.then"}, "the newest event is of one of them"


def test_a_group_that_is_archived_is_told_to_be(url: str, database: Database, intake: Intake, tmp_path: Path) -> None:
    intake.record(linked("g"))
    with database.write() as connection:
        end(connection, status="closed")
        put(connection, "last", NOW, side="buy", price=60)
    run(database, tmp_path, utcnow() + timedelta(minutes=5))
    assert group_ids(database) == set()
    with OrderClient(Settings(database_url=url)) as client, pytest.raises(NotFound, match="'g' is archived"):
        client.group("g")


def test_a_group_that_is_submitted_again_when_it_is_archived_is_the_same_as_it_ended(
    url: str, database: Database, intake: Intake, tmp_path: Path
) -> None:
    entry = OrderRequest(symbol="KO", side="buy", quantity=10, client_order_id="g", created_at=NOW)
    with OrderClient(Settings(database_url=url)) as client:
        client.submit_bracket(entry, take_profit=110, stop_loss=95)
        with database.write() as connection:
            end(connection, status="closed")
            put(connection, "last", NOW, side="buy", price=60)
        run(database, tmp_path, utcnow() + timedelta(minutes=5))
        assert group_ids(database) == set()
        again = client.submit_bracket(entry, take_profit=110, stop_loss=95)
        with pytest.raises(IdempotencyConflict):
            client.submit_bracket(entry.model_copy(update={"quantity": 11}), take_profit=110, stop_loss=95)
    assert (again.status, again.is_terminal, again.wait(5)) == ("closed", True, again)
    assert {name: str(order.status) for name, order in again.legs.items()} == dict.fromkeys(
        ("entry", "take_profit", "stop_loss"), "canceled"
    )


def group_ids(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(select(orders.c.client_order_id).where(orders.c.group_id == "g")).scalars())
