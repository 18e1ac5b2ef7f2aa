"""The TDA and Schwab adapter against the sandbox's doors: one suite, both dialects."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    ConfigurationError,
    NoData,
    NoSuchSymbol,
    UnreadableReply,
    Unsupported,
)
from models.messages import OrderRequest
from models.reports import BrokerStatus, Found, Missing, OrderReport
from models.settings import BrokerSettings
from tests.contract.doors import SandboxThread, same_clock, tda_table
from tests.contract.token_bank import TokenBank, keeper
from tests.kit.waiting import eventually
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.tda import listings as tda_listings
from worker.brokers.tda import reports as tda_reports
from worker.brokers.tda import tokens
from worker.brokers.tda.adapter import SchwabBroker, TdaBroker
from worker.brokers.tda.dialects import SCHWAB, TDA
from worker.brokers.tda.likeness import terms
from worker.brokers.tda.terms import order_body
from worker.sandbox.tda.door import TdaDoor

ADAPTERS = {"tda": TdaBroker, "schwab": SchwabBroker}
SUFFIXES = {"tda": ("", "/", "/v1", "/v1/"), "schwab": ("", "/", "/v1", "/trader/v1")}


class ConnectedTda:
    """A connected adapter, what it pushed, and the market behind it."""

    def __init__(self, house: SandboxThread, name: str, home: Path, **door: Any) -> None:
        self.house, self.name, self.home = house, name, home
        self.door: Any = house.open(lambda market: TdaDoor(market, name, name, **door))  # type: ignore[arg-type]
        self.reports: list[OrderReport] = []
        self.broker = self.another()
        self.broker.updates(self.reports.append)  # type: ignore[arg-type]

    def another(self, **settings: Any) -> TdaBroker:
        table = tda_table(self.door.url, self.home, self.name)
        return same_clock(ADAPTERS[self.name](self.name, BrokerSettings(adapter=self.name, **(table | settings))))

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


@pytest.fixture(params=["tda", "schwab"])
def desk(house: SandboxThread, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ConnectedTda]:
    found = ConnectedTda(house, request.param, tmp_path)
    found.broker.connect()
    yield found
    found.broker.disconnect()


# -- ORDERS ---


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
def test_every_kind_of_order_is_recognised_when_read_back(desk: ConnectedTda, terms: dict[str, Any]) -> None:
    wanted = order(**terms)
    report = desk.place(wanted)
    assert (report.order_type, report.time_in_force) == (wanted.order_type, wanted.time_in_force)
    found = desk.broker.find_order(ref(wanted))
    assert isinstance(found, Found)
    assert found.report.broker_order_id == report.broker_order_id


def test_what_the_broker_cannot_do_is_known_before_sending(desk: ConnectedTda) -> None:
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


@pytest.mark.parametrize(("adapter", "name"), [(TdaBroker, "tda"), (SchwabBroker, "schwab")])
def test_immediate_or_cancel_is_not_sent(adapter: type[TdaBroker], name: str) -> None:
    """Schwab specifies it and answers 400 "Invalid value" (docs/facts/schwab.md#2.11)."""
    with pytest.raises(Unsupported):
        adapter.capabilities.check(resting(time_in_force="ioc"), name)
    adapter.capabilities.check(resting(time_in_force="fok"), name)


def test_the_dialects_take_different_times_in_force() -> None:
    on_close = resting(time_in_force="cls")
    with pytest.raises(Unsupported):
        order_body(on_close, TDA, "tda")
    assert order_body(on_close, SCHWAB, "schwab")["orderType"] == "LIMIT_ON_CLOSE"
    assert "requestedDestination" not in order_body(on_close, SCHWAB, "schwab")


# -- UNKNOWN OUTCOMES ---


def test_an_id_that_leads_to_another_order_is_not_believed(desk: ConnectedTda) -> None:
    other, wanted = desk.place(resting(symbol="MSFT")), resting()
    mine = desk.place(wanted)
    seen = desk.broker.find_order(ref(wanted, broker_order_id=other.broker_order_id))
    assert isinstance(seen, Found)
    assert seen.report.broker_order_id == mine.broker_order_id
    seen = desk.broker.find_order(ref(wanted, broker_order_id="1"))
    assert isinstance(seen, Found)


def test_an_order_long_before_the_send_is_no_candidate(desk: ConnectedTda) -> None:
    desk.place(resting())
    later = datetime.now(UTC) + timedelta(seconds=30)
    assert isinstance(desk.broker.find_order(ref(resting(), sent_at=later)), Missing)


def test_a_watched_order_that_turns_out_to_be_another_is_not_reported(desk: ConnectedTda) -> None:
    other = desk.place(order(symbol="MSFT"))
    eventually(lambda: not desk.broker._watch._orders)  # it may be filled before anybody has to watch it
    desk.reports.clear()
    wanted = terms(order_body(order(), desk.broker.dialect, "x"))
    desk.broker._watch.add(str(other.broker_order_id), wanted, datetime.now(UTC) - timedelta(seconds=9))
    eventually(lambda: not desk.broker._watch._orders)
    assert desk.reports == []


def test_a_listing_that_was_cut_is_read_in_parts_or_is_an_error(
    desk: ConnectedTda, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        desk.place(resting())
    monkeypatch.setattr(tda_listings, "MAX_RESULTS", 2)
    with pytest.raises(UnreadableReply):
        desk.broker.get_orders()


# -- CONNECTION AND TOKENS ---


def test_a_base_url_may_end_as_users_write_it(desk: ConnectedTda) -> None:
    for ending in SUFFIXES[desk.name]:
        broker = desk.another(base_url=desk.door.url + ending)
        broker.connect()
        broker.disconnect()


def test_the_account_is_found_by_number_by_hash_or_alone(desk: ConnectedTda) -> None:
    for account in (desk.door.account, desk.door.account_path, ""):
        broker = desk.another(account_id=account)
        broker.connect()
        assert broker.get_account_info().account_id == desk.door.account
        broker.disconnect()
    with pytest.raises(ConfigurationError):
        desk.another(account_id="999").connect()


def test_short_lived_tokens_are_renewed_ahead_of_their_end(house: SandboxThread, tmp_path: Path) -> None:
    desk = ConnectedTda(house, "schwab", tmp_path, token_lifetime_s=1.0, revoke_on_refresh=True)
    desk.broker.connect()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        desk.broker.get_account_info()
    desk.broker.disconnect()


def test_workers_share_one_token_through_a_private_file(desk: ConnectedTda) -> None:
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


def test_a_refused_access_token_is_replaced_once_for_all(tmp_path: Path) -> None:
    bank = TokenBank()
    first, second = keeper(bank, tmp_path / "t.json"), keeper(bank, tmp_path / "t.json")
    assert first.token() == second.token() == "a1"
    assert first.after_refusal("a1") == second.after_refusal("a1") == "a2"
    assert bank.offers == ["r0", "r1"]


def test_a_new_login_replaces_the_stored_chain(tmp_path: Path) -> None:
    bank = TokenBank()
    assert keeper(bank, tmp_path / "t.json").token() == "a1"
    bank.valid = "fresh"
    assert keeper(bank, tmp_path / "t.json", "fresh").token() == "a2"
    assert bank.offers == ["r0", "fresh"]


def test_a_dead_stored_chain_falls_back_to_the_configured_token(tmp_path: Path) -> None:
    bank = TokenBank(life_s=1e-6)
    keeper(bank, tmp_path / "t.json").token()
    bank.valid = "r0"
    assert keeper(bank, tmp_path / "t.json").token() == "a3"
    assert bank.offers == ["r0", "r1", "r0"]


def test_a_broken_token_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{half")
    assert keeper(TokenBank(), tmp_path / "t.json").token() == "a1"
    assert json.loads((tmp_path / "t.json").read_text())["refresh_token"] == "r1"


def test_a_token_that_cannot_be_stored_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bank = TokenBank()
    with pytest.raises(ConfigurationError, match="file"):
        keeper(bank, tmp_path / "file" / "t.json").token()
    assert bank.offers == []


def test_tokens_stay_out_of_reprs(tmp_path: Path) -> None:
    mine = keeper(TokenBank(), tmp_path / "t.json")
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
    leg = {"instrument": {"assetType": "EQUITY", "symbol": "AAPL"}, "instruction": "BUY", "quantity": 10, "legId": 1}
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
    leg = {"instrument": {"assetType": "EQUITY", "symbol": "AAPL"}, "instruction": "BUY", "quantity": 10}
    filled = 10 if status == "FILLED" else 0  # filled with nothing is no fill
    raw = {"orderId": 7, "status": status, "orderType": "MARKET", "orderLegCollection": [leg], "filledQuantity": filled}
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


def test_bars_are_read_in_pieces_ordered_and_within_their_range(desk: ConnectedTda) -> None:
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
    # TDA answers an unknown symbol with no candles, Schwab with 404: only the first reads as empty.
    with pytest.raises(NoData if desk.broker.name == "tda" else NoSuchSymbol):
        desk.broker.get_historical_data("ZZZZ", "1Day", start, end)


def test_a_dialect_is_data() -> None:
    assert replace(TDA, name="x").name == "x"
    window = TDA.window(datetime(2026, 1, 5, 12, tzinfo=UTC), datetime(2026, 1, 5, 13, tzinfo=UTC))
    assert window == {"fromEnteredTime": "2026-01-04", "toEnteredTime": "2026-01-06"}
