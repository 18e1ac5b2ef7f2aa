"""JSON, quickly: by orjson, and by the standard library for the little that orjson refuses.

Numbers travel as decimal strings and times as ISO 8601 UTC, so rows and requests can be written as they are.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

_OPTIONS = orjson.OPT_UTC_Z


def plain(number: Decimal) -> str:
    """Write a decimal without exponent and without trailing zeros: 10, not 1E+1; 0.5, not 0.500."""
    return format(number.normalize(), "f")


def moment(at: datetime) -> str:
    """Write an aware time as ISO 8601, UTC as Z."""
    return at.isoformat().replace("+00:00", "Z")


def loads(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none. RecursionError: it is nested too deeply.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)  # takes NaN and lone surrogates; what becomes of them, others decide


def dumps(value: Any) -> bytes:
    """Write JSON, without blanks.

    Raises:
        TypeError, ValueError, RecursionError: it cannot be written.
    """
    try:
        return orjson.dumps(value, _other, _OPTIONS)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), default=_other).encode()


def text(value: Any) -> str:
    """Write JSON as text."""
    return dumps(value).decode()


def _other(value: Any) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return moment(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
