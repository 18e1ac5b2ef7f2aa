"""An account is told in one currency: its own, whatever rows in other currencies stand beside."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from worker.brokers.ibkr.account import account_report

_TAGS = {"NetLiquidation": "equity", "TotalCashValue": "cash", "BuyingPower": "buying_power"}


def rows(**values: int) -> list[Any]:
    """One row of every tag for each currency; the value tells which one it was."""
    return [SimpleNamespace(tag=tag, value=str(value), currency=c) for c, value in values.items() for tag in _TAGS]


def pushed(currency: str, tag: str = "NetLiquidation", value: str = "7") -> Any:
    return SimpleNamespace(tag=tag, value=value, currency=currency)


@pytest.mark.parametrize("order", list(permutations(["BASE", "EUR", "USD"])))
@pytest.mark.parametrize(
    ("news", "currency"),
    [
        ([pushed("EUR"), pushed("BASE")], "EUR"),
        ([pushed("EUR", "ExchangeRate", "1.00"), pushed("USD", "ExchangeRate", "0.91")], "EUR"),
        ([], "BASE"),
    ],
)
def test_totals_are_taken_in_the_base_currency_whatever_the_order(
    order: tuple[str, ...], news: list[Any], currency: str
) -> None:
    sizes = {"BASE": 100, "EUR": 60, "USD": 44}
    report = account_report("DU1", rows(**{name: sizes[name] for name in order}), news)
    assert report.currency == currency
    assert {getattr(report, field) for field in _TAGS.values()} == {Decimal(100)}


def test_parts_in_other_currencies_are_no_total() -> None:
    report = account_report("DU1", rows(EUR=60, USD=44), [pushed("EUR")])
    assert (report.currency, report.equity, report.cash) == ("EUR", 60, 60)
    mixed = [*rows(EUR=60), SimpleNamespace(tag="DayTradesRemaining", value="3", currency="")]
    assert account_report("DU1", mixed).day_trade_count == 0
    cash_in_dollars = [r for r in rows(EUR=60, USD=44) if (r.tag, r.currency) != ("TotalCashValue", "EUR")]
    assert account_report("DU1", cash_in_dollars, [pushed("EUR")]).cash is None


def test_several_currencies_of_which_none_is_known_to_be_the_base_are_an_error() -> None:
    with pytest.raises(ValueError, match="EUR, USD"):
        account_report("DU1", rows(EUR=60, USD=44))


@pytest.mark.parametrize("value", ["", "NaN", "1.7976931348623157E308", "inf"])
def test_a_value_that_is_not_told_is_none(value: str) -> None:
    told = [SimpleNamespace(tag=tag, value=value, currency="USD") for tag in (*_TAGS, "DayTradesRemaining")]
    report = account_report("DU1", told)
    assert {report.equity, report.cash, report.buying_power, report.day_trade_count} == {None}
    assert report.currency == "USD"
