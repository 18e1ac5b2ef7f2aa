"""Every word for "nothing", fed to every field of a message: a value is true, or there is none.

A message of another adapter joins by a row in MESSAGES.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from worker.brokers import ibkr_data, ibkr_terms, values
from worker.brokers.ibkr_frames import RawBar
from worker.brokers.values import UNREADABLE

T = datetime(2026, 4, 13, 19, 27, 4, tzinfo=UTC)
WORDS: list[Any] = [
    None, "", "NaN", float("nan"), float("inf"), "-inf", -1, "-1", 1.7976931348623157e308, "1.7976931348623157E308",
    2**31 - 1, "2147483647", 2**63 - 1, float(2**63 - 1), "9223372036854775807", "0001-01-01T00:00:00Z",
]  # fmt: skip
#: Where a report may be negative or zero.
SIGNED = frozenset(
    {"cash", "equity", "portfolio_value", "total_liquidity", "buying_power", "market_value", "unrealized_pnl",
     "commission", "day_trade_count"}
)  # fmt: skip
#: Where it may be zero.
COUNTED = frozenset({"quantity", "filled_quantity", "cumulative_quantity", "volume"})


def numbers(report: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and every time in a report, with the name of its field."""
    if is_dataclass(report):
        for field in fields(report):
            yield from numbers(getattr(report, field.name), field.name)
    elif isinstance(report, (list, tuple)):
        for one in report:
            yield from numbers(one, where)
    elif isinstance(report, (Decimal, datetime)):
        yield where, report


def check(report: Any) -> None:
    for name, value in numbers(report):
        if isinstance(value, datetime):
            assert 1971 <= value.year < 9999, name
            continue
        number = Decimal(value)
        assert number.is_finite(), name
        assert abs(number) not in (2**31 - 1, 2**63 - 1, 2**63), name
        assert abs(number) < Decimal("1e18"), name
        if name in SIGNED:
            continue
        assert number > 0 or (number == 0 and name in COUNTED), name


def spoiled(raw: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a message."""
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in items:
        if isinstance(value, (dict, list)) and value:
            yield from spoiled(value, (*at, key))
        else:
            yield (*at, key)


def with_word(raw: Any, path: tuple[Any, ...], word: Any) -> Any:
    changed = copy.deepcopy(raw)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = word
    return changed


# -- THE MESSAGES ---
def ib(**values_: Any) -> Any:
    return SimpleNamespace(**values_)


CONTRACT = {
    "conId": 265598, "symbol": "AAPL", "secType": "STK", "currency": "USD", "exchange": "NASDAQ",
    "primaryExchange": "", "localSymbol": "AAPL",
}  # fmt: skip
IB_ORDER = {
    "permId": 389211034, "orderId": 1, "clientId": 94, "orderRef": "r1", "account": "DU1", "action": "BUY",
    "orderType": "LMT", "tif": "DAY", "totalQuantity": 10.0, "lmtPrice": 5.25, "auxPrice": 0.0, "trailingPercent": 0.0,
    "filledQuantity": 10.0, "outsideRth": False,
}  # fmt: skip
IB_FILL = {
    "execId": "0000e0d5.69dd7411.01.01", "permId": 389211034, "orderId": 1, "clientId": 94, "acctNumber": "DU1",
    "side": "BOT", "shares": 1.0, "price": 257.95, "cumQty": 1.0, "avgPrice": 257.95, "orderRef": "r1",
}  # fmt: skip
IB_STATE = {"status": "Filled", "completedStatus": "Filled Size: 10", "completedTime": "20230306 12:28:30 US/Eastern"}
IB_BAR = {"date": "1775931120", "open": "10.5", "high": "11", "low": "10", "close": "10.75", "volume": "1200"}
IB_ACCOUNT = {"NetLiquidation": "5000.5", "TotalCashValue": "100", "BuyingPower": "20000", "DayTradesRemaining": "2"}


def ib_order(raw: Any) -> Any:
    return ibkr_terms.order_line(ib(**CONTRACT), ib(**(IB_ORDER | raw)), ib(**IB_STATE), UTC)


def ib_fill(raw: Any) -> Any:
    return ibkr_terms.execution(ib(**CONTRACT), ib(**(IB_FILL | raw), time=T)).fill


def ib_bars(raw: Any) -> Any:
    try:
        found = ibkr_data.read_bars([RawBar(**{key: str(value) for key, value in raw.items()})], "1Min", "bars")
    except ibkr_data.DataError as error:
        raise ValueError(str(error)) from None
    return [bar for bar in found.values() if bar is not None]


def ib_account(raw: Any) -> Any:
    return ibkr_data.account_report("DU1", [ib(tag=tag, value=value, currency="USD") for tag, value in raw.items()])


_ORDER_NUMBERS = ("totalQuantity", "lmtPrice", "auxPrice", "trailingPercent", "filledQuantity")
#: Name of the message, what reads it, and a good one: every value in it is spoiled in turn.
MESSAGES: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("ib order", ib_order, {name: IB_ORDER[name] for name in _ORDER_NUMBERS}),
    ("ib execution", ib_fill, {name: IB_FILL[name] for name in ("shares", "price", "cumQty", "avgPrice")}),
    ("ib bar", ib_bars, IB_BAR),
    ("ib account", ib_account, IB_ACCOUNT),
    ("ib commission", lambda raw: values.fee(raw["commission"]), {"commission": 1.0}),
]


@pytest.mark.parametrize(
    ("read", "raw", "path"),
    [pytest.param(read, raw, path, id=f"{name}-{path[-1]}") for name, read, raw in MESSAGES for path in spoiled(raw)],
)
def test_a_word_for_nothing_is_never_a_value(read: Callable[[Any], Any], raw: Any, path: tuple[Any, ...]) -> None:
    check(read(raw))
    for word in WORDS:
        try:
            report = read(with_word(raw, path, word))
        except UNREADABLE:
            continue
        check(report)


@pytest.mark.parametrize("word", WORDS)
def test_an_execution_is_taken_back_by_a_size_of_zero_and_by_no_other_word(word: Any) -> None:
    assert ib_fill({"shares": 0.0}).busted
    with pytest.raises(ValueError, match=r"size|number"):
        ib_fill({"shares": word})
