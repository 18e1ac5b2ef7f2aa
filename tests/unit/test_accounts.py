"""Several accounts behind one login: where orders go, what is told of each, and that nothing mixes them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from models.errors import ConfigurationError, InvalidOrder, InvalidRequest, Unsupported
from models.groups import GroupKind, Membership
from models.history import History, v_attempts, v_fills
from models.messages import OrderRequest
from models.record.database import Database
from models.record.group_tables import order_groups
from models.record.intake import Intake
from models.record.tables import fills, order_events, position_events, position_locks
from models.routes import route_of
from models.settings import BrokerSettings, Settings
from models.vocabulary import Side, TimeInForce
from producers.cli.app import placed, whole_place
from producers.cli.data import ACCOUNT_COLUMNS
from producers.cli.layout import layout, with_account
from producers.client import OrderClient
from tests.unit.words import NOW, Put, Run
from worker.brokers.fake import FakeBroker
from worker.brokers.ibkr.accounts import TradedAccounts, traded_accounts
from worker.brokers.several import SeveralAccounts
from worker.brokers.tda.adapter import SchwabBroker
from worker.positions.locks import LOCKED
from worker.rehearsal import rehearsal
from worker.runtime.clock import utcnow

NUMBERS = {"ira": "DU1111111", "main": "DU2222222"}
BROKERS = {"ibkr": {"accounts": NUMBERS}, "alpaca": {}}


def settings_of(**more: object) -> Settings:
    return Settings.model_validate({"brokers": BROKERS, "routing": {"route": ["ibkr:ira", "alpaca"]}} | more)


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands find the settings."""
    numbers = ", ".join(f'{name} = "{number}"' for name, number in NUMBERS.items())
    (tmp_path / "corro.toml").write_text(f"[brokers.ibkr]\naccounts = {{ {numbers} }}\n[brokers.alpaca]\n")
    monkeypatch.setenv("CORRO_CONFIG", str(tmp_path / "corro.toml"))


# -- WHERE AN ORDER GOES ---
@pytest.mark.parametrize(
    ("given", "route"),
    [
        ({}, ("ibkr:ira", "alpaca")),
        ({"route": ["ibkr:main", "alpaca"]}, ("ibkr:main", "alpaca")),
        ({"route": ["ibkr"], "account": "main"}, ("ibkr:main",)),
        ({"route": ["ibkr:ira", "ibkr:main"]}, ("ibkr:ira", "ibkr:main")),
        ({"account": "main"}, ("ibkr:main",)),
    ],
)
def test_a_route_names_accounts(given: dict[str, object], route: tuple[str, ...]) -> None:
    request = OrderRequest(symbol="KO", side="buy", quantity=1, **given)
    assert route_of(settings_of(), request) == route


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"route": ["ibkr:joint"]}, "no account 'joint'; it has ira, main"),
        ({"route": ["alpaca:ira"]}, "alpaca has no account 'ira'"),
        ({"route": ["ibkr"]}, "say ibkr:ACCOUNT"),
        ({"route": ["ibkr:"]}, "'ibkr:' names no account behind the colon"),
        ({"route": ["alpaca:"]}, "names no account behind the colon"),
        ({"route": ["alpaca"], "account": "ira"}, "alpaca has no account 'ira'"),
        ({"route": ["ibkr:ira"], "account": "main"}, "names ibkr:ira, but the order's account is main"),
        ({"account": "joint"}, "no broker of the usual route has 'joint'; there are ibkr:ira, ibkr:main"),
    ],
)
def test_an_account_that_nobody_has_is_refused_with_those_there_are(given: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidOrder, match=words):
        route_of(settings_of(), OrderRequest(symbol="KO", side="buy", quantity=1, **given))


def test_the_usual_account_stands_for_a_broker_without_one() -> None:
    brokers = {"ibkr": {"accounts": NUMBERS, "account": "main"}}
    known = settings_of(brokers=brokers, routing={"route": ["ibkr"]})
    assert route_of(known, OrderRequest(symbol="KO", side="buy", quantity=1)) == ("ibkr:main",)


@pytest.mark.parametrize(("usual", "queue"), [(["ibkr", "tda"], "tda"), (["alpaca"], "ibkr")])
def test_an_order_of_a_message_is_itself_whatever_queue_it_came_through(
    database: Database, usual: list[str], queue: str
) -> None:
    brokers = {name: {"accounts": NUMBERS, "account": "main"} for name in ("ibkr", "tda")}
    intake = Intake(settings_of(brokers=brokers | {"alpaca": {}}, routing={"route": usual}), database)
    body = {"version": 2, "client_order_id": "o-1", "symbol": "KO", "side": "buy", "quantity": "1"}
    mine, another = body | {"account": "ira"}, body | {"account": "main"}
    assert (
        intake.take([mine], queue) == intake.take([mine, mine], queue) == intake.take([mine], "ibkr") == {"o-1": queue}
    )
    assert intake.take([another], queue) == {}, "in another account it is another order"
    with database.read() as connection:
        told = connection.execute(select(order_events.c.kind, order_events.c.detail)).all()
    assert [kind for kind, _ in told] == ["queued", "conflict"]
    assert "this one account main" in told[-1].detail


