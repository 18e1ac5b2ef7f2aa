"""A desk whose broker links every kind of group, and keeps what it is sent: what tests of linked orders need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select

from models.groups import LEGS, GroupKind
from models.messages import OrderRequest
from models.record.database import Database
from models.record.tables import order_groups, orders, risk_limits
from models.reports import BrokerStatus, OrderReport
from models.settings import BrokerSettings, Settings
from tests.open_desk import open_desk
from worker.brokers.base import Ticket
from worker.brokers.fake import FakeBroker
from worker.orders.desk import BrokerDesk
from worker.runtime.clock import utcnow


class LinkingBroker(FakeBroker):
    """A broker that links every kind; what it is sent is kept, and answered with an order for each leg."""

    capabilities = replace(FakeBroker.capabilities, groups=frozenset(GroupKind))

    def __init__(self) -> None:
        super().__init__("one")
        self.sent: list[Ticket] = []
        self.connect()

    def place_order(self, ticket: Ticket) -> OrderReport:
        ticket.still_mine()
        self.sent.append(ticket)
        legs = tuple(shown(leg.order, leg.broker_client_order_id) for leg in ticket.legs)
        return replace(shown(ticket.order, ticket.broker_client_order_id), legs=legs)


def shown(
    order: OrderRequest, our_id: str, status: BrokerStatus = BrokerStatus.ACCEPTED, filled: int = 0
) -> OrderReport:
    """Return how a broker shows an order of ours."""
    terms = {name: getattr(order, name) for name in ("symbol", "side", "quantity", "order_type", "limit_price")}
    ids = {"broker_order_id": f"b-{our_id}", "broker_client_order_id": our_id, "stop_price": order.stop_price}
    return OrderReport(**terms, **ids, status=status, filled_quantity=Decimal(filled))


class LinkedDesk:
    """One broker, `one`, that links orders.

    Args:
        database: with the schema.
        settings: over those of one fake broker.
    """

    def __init__(self, database: Database, **settings: Any) -> None:
        self.database, self.broker = database, LinkingBroker()
        given: dict[str, Any] = {"brokers": {"one": BrokerSettings(adapter="fake")}} | settings
        self.desk: BrokerDesk = open_desk(Settings.model_construct(**given), database, self.broker)
        self.desk.pulse.beat()

    def close(self) -> None:
        """Let its threads end."""
        self.desk.close()

    def limit(self, name: str, value: str, kind: str = "*", scope: str = "*") -> None:
        """Set a limit, as a person's command does."""
        row = {"scope_kind": kind, "scope": scope, "name": name, "value": value, "set_by": "ana", "reason": "test"}
        with self.database.write() as connection:
            connection.execute(insert(risk_limits).values(**row, set_at=utcnow()))

    def submit(self, *bodies: dict[str, Any]) -> None:
        """Take a bare message: no producer has looked at these orders."""
        self.desk.place.submit(list(bodies))

    def sent(self) -> list[str]:
        """Return the ids of what left as the first of a group, or on its own."""
        return [ticket.order.client_order_id for ticket in self.broker.sent]

    def row(self, client_order_id: str) -> Any:
        """Return an order's row."""
        with self.database.read() as connection:
            return connection.execute(select(orders).where(orders.c.client_order_id == client_order_id)).one()

    def group(self, group_id: str) -> Any:
        """Return the row of a group."""
        with self.database.read() as connection:
            return connection.execute(select(order_groups).where(order_groups.c.group_id == group_id)).one()


def legs_of(kind: str, id_: str, changes: Sequence[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """Return a group as a bare message has it: each leg buys 10 AAPL, but for what its change says."""
    return [
        {"symbol": "AAPL", "side": "buy", "quantity": "10", "client_order_id": f"{id_}.{leg}", "strategy": "dip"}
        | {"group": {"id": id_, "kind": kind, "leg": leg}} | more | change
        for leg, change in zip(LEGS[GroupKind(kind)], changes, strict=True)
    ]  # fmt: skip


def entry(**more: Any) -> OrderRequest:
    """Return an order that buys 10 AAPL, but for what is said."""
    return OrderRequest(**{"symbol": "AAPL", "side": "buy", "quantity": 10, "client_order_id": "e"} | more)


def legs_of_message(kind: str = "bracket", id_: str = "g", **more: Any) -> list[dict[str, Any]]:
    """Return the legs of a group as a bare message has them; a bracket with its exits."""
    made = [
        {"symbol": "AAPL", "side": "buy", "quantity": "10", "client_order_id": f"{id_}.{leg}"}
        | {"group": {"id": id_, "kind": kind, "leg": leg}} | more
        for leg in LEGS[GroupKind(kind)]
    ]  # fmt: skip
    if kind == "bracket":
        made[1] |= {"side": "sell", "order_type": "limit", "limit_price": "110"}
        made[2] |= {"side": "sell", "order_type": "stop", "stop_price": "95"}
    return made
