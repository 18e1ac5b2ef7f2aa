"""What is traded has one text, and every class its rules: what does not fit is refused before anything is sent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from models.errors import InvalidOrder
from models.instruments import (
    Instrument,
    compact,
    padded,
    read_instrument,
    told_class,
    told_multiplier,
    with_full_year,
)
from models.messages import OrderRequest
from models.record.database import Database
from models.record.intake import Intake, body_of, request_of, row_of
from models.vocabulary import AssetClass, TimeInForce

D = Decimal
NOW = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
CALL = "AAPL261218C00200000"


def order(symbol: str, **more: Any) -> OrderRequest:
    return OrderRequest(**{"symbol": symbol, "side": "buy", "quantity": 1, "created_at": NOW, **more})


@pytest.mark.parametrize(("text", "asset_class", "shown"), [
    ("BRK.B", None, {"asset_class": "us_equity", "underlying": "BRK.B", "currency": "USD", "multiplier": D(1)}),
    (CALL, None, {"asset_class": "option", "underlying": "AAPL", "expiry": date(2026, 12, 18), "right": "C",
                  "strike": D(200), "currency": "USD", "multiplier": D(100)}),
    ("SPX261218P05512500", "option", {"underlying": "SPX", "right": "P", "strike": D("5512.5")}),
    ("ESZ26@CME", "future", {"underlying": "ES", "month": date(2026, 12, 1), "listing": "CME", "multiplier": None}),
    ("M2KH27@CME", "future", {"underlying": "M2K", "month": date(2027, 3, 1)}),
    ("EUR/USD", "forex", {"underlying": "EUR", "currency": "USD"}),
    ("BTC/USD", "crypto", {"underlying": "BTC", "currency": "USD"}),
    ("ETH/BTC", "crypto", {"underlying": "ETH", "currency": "BTC"}),
    ("SHOP@TSE", "equity", {"underlying": "SHOP", "listing": "TSE", "currency": None, "multiplier": D(1)}),
])  # fmt: skip
def test_a_text_is_one_instrument(text: str, asset_class: str | None, shown: dict[str, Any]) -> None:
    found = read_instrument(text, asset_class)
    assert str(found) == text
    assert {name: getattr(found, name) for name in shown} == shown


@pytest.mark.parametrize(("terms", "words"), [
    ({"symbol": "EUR/USD"}, ("symbol:", "asset_class", "forex or crypto", "'EUR/USD'")),
    ({"symbol": "SHOP@TSE"}, ("symbol:", "asset_class", "equity or a future")),
    ({"symbol": "AAPL", "asset_class": "option"}, ("symbol:", "OCC", "'AAPL'")),
    ({"symbol": CALL, "asset_class": "us_equity"}, ("symbol:", "ticker", CALL)),
    ({"symbol": "EURUSD", "asset_class": "forex"}, ("symbol:", "base/quote")),
    ({"symbol": "ESQQ6@CME", "asset_class": "equity", "quantity": "1.5"}, ("quantity:", "whole")),
    ({"symbol": "ES26@CME", "asset_class": "future"}, ("symbol:", "month")),
    ({"symbol": "AAPL@NASDAQ", "asset_class": "equity"}, ("symbol:", "AAPL")),
    ({"symbol": "AAPL", "asset_class": "share"}, ("asset_class:", "'share'")),
    ({"symbol": "AAPL", "currency": "CAD"}, ("currency:", "USD", "'CAD'")),
    ({"symbol": "EUR/USD", "asset_class": "forex", "currency": "CHF"}, ("currency:", "USD", "'CHF'")),
    ({"symbol": "SHOP@TSE", "asset_class": "equity", "currency": "dollars"}, ("currency:", "'dollars'")),
    ({"symbol": "AAPL261318C00200000"}, ("symbol:", "261318")),
    ({"symbol": "AAPL251219C00200000"}, ("symbol:", "expired", "2025-12-19")),
    ({"symbol": "ESX25@CME", "asset_class": "future"}, ("symbol:", "expired")),
    ({"symbol": "AAPL261218C00000000"}, ("symbol:", "strike", "AAPL261218C00000000")),
    ({"symbol": "EUR/EUR", "asset_class": "forex"}, ("symbol:", "two currencies", "'EUR/EUR'")),
    ({"symbol": "USD/USD", "asset_class": "crypto"}, ("symbol:", "two currencies", "'USD/USD'")),
    ({"symbol": CALL, "quantity": "0.5"}, ("quantity:", "whole", "0.5")),
    ({"symbol": CALL, "extended_hours": True}, ("extended_hours:", "option")),
    ({"symbol": CALL, "order_type": "trailing_stop", "trail_amount": 1}, ("order_type:", "'trailing_stop'")),
    ({"symbol": CALL, "time_in_force": "cls"}, ("time_in_force:", "day", "'cls'")),
    ({"symbol": CALL, "order_type": "limit", "limit_price": "1.505"}, ("limit_price:", "0.01", "1.505")),
    ({"symbol": "BTC/USD", "asset_class": "crypto", "time_in_force": "day"}, ("time_in_force:", "gtc, ioc", "'day'")),
    ({"symbol": "BTC/USD", "asset_class": "crypto", "side": "sell_short"}, ("side:", "short")),
    ({"symbol": "BTC/USD", "asset_class": "crypto", "order_type": "stop", "stop_price": 1}, ("order_type:", "'stop'")),
    ({"symbol": "AAPL", "asset_class": "us_equity", "version": 1}, ("asset_class:", "version 2")),
])  # fmt: skip
def test_what_does_not_fit_its_class_is_refused_with_the_rule(terms: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidOrder) as said:
        order(**terms)
    assert all(word in str(said.value) for word in words), str(said.value)


@pytest.mark.parametrize("price", ["-37.63", "0", "12"])
def test_a_future_may_be_limited_below_zero_and_nothing_else_may(price: str) -> None:
    """In April 2020 oil to be delivered in May was sold for less than nothing."""
    terms: dict[str, Any] = {"order_type": "limit", "limit_price": price}
    assert order("CLZ26@NYMEX", asset_class="future", **terms).limit_price == Decimal(price)
    for symbol, kind in (("KO", "us_equity"), ("BTC/USD", "crypto"), ("EUR/USD", "forex"), ("SHOP@TSE", "equity")):
        if Decimal(price) <= 0:
            with pytest.raises(InvalidOrder, match=r"^limit_price: must be greater than zero"):
                order(symbol, asset_class=kind, **terms)
    with pytest.raises(InvalidOrder, match=r"^stop_price:"):
        order("CLZ26@NYMEX", asset_class="future", order_type="stop", stop_price="-1")


def test_a_time_in_force_that_nobody_names_is_the_usual_one_of_the_class() -> None:
    assert order("BTC/USD", asset_class="crypto").time_in_force is TimeInForce.GTC
    assert order("EUR/USD", asset_class="forex").time_in_force is TimeInForce.DAY
    assert order("AAPL").time_in_force is TimeInForce.DAY


@pytest.mark.parametrize(("text", "meant"), [
    ("ESZ6@CME", "ESZ26@CME"), ("ESF6@CME", "ESF26@CME"), ("ESZ5@CME", "ESZ35@CME"), ("esh7@cme", "ESH27@CME"),
    ("ESZ26@CME", "ESZ26@CME"),
])  # fmt: skip
def test_one_digit_of_a_futures_year_is_the_next_such_year(text: str, meant: str) -> None:
    assert order(text, asset_class="future").symbol == meant
    assert with_full_year(text.upper(), NOW.date()) == meant
    assert with_full_year("SHOP@TSE", NOW.date()) == "SHOP@TSE"


def test_an_option_has_the_spelling_of_brokers_that_pad_its_root() -> None:
    assert padded(read_instrument(CALL)) == "AAPL  261218C00200000"
    assert compact("AAPL  261218C00200000") == CALL
    assert compact("AAPL") is None


def test_a_text_says_its_class_and_its_size_or_neither() -> None:
    assert [told_class(text) for text in ("A", CALL, "EUR/USD", "SHOP@TSE")] == ["us_equity", "option", None, None]
    sizes = {text: told_multiplier(text) for text in ("A", CALL, "BTC/USD", "SHOP@TSE", "ESZ26@CME", "FUT:ESZ6")}
    assert sizes == {"A": 1, CALL: 100, "BTC/USD": 1, "SHOP@TSE": 1, "ESZ26@CME": None, "FUT:ESZ6": 1}


# -- VERSIONS ---
def test_an_order_in_shares_is_the_same_order_object_as_before() -> None:
    plain = order("AAPL", client_order_id="a")
    assert plain.version == 1
    assert plain.body_hash == "8963481dc8bf8abff52225ad983001496faae98be0fdb82c11c84e9ed127212d"
    assert {"asset_class", "currency"}.isdisjoint(plain.to_wire())
    assert order("AAPL", asset_class="us_equity", currency="USD").body_hash == plain.body_hash
    assert order(CALL, asset_class="option").body_hash == order(CALL).body_hash != plain.body_hash


def test_what_the_symbol_leaves_open_is_part_of_the_body() -> None:
    forex, crypto = (order("EUR/USD", asset_class=kind, time_in_force="gtc") for kind in ("forex", "crypto"))
    here, there = (order("SHOP@TSE", asset_class="equity", currency=currency) for currency in ("CAD", None))
    assert len({one.body_hash for one in (forex, crypto, here, there)}) == 4
    assert order("EUR/USD", asset_class="forex", time_in_force="gtc", currency="USD").body_hash == forex.body_hash


@pytest.mark.parametrize("terms", [
    {"symbol": "AAPL"}, {"symbol": CALL}, {"symbol": "AAPL", "asset_class": "us_equity"},
    {"symbol": "ESZ26@CME", "asset_class": "future"},
    {"symbol": "SHOP@TSE", "asset_class": "equity", "currency": "CAD"},
    {"symbol": "BTC/USD", "asset_class": "crypto", "quantity": "0.01"}, {"symbol": "EUR/USD", "asset_class": "forex"},
])  # fmt: skip
def test_a_recorded_order_is_the_one_that_was_asked_for(
    terms: dict[str, Any], intake: Intake, database: Database
) -> None:
    asked = OrderRequest(**{"side": "buy", "quantity": 1, **terms})
    (kept,) = intake.record([asked])
    assert kept["asset_class"] == asked.instrument.asset_class
    assert kept["currency"] == asked.instrument.currency
    assert intake.record([asked])[0]["client_order_id"] == asked.client_order_id, "the same again is no conflict"
    row = row_of(asked, ["ibkr"], asked.created_at)
    assert request_of(row).body_hash == asked.body_hash
    assert request_of(row).instrument == asked.instrument
    wire = body_of(row)
    assert OrderRequest(**{name: value for name, value in wire.items() if name != "route"}).body_hash == asked.body_hash
    if asked.version == 1:
        assert {"asset_class", "currency"}.isdisjoint(wire), "a worker of before can read it"


def test_an_order_from_before_has_the_class_that_its_symbol_says() -> None:
    row = dict(row_of(order("AAPL"), ["ibkr"], NOW)) | {"asset_class": None, "currency": None}
    found: Instrument = request_of(row).instrument  # type: ignore[arg-type]
    assert found.asset_class is AssetClass.US_EQUITY
