"""What may be concluded about an order that its broker refused after accepting it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from models.reports import BrokerStatus, OrderReport
from worker.absence import after_refusal

DEAD = (BrokerStatus.REJECTED, BrokerStatus.CANCELED, BrokerStatus.EXPIRED)
GONE = (BrokerStatus.FILLED, BrokerStatus.REPLACED)


@pytest.mark.parametrize("status", BrokerStatus)
def test_only_what_is_dead_and_never_traded_is_refused(status: BrokerStatus) -> None:
    expected = "refused" if status in DEAD else "adopt" if status in GONE else "wait"
    assert after_refusal(OrderReport(broker_order_id="7", status=status, filled_quantity=Decimal(0))) == expected
    assert after_refusal(OrderReport(broker_order_id="7", status=status)) == expected
    assert after_refusal(OrderReport(broker_order_id="7", status=status, filled_quantity=Decimal(1))) == "adopt"
