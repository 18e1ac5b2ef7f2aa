"""Accounts of the sandbox: cash, positions, commissions. One per door, or several; no wire protocol here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from worker.sandbox.market.listed import multiplier

CENT = Decimal("0.01")
STARTING_CASH = Decimal(1_000_000)
LEVERAGE = 4


def cents(value: Decimal) -> Decimal:
    """Round to whole cents, half up."""
    return value.quantize(CENT, ROUND_HALF_UP)


@dataclass(slots=True)
class Position:
    """Shares held (negative when short) and their average price."""

    quantity: Decimal
    avg_price: Decimal


@dataclass(slots=True)
class Account:
    """A picture of an account at one moment: what a door shows to its client."""

    cash: Decimal
    equity: Decimal
    buying_power: Decimal
    positions: dict[str, Position]
    realized: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Payment:
    """What an account was paid, charged or given besides its trades; each door has its own words for it."""

    number: int
    #: dividend, interest, fee, deposit, withdrawal, split, transfer (of shares), or another word of a test's.
    kind: str
    at: datetime
    amount: Decimal = Decimal(0)
    symbol: str | None = None
    #: Of a split or a transfer: what the position gains. Of a dividend: the shares that it is paid for.
    quantity: Decimal | None = None
    text: str = ""

    @property
    def moves(self) -> bool:
        """Whether the position changes by it."""
        return self.quantity is not None and self.kind in ("split", "transfer")


@dataclass(slots=True)
class Book:
    """The account as it is kept: fills change it."""

    cash: Decimal = STARTING_CASH
    positions: dict[str, Position] = field(default_factory=dict)
    realized: Decimal = Decimal(0)
    payments: list[Payment] = field(default_factory=list)

    def pay(self, payment: Payment) -> Payment:
        """Book what is no trade; a split leaves what the position has cost as it was."""
        self.cash += payment.amount
        self.payments.append(payment)
        if payment.moves and payment.symbol is not None and payment.quantity is not None:
            held = self.positions.pop(payment.symbol, Position(Decimal(0), Decimal(0)))
            if after := held.quantity + payment.quantity:
                mean = (held.quantity * held.avg_price / after).quantize(Decimal("0.0001"))
                self.positions[payment.symbol] = Position(after, mean)
        return payment

    def apply(self, symbol: str, signed: Decimal, price: Decimal, commission: Decimal) -> Decimal:
        """Book one fill and return the profit it realized.

        Args:
            symbol: what was traded.
            signed: shares, positive bought, negative sold.
            price: per share.
            commission: for this fill.
        """
        size = multiplier(symbol)
        self.cash -= signed * price * size + commission
        held = self.positions.get(symbol, Position(Decimal(0), Decimal(0)))
        closing = min(abs(signed), abs(held.quantity)) if held.quantity * signed < 0 else Decimal(0)
        gain = closing * (price - held.avg_price) * (1 if held.quantity > 0 else -1) * size
        after = held.quantity + signed
        if closing == 0:
            avg = (abs(held.quantity) * held.avg_price + abs(signed) * price) / abs(after)
        else:
            avg = price if after * held.quantity < 0 else held.avg_price
        self.positions[symbol] = Position(
            after, avg.quantize(Decimal("0.000001") if "/" in symbol else Decimal("0.0001"))
        )
        if after == 0:
            del self.positions[symbol]
        self.realized += gain
        return gain

    def picture(self, last: Callable[[str], Decimal], reserved: Decimal) -> Account:
        """Value the account at last prices.

        Args:
            last: last price by symbol.
            reserved: value of open buy orders, taken off the buying power.
        """
        values = {symbol: p.quantity * last(symbol) * multiplier(symbol) for symbol, p in self.positions.items()}
        equity = self.cash + sum(values.values(), Decimal(0))
        exposure = sum((abs(v) for v in values.values()), Decimal(0))
        power = max(Decimal(0), LEVERAGE * equity - exposure - reserved)
        positions = {symbol: Position(p.quantity, p.avg_price) for symbol, p in self.positions.items()}
        return Account(cents(self.cash), cents(equity), cents(power), positions, cents(self.realized))


class Books:
    """The accounts behind every door, as they are kept.

    Args:
        numbers: of a door with several accounts: theirs, first that of the account which is meant where none is named.
            A door that is not there has one account, whatever number its orders carry.
    """

    def __init__(self, numbers: Mapping[str, Sequence[str]] | None = None) -> None:
        self._numbers = {door: tuple(theirs) for door, theirs in (numbers or {}).items()}
        self._books: dict[tuple[str, str], Book] = {}

    def numbers(self, door: str) -> tuple[str, ...]:
        """Return the numbers of a door's accounts; none where it was opened with one, which needs no number here."""
        return self._numbers.get(door, ())

    def key(self, door: str, account: str = "") -> tuple[str, str]:
        """Return which account is meant: its door and number, without a number for the first one."""
        return door, account if account in self.numbers(door)[1:] else ""

    def of(self, door: str, account: str = "") -> Book:
        """Return an account; an empty number is the first one's."""
        return self._books.setdefault(self.key(door, account), Book())


def commission_due(door: str, cumulative: Decimal, paid: Decimal) -> Decimal:
    """Return the commission of the newest fill: IB asks 0.005 a share, at least 1 an order; the others nothing.

    Args:
        door: whose tariff.
        cumulative: shares of the order filled so far, the newest fill included.
        paid: commission of the earlier fills of the order.
    """
    if door != "ibkr":
        return Decimal(0)
    return max(cents(max(Decimal(1), Decimal("0.005") * cumulative)) - paid, Decimal(0))
