"""How a value that is refused is told: the field, what is wrong with it, and the value where it may be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from pydantic import ValidationError

from models import encoding


def explain(error: ValidationError, values: Callable[[str, object], bool] = lambda *_: True) -> str:
    """Turn pydantic's report into one line: field, what is wrong, and the value where `values` lets it be shown."""
    return explained(error.errors(include_url=False), values)


def explained(items: Iterable[Mapping[str, object]], values: Callable[[str, object], bool] = lambda *_: True) -> str:
    """Turn what pydantic reports, item by item, into one line; FastAPI reports a parameter so, too.

    Args:
        items: with `loc`, `type`, `msg`, `input` and, where a bound is missed, `ctx`.
        values: tells whether the value of a field may be shown.
    """
    lines = [_line(item, values) for item in items]
    rest = len(lines) - _MOST_LINES
    return "; ".join(lines[:_MOST_LINES] + ([f"and {rest} more"] if rest > 0 else []))


def _line(item: Mapping[str, object], values: Callable[[str, object], bool]) -> str:
    place = item["loc"]
    field = ".".join(map(str, place)) if isinstance(place, tuple) else str(place)
    words = _words(item)
    if not field or item["type"] == "missing":
        return f"{field}: {words}" if field else words
    return f"{field}: {words}" + (f", was {shown(item['input'])}" if values(field, item["input"]) else "")


_NUMBER, _WHOLE, _TIME = "must be a number", "must be a whole number", "must be an ISO 8601 time or date"
#: What kinds of pydantic's errors say; the names in braces are those of the bound that was missed.
_WORDS = {
    "missing": "is required", "extra_forbidden": "no such field",
    "string_type": "must be text", "bytes_type": "must be bytes", "string_unicode": "must be text in UTF-8",
    "string_too_short": "must have {min_length} characters or more",
    "string_too_long": "must have {max_length} characters or fewer",
    "too_short": "must have {min_length} or more", "too_long": "must have {max_length} or fewer",
    "decimal_type": _NUMBER, "decimal_parsing": _NUMBER, "float_type": _NUMBER, "float_parsing": _NUMBER,
    "finite_number": "must be a finite number", "is_instance_of": "is of another kind",
    "int_type": _WHOLE, "int_parsing": _WHOLE, "int_from_float": _WHOLE, "int_parsing_size": "has too many digits",
    "bool_type": "must be true or false", "bool_parsing": "must be true or false",
    "greater_than": "must be above {gt}", "greater_than_equal": "must be {ge} or more",
    "less_than": "must be below {lt}", "less_than_equal": "must be {le} or less",
    "decimal_max_digits": "must have {max_digits} digits or fewer",
    "decimal_max_places": "must have {decimal_places} decimals or fewer",
    "literal_error": "must be {expected}", "enum": "must be {expected}",
    "list_type": "must be a list", "tuple_type": "must be a list", "set_type": "must be a list",
    "dict_type": "must be names with values", "mapping_type": "must be names with values",
    "model_type": "must be names with values", "model_attributes_type": "must be names with values",
    "datetime_type": _TIME, "datetime_parsing": _TIME, "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME, "date_type": _TIME, "date_parsing": _TIME, "date_from_datetime_parsing": _TIME,
    "timezone_aware": "must carry a time zone", "json_invalid": "must be JSON", "json_type": "must be JSON",
}  # fmt: skip


def _words(item: Mapping[str, object]) -> str:
    bounds = item.get("ctx")
    template = _WORDS.get(str(item["type"]))
    if template is not None:
        try:
            return template.format_map(bounds if isinstance(bounds, Mapping) else {})
        except KeyError:  # another version of pydantic names its bound otherwise
            pass
    return str(item["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


#: A message may be wrong in thousands of places, and each value a megabyte: this much of it is told.
_MOST_LINES, _LONGEST_SHOWN = 10, 200


def shown(value: object) -> str:
    """Return a value as JSON writes it, text in quotes; of a long one the beginning; what is no JSON is named."""
    try:
        text = _as_written(value)
    except (ValueError, TypeError, RecursionError, ArithmeticError):  # no JSON; or an int of more than 4300 digits
        text = ""
    if not text:
        return f"a value of the kind {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}... ({len(text)} characters)"


def _as_written(value: object) -> str:
    if isinstance(value, str):
        return repr(str(value))
    if isinstance(value, float):
        return repr(value)  # JSON has neither inf nor nan
    if isinstance(value, Decimal):
        return encoding.plain(value)
    return encoding.text(encoding.to_json(value))
