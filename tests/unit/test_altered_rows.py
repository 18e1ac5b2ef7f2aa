"""A row that somebody has changed by hand: one clear line, nothing booked by halves, and it goes on once put right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import update
from structlog.testing import capture_logs

from models.history import History
from models.messages import OrderRequest
from models.record.evidence import unresolved
from models.record.tables import orders
from tests.kit import eventually
from worker.brokers.base import FillReport
from worker.brokers.fake import FakeBroker
from worker.rehearsal import rehearsal

_O_1 = orders.c.client_order_id == "o-1"


class CountedBroker(FakeBroker):
    """Counts how often its executions are read."""

    readings = 0

    def get_fills(self, since: datetime) -> Sequence[FillReport]:
        self.readings += 1
        return super().get_fills(since)


def test_an_order_whose_row_forgot_its_attempt_is_told_of_once_and_goes_on_when_put_right(tmp_path: Path) -> None:
    broker = CountedBroker("alpaca")
    with capture_logs() as lines, rehearsal(tmp_path, broker, timing={"open_orders_every": 0.1}) as client:
        for name in ("o-1", "o-2"):
            terms = {"order_type": "limit", "limit_price": "1", "client_order_id": name}
            order = client.submit(OrderRequest(symbol="KO", side="buy", quantity=1, **terms))
            order.wait(timeout=20, until=lambda order: order.status == "accepted")

        def write(attempt_no: int) -> None:
            with client.database.write() as connection:
                connection.execute(update(orders).values(attempt_no=attempt_no).where(_O_1))

        write(0)

        def told() -> list[object]:
            return [line["attempt_no"] for line in lines if line["event"] == "row_altered"]

        def asked_about() -> list[object]:
            return [row["latest"] for row in unresolved(client.database, 60.0) if row["client_order_id"] == "o-1"]

        eventually(told)
        assert "names attempt 0" in str(asked_about())
        before = broker.readings
        eventually(lambda: broker.readings > before + 3)
        broker.account.price("KO", "0.5")
        eventually(lambda: client.order("o-2").status == "filled")
        assert client.order("o-1").row["filled_quantity"] == 0
        client.order("o-1").cancel()

        def why_not_canceled() -> list[str]:
            events = History(client.database).the_order("o-1")["events"]
            return [event["detail"] for event in events if event["kind"] == "cancel_not_sent"]

        eventually(why_not_canceled)
        assert "names attempt 0" in why_not_canceled()[0]
        write(1)
        eventually(lambda: client.order("o-1").status == "filled")
        assert asked_about() == []
    assert set(told()) == {0}
    assert len(told()) == 2  # by who reads the broker, and by who cancels
    assert [line for line in lines if line["event"] in ("report_not_applied", "reading_failed")] == []
