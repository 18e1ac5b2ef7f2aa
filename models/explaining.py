"""How a value that is refused is told: the field, what is wrong with it, and the value where it may be shown."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError


def explain(error: ValidationError, values: Callable[[str, object], bool] = lambda *_: True) -> str:
    """Turn pydantic's report into one line: field, what is wrong, and the value where `values` lets it be shown."""
    lines = []
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"])
        text = "no such field" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
        value = f", was {shown(item['input'])}" if values(field, item["input"]) else ""
        if not field:
            lines.append(text)
        elif item["type"] == "missing":
            lines.append(f"{field}: is required")
        else:
            lines.append(f"{field}: {text}{value}")
    rest = len(lines) - _MOST_LINES
    return "; ".join(lines[:_MOST_LINES] + ([f"and {rest} more"] if rest > 0 else []))


#: A message may be wrong in thousands of places, and each value a megabyte: this much of it is told.
_MOST_LINES, _LONGEST_SHOWN = 10, 200


def shown(value: object) -> str:
    """Return a value as text, of a long one the beginning; what has none is named."""
    try:
        text = repr(value)
        return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}... ({len(text)} characters)"
    except ValueError:  # an int of more than 4300 digits
        return f"a {type(value).__name__} too long to print"
