"""The TDA and Schwab adapter against the sandbox's doors: one suite, both dialects."""

from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    ConfigurationError,
    ConnectionLost,
    DataError,
    InstrumentUnknown,
    InsufficientFunds,
    NoData,
    NotConnected,
    OrderRejected,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ServerError,
    Stale,
    SubmitTimeout,
    UnreadableReply,
    Unsupported,
)
from models.messages import OrderRequest
from models.reports import Ambiguous, BrokerStatus, Found, Missing, OrderReport
from models.settings import BrokerSettings
from tests.contract.doors import Sandbox, eventually, sandbox
from worker.brokers import tda_orders, tda_reports, tokens
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.tda import SchwabBroker, TdaBroker
from worker.brokers.tda_dialects import SCHWAB, TDA, order_body
from worker.brokers.tokens import GrantRefused, TokenKeeper
from worker.sandbox.tda_door import TdaDoor

ADAPTERS = {"tda": TdaBroker, "schwab": SchwabBroker}
SUFFIXES = {"tda": ("", "/", "/v1", "/v1/"), "schwab": ("", "/", "/v1", "/trader/v1")}


class Desk:
    """A connected adapter, what it pushed, and the market behind it."""

    def __init__(self, house: Sandbox, name: str, home: Path, **door: Any) -> None:
        self.house, self.name, self.home = house, name, home
        self.door: Any = house.open(lambda market: TdaDoor(market, name, name, **door))  # type: ignore[arg-type]
        self.reports: list[OrderReport] = []
        self.broker = self.another()
        self.broker.updates(self.reports.append)  # type: ignore[arg-type]

    def another(self, **settings: Any) -> TdaBroker:
        table = {"base_url": self.door.url, "api_key": "k", "refresh_token": "r", "poll_s": 0.05}
        table |= {"token_path": str(self.home / "token.json")}
        table |= {"app_secret": "s"} if self.name == "schwab" else {}
        return ADAPTERS[self.name](self.name, BrokerSettings(adapter=self.name, **(table | settings)))

    def place(self, order: OrderRequest, deadline_s: float = 3.0, still_mine: Any = lambda: None) -> OrderReport:
        return self.broker.place_order(
            Ticket(
                order=order,
                broker_client_order_id=order.client_order_id,
                deadline_s=deadline_s,
                still_mine=still_mine,
            )
        )

    def pushed(self, order_id: str | None) -> list[OrderReport]:
        return [report for report in self.reports if report.broker_order_id == order_id]

    def arrivals(self) -> int:
        return len(self.house.arrivals(self.name))


def order(symbol: str = "AAPL", side: str = "buy", quantity: Any = 10, **terms: Any) -> OrderRequest:
    return OrderRequest(symbol=symbol, side=side, quantity=quantity, **terms)


def resting(**terms: Any) -> OrderRequest:
    return order(order_type="limit", limit_price="1.00", **terms)


def ref(wanted: OrderRequest, **more: Any) -> OrderRef:
    fields: dict[str, Any] = {
        "order": wanted,
        "broker_client_order_id": wanted.client_order_id,
        "broker_order_id": None,
        "sent_at": wanted.created_at,
    }
    return OrderRef(**(fields | more))


@pytest.fixture
def house() -> Iterator[Sandbox]:
    with sandbox() as found:
        yield found


