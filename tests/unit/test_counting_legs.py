"""A leg that does more than close what its lead opens is judged as the order that it is, whoever sends its group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from models.errors import Denied
from models.groups import LEGS, GroupKind, is_mere_exit
from models.record.database import Database
from models.record.groups import IS_MERE_EXIT
from models.record.tables import orders, position_locks, risk_tallies
from models.vocabulary import Side
from tests.unit.linked_desk import LinkedDesk, legs_of
from tests.unit.trust_desk import TrustDesk, sealed
from worker.control.controls import stop
from worker.control.scopes import Scope
from worker.orders.selection import named
from worker.positions.locks import LOCKED
from worker.risk.recount import recompute, take_in
from worker.runtime.clock import utcnow

ONE = {"quantity": "1"}
KO = {"symbol": "KO"}


def halted(desk: LinkedDesk, kind: str = "halt", scope: tuple[str, str] = ("symbol", "KO")) -> None:
    stop(desk.database, Scope(*scope), kind, "storm", "ana")


def locked(desk: LinkedDesk) -> None:
    row = {"broker": "one", "symbol": "KO", "expected": 0, "found": 5, "since": utcnow(), "read_at": utcnow()}
    with desk.database.write() as connection:
        connection.execute(insert(position_locks).values(**row))


@pytest.fixture
def desk(database: Database) -> Iterator[LinkedDesk]:
    made = LinkedDesk(database)
    yield made
    made.close()


#: What holds here, what the second leg does, and the code by which its group is not sent.
CASES: dict[str, tuple[Callable[[LinkedDesk], object], dict[str, Any], str]] = {
    "its symbol is halted": (halted, KO, "halted"),
    "it opens, its strategy only reduces": (lambda d: halted(d, "reduce"), KO, "reducing"),
    "its symbol is locked here": (locked, KO, LOCKED),
    "its symbol is restricted": (lambda d: d.limit("restricted", "true", "symbol", "KO"), KO, "restricted"),
    "it is too large": (lambda d: d.limit("max_quantity", "100"), {"quantity": "101"}, "order_quantity"),
    "it is worth too much": (
        lambda d: d.limit("max_value", "5000"),
        {"order_type": "limit", "limit_price": "501"},
        "order_value",
    ),
    "both together hold too much": (lambda d: d.limit("max_position", "10", "symbol", "AAPL"), {}, "position"),
    "both together are worth too much": (
        lambda d: d.limit("max_open_value", "1500"),
        {"order_type": "limit", "limit_price": "150"},
        "open_value",
    ),
    "both together are too many": (lambda d: d.limit("max_open_orders", "1"), {}, "open_orders"),
    "it sells short": (lambda d: d.limit("allow_short", "false"), {"side": "sell_short"}, "short"),
    "its price is too far": (
        lambda d: d.limit("collar_percent", "5", "symbol", "KO"),
        KO | {"order_type": "limit", "limit_price": "900"},
        "price_collar",
    ),
    "it sells more than its lead buys": (lambda d: None, {"side": "sell", "quantity": "2"}, "no_position"),
    "it covers what is not short": (lambda d: None, {"side": "buy_to_cover", "quantity": "1"}, "no_position"),
    "it sells another symbol": (lambda d: None, KO | {"side": "sell", "quantity": "1"}, "no_position"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_leg_that_opens_or_is_of_another_symbol_is_judged_as_any_order(name: str, desk: LinkedDesk) -> None:
    holds, then, code = CASES[name]
    holds(desk)
    desk.submit(*legs_of("oto", "o", [ONE, then]))
    assert desk.sent() == []
    lead, leg = desk.row("o.first"), desk.row("o.then")
    assert (lead.status, leg.status) == ((("queued",) if code == LOCKED else ("denied",)) * 2)
    assert code in (lead.reason_code, LOCKED if "locked" in lead.reason else None), lead.reason


EVERYTHING = {"max_quantity": "10", "max_open_orders": "1", "max_position": "10", "max_open_value": "2000"}


@pytest.mark.parametrize("kind", ["bracket", "oto"])
def test_a_leg_that_closes_what_its_lead_opens_counts_as_nothing(kind: str, desk: LinkedDesk) -> None:
    for name, value in EVERYTHING.items():
        desk.limit(name, value)
    exits = [{"side": "sell", "order_type": "limit", "limit_price": "190"}]
    exits += [{"side": "sell", "order_type": "stop", "stop_price": "90"}] if kind == "bracket" else []
    desk.submit(*legs_of(kind, "g", [{"order_type": "limit", "limit_price": "100"}, *exits]))
    assert desk.sent() == [f"g.{LEGS[GroupKind(kind)][0]}"], desk.row(f"g.{LEGS[GroupKind(kind)][0]}").reason


def test_a_leg_that_counts_is_kept_and_recounted_like_any_order(desk: LinkedDesk) -> None:
    desk.limit("max_open_orders", "9")
    then = {"quantity": "5", "order_type": "limit", "limit_price": "150"}
    desk.submit(*legs_of("oto", "o", [ONE | {"order_type": "limit", "limit_price": "100"}, then]))
    assert desk.sent() == ["o.first"]
    tallies = select(risk_tallies.c.open_orders, risk_tallies.c.buying, risk_tallies.c.open_buy)
    with desk.database.read() as connection:
        assert [tuple(map(int, row)) for row in connection.execute(tallies)] == [(2, 6, 850)]
    risk = desk.desk.place.claims.limiter.risk
    assert recompute(desk.database, risk, "one") == 0
    with desk.database.write() as connection:  # as if both had left before there was a limit
        connection.exec_driver_sql("update attempts set reserved = null")
        connection.execute(risk_tallies.delete())
    assert take_in(desk.database, risk) == 2


def test_a_group_that_is_refused_counts_for_nothing_in_its_claim(desk: LinkedDesk) -> None:
    """Its lead would have passed: without it there is room for the order behind it."""
    for name, value in EVERYTHING.items():
        desk.limit(name, value)
    desk.limit("self_trade", "deny")
    desk.limit("restricted", "true", "symbol", "KO")
    terms = {"quantity": "10", "order_type": "limit", "limit_price": "100"}
    alone = {"symbol": "AAPL", "side": "buy", "client_order_id": "z"}
    desk.submit(*legs_of("oto", "o", [terms, terms | KO]), alone | terms)
    assert (desk.sent(), desk.row("o.first").reason_code) == (["z"], "restricted"), desk.row("z").reason


def test_a_halt_between_the_claim_and_the_first_byte_stops_a_group_by_any_of_its_legs(desk: LinkedDesk) -> None:
    desk.desk.batches.intake.take(legs_of("oto", "o", [ONE, KO]), queue_broker="one")
    (item,) = desk.desk.place.claim(named(["o.first"]))
    halted(desk)
    assert isinstance(desk.desk.way.ask(desk.desk.place, item), Denied)
    assert desk.sent() == []


def test_a_leg_that_sells_what_is_held_takes_it_from_other_sells(desk: LinkedDesk) -> None:
    desk.broker.account.positions["AAPL"] = 400
    desk.submit(
        *legs_of("oto", "o", [ONE, {"side": "sell", "quantity": "400", "order_type": "limit", "limit_price": "300"}])
    )
    assert desk.sent() == ["o.first"]
    desk.submit({"symbol": "AAPL", "side": "sell", "quantity": "1", "client_order_id": "s"})
    assert desk.sent() == ["o.first"]
    assert desk.row("s").reason_code == "no_position"


def test_two_sells_of_one_group_that_may_both_be_filled_need_both(desk: LinkedDesk) -> None:
    desk.broker.account.positions["AAPL"] = 10
    sell = {"side": "sell", "order_type": "limit", "limit_price": "300"}
    desk.submit(*legs_of("oto", "o", [sell | {"quantity": "10"}, sell | {"quantity": "1"}]))
    assert desk.sent() == []
    desk.submit(*legs_of("oto", "p", [sell | {"quantity": "8"}, sell | {"quantity": "2"}]))
    assert desk.sent() == ["p.first"]
    desk.submit({"symbol": "AAPL", "side": "sell", "quantity": "1", "client_order_id": "s"})
    assert desk.row("s").reason_code == "no_position"


def test_nobody_hides_an_order_that_nobody_has_signed_behind_one_that_is(tmp_path: Path, database: Database) -> None:
    made = TrustDesk(tmp_path, database, require="all")
    key, now = made.key(), datetime.now(UTC)
    times = {"created_at": now.isoformat(), "expires_at": (now + timedelta(seconds=20)).isoformat(), "version": 2}
    bodies = [sealed(key, body) for body in legs_of("oto", "o", [ONE, KO], **times)]
    made.desk.batches.intake.take(bodies, queue_broker="alpaca")
    with database.write() as connection:  # as a producer could that writes rows itself
        theirs = update(orders).where(orders.c.client_order_id == "o.then")
        connection.execute(theirs.values(key_id=None, signed_text=None, signature=None))
    made.desk.place.work(["o.first"])
    assert [made.stands("o.first"), made.stands("o.then")] == [("denied", "not_signed")] * 2
    made.close()


def test_the_rule_in_sql_is_the_rule(desk: LinkedDesk) -> None:
    """Every pair of sides, kinds, sizes, symbols and strategies that a table can have."""
    wanted, legs = set(), []
    pairs = product([GroupKind.OTO, GroupKind.OCO], Side, Side, ["1", "2"], ["AAPL", "KO"], ["dip", None])
    for number, (kind, lead_side, side, quantity, symbol, strategy) in enumerate(pairs):
        first = {"side": str(lead_side)}
        second = {"side": str(side), "quantity": quantity, "symbol": symbol, "strategy": strategy}
        legs += legs_of(str(kind), f"g{number}", [ONE | first, second])
    rows = [_row(leg) for leg in legs]
    with desk.database.write() as connection:
        connection.execute(insert(orders), rows)
        found = set(connection.execute(select(orders.c.client_order_id).where(IS_MERE_EXIT)).scalars())
    for lead, leg in zip(rows[::2], rows[1::2], strict=True):
        wanted |= {leg["client_order_id"]} if is_mere_exit(lead, leg) else set()
    assert found == wanted
    assert 0 < len(found) < len(rows) / 4


def _row(leg: dict[str, Any]) -> dict[str, Any]:
    now = utcnow()
    of_group = {"group_id": leg["group"]["id"], "group_kind": leg["group"]["kind"], "leg": leg["group"]["leg"]}
    fixed = {
        "version": 2,
        "status": "queued",
        "body_hash": "h",
        "available_at": now,
        "created_at": now,
        "updated_at": now,
    }
    given = {name: leg[name] for name in ("client_order_id", "symbol", "side", "strategy")}
    return fixed | of_group | given | {"quantity": Decimal(leg["quantity"]), "key_id": None}