def test_a_preview_asks_where_the_order_would_go_and_nowhere_else(database: Database, tmp_path: Path) -> None:
    def order(**where: object) -> OrderRequest:
        return OrderRequest(symbol="KO", side="buy", quantity=1, **where)

    with OrderClient(settings_of(home=tmp_path, redis_url=f"unix://{tmp_path}/no-queue")) as client:
        rows = client.preview(order(account="main"), timeout=0.05)
        with pytest.raises(InvalidOrder, match="names ibkr:ira, but the order's account is main"):
            client.preview(order(account="main", route=["ibkr:ira"]), timeout=0.05)
    assert [row["broker"] for row in rows] == ["ibkr:main"]


def test_numbers_are_shown_nowhere_and_are_no_names() -> None:
    known = settings_of()
    assert not [number for number in NUMBERS.values() if number in f"{known!r}{known}{known.model_dump()}"]
    with pytest.raises(InvalidOrder, match="never its number"):
        OrderRequest(symbol="KO", side="buy", quantity=1, account=NUMBERS["ira"])


def test_limits_of_an_account_that_there_is_not_are_refused() -> None:
    with pytest.raises(ValueError, match="ibkr:joint"):
        settings_of(risk={"account": {"ibkr:joint": {"max_quantity": 1}}})


# -- IN COMMANDS ---
@pytest.mark.parametrize(
    ("broker", "account", "found"),
    [
        (None, "ira", (None, "ira")),
        (None, "ibkr:ira", ("ibkr", "ira")),
        ("ibkr:main", None, ("ibkr", "main")),
        ("ibkr", "main", ("ibkr", "main")),
        ("alpaca", None, ("alpaca", None)),
    ],
)
def test_lists_are_filtered_by_account(
    configured: None, broker: str | None, account: str | None, found: tuple[str | None, str | None]
) -> None:
    assert tuple(placed(broker, account).values()) == found


