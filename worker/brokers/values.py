"""What brokers write on the wire, read once for every adapter: amounts, prices, sizes, fees, ids, times.

Brokers have many words for "nothing": an empty field, null, NaN, infinity, the largest double, the largest integers,
-1 or 0 where neither is possible, the first day of a calendar. Each function here knows them for its kind of field and
returns None; text that is nothing of the kind raises ValueError. No adapter converts a wire value by itself.
A JSON number that is a double has 15 digits: what follows is how doubles are stored (13.120000000000001 is 13.12).

| function   | for                                             | None besides these                           |
|------------|-------------------------------------------------|----------------------------------------------|
| `number`   | money that may be negative or 0, signed holdings |                                             |
| `positive` | prices, and sizes where 0 means "none"          | 0 and less                                   |
| `size`     | quantities where 0 is an answer                 | less than 0                                  |
| `fee`      | commissions; rebates are negative               | exactly -1: IB's word for "not computed yet" |
| `count`    | how many of something                           | less than 0                                  |
| `identity` | ids that a broker gave                          | 0, -1                                        |
| `bar`      | a candle                                        | any price missing                            |
| `moment`, `epoch_ms`, `epoch_s` | times                      | 0, and years before 1971                     |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import quote

from models.reports import Bar

Raw = Mapping[str, Any]
T = TypeVar("T")
V = TypeVar("V")

#: The largest and smallest integers of 32 and 64 bits, and the double next to the largest of 64: "not set" at IB.
_UNSET_INTEGERS = frozenset({2**31 - 1, -(2**31), 2**63 - 1, 2**63, -(2**63)})
#: IB's "not set" is the largest double, 1.79e308; any number above this means it, however many digits were sent.
_UNSET_DOUBLE = Decimal("1.7e308")
#: No account, order or bar holds as much: a number beyond is an error of somebody, and no column takes it.
_LARGEST = Decimal("1e18")
#: Less than any of the numbers that mean "not set".
_PLAIN = 1e9
#: Nor is there so much of anything that is counted one by one.
_MOST = 10**9
#: ASCII only, and no underscores: Decimal would take "1_0" and Arabic digits.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_NOT_A_NUMBER = frozenset({"", "nan", "inf", "infinity", "null", "none"})
_NO_IDS = _NOT_A_NUMBER | {"-inf", "-infinity", "0", "-1"} | {str(number) for number in _UNSET_INTEGERS}
#: Go's zero time is in year 1, .NET's too; 0 seconds since 1970 is the wire's zero.
_FIRST_YEAR = 1971
_LAST_YEAR = 9998


# -- NUMBERS ---
def number(value: object) -> Decimal | None:
    """Return a broker's number, exactly; None where it said nothing.

    Raises:
        ValueError: it said something that is no number, or one of 1e18 and more.
    """
    if type(value) is float and abs(value) < _PLAIN:  # nearly all there are; NaN is not less than anything
        return Decimal(_digits(value))
    text = _digits(value) if isinstance(value, float) else str(value).strip()
    if text.lower().lstrip("+-") in _NOT_A_NUMBER:
        return None
    if isinstance(value, bool) or not _NUMBER.fullmatch(text):
        raise ValueError(f"{str(value)[:100]!r} is not a number")
    found = Decimal(text)
    if found in _UNSET_INTEGERS or abs(found) >= _UNSET_DOUBLE:
        return None
    if abs(found) >= _LARGEST:
        raise ValueError(f"{text[:100]} is larger than anything traded")
    return found


def _digits(value: float) -> str:
    """Write a double without the noise of its last digits; whole ones and the largest are exact."""
    return str(int(value)) if value.is_integer() else f"{value:.15g}"


def positive(value: object) -> Decimal | None:
    """Return a price, or a size where 0 means "none"; None for 0 and less."""
    found = number(value)
    return found if found is not None and found > 0 else None


def size(value: object) -> Decimal | None:
    """Return a quantity of which 0 is an answer; None for less."""
    found = number(value)
    return found if found is not None and found >= 0 else None


def fee(value: object) -> Decimal | None:
    """Return a commission, negative for a rebate; None for exactly -1."""
    found = number(value)
    return None if found == -1 else found


def count(value: object) -> int | None:
    """Return how many; None for less than 0.

    Raises:
        ValueError: it is no whole number, or one of a thousand million and more.
    """
    found = size(value)
    if found is not None and (found >= _MOST or found != found.to_integral_value()):
        raise ValueError(f"{str(value)[:100]!r} is no number of things")
    return None if found is None else int(found)


def needed(raw: Raw, key: str, read: Callable[[object], Decimal | None] = number) -> Decimal:
    """Return a field that must be there, read by one of the functions above.

    Raises:
        ValueError: it is missing, or one of the words for "nothing".
    """
    found = read(raw.get(key))
    if found is None:
        raise ValueError(f"{key} is missing, was {raw.get(key)!r}")
    return found


def bar(start: datetime, prices: Sequence[object], volume: object) -> Bar | None:
    """Return one candle, or None where one of its prices is missing: such a row is none.

    Args:
        start: the beginning of its interval.
        prices: open, high, low, close as the broker wrote them.
        volume: shares; a word for "nothing" is 0, which is what a bar without trades has.
    """
    found = [positive(price) for price in prices]
    open_, high, low, close = found
    if open_ is None or high is None or low is None or close is None:
        return None
    return Bar(start=start, open=open_, high=high, low=low, close=close, volume=size(volume) or Decimal(0))


# -- IDS ---
def identity(value: object) -> str | None:
    """Return an id that a broker gave, as text; None for 0, -1 and the unset integers.

    Raises:
        ValueError: it is neither text nor a whole number.
    """
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not (value is None or is_whole or isinstance(value, (str, float))):
        raise ValueError(f"{str(value)[:100]!r} is no id")
    text = _digits(value) if isinstance(value, float) else str(value).strip()
    return None if text.lower() in _NO_IDS else text


# -- TIMES ---
def moment(value: object) -> datetime | None:
    """Return an ISO 8601 time as aware UTC; nine decimals and `+0000` are understood, and without a zone it is UTC.

    Raises:
        ValueError: it is none.
    """
    text = "" if value is None else str(value).strip()
    if text.lower() in _NOT_A_NUMBER | {"0"}:
        return None
    found = datetime.fromisoformat(text)
    return _plausible(found, text)


def epoch_ms(value: object) -> datetime | None:
    """Return a time given as milliseconds since 1970."""
    found = positive(value)
    return _since_1970(found / 1000) if found is not None else None


def epoch_s(value: object) -> datetime | None:
    """Return a time given as seconds since 1970."""
    found = positive(value)
    return _since_1970(found) if found is not None else None


def _since_1970(seconds: Decimal) -> datetime | None:
    try:
        return _plausible(datetime.fromtimestamp(float(seconds), UTC), str(seconds))
    except (OverflowError, OSError):
        raise ValueError(f"{seconds} s since 1970 is no time") from None


def _plausible(found: datetime, text: str) -> datetime | None:
    if found.year < _FIRST_YEAR:
        return None
    if found.year > _LAST_YEAR:
        raise ValueError(f"{text!r} is beyond the calendar")
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


# -- OUT ---
def segment(text: str) -> str:
    """Write a name so that it is one segment of a path, whatever it contains."""
    return quote(text, safe="")


def rfc3339(at: datetime) -> str:
    """Write a time as RFC 3339 UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


#: What reading an answer of the wrong shape raises.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError)


def soft(read: Callable[[V], T | None], value: V) -> T | None:
    """Read a field that others do without: None where it cannot be read."""
    try:
        return read(value)
    except UNREADABLE:
        return None
