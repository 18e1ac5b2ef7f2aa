"""What the fields of a message are made of: numbers, times and words, read strictly or refused with the value."""

from __future__ import annotations

import re
from datetime import MAXYEAR, UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator

from models.decimals import MAX_DECIMALS, MAX_DIGITS, exact, trimmed

#: How long an order may wait in our queue before it is `expired`, unless it says otherwise.
DEFAULT_EXPIRY = timedelta(seconds=60)
#: A number that is within the limits by its looks, unless it is zero.
_SHORT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?", re.ASCII)
#: No order is older: an earlier time is a clock that was never set, or garbage.
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


def positive_number(value: object) -> Decimal:
    """Read a number above zero.

    Raises:
        ValueError: it is none, or has more digits than the record keeps exactly.
    """
    if type(value) is int and 0 < value < 10**MAX_DIGITS:
        return Decimal(value)
    if type(value) is str and _SHORT.fullmatch(value) and (short := Decimal(value)):
        return short  # as nearly all are: no need to count its digits
    number = exact(value)
    if number <= 0:
        raise ValueError("must be greater than zero")
    return _kept(number)


def signed_number(value: object) -> Decimal:
    """Read a number of either sign, or zero.

    Raises:
        ValueError: it is none, or has more digits than the record keeps exactly.
    """
    number = exact(value)
    return positive_number(value) if number > 0 else _kept(number) if number else Decimal(0)


def _kept(number: Decimal) -> Decimal:
    """Return a number that the record keeps exactly."""
    # By hand: normalize() rounds to the context's 28 digits, and overflows.
    _, digits, exponent = number.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    decimals = -int(exponent) - (len(text) - len(text.rstrip("0")))
    if len(text.rstrip("0")) + max(-decimals, 0) > MAX_DIGITS or decimals > MAX_DECIMALS:
        raise ValueError(f"must have at most {MAX_DIGITS} digits, {MAX_DECIMALS} of them decimals")
    return number


def aware(value: object) -> datetime:
    """Read a time with its zone, as UTC.

    Raises:
        ValueError: it is none, has no zone, or is not of this age.
    """
    if type(value) is datetime and value.tzinfo is UTC and _BEGINNING.year <= value.year < MAXYEAR:
        return value
    if isinstance(value, str) and value.isascii():
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be an ISO 8601 time such as 2026-01-05T14:30:00Z") from None
    if not isinstance(value, datetime):
        raise ValueError("must be an ISO 8601 time such as 2026-01-05T14:30:00Z")
    if value.tzinfo is None:
        raise ValueError("must carry a time zone (UTC), such as 2026-01-05T14:30:00Z")
    try:
        moment = value.astimezone(UTC)
        moment + DEFAULT_EXPIRY
    except OverflowError:
        raise ValueError("must be a time of this age") from None
    if moment < _BEGINNING:
        raise ValueError("must be a time of this age, 2000 or later")
    return moment


def lower(value: object) -> object:
    """Read a word, in whatever case."""
    if isinstance(value, str):
        return trimmed(value).lower() if value.isascii() else value
    raise ValueError("must be a text")


def version_number(value: object) -> int:
    """Read the version of an order object."""
    if type(value) is not int or value not in (1, 2):
        raise ValueError("must be the number 1 or 2")
    return value


def sequence(value: object) -> object:
    """Take a list for a tuple, as JSON has no other, but no set, which has no order."""
    return tuple(value) if isinstance(value, list) else value


Positive = Annotated[Decimal, BeforeValidator(positive_number)]
Signed = Annotated[Decimal, BeforeValidator(signed_number)]
UtcTime = Annotated[datetime, BeforeValidator(aware)]
