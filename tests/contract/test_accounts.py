"""Several accounts behind one login, at the doors that have them: nothing of one is told or changed in another.

A worker of this process drives each adapter over a socket; `outside` is another program with the same login.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from models.errors import InvalidOrder
from models.history import History, v_attempts, v_external_orders, v_fills
from models.messages import OrderRequest
from models.reports import Ambiguous, Missing
from producers.client import OrderClient
from tests.contract.desks import IbInsyncDesk, SchwabDesk, TdaDesk
from tests.contract.suite.desk import eventually, order, ref, ticket
from worker.brokers.several import SeveralAccounts
from worker.control.kill import begin
from worker.control.scopes import Scope
from worker.orders.resolve import resolve
from worker.rehearsal import rehearsal
from worker.sandbox.market.accounts import Books
from worker.sandbox.market.market import MarketOrder

NUMBERS = {
    "ibkr": {"ira": "DU1000001", "main": "DU1000002"},
    "schwab": {"ira": "12345678", "main": "12345679"},
    "tda": {"ira": "123456789", "main": "123456790"},
}
TIMING = {"open_orders_every": 0.2, "positions_every": 0.3, "reconcile": (0.05, 0.2), "deadline": 2.0}
IB = [IbInsyncDesk]
_SYMBOLS = (f"SIM{number:03d}" for number in count(100))


class AccountsDesk:
    """One login with the accounts `ira` (the usual one) and `main`, and the worker that trades them."""

    def __init__(self, desk: Any, client: OrderClient) -> None:
        self.desk, self.client, self.name = desk, client, desk.door_name
        self.numbers = NUMBERS[self.name]
        self.outside = made(desk, client_id=9, token_path=str(desk.home / "outside.json"))
        self.outside.connect()

    def submit(self, account: str, symbol: str, size: int = 3, **terms: Any) -> Any:
        given = {"symbol": symbol, "side": "buy", "quantity": size, "route": [f"{self.name}:{account}"], **terms}
        return self.client.submit(OrderRequest(**given))

    def rests(self, account: str, symbol: str, **terms: Any) -> Any:
        found = self.submit(account, symbol, order_type="limit", limit_price="1", time_in_force="gtc", **terms)
        return self.until(found, "accepted")

    def until(self, found: Any, status: str) -> Any:
        assert eventually(lambda: found.refresh().status == status), found.refresh().row
        return found.refresh()

    def at_the_door(self, symbol: str) -> list[MarketOrder]:
        """Return what the market has, whoever sent it."""
        orders = self.desk.house.call(lambda: self.desk.house.market.orders(self.name))
        return [one for one in orders if one.symbol == symbol]

    def places(self, symbol: str, *names: str) -> list[tuple[object, ...]]:
        """Return in which accounts the market has a symbol's orders, with more of each."""
        by_number = {number: name for name, number in self.numbers.items()}
        return [(by_number[one.account], *(getattr(one, n) for n in names)) for one in self.at_the_door(symbol)]

    def held(self, account: str, symbol: str) -> Decimal:
        market = self.desk.house.market
        found = self.desk.house.call(lambda: market.account(self.name, self.numbers[account])).positions.get(symbol)
        return found.quantity if found else Decimal(0)

    def attempts(self, found: Any) -> list[dict[str, Any]]:
        return History(self.client.database).of_order(v_attempts, found.client_order_id)

    def is_unknown(self, found: Any) -> bool:
        """Tell whether an attempt is unknown after looks that saw something."""
        attempt = self.attempts(found)[-1]
        return attempt["outcome"] == "unknown" and bool((attempt["evidence"] or {}).get("times", 0) > 1)

    def entered_outside(self, account: str, symbol: str, our_id: str, **terms: Any) -> str:
        """Have another program enter an order in an account; returns its broker's id."""
        wanted = order(symbol, account=account, order_type="limit", limit_price="1", time_in_force="gtc", **terms)
        return str(self.outside.place_order(ticket(wanted, our_id=our_id)).broker_order_id)


def made(desk: Any, **settings: Any) -> Any:
    """Make an adapter for both accounts, as a worker does."""
    kind = desk.adapters if desk.door_name == "ibkr" else SeveralAccounts.serving(desk.adapters)
    usual = {"account" if desk.door_name == "ibkr" else "account_id": "ira", "accounts": NUMBERS[desk.door_name]}
    adapters, desk.adapters = desk.adapters, kind
    try:
        return desk.make(**usual, **settings)
    finally:
        desk.adapters = adapters


@pytest.fixture(scope="module", params=[*IB, SchwabDesk, TdaDesk], ids=lambda kind: kind.name)
def login(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountsDesk]:
    home = tmp_path_factory.mktemp("accounts")

    class TwoAccounts(request.param):  # type: ignore[misc,name-defined]
        def make_door(self, market: Any) -> Any:
            market.books = Books({self.door_name: tuple(NUMBERS[self.door_name].values())})
            return super().make_door(market)

    with closing(TwoAccounts(home)) as desk:
        name = desk.door_name
        table = {"adapter": name, "accounts": NUMBERS[name]}
        with rehearsal(
            home / "record", made(desk), brokers={name: table}, routing={"route": [f"{name}:ira"]}, timing=TIMING
        ) as client:
            found = AccountsDesk(desk, client)
            yield found
            found.outside.disconnect()


@pytest.fixture
def symbol() -> str:
    return next(_SYMBOLS)


