"""What accounts are paid, charged or given: the adapters against the doors that list it, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import BrokerError, UnreadableReply
from models.reports import CashEventReport
from models.vocabulary import CashKind
from tests.contract.desks import AlpacaDesk, SchwabDesk, TdaDesk
from tests.contract.suite.desk import eventually, order
from worker.brokers.alpaca import activities
from worker.brokers.tda import transactions
from worker.sandbox.tda import payments

LONG_AGO = datetime.now(UTC) - timedelta(days=30)
DAY = timedelta(days=1)


@pytest.fixture(params=[AlpacaDesk, TdaDesk, SchwabDesk], ids=lambda kind: kind.name)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with closing(request.param(tmp_path)) as found:
        found.broker.connect()
        yield found


def pay(desk: Any, kind: str, amount: str = "0", *, age: timedelta = DAY, **facts: Any) -> None:
    at = (datetime.now(UTC) - age).isoformat()
    desk.house.call(lambda: desk.house.market.pay(desk.door_name, kind, amount=amount, paid_at=at, **facts))


def told(desk: Any, since: datetime = LONG_AGO) -> list[CashEventReport]:
    return list(desk.broker.get_cash_events(since))


def test_dividends_interest_fees_and_transfers_are_told_in_one_language(desk: Any) -> None:
    pay(desk, "dividend", "12.50", symbol="KO", quantity="10", age=5 * DAY)
    pay(desk, "interest", "0.42", age=4 * DAY)
    pay(desk, "fee", "-1.50", age=3 * DAY)
    pay(desk, "deposit", "1000", age=2 * DAY)
    pay(desk, "withdrawal", "-250.25")
    found = told(desk)
    assert [(event.kind, event.amount, event.currency) for event in found] == [
        (CashKind.DIVIDEND, Decimal("12.5"), "USD"), (CashKind.INTEREST, Decimal("0.42"), "USD"),
        (CashKind.FEE, Decimal("-1.5"), "USD"), (CashKind.TRANSFER, Decimal(1000), "USD"),
        (CashKind.TRANSFER, Decimal("-250.25"), "USD"),
    ]  # fmt: skip
    assert found[0].symbol == "KO"
    assert len({event.event_id for event in found}) == 5
    assert found == told(desk), "the same ids and words every time"


def test_a_split_says_what_the_position_has_gained(desk: Any) -> None:
    desk.house.hold(desk.door_name, "KO", 10)
    pay(desk, "split", symbol="KO", quantity="10")
    (event,) = told(desk)
    assert (event.kind, event.symbol, event.quantity) == (CashKind.SPLIT, "KO", Decimal(10))
    (held,) = desk.broker.get_positions()
    assert held.quantity == 20


def test_trades_are_none_of_these(desk: Any) -> None:
    desk.place(order())
    eventually(lambda: desk.orders()[-1].state == "filled")
    assert told(desk) == []


def test_only_what_came_since_is_asked_for(desk: Any) -> None:
    pay(desk, "interest", "1", age=20 * DAY)
    pay(desk, "interest", "2", age=DAY)
    assert [event.amount for event in told(desk, datetime.now(UTC) - 10 * DAY)] == [2]


@pytest.mark.parametrize("kind", [TdaDesk, SchwabDesk], ids=lambda kind: kind.name)
def test_a_listing_of_transactions_that_may_have_been_cut_is_read_again_in_halves(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (transactions, payments):
        monkeypatch.setattr(module, "MOST_ROWS", 6)
    with closing(kind(tmp_path)) as desk:
        desk.broker.connect()
        for number in range(20):
            pay(desk, "interest", str(number + 1), age=(20 - number) * DAY)
        found = told(desk)
        assert list(dict.fromkeys(event.amount for event in found)) == list(range(1, 21)), "oldest first, and all"
        for number in range(6):
            pay(desk, "interest", str(number + 30))
        with pytest.raises(UnreadableReply, match="more than 6 transactions"):
            told(desk)


def test_alpacas_pages_are_read_one_after_the_other_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activities, "PAGE", 3)
    with closing(AlpacaDesk(tmp_path)) as desk:
        desk.broker.connect()
        for number in range(7):
            pay(desk, "interest", str(number + 1), age=(10 - number) * DAY)
        pages = iter(desk.broker.get_cash_events(LONG_AGO))
        assert [next(pages).amount for _ in range(3)] == [1, 2, 3]
        desk.fault("status", count=None, status=404)
        with pytest.raises(BrokerError):
            next(pages)
        desk.house.clear()
        assert [event.amount for event in told(desk)] == [1, 2, 3, 4, 5, 6, 7]
