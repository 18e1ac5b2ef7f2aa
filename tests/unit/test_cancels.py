"""Cancels of many orders at once: what is meant, what is told, and that one that is missing holds up no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from models.errors import NotFound
from models.record.database import Database
from models.record.tables import orders
from models.settings import load_settings
from producers.client import OrderClient
from tests.unit.words import Put, Run


@pytest.fixture
def client(database: Database, bare: Path, put: Put) -> Iterator[OrderClient]:
    """A client of a record with four orders: two that wait, one at a broker, one that has ended."""
    put("k-1", status="queued", attempt_no=0, strategy="dip", broker="alpaca")
    put("k-2", status="queued", attempt_no=0, strategy="trend", symbol="KO")
    put("k-3", status="accepted", strategy="dip", symbol="KO", attempt={"outcome": "accepted"})
    put("k-4", status="filled", strategy="dip", attempt={"outcome": "accepted"})
    with OrderClient(load_settings(home=bare)) as opened:
        yield opened


def wished(database: Database) -> dict[str, str]:
    with database.read() as connection:
        found = connection.execute(select(orders.c.client_order_id, orders.c.status, orders.c.cancel_requested_at))
        return {id_: status for id_, status, at in found if at is not None}


def test_many_cancels_are_asked_for_at_once_and_what_waits_ends_at_once(
    client: OrderClient, database: Database
) -> None:
    found = client.cancel_many(["k-3", "k-1", "k-3", "k-4"])
    assert [(order.client_order_id, order.status) for order in found] == [
        ("k-3", "accepted"), ("k-1", "canceled"), ("k-4", "filled"),
    ]  # fmt: skip
    assert wished(database) == {"k-1": "canceled", "k-3": "accepted"}
    assert client.cancel_many([]) == []


def test_an_id_that_nobody_has_holds_up_no_other(client: OrderClient, database: Database) -> None:
    with pytest.raises(NotFound, match="'nobody'; the cancels of 1 others are asked for"):
        client.cancel_many(["nobody", "k-3"])
    assert wished(database) == {"k-3": "accepted"}


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        ({}, ["k-1", "k-2", "k-3"]), ({"strategy": "dip"}, ["k-1", "k-3"]), ({"symbol": "ko"}, ["k-2", "k-3"]),
        ({"broker": "alpaca"}, ["k-1"]), ({"strategy": "dip", "symbol": "KO"}, ["k-3"]), ({"strategy": "nobody"}, []),
    ],
)  # fmt: skip
def test_all_orders_that_have_not_ended_are_canceled_as_far_as_they_are_named(
    names: dict[str, str], ids: list[str], client: OrderClient, database: Database
) -> None:
    assert [order.client_order_id for order in client.open_orders(**names)] == ids
    assert [order.client_order_id for order in client.cancel_all(**names)] == ids
    assert sorted(wished(database)) == ids


def test_the_command_cancels_several_or_all_and_one_id_is_one_document(client: OrderClient, corro: Run) -> None:
    status, out, _ = corro("cancel", "k-1", "--json")
    assert (status, json.loads(out)["status"]) == (0, "canceled")
    status, out, err = corro("cancel", "--all", "--strategy", "dip", "--json")
    assert (status, [row["client_order_id"] for row in json.loads(out)]) == (0, ["k-3"])
    assert "ibkr" in err, "nobody works there"
    assert [row["status"] for row in json.loads(corro("cancel", "k-2", "k-4", "--json")[1])] == ["canceled", "filled"]


@pytest.mark.parametrize(
    "typed", [(), ("k-1", "--all"), ("k-1", "--broker", "ibkr"), ("--all", "--broker", "robinhood")]
)
def test_a_cancel_that_says_nothing_clear_is_refused(typed: tuple[str, ...], corro: Run, database: Database) -> None:
    assert corro("cancel", *typed)[0] == 2
    assert wished(database) == {}
