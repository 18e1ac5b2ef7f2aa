"""Instruments that brokers have told of: kept, found again, and held against orders; and the digest of a preview."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.errors import InvalidOrder, InvalidRequest, Unsupported
from models.instruments import read_instrument
from models.lookups import FoundInstruments, InstrumentQuery, InstrumentReport
from models.messages import OrderRequest
from models.preview_digest import digest_of
from models.record.database import Database
from models.record.fetches import parse_preview
from models.record.instruments import keep_instruments, kept_instruments
from models.vocabulary import AssetClass
from tests.unit.words import Run
from worker.brokers.fake import FakeBroker
from worker.brokers.lookups import previewed
from worker.data.instruments import InstrumentRules, KnownInstruments, off_the_steps

NOW = datetime(2026, 11, 30, tzinfo=UTC)
KO = InstrumentReport(symbol="KO", asset_class=AssetClass.US_EQUITY, underlying="KO", currency="USD")


def told(symbol: str, **more: Any) -> InstrumentReport:
    fields = {"asset_class": AssetClass.US_EQUITY, "underlying": symbol, "currency": "USD", **more}
    return InstrumentReport(symbol=symbol, **fields)


def option(strike: int, day: date = date(2026, 12, 18), right: str = "C") -> InstrumentReport:
    symbol = f"AAPL{day:%y%m%d}{right}{strike * 1000:08d}"
    more: dict[str, Any] = {
        "underlying": "AAPL",
        "expiry": day,
        "strike": Decimal(strike),
        "right": right,
        "multiplier": Decimal(100),
    }
    return told(symbol, asset_class=AssetClass.OPTION, **more)


def order(symbol: str = "KO", **terms: Any) -> OrderRequest:
    return OrderRequest(**{"symbol": symbol, "side": "buy", "quantity": 10, **terms})


# -- WHAT TO LOOK UP ---
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"query": ""}, "query: must be a symbol"),
        ({"query": "no such thing!"}, "query: must be a symbol"),
        ({"query": "AAPL", "asset_class": "stock"}, "asset_class: must be one of"),
        ({"query": "AAPL", "expiry": "2026-12-18"}, "expiry: goes with asset_class future or option"),
        ({"query": "AAPL", "asset_class": "option", "expiry": "18.12.2026"}, "expiry: must be a day or a month"),
        ({"query": "AAPL", "limit": 0}, "limit: must be 1 to"),
        ({"query": "coca cola", "search": True, "asset_class": "option"}, "asset_class: a search takes none"),
        ({"query": "AAPL", "limit": True}, "limit: must be 1 to"),
        ({"query": "AAPL", "asset_class": "forex"}, "query: must name an instrument of asset_class forex"),
    ],
)
def test_a_look_up_that_makes_no_sense_is_refused_with_its_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        InstrumentQuery.of(fields)


def test_a_text_means_what_it_may_be() -> None:
    assert [each.asset_class for each in InstrumentQuery.of({"query": "eur/usd"}).named] == ["forex", "crypto"]
    assert [each.asset_class for each in InstrumentQuery.of({"query": "ESZ29@CME"}).named] == ["future", "equity"]
    chain = InstrumentQuery.of({"query": "ES@CME", "asset_class": "future", "expiry": "2026-12"})
    assert (chain.is_chain, chain.root, chain.exchange) == (True, "ES", "CME")
    assert (chain.first, chain.last) == (date(2026, 12, 1), date(2026, 12, 31))


def test_what_is_found_is_in_order_and_says_that_there_is_more() -> None:
    days = [option(200), option(190), option(190, right="P"), option(500, date(2026, 12, 4))]
    found = FoundInstruments(days, limit=3)
    assert [one.strike for one in found] == [500, 190, 190]
    assert [one.right for one in found[1:]] == ["C", "P"]
    assert found.more


# -- KEPT ---
def test_what_a_broker_tells_takes_the_place_of_what_it_told_before(database: Database) -> None:
    with database.write() as connection:
        keep_instruments(connection, "ibkr", [told("KO", price_increment=Decimal("0.05")), option(200)], NOW)
        keep_instruments(connection, "alpaca", [KO], NOW)
        keep_instruments(connection, "ibkr", [told("KO", price_increment=Decimal("0.01"))], NOW + timedelta(hours=1))
    with database.read() as connection:
        rows = kept_instruments(connection, query="KO")
        assert [(row["broker"], row["price_increment"]) for row in rows] == [
            ("alpaca", None), ("ibkr", Decimal("0.01"))
        ]  # fmt: skip
        assert rows[1]["resolved_at"] == NOW + timedelta(hours=1)
        (chain,) = kept_instruments(connection, query="AAPL", first=date(2026, 12, 18), last=date(2026, 12, 18))
        assert (chain["strike"], chain["right"], chain["expiry"]) == (200, "C", date(2026, 12, 18))
        assert kept_instruments(connection, query="AAPL", last=date(2026, 12, 17)) == []


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"order_type": "limit", "limit_price": "50.005"}, "limit_price: prices of KO go in steps of 0.01, was 50.005"),
        ({"order_type": "stop", "stop_price": "50.001"}, "stop_price: prices of KO go in steps of 0.01, was 50.001"),
        ({"quantity": 15}, "quantity: KO trades in lots of 10, was 15"),
        ({"order_type": "limit", "limit_price": "50.01"}, None),
        ({"order_type": "limit", "limit_price": "0.1234"}, None),
        ({}, None),
    ],
)
def test_an_order_off_the_steps_is_refused_with_the_rule(terms: dict[str, Any], words: str | None) -> None:
    assert off_the_steps(order(**terms), InstrumentRules(Decimal("0.01"), Decimal(10))) == words
    assert off_the_steps(order(**terms), InstrumentRules()) is None


def test_what_was_told_is_held_against_orders_also_after_a_restart(database: Database) -> None:
    broker = FakeBroker()
    known = KnownInstruments(database, broker)
    off = order(order_type="limit", limit_price="50.005")
    broker.check_known(off)
    known.note(told("KO", price_increment=Decimal("0.01")))
    with pytest.raises(Unsupported, match="fake: limit_price: prices of KO go in steps of"):
        broker.check_known(off)
    assert previewed(broker, off).supported is False
    known.write()
    again = FakeBroker()
    KnownInstruments(database, again).write()
    with pytest.raises(Unsupported, match="steps of"):
        again.check_known(off)
    with database.write() as connection:
        long_ago = datetime.now(UTC) - timedelta(days=8)
        keep_instruments(connection, "fake", [told("KO", price_increment=Decimal("0.01"))], long_ago)
    later = FakeBroker()
    KnownInstruments(database, later).write()
    later.check_known(off)


def test_an_adapter_is_reminded_for_a_day_and_of_no_listing_whose_currency_is_open(database: Database) -> None:
    detail = {"conId": "7"}
    abroad = told("VOD@LSE", asset_class=AssetClass.EQUITY, currency="GBP", detail=detail)
    known = KnownInstruments(database, FakeBroker())
    for one in (told("KO", detail=detail), abroad):
        known.note(one)
    known.write()
    with database.write() as connection:
        long_ago = datetime.now(UTC) - timedelta(hours=25)
        keep_instruments(connection, "fake", [told("PEP", detail=detail)], long_ago)
    again = KnownInstruments(database, FakeBroker())
    assert again.recall(read_instrument("KO")) is None, "nothing was read yet"
    again.write()
    for found in (known, again):
        assert found.recall(read_instrument("KO")) == detail
        assert found.recall(read_instrument("PEP")) is None
        assert found.recall(read_instrument("VOD@LSE", AssetClass.EQUITY, "GBP")) == detail
        assert found.recall(read_instrument("VOD@LSE", AssetClass.EQUITY)) is None


def test_what_is_kept_is_listed(database: Database, corro: Run) -> None:
    with database.write() as connection:
        keep_instruments(connection, "ibkr", [option(200), option(190)], NOW)
    status, out, _ = corro("instruments", "aapl", "--class", "option", "--expiry", "2026-12", "--kept", "--json")
    rows = json.loads(out)
    assert (status, [row["symbol"] for row in rows]) == (0, ["AAPL261218C00190000", "AAPL261218C00200000"])
    assert set(rows[0]) >= {
        "symbol",
        "asset_class",
        "underlying",
        "expiry",
        "right",
        "strike",
        "multiplier",
        "currency",
    }
    assert (rows[0]["strike"], rows[0]["expiry"], rows[0]["multiplier"]) == ("190", "2026-12-18", "100")
    assert corro("instruments", "aapl", "--class", "stock")[0] == 2


# -- PREVIEWS ---
def test_submit_takes_what_was_previewed_and_nothing_else() -> None:
    digest = digest_of(order(order_type="limit", limit_price="50"))
    assert order(order_type="limit", limit_price="50.00", preview=digest).version == 2
    for change in ({"limit_price": "50.01"}, {"quantity": 11}, {"side": "sell"}, {"time_in_force": "gtc"}):
        with pytest.raises(InvalidOrder, match="preview: these are not the terms that were previewed"):
            order(**{"order_type": "limit", "limit_price": "50", "preview": digest, **change})


def test_a_refusal_says_which_terms_are_not_those_that_were_previewed() -> None:
    digest = digest_of(order(order_type="limit", limit_price="50", strategy="dip"))
    assert order(order_type="limit", limit_price="50.00", strategy="dip", preview=digest).preview == digest
    with pytest.raises(InvalidOrder, match=r"previewed \(different: limit_price, strategy\)"):
        order(order_type="limit", limit_price="51", strategy="rip", preview=digest)
    with pytest.raises(InvalidOrder, match=r"which, this digest does not tell"):
        order(preview=digest[:64])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d + "0", lambda d: d + "00", lambda d: d + "\n", lambda d: d + "?", lambda d: d[:64],
        lambda d: d[:-1], lambda d: d[:-2], lambda d: d[:65], lambda d: f" {d}", lambda d: d[:-2] + "zz",
        lambda d: d.upper(), lambda d: "",
    ],
)  # fmt: skip
def test_a_digest_is_taken_as_it_was_told_to_the_last_character_or_refused(spoil: Callable[[str], str]) -> None:
    digest = digest_of(order(order_type="limit", limit_price="50"))
    with pytest.raises(InvalidOrder, match="preview: "):
        order(order_type="limit", limit_price="50", preview=spoil(digest))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"tags": {"a": "1", "b": "2"}}, {"tags": {"b": "2", "a": "1"}}),
        ({}, {"asset_class": "us_equity"}),
        ({}, {"session": "any"}),
        ({"quantity": "10"}, {"quantity": "10.00"}),
        ({}, {"currency": "USD", "asset_class": "us_equity"}),
        ({}, {"extended_hours": False, "hidden": False}),
    ],
)
def test_the_same_order_in_other_writing_has_the_same_digest(one: dict[str, object], other: dict[str, object]) -> None:
    first, second = order(**one), order(**other)
    assert (digest_of(first), first.body_hash) == (digest_of(second), second.body_hash)


def test_a_group_takes_what_was_previewed_and_nothing_else(corro: Run) -> None:
    terms = ("bracket", "KO", "buy", "10", "--limit", "50", "--take-profit", "60", "--json")
    status, out, _ = corro(*terms, "--stop-loss", "40", "--what-if", "--timeout", "0.1")
    rows = json.loads(out)
    assert (status, [row["broker"] for row in rows]) == (1, ["ibkr", "alpaca", "tda"])
    digest = rows[0]["digest"]
    assert json.loads(corro("orders", "--json")[1]) == []
    status, _, said = corro(*terms, "--stop-loss", "41", "--preview", digest)
    assert status == 2
    assert "different: stop_loss.stop_price" in said
    for spoilt in (digest + "0", digest[:64], digest[:-1]):
        status, _, said = corro(*terms, "--stop-loss", "40", "--preview", spoilt)
        assert (status, "copy the digest whole" in said) == (2, True)
    status, out, _ = corro(*terms, "--stop-loss", "40", "--preview", digest)
    assert (status, json.loads(out)["status"]) == (0, "queued")
    status, out, _ = corro(
        "oco", "KO", "sell", "10", "--limit", "60", "--stop", "40", "--what-if", "--timeout", "0.1", "--json"
    )
    assert (status, json.loads(out)[0]["supported"]) == (1, None)


def test_the_legs_of_a_preview_are_one_whole_group() -> None:
    entry = order(client_order_id="e", group={"id": "e", "kind": "oto", "leg": "first"}).to_wire()
    then = order(client_order_id="t", group={"id": "e", "kind": "oto", "leg": "then"}).to_wire()
    assert [one.client_order_id for one in parse_preview({"orders": [then, entry]})] == ["e", "t"]
    other = then | {"group": {"id": "f", "kind": "oto", "leg": "then"}}
    for orders in ([entry], [entry, other], [entry, entry], [order().to_wire()] * 2, "KO"):
        with pytest.raises(InvalidRequest, match="orders: "):
            parse_preview({"orders": orders})
    with pytest.raises(InvalidRequest, match="orders: "):
        parse_preview({"orders": [entry, then], "order": entry})


def test_a_preview_that_nobody_answers_says_so_and_records_no_order(
    corro: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = ("KO", "buy", "5", "--limit", "40", "--timeout", "0.1", "--json")
    status, out, _ = corro("preview", *terms)
    rows = json.loads(out)
    assert (status, [row["broker"] for row in rows]) == (1, ["ibkr", "alpaca", "tda"])
    assert {row["supported"] for row in rows} == {None}
    assert all("no worker of" in row["warnings"][0] for row in rows)
    assert json.loads(corro("orders", "--json")[1]) == []
    corro("limits", "set", "max_quantity", "4", "--by", "ana", "--reason", "small")
    (row, *_) = json.loads(corro("preview", *terms)[1])
    assert "max_quantity" in row["refused"]
    corro("limits", "clear", "max_quantity", "--by", "ana", "--reason", "enough")
    monkeypatch.setenv("CORRO_SECURITY__REQUIRE", "all")
    assert {row["refused"].partition(",")[0] for row in json.loads(corro("preview", *terms)[1])} == {
        "corro: not signed"
    }
    monkeypatch.delenv("CORRO_SECURITY__REQUIRE")
    digest = rows[0]["digest"]
    assert corro("submit", *terms[:3], "--limit", "41", "--preview", digest)[0] == 2
    assert corro("submit", *terms[:3], "--limit", "40", "--preview", digest)[0] == 0
