"""A replacement that came out too large is canceled by corro, and what is told of the order says so and why."""

from __future__ import annotations

from decimal import Decimal

from models.messages import OrderRequest, utcnow
from models.reports import BrokerStatus, OrderReport
from worker.brokers.base import OrderRef, Ticket
from worker.brokers.rest.http import Exchange
from worker.brokers.rest.replacing import NewOrderInstead

D = Decimal


def shown(id_: str, status: BrokerStatus = BrokerStatus.ACCEPTED, filled: int = 0) -> OrderReport:
    return OrderReport(broker_order_id=id_, status=status, quantity=D(10), filled_quantity=D(filled))


class FillsOn(NewOrderInstead[str]):
    """The old order fills `late` more shares while it is replaced."""

    def __init__(self, late: int) -> None:
        super().__init__("schwab")
        self.late, self.canceled = late, list[str | None]()

    def look(self, ref: OrderRef) -> OrderReport:
        return shown("old")

    def send(self, old: OrderReport, left: Decimal, ticket: Ticket) -> str:
        return "new"

    def follow(self, sent: str, old: OrderReport, ticket: Ticket, whole: Exchange) -> tuple[OrderReport, Decimal]:
        return shown(sent), D(self.late)

    def cancel(self, new: OrderReport) -> OrderReport:
        self.canceled.append(new.broker_order_id)
        return shown("new", BrokerStatus.CANCELED)


def replaced(broker: FillsOn) -> OrderReport:
    order = OrderRequest(symbol="KO", side="buy", quantity=10, order_type="limit", limit_price=50)
    ref = OrderRef(order=order, broker_client_order_id="o-1", broker_order_id="old", sent_at=utcnow())
    new = order.model_copy(update={"quantity": D(12)})
    return broker.replace(ref, Ticket(order=new, broker_client_order_id="o-1~2", deadline_s=5, still_mine=lambda: None))


def test_the_surplus_that_corro_cancels_is_told_with_who_canceled_it_and_why() -> None:
    broker = FillsOn(late=4)
    report = replaced(broker)
    assert broker.canceled == ["new"]
    assert report.status is BrokerStatus.CANCELED
    assert report.message == (
        "canceled by corro: the order that it replaced filled 4 more meanwhile, so it was too large"
    )


def test_a_replacement_of_the_right_size_is_left_alone() -> None:
    broker = FillsOn(late=0)
    assert replaced(broker).status is BrokerStatus.ACCEPTED
    assert broker.canceled == []
