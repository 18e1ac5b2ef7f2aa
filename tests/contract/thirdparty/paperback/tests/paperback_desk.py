"""The desk at which corro's contract suite is run against paperback: nothing here is corro's but `Desk` itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from paperback import PaperbackBroker
from paperback_venue import PaperOrder, Venue, is_buy

from models.settings import BrokerSettings
from tests.contract.suite.desk import Desk, Seen, Trouble


class PaperbackDesk(Desk):
    name = "paperback"
    lost_changes = (Trouble("accept_drop", {"operation": "replace"}), Trouble("accept_hang", {"operation": "replace"}))
    repeats = ("echo",)
    unreadable = {
        "find": [Trouble("hang", {"operation": "list"})],
        "orders": [Trouble("hang", {"operation": "list"})],
        "fills": [Trouble("hang", {"operation": "fills"})],
        "positions": [Trouble("hang", {"operation": "positions"})],
        "quote": [Trouble("hang", {"operation": "quote"})],
        "bars": [Trouble("hang", {"operation": "bars"})],
    }

    def open(self) -> None:
        self.venue = Venue.known[str(self.home)] = Venue()

    def shut(self) -> None:
        del Venue.known[str(self.home)]

    def make(self, **settings: Any) -> PaperbackBroker:
        table = {"venue": str(self.home), "key": "k", "read_s": 0.5, **settings}
        return PaperbackBroker("paperback", BrokerSettings(adapter="paperback", **table))

    def leading_to(self, port: int) -> PaperbackBroker:
        return self.adapter(venue=f"port {port}")  # type: ignore[return-value]

    def refused_keys(self) -> PaperbackBroker:
        return self.adapter(key="wrong")  # type: ignore[return-value]

    def real_money(self) -> PaperbackBroker:
        return self.adapter(venue="wall-street")  # type: ignore[return-value]

    def throttled(self) -> PaperbackBroker:
        self.fault("rate_limit", None)
        return self.connected()  # type: ignore[return-value]

    def fault(self, kind: str, count: int | None = 1, **options: Any) -> None:
        self.venue.faults.append({"kind": kind, "count": count, **options})

    def clear(self) -> None:
        self.venue.faults.clear()

    def price(self, symbol: str, price: str) -> None:
        self.venue.prices[symbol] = Decimal(price)
        for paper in self.venue.papers:
            if paper.order.symbol == symbol:
                self.venue.look(paper)

    def hold(self, symbol: str, quantity: int) -> None:
        self.venue.positions[symbol] = Decimal(quantity)

    def release(self) -> None:
        for paper in self.venue.papers:
            paper.cap = None
            self.venue.look(paper)

    def cut(self) -> None:
        self.venue.cut()

    def down(self) -> None:
        self.venue.is_up = False
        self.venue.cut()

    def up(self) -> None:
        self.clear()
        self.venue.is_up = True

    def arrivals(self) -> int:
        return self.venue.arrived

    def orders(self) -> list[Seen]:
        return [_seen(paper) for paper in self.venue.papers]

    def cancel_outside(self, seen: Seen) -> None:
        self.venue.end(seen.handle, "canceled")


def _seen(paper: PaperOrder) -> Seen:
    return Seen(
        handle=paper,
        symbol=paper.order.symbol,
        side="buy" if is_buy(paper.order) else "sell",
        quantity=paper.quantity,
        filled=paper.filled,
        state=paper.state,
        order_type=paper.order.order_type,
        time_in_force=paper.order.time_in_force,
        limit_price=paper.limit,
        client_order_id=paper.name,
    )
