"""The simulated market's prices agree with each other: bars of every size, quotes, sessions."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest

from tests.unit.sandbox_market import NOW
from worker.sandbox.market.prices import NEW_YORK, Candle, PriceBook

# -- PRICES --


def test_the_same_seed_gives_the_same_prices_and_another_seed_others() -> None:
    start = NOW - timedelta(days=30)
    first, second, other = (PriceBook(seed).bars("AAPL", "1Day", start, NOW, NOW) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def _add_up(minutes: list[Candle]) -> tuple[Decimal, Decimal, Decimal, Decimal, int]:
    high, low = max(b.high for b in minutes), min(b.low for b in minutes)
    return minutes[0].open, high, low, minutes[-1].close, sum(b.volume for b in minutes)


@pytest.mark.parametrize("timeframe", ["5Min", "15Min", "30Min", "1Hour", "4Hour", "1Day", "1Week"])
def test_every_timeframe_adds_up_from_the_minutes(timeframe: str) -> None:
    book = PriceBook()
    start = datetime.combine(date(2026, 1, 5), time(), NEW_YORK)  # a Monday
    minutes = book.bars("TSLA", "1Min", start, NOW, NOW)
    bars = book.bars("TSLA", timeframe, start, NOW, NOW)
    edges = [*(b.start for b in bars[1:]), NOW]
    for bar, end in zip(bars, edges, strict=True):
        inside = [m for m in minutes if bar.start <= m.start < end]
        assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == _add_up(inside)


def test_a_year_of_daily_bars_has_one_bar_per_weekday_and_is_quick() -> None:
    begun = datetime.now(UTC)
    start = datetime.combine(date(2025, 1, 1), time(), NEW_YORK)
    bars = PriceBook().bars("SPY", "1Day", start, datetime.combine(date(2025, 12, 31), time(), NEW_YORK), NOW)
    assert len(bars) == 261
    assert {b.start.astimezone(NEW_YORK).time() for b in bars} == {time()}
    assert all(b.low <= min(b.open, b.close) <= max(b.open, b.close) <= b.high for b in bars)
    assert datetime.now(UTC) - begun < timedelta(seconds=3)


def test_bars_end_with_the_last_finished_minute_and_weekends_have_none() -> None:
    book = PriceBook()
    newest = book.bars("AAPL", "1Min", NOW - timedelta(hours=1), NOW, NOW)[-1]
    assert newest.start == NOW - timedelta(minutes=1)
    saturday = datetime(2026, 1, 10, 12, tzinfo=UTC)
    assert book.bars("AAPL", "1Min", saturday, saturday + timedelta(hours=30), NOW) == []


def test_sessions_follow_new_york_summer_time() -> None:
    book = PriceBook()
    for day, hour in ((date(2025, 7, 1), 13), (date(2025, 12, 1), 14)):
        start = datetime.combine(day, time(), NEW_YORK)
        first = book.bars("AAPL", "1Min", start, start + timedelta(days=1), NOW)[0]
        assert (first.start.hour, first.start.minute) == (hour, 30)


@pytest.mark.parametrize(
    "moment", [NOW, NOW + timedelta(days=2), NOW.replace(hour=3), datetime(2026, 1, 1, tzinfo=UTC)]
)
def test_quotes_are_whole_cents_and_never_zero_or_crossed(moment: datetime) -> None:
    book = PriceBook()
    for symbol in ("AAPL", "BRK.B", "SIM000", "SIM999"):
        quote = book.quote(symbol, moment)
        assert Decimal(0) < quote.bid <= quote.last < quote.ask
        assert quote.ask - quote.bid <= Decimal("0.02")
        assert quote.last == quote.last.quantize(Decimal("0.01"))


def test_a_quote_during_the_session_is_the_close_of_its_minute_bar() -> None:
    book = PriceBook()
    bar = book.bars("AAPL", "1Min", NOW, NOW, NOW + timedelta(minutes=1))[0]
    assert book.quote("AAPL", NOW).last == bar.close


def test_unknown_symbols_and_timeframes_are_refused() -> None:
    book = PriceBook()
    assert not book.exists("SIM1000")
    with pytest.raises(KeyError):
        book.quote("NOPE")
    with pytest.raises(ValueError, match="timeframe"):
        book.bars("AAPL", "3Fortnight", NOW, NOW)
