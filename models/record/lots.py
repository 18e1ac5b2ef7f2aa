"""Positions and profit out of executions: pure, one execution after the other, by both methods at once.

| an execution                      | first in, first out           | average                                    |
|-----------------------------------|-------------------------------|--------------------------------------------|
| of a flat position, or adds to it | opens a lot at its price      | its cost is added                          |
| takes from it                     | closes the oldest lots        | takes cost in proportion to the shares     |
| takes more than there is          | the rest opens on other side  | the rest begins an average of its own      |

Profit is realized when a lot is closed, before fees, on the day of the closing execution. A price that nobody has told
is NaN here, so whatever depends on it is unknown as well, and nothing else is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

_ZERO, UNKNOWN = Decimal(0), Decimal("NaN")
#: Money is kept to so many decimals.
_PLACES = 9


class BalanceKey(NamedTuple):
    """Whose lots: an account or a strategy that there is none of is an empty text."""

    #: ours or external.
    source: str
    broker: str
    account: str
    strategy: str
    symbol: str
    currency: str


class Execution(NamedTuple):
    """One execution, ours or somebody else's."""

    key: BalanceKey
    id: int
    #: Signed.
    shares: Decimal
    price: Decimal | None
    multiplier: Decimal
    #: Positive is a cost; None is not known.
    fee: Decimal | None
    fee_currency: str
    filled_at: datetime
    day: date
    #: At which the average takes it, where that is another price.
    average_price: Decimal | None = None


@dataclass(slots=True)
class Lot:
    """Shares that were opened together and are still open: negative when short, `price` NaN where nobody told it."""

    shares: Decimal
    price: Decimal
    filled_at: datetime
    #: Its number, where it is kept; and the shares it is kept with.
    no: int | None = None
    kept: Decimal = _ZERO


@dataclass(slots=True)
class OpenLots:
    """What is open under one key: lots, oldest first, and the cost by the average."""

    multiplier: Decimal = Decimal(1)
    quantity: Decimal = _ZERO
    cost_average: Decimal = _ZERO
    lots: deque[Lot] = field(default_factory=deque)
    last_at: datetime | None = None
    #: Number of the newest lot that is kept.
    last_no: int = 0
    #: The cost as it was kept, where the lots are not known.
    kept_cost: Decimal = _ZERO

    @property
    def cost(self) -> Decimal:
        """Money that the open lots cost, negative when short; NaN where a price is not known."""
        return sum((lot.shares * lot.price for lot in self.lots), _ZERO) * self.multiplier

    def take(self, execution: Execution) -> tuple[Decimal, Decimal]:
        """Apply an execution; returns the profit that it realizes by first in, first out and by the average."""
        price = UNKNOWN if execution.price is None else execution.price
        average = price if execution.average_price is None else execution.average_price
        self.multiplier, self.last_at = execution.multiplier, execution.filled_at
        return self._from_lots(execution.shares, price, execution.filled_at), self._averaged(execution.shares, average)

    def _from_lots(self, shares: Decimal, price: Decimal, at: datetime) -> Decimal:
        realized, rest = _ZERO, shares
        while rest and self.lots and (self.lots[0].shares > 0) != (rest > 0):
            lot = self.lots[0]
            closed = -rest if abs(rest) < abs(lot.shares) else lot.shares
            realized += closed * (price - lot.price)
            rest += closed
            lot.shares -= closed
            if not lot.shares:
                self.lots.popleft()
        if rest:
            self.lots.append(Lot(rest, price, at))
        return realized * self.multiplier

    def _averaged(self, shares: Decimal, price: Decimal) -> Decimal:
        """Must come after the lots: it moves the quantity."""
        before, self.quantity = self.quantity, self.quantity + shares
        worth = price * self.multiplier
        if not before or (before > 0) == (shares > 0):
            self.cost_average += shares * worth
            return _ZERO
        closed = -shares if abs(shares) < abs(before) else before
        share_of_cost = self.cost_average * closed / before
        self.cost_average = self.cost_average - share_of_cost if self.quantity else _ZERO
        if self.quantity and (self.quantity > 0) != (before > 0):
            self.cost_average = self.quantity * worth
        return closed * worth - share_of_cost


@dataclass(slots=True)
class DayBalance:
    """One day of one key: the position at its end, and what the day itself earned and cost.

    Its position is None where it is a fee in another currency and nothing else.
    """

    multiplier: Decimal
    quantity: Decimal | None = None
    cost: Decimal = _ZERO
    cost_average: Decimal = _ZERO
    realized: Decimal = _ZERO
    realized_average: Decimal = _ZERO
    fees: Decimal | None = None
    fees_missing: int = 0

    def pay(self, fee: Decimal | None) -> None:
        """Count a fee, or that it is not known."""
        if fee is None:
            self.fees_missing += 1
        else:
            self.fees = (self.fees or _ZERO) + fee


Days = dict[tuple[BalanceKey, date], DayBalance]


def reckon(executions: Iterable[Execution], holdings: dict[BalanceKey, OpenLots]) -> Days:
    """Apply executions, in any order, to what is held; changes `holdings`.

    Returns:
        Of every day on which something happened, what these executions made of it.
    """
    days: Days = {}
    ordered = sorted(executions, key=lambda one: (one.key, one.filled_at, one.id))
    for (key, day), group in groupby(ordered, key=lambda one: (one.key, one.day)):
        holding = holdings.setdefault(key, OpenLots())
        realized, realized_average = _ZERO, _ZERO
        for execution in group:
            first, average = holding.take(execution)
            realized, realized_average = realized + first, realized_average + average
            paid_in = key if execution.fee is None else key._replace(currency=execution.fee_currency)
            days.setdefault((paid_in, day), DayBalance(holding.multiplier)).pay(execution.fee)
        balance = days.setdefault((key, day), DayBalance(holding.multiplier))
        balance.quantity, balance.cost, balance.cost_average = holding.quantity, holding.cost, holding.cost_average
        balance.realized, balance.realized_average = realized, realized_average
        if balance.fees is None and not balance.fees_missing:  # all of it was paid in another currency
            balance.fees = _ZERO
    return days


def money(value: Decimal | None) -> Decimal | None:
    """Return an amount as it is kept and shown, without zeros at its end: None where it is not known."""
    if value is None or value.is_nan():
        return None
    return round(value, _PLACES).normalize() + _ZERO  # neither -0 nor an exponent above it
