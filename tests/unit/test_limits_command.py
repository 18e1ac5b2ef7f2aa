"""`corro limits`: what is in force, used and left; setting and clearing leave a name; an order beyond them is a row."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import insert, select

from models.messages import utcnow
from models.record.batch import OrderBatch
from models.record.database import Database
from models.record.limits import put_limit
from models.record.tables import (
    attempts,
    control_events,
    fills,
    orders,
    position_ledgers,
    position_snapshots,
    risk_limits,
    risk_tallies,
)
from models.record.usage import COUNTED, KEY, keep
from models.risk.decision import Hold, Pass, decide_risk
from models.risk.facts import Intended, Usage, Used
from models.risk.names import EVERYTHING, Limit
from models.settings import Settings
from models.vocabulary import Side
from tests.unit.words import Put, Run
from worker.risk.exposure import Exposure
from worker.risk.limiter import Limiter
from worker.risk.prices import known_prices
from worker.risk.recount import UsageKeeper, recompute, take_in
from worker.risk.report import limits_report

BY = ("--by", "ann", "--reason", "house rule")


class Done(NamedTuple):
    status: int
    out: str
    err: str


def sent(outcome: str) -> dict[str, Any]:
    return {"outcome": outcome, "started_at": utcnow()}


Command = Callable[..., Done]


@pytest.fixture
def run(corro: Run) -> Command:
    return lambda *words: Done(*corro(*words))


def rows(database: Database, table: Any) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def listed(run: Command) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("limits", "--json").out)
    return found


def test_a_limit_is_set_listed_and_cleared_under_a_name(database: Database, run: Command) -> None:
    assert listed(run) == []
    assert run("limits", "set", "max_value", "20000", *BY).status == 0
    assert run("limits", "set", "max_open_orders", "3", "--strategy", " dip ", "--symbol", " ko", *BY).status == 0
    first, second = listed(run)
    assert (first["scope_kind"], first["scope"], first["name"], first["value"]) == ("*", "*", "max_value", "20000")
    assert (first["used"], first["left"], first["set_by"]) == (None, None, "ann")
    assert (second["scope_kind"], second["scope"], second["used"], second["left"]) == (
        "strategy+symbol",
        "dip:KO",
        "0",
        "3",
    )
    assert run("limits", "clear", "max_value", *BY).status == 0
    assert [row["name"] for row in listed(run)] == ["max_open_orders"]
    journal = rows(database, control_events)
    assert [(row["kind"], row["scope_kind"], row["scope"], row["by"], row["reason"]) for row in journal] == [
        ("limit_set", "*", "*", "ann", "house rule"),
        ("limit_set", "strategy+symbol", "dip:KO", "ann", "house rule"),
        ("limit_clear", "*", "*", "ann", "house rule"),
    ]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("max_value", "20000"), 2, "--by"),
        (("max_value", "20000", "--by", "ann"), 2, "--reason"),
        (("max_value", "20000", "--by", " ", "--reason", "x"), 2, "by: must be a name"),
        (("max_valu", "20000", *BY), 2, "no such limit"),
        (("max_value", "much", *BY), 2, "max_value: must be a decimal number"),
        (("max_value", "1e15", *BY), 2, "at most 15 digits"),
        (("max_value", "1e400", *BY), 2, "at most 15 digits"),
        (("max_value", "1", "--broker", "etrade", *BY), 2, "no broker 'etrade' is configured"),
        (("max_value", "1", "--broker", "ibkr", "--strategy", "dip", *BY), 2, "a limit has one scope"),
        (("max_value", "1", "--account", "ibkr", *BY), 2, "must be BROKER:ACCOUNT"),
        (("max_value", "1", "--account", "ibkr:irra", *BY), 2, "ibkr has no account 'irra'"),
        (("max_value", "1", "--broker", "ibkr:ira", *BY), 2, "--broker: has no colon"),
        (("max_value", "1", "--strategy", "a", "--symbol", "b:ko", *BY), 2, "--symbol: has no colon, was 'b:ko'"),
        (("max_lifetime", "60", *BY), 2, "max_lifetime: is read from [risk] of the settings alone"),
        (("max_value", "1", "--until", "2020-01-01", *BY), 2, "must be a time to come"),
        (("max_value", "1", "--strategy", " ", *BY), 2, "--strategy: must be a name, was ' '"),
        (("max_value", "1", "--broker", "", *BY), 2, "--broker: must be a name, was ''"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    database: Database, run: Command, words: tuple[str, ...], status: int, said: str
) -> None:
    done = run("limits", "set", *words)
    assert done.status == status
    assert said in done.err
    assert rows(database, control_events) == []


def test_a_limit_that_cannot_be_read_forbids_its_scope_and_no_other_and_can_be_cleared(
    database: Database, run: Command
) -> None:
    row = {"scope_kind": "strategy", "scope": "dip", "name": "max_value", "value": "1" + "0" * 400}
    with database.write() as connection:
        connection.execute(insert(risk_limits).values(**row, set_by="ann", reason="typed", set_at=utcnow()))
    assert run("submit", "KO", "buy", "1", "--id", "other", "--strategy", "other").status == 0
    said = run("submit", "KO", "buy", "1", "--id", "dip", "--strategy", "dip")
    assert (said.status, "restricted" in said.err + said.out) == (1, True)
    assert "cannot be read" in json.dumps(listed(run))
    assert run("limits", "clear", "max_value", "--strategy", "dip", *BY).status == 0
    assert listed(run) == []


def test_a_position_counts_only_in_the_scopes_that_it_is_in(database: Database, run: Command) -> None:
    """A strategy, a key or an account may be called like a broker or a symbol."""
    Path("corro.toml").write_text('[brokers.alpaca]\n[brokers.ibkr]\naccounts = { ira = "DU1111111" }\n')
    held = {("alpaca", "EUR/USD"): 20000, ("alpaca", "AMZN"): 110, ("ibkr", "AMZN"): 30}
    with database.write() as connection:
        for (broker, symbol), units in held.items():
            row = {"broker": broker, "symbol": symbol, "quantity": Decimal(units), "taken_at": utcnow()}
            connection.execute(insert(position_snapshots).values(**row))
    scopes: list[tuple[str, ...]] = [
        (), ("--symbol", "AMZN"), ("--symbol", "KO"), ("--broker", "ibkr"), ("--account", "ibkr:ira"),
        ("--strategy", "alpaca"), ("--strategy", "AMZN"), ("--strategy", "alpaca", "--symbol", "AMZN"),
        ("--key", "alpaca"),
    ]  # fmt: skip
    for scope in scopes:
        assert run("limits", "set", "max_position", "200", *scope, *BY).status == 0
    told = {(row["scope_kind"], row["scope"]): row["used"] for row in listed(run)}
    assert told == {
        ("*", "*"): "20000", ("symbol", "AMZN"): "140", ("symbol", "KO"): "0", ("broker", "ibkr"): "30",
        ("account", "ibkr:ira"): "30", ("strategy", "alpaca"): "0", ("strategy", "AMZN"): "0",
        ("strategy+symbol", "alpaca:AMZN"): "0", ("key", "alpaca"): "0",
    }  # fmt: skip


def test_what_nobody_has_set_cannot_be_cleared(run: Command) -> None:
    done = run("limits", "clear", "max_value", *BY)
    assert done.status == 1
    assert "nobody has set max_value of all orders" in done.err


def test_a_limit_may_end_by_itself(run: Command) -> None:
    run("limits", "set", "max_value", "5", "--until", "8h", *BY)
    (row,) = listed(run)
    assert row["until"].startswith((utcnow() + timedelta(hours=8)).isoformat()[:13])


# -- AT SUBMIT ---
def test_an_order_beyond_a_limit_is_a_row_a_handle_and_exit_status_1(database: Database, run: Command) -> None:
    run("limits", "set", "max_quantity", "9", *BY)
    done = run("submit", "KO", "buy", "10", "--id", "much", "--json")
    assert done.status == 1
    assert json.loads(done.out)["reason_code"] == "order_quantity"
    row = rows(database, orders)[0]
    assert (row["status"], row["reason_code"]) == ("denied", "order_quantity")
    assert row["reason"] == "its quantity 10 is above 9 (max_quantity 9 of all orders)"
    assert row["closed_at"] is not None
    assert run("submit", "KO", "buy", "9").status == 0


# -- WHAT IS USED ---
def test_orders_from_before_count_from_the_first_limit_on(database: Database, run: Command, put: Put) -> None:
    put("old", status="accepted", quantity=10, limit_price=Decimal(50), attempt=sent("accepted"))
    put("over", status="canceled", quantity=10, limit_price=Decimal(50), attempt=sent("accepted"))
    done = run("limits", "set", "max_open_value", "1000", *BY)
    assert "2 orders that were sent before count from now on" in done.err
    (row,) = listed(run)
    assert (row["used"], row["left"]) == ("500", "500")


def test_an_order_at_a_price_below_zero_counts_with_its_size(database: Database, run: Command, put: Put) -> None:
    terms: dict[str, Any] = {"symbol": "CLZ26@NYMEX", "asset_class": "future"}
    put("old", status="accepted", quantity=10, limit_price=Decimal(-50), attempt=sent("accepted"), **terms)
    run("limits", "set", "max_open_value", "1000", *BY)
    (row,) = listed(run)
    assert (row["used"], row["left"]) == ("500", "500")


def test_taking_orders_in_makes_whoever_has_one_in_hand_read_it_again(
    database: Database, settings: Settings, put: Put
) -> None:
    put("old", status="submitted", quantity=10, limit_price=Decimal(50), attempt=sent("sending"))
    with database.read() as connection:
        held = OrderBatch.open(connection, ["old"], utcnow())["old"]
    assert take_in(database, settings.risk) == 1
    with database.write() as connection:
        batch = OrderBatch.open(connection, ["old"], utcnow(), kept={"old": held})
        batch["old"].set_attempt(1, outcome="refused")
        batch["old"].set(status="rejected")
        batch.write()
    assert all(not any(row[name] for name in COUNTED) for row in rows(database, risk_tallies))


def test_where_figures_differ_the_larger_one_holds_and_the_journal_has_both(
    database: Database, settings: Settings, put: Put
) -> None:
    put("one", status="accepted", quantity=10, limit_price=Decimal(50), attempt=sent("accepted"))
    broker = rows(database, attempts)[0]["broker"]
    take_in(database, settings.risk)
    assert recompute(database, settings.risk, broker) == 0
    key = tuple(str(rows(database, risk_tallies)[0][name]) for name in KEY)
    nothing = dict.fromkeys(COUNTED, Decimal(0))
    with database.write() as connection:
        keep(connection, {key: nothing | {"open_buy": Decimal(-100), "open_orders": Decimal(4)}})
    assert recompute(database, settings.risk, broker) == 1
    (row,) = rows(database, risk_tallies)
    assert (row["open_buy"], row["open_orders"]) == (500, 5)
    (event,) = rows(database, control_events)
    assert (event["kind"], event["by"]) == ("override", "corro")
    assert "open_buy 400, by the orders 500" in event["detail"]
    assert "open_orders 5, by the orders 1" in event["detail"]


def test_a_leader_takes_in_and_recomputes_only_where_there_are_limits(
    database: Database, settings: Settings, put: Put
) -> None:
    put("one", status="accepted", quantity=10, limit_price=Decimal(50), attempt=sent("accepted"))
    broker = rows(database, attempts)[0]["broker"]
    UsageKeeper(database, Limiter(settings, broker)).look()
    assert rows(database, risk_tallies) == []
    limited = settings.model_copy(update={"risk": settings.risk.model_copy(update={"max_open_orders": Decimal(1)})})
    UsageKeeper(database, Limiter(limited, broker)).look()
    assert [row["open_orders"] for row in rows(database, risk_tallies)] == [1]


@pytest.mark.parametrize("name", ["\u202eabc", "a\x1b[31m", "a\nb", "x" * 129])
def test_a_limits_scope_is_a_name_as_a_controls_is(run: Command, name: str) -> None:
    for command in (("limits", "set", "max_value", "5"), ("limits", "clear", "max_value"), ("halt",)):
        assert run(*command, "--strategy", name, *BY).status == 2, command
    assert listed(run) == []


def test_no_key_has_a_colon_so_no_scope_is_read_as_another(run: Command) -> None:
    """`--strategy a --key b:c` was read as the key c of the strategy a:b."""
    assert run("halt", "--strategy", "a", "--key", "b:c", *BY).status == 2
    assert run("limits", "set", "max_value", "5", "--key", "b:c", *BY).status == 2


def test_a_limit_that_is_set_or_ended_is_one_json_document(database: Database, run: Command) -> None:
    told = json.loads(
        run("limits", "set", "max_value", "20000.50", "--symbol", "ko", "--until", "8h", "--json", *BY).out
    )
    (row,) = rows(database, risk_limits)
    assert told == {
        "scope_kind": "symbol", "scope": "KO", "name": "max_value", "value": "20000.5",
        "until": row["until"].isoformat().replace("+00:00", "Z"), "set_by": "ann",
    }  # fmt: skip
    assert json.loads(run("limits", "clear", "max_value", "--symbol", "KO", "--json", *BY).out) == told


def test_a_coin_of_a_millionth_has_the_price_that_its_position_tells(database: Database) -> None:
    """Of 0.0000004 USD six decimals leave nothing, of 0.0000123 not enough for a collar of 1 %."""
    held = {"COIN/USD": ("250000000", "100", "0.0000004"), "SHIB/USD": ("100000000", "1234.5", "0.000012345")}
    with database.write() as connection:
        for symbol, (quantity, value, _) in held.items():
            row = {"broker": "a", "symbol": symbol, "quantity": Decimal(quantity), "market_value": Decimal(value)}
            connection.execute(insert(position_snapshots).values(**row, currency="USD", taken_at=utcnow()))
        found = known_prices(connection, list(held), utcnow(), 60.0)
    assert {symbol: price.price for symbol, price in found.items()} == {
        symbol: Decimal(price) for symbol, (_, _, price) in held.items()
    }


@pytest.mark.parametrize("coming", [1, 2, 3, 50])
@pytest.mark.parametrize("most", [1, 2, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("name", ["orders_per_minute", "messages_per_minute"])
def test_a_rate_is_judged_alike_whether_times_are_read_or_counted(
    name: str, coming: int, most: int, database: Database, put: Put
) -> None:
    """Six orders went out in the last minute: each of those that come has the same room, and waits as long."""
    now, ago = utcnow(), (59.5, 50, 40, 30, 20, 10)
    for n, seconds in enumerate(ago):
        put(f"o-{n}", status="filled", attempt={"outcome": "accepted", "started_at": now - timedelta(seconds=seconds)})
    rate = Limit(EVERYTHING, EVERYTHING, name, Decimal(most), set_by="a test")
    order = Intended(
        client_order_id="new", symbol="KO", side=Side.BUY, quantity=Decimal(1), adds=Decimal(1), created_at=now
    )
    every = [now - timedelta(seconds=seconds) for seconds in ago]
    with database.read() as connection:
        exposure = Exposure(connection, ["KO"], [rate], now, ("d", now), coming)
    for _ in range(coming):
        known = Used(orders_at=every, messages_at=every)
        expected = decide_risk(order, [rate], Usage({(EVERYTHING, EVERYTHING): known}), None, None, now)
        assert decide_risk(order, [rate], exposure.usage(order, [rate]), None, None, now) == expected
        if not isinstance(expected, Pass):
            break
        exposure.add(order, None)
        every = [*every, now]


def test_a_rate_of_which_no_time_is_known_is_looked_at_anew_and_never_passed() -> None:
    used = Usage({(EVERYTHING, EVERYTHING): Used(orders_gone=5, orders_at=[utcnow()])})
    order = Intended(
        client_order_id="new", symbol="KO", side=Side.BUY, quantity=Decimal(1), adds=Decimal(1), created_at=utcnow()
    )
    rate = Limit(EVERYTHING, EVERYTHING, "orders_per_minute", Decimal(6), set_by="a test")
    verdict = decide_risk(order, [rate], used, None, None, utcnow())
    assert isinstance(verdict, Hold)
    assert verdict.seconds == 0.05


def test_what_was_bought_a_moment_ago_counts_as_used_though_no_position_was_read_since(
    database: Database, put: Put, settings: Settings
) -> None:
    put("o-1", status="filled", attempt={"outcome": "accepted"}, symbol="SHOP@TSE", asset_class="equity")
    limit = Limit("symbol", "SHOP@TSE", "max_position", Decimal(15), set_by="a test")
    with database.write() as connection:
        put_limit(connection, limit, "a test", utcnow())
        ledger = {"broker": "ibkr", "fills_id": 0, "external_fills_id": 0, "pending": [], "opened_at": utcnow()}
        connection.execute(insert(position_ledgers).values(ledger))
        fill = {
            "client_order_id": "o-1", "attempt_no": 1, "broker": "ibkr", "execution_id": "e-1", "symbol": "SHOP@TSE",
            "quantity": Decimal(10), "price": Decimal(150), "filled_at": utcnow(), "recorded_at": utcnow(),
        }  # fmt: skip
        connection.execute(insert(fills).values(fill))
        (row,) = limits_report(connection, settings.risk, utcnow())
    assert (row["used"], row["left"]) == (10, 5)
