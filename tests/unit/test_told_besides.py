"""Every word for "nothing" in what brokers tell besides orders: instruments, previews, what an account was paid."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from models.instruments import read_instrument
from models.record.cash import book, newest
from models.record.database import Database
from models.reports import CashEventReport
from models.vocabulary import AssetClass, CashKind
from tests.unit.test_sentinels import NO_IDS, ODD, SIGNED, check, ids, numbers, readings, spoiled
from worker.brokers.alpaca import instruments as alpaca
from worker.brokers.alpaca.activities import event_of
from worker.brokers.ibkr import details, flex, what_if
from worker.brokers.ibkr.instruments import size_of
from worker.brokers.oddities import Oddities
from worker.brokers.tda import instruments as tda
from worker.brokers.tda.previews import read_preview
from worker.brokers.tda.transactions import TdaTransactions, events_of
from worker.brokers.values import count

KO = read_instrument("KO", AssetClass.US_EQUITY)
AT = "2026-10-08T15:10:18+0000"
PAID = {
    "activity_type": "DIV", "id": "20261008::1", "date": "2026-10-08", "net_amount": "1.5", "symbol": "KO", "qty": "3",
    "per_share_amount": "0.5", "currency": "USD", "description": "d", "created_at": AT, "order_id": "x-1",
}  # fmt: skip
SHARES = {"instrument": {"assetType": "EQUITY", "symbol": "KO", "cusip": "191216100"}, "amount": 3.0, "price": 1.0}
FEE = {"feeType": "COMMISSION", "cost": -1.5, "instrument": {"assetType": "CURRENCY", "symbol": "USD"}}
MOVED = {
    "activityId": 123, "time": AT, "type": "RECEIVE_AND_DELIVER", "description": "SPLIT", "netAmount": 1.5,
    "accountNumber": "1234", "orderId": 55, "transferItems": [SHARES], "status": "VALID",
}  # fmt: skip
ASSET = {
    "class": "us_equity", "symbol": "KO", "exchange": "NYSE", "id": "a-1", "name": "Coca-Cola", "tradable": True,
    "status": "active", "fractionable": True, "price_increment": "0.01", "min_trade_increment": "1",
}  # fmt: skip
CONTRACT = {
    "symbol": "AAPL261218C00200000", "underlying_symbol": "AAPL", "expiration_date": "2026-12-18", "id": "c-1",
    "strike_price": "200", "multiplier": "100", "size": "100", "name": "n", "tradable": True, "status": "active",
}  # fmt: skip
OPTION = {"symbol": "AAPL  261218C00200000", "strikePrice": 200.0, "multiplier": 100, "description": "d"}
CHAIN: dict[str, Any] = {
    "callExpDateMap": {"2026-12-18:1": {"200.0": [OPTION, OPTION | {"symbol": "AAPL  261218C00210000"}]}},
    "putExpDateMap": {},
}
LISTED = {"symbol": "KO", "exchange": "NYSE", "cusip": "191216100", "description": "d", "assetType": "EQUITY"}
COSTS: dict[str, Any] = {
    "commission": {"commissionLegs": [{"commissionValues": [{"value": 0.65, "type": "COMMISSION"}]}]},
    "fee": {"feeLegs": [{"feeValues": [{"value": 0.01, "type": "OPT_REG_FEE"}]}]},
}
PREVIEW: dict[str, Any] = {
    "orderValidationResult": {"rejects": [], "warns": [{"activityMessage": "w"}]}, "commissionAndFee": COSTS,
    "orderStrategy": {"orderBalance": {"projectedCommission": 0.66}},
}  # fmt: skip
MARGIN = {
    "initMarginBefore": "1000.5", "initMarginAfter": "1200", "commission": 1.5, "commissionCurrency": "USD",
    "minCommission": 1.0, "maxCommission": 1.5, "warningText": "w",
}  # fmt: skip
IB_OPTION = {
    "conId": 5, "symbol": "AAPL", "secType": "OPT", "lastTradeDateOrContractMonth": "20261218", "strike": 200.0,
    "right": "C", "multiplier": "100", "exchange": "SMART", "primaryExchange": "", "currency": "USD",
    "localSymbol": "AAPL  261218C00200000", "tradingClass": "AAPL",
}  # fmt: skip
IB_DETAILS = {"minTick": 0.01, "priceMagnifier": 1, "longName": "x", "sizeIncrement": 1, "orderTypes": "LMT"} | {
    "tradingHours": "",
    "liquidHours": "20261008:0930-20261008:1600",
    "timeZoneId": "US/Eastern",
    "validExchanges": "SMART",
    "marketRuleIds": "26",
}
STATEMENT = {
    "type": "Dividends", "dateTime": "20261008;151018", "amount": "1.5", "currency": "USD", "symbol": "KO",
    "quantity": "10", "transactionID": "77", "accountId": "U1", "description": "d",
}  # fmt: skip


def ib_details(raw: Any) -> Any:
    contract = SimpleNamespace(**IB_OPTION | raw["contract"])
    return details.read_details(SimpleNamespace(**IB_DETAILS | raw["details"], contract=contract))


def margins(raw: Any) -> Any:
    return what_if.read_state(SimpleNamespace(**MARGIN | raw), "USD")


def ib_cash(raw: Any) -> Any:
    """Read attributes of XML, which are texts or not there."""
    if any(isinstance(value, (bool, list, dict)) for value in raw.values()):
        raise ValueError("no XML")
    return flex._cash({name: str(value) for name, value in raw.items() if value is not None})


#: Name, what reads it, and a good one.
MESSAGES: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("alpaca activity", event_of, PAID),
    ("alpaca asset", lambda raw: alpaca.asset_report(KO, raw), ASSET),
    ("alpaca contract", alpaca.contract_report, CONTRACT),
    ("tda transaction", events_of, MOVED),
    ("tda fee", events_of, MOVED | {"type": "TRADE", "transferItems": [FEE, SHARES]}),
    ("tda share", lambda raw: tda.share_report(KO, raw), LISTED),
    ("tda chain", lambda raw: tda.read_chain("AAPL", raw, ODD), CHAIN),
    ("schwab preview", read_preview, PREVIEW),
    ("ib what-if", margins, MARGIN),
    ("ib details", ib_details, {"contract": IB_OPTION, "details": IB_DETAILS}),
    ("ib cash", ib_cash, STATEMENT),
]
_SIGNED_HERE = SIGNED | {"amount", "margin_before", "margin_after"}


@pytest.mark.parametrize(("read", "raw"), [pytest.param(read, raw, id=name) for name, read, raw in MESSAGES])
def test_a_word_for_nothing_is_never_a_value_in_what_is_told_besides(read: Callable[[Any], Any], raw: Any) -> None:
    assert read(raw)
    for path in spoiled(raw):
        for word, told in readings(read, raw, path):
            for one in told if isinstance(told, list) else [told]:
                is_paid = isinstance(one, CashEventReport)
                for name, value in numbers(one):
                    if isinstance(value, datetime) or (is_paid and name == "quantity"):
                        continue  # what an account was given may be taken away again
                    assert value > 0 or value == 0 or name in _SIGNED_HERE, (path, word, name, value)
                if not is_paid and one is not None and not hasattr(one, "margin_before"):
                    check(one)
                named = (getattr(one, name, None) for name in ("event_id", "broker_id", "broker_symbol"))
                assert not NO_IDS.intersection([*ids(one), *filter(None, named)]), (path, word)


def test_what_part_of_the_costs_comes_to_is_not_what_an_order_costs() -> None:
    assert read_preview(PREVIEW).commission == Decimal("0.66")
    spoilt = {**COSTS, "fee": {"feeLegs": [{"feeValues": [{"value": "?"}]}]}}
    assert read_preview(PREVIEW | {"commissionAndFee": spoilt}).commission is None


def test_a_contract_that_cannot_be_read_hides_no_other_of_its_chain() -> None:
    odd = Oddities("schwab")
    bad = [{"symbol": "AAPL  261218C00210000"}, None, OPTION | {"strikePrice": -1}]
    raw = {"callExpDateMap": {"2026-12-18:1": {"200.0": [*bad, OPTION]}}}
    with capture_logs() as logs:
        (one,) = tda.read_chain("AAPL", raw, odd)
        rows: list[Any] = [{}, CONTRACT, None]
        (other,) = odd.readable("contract", rows, alpaca.contract_report)
    assert one.symbol == other.symbol == CONTRACT["symbol"]
    assert [line["event"] for line in logs] == ["unreadable_row"] * 4  # None is told of once
    assert "symbol is missing" in [line["why"] for line in logs]
    with pytest.raises(ValueError, match="no contract can be read: symbol is missing"):
        odd.readable("contract", [{}], alpaca.contract_report)
    assert ib_details({"contract": {"localSymbol": "AAPL DEC26 200 C"}, "details": {}}) is None


def test_a_transaction_that_is_none_hides_no_other() -> None:
    book_ = TdaTransactions(None, None, str, Oddities("tda"))  # type: ignore[arg-type]
    rows: list[Any] = [None, "x", [], {"activityId": 9}]
    assert [book_._events(row) for row in rows] == [[], [], [], []]


@pytest.mark.parametrize("magnifier", [-1, 0, None, 2**31 - 1])
def test_a_unit_is_worth_nothing_less_than_it_is_because_of_a_word_for_nothing(magnifier: Any) -> None:
    option = SimpleNamespace(**IB_OPTION)
    assert size_of(option, magnifier).multiplier == 100


@pytest.mark.parametrize("many", ["1e17", 10**9, 1.5])
def test_nobody_makes_a_thousand_million_day_trades(many: Any) -> None:
    with pytest.raises(ValueError, match="number of things"):
        count(many)


def test_an_event_of_the_future_does_not_decide_from_where_the_next_reading_goes_on(database: Database) -> None:
    past = datetime(2026, 10, 8, tzinfo=UTC)
    told = [
        CashEventReport(event_id=f"e{at.year}", kind=CashKind.DIVIDEND, at=at)
        for at in (past, past + timedelta(days=400_000))
    ]
    database.transact(lambda connection: book(connection, "alpaca", told))
    with database.read() as connection:
        assert newest(connection, "alpaca") == past
