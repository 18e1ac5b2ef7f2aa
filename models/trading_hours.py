"""When an instrument trades, and by which steps its prices go: as its broker tells both. Frozen values, pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

Session = Literal["regular", "extended", "closed"]
#: Begin and end of a session, UTC; the end is outside of it.
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingHours:
    """The sessions of the days around, as a broker tells them; of other days it says nothing.

    Args:
        since, until: of what is told, UTC.
        regular: the sessions in which it trades as a rule.
        every: all sessions, those before and after the regular ones included.
    """

    since: datetime
    until: datetime
    regular: tuple[Span, ...] = ()
    every: tuple[Span, ...] = ()

    def session_at(self, moment: datetime) -> Session | None:
        """Return the session at a moment; None of one that nothing is told of."""
        if not self.since <= moment < self.until:
            return None
        if any(begin <= moment < end for begin, end in self.regular):
            return "regular"
        return "extended" if any(begin <= moment < end for begin, end in self.every) else "closed"

    def opens_after(self, moment: datetime) -> datetime | None:
        """Return when the next regular session begins; None where that is not told."""
        return min((begin for begin, _ in self.regular if begin > moment), default=None)


@dataclass(frozen=True, slots=True)
class PriceBand:
    """Prices from one on, up to the next band's, and the step they go in."""

    low: Decimal
    step: Decimal


def step_of(bands: tuple[PriceBand, ...], price: Decimal) -> Decimal | None:
    """Return the step that holds for a price; None where no band has it."""
    fitting = [band for band in bands if band.low <= abs(price)]
    return max(fitting, key=lambda band: band.low).step if fitting else None
