"""A holding whose size cannot be read is no holding of zero: it is unknown, and only it."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker.brokers.ibkr import account as ibkr_account
from worker.brokers.ibkr.accounts import TradedAccounts
from worker.brokers.ibkr.names import Names
from worker.brokers.oddities import Oddities
from worker.brokers.tda.account import position_reports

_NO_SIZES = (
    {},
    {"longQuantity": None},
    {"longQuantity": None, "shortQuantity": None},
    {"longQuantity": "NaN", "shortQuantity": 0},
    {"longQuantity": -1, "shortQuantity": 0},
)


@pytest.mark.parametrize("sizes", _NO_SIZES)
def test_tda(sizes: dict[str, Any]) -> None:
    rows = [
        {"instrument": {"assetType": "EQUITY", "symbol": "KO"}, "longQuantity": 5},
        {"instrument": {"assetType": "EQUITY", "symbol": "PEP"}, **sizes},
    ]
    account = {"securitiesAccount": {"accountId": "1", "positions": rows}}
    found = position_reports(account, "accountId", Oddities("tda"))
    assert [(held.symbol, held.quantity) for held in found] == [("KO", 5), ("PEP", None)]


def test_ibkr() -> None:
    session: Any = SimpleNamespace(
        options=SimpleNamespace(broker="ibkr"),
        accounts=TradedAccounts("DU1"),
        ib=SimpleNamespace(wrapper=SimpleNamespace(portfolio=defaultdict(dict))),
        contracts=SimpleNamespace(names=Names()),
    )
    contract = SimpleNamespace(
        conId=1, symbol="KO", secType="STK", currency="USD", exchange="NYSE", primaryExchange="", localSymbol="KO"
    )
    for nothing in (math.nan, math.inf, 1.7976931348623157e308):
        assert ibkr_account._position(cast(Any, session), "DU1", contract, nothing, 1.0).quantity is None
    assert ibkr_account._position(cast(Any, session), "DU1", contract, -5.0, 1.0).quantity == -5
