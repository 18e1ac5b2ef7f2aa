"""A ticker is not an identity: what it means is chosen by listing and currency, and everything else is named apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import InstrumentUnknown, Unsupported
from models.instruments import US_LISTINGS
from worker.brokers.ibkr.instruments import from_ib_symbol, to_ib_symbol
from worker.brokers.ibkr.names import OTC, Names, choose


def contract(**fields: Any) -> Any:
    blank = {"conId": 265598, "symbol": "AAPL", "secType": "STK", "currency": "USD", "exchange": "SMART"}
    return SimpleNamespace(
        **{
            **blank,
            "primaryExchange": "",
            "localSymbol": "",
            "multiplier": "",
            "lastTradeDateOrContractMonth": "",
            **fields,
        }
    )


WANTED = contract()


# -- CHOOSING ---
@pytest.mark.parametrize("listing", sorted(US_LISTINGS | OTC))
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
APART = [
    ({"secType": "OPT", "localSymbol": "AAPL  261218C00200000"}, "AAPL261218C00200000"),
    ({"secType": "OPT", "currency": "EUR", "localSymbol": "P BMW  20261218 72 M"}, "OPT:P BMW  20261218 72 M"),
    ({"symbol": "EUR", "secType": "CASH", "localSymbol": "EUR.USD"}, "EUR/USD"),
    ({"symbol": "BTC", "secType": "CRYPTO", "localSymbol": "BTC.USD"}, "BTC/USD"),
    ({"symbol": "IBM", "secType": "BOND", "localSymbol": "IBCID72"}, "BOND:IBCID72"),
    ({"secType": ""}, "?:AAPL"),
    ({"conId": 0}, "STK:AAPL@?.USD"),
    ({"symbol": "SHOP", "currency": "CAD", "primaryExchange": "TSE"}, "SHOP@TSE"),
    ({"currency": "USD", "primaryExchange": "LSEETF"}, "AAPL@LSEETF"),
    ({"currency": "", "primaryExchange": "TSE"}, "STK:AAPL@TSE.?"),
]
LISTED = [
    ({"symbol": "SHOP", "currency": "CAD", "exchange": "TSE"}, "SHOP@TSE"),
    ({"symbol": "VOD", "currency": "GBP", "exchange": "LSE"}, "VOD@LSE"),
    ({"symbol": "VUSD", "exchange": "LSEETF"}, "VUSD@LSEETF"),
    ({"exchange": "VALUE"}, "STK:AAPL@VALUE.USD"),
]


@pytest.mark.parametrize(("fields", "name"), APART)
def test_what_no_ticker_means_has_a_name_of_its_own(fields: dict[str, Any], name: str) -> None:
    for listed in (True, False):
        names = Names()
        assert names.of(contract(**{"conId": 99, **fields}), listed) == name
        assert names.unnamed == {}


@pytest.mark.parametrize(("fields", "name"), LISTED)
def test_a_foreign_security_has_one_name_in_every_message(fields: dict[str, Any], name: str) -> None:
    """A holding tells where it is listed; an order goes by way of SMART, an execution tells where it traded."""
    order, execution = ({**fields, "exchange": venue} for venue in ("SMART", "DARK"))
    names = Names()
    assert names.of(contract(conId=99, **fields), listed=True) == name
    assert {names.of(contract(conId=99, **one)) for one in (order, execution)} == {name}
    asked = Names()
    assert {asked.of(contract(conId=99, **one)) for one in (order, execution)} == {None}
    assert list(asked.unnamed) == [99]
    asked.listed(99, str(fields["exchange"]))
    assert {asked.of(contract(conId=99, **one)) for one in (order, execution)} == {name}
    assert asked.unnamed == {}


def test_a_holding_in_dollars_at_a_us_exchange_is_its_ticker() -> None:
    names = Names()
    assert names.of(contract(exchange="NASDAQ"), listed=True) == "AAPL"
    assert names.of(contract(symbol="BRK B", exchange="NYSE", conId=3), listed=True) == "BRK.B"
    assert names.unnamed == {}


def test_where_something_traded_does_not_tell_where_it_is_listed() -> None:
    """An execution at ISLAND, or an order by way of SMART, may be in a foreign security that trades in dollars."""
    names = Names()
    assert names.of(contract(exchange="ISLAND")) is None
    assert names.of(contract(symbol="VUSD", conId=4)) is None
    assert names.of(contract(symbol="VOD", currency="GBP", conId=5)) is None
    assert names.unnamed == {265598: "AAPL", 4: "VUSD", 5: ""}
    names.chose("AAPL", 265598)
    names.listed(4, "LSEETF")
    names.listed(5, "")
    assert names.of(contract(exchange="ISLAND")) == "AAPL"
    assert names.of(contract(symbol="VUSD", conId=4)) == "VUSD@LSEETF"
    assert names.of(contract(symbol="VOD", currency="GBP", conId=5)) == "STK:VOD@?.GBP"
    assert names.unnamed == {}


def test_the_contract_that_a_ticker_means_decides_over_its_symbol() -> None:
    names = Names()
    names.chose("AAPL", 265598)
    assert names.of(contract()) == "AAPL"
    assert names.of(contract(conId=99, exchange="NASDAQ"), listed=True) == "STK:AAPL@NASDAQ.USD"
    assert names.of(contract(conId=98)) is None
    assert names.unnamed == {98: ""}


def test_a_holding_at_the_otc_market_has_to_be_asked_for() -> None:
    """An exchange goes before the OTC market, so only IB can tell which of two the ticker means."""
    names = Names()
    assert names.of(contract(exchange="PINK", conId=5), listed=True) is None
    names.chose("AAPL", 5)
    assert names.of(contract(exchange="PINK", conId=5), listed=True) == "AAPL"


@pytest.mark.parametrize(("ours", "theirs"), [("BRK.B", "BRK B"), ("AAPL", "AAPL")])
def test_share_classes_are_spelled_their_way(ours: str, theirs: str) -> None:
    assert (to_ib_symbol(ours), from_ib_symbol(theirs)) == (theirs, ours)
