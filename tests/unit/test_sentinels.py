"""Every word for "nothing", fed to every field of a message: a value is true, or there is none.

A message of another adapter joins by a row in MESSAGES.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from models.errors import Unsupported
from models.messages import OrderRequest, utcnow
from models.reports import BrokerStatus
from tests.unit.test_alpaca_reports import READERS as ALPACA
from worker.brokers import values
from worker.brokers.alpaca.adapter import AlpacaBroker
from worker.brokers.ibkr import account as ibkr_account
from worker.brokers.ibkr import prices as ibkr_prices
from worker.brokers.ibkr import reports as ibkr_reports
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.brokers.ibkr.frames import RawBar
from worker.brokers.oddities import Oddities
from worker.brokers.tda import account as tda_account
from worker.brokers.tda import likeness as tda_likeness
from worker.brokers.tda import prices as tda_prices
from worker.brokers.tda import reports as tda_reports
from worker.brokers.tda.adapter import SchwabBroker, TdaBroker
from worker.brokers.tda.dialects import SCHWAB
from worker.brokers.tda.listings import TdaListings
from worker.brokers.tda.memory import OrderMemory
from worker.brokers.values import UNREADABLE

T = datetime(2026, 4, 13, 19, 27, 4, tzinfo=UTC)
WORDS: list[Any] = [
    None, "", "NaN", float("nan"), float("inf"), "-inf", -1, "-1", 1.7976931348623157e308, "1.7976931348623157E308",
    2**31 - 1, "2147483647", 2**63 - 1, float(2**63 - 1), "9223372036854775807", "0001-01-01T00:00:00Z",
]  # fmt: skip
#: What is no field at all, or of a type that no field has.
SHAPES: list[Any] = [0, "0", True, False, [], {}, [1], {"a": 1}, "a\0b", "x" * 300, KeyError]
#: Nothing that a broker can call something.
NO_IDS = frozenset(
    {"", "None", "nan", "NaN", "inf", "-inf", "-1", "0", "True", "False", "[]", "{}", "[1]", "{'a': 1}", "KeyError",
     "2147483647", "9223372036854775807", "9223372036854775808", "null"}
)  # fmt: skip
_IDS = ("execution_id", "broker_order_id", "broker_client_order_id", "account_id", "replaces", "replaced_by")
#: Where a report may be negative or zero.
SIGNED = frozenset(
    {"cash", "equity", "portfolio_value", "total_liquidity", "buying_power", "market_value", "unrealized_pnl",
     "commission", "day_trade_count", ""}
)  # fmt: skip
#: Where it may be zero.
COUNTED = frozenset({"quantity", "filled_quantity", "cumulative_quantity", "volume", "filled"})


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
    assert not NO_IDS.intersection(ids(report))
    for name, value in numbers(report):
        if isinstance(value, datetime):
            assert 1971 <= value.year < 9999, name
            continue
        assert not isinstance(value, bool), name
        number = Decimal(value)
        assert number.is_finite(), name
        assert abs(number) not in (2**31 - 1, 2**63 - 1, 2**63), name
        assert abs(number) < Decimal("1e18"), name
        if name in SIGNED:
            continue
        assert number > 0 or (number == 0 and name in COUNTED), name


def ids(report: Any) -> Iterator[str]:
    """Every id in a report."""
    for one in report if isinstance(report, (list, tuple)) else [report]:
        yield from (found for name in _IDS if (found := getattr(one, name, None)) is not None)
        yield from ids(getattr(one, "fills", ()))


def spoiled(raw: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a message, of the rows and lists in it too."""
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from spoiled(value, (*at, key))


def with_word(raw: Any, path: tuple[Any, ...], word: Any) -> Any:
    changed = copy.deepcopy(raw)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if word is KeyError and isinstance(inner, dict):
        del inner[path[-1]]
    else:
        inner[path[-1]] = None if word is KeyError else word
    return changed


