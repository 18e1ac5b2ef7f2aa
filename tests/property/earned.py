"""What a history of executions earned, held, paid and slipped, reckoned from the definition alone and in fractions.

Written without a look at corro's own reckoning. First in, first out is told share by share: the n-th share that was
ever bought belongs to the n-th that was ever sold, whichever of both came first; whatever has no partner is open. The
average is the mean price of what is open, and begins anew where a position passes through zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from typing import NamedTuple

ZERO = Fraction(0)


class Whose(NamedTuple):
    """What lots are kept by."""

    source: str
    broker: str
    account: str | None
    strategy: str | None
    symbol: str
    currency: str


@dataclass
class DefinedTrade:
    """One execution that stands. Positive shares are bought; a price or a fee that nobody has told is None."""

    whose: Whose
    number: int
    at: datetime
    day: date
    shares: Fraction
    price: Fraction | None
    multiplier: Fraction
    fee: Fraction | None
    fee_currency: str


@dataclass
class Day:
    """What one day earned and paid; None is not known."""

    realized: Fraction | None = ZERO
    average: Fraction | None = ZERO
    fees: Fraction | None = None
    fees_missing: int = 0

    def __add__(self, other: Day) -> Day:
        fees = [one for one in (self.fees, other.fees) if one is not None]
        return Day(
            plus(self.realized, other.realized), plus(self.average, other.average),
            sum(fees, ZERO) if fees else None, self.fees_missing + other.fees_missing,
        )  # fmt: skip


@dataclass
class Earned:
    """What came of a history."""

    #: Per lots and day; a fee in another currency is in a line of its own currency.
    days: dict[tuple[Whose, date], Day] = field(default_factory=lambda: defaultdict(Day))
    #: Per lots: shares, their cost first in first out, and by the average. Nothing is open where a line is missing.
    held: dict[Whose, tuple[Fraction, Fraction | None, Fraction | None]] = field(default_factory=dict)
    #: Per lots and day: shares at its end.
    ends: dict[tuple[Whose, date], Fraction] = field(default_factory=dict)


def plus(a: Fraction | None, b: Fraction | None) -> Fraction | None:
    return None if a is None or b is None else a + b


def earned(executions: Iterable[DefinedTrade]) -> Earned:
    """Reckon a history."""
    found, lines = Earned(), defaultdict(list)
    for one in executions:
        if one.shares:
            lines[one.whose].append(one)
    for whose, line in lines.items():
        line.sort(key=lambda one: (one.at, one.number))
        for one in line:
            found.ends[whose, one.day] = sum((e.shares for e in line if e.day <= one.day), ZERO)
            _pay(found, whose, one)
        cost = _first_in_first_out(found, whose, line)
        average = _average(found, whose, line)
        if quantity := sum((one.shares for one in line), ZERO):
            found.held[whose] = quantity, cost, average
    return found


def _pay(found: Earned, whose: Whose, one: DefinedTrade) -> None:
    own = found.days[whose, one.day]
    if one.fee is None:
        own.fees_missing += 1
        return
    own.fees = own.fees or ZERO  # what it cost is known, be it in another currency
    paid = found.days[whose._replace(currency=one.fee_currency), one.day]
    paid.fees = (paid.fees or ZERO) + one.fee


def _stretches(line: list[DefinedTrade], side: int) -> Iterator[tuple[Fraction, Fraction, DefinedTrade]]:
    """Lay the shares of one side end to end: from which to which each execution reaches."""
    reached = ZERO
    for one in line:
        if one.shares * side > 0:
            yield reached, reached + abs(one.shares), one
            reached += abs(one.shares)


def _first_in_first_out(found: Earned, whose: Whose, line: list[DefinedTrade]) -> Fraction | None:
    bought, sold = list(_stretches(line, 1)), list(_stretches(line, -1))
    for from_, to, buy in bought:
        for begins, ends, sale in sold:
            shared = min(to, ends) - max(from_, begins)
            if shared > 0:
                later = max(buy, sale, key=line.index)
                day = found.days[whose, later.day]
                gain = None if buy.price is None or sale.price is None else (sale.price - buy.price) * shared
                day.realized = plus(day.realized, gain if gain is None else gain * later.multiplier)
    matched = min(sum((to - from_ for from_, to, _ in side), ZERO) for side in (bought, sold))
    cost: Fraction | None = ZERO
    for side, stretches in ((1, bought), (-1, sold)):
        for from_, to, one in stretches:
            if (left := to - max(from_, matched)) > 0:
                cost = plus(cost, None if one.price is None else side * left * one.price * one.multiplier)
    return cost


def _average(found: Earned, whose: Whose, line: list[DefinedTrade]) -> Fraction | None:
    open_, mean = ZERO, None  # mean: of what is open, None while it is not known
    for one in line:
        side = 1 if one.shares > 0 else -1
        closed = min(abs(open_), abs(one.shares)) if open_ * side < 0 else ZERO
        if closed:
            gain = None if mean is None or one.price is None else (one.price - mean) * closed * -side
            day = found.days[whose, one.day]
            day.average = plus(day.average, gain if gain is None else gain * one.multiplier)
            open_ += side * closed
        if opened := abs(one.shares) - closed:
            known = one.price is not None and (not open_ or mean is not None)
            mean = (abs(open_) * (mean or 0) + opened * (one.price or 0)) / (abs(open_) + opened) if known else None
            open_ += side * opened
    return None if open_ and mean is None else open_ * (mean or 0) * line[-1].multiplier


def slipped(one: DefinedTrade, against: Fraction | None) -> tuple[Fraction | None, Fraction | None]:
    """Return what an execution cost against a price, in money and in basis points of that price: positive is worse."""
    if against is None or one.price is None:
        return None, None
    worse = (one.price - against) * (1 if one.shares > 0 else -1)
    return worse * abs(one.shares) * one.multiplier, worse / abs(against) * 10000 if against else None