@pytest.mark.parametrize(
    ("broker", "account", "words"),
    [
        (None, "joint", "no joint; there are ibkr:ira, ibkr:main"),
        ("alpaca", "ira", "no alpaca:ira; there are"),
        ("alpaca", "ibkr:ira", "ibkr:ira is not at alpaca"),
        (None, "ibkr:", "must be an account, or BROKER:ACCOUNT"),
        ("ibkr:", None, "must be an account, or BROKER:ACCOUNT"),
    ],
)
def test_an_account_that_there_is_not_is_told_with_those_there_are(
    configured: None, broker: str | None, account: str | None, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        placed(broker, account)


def test_a_list_that_knows_no_accounts_refuses_one_instead_of_listing_nothing(configured: None, corro: Run) -> None:
    code, out, said = corro("export", "events", "--out", "-", "--account", "ira")
    assert (code, out, said.strip()) == (2, "", "corro: events cannot be listed by account")
    code, out, _ = corro("export", "orders", "--out", "-", "--broker", "ibkr:ira")
    assert (code, out.count("\n")) == (0, 1)


def test_linked_orders_costs_and_locks_are_listed_by_account(
    configured: None, corro: Run, put: Put, database: Database
) -> None:
    for account in NUMBERS:
        legs = {"group_id": f"g-{account}", "group_kind": "oco", "leg": "first", "account": account}
        put(f"o-{account}", attempt={"account": account}, **legs)
        with database.write() as connection:
            times = {"created_at": NOW, "updated_at": NOW}
            connection.execute(insert(order_groups).values(group_id=f"g-{account}", kind="oco", status="live", **times))
            connection.execute(
                insert(fills).values(
                    broker="ibkr", execution_id=f"e-{account}", client_order_id=f"o-{account}", attempt_no=1,
                    account=account, symbol="AAPL", quantity=1, price=2, filled_at=NOW, recorded_at=NOW, late=False,
                )
            )  # fmt: skip
            lock = {"broker": f"ibkr:{account}", "symbol": "KO", "expected": 0, "found": 5}
            connection.execute(insert(position_locks).values(**lock, since=NOW, read_at=NOW))
            event = {name: lock[name] for name in ("broker", "symbol")} | {"kind": "locked", "at": NOW}
            connection.execute(insert(position_events).values(event))
    for command, whole in (("groups", "o-{}"), ("tca", "o-{}"), ("locks", "ibkr:{}"), ("locks --log", "ibkr:{}")):
        column = "broker" if command.startswith("locks") else "client_order_id"
        asked = {options: json.loads(corro(*command.split(), *options, "--json")[1]) for options in _PLACES}
        told = {options: sorted(row[column] for row in rows) for options, rows in asked.items()}
        assert told == {options: [whole.format(name) for name in names] for options, names in _PLACES.items()}, command
        assert corro(*command.split(), "--account", "joint")[0] == 2
        assert corro(*command.split(), "--broker", "nobodys")[0] == 2


#: What is asked for, and the accounts whose rows are listed.
_PLACES: dict[tuple[str, ...], tuple[str, ...]] = {
    (): ("ira", "main"), ("--account", "ira"): ("ira",), ("--broker", "ibkr"): ("ira", "main"),
    ("--broker", "ibkr", "--account", "main"): ("main",), ("--account", "ibkr:main"): ("main",),
    ("--broker", "alpaca"): (),
}  # fmt: skip


def test_what_is_changed_in_an_account_says_at_which_broker(configured: None) -> None:
    assert (whole_place("ibkr", "ira"), whole_place(None, "ibkr:ira"), whole_place(None, None)) == (
        "ibkr:ira", "ibkr:ira", None,
    )  # fmt: skip
    with pytest.raises(InvalidRequest, match="say at which broker"):
        whole_place(None, "ira")


def test_the_money_of_each_account_is_asked_for_and_who_does_not_answer_is_named(configured: None, corro: Run) -> None:
    code, out, _ = corro("account", "--timeout", "0.1", "--json")
    assert code == 1
    assert [(row["broker"], row["account"]) for row in json.loads(out)] == [
        ("ibkr", "ira"), ("ibkr", "main"), ("alpaca", None),
    ]  # fmt: skip


def test_the_money_of_two_accounts_is_told_apart_in_a_narrow_terminal() -> None:
    money = {"currency": "USD", "buying_power": "3999808.08", "cash": "999952.02", "equity": "999952.02"}
    rows = [{"broker": "ibkr", "account": name, "account_id": name, **money} for name in NUMBERS]
    assert "account" in {column.name for column in layout(rows, with_account(rows, ACCOUNT_COLUMNS), 60).columns}


@pytest.mark.parametrize("place", ["ibkr", "ibkr:ira", "alpaca"])
def test_brokers_and_their_accounts_are_places(place: str) -> None:
    settings_of().must_know(place)


def test_the_sandbox_numbers_the_accounts_that_the_settings_name() -> None:
    found = Settings.model_validate({"sandbox": {"accounts": {"ibkr": "main,ira", "tda": ["main", "kids"]}}})
    assert found.all_brokers["ibkr"].accounts == {"main": "DU1000001", "ira": "DU1000002"}
    assert found.sandbox.arguments == ["--accounts=ibkr=DU1000001,DU1000002", "--accounts=tda=123456789,123456790"]
    assert (found.destination("ibkr"), found.destination("tda:kids")) == ("ibkr:main", "tda:kids")
    for wrong in ({"alpaca": ["main"]}, {"ibkr": ["main", "main"]}, {"ibkr": []}, {"tda": ["DU1"]}):
        with pytest.raises(ValueError, match="accounts"):
            Settings.model_validate({"sandbox": {"accounts": wrong}})


# -- IB ---
def test_ib_sends_each_order_to_the_number_of_its_account() -> None:
    found = traded_accounts("ibkr", [*NUMBERS.values(), "DU3333333"], "ira", NUMBERS, live=False)
    assert [found.for_order(name, "ibkr") for name in NUMBERS] == list(NUMBERS.values())
    assert found.usual == NUMBERS["ira"]
    assert found.name_of(NUMBERS["main"]) == "main"
    assert not found.is_mine("DU3333333")
    for name in (None, "joint"):
        with pytest.raises(Unsupported, match="there are ira, main"):
            found.for_order(name, "ibkr")


def test_one_account_of_ib_needs_no_name() -> None:
    assert TradedAccounts("DU1111111").for_order(None, "ibkr") == ""
    found = traded_accounts("ibkr", list(NUMBERS.values()), NUMBERS["main"], {}, live=False)
    assert (found.for_order(None, "ibkr"), found.names) == (NUMBERS["main"], {})


@pytest.mark.parametrize("number", ["U1111111", "DU9999999"])
def test_a_live_or_unknown_number_of_ib_is_refused_without_being_told(number: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        traded_accounts("ibkr", ["U1111111", "DU2222222"], "", {"ira": number}, live=False)
    assert number not in str(told.value)


# -- THROUGH A WORKER ---
class OfOneAccount(FakeBroker):
    """A fake broker whose adapter speaks for one account."""

    one_account = True

    def __init__(self, name: str, settings: BrokerSettings) -> None:
        super().__init__(name, settings)
        # A broker numbers the orders of all its accounts together.
        self.account._ids = itertools.count(int(str(settings.get("account_id"))[2:]))


@pytest.fixture
def broker() -> SeveralAccounts:
    adapter = SeveralAccounts.serving(OfOneAccount)
    return adapter("ibkr", BrokerSettings.model_validate({"adapter": "fake", "accounts": NUMBERS}))


@pytest.fixture
def client(broker: SeveralAccounts, tmp_path: Path) -> Iterator[OrderClient]:
    other = FakeBroker("alpaca")
    tables = {"ibkr": {"adapter": "fake", "accounts": NUMBERS}, "alpaca": {"adapter": "fake"}}
    limits = {"account": {"ibkr:ira": {"max_quantity": 5}}}
    with rehearsal(
        tmp_path, broker, other, brokers=tables, routing={"route": ["ibkr:ira", "alpaca"]}, risk=limits
    ) as made:
        yield made


def test_orders_of_accounts_are_held_against_what_is_known_of_instruments(broker: SeveralAccounts) -> None:
    def known(order: OrderRequest) -> None:
        raise Unsupported(f"{order.symbol}: off its steps")

    broker.resolutions(lambda report: None, known)
    with pytest.raises(Unsupported, match="off its steps"):
        broker.check_known(OrderRequest(symbol="KO", side="buy", quantity=1))


def test_linked_orders_are_held_against_the_rules_of_their_account() -> None:
    adapter = SeveralAccounts.serving(SchwabBroker)
    broker = adapter("schwab", BrokerSettings.model_validate({"adapter": "schwab", "accounts": NUMBERS}))
    group = Membership("g", GroupKind.OTO, "first")
    lead = OrderRequest(symbol="KO", side="buy", quantity=1, order_type="limit", limit_price=1, account="ira")
    lead = lead.model_copy(update={"group": group})
    then = lead.model_copy(update={"side": Side.SELL, "group": replace(group, leg="then")})
    broker.check_group([lead, then])
    late = then.model_copy(update={"extended_hours": True, "time_in_force": TimeInForce.DAY})
    with pytest.raises(Unsupported, match=r"schwab links no orders in extended hours \(group g, oto\)"):
        broker.check_group([lead, late])
    with pytest.raises(Unsupported, match="the first of a group is not sent without its legs"):
        broker.check_group([lead])


def test_each_account_gets_its_orders_and_its_limits(client: OrderClient) -> None:
    orders = [
        client.submit(OrderRequest(client_order_id=id_, symbol="KO", side="buy", quantity=size, route=route))
        for id_, size, route in (
            ("in-ira", 3, ["ibkr:ira"]),
            ("in-main", 7, ["ibkr:main"]),
            ("too-much", 6, ["ibkr:ira", "ibkr:main"]),
            ("by-default", 1, None),
        )
    ]
    rows = [order.wait(timeout=20).row for order in orders]
    assert [(row["broker"], row["account"], row["status"]) for row in rows] == [
        ("ibkr", "ira", "filled"), ("ibkr", "main", "filled"), ("ibkr", "main", "filled"), ("ibkr", "ira", "filled"),
    ]  # fmt: skip
    past = History(client.database)
    tried = [(row["account"], row["outcome"], row["code"]) for row in past.rows(v_attempts, client_order_id="too-much")]
    assert sorted(tried) == [("ira", "not_sent", "order_quantity"), ("main", "accepted", None)]
    held = {row["account"]: int(row["quantity"]) for row in past.positions(broker="ibkr") if row["quantity"]}
    assert held == {"ira": 4, "main": 13}
    assert {row["account"] for row in past.rows(v_fills, symbol="KO")} == {"ira", "main"}


def test_a_lock_of_one_account_stops_its_orders_alone(client: OrderClient) -> None:
    now = utcnow()
    lock = {"symbol": "KO", "expected": 0, "found": 5, "since": now, "read_at": now}
    with client.database.write() as connection:
        connection.execute(insert(position_locks).values(broker="ibkr:main", **lock))
    elsewhere = client.submit(OrderRequest(symbol="KO", side="buy", quantity=1, route=["ibkr:main", "ibkr:ira"]))
    row = elsewhere.wait(timeout=20).row
    assert (row["account"], row["status"], row["attempt_no"]) == ("ira", "filled", 2)
    tried = History(client.database).rows(v_attempts, client_order_id=elsewhere.client_order_id)
    assert ("main", "not_sent", LOCKED) in [(one["account"], one["outcome"], one["code"]) for one in tried]