@pytest.fixture(params=["tda", "schwab"])
def desk(house: Sandbox, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    found = Desk(house, request.param, tmp_path)
    found.broker.connect()
    yield found
    found.broker.disconnect()


# -- ORDERS ---
def test_a_market_order_is_verified_filled_and_pushed_with_its_executions(desk: Desk) -> None:
    report = desk.place(order())
    assert report.status in (BrokerStatus.ACCEPTED, BrokerStatus.FILLED)
    # Quick enough, the order is filled before it is read back: then there is nothing left to push.
    shown = lambda: [r for r in (report, *desk.pushed(report.broker_order_id)) if r.status is BrokerStatus.FILLED]  # noqa: E731
    last = eventually(shown)[-1]
    (fill,) = last.fills
    assert (fill.quantity, fill.cumulative_quantity, fill.broker_order_id) == (10, 10, report.broker_order_id)
    assert last.avg_fill_price == fill.price
    eventually(lambda: not desk.broker._watch._orders)


def test_a_partial_fill_is_told_from_a_working_order(desk: Desk) -> None:
    desk.house.fault(desk.name, "partial", symbol="AAPL")
    report = desk.place(order())
    partial = eventually(lambda: [r for r in desk.pushed(report.broker_order_id) if r.filled_quantity])[0]
    assert (partial.status, partial.filled_quantity) == (BrokerStatus.PARTIALLY_FILLED, 5)
    assert [fill.quantity for fill in partial.fills] == [5]


def test_a_limit_order_rests_is_listed_and_can_be_canceled(desk: Desk) -> None:
    wanted = resting()
    report = desk.place(wanted)
    assert (report.status, report.limit_price) == (BrokerStatus.ACCEPTED, 1)
    assert [o.broker_order_id for o in desk.broker.get_orders()] == [report.broker_order_id]
    known = ref(wanted, broker_order_id=report.broker_order_id)
    desk.broker.cancel_order(known)
    eventually(lambda: desk.broker.find_order(known).report.status is BrokerStatus.CANCELED)
    eventually(lambda: [r.status for r in desk.pushed(report.broker_order_id)][-1:] == [BrokerStatus.CANCELED])
    with pytest.raises(Refused):
        desk.broker.cancel_order(known)


def test_an_order_can_be_canceled_by_its_terms(desk: Desk) -> None:
    wanted = resting()
    desk.place(wanted)
    desk.broker.cancel_order(ref(wanted))
    eventually(lambda: desk.broker.get_orders() == [])
    with pytest.raises(Refused):
        desk.broker.cancel_order(ref(resting(symbol="MSFT")))


@pytest.mark.parametrize(
    "terms",
    [
        {"order_type": "stop", "stop_price": "999.5"},
        {"order_type": "stop_limit", "stop_price": "999.5", "limit_price": "1000.25"},
        {"order_type": "trailing_stop", "side": "sell_short", "trail_percent": "1.5"},
        {"order_type": "trailing_stop", "side": "sell_short", "trail_amount": "2.25"},
        {"order_type": "limit", "limit_price": "1.05", "extended_hours": True},
        {"order_type": "limit", "limit_price": "0.1234", "time_in_force": "gtc"},
        {"order_type": "market", "time_in_force": "cls"},
    ],
)
def test_every_kind_of_order_is_recognised_when_read_back(desk: Desk, terms: dict[str, Any]) -> None:
    wanted = order(**terms)
    report = desk.place(wanted)
    assert (report.order_type, report.time_in_force) == (wanted.order_type, wanted.time_in_force)
    found = desk.broker.find_order(ref(wanted))
    assert isinstance(found, Found)
    assert found.report.broker_order_id == report.broker_order_id


def test_refusals_have_their_classes(desk: Desk) -> None:
    with pytest.raises(InsufficientFunds):
        desk.place(order(quantity=10**7))
    with pytest.raises(InstrumentUnknown):
        desk.place(order(symbol="ZZZZ"))
    desk.house.fault(desk.name, "refuse")
    with pytest.raises(OrderRejected):
        desk.place(order())
    desk.house.hold(desk.name, "MSFT", 5)
    with pytest.raises(Refused):
        desk.place(order(symbol="MSFT", side="sell", quantity=6))


def test_what_the_broker_cannot_do_is_known_before_sending(desk: Desk) -> None:
    for wanted in (
        order(quantity="0.5"),
        order(time_in_force="opg"),
        order(extended_hours=True),
        order(order_type="limit", limit_price="100.001"),
        order(order_type="stop", stop_price="100", time_in_force="cls"),
    ):
        with pytest.raises(Unsupported):
            desk.place(wanted)
    assert desk.arrivals() == 0


def test_the_dialects_take_different_times_in_force() -> None:
    ioc, on_close = resting(time_in_force="ioc"), resting(time_in_force="cls")
    with pytest.raises(Unsupported):
        TdaBroker.capabilities.check(ioc, "tda")
    SchwabBroker.capabilities.check(ioc, "schwab")
    with pytest.raises(Unsupported):
        order_body(on_close, TDA, "tda")
    assert order_body(on_close, SCHWAB, "schwab")["orderType"] == "LIMIT_ON_CLOSE"
    assert "requestedDestination" not in order_body(on_close, SCHWAB, "schwab")


# -- UNKNOWN OUTCOMES ---
@pytest.mark.parametrize(
    ("fault", "options", "kind"),
    [
        ("accept_drop", {}, ConnectionLost),
        ("accept_hang", {}, SubmitTimeout),
        ("status", {"status": 500, "accepted": True, "operation": "place"}, ServerError),
        ("location_missing", {}, UnreadableReply),
        ("location_foreign", {}, UnreadableReply),
    ],
)
def test_an_order_lost_on_the_way_back_is_unknown_sent_once_and_found_by_its_terms(
    desk: Desk, fault: str, options: dict[str, Any], kind: type[Exception]
) -> None:
    earlier = desk.place(resting(symbol="MSFT"))
    desk.house.fault(desk.name, fault, **options)
    wanted, began = resting(), time.monotonic()
    with pytest.raises(kind):
        desk.place(wanted, deadline_s=0.7)
    assert time.monotonic() - began < 1.5
    assert desk.arrivals() == 2
    found = desk.broker.find_order(ref(wanted))
    assert isinstance(found, Found)
    assert (found.report.symbol, found.report.quantity) == ("AAPL", 10)
    assert found.report.broker_order_id != earlier.broker_order_id
    assert desk.broker.find_orders([ref(wanted), ref(resting(symbol="TSLA"))])[0] == found


@pytest.mark.parametrize(
    ("fault", "options", "kind"),
    [("hang", {}, SubmitTimeout), ("status", {"status": 503, "operation": "place"}, ServerError)],
)
def test_an_order_lost_on_the_way_there_is_unknown_too_and_missing(
    desk: Desk, fault: str, options: dict[str, Any], kind: type[Exception]
) -> None:
    desk.house.fault(desk.name, fault, **options)
    wanted = order()
    with pytest.raises(kind):
        desk.place(wanted, deadline_s=0.7)
    assert isinstance(desk.broker.find_order(ref(wanted)), Missing)
    assert not desk.broker.capabilities.absence.possible


def test_look_alikes_are_told_apart_by_what_is_known_or_stay_ambiguous(desk: Desk) -> None:
    first, second = desk.place(resting()), desk.place(resting())
    wanted = resting()
    seen = desk.broker.find_order(ref(wanted))
    assert isinstance(seen, Ambiguous)
    assert {c.broker_order_id for c in seen.candidates} == {first.broker_order_id, second.broker_order_id}
    for key in ("known", "baseline"):
        seen = desk.broker.find_order(ref(wanted, **{key: frozenset({first.broker_order_id})}))
        assert isinstance(seen, Found)
        assert seen.report.broker_order_id == second.broker_order_id


def test_an_id_that_leads_to_another_order_is_not_believed(desk: Desk) -> None:
    other, wanted = desk.place(resting(symbol="MSFT")), resting()
    mine = desk.place(wanted)
    seen = desk.broker.find_order(ref(wanted, broker_order_id=other.broker_order_id))
    assert isinstance(seen, Found)
    assert seen.report.broker_order_id == mine.broker_order_id
    seen = desk.broker.find_order(ref(wanted, broker_order_id="1"))
    assert isinstance(seen, Found)


def test_an_order_long_before_the_send_is_no_candidate(desk: Desk) -> None:
    desk.place(resting())
    later = datetime.now(UTC) + timedelta(seconds=30)
    assert isinstance(desk.broker.find_order(ref(resting(), sent_at=later)), Missing)


def test_an_order_taken_but_not_readable_yet_is_unknown_until_it_is_found(desk: Desk) -> None:
    desk.house.fault(desk.name, "status", count=3, status=503, operation="get")
    sent_at = datetime.now(UTC)
    with pytest.raises(OutcomeUnknown):
        desk.place(order())
    found = desk.broker.find_order(ref(order(), sent_at=sent_at))
    assert isinstance(found, Found)
    assert found.report.symbol == "AAPL"


def test_a_watched_order_that_turns_out_to_be_another_is_not_reported(desk: Desk) -> None:
    other = desk.place(order(symbol="MSFT"))
    eventually(lambda: desk.pushed(other.broker_order_id))
    desk.reports.clear()
    wanted = tda_reports.terms(order_body(order(), desk.broker.dialect, "x"))
    desk.broker._watch.add(str(other.broker_order_id), wanted, datetime.now(UTC) - timedelta(seconds=9))
    eventually(lambda: not desk.broker._watch._orders)
    assert desk.reports == []


def test_throttling_is_a_refusal(desk: Desk) -> None:
    desk.house.fault(desk.name, "rate_limit", count=None, per_minute=0)
    with pytest.raises(RateLimited):
        desk.place(order())
    assert desk.house.taken(desk.name) == 0


def test_a_stale_claim_sends_nothing(desk: Desk) -> None:
    def still_mine() -> None:
        raise Stale("claimed long ago")

    with pytest.raises(Stale):
        desk.place(order(), still_mine=still_mine)
    assert desk.arrivals() == 0


def test_a_listing_that_was_cut_is_read_in_parts_or_is_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        desk.place(resting())
    monkeypatch.setattr(tda_orders, "MAX_RESULTS", 2)
    with pytest.raises(UnreadableReply):
        desk.broker.get_orders()


def test_a_failed_listing_is_an_error_and_not_an_empty_list(desk: Desk) -> None:
    desk.house.fault(desk.name, "status", count=None, status=500, operation="list")
    with pytest.raises(ServerError):
        desk.broker.get_orders()
    with pytest.raises(ServerError):
        desk.broker.get_fills(datetime.now(UTC))
    with pytest.raises(ServerError):
        desk.broker.find_order(ref(order()))


def test_fills_and_closed_orders_are_read_since_a_time(desk: Desk) -> None:
    began = datetime.now(UTC).replace(microsecond=0)
    report = desk.place(order())
    eventually(lambda: desk.broker.get_fills(began))
    (fill,) = desk.broker.get_fills(began)
    assert fill.broker_order_id == report.broker_order_id
    assert [o.status for o in desk.broker.get_orders(open_only=False, since=began)] == [BrokerStatus.FILLED]
    assert desk.broker.get_orders(open_only=False, since=began + timedelta(hours=1)) == []
    assert desk.broker.get_fills(began + timedelta(hours=1)) == []


# -- CONNECTION AND TOKENS ---
def test_a_closed_door_sends_nothing_and_opens_again(desk: Desk) -> None:
    desk.house.fault(desk.name, "down", count=None)
    eventually(lambda: desk.door._site is None and not desk.door._runner.server.connections)
    with pytest.raises(NotConnected):
        desk.place(order())
    assert not desk.broker.is_connected()
    with pytest.raises(NotConnected):
        desk.broker.connect()
    desk.house.clear()
    eventually(lambda: desk.door._site is not None)
    desk.broker.connect()
    desk.place(order())


def test_an_adapter_that_is_not_connected_sends_nothing(desk: Desk) -> None:
    desk.broker.disconnect()
    desk.broker.disconnect()
    assert not desk.broker.is_connected()
    with pytest.raises(NotConnected):
        desk.place(order())
    with pytest.raises(DataError):
        desk.broker.get_market_data("AAPL")


def test_a_base_url_may_end_as_users_write_it(desk: Desk) -> None:
    for ending in SUFFIXES[desk.name]:
        broker = desk.another(base_url=desk.door.url + ending)
        broker.connect()
        broker.disconnect()


def test_the_account_is_found_by_number_by_hash_or_alone(desk: Desk) -> None:
    for account in (desk.door.account, desk.door.account_path, ""):
        broker = desk.another(account_id=account)
        broker.connect()
        assert broker.get_account_info().account_id == desk.door.account
        broker.disconnect()
    with pytest.raises(ConfigurationError):
        desk.another(account_id="999").connect()


def test_an_expired_token_is_renewed_once_and_the_order_sent_once(desk: Desk) -> None:
    before = desk.broker._rest.keeper._held  # type: ignore[union-attr]
    desk.house.fault(desk.name, "token_expired", operation="place")
    desk.place(order())
    assert desk.house.taken(desk.name) == 1
    assert desk.broker._rest.keeper._held != before  # type: ignore[union-attr]


def test_a_token_that_cannot_be_renewed_sends_nothing(desk: Desk) -> None:
    desk.house.fault(desk.name, "token_expired", operation="place")
    desk.house.fault(desk.name, "status", count=None, status=503, operation="token")
    with pytest.raises(NotConnected):
        desk.place(order())
    assert desk.arrivals() == 0
    assert not desk.broker.is_connected()
    desk.house.clear()
    desk.broker.connect()
    desk.place(order())


def test_a_refused_refresh_token_is_a_matter_of_configuration(desk: Desk) -> None:
    with pytest.raises(ConfigurationError, match="refresh_token"):
        desk.another(refresh_token="wrong", token_path=str(desk.home / "other.json")).connect()


def test_short_lived_tokens_are_renewed_ahead_of_their_end(house: Sandbox, tmp_path: Path) -> None:
    desk = Desk(house, "schwab", tmp_path, token_lifetime_s=1.0, revoke_on_refresh=True)
    desk.broker.connect()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        desk.broker.get_account_info()
    desk.broker.disconnect()


def test_workers_share_one_token_through_a_private_file(desk: Desk) -> None:
    path = desk.home / "token.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stored = json.loads(path.read_text())
    desk.house.fault(desk.name, "status", count=None, status=503, operation="token")
    second = desk.another()
    second.connect()  # no token endpoint: it must use the stored one
    assert second.get_account_info()
    second.disconnect()
    assert json.loads(path.read_text()) == stored


def test_the_default_token_file_is_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORRO_HOME", str(tmp_path))
    assert tokens.token_path("schwab", None) == tmp_path / "tokens" / "schwab.json"
    assert tokens.token_path("schwab", "/elsewhere.json") == Path("/elsewhere.json")


class Bank:
    """A token endpoint that rotates refresh tokens and remembers what it was offered."""

    def __init__(self, life_s: float = 1800) -> None:
        self.offers: list[str] = []
        self.valid, self.life_s = "r0", life_s

    def grant(self, refresh_token: str) -> dict[str, Any]:
        self.offers.append(refresh_token)
        if refresh_token != self.valid:
            raise GrantRefused("invalid_grant")
        self.valid = f"r{len(self.offers)}"
        time.sleep(0.02)
        return {"access_token": f"a{len(self.offers)}", "refresh_token": self.valid, "expires_in": self.life_s}


def keeper(bank: Bank, path: Path, refresh_token: str = "r0") -> TokenKeeper:
    return TokenKeeper("schwab", path, refresh_token, bank.grant)


def test_many_workers_refresh_once(tmp_path: Path) -> None:
    bank, found = Bank(), []
    keepers = [keeper(bank, tmp_path / "t.json") for _ in range(8)]
    threads = [threading.Thread(target=lambda k=one: found.append(k.token())) for one in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["a1"] * 8
    assert bank.offers == ["r0"]


def test_a_refused_access_token_is_replaced_once_for_all(tmp_path: Path) -> None:
    bank = Bank()
    first, second = keeper(bank, tmp_path / "t.json"), keeper(bank, tmp_path / "t.json")
    assert first.token() == second.token() == "a1"
    assert first.after_refusal("a1") == second.after_refusal("a1") == "a2"
    assert bank.offers == ["r0", "r1"]


def test_a_rotated_refresh_token_survives_a_restart(tmp_path: Path) -> None:
    bank = Bank(life_s=1e-6)
    assert keeper(bank, tmp_path / "t.json").token() == "a1"
    assert keeper(bank, tmp_path / "t.json").token() == "a2"
    assert bank.offers == ["r0", "r1"]


def test_a_new_login_replaces_the_stored_chain(tmp_path: Path) -> None:
    bank = Bank()
    assert keeper(bank, tmp_path / "t.json").token() == "a1"
    bank.valid = "fresh"
    assert keeper(bank, tmp_path / "t.json", "fresh").token() == "a2"
    assert bank.offers == ["r0", "fresh"]


def test_a_dead_stored_chain_falls_back_to_the_configured_token(tmp_path: Path) -> None:
    bank = Bank(life_s=1e-6)
    keeper(bank, tmp_path / "t.json").token()
    bank.valid = "r0"
    assert keeper(bank, tmp_path / "t.json").token() == "a3"
    assert bank.offers == ["r0", "r1", "r0"]


def test_a_refused_chain_is_not_offered_with_every_order(tmp_path: Path) -> None:
    bank = Bank()
    bank.valid = "other"
    mine = keeper(bank, tmp_path / "t.json")
    for _ in range(3):
        with pytest.raises(ConfigurationError):
            mine.token()
    assert bank.offers == ["r0"]


def test_a_broken_token_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{half")
    assert keeper(Bank(), tmp_path / "t.json").token() == "a1"
    assert json.loads((tmp_path / "t.json").read_text())["refresh_token"] == "r1"


def test_a_token_that_cannot_be_stored_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bank = Bank()
    with pytest.raises(ConfigurationError, match="file"):
        keeper(bank, tmp_path / "file" / "t.json").token()
    assert bank.offers == []


def test_tokens_stay_out_of_reprs(tmp_path: Path) -> None:
    mine = keeper(Bank(), tmp_path / "t.json")
    mine.token()
    assert "a1" not in repr(mine._held)
    assert "r1" not in repr(mine._held)


@pytest.mark.parametrize(
    ("adapter", "url"),
    [(TdaBroker, "https://api.tdameritrade.com/v1"), (TdaBroker, None), (SchwabBroker, None)],
)
def test_real_money_has_to_be_asked_for(adapter: type[TdaBroker], url: str | None) -> None:
    keys: dict[str, Any] = {"adapter": "x", "api_key": "k", "app_secret": "s", "refresh_token": "r", "base_url": url}
    with pytest.raises(ConfigurationError, match="live = true"):
        adapter.check_settings("x", BrokerSettings(**keys))
    adapter.check_settings("x", BrokerSettings(**keys, live=True))
    if adapter is SchwabBroker:
        with pytest.raises(ConfigurationError, match="app_secret"):
            adapter.check_settings("x", BrokerSettings(**(keys | {"app_secret": ""}), live=True))


# -- READING ---
def test_executions_of_one_activity_are_told_apart_and_weighted() -> None:
    leg = {"instrument": {"symbol": "AAPL"}, "instruction": "BUY", "quantity": 10, "legId": 1}
    parts = [
        {"legId": 1, "quantity": 4, "price": 10, "time": "2026-01-05T15:00:01+0000"},
        {"legId": 1, "quantity": 6, "price": 20, "time": "2026-01-05T15:00:00+0000"},
    ]
    raw = {
        "orderId": 7,
        "status": "WORKING",
        "orderType": "MARKET",
        "quantity": 20,
        "filledQuantity": 10,
        "enteredTime": "2026-01-05T14:59:59+0000",
        "orderLegCollection": [leg],
        "orderActivityCollection": [{"activityType": "EXECUTION", "activityId": 3, "executionLegs": parts}],
    }
    report = tda_reports.order_report(raw)
    assert report.status is BrokerStatus.PARTIALLY_FILLED
    assert report.avg_fill_price == 16
    assert [(f.execution_id, f.cumulative_quantity) for f in report.fills] == [("7:3:1", 6), ("7:3:0", 10)]


@pytest.mark.parametrize("status", [*tda_reports.STATUSES, "SOMETHING_NEW"])
def test_every_status_has_a_meaning_and_a_new_one_is_unknown(status: str) -> None:
    leg = {"instrument": {"symbol": "AAPL"}, "instruction": "BUY", "quantity": 10}
    raw = {"orderId": 7, "status": status, "orderType": "MARKET", "orderLegCollection": [leg]}
    report = tda_reports.order_report(raw)
    assert report.status is tda_reports.STATUSES.get(status, BrokerStatus.UNKNOWN)
    assert report.raw_status == status


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("https://api.schwabapi.com/trader/v1/accounts/ABC/orders/123", "123"),
        ("/v1/accounts/ABC/orders/123/", "123"),
        ("https://api.schwabapi.com/trader/v1/accounts/XYZ/orders/123", None),
        ("https://api.schwabapi.com/trader/v1/accounts/ABC/orders/", None),
        (None, None),
    ],
)
def test_a_location_is_only_read_for_our_account(location: str | None, found: str | None) -> None:
    assert tda_reports.located(location, "ABC") == found


def test_account_positions_and_quotes_are_in_our_words(desk: Desk) -> None:
    desk.house.hold(desk.name, "MSFT", 7)
    desk.house.hold(desk.name, "TSLA", -3)
    account = desk.broker.get_account_info()
    assert account.cash
    assert account.buying_power
    assert {p.symbol: p.quantity for p in desk.broker.get_positions()} == {"MSFT": 7, "TSLA": -3}
    quote = desk.broker.get_market_data("AAPL")
    assert quote.bid is not None
    assert quote.ask is not None
    assert quote.bid <= quote.ask
    with pytest.raises(NoData):
        desk.broker.get_market_data("ZZZZ")


def test_bars_are_read_in_pieces_ordered_and_within_their_range(desk: Desk) -> None:
    end = datetime.now(UTC).replace(microsecond=0)
    start = end - timedelta(days=25)
    for timeframe in ("30Min", "1Day", "1Week"):
        bars = desk.broker.get_historical_data("AAPL", timeframe, start, end)
        assert [bar.start for bar in bars] == sorted({bar.start for bar in bars})
        assert start <= bars[0].start
        assert bars[-1].start < end
        assert (end - bars[-1].start) < timedelta(days=8)
    with pytest.raises(Unsupported):
        desk.broker.get_historical_data("AAPL", "1Hour", start, end)
    with pytest.raises(NoData):
        desk.broker.get_historical_data("ZZZZ", "1Day", start, end)


def test_a_dialect_is_data() -> None:
    assert replace(TDA, name="x").name == "x"
    window = TDA.window(datetime(2026, 1, 5, 12, tzinfo=UTC), datetime(2026, 1, 5, 13, tzinfo=UTC))
    assert window == {"fromEnteredTime": "2026-01-04", "toEnteredTime": "2026-01-06"}
