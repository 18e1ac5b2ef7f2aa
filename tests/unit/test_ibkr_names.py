"""A ticker is not an identity: what it means is chosen by listing and currency, and everything else is named apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import InstrumentUnknown, Unsupported
from worker.brokers.ibkr_names import EXCHANGES, OTC, Names, choose, from_ib_symbol, to_ib_symbol


def contract(**fields: Any) -> Any:
    blank = {"conId": 265598, "symbol": "AAPL", "secType": "STK", "currency": "USD", "exchange": "SMART"}
    return SimpleNamespace(**{**blank, "primaryExchange": "", "localSymbol": "", **fields})


WANTED = contract()


# -- CHOOSING ---
@pytest.mark.parametrize("listing", sorted(EXCHANGES | OTC))
def test_every_us_listing_is_chosen(listing: str) -> None:
    assert choose([contract(primaryExchange=listing)], WANTED, "ib").primaryExchange == listing


@pytest.mark.parametrize("listing", ["LSEETF", "FWB2", "VALUE", "CORPACT", "EBS", "TSE", "ASX", "NEWEXCH", "", "SMART"])
def test_a_single_stock_in_dollars_that_is_listed_elsewhere_is_unknown(listing: str) -> None:
    with pytest.raises(InstrumentUnknown, match=listing or "nowhere"):
        choose([contract(primaryExchange=listing)], WANTED, "ib")


@pytest.mark.parametrize(
    "other",
    [{"symbol": "AAPX"}, {"currency": "CAD"}, {"secType": "OPT"}, {"secType": ""}, {"primaryExchange": "LSEETF"}],
)
def test_the_us_stock_is_chosen_from_among_others(other: dict[str, str]) -> None:
    us = contract(primaryExchange="NASDAQ")
    assert choose([contract(**{"primaryExchange": "NYSE", **other}), us], WANTED, "ib") is us


def test_an_exchange_goes_before_the_otc_market_and_two_listings_are_refused() -> None:
    pink, nasdaq, nyse = (contract(primaryExchange=listing) for listing in ("PINK", "NASDAQ", "NYSE"))
    assert choose([pink, nasdaq], WANTED, "ib") is nasdaq
    with pytest.raises(Unsupported, match="ambiguous"):
        choose([nyse, nasdaq], WANTED, "ib")
    with pytest.raises(InstrumentUnknown):
        choose([], WANTED, "ib")


# -- NAMES ---
FOREIGN = [
    ({"symbol": "SHOP", "currency": "CAD", "exchange": "TSE"}, "STK:SHOP@TSE.CAD"),
    ({"symbol": "SHOP", "currency": "CAD", "exchange": "SMART", "primaryExchange": "TSE"}, "STK:SHOP@TSE.CAD"),
    ({"symbol": "SHOP", "currency": "CAD"}, "STK:SHOP@?.CAD"),
    ({"symbol": "VOD", "currency": "GBP", "exchange": "LSE"}, "STK:VOD@LSE.GBP"),
    ({"symbol": "AAPL", "currency": ""}, "STK:AAPL@?.?"),
    ({"symbol": "AAPL", "secType": "OPT", "localSymbol": "AAPL  261218C00200000"}, "OPT:AAPL  261218C00200000"),
    ({"symbol": "MES", "secType": "FUT", "localSymbol": "MESU6"}, "FUT:MESU6"),
    ({"symbol": "EUR", "secType": "CASH", "localSymbol": "EUR.USD"}, "CASH:EUR.USD"),
    ({"symbol": "AAPL", "secType": ""}, "?:AAPL"),
]


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(("fields", "name"), FOREIGN)
def test_what_a_plain_ticker_does_not_mean_has_a_name_of_its_own(
    fields: dict[str, Any], name: str, listed: bool
) -> None:
    names = Names()
    names.chose("SHOP", 1)
    names.chose("AAPL", 265598)
    assert names.of(contract(**{"conId": 99, **fields}), listed) == name
    assert names.unnamed == []


def test_a_holding_in_dollars_is_named_by_its_listing() -> None:
    names = Names()
    assert names.of(contract(exchange="NASDAQ"), listed=True) == "AAPL"
    assert names.of(contract(symbol="BRK B", exchange="NYSE", conId=3), listed=True) == "BRK.B"
    assert names.of(contract(symbol="VUSD", exchange="LSEETF", conId=4), listed=True) == "STK:VUSD@LSEETF.USD"
    assert names.unnamed == []


def test_where_something_traded_does_not_tell_where_it_is_listed() -> None:
    """An execution at ISLAND, or an order by way of SMART, may be in a foreign security that trades in dollars."""
    names = Names()
    assert names.of(contract(exchange="ISLAND")) is None
    assert names.of(contract(symbol="VUSD", conId=4)) is None
    assert names.unnamed == ["AAPL", "VUSD"]
    names.chose("AAPL", 265598)
    names.chose_none("VUSD")
    assert names.of(contract(exchange="ISLAND")) == "AAPL"
    assert names.of(contract(symbol="VUSD", conId=4)) == "STK:VUSD@?.USD"
    assert names.unnamed == []


def test_the_contract_that_a_ticker_means_decides_over_its_symbol() -> None:
    names = Names()
    names.chose("AAPL", 265598)
    assert names.of(contract()) == "AAPL"
    assert names.of(contract(conId=99, exchange="NASDAQ"), listed=True) == "STK:AAPL@NASDAQ.USD"
    assert names.of(contract(conId=0)) == "STK:AAPL@?.USD"


def test_a_holding_at_the_otc_market_has_to_be_asked_for() -> None:
    """An exchange goes before the OTC market, so only IB can tell which of two the ticker means."""
    names = Names()
    assert names.of(contract(exchange="PINK", conId=5), listed=True) is None
    names.chose("AAPL", 5)
    assert names.of(contract(exchange="PINK", conId=5), listed=True) == "AAPL"


@pytest.mark.parametrize(("ours", "theirs"), [("BRK.B", "BRK B"), ("AAPL", "AAPL")])
def test_share_classes_are_spelled_their_way(ours: str, theirs: str) -> None:
    assert (to_ib_symbol(ours), from_ib_symbol(theirs)) == (theirs, ours)
