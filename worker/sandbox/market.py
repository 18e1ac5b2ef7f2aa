"""One simulated market behind all doors: matching, accounts and the ledger of every order that reached a door.

Runs on one asyncio loop; nothing here is thread-safe and nothing here knows a wire protocol. The doors translate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

State = Literal["new", "partially_filled", "filled", "canceled", "rejected", "expired", "replaced"]


@dataclass(slots=True)
class Execution:
    """One fill of a market order."""

    execution_id: str
    quantity: Decimal
    price: Decimal
    at: datetime
    cumulative: Decimal
    commission: Decimal


@dataclass(slots=True)
class MarketOrder:
    """One order as it stands in the market. `number` counts up over all doors; doors derive their own ids from it."""

    number: int
    door: str  # "ibkr", "alpaca", "tda", "schwab"
    account: str
    client_order_id: str | None  # what the client called it (orderRef, client_order_id); None at TDA
    symbol: str
    side: str  # buy | sell | sell_short | buy_to_cover
    quantity: Decimal
    order_type: str  # market | limit | stop | stop_limit | trailing_stop
    time_in_force: str  # day | gtc | ioc | fok | opg | cls
    received_at: datetime
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_amount: Decimal | None = None
    trail_percent: Decimal | None = None
    extended_hours: bool = False
    state: State = "new"
    reason: str | None = None
    executions: list[Execution] = field(default_factory=list)
    closed_at: datetime | None = None
    replaces: int | None = None
    extra: dict[str, object] = field(default_factory=dict)  # wire details a door must echo

    @property
    def filled_quantity(self) -> Decimal:
        """Shares filled so far."""
        return sum((e.quantity for e in self.executions), Decimal(0))


@dataclass(slots=True)
class Event:
    """What the market tells the doors: kind is accepted, fill, canceled, rejected, expired or replaced."""

    kind: str
    order: MarketOrder
    execution: Execution | None = None


Listener = Callable[[Event], None]
# Market API that the doors use (to be implemented here):
#   Market(seed: int = 7, fill_delay: float = 0.02, accounts: cash 100_000 per door; ledger_path: Path | None)
#   market.exists(symbol) -> bool                      any of ~40 real large caps and ETFs, BRK.B, and SIM000..SIM999
#   market.quote(symbol) -> Quote(bid, ask, last, bid_size, ask_size, last_size, volume, at)
#   market.bars(symbol, timeframe, start, end) -> list[Bar]   deterministic by seed; corro timeframes 1Min..1Month
#   market.place(MarketOrder-without-number fields as kwargs) -> MarketOrder
#        writes the ledger line first, then schedules accepted/fills on the loop; emits Events
#   market.cancel(order) -> bool ; market.replace(order, **changes) -> MarketOrder
#   market.subscribe(door, listener)
#   market.orders(door) -> list[MarketOrder]; market.find(door, number); market.account(door) -> Account(cash, equity,
#        buying_power, positions: dict[symbol, Position(quantity, avg_price)])
#   market.set_price(symbol, price)                    pins a price: tests drive limits and stops with it
#   market.set_position(door, symbol, quantity)
#   market.faults: Faults