def readings(read: Callable[[Any], Any], raw: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield each word for nothing with what is read of a message that has it there; what is refused is left out."""
    for word in [*WORDS, *SHAPES]:
        try:
            found = read(with_word(raw, path, word))
        except UNREADABLE:
            continue
        yield word, found


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
    return ibkr_reports.order_line(ib(**CONTRACT), ib(**(IB_ORDER | raw)), ib(**IB_STATE), UTC)


def ib_fill(raw: Any) -> Any:
    return ibkr_reports.execution(ib(**CONTRACT), ib(**(IB_FILL | raw), time=T)).fill


def test_ib_s_price_of_a_future_may_be_below_zero_and_no_other_may() -> None:
    read = {}
    for kind in ("FUT", "STK"):
        contract = ib(**CONTRACT | {"secType": kind})
        line = ibkr_reports.order_line(contract, ib(**(IB_ORDER | {"lmtPrice": -37.63})), ib(**IB_STATE), UTC)
        paid = {"price": -37.63, "avgPrice": -37.63}
        done = ibkr_reports.execution(contract, ib(**(IB_FILL | paid), time=T))
        read[kind] = (line.limit_price, done.fill.price, done.avg_price)
    assert read == {"FUT": (Decimal("-37.63"),) * 3, "STK": (None,) * 3}


def ib_bars(raw: Any) -> Any:
    found, _ = ibkr_prices.read_bars([RawBar(**{key: str(value) for key, value in raw.items()})], "1Min")
    return [bar for bar in found.values() if bar is not None]


def ib_account(raw: Any) -> Any:
    return ibkr_account.account_report("DU1", [ib(tag=tag, value=value, currency="USD") for tag, value in raw.items()])


# Schwab's and TDA's: numbers are JSON numbers; groups hold orders, and orders legs and executions.
ODD = Oddities("schwab")
LEG = {
    "orderLegType": "EQUITY", "legId": 1, "instruction": "BUY", "positionEffect": "OPENING", "quantity": 10.0,
    "instrument": {"assetType": "EQUITY", "cusip": "191216100", "symbol": "KO", "instrumentId": 1806651},
}  # fmt: skip
ACTIVITY = {
    "activityType": "EXECUTION", "activityId": 96281134123, "executionType": "FILL", "quantity": 4.0,
    "orderRemainingQuantity": 6.0,
    "executionLegs": [
        {"legId": 1, "quantity": 4.0, "mismarkedQuantity": 0.0, "price": 13.12, "time": "2026-10-08T15:10:18+0000"}
    ],
}  # fmt: skip
TDA_ORDER = {
    "session": "NORMAL", "duration": "DAY", "orderType": "LIMIT", "complexOrderStrategyType": "NONE", "quantity": 10.0,
    "filledQuantity": 4.0, "remainingQuantity": 6.0, "price": 13.13, "stopPrice": 13.5, "stopPriceOffset": 0.5,
    "stopPriceLinkType": "VALUE", "stopPriceLinkBasis": "LAST", "orderStrategyType": "SINGLE",
    "orderId": 1000436258264, "status": "WORKING", "enteredTime": "2026-10-08T15:10:10+0000",
    "closeTime": "2026-10-08T15:12:10+0000", "accountNumber": 123456789, "statusDescription": "?",
    "orderLegCollection": [LEG], "orderActivityCollection": [ACTIVITY],
}  # fmt: skip
TRAIL = TDA_ORDER | {"orderType": "TRAILING_STOP", "status": "FILLED", "filledQuantity": 10.0}
SPREAD = TDA_ORDER | {
    "orderLegCollection": [LEG, LEG | {"legId": 2, "instruction": "SELL_SHORT", "quantity": 20.0}],
    "orderActivityCollection": [ACTIVITY, ACTIVITY | {"executionLegs": [ACTIVITY["executionLegs"][0] | {"legId": 2}]}],
}  # fmt: skip
OLD = TDA_ORDER | {"orderId": 1000436258263, "status": "REPLACED", "closeTime": TDA_ORDER["enteredTime"]}
GROUP = {
    "orderStrategyType": "OCO", "orderId": 1000436258262, "status": "WORKING", "childOrderStrategies": [OLD, TDA_ORDER]
}  # fmt: skip
HELD = {
    "shortQuantity": 0.0, "averagePrice": 13.12, "longQuantity": 4.0, "marketValue": 52.48, "longOpenProfitLoss": 0.1,
    "instrument": LEG["instrument"],
}  # fmt: skip
BALANCES = {"cashBalance": 100.5, "buyingPower": 201.0, "equity": 150.25, "liquidationValue": 150.25}
TDA_ACCOUNT = {"securitiesAccount": {"accountId": "1234", "roundTrips": 1, "currentBalances": BALANCES}}
POSITIONS = {"securitiesAccount": {"accountId": "1234", "positions": [HELD, HELD | {"longQuantity": 7.0}]}}
QUOTE = {
    "bidPrice": 1.5, "askPrice": 1.6, "lastPrice": 1.55, "bidSize": 300, "askSize": 700, "lastSize": 100,
    "totalVolume": 20171188, "quoteTime": 1621376892336,
}  # fmt: skip
CANDLE = {"open": 1.5, "high": 2.0, "low": 1.25, "close": 1.75, "volume": 100, "datetime": 1775931120000}
LONG_AGO, FAR = datetime(1971, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)


def tda_listing(raw: Any) -> Any:
    book = TdaListings("schwab", cast(Any, None), SCHWAB, str, ODD)
    return book.reports(raw["rows"])


TDA: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("order", lambda raw: tda_reports.order_reports(raw, ODD), TDA_ORDER),
    ("trailing stop", lambda raw: tda_reports.order_reports(raw, ODD), TRAIL),
    ("spread", lambda raw: tda_reports.order_reports(raw, ODD), SPREAD),
    ("group", tda_listing, {"rows": [GROUP]}),
    ("account", lambda raw: tda_account.account_report(raw, "accountId"), TDA_ACCOUNT),
    ("positions", lambda raw: tda_account.position_reports(raw, "accountId", ODD), POSITIONS),
    ("quote", lambda raw: tda_prices.quote_report("KO", raw), {"quote": QUOTE, "realtime": True}),
    ("candle", lambda raw: tda_prices.read_bars([raw], LONG_AGO, FAR, ODD)[0], CANDLE),
]


_ORDER_NUMBERS = ("totalQuantity", "lmtPrice", "auxPrice", "trailingPercent", "filledQuantity")
#: Name of the message, what reads it, and a good one: every value in it is spoiled in turn.
MESSAGES: list[tuple[str, Callable[[Any], Any], Any]] = [
    *[(f"alpaca {name}", read, raw) for name, (raw, read) in ALPACA.items()],
    *[(f"tda {name}", read, raw) for name, read, raw in TDA],
    ("ib order", ib_order, {name: IB_ORDER[name] for name in _ORDER_NUMBERS}),
    ("ib execution", ib_fill, {name: IB_FILL[name] for name in ("shares", "price", "cumQty", "avgPrice")}),
    ("ib bar", ib_bars, IB_BAR),
    ("ib account", ib_account, IB_ACCOUNT),
    ("ib ids of an execution", ib_fill, {"execId": IB_FILL["execId"], "permId": IB_FILL["permId"]}),
    ("ib commission", lambda raw: values.fee(raw["commission"]), {"commission": 1.0}),
]


@pytest.mark.parametrize(
    ("read", "raw", "path"),
    [
        pytest.param(read, raw, path, id=f"{name}-{'.'.join(map(str, path))}")
        for name, read, raw in MESSAGES
        for path in spoiled(raw)
    ],
)
def test_a_word_for_nothing_is_never_a_value(read: Callable[[Any], Any], raw: Any, path: tuple[Any, ...]) -> None:
    check(read(raw))
    for _, report in readings(read, raw, path):
        check(report)


@pytest.mark.parametrize("word", WORDS)
def test_an_execution_is_taken_back_by_a_size_of_zero_and_by_no_other_word(word: Any) -> None:
    assert ib_fill({"shares": 0.0}).busted
    with pytest.raises(ValueError, match=r"size|number"):
        ib_fill({"shares": word})


# -- WHAT HANGS ON A FIELD ---
@pytest.mark.parametrize("status", ["filled", "canceled", "expired", "rejected", "replaced"])
@pytest.mark.parametrize("nothing", [None, "", "NaN", -1, "-1", 2**31 - 1, 1.7976931348623157e308])
def test_an_end_that_does_not_say_what_was_filled_is_no_end_yet(status: str, nothing: Any) -> None:
    order, read = ALPACA["order"]
    assert read(order | {"status": status, "filled_qty": nothing}).status is BrokerStatus.UNKNOWN
    raw = TDA_ORDER | {"status": status.upper(), "filledQuantity": nothing}
    assert tda_reports.order_report(raw).status is BrokerStatus.UNKNOWN


@pytest.mark.parametrize(
    ("stored", "meant"), [(13.120000000000001, "13.12"), (0.30000000000000004, "0.3"), (1e3, "1000")]
)
def test_a_double_is_the_number_that_was_meant(stored: float, meant: str) -> None:
    assert values.number(stored) == Decimal(meant)
    sent = TDA_ORDER | {"price": float(meant)}
    assert tda_likeness.compare(TDA_ORDER | {"price": stored}, tda_likeness.terms(sent)) is tda_likeness.Likeness.SAME


@pytest.mark.parametrize("told", [{"executionType": None}, {}])
def test_an_execution_counts_though_its_kind_is_not_told(told: dict[str, Any]) -> None:
    activity = {key: value for key, value in ACTIVITY.items() if key != "executionType"} | told
    (fill,) = tda_reports.fills(TDA_ORDER | {"orderActivityCollection": [activity]})
    assert (fill.quantity, fill.price) == (4, Decimal("13.12"))


def test_a_leg_that_cannot_be_read_is_a_leg_all_the_same() -> None:
    sent = tda_likeness.terms(TDA_ORDER)
    for noise in (None, "x", [], 7):
        raw = TDA_ORDER | {"orderLegCollection": [LEG, noise]}
        assert tda_likeness.compare(raw, sent) is tda_likeness.Likeness.OTHER


@pytest.mark.parametrize("status", ["", None, "SOMETHING_NEW", "working", [], {}, True, 5])
def test_a_word_that_a_broker_adds_is_never_a_guess(status: Any) -> None:
    order, read = ALPACA["order"]
    if not isinstance(status, (list, dict)):
        assert read(order | {"status": status}).status is BrokerStatus.UNKNOWN
    assert tda_reports.status_of(TDA_ORDER | {"status": status}) is BrokerStatus.UNKNOWN
    if isinstance(status, str):
        assert ibkr_reports.open_status(status, "", refused=True) is BrokerStatus.UNKNOWN


def test_a_holding_whose_size_or_direction_cannot_be_read_has_none() -> None:
    position, read = ALPACA["position"]
    for spoilt in ({"qty": None}, {"qty": "NaN"}, {"qty": []}, {"side": None}, {"side": "sideways"}, {"qty": "-1"}):
        assert read(position | spoilt).quantity is None, spoilt
    assert (
        read(position | {"side": "short"}).quantity
        == read(position | {"side": "short", "qty": "-0.557436865"}).quantity
    )


def test_amounts_are_in_one_currency_and_a_spoiled_one_hides_no_other() -> None:
    found = tda_account.account_report(
        {
            "securitiesAccount": {
                "accountId": "1234",
                "currentBalances": BALANCES | {"cashBalance": "x", "totalCash": 7},
            }
        },
        "accountId",
    )
    assert (found.currency, found.cash, found.equity) == ("USD", 7, Decimal("150.25"))
    assert {held.currency for held in tda_account.position_reports(POSITIONS, "accountId", ODD)} == {"USD"}
    account, read = ALPACA["account"]
    found = read(account | {"buying_power": [], "currency": "CAD"})
    assert (found.currency, found.cash, found.buying_power) == ("CAD", 1, None)
    with pytest.raises(ValueError, match="currency"):
        read(account | {"currency": -1})
    rows = [ib(tag="NetLiquidation", value="5", currency="USD"), ib(tag="BuyingPower", value="x", currency="USD")]
    assert (ibkr_account.account_report("DU1", rows).equity, ibkr_account.account_report("DU1", rows).buying_power) == (
        5,
        None,
    )


def test_an_order_whose_id_cannot_be_read_is_asked_for_under_no_id() -> None:
    asked: list[str] = []
    entered = (utcnow() - timedelta(hours=2)).isoformat()
    good = {key: value for key, value in TDA_ORDER.items() if key != "closeTime"} | {"enteredTime": entered}
    pages: list[list[Any]] = [[good, good | {"orderId": None}, {}], [], [good | {"orderId": "x"}, {}, good]]
    memory = OrderMemory(lambda *_: pages.pop(0), lambda key: asked.append(key), timedelta(days=60))
    for _ in range(2):
        assert good in memory.read()
    assert (asked, pages) == ([], [])


@pytest.mark.parametrize("kind", [AlpacaBroker, IbkrBroker, SchwabBroker, TdaBroker])
@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("quantity", {}),
        ("limit_price", {"order_type": "limit"}),
        ("stop_price", {"order_type": "stop"}),
        ("trail_amount", {"order_type": "trailing_stop"}),
    ],
)
def test_an_order_with_the_number_that_means_not_set_is_not_sent(kind: Any, field: str, terms: dict[str, Any]) -> None:
    """Shown back by its broker, that number is no number: the order could never be told from others."""
    unset = OrderRequest(**{"symbol": "F", "side": "buy", "quantity": 10, **terms, field: 2**31 - 1})
    with pytest.raises(Unsupported, match=f"{field} 2147483647"):
        kind.capabilities.check(unset, "broker")
    beside = OrderRequest(**{"symbol": "F", "side": "buy", "quantity": 10, **terms, field: 2**31 - 2})
    kind.capabilities.check(beside, "broker")
