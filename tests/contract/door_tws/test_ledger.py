"""What the TWS door has written down of an order is that order again after a restart."""

from __future__ import annotations

import json
from dataclasses import asdict
from decimal import Decimal

from worker.sandbox.market.ledger import plain_json
from worker.sandbox.tws.wire import Contract, PlaceOrder, request_of


def test_a_request_comes_out_of_the_ledger_as_it_went_in() -> None:
    contract = Contract(
        con_id=1, symbol="KO", sec_type="BAG", exchange="SMART", primary_exchange="", currency="USD",
        local_symbol="", trading_class="", ends="", strike="0.0", right="",
    )  # fmt: skip
    request = PlaceOrder(
        order_id=5, contract=contract, action="BUY", quantity=Decimal(2), order_type="LMT",
        limit_price=Decimal("0.12"), aux_price=None, tif="DAY", oca_group="", account="", order_ref="a",
        transmit=True, parent_id=0, outside_rth=False, algo="Adaptive", algo_params=[["adaptivePriority", "Normal"]],
        legs=[{"con_id": 7, "ratio": 1, "action": "BUY", "exchange": "SMART"}],
    )  # fmt: skip
    assert request_of(json.loads(json.dumps(plain_json(asdict(request))))) == request
