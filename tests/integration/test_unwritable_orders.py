"""An order that PostgreSQL refuses to hold: it is told in our own words, and its neighbours go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.errors import InvalidOrder
from models.messages import OrderRequest
from models.record.database import Database, upgrade
from models.record.intake import Intake
from models.record.tables import orders
from models.settings import Settings, load_settings
from producers import OrderClient
from tests.kit import PostgresServer


@pytest.fixture
def settings(postgres: PostgresServer, tmp_path: Path) -> Settings:
    """A database that refuses one symbol, as it refuses what no check of ours has foreseen."""
    made = Database(url := postgres.fresh())
    upgrade(made)
    with made.write() as connection:
        connection.exec_driver_sql("alter table orders add constraint odd check (symbol <> 'ODD')")
    made.close()
    return load_settings(home=tmp_path, database_url=url)


@pytest.fixture
def client(settings: Settings) -> Iterator[OrderClient]:
    with OrderClient(settings) as opened:
        yield opened


def request(id_: str, **more: Any) -> OrderRequest:
    return OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id=id_).model_copy(update=more)


def recorded(client: OrderClient) -> dict[str, str]:
    with client.database.read() as connection:
        return {row.client_order_id: row.status for row in connection.execute(select(orders))}


@pytest.mark.parametrize("bad", [{"tags": ["\0"]}, {"strategy": "\0"}, {"symbol": "ODD"}], ids=str)
def test_one_of_many_that_the_database_refuses_is_our_own_error_and_nothing_is_recorded(
    client: OrderClient, bad: dict[str, Any]
) -> None:
    with pytest.raises(InvalidOrder, match="nothing was recorded"):
        client.submit_many([request("first"), request("bad", **bad), request("last")])
    assert recorded(client) == {}
    assert [order.status for order in client.submit_many([request("first"), request("last")])] == ["queued"] * 2


def test_one_of_a_message_that_the_database_refuses_is_denied_and_the_others_are_recorded(client: OrderClient) -> None:
    given = [request("first"), request("bad", symbol="ODD"), request("last")]
    known = Intake(client.settings, client.database).take([one.to_wire() for one in given], "ibkr")
    assert known == {"first": "ibkr", "last": "ibkr"}
    found = recorded(client)
    (denied,) = set(found) - {"first", "last"}
    assert denied.startswith("invalid-")
    assert found == {"first": "queued", "last": "queued", denied: "denied"}
