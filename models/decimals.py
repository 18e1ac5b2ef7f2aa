"""Numbers and words as people and programs write them, read exactly or not at all; for what needs no order object."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

#: SQLite's NUMERIC keeps 15 significant digits exactly, so no message carries more.
MAX_DIGITS = 15
MAX_DECIMALS = 9
#: Python also reads `1_0` and digits of other scripts: whoever wrote them did not mean what another reader sees.
_NUMBER = re.compile(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf(inity)?|nan)", re.IGNORECASE | re.ASCII
)


def trimmed(text: str) -> str:
    """Return a word or a number without the blanks around it: what is recorded, compared and sent.

    Raises:
        ValueError: a line break, a tab or another control character is in it: it was part of something else.
    """
    if not text.isprintable():
        raise ValueError("must have no line break, tab or other control character")
    return text.strip()


def exact(value: object) -> Decimal:
    """Read a number exactly: floats by their shortest text, so that 0.1 stays 0.1."""
    if isinstance(value, bool) or not isinstance(value, (Decimal, int, float, str)):
        raise ValueError("must be a decimal number")
    if isinstance(value, str):
        value = trimmed(value)
    try:
        if isinstance(value, str) and not (value.isascii() and _NUMBER.fullmatch(value)):
            raise ValueError
        number = value if isinstance(value, Decimal) else Decimal(str(value))
    except (InvalidOperation, ValueError):  # an int of thousands of digits has no text
        raise ValueError("must be a decimal number") from None
    if not number.is_finite():
        raise ValueError("must be a finite number")
    return number
