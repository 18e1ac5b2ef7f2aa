"""What the IB adapter reads at the sandbox's TWS door, with both SDKs: others' securities, zones, bars, notices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError, DataNotPermitted, InstrumentUnknown, NoData, NotConnected, NotSent
from models.reports import CommissionReport, FillReport
from tests.contract.desks import IbAsyncDesk, IbInsyncDesk
from tests.contract.suite.desk import Desk, eventually, now, order, reconnect
from worker.sandbox.tws import messages as tws_messages
from worker.sandbox.tws.wire import encode


@pytest.fixture(params=[IbInsyncDesk, IbAsyncDesk], ids=lambda kind: kind.name)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with closing(request.param(tmp_path)) as found:
        found.broker.connect()
        yield found


def names(desk: Desk) -> dict[str, set[str | None]]:
    """The securities that each reading names, for which `order()` is not."""
    broker = desk.broker
    return {
        "positions": {held.symbol for held in broker.get_positions()},
        "fills": {fill.symbol for fill in broker.get_fills(now() - timedelta(days=1))},
        "orders": {line.symbol for line in broker.get_orders()},
    }


# -- WHOSE SECURITY ---
@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({}, "SHOP@TSE"),
        ({"symbol": "AAPL"}, "AAPL@TSE"),
        ({"symbol": "AAPL", "currency": "USD", "exchange": "LSEETF"}, "AAPL@LSEETF"),
        ({"symbol": "AAPL", "currency": "USD", "exchange": ""}, "STK:AAPL@?.USD"),
        ({"symbol": "ZZZZ", "currency": "USD", "exchange": ""}, "STK:ZZZZ@?.USD"),
        (
            {"symbol": "AAPL", "sec_type": "OPT", "local_symbol": "AAPL  261218C00200000", "currency": "USD"},
            "AAPL261218C00200000",
        ),
    ],
)
@pytest.mark.parametrize("first", ["positions", "orders"])
def test_a_security_that_no_ticker_means_has_one_name_in_every_reading(
    desk: Desk, row: dict[str, Any], name: str, first: str
) -> None:
    desk.fault("foreign", None, **row)
    if first == "orders":
        assert {line.symbol for line in desk.broker.get_orders()} == {name}
    assert names(desk) == {"positions": {name}, "fills": {name}, "orders": {name}}


@pytest.mark.parametrize("exchange", ["NASDAQ", "", "SMART"])
def test_the_us_stock_has_its_ticker_whoever_holds_it(desk: Desk, exchange: str) -> None:
    desk.fault("foreign", None, symbol="AAPL", currency="USD", exchange=exchange, con_id=265598)
    assert names(desk) == {"positions": {"AAPL"}, "fills": {"AAPL"}, "orders": {"AAPL"}}
    (held,) = desk.broker.get_positions()
    assert (held.quantity, held.avg_price, held.currency) == (100, Decimal("150.25"), "USD")


def test_a_holding_whose_security_cannot_be_asked_for_is_no_holding_of_a_ticker(desk: Desk) -> None:
    desk.fault("foreign", None, symbol="MSFT", currency="USD", exchange="", con_id=77)
    desk.fault("error_code", None, operation="contract", code=322, text="busy")
    with pytest.raises(Exception, match="MSFT"):
        desk.broker.get_positions()
    desk.clear()


@pytest.mark.parametrize("listing", ["LSEETF", "FWB2", "VALUE"])
def test_an_order_in_a_symbol_that_is_listed_elsewhere_is_not_sent(
    desk: Any, listing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tws_messages, "listing", lambda _: (listing, "X"))
    with pytest.raises(InstrumentUnknown, match=listing):
        desk.place(order())
    assert desk.door.desk.all() == []


@pytest.mark.parametrize("listing", ["PINK", "OTCBB", "ARCA"])
def test_an_order_in_a_us_stock_is_sent_wherever_it_is_listed(
    desk: Any, listing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tws_messages, "listing", lambda _: (listing, "X"))
    assert desk.place(order()).broker_order_id


# -- TIMES ---
@pytest.mark.parametrize("zone", ["JST", "IST", "BST", "GMT+8", "US/Eastern", "Central European Standard Time", ""])
def test_no_zone_of_an_execution_closes_the_broker(desk: Desk, zone: str) -> None:
    desk.fault("foreign", None, time=f"{now():%Y%m%d} 10:18:12 {zone}".strip())
    desk.broker.disconnect()
    reconnect(desk.broker)
    (fill,) = desk.broker.get_fills(now() - timedelta(days=2))
    certain = zone in ("JST", "GMT+8", "US/Eastern", "")
    assert fill.timed is certain
    assert certain or abs(fill.filled_at - now()) < timedelta(minutes=1)
    assert desk.place(order()).broker_order_id


def test_the_clock_of_the_gateway_shows_what_its_zone_means(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """IST is India, Israel or Ireland; a gateway whose clock is five and a half hours ahead is in India."""
    india = timedelta(hours=5, minutes=30)
    monkeypatch.setattr(tws_messages, "hello", lambda v: encode(v, f"{now() + india:%Y%m%d %H:%M:%S} IST"))
    desk.fault("foreign", None, time=f"{now():%Y%m%d} 10:18:12 IST")
    desk.broker.disconnect()
    reconnect(desk.broker)
    (fill,) = desk.broker.get_fills(now() - timedelta(days=2))
    assert fill.timed
    assert f"{fill.filled_at:%H:%M:%S}" == "04:48:12"


# -- FARMS AND NOTICES ---
def test_a_symbol_is_not_refused_while_the_farm_for_definitions_is_broken(desk: Desk) -> None:
    desk.fault("definitions_broken", None)
    with pytest.raises(NotConnected, match="secdefnj"):
        desk.place(order())
    with pytest.raises(NotSent):
        desk.place(order(symbol="ZZZZ"))
    desk.clear()
    eventually(lambda: not desk.broker._live.frames.broken)  # type: ignore[attr-defined]
    assert desk.place(order()).broker_order_id
    with pytest.raises(InstrumentUnknown):
        desk.place(order(symbol="ZZZZ"))


def test_a_client_that_connects_is_told_that_the_farm_for_definitions_is_broken(desk: Desk) -> None:
    desk.fault("definitions_broken", None)
    desk.broker.disconnect()
    reconnect(desk.broker)
    with pytest.raises(NotConnected, match="secdefnj"):
        desk.place(order())


@pytest.mark.parametrize("code", [10090, 10167])
def test_ticks_are_awaited_after_a_notice(desk: Desk, code: int) -> None:
    desk.fault("error_code", operation="quote", code=code, text="not subscribed. Ticks are still active", notice=True)
    assert desk.broker.get_market_data("AAPL").bid


def test_a_notice_after_which_nothing_comes_is_no_permission(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tws_messages, "quote_ticks", lambda *_: [])
    desk.fault("error_code", operation="quote", code=10090, text="not subscribed", notice=True)
    with pytest.raises(DataNotPermitted, match="10090"):
        desk.broker.get_market_data("AAPL")


def test_a_quote_is_never_the_price_of_the_one_before(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One SDK keeps a ticker for each contract: a snapshot without ticks would show the last one's prices."""
    assert desk.broker.get_market_data("AAPL").bid
    monkeypatch.setattr(tws_messages, "quote_ticks", lambda *_: [])
    with pytest.raises(NoData):
        desk.broker.get_market_data("AAPL")


