"""Reading the brokers' JSON: numbers exactly, times as aware UTC, and a clear error for what is neither."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

Raw = Mapping[str, Any]


def number(value: Any) -> Decimal | None:
    """Return a broker's number; None where it said nothing.

    Raises:
        ValueError: it said something that is no finite number.
    """
    if value is None or value == "":
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not found.is_finite():
        raise ValueError(f"{value!r} is not a finite number")
    return found


def needed(raw: Raw, key: str) -> Decimal:
    """Return a number that must be there.

    Raises:
        ValueError: it is missing.
    """
    found = number(raw.get(key))
    if found is None:
        raise ValueError(f"{key} is missing")
    return found


def positive(value: Any) -> Decimal | None:
    """Return a price or size; None for 0 and less, which brokers send for 'no quote'."""
    found = number(value)
    return found if found is not None and found > 0 else None


def moment(value: Any) -> datetime | None:
    """Return a time as aware UTC; nine decimals and `+0000` are understood, and a time without a zone is UTC."""
    if not value:
        return None
    found = datetime.fromisoformat(str(value))
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def epoch_ms(value: Any) -> datetime | None:
    """Return a time given as milliseconds since 1970."""
    found = positive(value)
    return datetime.fromtimestamp(float(found) / 1000, UTC) if found is not None else None


def segment(text: str) -> str:
    """Write a name so that it is one segment of a path, whatever it contains."""
    return quote(text, safe="")


def rfc3339(at: datetime) -> str:
    """Write a time as RFC 3339 UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


#: What reading an answer of the wrong shape raises.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError)
