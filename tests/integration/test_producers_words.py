"""What the role of a producer may write: orders as `OrderRequest` takes them, and the first event of each, no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, make_url, select, text
from sqlalchemy.exc import DBAPIError

from models.clock import Clocks, ticking
from models.messages import OrderRequest
from models.record.database import Database, upgrade
from models.record.tables import order_events, orders
from models.settings import load_settings
from producers import OrderClient
from producers.data import DataClient
from tests.kit import ROOT, PostgresServer

#: An honest row, as SQL; a test changes columns of it.
ROW = {
    "client_order_id": "'o-1'", "version": "1", "strategy": "'evil'", "symbol": "'KO'", "side": "'buy'",
    "quantity": "1", "order_type": "'market'", "time_in_force": "'day'", "extended_hours": "false", "tags": "'[]'",
    "status": "'queued'", "route": """'["ibkr", "tda"]'""", "broker": "'ibkr'", "attempt_no": "0",
    "filled_quantity": "0", "body_hash": "'x'", "available_at": "now()", "created_at": "now()", "updated_at": "now()",
    "expires_at": "now() + interval '60 s'",
}  # fmt: skip
LIMIT = {"order_type": "'limit'", "limit_price": "5"}
UNSOUND: list[dict[str, str]] = [
    {"side": "'frob'"}, {"side": "null"}, {"order_type": "'weird'"}, {"time_in_force": "'soon'"},
    {"quantity": "-5"}, {"quantity": "0"}, {"quantity": "1e30"}, {"quantity": "'NaN'"}, {"quantity": "'infinity'"},
    {"quantity": "null"}, {"quantity": "1.0000000001"}, {"quantity": "123456789.12345678"},
    {"order_type": "'limit'"}, {"limit_price": "5"}, {"stop_price": "5"},
    LIMIT | {"limit_price": "-1"}, LIMIT | {"limit_price": "0"},
    {"order_type": "'trailing_stop'"}, {"trail_amount": "1"}, {"decision_price": "'NaN'"},
    {"expires_at": "'infinity'"}, {"expires_at": "null"}, {"expires_at": "now() - interval '1 s'"},
    {"created_at": "'-infinity'"}, {"created_at": "'infinity'", "expires_at": "null"},
    {"created_at": "'4000-01-01 BC'"}, {"available_at": "'-infinity'"}, {"updated_at": "'infinity'"},
    {"not_before": "'infinity'"}, {"closed_at": "'-infinity'"}, {"status": "'held'", "available_at": "'infinity'"},
    {"route": "'5'"}, {"route": "'[]'"}, {"route": """'["ibkr", 5]'"""}, {"route": """'{"ibkr": 1}'"""},
    {"route": """'["tda"]'"""}, {"account": "'ira'"}, {"route": """'["ibkr:ira"]'"""},
    {"route": """'["ibkr:ira"]'""", "account": "'tax'"}, {"route": """'["ibkr:ira"]'""", "account": "''"},
    {"tags": "'5'"}, {"tags": "'[5]'"}, {"tags": """'{"a": ["b"]}'"""},
    {"tags": r"""'["\u0000"]'"""}, {"session": "'night'"}, {"version": "3"},
    {"asset_class": "'art'"}, {"currency": "'dollars'"}, {"symbol": "'ko'"}, {"symbol": "E'K\\nO'"}, {"symbol": "null"},
    {"client_order_id": "'o-1~2'"},
    {"client_order_id": "E'o\\n'"}, {"client_order_id": "''"},
    {"group_id": "'g'"}, {"group_id": "'g'", "group_kind": "'weird'", "leg": "'entry'"},
    {"group_id": "'g'", "group_kind": "'oco'", "leg": "'entry'"},
]  # fmt: skip


@pytest.fixture(scope="module")
def house(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, OrderClient]]:
    """A database with the shipped roles, and a client that logs in as a producer."""
    made = Database(url := postgres.fresh())
    upgrade(made)
    with made.write() as connection:
        connection.exec_driver_sql((ROOT / "deploy/roles.sql").read_text())
    home: Path = tmp_path_factory.mktemp("producer")
    login = make_url(url).set(username="corro_producer").render_as_string(hide_password=False)
    client = OrderClient(load_settings(home=home, database_url=login, redis_url=f"unix://{home}/no-queue"))
    yield made, client
    client.close()
    made.close()


class UnsetClocks(Clocks):
    """The clocks of a machine that nobody has set."""

    def now(self) -> datetime:
        """Return a time that is over."""
        return super().now() - timedelta(minutes=3)


def put(connection: Connection, **changes: str) -> None:
    row = ROW | changes
    names, values = ", ".join(row), ", ".join(row.values())
    connection.exec_driver_sql(f"INSERT INTO public.orders ({names}) VALUES ({values})".replace("%", "%%"))


@pytest.mark.parametrize("changes", UNSOUND, ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()))
def test_a_producer_records_no_order_that_no_client_would(
    house: tuple[Database, OrderClient], changes: dict[str, str]
) -> None:
    _, client = house
    with pytest.raises(DBAPIError, match=r"records no order with such a|Unicode escape"), client.database.write() as c:
        put(c, **changes)


def test_orders_that_a_client_makes_are_recorded_with_their_first_event(house: tuple[Database, OrderClient]) -> None:
    _, client = house
    low = {"symbol": "BRK.B", "side": "sell", "quantity": "0.123456789", "tags": {"why": "a 'test' \\"}, "version": 2}
    made = [
        client.submit(OrderRequest(symbol="KO", side="buy", quantity=1, route=("tda",))),
        client.submit(OrderRequest(**low, session="regular", decision_price="99999999.1234567")),
        *client.submit_many(
            [
                OrderRequest(**low, order_type="stop_limit", limit_price=5, stop_price="4.5"),
                OrderRequest(**low, order_type="trailing_stop", trail_percent="1.5", extended_hours=True),
                *(
                    OrderRequest(
                        symbol="CLZ49@NYMEX", side="buy", quantity=1, order_type="limit", limit_price=price, **of
                    )
                    for of in [{"asset_class": "future", "route": ("ibkr",)}]
                    for price in (0, "-37.63")
                ),
            ]
        ),
    ]
    entry = OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="b-1", route=("alpaca",))
    group = client.submit_bracket(entry, "110", ("95", "94.5"))
    assert client.submit_bracket(entry, "110", ("95", "94.5")).group_id == group.group_id, "the same again"
    ids = [one.client_order_id for one in (*made, *group.legs.values())]
    with client.database.read() as connection:
        told = connection.execute(select(order_events).where(order_events.c.client_order_id.in_(ids))).all()
    assert sorted(event.client_order_id for event in told) == sorted(ids)
    assert {(event.kind, event.from_status) for event in told} == {("queued", None), ("held", None)}


def test_an_order_for_an_account_is_recorded_under_that_account(house: tuple[Database, OrderClient]) -> None:
    _, client = house
    ibkr = {"adapter": "fake", "accounts": {"ira": "DU1111111", "tax": "DU2222222"}, "account": "tax"}
    known = {"database_url": client.settings.database_url, "redis_url": client.settings.redis_url}
    settings = load_settings(home=client.settings.home, **known, brokers={"ibkr": ibkr}, routing={"route": ["ibkr"]})
    with OrderClient(settings) as trader:
        orders_of = [
            trader.submit(OrderRequest(symbol="KO", side="buy", quantity=1, **where)).row
            for where in ({}, {"account": "ira"}, {"route": ["ibkr:ira"]})
        ]
    assert [(row["broker"], row["account"]) for row in orders_of] == [("ibkr", at) for at in ("tax", "ira", "ira")]


def test_a_leg_comes_to_no_group_of_others(house: tuple[Database, OrderClient]) -> None:
    _, client = house
    entry = OrderRequest(symbol="KO", side="buy", quantity=1, client_order_id="b-2", route=("alpaca",))
    group = client.submit_bracket(entry, "110", "95").group_id
    mine = {"group_id": f"'{group}'", "group_kind": "'bracket'", "leg": "'take_profit'"}
    with pytest.raises(DBAPIError, match="such a group_id"), client.database.write() as connection:
        put(connection, **mine)


@pytest.mark.parametrize(
    "changes",
    [{}, {"status": "'broken'"}, {"kind": "'oco'"}, {"created_at": "'infinity'"}, {"settled": "'nothing closes 10'"}],
    ids=str,
)
def test_nobody_takes_the_id_of_a_group_of_others(house: tuple[Database, OrderClient], changes: dict[str, str]) -> None:
    _, client = house
    row = {
        "group_id": "'b-3'", "kind": "'bracket'", "status": "'queued'", "created_at": "now()", "updated_at": "now()",
    } | changes  # fmt: skip
    lead = {"client_order_id": "'b-3'", "group_id": "'b-3'", "group_kind": "'bracket'", "leg": "'entry'"}

    def squat(*orders_first: dict[str, str]) -> None:
        with client.database.write() as connection:
            for order in orders_first:
                put(connection, **order)
            names, values = ", ".join(row), ", ".join(row.values())
            connection.exec_driver_sql(f"INSERT INTO order_groups ({names}) VALUES ({values})")

    with pytest.raises(DBAPIError, match="records no group but that of the legs"):
        squat()
    if changes:
        with pytest.raises(DBAPIError, match="records no group but that of the legs"):
            squat(lead)


#: An honest request for data, as SQL.
FETCH = {
    "fetch_id": "'f-1'", "kind": "'quote'", "request": """'{"symbol": "KO"}'""", "route": """'["alpaca"]'""",
    "broker": "'alpaca'", "status": "'queued'", "attempt_no": "0", "tries": "0", "stored": "0",
    "available_at": "now()", "created_at": "now()", "updated_at": "now()",
}  # fmt: skip
FORGED: list[dict[str, str]] = [
    {"status": "'done'", "result": """'{"last": "1"}'"""}, {"status": "'running'", "worker": "'w'"},
    {"status": "'failed'", "error": "'no'", "ended_at": "now()"},
    {"result": "'5'"}, {"kind": "'secrets'"}, {"request": "'5'"}, {"route": "'[]'"},
    {"route": """'["alpaca", 5]'"""}, {"broker": "'ibkr'"}, {"attempt_no": "-1"}, {"available_at": "'infinity'"},
    {"created_at": "'-infinity'", "available_at": "'-infinity'", "updated_at": "'-infinity'"},
    {"lease_until": "'infinity'"}, {"progress": "'NaN'"}, {"fetch_id": "''"}, {"fetch_id": "E'f\\n'"},
    {"request": "json_build_object('symbol', repeat('x', 40000))"},
]  # fmt: skip


def test_a_producer_asks_for_data_and_answers_nothing(house: tuple[Database, OrderClient]) -> None:
    _, client = house
    with DataClient(client.settings) as data:
        asked_for = data.quote("KO", route=["alpaca"]).fetch_id
        assert data.fetch_row(asked_for)["status"] == "queued"
    with ticking(UnsetClocks()), DataClient(client.settings) as data:
        assert data.fetch_row(data.quote("KO", route=["alpaca"]).fetch_id)["status"] == "queued"
        assert "queued" in data.positions(0, ["alpaca"]).unreachable["alpaca"]
    for changes in [{}, *FORGED]:
        row = FETCH | changes
        names, values = ", ".join(row), ", ".join(row.values())
        asked = f"INSERT INTO fetches ({names}) VALUES ({values})".replace("%", "%%")
        refused = pytest.raises(DBAPIError, match="records no data request but a new one") if changes else nullcontext()
        with refused, client.database.write() as connection:
            connection.exec_driver_sql(asked)


def tell(connection: Connection, id_: str, kind: str = "queued", **words: Any) -> None:
    given = {"i": id_, "k": kind, "b": words.get("before"), "a": words.get("after", "queued")}
    names = "client_order_id, at, kind, from_status, to_status"
    values = f"VALUES (:i, {words.get('at', 'now()')}, :k, :b, :a)"
    connection.execute(text(f"INSERT INTO order_events ({names}) {values}"), given)


def record_and_tell(client: OrderClient, id_: str, *told: dict[str, Any]) -> None:
    with client.database.write() as connection:
        put(connection, client_order_id=f"'{id_}'")
        for words in told:
            tell(connection, id_, **words)


def test_a_producer_writes_no_step_into_an_order_that_is_there(house: tuple[Database, OrderClient]) -> None:
    _, client = house
    victim = client.submit(OrderRequest(symbol="KO", side="buy", quantity=1)).client_order_id
    forged: list[dict[str, Any]] = [
        {"kind": "denied", "before": "filled", "after": "denied", "at": "now() + interval '1 day'"},
        {"kind": "queued", "before": "filled", "after": "filled"}, {"kind": "filled", "after": "filled"}, {},
        {"kind": "held", "after": "held"}, {"kind": "conflict", "before": "queued", "after": "filled"},
        {"kind": "conflict", "before": "filled", "after": "filled"},
        {"kind": "conflict", "after": None, "at": "now() + interval '1 day'"},
    ]  # fmt: skip
    for words in forged:
        with pytest.raises(DBAPIError, match="records no event"), client.database.write() as connection:
            tell(connection, victim, **words)
    with pytest.raises(DBAPIError, match="records no event"), client.database.write() as connection:
        tell(connection, "nobody")
    with client.database.write() as connection:
        tell(connection, victim, kind="conflict", after=None)


def test_the_first_event_of_an_order_is_its_own_and_one(house: tuple[Database, OrderClient]) -> None:
    _, client = house
    late = {"at": "now() + interval '1 day'"}
    for words in ({"kind": "denied", "after": "denied"}, {"before": "held"}, {"after": "filled"}, late):
        with pytest.raises(DBAPIError, match="records no event"):
            record_and_tell(client, "e-1", words)
    with pytest.raises(DBAPIError, match="records no event"):
        record_and_tell(client, "e-1", {}, {})


def test_no_table_of_its_own_makes_a_producer_a_worker(house: tuple[Database, OrderClient]) -> None:
    made, client = house

    def pretend() -> None:
        with client.database.write() as connection:
            connection.exec_driver_sql("CREATE TEMP TABLE orders (status text)")
            put(connection, client_order_id="'t-1'", status="'filled'")

    with pytest.raises(DBAPIError, match="records no order"):
        pretend()
    with made.read() as connection:
        assert not connection.execute(select(orders).where(orders.c.client_order_id == "t-1")).all()
