"""Orders, fills and events as the sandbox's market keeps them. No behaviour but what follows from the fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

State = Literal["new", "partially_filled", "filled", "canceled", "rejected", "expired", "replaced"]

_LIVE = ("new", "partially_filled")
#: Sides of which a fill adds to a position.
BUYS = frozenset({"buy", "buy_to_cover"})
#: What a replacement takes over from the order it replaces.
COPIED = (
    *("door", "account", "client_order_id", "symbol", "side", "quantity", "order_type", "time_in_force"),
    *("limit_price", "stop_price", "trail_amount", "trail_percent", "extended_hours"),
)


@dataclass(slots=True)
class Trade:
    """One fill of a market order."""

    execution_id: str
    quantity: Decimal
    price: Decimal
    at: datetime
    cumulative: Decimal
    commission: Decimal
    realized: Decimal = Decimal(0)  # profit of the shares this fill closed
    revision: int = 1  # one more each time that it is put right or taken back
    taken_back: Decimal = Decimal(0)  # how many, once it counts no more
    amended_at: datetime | None = None

    @property
    def listed_at(self) -> datetime:
        """When it happened; of one that was taken back, when that was."""
        return self.amended_at if self.taken_back and self.amended_at else self.at


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
    order_type: str  # market | limit | stop | stop_limit | trailing_stop | trail_limit | if_touched | limit_if_touched
    time_in_force: str  # day | gtc | ioc | fok | opg | cls
    received_at: datetime
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None  # of a trailing stop: where it stands now
    trail_amount: Decimal | None = None
    trail_percent: Decimal | None = None
    extended_hours: bool = False
    state: State = "new"
    reason: str | None = None
    executions: list[Trade] = field(default_factory=list)
    closed_at: datetime | None = None
    replaces: int | None = None
    replaced_by: int | None = None
    updated_at: datetime | None = None  # last change of any kind
    triggered: bool = False  # the stop was reached
    high_water: Decimal | None = None  # best price seen by a trailing stop
    held: bool = False  # kept from filling by a fault, until Market.release
    waits: bool = False  # for the order that it belongs to to be filled
    fill_cap: Decimal | None = None  # stop filling here: the fault `partial`
    legs: list[MarketOrder] = field(default_factory=list)  # of a package: what it trades
    extra: dict[str, object] = field(default_factory=dict)  # wire details a door must echo

    @property
    def filled_quantity(self) -> Decimal:
        """Shares filled so far."""
        return self.executions[-1].cumulative if self.executions else Decimal(0)

    @property
    def remaining_quantity(self) -> Decimal:
        """Shares not filled yet."""
        return self.quantity - self.filled_quantity

    @property
    def avg_fill_price(self) -> Decimal | None:
        """Average price over the fills, four decimals; None before the first."""
        if not self.filled_quantity:
            return None
        value = sum((e.quantity * e.price for e in self.executions), Decimal(0))
        return (value / self.filled_quantity).quantize(Decimal("0.000001") if "/" in self.symbol else Decimal("0.0001"))

    def take_back(self, execution: Trade) -> None:
        """Count an execution no more; it stays in the list, with nothing left."""
        quantity, execution.quantity = execution.quantity, Decimal(0)
        execution.taken_back = quantity
        for one in self.executions[self.executions.index(execution) :]:
            one.cumulative -= quantity

    @property
    def is_live(self) -> bool:
        """Tell whether the order can still be filled."""
        return self.state in _LIVE

    @property
    def is_buy(self) -> bool:
        """Tell buys and covers from sells and shorts."""
        return self.side in BUYS


@dataclass(slots=True)
class MarketEvent:
    """What the market tells the doors.

    `kind` is accepted, fill, canceled, rejected, expired, replaced, modified or triggered (a stop was reached and the
    order rests as a limit order).
    """

    kind: str
    order: MarketOrder
    execution: Trade | None = None


def names_of(order: MarketOrder) -> dict[str, object]:
    """Return what names an order in a line of the ledger."""
    return {"door": order.door, "number": order.number, "client_order_id": order.client_order_id}


Listener = Callable[[MarketEvent], None]
