"""A fleet under `[security] require = "all"`: what it orders by itself is signed like the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from models.errors import NotFound
from models.messages import OrderRequest
from models.record.controls import in_force
from models.record.holders import Closing, holders
from models.record.intake import row_of
from models.record.tables import orders
from models.vocabulary import Side
from producers.client import OrderClient
from producers.groups import OrderGroup
from tests.kit import World, eventually
from tests.unit.trust_desk import SECRET
from worker.control.keys import add
from worker.control.kill import closing_id
from worker.runtime.clock import utcnow

WHO = ("--by", "ana", "--reason", "drill")
SECURITY = {"require": "all", "deployment": "prod"}


def with_key(key_id: str, path: Path) -> dict[str, str]:
    return {"CORRO_SECURITY__KEY": key_id, "CORRO_SECURITY__KEY_FILE": str(path)}


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World], secret: Path) -> World:
    """The worker of alpaca has a key; that of tda has none."""
    made = make_world(["alpaca", "tda"], tables={"security": SECURITY, "groups": {"on_partial": "protect"}})
    for key_id, bounds in {"strategies": {"strategies": ["dip"]}, "workers": {}, "desk": {}}.items():
        add(made.database, key_id, "hmac-sha256", by="test", secret_file=str(secret), owner=key_id, **bounds)
    made.fleet.start("alpaca", **with_key("workers", secret))
    made.fleet.start("tda")
    return made


@pytest.fixture(autouse=True)
def _nothing_is_halted(world: World) -> Iterator[None]:
    yield
    world.corro("resume", "--all", *WHO)


@pytest.fixture
def strategy(world: World, secret: Path) -> Iterator[OrderClient]:
    with OrderClient(world.settings, key="strategies", key_file=secret) as client:
        yield client


def buy(strategy: OrderClient, symbol: str, broker: str, quantity: int = 4) -> None:
    request = OrderRequest(symbol=symbol, side="buy", quantity=quantity, strategy="dip", route=[broker])
    assert strategy.submit(request).wait(20).status == "filled"


def held(world: World, broker: str, symbol: str) -> Decimal:
    with world.database.read() as connection:
        return sum((size for size in holders(connection, broker, symbol).values()), Decimal(0))


def row(world: World, id_: str) -> dict[str, Any]:
    found = world.orders.row(id_)
    assert found is not None
    return found


@pytest.mark.parametrize("more", [(), ("--collar", "5")], ids=["market", "collar"])
def test_a_kill_with_flatten_ends_flat(world: World, strategy: OrderClient, more: tuple[str, ...]) -> None:
    buy(strategy, "PEP", "alpaca")
    said = world.corro("kill", "--broker", "alpaca", "--flatten", *more, "--json", *WHO)
    assert said.status == 0, said
    (closing,) = said.json["closing"]
    assert (closing["side"], Decimal(closing["quantity"]), closing["status"]) == ("sell", 4, "filled")
    assert row(world, closing["client_order_id"])["key_id"] == "workers"
    assert held(world, "alpaca", "PEP") == 0


# -- LINKED ORDERS ---
def bracket(strategy: OrderClient, symbol: str, id_: str) -> OrderGroup:
    """Submit a bracket around a purchase of ten; its exits are far from the market."""
    terms = {"symbol": symbol, "side": "buy", "quantity": 10, "client_order_id": id_, "strategy": "dip"}
    entry = OrderRequest(**terms, time_in_force="gtc", route=["alpaca"])
    return strategy.submit_bracket(entry, take_profit="9000", stop_loss="0.50")


def until(strategy: OrderClient, id_: str, ready: Callable[[OrderGroup], bool]) -> OrderGroup:
    def look() -> OrderGroup | None:
        found = strategy.group(id_)
        return found if ready(found) else None

    def stands() -> object:
        found = strategy.group(id_)
        return found.status, found.reason, {name: (leg.status, leg.reason) for name, leg in found.legs.items()}

    return eventually(look, 30, stands)


def at_the_door(world: World, symbol: str) -> Decimal:
    """Return what the orders of a symbol have brought at alpaca, by its door."""
    mine = [one for one in world.control.orders("alpaca") if one["symbol"] == symbol]
    return sum((Decimal(one["filled_quantity"]) * (1 if one["side"] == "buy" else -1) for one in mine), Decimal(0))


def test_a_kill_with_flatten_leaves_no_bracket_for_a_person_to_settle(world: World, strategy: OrderClient) -> None:
    for id_ in ("flat-1", "flat-2"):
        bracket(strategy, "MSFT", id_)
        until(strategy, id_, lambda found: found.status == "live" and found.legs["entry"].status == "filled")
    said = world.corro("kill", "--strategy", "dip", "--flatten", "--json", *WHO)
    assert said.status == 0, said
    closing = [one["client_order_id"] for one in said.json["closing"] if one["symbol"] == "MSFT"]
    for id_ in ("flat-1", "flat-2"):
        done = until(strategy, id_, lambda found: found.status == "closed")
        assert f"what was left open has been closed since, by {', '.join(closing)}" in str(done.reason)
    assert world.corro("groups", "--status", "broken", "--json").json == []
    assert held(world, "alpaca", "MSFT") == 0
    assert at_the_door(world, "MSFT") == 0


def test_what_an_entry_left_open_is_protected_by_exits_that_the_worker_signs(
    world: World, strategy: OrderClient
) -> None:
    """`on_partial = protect`: half of an entry is filled, and its cancel takes its exits along."""
    world.control.add_fault("alpaca", "partial", count=1, symbol="IBM")
    bracket(strategy, "IBM", "half")
    until(strategy, "half", lambda found: found.legs["entry"].status == "partially_filled")
    strategy.cancel("half")
    until(strategy, "half", lambda found: found.status == "broken")
    exits = until_there(strategy, "half.protect")
    legs = {name: (row(world, leg.client_order_id), leg) for name, leg in exits.legs.items()}
    assert {found["key_id"] for found, _ in legs.values()} == {"workers"}
    assert {found["quantity"] for found, _ in legs.values()} == {Decimal(5)}
    assert [leg.status for _, leg in legs.values()] == ["accepted", "accepted"]
    said = world.corro("kill", "--strategy", "dip", "--flatten", "--json", *WHO)
    assert said.status == 0, said
    until(strategy, "half", lambda found: found.status == "closed")
    assert held(world, "alpaca", "IBM") == 0


def until_there(strategy: OrderClient, id_: str) -> OrderGroup:
    """Wait for a group that a worker records; returns it once its broker has it."""

    def there() -> bool:
        try:
            return strategy.group(id_).status == "live"
        except NotFound:
            return False

    eventually(there, 40, lambda: id_)
    return strategy.group(id_)


def test_a_worker_without_a_key_closes_nothing_and_says_why(world: World, strategy: OrderClient) -> None:
    buy(strategy, "KO", "tda")
    said = world.corro("kill", "--broker", "tda", "--flatten", "--patience", "8", "--json", *WHO)
    assert said.status == 1
    assert "has no key" in said.json["waits"]["tda"]
    assert said.json["closing"] == [], "nothing is recorded that would only be denied"


def test_nobody_forges_a_closing_order_of_a_kill_in_force(world: World, strategy: OrderClient) -> None:
    """Its id, its side and its size fit; it is one that the leader itself would write, but for the signature."""
    buy(strategy, "KO", "tda")
    world.corro("kill", "--broker", "tda", "--flatten", "--patience", "4", *WHO)
    with world.database.read() as connection:
        (control,) = in_force(connection)
    id_ = closing_id(control["generation"], Closing("KO", Side.SELL, Decimal(1), "dip", "tda"), 1)
    request = OrderRequest(
        client_order_id=id_, symbol="KO", side="sell", quantity=1, strategy="dip", route=["tda"], created_at=utcnow()
    )
    with world.database.write() as connection:
        connection.execute(insert(orders).values(**row_of(request, ["tda"], utcnow())))
    eventually(lambda: row(world, id_)["status"] == "denied", 30, lambda: row(world, id_))
    assert row(world, id_)["reason_code"] == "not_signed"


@pytest.mark.parametrize(
    ("key", "state", "words"),
    [
        (None, "fail", "workers with these settings have no key"),
        ("strategies", "warn", "bounded in strategies"),
        ("workers", "ok", "signs what workers order"),
    ],
)
def test_corro_check_says_whether_workers_can_sign(
    world: World, secret: Path, key: str | None, state: str, words: str
) -> None:
    said = world.corro("check", "--json", **({} if key is None else with_key(key, secret)))
    (found,) = (one for one in said.json if one["check"] == "keys")
    assert (found["state"], words in found["words"]) == (state, True), found


def test_corro_close_signs_with_the_key_of_its_settings(world: World, strategy: OrderClient, secret: Path) -> None:
    buy(strategy, "WMT", "alpaca")
    said = world.corro("close", "WMT", "--wait", "--json", **with_key("desk", secret))
    assert said.status == 0, said
    assert held(world, "alpaca", "WMT") == 0


def test_without_a_key_corro_close_says_so_and_records_nothing(world: World, strategy: OrderClient) -> None:
    buy(strategy, "VZ", "alpaca")
    said = world.corro("close", "VZ", "--wait", "--json")
    with world.database.read() as connection:
        sides = connection.execute(select(orders.c.side).where(orders.c.symbol == "VZ")).scalars().all()
    assert (said.status, sides) == (2, ["buy"]), said
    assert "not signed" in said.err
