"""What the decision about an order is made from: the order, what is used in each scope, what its symbol is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from models.legs import PackageLeg
from models.risk.names import Limit, scopes_of
from models.sizes import units_for
from models.vocabulary import Side

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intended:
    """An order, or a replace, that somebody wants to send.

    Args:
        client_order_id: of the order.
        quantity: units of the whole order; None: an order of money, so many as `notional` buys.
        adds: units beyond those that count already: all of them, or what a replace adds; None with the quantity.
        notional: money that is to be spent.
        counted: value that counts already, of the order that is replaced.
        multiplier: money per unit and unit of price: 1 for shares; None where nobody has told it.
        currency: of its prices; None where only its listing tells.
        reduces: it only makes a position smaller.
        opens_short: it sells more than is held.
        is_new: it is no replace.
        waited_for: code of what it has waited for already: its turn (`rate`), its hours (`session`).
        approved: somebody has approved it.
        rests: it may trade with another order as soon as it is there: a market or a limit order.
        legs: of a package, whose quantity counts packages and whose price is a net one.
        asset_class: None in rows from before there were classes.
    """

    symbol: str
    side: Side
    quantity: Decimal | None
    adds: Decimal | None
    created_at: datetime
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    strategy: str | None = None
    broker: str | None = None
    account: str | None = None
    key: str | None = None
    notional: Decimal | None = None
    counted: Decimal = _ZERO
    multiplier: Decimal | None = Decimal(1)
    currency: str | None = "USD"
    reduces: bool = False
    opens_short: bool = False
    is_new: bool = True
    waited_for: str | None = None
    approved: bool = False
    client_order_id: str = ""
    rests: bool = True
    legs: tuple[PackageLeg, ...] = ()
    asset_class: str | None = None

    @property
    def by_leg(self) -> list[Intended]:
        """What each leg of a package would do as an order of its own."""
        return [
            replace(
                self,
                symbol=leg.symbol,
                side=leg.side,
                quantity=(self.quantity or _ZERO) * leg.ratio,
                adds=(self.adds or _ZERO) * leg.ratio,
                legs=(),
            )
            for leg in self.legs
        ]

    def units(self, worth: Decimal | None) -> Decimal | None:
        """Return its units, at money per unit where they follow from that; None: nobody knows."""
        return self.quantity if self.notional is None else units_for(self.notional, worth) if worth else None

    def added(self, worth: Decimal | None) -> Decimal | None:
        """Return the units that it adds, likewise."""
        return self.adds if self.notional is None else self.units(worth)

    def value(self, worth: Decimal | None) -> Decimal | None:
        """Return what it is worth as a whole, at money per unit; None: nobody knows."""
        if self.notional is not None:
            return self.notional
        return None if worth is None or self.quantity is None else worth * self.quantity

    @property
    def scopes(self) -> dict[str, str]:
        """The scopes that it is in, by their kinds."""
        return scopes_of(
            broker=self.broker, account=self.account, strategy=self.strategy, symbol=self.symbol, key=self.key
        )


@dataclass(frozen=True, slots=True)
class ReferencePrice:
    """What a symbol was worth a moment ago, per unit."""

    price: Decimal
    at: datetime
    source: str
    currency: str = "USD"


@dataclass(slots=True)
class Used:
    """What counts against the limits of one scope, this order not included."""

    sent_value: Decimal = _ZERO
    open_orders: int = 0
    #: Value of what is open.
    open_buy: Decimal = _ZERO
    open_sell: Decimal = _ZERO
    #: Gain of the day less fees.
    realized: Decimal = _ZERO
    #: Units of the order's symbol: held (short: negative), left to buy, left to sell.
    held: Decimal = _ZERO
    buying: Decimal = _ZERO
    selling: Decimal = _ZERO
    #: How many orders, and messages, of the last minute went out, beside those whose times are here.
    orders_gone: int = 0
    messages_gone: int = 0
    #: When each order, and each message, of the last minute went out, oldest first.
    orders_at: list[datetime] = field(default_factory=list)
    messages_at: list[datetime] = field(default_factory=list)
    #: When orders alike went out lately.
    repeats_at: list[datetime] = field(default_factory=list)
    #: The open order of ours that this one would meet, by its client_order_id.
    meets: str | None = None

    def gone(self, *, orders_alone: bool) -> tuple[list[datetime], int]:
        """Return when orders, or messages, of the last minute went out, and how many more did of which it is open."""
        return (self.orders_at, self.orders_gone) if orders_alone else (self.messages_at, self.messages_gone)

    @property
    def open_value(self) -> Decimal:
        """Value of what is open, both sides."""
        return self.open_buy + self.open_sell


@dataclass(slots=True)
class Usage:
    """What counts against limits, by the kind and name of their scopes."""

    scopes: Mapping[tuple[str, str], Used] = field(default_factory=dict)

    def of(self, limit: Limit) -> Used:
        """Return what is used in the scope of a limit."""
        return self.scopes.get((limit.scope_kind, limit.scope)) or Used()
