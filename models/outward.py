"""Text on its way out, to a terminal, a log or a file: it steers no terminal and tells no secret, whoever wrote it.

A broker's words, a producer's ids and an operator's reason come from outside, and errors quote settings. So everything
that is printed or logged passes `outward`, in one place for each: `producers/cli/show.py` and `models/logs.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAMES = (
    r"pass(?:word|wd|phrase)?|pwd|sslpassword|secret|secret_key|app_secret|client_secret|token|access_token|"
    r"refresh_token|id_token|auth|api_?key|apikey|sig|signature"
)
#: (what a text must hold for it to apply, pattern, what takes its place)
_PATTERNS = (
    # User and password of a URL; a password may hold / and @ when nobody has quoted it, so the last @ counts.
    ("@", re.compile(r"(://[^\s:@/'\"]*):[^\s'\"]*@"), r"\1:***@"),
    ("=", re.compile(rf"(?<![A-Za-z])({_NAMES})=(?!\*\*\*)[^\s&;'\",)]+", re.IGNORECASE), r"\1=***"),
    ("Bearer", re.compile(r"\bBearer\s+[A-Za-z0-9._~+/=-]{6,}"), "Bearer ***"),
    ("Basic", re.compile(r"\bBasic\s+[A-Za-z0-9._~+/=-]{6,}"), "Basic ***"),
    ("corro_", re.compile(r"\b(corro_[A-Za-z0-9][A-Za-z0-9._-]*_)[0-9a-f]{64}"), r"\1***"),
    # The path of Schwab and TDA names the account.
    ("/accounts/", re.compile(r"(/accounts/)[A-Za-z0-9]{5,}"), r"\1***"),
)
#: Shorter secrets are words such as `sandbox`, which have to stay readable.
_SECRET_LENGTH = 8

_known: tuple[str, ...] = ()


def hide(secrets: Iterable[str]) -> None:
    """Let these texts be shown nowhere from now on; very short ones are left alone."""
    global _known
    found = {text for text in secrets if len(text) >= _SECRET_LENGTH} | set(_known)
    _known = tuple(sorted(found, key=len, reverse=True))


def discreet(text: str) -> str:
    """Return a text with passwords, tokens and account numbers replaced by ***."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, "***")
    for needle, pattern, stars in _PATTERNS:
        if needle in text:
            text = pattern.sub(stars, text)
    return text


def printable(text: str, keep: str = "") -> str:
    """Return a text with everything written out that steers a terminal or turns the direction of what follows.

    Args:
        text: any text.
        keep: characters that stay as they are, such as newlines.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def outward(text: str, keep: str = "") -> str:
    """Return a text as it may be printed: `printable` and `discreet`."""
    return printable(discreet(text), keep)


def untold(value: object, name: str = "") -> object:
    """Return a value, texts in it at any depth, without its secrets; ids stay what they are, or nobody could use them.

    For documents whose format escapes control characters by itself.
    """
    if isinstance(value, str):
        return value if is_id(name) else discreet(value)
    if isinstance(value, dict):
        return {key: untold(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [untold(item, name) for item in value]
    return value


def is_id(name: str) -> bool:
    """Tell whether a column holds an id."""
    return name == "id" or name.endswith("_id")
