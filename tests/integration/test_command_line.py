"""The command line as a user types it: real processes, exit statuses, documents on stdout, errors on stderr."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from models.record.tables import orders as orders_table
from tests.kit import World, eventually

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_ORDER_KEYS = {
    "client_order_id", "strategy", "symbol", "side", "quantity", "order_type", "limit_price", "stop_price",
    "time_in_force", "status", "route", "broker", "broker_order_id", "filled_quantity", "avg_fill_price", "reason",
    "created_at", "submitted_at", "accepted_at", "closed_at", "updated_at",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    made = make_world(["alpaca", "tda"])
    made.fleet.start_all()
    return made


def test_submit_and_wait_prints_the_filled_order(world: World) -> None:
    said = world.corro("submit", "aapl", "buy", "10", "--id", "cli-1", "--strategy", "cli", "--wait", "--json")
    assert said.status == 0, said
    order = said.json
    assert set(order) >= _ORDER_KEYS
    assert {"attempts", "fills", "events"}.isdisjoint(order)
    assert (order["client_order_id"], order["status"], order["symbol"]) == ("cli-1", "filled", "AAPL")
    assert (order["quantity"], order["filled_quantity"]) == ("10", "10")
    assert isinstance(order["avg_fill_price"], str)
    assert order["route"] == ["alpaca", "tda"]
    for name in ("created_at", "submitted_at", "accepted_at", "closed_at", "updated_at"):
        assert _TIME.fullmatch(order[name]), (name, order[name])


def test_order_shows_attempts_fills_and_events_under_the_columns_names(world: World) -> None:
    world.orders.wait(world.orders.send("KO", "buy", 2, client_order_id="cli-2"), "filled")
    order = world.corro("order", "cli-2", "--json").json
    assert set(order) >= _ORDER_KEYS | {"attempts", "fills", "events"}
    (attempt,) = order["attempts"]
    assert set(attempt) >= {
        "client_order_id", "attempt_no", "broker", "broker_client_order_id", "broker_order_id", "outcome", "code",
        "message", "worker", "started_at", "ended_at",
    }  # fmt: skip
    assert attempt["outcome"] == "accepted"
    (fill,) = order["fills"]
    assert set(fill) >= {"broker", "execution_id", "client_order_id", "attempt_no", "quantity", "price", "commission",
                         "filled_at"}  # fmt: skip
    assert isinstance(fill["price"], str)
    assert Decimal(fill["price"]) > 0
    assert _TIME.fullmatch(fill["filled_at"])
    assert set(order["events"][0]) >= {"client_order_id", "at", "kind", "from_status", "to_status", "detail"}
    assert order["events"][0]["kind"] == "queued"


def test_orders_and_fills_are_filtered(world: World) -> None:
    world.orders.wait(world.orders.send("PEP", "buy", 1, client_order_id="cli-3", strategy="filtered"), "filled")
    world.orders.send("PEP", "buy", 1, client_order_id="cli-4", order_type="limit", limit_price="1")
    world.orders.wait("cli-4", "accepted")

    def ids(*options: str) -> list[str]:
        said = world.corro("orders", "--json", *options)
        assert said.status == 0, said
        return [order["client_order_id"] for order in said.json]

    assert ids("--symbol", "pep") == ["cli-4", "cli-3"]  # newest first
    assert ids("--symbol", "PEP", "--status", "accepted") == ["cli-4"]
    assert ids("--status", "accepted,filled", "--symbol", "PEP") == ["cli-4", "cli-3"]
    assert ids("--strategy", "filtered") == ["cli-3"]
    assert ids("--symbol", "PEP", "--limit", "1") == ["cli-4"]
    assert "cli-3" in ids("--since", "1h")
    assert ids("--since", "2099-01-01") == []
    fills = world.corro("fills", "--symbol", "PEP", "--json").json
    assert [(fill["client_order_id"], fill["quantity"]) for fill in fills] == [("cli-3", "1")]

    canceled = world.corro("cancel", "cli-4", "--json")
    assert canceled.status == 0
    world.orders.wait("cli-4", "canceled")


def test_without_json_the_answer_is_tab_separated_when_piped(world: World) -> None:
    said = world.corro("submit", "T", "buy", "1", "--id", "cli-5", "--wait")
    head, line = said.out.splitlines()
    row = dict(zip(head.split("\t"), line.split("\t"), strict=True))
    assert (row["client_order_id"], row["status"]) == ("cli-5", "filled")


def test_prices_decide_the_type_and_wait_fails_where_the_order_ends_badly(world: World) -> None:
    terms = ("--limit", "1.50", "--tif", "gtc", "--route", "alpaca")
    resting = world.corro("submit", "MSFT", "buy", "1", *terms, "--json")
    assert resting.status == 0, resting
    assert (resting.json["order_type"], resting.json["limit_price"]) == ("limit", "1.5")
    assert (resting.json["time_in_force"], resting.json["route"]) == ("gtc", ["alpaca"])
    world.client.cancel(resting.json["client_order_id"])

    bad = world.corro("submit", "NOSUCH", "buy", "1", "--wait", "--json")
    assert (bad.status, bad.json["status"]) == (1, "rejected"), bad
    assert bad.json["reason"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit", "AAPL", "buy", "-5"], []),
        (["submit", "AAPL", "buy", "NaN"], ["quantity", "NaN"]),
        (["submit", "AAPL", "hold", "5"], ["side", "hold"]),
        (["submit", "AAPL", "buy", "5", "--type", "limit"], ["limit_price"]),
        (["submit", "AAPL", "buy", "5", "--route", "robinhood"], ["route", "robinhood"]),
        (["submit", "AAPL", "buy", "5", "--id", "has blank"], ["client_order_id", "has blank"]),
        (["submit", "AAPL"], []),
        (["orders", "--status", "lost"], ["status", "lost"]),
        (["orders", "--since", "yesterdayish"], ["since", "yesterdayish"]),
        (["nonsense"], []),
        (["worker", "robinhood"], ["robinhood"]),
        (["unlock", "alpaca", "KO", "--by", "ana"], ["reason"]),
    ],
)
def test_wrong_usage_ends_with_status_2_and_says_what_is_wrong(
    world: World, arguments: list[str], words: list[str]
) -> None:
    said = world.corro(*arguments)
    assert said.status == 2, said
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.strip()
    for word in words:
        assert word in said.err, said


def test_what_is_not_there_fails_with_status_1(world: World) -> None:
    for arguments in (["order", "nobody"], ["cancel", "nobody"], ["resolve", "nobody", "--absent", "--by", "me"]):
        said = world.corro(*arguments, "--json")
        assert said.status == 1, said
        assert "nobody" in said.err
        assert said.json["error"] == "NotFound"


def test_an_id_used_again_for_another_order_is_a_usage_error(world: World) -> None:
    world.orders.wait(world.orders.send("F", "buy", 1, client_order_id="cli-6"), "filled")
    again = world.corro("submit", "F", "buy", "1", "--id", "cli-6", "--json")
    assert (again.status, again.json["status"]) == (0, "filled")
    other = world.corro("submit", "F", "buy", "2", "--id", "cli-6", "--json")
    assert other.status == 2
    assert "cli-6" in other.err


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"CORRO_CONFIG": "/nowhere/corro.toml"}, "/nowhere/corro.toml"),
        ({"CORRO_DATABASE_URL": "nonsense"}, "database_url"),
        ({"CORRO_TIMING__LEASE": "long"}, "lease"),
        ({"CORRO_ROUTING__ROUTE": "robinhood"}, "robinhood"),
    ],
)
def test_wrong_settings_end_with_status_2_and_name_it(world: World, changes: dict[str, str], word: str) -> None:
    said = world.corro("orders", **changes)
    assert said.status == 2, said
    assert word in said.err
    assert "Traceback" not in said.err


def test_a_secret_shows_in_no_error(world: World) -> None:
    said = world.corro("orders", CORRO_DATABASE_URL="postgresql+psycopg://corro:hunter2@127.0.0.1:1/corro")
    assert said.status == 1, said
    assert "hunter2" not in said.out + said.err


def test_data_is_fetched_through_the_workers(world: World) -> None:
    quote = world.corro("quote", "SPY", "--json").json
    assert Decimal(quote["bid"]) < Decimal(quote["ask"])
    assert quote["symbol"] == "SPY"
    money = world.corro("account", "--json").json
    assert [row["broker"] for row in money] == ["alpaca", "tda"]
    assert all(Decimal(row["equity"]) > 0 and row["error"] is None for row in money), money
    world.orders.wait(world.orders.send("DIS", "buy", 7, route="tda"), "filled")
    held = world.corro("positions", "--json").json
    assert [(row["quantity"]) for row in held if (row["broker"], row["symbol"]) == ("tda", "DIS")] == ["7"]
    bars = world.corro("bars", "SPY", "1Day", "--start", "20d", "--json").json
    assert len(bars) > 5
    assert set(bars[0]) >= {"start", "open", "high", "low", "close", "volume"}
    assert _TIME.fullmatch(bars[0]["start"])


def test_bars_are_saved_to_a_file(world: World, tmp_path: Path) -> None:
    said = world.corro("bars", "KO", "1Day", "--start", "20d", "--out", str(tmp_path / "ko.csv"))
    assert said.status == 0, said
    assert (tmp_path / "ko.csv").read_text().startswith("start,open,high,low,close,volume")
    assert world.corro("bars", "KO", "1Day", "--start", "20d", "--out", str(tmp_path / "ko.xls")).status == 2


def test_data_that_no_broker_has_fails_with_status_1(world: World) -> None:
    said = world.corro("quote", "NOSUCH", "--json")
    assert said.status == 1, said
    assert "NOSUCH" in said.err
    assert world.corro("bars", "SPY", "7Min").status == 2


def test_fleet_shows_the_workers_and_who_leads(world: World) -> None:
    def found() -> list[dict[str, object]]:
        rows: list[dict[str, object]] = world.corro("fleet", "--json").json
        return rows if all(row["leader"] for row in rows) else []

    rows = eventually(found, 10)
    assert {(row["broker"], row["state"]) for row in rows} == {("alpaca", "ready"), ("tda", "ready")}
    assert {row["pid"] for row in rows} == {p.popen.pid for p in world.fleet.processes.values()}


def test_unresolved_lists_nothing_when_everything_is_known(world: World) -> None:
    said = world.corro("unresolved", "--json")
    assert (said.status, said.json) == (0, [])


def test_a_halt_denies_and_resume_lets_orders_through_again(world: World) -> None:
    assert world.corro("halt", "--reason", "storm", "--by", "ana").status == 0
    order = world.orders.send("AAPL", "buy", 1)
    whole = world.orders.wait(order, "denied")
    assert "storm" in whole["reason"]
    assert "ana" in whole["reason"]
    assert whole["attempts"] == []
    resumed = world.corro("resume", "--by", "ana", "--reason", "calm")
    assert resumed.status == 0
    assert "halt" in resumed.out
    world.orders.wait(world.orders.send("AAPL", "buy", 1), "filled")


def test_a_halted_broker_passes_its_orders_on_and_still_takes_cancels(world: World) -> None:
    resting = world.orders.send("AAPL", "buy", 1, order_type="limit", limit_price="1", route="alpaca")
    world.orders.wait(resting, "accepted")
    assert world.corro("halt", "--broker", "alpaca", "--by", "ana", "--reason", "storm").status == 0
    try:
        moved = world.orders.wait(world.orders.send("AAPL", "buy", 1), "filled")
        assert moved["broker"] == "tda"
        only = world.orders.wait(world.orders.send("AAPL", "buy", 1, route="alpaca"), "denied")
        assert [(attempt["outcome"], attempt["code"]) for attempt in only["attempts"]] == [("not_sent", "halted")]
        world.client.cancel(resting.client_order_id)
        world.orders.wait(resting, "canceled")
    finally:
        assert world.corro("resume", "--broker", "alpaca", "--by", "ana", "--reason", "calm").status == 0
    assert world.orders.wait(world.orders.send("AAPL", "buy", 1), "filled")["broker"] == "alpaca"


def test_a_drained_broker_keeps_what_is_live_and_takes_nothing_new(world: World) -> None:
    resting = world.orders.send("AAPL", "buy", 1, order_type="limit", limit_price="1", route="alpaca")
    world.orders.wait(resting, "accepted")
    assert world.corro("drain", "alpaca").status == 0
    try:
        assert world.orders.wait(world.orders.send("AAPL", "buy", 1), "filled")["broker"] == "tda"
        assert world.orders.row(resting.client_order_id)["status"] == "accepted"  # type: ignore[index]
    finally:
        assert world.corro("resume", "--by", "ana", "--reason", "calm").status == 0
    world.client.cancel(resting.client_order_id)
    world.orders.wait(resting, "canceled")


def test_check_and_help_answer(world: World) -> None:
    said = world.corro("--help")
    assert said.status == 0
    for command in ("submit", "cancel", "orders", "fleet", "halt", "resolve", "db", "sandbox", "demo", "check"):
        assert command in said.out, command
    checked = world.corro("check", "alpaca")
    assert checked.status == 0, checked


def test_columns_of_the_contract_exist_in_the_table() -> None:
    assert {column.name for column in orders_table.c} >= _ORDER_KEYS