# -- BARS ---
TEN_DAYS = timedelta(days=10)


def minutes(desk: Desk) -> Any:
    """Bars of ten days of minutes: the adapter asks ten times."""
    return desk.broker.get_historical_data("SPY", "1Min", now() - TEN_DAYS, now())


@pytest.mark.parametrize(
    "text",
    [
        "Historical Market Data Service error message:Trading TWS session is connected from a different IP address",
        "Historical Market Data Service error message:API historical data query cancelled: 7",
        "Fehlermeldung des Dienstes: keine Daten",
        "",
    ],
)
def test_one_failed_part_fails_the_bars(desk: Desk, text: str) -> None:
    desk.fault("error_code", operation="bars", code=162, text=text, after=1)
    with pytest.raises(DataError) as failed:
        minutes(desk)
    assert not isinstance(failed.value, NoData)
    assert len({bar.start.date() for bar in minutes(desk)}) >= 6


def test_a_part_of_which_ib_says_that_there_is_nothing_is_empty(desk: Desk) -> None:
    desk.fault("error_code", operation="bars", code=162, text="HMDS query returned no data: SPY@SMART Trades", after=1)
    assert minutes(desk)


@pytest.mark.parametrize("value", ["NaN", "-1", "0", "", "inf", "1.7976931348623157E308", "2147483647", "abc"])
def test_bars_without_prices_are_left_out(desk: Desk, value: str) -> None:
    everything = desk.broker.get_historical_data("SPY", "1Day", now() - timedelta(days=40), now())
    desk.fault("sentinel", None, operation="bars", value=value)
    start = now() - timedelta(days=41)  # another request: the answer to the same one is remembered
    good = desk.broker.get_historical_data("SPY", "1Day", start, now())
    assert 0 < len(good) < len(everything)
    assert {bar.start for bar in good} <= {bar.start for bar in everything} | {good[0].start}
    assert all(0 < bar.low <= bar.close <= bar.high for bar in good)


# -- COMMISSIONS ---
@pytest.mark.parametrize("value", ["-1", "NaN", "", "1.7976931348623157E308"])
def test_a_commission_that_is_none_is_not_told(desk: Any, value: str) -> None:
    desk.fault("sentinel", None, value=value)
    placed = desk.place(order())
    eventually(lambda: any(isinstance(r, FillReport) for r in desk.reports))
    (fill,) = desk.broker.get_fills(now() - timedelta(days=1))
    assert fill.broker_order_id == placed.broker_order_id
    assert fill.commission is None
    assert not [r for r in desk.reports if isinstance(r, CommissionReport)]


def test_the_time_of_an_execution_is_the_one_that_was_sent(desk: Desk) -> None:
    desk.fault("foreign", None, time="20260413 15:27:04 US/Eastern")
    (fill,) = desk.broker.get_fills(datetime(2026, 1, 1, tzinfo=UTC))
    assert fill.filled_at == datetime(2026, 4, 13, 19, 27, 4, tzinfo=UTC)
