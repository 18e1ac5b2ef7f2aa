"""Secrets and account numbers out of every text that leaves an adapter: its errors, its logs, a broker's own words."""

from __future__ import annotations

import re
import threading
from typing import TypeVar

E = TypeVar("E", bound=Exception)

#: Shorter ones would hide ordinary words and numbers.
_SHORTEST = 5
#: Tokens come and go: this many are remembered.
_MOST = 200
_PATTERNS = (
    (re.compile(r"(/accounts/)(?!accountNumbers\b)[^/?\s'\"\\)]+"), r"\1***"),
    (re.compile(r"(\b(?:Bearer|Basic)\s+)[\w.~+/=%@-]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"((?:access|refresh|id)_token['\"]?\s*[=:]\s*b?['\"]?)[^'\"&\s,}]+", re.IGNORECASE), r"\1***"),
)


class Veil:
    """What one connection must not tell."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}
        self._lock = threading.Lock()

    def hide(self, *secrets: str | None) -> None:
        """Hide secrets from now on: not a character of them is shown."""
        self._add({secret: "***" for secret in secrets if secret})

    def hide_account(self, *numbers: str | None) -> None:
        """Hide account numbers and hashes; the last three characters stay, so that accounts can be told apart."""
        self._add({number: f"***{number[-3:]}" for number in numbers if number})

    def _add(self, found: dict[str, str]) -> None:
        with self._lock:
            kept = {**self._secrets, **{text: shown for text, shown in found.items() if len(text) >= _SHORTEST}}
            self._secrets = dict(list(kept.items())[-_MOST:])

    def clean(self, text: str) -> str:
        """Return a text without hidden words, and without anything that looks like a token or an account's path."""
        for secret, shown in sorted(self._secrets.items(), key=lambda one: -len(one[0])):
            text = text.replace(secret, shown)
        for pattern, put in _PATTERNS:
            text = pattern.sub(put, text)
        return text

    def over(self, error: E) -> E:
        """Clean the words of an error."""
        error.args = tuple(self.clean(part) if isinstance(part, str) else part for part in error.args)
        return error
