"""A holding whose size cannot be read is no holding of zero: the whole reading fails."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast

import pytest

from models.errors import UnreadableReply
from worker.brokers import ibkr_data
from worker.brokers.ibkr_names import Names
from worker.brokers.tda_reports import position_reports


@pytest.mark.parametrize("sizes", [{}, {"longQuantity": None}, {"longQuantity": None, "shortQuantity": None}])
def test_tda(sizes: dict[str, Any]) -> None:
    rows = [{"instrument": {"symbol": "KO"}, "longQuantity": 5}, {"instrument": {"symbol": "PEP"}, **sizes}]
    with pytest.raises(ValueError, match="size"):
        position_reports({"securitiesAccount": {"accountId": "1", "positions": rows}}, "accountId")


def test_ibkr() -> None:
    session: Any = SimpleNamespace(
        options=SimpleNamespace(broker="ibkr"),
        ib=SimpleNamespace(wrapper=SimpleNamespace(portfolio=defaultdict(dict))),
        contracts=SimpleNamespace(names=Names()),
    )
    contract = SimpleNamespace(
        conId=1, symbol="KO", secType="STK", currency="USD", exchange="NYSE", primaryExchange="", localSymbol="KO"
    )
    with pytest.raises(UnreadableReply, match="KO"):
        ibkr_data._position(cast(Any, session), "DU1", contract, math.nan, 1.0)
    assert ibkr_data._position(cast(Any, session), "DU1", contract, -5.0, 1.0).quantity == -5
