"""An id of an archived order is never said to be nobody's: the order has ended, and where the rest of it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import insert

from models.errors import InvalidOrder, NotFound
from models.history import History
from models.record.archive_tables import archived_fills, archived_orders, archives
from models.record.database import Database
from models.settings import load_settings
from producers import OrderClient
from tests.unit.words import NOW, Run
from worker.orders.resolve import note, resolve
from worker.page.tools import Assistant

WORDS = (
    "order 'i0' is archived (buy 10 AAPL: filled, 10 filled): its attempts, fills and events are in the folder 2026-01"
)


@pytest.fixture
def client(database: Database, bare: Path) -> Iterator[OrderClient]:
    run = {
        "id": 3, "name": "2026-01", "directory": "/a", "before": NOW, "made_at": NOW, "first_id": 1, "last_id": 9,
        "head": "0" * 64,
    }  # fmt: skip
    order = {
        "client_order_id": "i0", "body_hash": "0" * 64, "status": "filled", "archive": 3, "symbol": "AAPL",
        "side": "buy", "quantity": Decimal(10), "order_type": "limit", "route": ["ibkr"], "broker": "ibkr",
        "filled_quantity": Decimal(10), "created_at": NOW, "closed_at": NOW,
    }  # fmt: skip
    with database.write() as connection:
        connection.execute(insert(archives).values(**run))
        connection.execute(insert(archived_orders).values(**order))
    made = OrderClient(load_settings(home=bare))
    yield made
    made.close()


def test_an_archived_order_is_one_that_has_ended(client: OrderClient) -> None:
    assert client.order("i0").status == "filled"
    assert client.cancel("i0").status == "filled"
    assert [order.status for order in client.cancel_many(["i0"])] == ["filled"]
    with pytest.raises(InvalidOrder, match="i0 cannot be replaced: it is filled"):
        client.replace("i0", limit_price="5")


def test_a_producer_that_may_change_no_order_hears_the_same(client: OrderClient) -> None:
    client._may_change = False
    with pytest.raises(InvalidOrder, match="i0 cannot be replaced: it is filled"):
        client.replace("i0", limit_price="5")


def test_what_hangs_on_it_is_said_to_be_in_the_archive_and_not_to_be_nothing(client: OrderClient) -> None:
    order = client.order("i0")
    for question in (
        lambda: client.fills_of("i0"), lambda: client.events_of("i0"), lambda: order.fills, lambda: order.events,
        lambda: Assistant(client).order("i0"),
    ):  # fmt: skip
        with pytest.raises(NotFound, match=f"^{WORDS.replace('(', '.').replace(')', '.')}"):
            question()
    for nobody in (client.fills_of, client.events_of, client.order, client.cancel):
        with pytest.raises(NotFound, match="no order has the client_order_id 'i9'"):
            nobody("i9")


def test_its_executions_are_in_positions_and_profit(client: OrderClient) -> None:
    """Whichever migration made the views last."""
    fill = {
        "id": 1, "broker": "ibkr", "execution_id": "e", "symbol": "AAPL", "side": "buy", "quantity": Decimal(10),
        "price": Decimal(5), "commission": Decimal(1), "filled_at": NOW,
    }  # fmt: skip
    with client.database.write() as connection:
        connection.execute(insert(archived_fills).values(**fill))
    history = History(client.database, client.settings)
    assert [(row["symbol"], row["quantity"], row["cost"]) for row in history.positions()] == [("AAPL", 10, 50)]
    assert [(row["symbol"], row["fees"]) for row in history.pnl("symbol")] == [("AAPL", 1)]


def test_nothing_of_it_can_be_decided(client: OrderClient) -> None:
    for decision in (lambda: resolve(client, "i0", adopt=None, by="ann"), lambda: note(client, "i0", by="ann")):
        with pytest.raises(InvalidOrder, match="i0"):
            decision()


def test_commands_say_it_too(client: OrderClient, corro: Run) -> None:
    code, _, said = corro("order", "i0")
    assert (code, WORDS in said) == (1, True)
    code, told, _ = corro("cancel", "i0", "--json")
    assert (code, json.loads(told)["status"]) == (0, "filled")
    for command in (
        ("replace", "i0", "--limit", "5"),
        ("approve", "i0", "--by", "ann"),
        ("resolve", "i0", "--absent", "--by", "ann"),
    ):
        code, _, said = corro(*command)
        assert "no order has" not in said
        assert (code in (1, 2), "i0" in said) == (True, True), command
