"""The brake's rules: what a control covers, what it lets through, which of several is told; and what a trip changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from sqlalchemy import insert, select

from models.errors import InvalidRequest
from models.messages import OrderRequest, utcnow
from models.record.controls import ControlRow, in_force
from models.record.database import Database, upgrade
from models.record.intake import row_of
from models.record.tables import control_events, halts, order_events, orders
from tests.kit import PostgresServer
from tests.unit.words import Put
from worker.control.brake import Movement, denial, stop_of
from worker.control.controls import resume, stop, trip
from worker.control.kill import begin
from worker.control.scopes import COLUMNS, Scope, facts_of

EVERYTHING = Scope()
AT = datetime(2026, 1, 5, tzinfo=UTC)
OPENS, CLOSES, LESSENS = Movement.OPENS, Movement.CLOSES, Movement.LESSENS
ORDER = {"strategy": "dip:v2", "symbol": "KO", "account": "ira", "key_id": "k-1"}


def control(scope: Scope, state: str = "halted") -> ControlRow:
    row: ControlRow = {
        "scope_kind": scope.kind, "scope": scope.text, "state": state, "generation": 1, "kill": None, "by": "ana",
        "reason": "storm", "at": AT,
    }  # fmt: skip
    return row


@pytest.mark.parametrize(
    ("names", "covers"),
    [
        ({}, True),
        ({"broker": "ibkr"}, True),
        ({"broker": "tda"}, False),
        ({"account": "ibkr:ira"}, True),
        ({"account": "ibkr:joint"}, False),
        ({"account": "tda:ira"}, False),
        ({"strategy": "dip:v2"}, True),
        ({"strategy": "dip"}, False),
        ({"symbol": "ko"}, True),
        ({"symbol": " KO", "strategy": "dip:v2 "}, True),
        ({"key": "k-2"}, False),
        ({"strategy": "dip:v2", "symbol": "KO"}, True),
        ({"strategy": "dip:v2", "symbol": "PEP"}, False),
        ({"broker": "ibkr", "strategy": "dip:v2"}, True),
        ({"broker": "tda", "symbol": "KO"}, False),
        ({"account": "ibkr:ira", "strategy": "dip:v2"}, True),
        ({"symbol": "KO", "key": "k-1"}, True),
    ],
)
def test_a_scope_covers_the_orders_that_its_names_name(names: dict[str, str], covers: bool) -> None:
    scope = Scope.of(**names)
    assert scope.covers(facts_of(ORDER, "ibkr")) is covers
    assert Scope.of(**scope.names) == scope


def test_a_scope_asks_for_columns_that_orders_have() -> None:
    assert set(COLUMNS.values()) <= set(orders.c.keys())


@pytest.mark.parametrize("names", [{"key": "k-1"}, {"key": "k-1", "symbol": "KO"}, {"strategy": "dip"}, {}])
def test_a_kill_wishes_the_cancels_of_its_scope(names: dict[str, str], database: Database, put: Put) -> None:
    put("o-1", status="accepted", symbol="KO", strategy="dip", key_id="k-1")
    put("o-2", status="accepted", symbol="KO", strategy="other", key_id="k-2")
    begun = begin(database, Scope.of(**names), by="ana", reason="storm", kill={})
    assert [entry.id for entry in begun.wished] == (["o-1"] if names else ["o-1", "o-2"])
    assert begun.waits is None
    with database.read() as connection:
        (row,) = in_force(connection)
    order = {"strategy": "dip", "symbol": "KO", "key_id": "k-1"}
    assert stop_of([row], order, "ibkr", OPENS) == row
    assert (stop_of([row], order | {"strategy": "x", "key_id": None}, "ibkr", OPENS) == row) is not bool(names)


def test_positions_are_not_closed_by_a_scope_that_holds_none(database: Database) -> None:
    with pytest.raises(InvalidRequest, match="no position is of"):
        begin(database, Scope.of(key="k-1"), by="ana", reason="storm", kill={"flatten": True})
    with database.read() as connection:
        assert in_force(connection) == []


def test_who_holds_an_orders_key_holds_up_no_kill(postgres: PostgresServer) -> None:
    """Whoever writes an event of an order and does not commit; on PostgreSQL a row is not free until then."""
    database = Database(postgres.fresh())
    upgrade(database)
    row = row_of(OrderRequest(client_order_id="o-1", symbol="KO", side="buy", quantity=1), ["ibkr"], utcnow())
    with database.write() as connection:
        connection.execute(insert(orders).values(**row))
    with database.write() as holds:
        event = {"client_order_id": "o-1", "at": utcnow(), "kind": "conflict", "detail": "x"}
        holds.execute(insert(order_events).values(**event))
        begun = begin(database, EVERYTHING, by="ana", reason="storm", kill={})
    database.close()
    assert ([entry.id for entry in begun.wished], begun.waits) == (["o-1"], None)


def test_an_order_without_an_account_counts_to_each_account_of_its_broker() -> None:
    facts = facts_of({"symbol": "KO"}, "ibkr")
    assert [Scope.of(account=name).covers(facts) for name in ("ibkr:ira", "tda:ira")] == [True, False]
    assert not Scope.of(strategy="dip").covers(facts)


def test_a_kind_of_scope_that_a_later_version_adds_stops_rather_more_than_less() -> None:
    assert Scope("desk", "london").covers(facts_of(ORDER, "ibkr"))


@pytest.mark.parametrize(
    "names",
    [
        {"symbol": " "}, {"strategy": "a\nb"}, {"account": "ira"}, {"account": "ibkr:ira", "broker": "ibkr"},
        {"account": "ibkr:"}, {"account": "ibkr: "}, {"account": ":ira"},
        {"broker": "ibkr", "strategy": "dip", "symbol": "KO"}, {"strategy": "d" * 129},
    ],
)  # fmt: skip
def test_a_scope_that_says_nothing_clear_is_refused(names: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        Scope.of(**names)


@pytest.mark.parametrize(
    ("state", "passes"),
    [("halted", {LESSENS}), ("reducing", {LESSENS, CLOSES}), ("draining", {OPENS, CLOSES, LESSENS}), ("frozen", set())],
)
def test_what_each_state_lets_through(state: str, passes: set[Movement]) -> None:
    controls = [control(Scope(), state)]
    assert {movement for movement in Movement if stop_of(controls, ORDER, "ibkr", movement) is None} == passes


def test_of_several_the_one_that_leaves_no_broker_is_told_and_of_those_the_halt() -> None:
    here, symbol = Scope.of(broker="ibkr"), Scope.of(symbol="KO")
    rows = [control(here), control(symbol, "reducing"), control(Scope.of(strategy="dip:v2"))]
    told = stop_of(rows, ORDER, "ibkr", OPENS)
    assert told is not None
    assert (told["scope_kind"], told["state"]) == ("strategy", "halted")
    assert denial("ibkr", told).everywhere
    closing = stop_of(rows[:2], ORDER, "ibkr", CLOSES)
    assert closing is not None
    assert not denial("ibkr", closing).everywhere


def stands(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as connection:
        return [(row["scope_kind"], row["scope"], row["state"]) for row in in_force(connection)]


def journal(database: Database) -> list[Mapping[str, object]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(control_events)).mappings()]


def test_a_trip_stops_a_scope_once_and_never_weakens_a_halt(database: Database) -> None:
    def tripped(state: str) -> bool:
        return database.transact(lambda c: trip(c, "strategy", "dip", state, "repeat: 3 alike in 10 s"))

    assert [tripped("reducing"), tripped("reducing"), tripped("halted"), tripped("reducing")] == [
        True,
        False,
        True,
        False,
    ]
    assert stands(database) == [("strategy", "dip", "halted")]
    assert [(row["kind"], row["by"], row["scope"]) for row in journal(database)] == [("trip", "corro", "dip")] * 2


def test_a_control_takes_the_place_of_another_of_its_scope_and_knows_its_event(database: Database) -> None:
    scope = Scope.of(strategy="dip", symbol="ko")
    stop(database, scope, "halt", "storm", "ana")
    stop(database, scope, "reduce", "calmer", "ben")
    assert stands(database) == [("strategy+symbol", "dip:KO", "reducing")]
    with database.read() as connection:
        (row,) = in_force(connection)
    assert (row["generation"], row["by"]) == (journal(database)[-1]["id"], "ben")
    assert len(resume(database, scope, by="ana")) == 1
    assert stands(database) == []


# -- THE VERSION BEFORE ---
def test_a_halt_that_the_version_before_has_set_is_in_force_and_can_be_ended(database: Database) -> None:
    with database.write() as connection:
        for scope, kind in (("*", "halt"), ("ibkr", "halt"), ("tda", "drain")):
            connection.execute(insert(halts).values(scope=scope, kind=kind, reason="storm", by="ana", at=AT))
    assert sorted(stands(database)) == [
        ("*", "*", "halted"), ("broker", "ibkr", "halted"), ("broker", "tda", "draining"),
    ]  # fmt: skip
    assert len(resume(database, None, by="ana")) == 3
    assert stands(database) == []


@pytest.mark.parametrize("kind", ["halt", "reduce"])
def test_workers_of_the_version_before_stop_where_these_stop_or_only_close(kind: str, database: Database) -> None:
    stop(database, Scope.of(broker="ibkr"), kind, "storm", "ana")
    stop(database, Scope.of(symbol="KO"), kind, "storm", "ana")
    with database.read() as connection:
        assert connection.execute(select(halts.c.scope, halts.c.kind)).all() == [("ibkr", "halt")]
    assert len(stands(database)) == 2, "not told twice"


def test_a_halt_that_the_version_before_sets_on_top_of_a_reduction_holds(database: Database) -> None:
    stop(database, Scope(), "reduce", "storm", "ana")
    with database.write() as connection:
        connection.execute(halts.delete())
        connection.execute(
            insert(halts).values(scope="*", kind="halt", reason="fire", by="ben", at=datetime(2099, 1, 1, tzinfo=UTC))
        )
    assert sorted(state for _, _, state in stands(database)) == ["halted", "reducing"]
