"""JSON, quickly: by orjson, and by the standard library for the little that orjson refuses."""

from __future__ import annotations

import json
from typing import Any

import orjson


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
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def text(value: Any) -> str:
    """Write JSON as text."""
    return dumps(value).decode()
