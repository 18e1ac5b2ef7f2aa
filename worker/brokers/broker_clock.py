"""A broker's clock, from the Date of its answers: when a send began, by the clock that stamps its orders.

An answer was written between the moment it was asked for and the moment it came, and its Date is that moment in whole
seconds: each answer keeps the difference of the two clocks within a second, and all of them together within about the
time that an answer takes. (RFC 9110, 6.6.1: Date is when the message was made, in whole seconds.)
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum

_SECOND = timedelta(seconds=1)
#: What older answers say may be about a clock that has drifted since; those of one second are kept as one.
_KEPT_FOR = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Span:
    """Between which times of the broker's clock a moment of ours lies."""

    earliest: datetime
    latest: datetime


class Age(Enum):
    """When an order was entered, seen from a send."""

    BEFORE = "before"
    OPEN = "cannot be told"
    SINCE = "at or after"


def age(entered: datetime | None, sent: Span, sent_at: datetime) -> Age:
    """Tell whether an order was entered before a send, to the second (docs/facts/schwab.md#2.18).

    Args:
        entered: by the broker's clock, which may show whole seconds only; None: not shown.
        sent: when the send began, by the broker's clock; by ours if the broker has none.
        sent_at: when the send began, by our clock.
    """
    if entered is None:
        return Age.OPEN
    # A clock that is known to the second may leave two seconds open all the same: our order may show the first.
    first = sent.earliest if sent.latest - sent.earliest < _SECOND else sent.latest
    if entered >= first.replace(microsecond=0):
        return Age.SINCE
    # An order that is late by our clock alone is not before it: our clock may have been set since the send.
    is_before = entered < min(sent.earliest, sent_at).replace(microsecond=0)
    return Age.BEFORE if is_before else Age.OPEN


class BrokerClock:
    """How far a broker's clock is from ours, as narrowly as its answers tell; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: (when an answer came, least and most that the broker's clock was ahead of ours then).
        self._told: deque[tuple[datetime, timedelta, timedelta]] = deque(maxlen=int(_KEPT_FOR / _SECOND))

    def hear(self, date: str | None, asked_at: datetime, answered_at: datetime) -> None:
        """Note the Date of an answer; one that cannot be read says nothing.

        Args:
            date: the header's text; None if there was none.
            asked_at: not later than the request left, by our clock.
            answered_at: not earlier than the answer came.
        """
        told = _moment(date)
        if told is None or answered_at < asked_at:  # our own clock was set meanwhile
            return
        least, most = told - answered_at, told + _SECOND - asked_at
        with self._lock:
            if self._told:
                came_at, low, high = self._told[-1]
                both = max(least, low), min(most, high)
                if timedelta(0) <= answered_at - came_at < _SECOND and both[0] <= both[1]:
                    self._told[-1] = (came_at, *both)
                    return
            self._told.append((answered_at, least, most))

    def read(self, at: datetime) -> Span | None:
        """Return between which times of the broker's clock a moment of ours lies; None where no answer has told."""
        with self._lock:
            told = list(self._told)
        if not told:
            return None
        newest, least, most = told[-1]
        for came_at, low, high in reversed(told):
            # Where two answers contradict each other a clock was set between them: the newer ones count.
            if newest - came_at > _KEPT_FOR or max(least, low) > min(most, high):
                break
            least, most = max(least, low), min(most, high)
        return Span(at + least, at + most)


def _moment(date: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(date or "")
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
