"""Linked orders as they come: what cannot be recorded of them is named, and what differs from what is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from models import encoding
from models.errors import IdempotencyConflict, InvalidOrder, NotFound
from models.messages import OrderRequest
from models.record.database import Database
from models.record.intake import Intake
from models.record.tables import order_groups, orders
from producers.client import OrderClient
from tests.unit.linked_desk import LinkedDesk, entry, legs_of_message
from worker.brokers.fake import FakeBroker
from worker.messaging.guard import Unreadable, clean
from worker.orders.desk import BrokerDesk
from worker.rehearsal import rehearsal


@pytest.fixture
def client(tmp_path: Path) -> Iterator[OrderClient]:
    with rehearsal(tmp_path, FakeBroker("one"), FakeBroker("two")) as client:
        yield client


@pytest.fixture
def desk(database: Database) -> Iterator[BrokerDesk]:
    made = LinkedDesk(database)
    yield made.desk
    made.close()


def test_a_leg_that_cannot_be_recorded_is_named_and_the_others_keep_their_ids(desk: BrokerDesk) -> None:
    """Whatever is wrong with one of them, all of them were in the message."""
    intake = desk.batches.intake
    intake.record([entry(client_order_id="b.take_profit")])
    unreadable, used = legs_of_message(id_="a"), legs_of_message(id_="b")
    unreadable[1] |= {"quantity": "-1"}
    twice = legs_of_message("oto", "c")
    twice[1] |= {"client_order_id": "c.first"}
    message = [*unreadable, *used, *twice]
    intake.take(message, "one")
    with desk.database.read() as connection:
        rows = {row.client_order_id: row for row in connection.execute(select(orders))}
    assert {id_ for id_ in rows if not id_.startswith("invalid-")} == {
        "a.entry", "a.stop_loss", "b.entry", "b.stop_loss", "b.take_profit", "c.first",
    }  # fmt: skip
    for id_, words in {
        "a.entry": "its take_profit cannot be recorded: quantity: must",
        "a.stop_loss": "its take_profit cannot be recorded: quantity: must",
        "b.entry": "its take_profit cannot be recorded: b.take_profit is queued already",
        "c.first": "two orders have the client_order_id c.first",
    }.items():
        assert (rows[id_].status, rows[id_].group_id) == ("denied", None)
        assert words in rows[id_].reason
    assert rows["b.take_profit"].status == "queued"
    intake.take(message, "one")
    with desk.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(orders)).scalar() == len(rows), "a copy is no news"


def test_who_asks_for_an_order_that_was_denied_unread_hears_where_it_is(client: OrderClient) -> None:
    bad = {"client_order_id": "bad", "symbol": "KO", "side": "buy", "quantity": "-1"}
    Intake(client.settings, client.database).take([bad], "one")
    with pytest.raises(NotFound, match=r"'bad'; invalid-\w+ is denied: quantity: must"):
        client.order("bad")
    with pytest.raises(NotFound, match=r"'ad'$"):
        client.order("ad")


def test_two_legs_of_one_id_are_refused_by_it_and_nothing_is_recorded(client: OrderClient) -> None:
    with pytest.raises(InvalidOrder, match="two orders have the client_order_id e"):
        client.submit_oto(entry(), entry(side="sell"))
    with client.database.read() as connection:
        assert connection.execute(select(orders.c.client_order_id)).all() == []


def test_a_conflict_says_in_which_terms_the_two_differ(client: OrderClient) -> None:
    later = entry().created_at + timedelta(hours=1)
    client.submit_bracket(entry(not_before=later), "110", "95")
    target = {"client_order_id": "e.tp", "side": "sell", "order_type": "limit", "limit_price": "111"}
    for again, words in (
        (entry(not_before=later), r"differ in group \(e bracket entry; this one none\)\."),
        (entry(**target, not_before=later), r"limit_price \(110; this one 111\)"),
    ):
        with pytest.raises(IdempotencyConflict, match=words):
            client.submit(again)


def test_a_message_with_a_part_of_a_group_is_set_aside_whole() -> None:
    def message(orders: list[dict[str, Any]]) -> bytes:
        properties = {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "orders.one"}}
        kwargs = {"orders": orders}
        body = {"body": encoding.text([[], kwargs, {}]), "content-type": "application/json", "properties": properties}
        return encoding.dumps(body | {"headers": {"task": "orders.submit", "id": "i"}})

    clean(message(legs_of_message()))
    with pytest.raises(Unreadable) as refused:
        clean(message([*legs_of_message()[1:], {"symbol": "KO"}]))
    assert refused.value.reason == "group"


def test_legs_without_the_rest_of_their_group_are_not_recorded(client: OrderClient) -> None:
    with pytest.raises(InvalidOrder, match="has the legs"):
        client.submit_many([OrderRequest(**body) for body in legs_of_message()[:2]])
    with client.database.read() as connection:
        assert connection.execute(select(orders.c.client_order_id)).all() == []
        assert connection.execute(select(order_groups.c.group_id)).all() == []
