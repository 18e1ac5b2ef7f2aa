"""Account, positions, quotes and bars: true, or an error; never NaN, 0 or -1 for "none"."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import cycle

import pytest

from models.errors import BrokerError, DataError, NoData, Unsupported
from models.reports import QuoteReport
from tests.contract.suite.desk import Desk, eventually, now, order

#: How far back bars of a size are read: over a weekend at least.
BACK = {"1Min": 4, "5Min": 4, "15Min": 4, "30Min": 7, "1Hour": 7, "1Day": 40, "1Week": 150, "1Month": 500}


def test_c81_the_account_is_told_in_decimals(desk: Desk) -> None:
    """C81 The account has an id, and its money is in decimals.

    Then: account_id, currency and buying power, cash and equity above zero.
    """
    account = desk.broker.get_account_info()
    assert account.account_id
    assert account.currency == "USD"
    money = (account.buying_power, account.cash, account.equity)
    assert all(isinstance(amount, Decimal) and amount > 0 for amount in money)


def test_c82_positions_are_signed_and_none_is_flat(desk: Desk) -> None:
    """C82 Positions are signed: short is negative, and none of them is flat.

    Given: 7 MSFT held, 3 TSLA short, nothing else.
    Then: exactly these two.
    """
    desk.hold("MSFT", 7)
    desk.hold("TSLA", -3)
    held = desk.broker.get_positions()
    assert {position.symbol: position.quantity for position in held} == {"MSFT": 7, "TSLA": -3}
    assert all(position.avg_price is None or position.avg_price > 0 for position in held)


def test_c83_positions_follow_the_fills(desk: Desk) -> None:
    """C83 Positions follow the fills.

    When: 10 AAPL are bought, and 10 sold again.
    Then: 10 are held in between, and none afterwards.
    """
    for side, left in (("buy", {"AAPL": 10}), ("sell", {})):
        placed = desk.place(order(side=side))
        eventually(lambda placed=placed: desk.executions(placed))  # type: ignore[misc]
        eventually(lambda left=left: {p.symbol: p.quantity for p in desk.broker.get_positions()} == left)  # type: ignore[misc]


def test_c84_a_quote_is_a_bid_below_an_ask(desk: Desk) -> None:
    """C84 A quote is a bid below an ask; what is missing is None.

    Then: bid, ask and sizes are finite and above zero, or None; the time is aware.
    """
    quote = desk.broker.get_market_data("AAPL")
    assert isinstance(quote, QuoteReport)
    assert quote.symbol == "AAPL"
    assert quote.bid is not None
    assert quote.ask is not None
    assert quote.bid <= quote.ask
    numbers = (quote.bid, quote.ask, quote.last, quote.bid_size, quote.ask_size, quote.last_size)
    assert all(number is None or (number.is_finite() and number > 0) for number in numbers)
    assert quote.at is None or quote.at.tzinfo is not None


def test_c85_an_unknown_symbol_has_no_data(desk: Desk) -> None:
    """C85 An unknown symbol has no data, and that is an error.

    Then: DataError for its quote and for its bars; never an empty quote, never an empty list.
    """
    with pytest.raises(DataError):
        desk.broker.get_market_data("ZZZZ")
    if desk.can.timeframes:
        with pytest.raises(DataError):
            desk.broker.get_historical_data("ZZZZ", desk.can.timeframes[-1], now() - timedelta(days=500), now())


def test_c86_bars_are_ordered_within_their_range_and_true_to_their_shape(desk: Desk) -> None:
    """C86 Bars are in order, each once, inside their range, and low <= open, close <= high.

    When: bars of every size in the capabilities.
    Then: start <= bar.start < end, ascending; prices above zero; a range without trading is NoData.
    Skipped: brokers without bars.
    """
    end = now()
    for timeframe, symbol in zip(desk.can.timeframes, cycle(("SPY", "AAPL", "MSFT", "KO")), strict=False):
        start = end - timedelta(days=BACK[timeframe])
        bars = desk.broker.get_historical_data(symbol, timeframe, start, end)
        starts = [bar.start for bar in bars]
        assert starts == sorted(set(starts)), timeframe
        assert start <= starts[0], timeframe
        assert starts[-1] < end, timeframe
        for bar in bars:
            assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
            assert bar.volume >= 0
    if desk.can.timeframes:
        with pytest.raises(NoData):
            desk.broker.get_historical_data("SPY", desk.can.timeframes[0], end, end + timedelta(days=1))


def test_c87_a_size_of_bars_that_it_does_not_have_is_unsupported(desk: Desk) -> None:
    """C87 A size of bars that the broker does not have is Unsupported.

    Then: Unsupported or NoData for 7Min bars; the words name those there are.
    """
    with pytest.raises((Unsupported, NoData)):
        desk.broker.get_historical_data("SPY", "7Min", now() - timedelta(days=4), now())


@pytest.mark.parametrize("reading", ["quote", "bars", "positions"])
def test_c88_a_reading_that_fails_is_an_error_and_never_a_value(
    cold_desk: Desk, reading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C88 A reading that fails is an error, and never a value.

    Given: one after another, the ways in which a reading fails.
    Then: DataError for quotes and bars; DataError or BrokerError for positions, never an empty list.
    Skipped: readings that the desk cannot break.
    """
    cold_desk.hasten(monkeypatch)
    broker, end = cold_desk.broker, now()
    broker.connect()
    cold_desk.hold("MSFT", 7)
    read = {
        "quote": lambda: broker.get_market_data("AAPL"),
        "bars": lambda: broker.get_historical_data(
            "SPY", broker.capabilities.timeframes[-1], end - timedelta(400), end
        ),
        "positions": broker.get_positions,
    }[reading]
    for trouble in cold_desk.unreadable[reading]:
        cold_desk.trouble(trouble)
        with pytest.raises((DataError, BrokerError) if reading == "positions" else DataError):
            read()
        cold_desk.back()
        assert cold_desk.again(read)
