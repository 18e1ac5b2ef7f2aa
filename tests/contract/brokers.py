"""Any adapter connected to its door, for tests that ask the same of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from models.messages import OrderRequest
from models.reports import Found, OrderReport, Report
from models.settings import BrokerSettings
from tests.contract.doors import UNPACED, SandboxThread, same_clock, sandbox, tda_table
from tests.kit.waiting import eventually
from worker.brokers.alpaca.adapter import AlpacaBroker
from worker.brokers.base import BrokerInterface, OrderRef, Ticket
from worker.brokers.ibkr.adapter import IbkrBroker
from worker.brokers.tda.adapter import SchwabBroker, TdaBroker
from worker.sandbox.alpaca.door import AlpacaDoor
from worker.sandbox.faults import Fault
from worker.sandbox.market.market import MarketOrder
from worker.sandbox.tda.door import TdaDoor
from worker.sandbox.tws.door import TwsDoor

SDKS = ("ib_insync", "ib_async")
#: Brokers that make a new order when one is replaced.
NEW_ORDER = ("alpaca", "tda", "schwab")
EVERY = (*SDKS, *NEW_ORDER)
DEADLINE_S = 4.0


class AdapterBench:
    """One adapter, its door and the market behind it."""

    def __init__(self, house: SandboxThread, kind: str, home: Path) -> None:
        self.house, self.kind, self.home = house, kind, home
        self.name = "ibkr" if kind in SDKS else kind
        self.in_place = self.name == "ibkr"
        self.door: Any = house.open(self._make_door)  # type: ignore[arg-type]
        self.reports: list[Report] = []
        self.broker = self.another()
        self.broker.updates(self.reports.append)

    def _make_door(self, market: Any) -> Any:
        if self.in_place:
            return TwsDoor(market)
        return AlpacaDoor(market) if self.kind == "alpaca" else TdaDoor(market, self.name, self.kind)  # type: ignore[arg-type]

    def another(self, **settings: Any) -> BrokerInterface:
        if self.in_place:
            table = {"port": self.door.port, "client_id": 1, "sdk": self.kind, "request_timeout": 1}
            return IbkrBroker("ibkr", BrokerSettings(adapter="ibkr", **(table | settings)))  # type: ignore[arg-type]
        if self.kind == "alpaca":
            table = {"base_url": self.door.url, "data_url": self.door.url, "key_id": "k", "secret_key": "s", **UNPACED}
            return AlpacaBroker("alpaca", BrokerSettings(adapter="alpaca", **(table | settings)))  # type: ignore[arg-type]
        table = tda_table(self.door.url, self.home, self.kind)
        adapter = SchwabBroker if self.kind == "schwab" else TdaBroker
        return same_clock(adapter(self.name, BrokerSettings(adapter=self.name, **(table | settings))))  # type: ignore[arg-type]

    # -- ORDERS ---
    def place(self, order: OrderRequest) -> OrderRef:
        """Place an order and wait until its broker would let it be replaced."""
        report = self.broker.place_order(a_ticket(order, order.client_order_id))
        self.working(order)
        return a_ref(order, order.client_order_id, report.broker_order_id)

    def working(self, order: OrderRequest) -> None:
        if self.kind == "alpaca":
            look = lambda: self.broker.find_order(a_ref(order, order.client_order_id)).report.raw_status  # noqa: E731
            eventually(lambda: look() not in ("pending_new", "accepted"))

    def ticket(
        self, ref: OrderRef, deadline_s: float = DEADLINE_S, still_mine: Callable[[], None] = int, **changes: Any
    ) -> Ticket:
        """Return the ticket of a replace, with the id that the worker would give it."""
        new_id = ref.broker_client_order_id + ("" if self.in_place else "~r")
        return a_ticket(changed(ref.order, **changes), new_id, deadline_s, still_mine)

    def replace(self, ref: OrderRef, **changes: Any) -> tuple[OrderRef, OrderReport]:
        """Replace, and return what refers to the order from then on."""
        ticket = self.ticket(ref, **changes)
        report = self.broker.replace_order(ref, ticket)
        return a_ref(ticket.order, ticket.broker_client_order_id, report.broker_order_id), report

    def found(self, ref: OrderRef) -> OrderReport | None:
        sighting = self.broker.find_order(ref)
        return sighting.report if isinstance(sighting, Found) else None

    # -- MARKET ---
    def orders(self) -> list[MarketOrder]:
        return self.house.call(lambda: self.house.market.orders(self.name))

    def live(self) -> list[MarketOrder]:
        return [order for order in self.orders() if order.is_live]

    def filled(self) -> Decimal:
        return sum((order.filled_quantity for order in self.orders()), Decimal(0))

    def fault(self, kind: str, operation: str | None = "replace", **options: Any) -> None:
        fault = Fault(self.name, kind, 1, operation=operation, options=options)
        self.house.call(lambda: self.house.market.faults.add(fault))


@contextmanager
def bench(kind: str, home: Path) -> Iterator[AdapterBench]:
    with sandbox() as house:
        found = AdapterBench(house, kind, home)
        found.broker.connect()
        yield found
        found.broker.disconnect()


def order(symbol: str = "AAPL", side: str = "buy", quantity: Any = 10, **terms: Any) -> OrderRequest:
    return OrderRequest(symbol=symbol, side=side, quantity=quantity, **terms)


def resting(**terms: Any) -> OrderRequest:
    return order(**{"order_type": "limit", "limit_price": "1.00", **terms})


def changed(old: OrderRequest, **changes: Any) -> OrderRequest:
    return OrderRequest(**{**old.model_dump(), **changes})


def a_ticket(
    wanted: OrderRequest, our_id: str, deadline_s: float = DEADLINE_S, still_mine: Callable[[], None] = int
) -> Ticket:
    return Ticket(order=wanted, broker_client_order_id=our_id, deadline_s=deadline_s, still_mine=still_mine)


def a_ref(wanted: OrderRequest, our_id: str, broker_order_id: str | None = None, **more: Any) -> OrderRef:
    fields: dict[str, Any] = {"sent_at": wanted.created_at, **more}
    return OrderRef(order=wanted, broker_client_order_id=our_id, broker_order_id=broker_order_id, **fields)
