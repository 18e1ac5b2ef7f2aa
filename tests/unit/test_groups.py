"""Linked orders go as one: recorded, claimed, refused, passed on and ended together, and never without their link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import IdempotencyConflict, InvalidOrder
from models.messages import OrderRequest
from models.vocabulary import Status
from producers.client import OrderClient
from worker.brokers.fake import FakeBroker
from worker.rehearsal import rehearsal


@pytest.fixture
def client(tmp_path: Path) -> Iterator[OrderClient]:
    """Two brokers that link no orders."""
    with rehearsal(tmp_path, FakeBroker("one"), FakeBroker("two")) as client:
        yield client


def entry(**more: object) -> OrderRequest:
    return OrderRequest(**{"symbol": "AAPL", "side": "buy", "quantity": 10, "client_order_id": "e"} | more)


def test_a_group_that_no_broker_links_is_denied_whole_with_the_rule_in_the_words(client: OrderClient) -> None:
    group = client.submit_bracket(entry(), take_profit="110", stop_loss=("95", "94.5"))
    assert {name: order.client_order_id for name, order in group.legs.items()} == {
        "entry": "e", "take_profit": "e.tp", "stop_loss": "e.sl",
    }  # fmt: skip
    group = group.wait(10)
    assert [str(order.status) for order in group.legs.values()] == ["denied"] * 3
    assert group.status == "closed"
    assert "links no orders as bracket" in str(group.legs["entry"].reason)
    assert "links no orders as bracket" in str(group.legs["stop_loss"].reason)
    assert {order.row["reason_code"] for order in group.legs.values()} == {"unsupported"}
    assert {order.broker for order in group.legs.values()} == {"two"}