def test_each_account_has_its_orders_positions_fills_and_money(login: AccountsDesk, symbol: str) -> None:
    for account, size in (("ira", 3), ("main", 5)):
        login.until(login.submit(account, symbol, size), "filled")
    assert sorted(login.places(symbol, "quantity")) == [("ira", 3), ("main", 5)]
    rows = History(login.client.database).rows(v_fills, symbol=symbol)
    assert sorted((row["account"], row["quantity"]) for row in rows) == [("ira", 3), ("main", 5)]
    seen = [(one.account_id, one.quantity) for one in login.outside.get_positions() if one.symbol == symbol]
    assert sorted(seen) == [("ira", 3), ("main", 5)]
    money = {one.account_id: one for one in login.outside.get_accounts()}
    assert money["ira"].cash > money["main"].cash
    fills = login.outside.get_fills(rows[-1]["filled_at"] - timedelta(seconds=2))
    assert sorted((one.account, one.quantity) for one in fills if one.symbol == symbol) == [("ira", 3), ("main", 5)]


def test_an_order_is_changed_and_canceled_in_its_own_account(login: AccountsDesk, symbol: str) -> None:
    theirs, ours = login.rests("ira", symbol), login.rests("main", symbol)
    ours.replace(quantity=4)
    assert eventually(lambda: ("main", Decimal(4), "new") in login.places(symbol, "quantity", "state"))
    login.until(ours, "accepted").cancel()
    login.until(ours, "canceled")
    live = [place for place in login.places(symbol, "quantity", "state") if place[2] == "new"]
    assert live == [("ira", 3, "new")]
    assert theirs.refresh().status == "accepted"


def test_what_is_held_in_one_account_is_not_sold_in_another(login: AccountsDesk, symbol: str) -> None:
    login.until(login.submit("main", symbol, 5), "filled")
    refused = login.until(login.submit("ira", symbol, 5, side="sell"), "denied")
    assert f"{login.name}:main" in str(refused.reason)
    login.until(login.submit("main", symbol, 5, side="sell"), "filled")
    assert (login.held("ira", symbol), login.held("main", symbol)) == (0, 0)


@pytest.mark.parametrize("login", IB, ids=lambda kind: kind.name, indirect=True)
def test_a_lost_answer_is_found_in_its_own_account(login: AccountsDesk, symbol: str) -> None:
    login.entered_outside("ira", symbol, "elsewhere", quantity=3)
    login.desk.fault("accept_drop", symbol=symbol)
    found = login.rests("main", symbol)
    assert [one["outcome"] for one in login.attempts(found)] == ["accepted"]
    assert sorted(login.places(symbol)) == [("ira",), ("main",)]


def test_an_order_with_the_same_id_and_terms_in_another_account_is_never_ours(login: AccountsDesk, symbol: str) -> None:
    login.desk.fault("hang", symbol=symbol)
    lost = login.submit("main", symbol, order_type="limit", limit_price="1", time_in_force="gtc")
    eventually(lambda: login.attempts(lost) and login.attempts(lost)[-1]["outcome"] == "unknown")
    another = login.entered_outside("ira", symbol, lost.client_order_id, quantity=3)
    assert eventually(lambda: login.is_unknown(lost)), login.attempts(lost)
    assert login.attempts(lost)[-1]["broker_order_id"] is None
    with pytest.raises(InvalidOrder, match=r"in account ira|has shown corro no order"):
        resolve(login.client, lost.client_order_id, adopt=another, by="a test")
    login.outside.cancel_order(ref(order(symbol, account="ira"), another))
    lost.cancel()
    resolve(login.client, lost.client_order_id, adopt=None, by="a test")


def test_an_order_is_looked_for_in_its_account_alone(login: AccountsDesk, symbol: str) -> None:
    wanted = order(symbol, account="ira", order_type="limit", limit_price="1", quantity=3)
    login.outside.place_order(ticket(wanted))
    seen = login.outside.find_order(ref(wanted.model_copy(update={"account": "main"})))
    assert isinstance(seen, Missing | Ambiguous)
    both = wanted.model_copy(update={"account": "main"})
    mine = login.outside.place_order(ticket(both))
    assert login.outside.find_order(ref(both)).report.broker_order_id == mine.broker_order_id
    login.outside.cancel_order(ref(both, mine.broker_order_id))
    assert eventually(lambda: sorted(login.places(symbol, "state")) == [("ira", "new"), ("main", "canceled")])


def test_a_fallback_goes_from_one_account_to_another_of_the_login(login: AccountsDesk, symbol: str) -> None:
    login.desk.fault("refuse", symbol=symbol)
    found = login.submit("ira", symbol, route=[f"{login.name}:ira", f"{login.name}:main"])
    row = login.until(found, "filled").row
    assert [(one["account"], one["outcome"]) for one in login.attempts(found)] == [
        ("ira", "refused"),
        ("main", "accepted"),
    ]
    assert (row["account"], login.held("ira", symbol), login.held("main", symbol)) == ("main", 0, 3)


def test_a_kill_of_an_account_ends_what_is_there_alone(login: AccountsDesk, symbol: str) -> None:
    ours = {account: login.rests(account, symbol) for account in NUMBERS[login.name]}
    theirs = {account: login.entered_outside(account, symbol, "by-hand", quantity=2) for account in ours}
    past = History(login.client.database)
    assert eventually(lambda: len(past.rows(v_external_orders, symbol=symbol)) == len(theirs))
    login.outside.disconnect()  # IB lets nobody else end what a program that is there has entered
    scope = Scope.of(account=f"{login.name}:main")
    begun = begin(login.client.database, scope, by="a test", reason="of accounts", kill={"external": True})
    login.until(ours["main"], "canceled")
    assert eventually(lambda: [one[0] for one in login.places(symbol, "state") if one[1] == "new"] == ["ira", "ira"])
    assert ours["ira"].refresh().status == "accepted"
    assert begun.scope == scope
    login.outside.connect()
