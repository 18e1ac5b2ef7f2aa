"""JSON, quickly: by orjson, and by the standard library for the little that orjson refuses.

Numbers travel as decimal strings and times as ISO 8601 UTC, so rows and requests can be written as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

import orjson

_OPTIONS = orjson.OPT_UTC_Z
#: Digits of the digest in a name that was too long.
_DIGITS = 16
#: Longer integers are not written by orjson, or read as something else.
_SAFE_DIGITS = 18


def plain(number: Decimal) -> str:
    """Write a decimal without exponent and without trailing zeros: 10, not 1E+1; 0.5, not 0.500; 0, not -0."""
    return format(number.normalize(), "f") if number else "0"


def moment(at: datetime) -> str:
    """Write an aware time as ISO 8601, UTC as Z."""
    return at.isoformat().replace("+00:00", "Z")


def fitted(name: str, longest: int) -> str:
    """Return somebody else's id as every database takes it, the same for the same: no lone surrogate, NUL, or length.

    One that is none as it is keeps its beginning, and gets a digest: it stays another than all others, which a text
    that was cut might not.
    """
    text = name if name.isascii() else name.encode("utf-8", "replace").decode()
    if len(name) <= longest and text == name and "\0" not in name:
        return name
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    beginning = text.replace("\0", "\ufffd")[: longest - _DIGITS - 1]
    return f"{beginning}~{digest}"


def loads(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none. RecursionError: it is nested too deeply.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)  # takes NaN and lone surrogates; what becomes of them, others decide


class Twice(dict[str, object]):
    """The value of a name that an object has more than once: no reader may choose one of them."""


def exactly(text: str | bytes) -> Any:
    """Read JSON as somebody else wrote it, where money depends on it.

    A name given twice has all its values, as `Twice`; numbers that a float, or orjson, would change are their text.

    Raises:
        ValueError: it is none. RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_once, parse_float=str, parse_int=_integer, parse_constant=str)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of its pairs; a name that stands in it twice has all its values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        values: dict[str, list[object]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        found |= {name: Twice({"given more than once": all_}) for name, all_ in values.items() if len(all_) > 1}
    return found


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _SAFE_DIGITS else digits


def dumps(value: object) -> bytes:
    """Write JSON, without blanks.

    Raises:
        TypeError, ValueError, RecursionError: it cannot be written.
    """
    try:
        return orjson.dumps(value, _other, _OPTIONS)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), default=_other).encode()


def dumps_printable(value: object) -> bytes:
    """Write JSON in which whatever steers a terminal, or turns the direction of writing, stands as an escape."""
    written = dumps(value)
    text = written.decode()
    return written if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text).encode()


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def text(value: object) -> str:
    """Write JSON as text."""
    return dumps(value).decode()


def to_json(value: object) -> object:
    """Return a row, or rows, as JSON types: decimals as strings, times as ISO 8601 UTC."""
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value else "0"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def _other(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return moment(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
