"""Look-ups of instruments and chains at every broker, over the wire; what they tell is what the market has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError, NoSuchSymbol, NotSent, Unsupported
from models.instruments import Instrument
from models.lookups import FoundInstruments, InstrumentQuery, InstrumentReport
from models.vocabulary import AssetClass
from tests.contract.brokers import EVERY, SDKS, AdapterBench, bench, order
from worker.sandbox.market.chains import expiries, futures, options

TODAY = datetime.now(UTC).date()
OPTION = "AAPL301220C00200000"
NEXT = expiries(TODAY)[1]


@pytest.fixture(params=EVERY)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AdapterBench]:
    with bench(request.param, tmp_path) as found:
        yield found


def find(desk: AdapterBench, query: str, **more: Any) -> FoundInstruments:
    return desk.broker.find_instruments(InstrumentQuery.of({"query": query, **more}))


def test_a_share_and_a_chain_are_those_of_the_market(desk: AdapterBench) -> None:
    (share,) = find(desk, "brk.b")
    assert (share.symbol, share.asset_class, share.currency) == ("BRK.B", AssetClass.US_EQUITY, "USD")
    assert share.broker_symbol == {"ibkr": "BRK B", "schwab": "BRK/B"}.get(desk.name, "BRK.B")
    assert share.broker_id
    day = find(desk, "AAPL", asset_class="option", expiry=NEXT.isoformat())
    listed = desk.house.call(lambda: options(desk.house.market, "AAPL", NEXT, NEXT))
    assert {one.symbol for one in day} == set(listed)
    assert day == sorted(day, key=lambda one: (one.expiry, one.strike, one.right))
    assert {(one.underlying, one.expiry, one.multiplier) for one in day} == {("AAPL", NEXT, Decimal(100))}
    assert not day.more
    (exact,) = find(desk, day[0].symbol)
    assert exact == day[0]
    assert order(exact.symbol).instrument.asset_class is AssetClass.OPTION
    few = find(desk, "AAPL", asset_class="option", limit=3)
    assert (len(few), few.more) == (3, True)
    assert {one.expiry for one in few} == {expiries(TODAY)[0]}
    month = find(desk, "AAPL", asset_class="option", expiry=f"{NEXT:%Y-%m}")
    assert {one.expiry for one in month} == {d for d in expiries(TODAY) if (d.year, d.month) == (NEXT.year, NEXT.month)}


def test_a_search_tells_the_shares_that_fit(desk: AdapterBench) -> None:
    if desk.name == "alpaca":
        with pytest.raises(Unsupported, match="by words"):
            find(desk, "BRK", search=True)
        return
    found = find(desk, "brk", search=True)
    assert [(one.symbol, one.asset_class, one.currency) for one in found] == [("BRK.B", "us_equity", "USD")]
    assert found[0].broker_id == find(desk, "BRK.B")[0].broker_id
    with pytest.raises(NoSuchSymbol):
        find(desk, "no such thing", search=True)
    if desk.name == "ibkr":
        abroad = find(desk, "VOD", search=True)
        assert [(one.symbol, one.currency) for one in abroad] == [("VOD@LSE", "GBP")]


def test_what_there_is_not_is_an_error_and_never_an_empty_list(desk: AdapterBench) -> None:
    for query, kind in (("ZZZZ", None), ("ZZZZ", "option"), ("ZZZZ301220C00200000", None)):
        with pytest.raises(NoSuchSymbol):
            find(desk, query, asset_class=kind)
    if desk.name != "ibkr":
        with pytest.raises(Unsupported, match="does not trade"):
            find(desk, "ESZ30@CME", asset_class="future")


@pytest.mark.parametrize("sdk", SDKS)
def test_ib_tells_futures_money_coins_and_shares_abroad(sdk: str, tmp_path: Path) -> None:
    with bench(sdk, tmp_path) as desk:
        heard: list[InstrumentReport] = []
        desk.broker.resolutions(heard.append, lambda _: None)
        desk.broker.disconnect()
        desk.broker.connect()
        month = find(desk, "ES", asset_class="future")
        assert [one.symbol for one in month] == futures("ES", TODAY)
        assert {(one.multiplier, one.currency, one.listing) for one in month} == {(Decimal(50), "USD", "CME")}
        assert all(one.expiry is not None for one in month)
        assert find(desk, "ES@CME", asset_class="future") == month
        (money,) = find(desk, "EUR/USD")
        (coin,) = find(desk, "BTC/USD")
        (abroad,) = find(desk, "VOD@LSE")
        assert [one.asset_class for one in (money, coin, abroad)] == ["forex", "crypto", "equity"]
        assert (abroad.currency, abroad.listing, abroad.multiplier) == ("GBP", "LSE", Decimal("0.01"))
        assert [one.symbol for one in heard] == ["EUR/USD", "BTC/USD", "VOD@LSE"]
        desk.place(order("KO", order_type="limit", limit_price=1))
        assert heard[-1].symbol == "KO"
        desk.fault("definitions_broken", None)
        with pytest.raises(DataError):
            find(desk, "NQ", asset_class="future")


@pytest.mark.parametrize("sdk", SDKS)
def test_ib_is_not_asked_again_for_what_was_resolved_before_a_restart(sdk: str, tmp_path: Path) -> None:
    with bench(sdk, tmp_path) as desk:
        heard: dict[str, InstrumentReport] = {}

        def recall(instrument: Instrument) -> Mapping[str, str] | None:
            told = heard.get(instrument.symbol)
            return None if told is None else json.loads(json.dumps(told.detail))

        desk.broker.resolutions(lambda one: heard.update({one.symbol: one}), lambda _: None, recall)
        desk.broker.disconnect()
        desk.broker.connect()
        terms = {"order_type": "limit", "limit_price": 1}
        texts = [{"symbol": "KO"}, {"symbol": OPTION}, {"symbol": "EUR/USD", "asset_class": "forex", "limit_price": 2}]
        first = [desk.place(order(**terms | text)) for text in texts]
        desk.broker.disconnect()
        desk.fault("definitions_broken", None)
        desk.broker.connect()
        again = [desk.place(order(**terms | text)) for text in texts]
        for ref in (*first, *again):
            found = desk.found(ref)
            assert found is not None
            assert found.symbol == ref.order.symbol
        with pytest.raises(NotSent):
            desk.place(order("MSFT", **terms))


def test_alpaca_turns_the_pages_of_a_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.brokers.alpaca import instruments

    monkeypatch.setattr(instruments, "_PAGE", 7)
    with bench("alpaca", tmp_path) as desk:
        every = find(desk, "AAPL", asset_class="option")
        listed = desk.house.call(lambda: options(desk.house.market, "AAPL", TODAY, expiries(TODAY)[-1]))
        assert {one.symbol for one in every} == set(listed)
        (coin,) = find(desk, "BTC/USD")
        assert (coin.symbol, coin.asset_class) == ("BTC/USD", AssetClass.CRYPTO)
