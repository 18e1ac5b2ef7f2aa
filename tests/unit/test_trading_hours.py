"""When instruments trade, and by which steps: as brokers tell it, by the calendars, and held against orders."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select, update

from models.errors import Unsupported
from models.instruments import Instrument, read_instrument
from models.legs import legs_field
from models.lookups import InstrumentReport
from models.messages import OrderRequest
from models.record.database import Database
from models.record.instrument_tables import instruments
from models.record.instruments import keep_instruments, told_hours
from models.record.tables import fetches
from models.trading_hours import PriceBand, TradingHours
from models.vocabulary import AssetClass
from worker.brokers.fake import FakeBroker
from worker.brokers.ibkr.hours import bands_of, hours_of, rule_of
from worker.data.instruments import InstrumentRules, KnownInstruments, expired, off_the_steps
from worker.risk.hours import OrderHours, traded
from worker.runtime.sessions import is_over, opens_after, session_of

#: A Saturday at noon in New York, the Friday before at 13:30, after an early close, and a Monday at noon.
SATURDAY, EARLY, MONDAY = (
    datetime(2026, 11, day, hour, 30, tzinfo=UTC) for day, hour in ((28, 17), (27, 18), (30, 17))
)
STEPS = (PriceBand(Decimal(0), Decimal("0.01")), PriceBand(Decimal(50), Decimal("0.02")))


def details(**told: str) -> Any:
    fields = {
        "timeZoneId": "US/Eastern",
        "tradingHours": "",
        "liquidHours": "",
        "validExchanges": "",
        "marketRuleIds": "",
    }
    return SimpleNamespace(**fields | told)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# -- WHAT IB TELLS ---
def test_hours_are_read_in_the_zone_of_the_exchange_old_forms_too() -> None:
    told = hours_of(
        details(
            tradingHours="20260708:0400-20260708:2000;20260709:CLOSED",
            liquidHours="20260708:0930-20260708:1600;20260709:CLOSED",
        )
    )
    assert told is not None
    assert (told.since, told.until) == (utc("2026-07-08 04:00"), utc("2026-07-10 04:00"))
    assert told.regular == ((utc("2026-07-08 13:30"), utc("2026-07-08 20:00")),)
    moments = {"2026-07-08 13:30": "regular", "2026-07-08 20:00": "extended", "2026-07-09 15:00": "closed"}
    assert {at: told.session_at(utc(at)) for at in moments} == moments
    assert told.session_at(utc("2026-07-10 15:00")) is None
    assert told.opens_after(utc("2026-07-08 20:00")) is None
    old = hours_of(details(timeZoneId="CST (Central Standard Time)", tradingHours="20090507:0700-1830,1830-2330",
                           liquidHours="20090507:1700-1600"))  # fmt: skip
    assert old is not None
    assert old.every[1] == (utc("2009-05-07 23:30"), utc("2009-05-08 04:30"))
    assert old.regular == ((utc("2009-05-07 22:00"), utc("2009-05-08 21:00")),)


@pytest.mark.parametrize(
    ("told", "moments"),
    [
        ("20260707:1700-20260708:1600", {"07-07 15:00": None, "07-07 23:00": "regular", "07-08 21:30": None}),
        ("20260703:CLOSED;20260705:1700-20260706:1600", {"07-03 15:00": None, "07-04 15:00": "closed"}),
        ("20260707:0830-20260707:1500", {"07-07 06:00": "closed", "07-07 15:00": "regular"}),
        ("20260707:0000-20260708:0000", {"07-07 04:00": None, "07-07 05:00": "regular", "07-08 04:59": "regular"}),
        ("20261031:CLOSED;20261101:CLOSED", {"11-02 05:30": "closed", "11-02 06:00": None}),  # of 25 hours
        ("20261031:1700-1600;20261101:CLOSED", {"11-01 21:30": "regular", "11-01 22:00": "closed"}),
    ],
)
def test_nothing_is_told_of_a_time_in_which_an_earlier_session_may_run(
    told: str, moments: dict[str, str | None]
) -> None:
    hours = hours_of(details(timeZoneId="US/Central", tradingHours=told, liquidHours=told))
    assert hours is not None
    assert {at: hours.session_at(utc(f"2026-{at}")) for at in moments} == moments


@pytest.mark.parametrize(
    "told",
    [
        {"timeZoneId": "nowhere at all", "tradingHours": "20260708:CLOSED", "liquidHours": "20260708:CLOSED"},
        {"timeZoneId": "IST", "tradingHours": "20260708:CLOSED", "liquidHours": "20260708:CLOSED"},
        {"tradingHours": "20260708:0400-20260708:2000"},
        {"tradingHours": "20260708:0400-20260708:2000;soon", "liquidHours": "20260708:0930-20260708:1600"},
        {"tradingHours": "20260708:2000-20260708:0400", "liquidHours": "20260708:0930-20260708:1600"},
    ],
)
def test_hours_that_cannot_be_read_for_certain_tell_nothing(told: dict[str, str]) -> None:
    assert hours_of(details(**told)) is None


def test_a_market_rule_is_that_of_the_exchange_the_order_goes_to() -> None:
    both = details(validExchanges="SMART,NYSE", marketRuleIds="26,239")
    assert [rule_of(both, exchange) for exchange in ("SMART", "NYSE", "IBIS")] == [26, 239, None]
    assert rule_of(details(validExchanges="SMART,NYSE", marketRuleIds="26"), "SMART") is None
    rows: list[Any] = [SimpleNamespace(lowEdge=0.0, increment=0.01), SimpleNamespace(lowEdge=50.0, increment=0.02)]
    assert bands_of(rows) == STEPS
    assert bands_of([*rows, SimpleNamespace(lowEdge=100.0, increment=0.0)]) is None
    assert bands_of([]) is None


# -- WHERE NOBODY HAS TOLD ---
CLASSES: list[tuple[str, AssetClass, tuple[str | None, str | None, str | None], str | None]] = [
    ("KO", AssetClass.US_EQUITY, ("closed", "extended", "regular"), "2026-11-30 14:30"),
    ("KO261218C00070000", AssetClass.OPTION, ("closed", "closed", "regular"), "2026-11-30 14:30"),
    ("SHOP@TSE", AssetClass.EQUITY, ("closed", "regular", "regular"), "2026-11-30 14:30"),
    ("BMW@IBIS", AssetClass.EQUITY, ("closed", "closed", "closed"), "2026-11-30 08:00"),
    ("ABC@NOWHERE", AssetClass.EQUITY, (None, None, None), None),
    ("ESZ26@CME", AssetClass.FUTURE, ("closed", "closed", "regular"), "2026-11-29 23:00"),
    ("ZCZ26@CBOT", AssetClass.FUTURE, (None, None, None), None),
    ("EUR/USD", AssetClass.FOREX, ("closed", "regular", "regular"), "2026-11-29 22:15"),
    ("BTC/USD", AssetClass.CRYPTO, ("regular", "regular", "regular"), None),
]  # fmt: skip


@pytest.mark.parametrize(("symbol", "kind", "sessions", "opens"), CLASSES)
def test_each_class_has_its_own_session(
    symbol: str, kind: AssetClass, sessions: tuple[str | None, ...], opens: str | None
) -> None:
    instrument = read_instrument(symbol, kind)
    assert tuple(session_of(instrument, at) for at in (SATURDAY, EARLY, MONDAY)) == sessions
    assert opens_after(instrument, SATURDAY) == (None if opens is None else utc(opens))


def test_the_rest_of_the_day_is_no_session() -> None:
    future, pair = read_instrument("ESZ26@CME", AssetClass.FUTURE), read_instrument("EUR/USD", AssetClass.FOREX)
    assert [session_of(future, utc(f"2026-12-01 {at}")) for at in ("21:59", "22:00", "22:59", "23:00")] == [
        "regular", "closed", "closed", "regular",
    ]  # fmt: skip
    assert [session_of(pair, utc(f"2026-12-01 {at}")) for at in ("21:59", "22:05", "22:15")] == [
        "regular", "closed", "regular",
    ]  # fmt: skip


def test_what_the_broker_tells_comes_first() -> None:
    corn = read_instrument("ZCZ26@CBOT", AssetClass.FUTURE)
    told = TradingHours(since=SATURDAY, until=MONDAY, regular=((SATURDAY, SATURDAY + timedelta(hours=1)),))
    assert session_of(corn, SATURDAY, told) == "regular"
    assert session_of(corn, SATURDAY + timedelta(hours=2), told) == "closed"
    assert session_of(corn, MONDAY, told) is None
    assert session_of(read_instrument("KO"), SATURDAY, told) == "regular"


# -- OF ORDERS ---
def test_a_package_is_in_the_strictest_session_of_its_legs(database: Database) -> None:
    share, option = read_instrument("KO"), read_instrument("KO261218C00070000")
    legs = legs_field([{"symbol": "KO", "side": "buy", "ratio": 100}, {"symbol": option.symbol, "side": "sell"}])
    assert legs is not None
    assert traded("KO", "us_equity", legs) == (share, option)
    with database.read() as connection:
        hours = OrderHours(connection, [share, option], EARLY)
        assert [hours.session(them) for them in ([share], [option], [share, option])] == [
            "extended",
            "closed",
            "closed",
        ]
        assert hours.opens([share, option]) == utc("2026-11-30 14:30")
        assert OrderHours(connection, [share, option], MONDAY).session([share, option]) == "regular"


def test_an_instrument_that_many_orders_trade_is_looked_up_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def counted(one: Instrument, *more: Any) -> Any:
        looked.append(one.symbol)
        return session_of(one, *more)

    monkeypatch.setattr("worker.risk.hours.session_of", counted)
    coin, share = read_instrument("BTC/USD", AssetClass.CRYPTO), read_instrument("KO")
    with database.read() as connection:
        hours = OrderHours(connection, [coin, share] * 50, MONDAY)
        assert {hours.session([one]) for one in [coin, share] * 50} == {"regular"}
    assert looked == ["BTC/USD", "KO"]


def test_each_broker_is_asked_once_an_hour_whatever_its_name(database: Database) -> None:
    coin = read_instrument("ABCDEFGHIJ/USDT", AssetClass.CRYPTO)
    longest = read_instrument(f"{'A' * 24}@NOWHERE", AssetClass.EQUITY)
    brokers = ["a-broker-of-a-long-name-1", "a-broker-of-a-long-name-2"]
    with database.write() as connection:
        for late in (0, 1, 45):
            hours = OrderHours(connection, [coin, longest], MONDAY + timedelta(minutes=late))
            for name in brokers:
                hours.ask(name, [coin, longest])
        rows = connection.execute(select(fetches.c.broker, fetches.c.fetch_id, fetches.c.request)).all()
    assert sorted(broker for broker, _, _ in rows) == sorted(brokers * 4)
    assert all(len(fetch_id) <= 64 for _, fetch_id, _ in rows)
    assert {request["query"] for _, _, request in rows} == {coin.symbol, longest.symbol}


# -- HELD AGAINST ORDERS ---
def order(symbol: str, **terms: Any) -> OrderRequest:
    return OrderRequest(**{"symbol": symbol, "side": "buy", "quantity": 10, "created_at": MONDAY, **terms})


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ("49.99", None),
        ("50.02", None),
        ("50.01", "limit_price: prices of BMW@IBIS go in steps of 0.02 at that price, was 50.01"),
        ("49.995", "limit_price: prices of BMW@IBIS go in steps of 0.01, was 49.995"),
    ],
)
def test_the_step_depends_on_the_price(price: str, words: str | None) -> None:
    wanted = order("BMW@IBIS", asset_class="equity", order_type="limit", limit_price=price)
    assert off_the_steps(wanted, InstrumentRules(Decimal("0.01"), None, STEPS)) == words


def test_an_option_is_over_when_its_last_session_is() -> None:
    today = read_instrument("KO261130C00070000")
    closes = utc("2026-11-30 21:00")
    assert [is_over(today, closes + timedelta(minutes=late)) for late in (-60, 0, 15, 16)] == [False] * 3 + [True]
    early = read_instrument("KO261127C00070000")
    assert [is_over(early, utc(f"2026-11-27 {at}")) for at in ("18:10", "18:20")] == [False, True]
    assert is_over(early, SATURDAY)


def test_an_order_in_what_has_expired_is_not_sent(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = order("KO261130C00070000", quantity=1)
    assert expired(gone, MONDAY) is None
    words = "symbol: KO261130C00070000 has expired, its last day was 2026-11-30: nothing is sent"
    assert expired(gone, MONDAY + timedelta(days=1)) == words
    assert expired(gone, MONDAY + timedelta(days=1), date(2026, 12, 31)) == words, "its own text says when"
    legs = [
        {"symbol": f"KO261130C000{strike}000", "side": side, "ratio": 1, "position_effect": "open"}
        for strike, side in ((70, "buy"), (75, "sell"))
    ]
    spread = order("KO", quantity=1, legs=legs, order_type="limit", limit_price="1")
    assert expired(spread, MONDAY) is None
    assert expired(spread, MONDAY + timedelta(days=1)) == words
    future = order("ESZ26@CME", asset_class="future", quantity=1)
    assert expired(future, utc("2026-12-19 12:00"), date(2026, 12, 18)) is not None
    assert expired(future, utc("2026-12-19 12:00")) is None
    broker = FakeBroker()
    KnownInstruments(database, broker)
    monkeypatch.setattr("worker.data.instruments.utcnow", lambda: MONDAY + timedelta(days=1))
    with pytest.raises(Unsupported, match=f"fake: {words}"):
        broker.check_known(gone)


# -- KEPT ---
def test_hours_and_ranges_are_kept_and_hold_after_a_restart(database: Database) -> None:
    hours = TradingHours(since=SATURDAY, until=MONDAY, regular=((SATURDAY, MONDAY),), every=((SATURDAY, MONDAY),))
    bmw = InstrumentReport(
        symbol="BMW@IBIS", asset_class=AssetClass.EQUITY, underlying="BMW", currency="EUR",
        price_increment=Decimal("0.01"), price_bands=STEPS, hours=hours,
    )  # fmt: skip
    now = datetime.now(UTC)
    with database.write() as connection:
        keep_instruments(connection, "fake", [replace(bmw, symbol="BMW@FWB"), bmw], now)
        keep_instruments(connection, "other", [replace(bmw, hours=None)], now + timedelta(minutes=1))
    with database.write() as connection:
        assert told_hours(connection, ["BMW@IBIS", "KO"]) == {("BMW@IBIS", "equity"): hours}
        for broken in ({"since": "soon"}, []):
            found = update(instruments).where(instruments.c.broker == "other").values(hours=broken)
            connection.execute(found)
            assert told_hours(connection, ["BMW@IBIS"]) == {("BMW@IBIS", "equity"): hours}
    broker = FakeBroker()
    KnownInstruments(database, broker).write()
    with pytest.raises(Unsupported, match=r"steps of 0\.02 at that price"):
        broker.check_known(order("BMW@IBIS", asset_class="equity", order_type="limit", limit_price="50.01"))
