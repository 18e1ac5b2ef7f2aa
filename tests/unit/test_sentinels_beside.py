"""Every word for "nothing" in what brokers tell beside orders: instruments, previews, and money that moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from models.instruments import read_instrument
from models.reports import CashEventReport
from models.vocabulary import AssetClass
from tests.unit.test_sentinels import check, ib, numbers, readings, spoiled
from worker.brokers.alpaca import activities as alpaca_activities
from worker.brokers.alpaca import instruments as alpaca_instruments
from worker.brokers.ibkr import details as ibkr_details
from worker.brokers.ibkr.what_if import read_state
from worker.brokers.oddities import Oddities
from worker.brokers.tda import instruments as tda_instruments
from worker.brokers.tda.previews import read_preview
from worker.brokers.tda.transactions import events_of

STATE = {
    "initMarginBefore": "100.5", "initMarginAfter": "200.5", "commission": None, "minCommission": 1.0,
    "maxCommission": 2.0, "commissionCurrency": "USD", "warningText": "",
}  # fmt: skip
CONTRACT = {
    "conId": 495512563, "symbol": "ES", "secType": "FUT", "lastTradeDateOrContractMonth": "20261218", "strike": 0.0,
    "right": "", "multiplier": "50", "exchange": "CME", "primaryExchange": "", "currency": "USD", "localSymbol": "ESZ6",
    "tradingClass": "ES",
}  # fmt: skip
DETAILS = {
    "priceMagnifier": 1, "minTick": 0.25, "longName": "E-mini", "sizeIncrement": 1.0, "validExchanges": "CME",
    "marketRuleIds": "67", "orderTypes": "LMT", "timeZoneId": "US/Central",
    "tradingHours": "20260708:1700-20260709:1600", "liquidHours": "20260708:0830-20260708:1600",
}  # fmt: skip
PAID = {
    "id": "20261008::1", "activity_type": "DIV", "date": "2026-10-08", "created_at": "2026-10-08T15:10:18Z",
    "net_amount": "1.5", "qty": "3", "price": "0.5", "symbol": "KO", "currency": "USD", "order_id": "61d1feca-aa11",
    "description": "d", "status": "executed",
}  # fmt: skip
MOVED = {
    "activityId": 96281134123, "time": "2026-10-08T15:10:18+0000", "accountNumber": "123", "status": "VALID",
    "type": "DIVIDEND_OR_INTEREST", "netAmount": 1.5, "orderId": 1000436258264, "description": "x",
    "transferItems": [
        {"instrument": {"assetType": "EQUITY", "symbol": "KO"}, "amount": 3.0, "cost": -10.0, "price": 0.5},
        {"instrument": {"assetType": "CURRENCY", "symbol": "CURRENCY_USD"}, "feeType": "COMMISSION", "cost": -0.65},
    ],
}  # fmt: skip
PREVIEW = {
    "orderValidationResult": {"rejects": [], "alerts": [{"activityMessage": "a"}]},
    "commissionAndFee": {
        "commission": {"commissionLegs": [{"commissionValues": [{"value": 0.65, "type": "COMMISSION"}]}]},
        "fee": {"feeLegs": [{"feeValues": [{"value": 0.01, "type": "SEC_FEE"}]}]},
    },
}  # fmt: skip
OPTION = {"symbol": "AAPL  261218C00100000", "description": "x", "strikePrice": 100.0, "multiplier": 100.0}
CHAIN = {"callExpDateMap": {"2026-12-18:30": {"100.0": [OPTION]}}}
LISTED = {
    "symbol": "AAPL261218C00100000", "underlying_symbol": "AAPL", "expiration_date": "2026-12-18",
    "strike_price": "100", "multiplier": "100", "size": "100", "id": "abc", "name": "x", "tradable": True,
    "status": "active",
}  # fmt: skip
ASSET = {
    "class": "us_equity", "symbol": "KO", "exchange": "NYSE", "fractionable": True, "price_increment": "0.01",
    "min_trade_increment": "1", "id": "x", "name": "Coke", "tradable": True, "status": "active",
}  # fmt: skip

KO = read_instrument("KO", AssetClass.US_EQUITY)


def moved(told: list[CashEventReport]) -> list[CashEventReport]:
    """Return events as if money and shares had come in: they may leave as well."""
    come = [replace(one, quantity=one.quantity and abs(one.quantity)) for one in told]
    return [replace(one, amount=(one.amount and abs(one.amount)) or None) for one in come]


def future(raw: Any) -> Any:
    contract = {name: raw.get(name) for name in CONTRACT}
    return ibkr_details.read_details(ib(contract=ib(**contract), **{name: raw.get(name) for name in DETAILS}))


def margins(raw: Any) -> Any:
    told = read_state(ib(**{name: raw.get(name) for name in STATE}), "USD")
    amounts = {name: getattr(told, name) for name in ("margin_before", "margin_after")}
    assert all(value is None or value > -2 for value in amounts.values())
    return replace(told, margin_before=None, margin_after=None)


MESSAGES: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("ib what-if", margins, STATE),
    ("ib details", future, CONTRACT | DETAILS),
    ("alpaca activity", lambda raw: moved([alpaca_activities.event_of(raw)]), PAID),
    ("alpaca option", alpaca_instruments.contract_report, LISTED),
    ("alpaca asset", lambda raw: alpaca_instruments.asset_report(KO, raw), ASSET),
    ("schwab transaction", lambda raw: moved(events_of(raw)), MOVED),
    ("schwab fees of a trade", lambda raw: moved(events_of(raw)), MOVED | {"type": "TRADE"}),
    ("schwab preview", read_preview, PREVIEW),
    ("schwab chain", lambda raw: tda_instruments.read_chain("AAPL", raw, Oddities("schwab")), CHAIN),
]  # fmt: skip


def units(report: Any) -> set[Any]:
    """Return the currencies of a report, or of several."""
    return {one.currency for one in (report if isinstance(report, list) else [report]) if one is not None}


@pytest.mark.parametrize(("read", "raw"), [pytest.param(read, raw, id=name) for name, read, raw in MESSAGES])
def test_a_word_for_nothing_is_no_value_and_no_currency_beside_orders_either(
    read: Callable[[Any], Any], raw: Any
) -> None:
    good = read(raw)
    check(good)
    assert units(good) == {"USD"}
    assert [value for _, value in numbers(good) if isinstance(value, Decimal)]
    for path in spoiled(raw):
        for word, report in readings(read, raw, path):
            check(report)
            assert units(report) <= {"USD", None}, (path, word)
            assert not [w for w in getattr(report, "warnings", ()) if "None" in w], (path, word)
