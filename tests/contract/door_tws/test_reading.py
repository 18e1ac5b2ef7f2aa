"""The TWS door as ib_insync 0.9.86 and ib_async 2.1.0 see it: connecting, contracts, quotes and bars."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.door_tws.gateway import open_gateway
from tests.kit.stories import eventually, run

# -- CONNECTING AND READING --


def test_connect_reads_account_and_positions(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            gateway.market.set_position("ibkr", "BRK.B", Decimal(5))
            ib = await gateway.connect()
            assert ib.client.serverVersion() == 176
            assert ib.managedAccounts() == ["DU1000001"]
            assert [(p.contract.symbol, p.position) for p in ib.positions()] == [("BRK B", 5)]
            values = {v.tag: v.value for v in ib.accountValues() if v.currency == "USD"}
            assert values["TotalCashValue"] == "1000000.00"
            summary = {v.tag: v.value for v in await ib.accountSummaryAsync()}
            assert summary["NetLiquidation"] == values["NetLiquidation"]
            assert [i.contract.symbol for i in ib.portfolio()] == ["BRK B"]
            assert abs((await ib.reqCurrentTimeAsync()).timestamp() - datetime.now(UTC).timestamp()) < 5

    run(story)


def test_contracts_qualify_in_ib_spelling_and_unknown_ones_are_an_error_200(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            apple, berkshire = gateway.stock(), gateway.stock("BRK B")
            await ib.qualifyContractsAsync(apple, berkshire)
            assert (apple.conId, apple.primaryExchange) == (265598, "NASDAQ")
            assert berkshire.conId > 0
            with pytest.raises(Exception, match="200"):
                await ib.reqContractDetailsAsync(gateway.stock("NOPE"))

    run(story)


def test_quotes_come_as_snapshot_and_as_stream(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            stock = gateway.stock()
            await ib.qualifyContractsAsync(stock)  # ib_async wants it
            (ticker,) = await ib.reqTickersAsync(stock)
            assert (ticker.bid, ticker.ask, ticker.last) == (99.99, 100.01, 100.0)
            assert ticker.close > 0
            live = ib.reqMktData(stock, "", False, False)
            await eventually(lambda: live.bid == 99.99)
            gateway.market.set_price("AAPL", Decimal(120))
            await eventually(lambda: live.ask == 120.01)

    run(story)


@pytest.mark.parametrize(
    ("size", "duration", "count"),
    [("1 day", "20 D", 20), ("1 min", "1 D", 390), ("1 hour", "2 D", 14), ("30 secs", "600 S", 20), ("1W", "4 W", 5)],
)
def test_bars_have_the_asked_size_and_duration(sdk: Any, size: str, duration: str, count: int) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            end = "20260114 16:00:00 US/Eastern"
            ask = (gateway.stock(), end, duration, size, "TRADES", True)
            bars = await ib.reqHistoricalDataAsync(*ask, 1)
            seconds = await ib.reqHistoricalDataAsync(*ask, 2)
            assert len(bars) == count
            assert [b.close for b in bars] == [b.close for b in seconds]
            if "min" in size:
                assert bars[0].date.astimezone(UTC) == seconds[0].date.astimezone(UTC)

    run(story)


def test_bars_without_data_are_an_error_162_and_a_bad_request_a_321(sdk: Any) -> None:
    async def story() -> None:
        async with open_gateway(sdk) as gateway:
            ib = await gateway.connect()
            with pytest.raises(Exception, match="162"):
                await ib.reqHistoricalDataAsync(
                    gateway.stock(), "19990101 00:00:00 US/Eastern", "1 D", "1 day", "TRADES", True
                )
            # ib_async takes 321 for a warning and waits on.
            bad = ib.reqHistoricalDataAsync(gateway.stock(), "", "400 D", "1 day", "TRADES", True, timeout=0.2)
            await asyncio.gather(bad, return_exceptions=True)
            assert 321 in [code for _, code in ib.codes]

    run(story)
