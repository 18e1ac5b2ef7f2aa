"""TDA's and Schwab's refusals, by HTTP status and the words of the body, as tables."""

from __future__ import annotations

import re

import requests

from models.errors import (
    BrokerError,
    InstrumentUnknown,
    InsufficientFunds,
    NotPermitted,
    OrderRejected,
    RateLimited,
    Refused,
    ServerError,
    Unmapped,
)
from worker.brokers.rest.http import retry_after

#: HTTP status -> its meaning for a request whose error body is the broker's own. No row: Unmapped.
ERRORS: dict[int, type[BrokerError]] = {
    400: OrderRejected,
    401: NotPermitted,
    403: NotPermitted,
    404: NotPermitted,
    429: RateLimited,
    500: ServerError,
}
#: Statuses that mean the same whoever in between has answered.
_WHOEVER_SAYS_IT = frozenset({401, 429, 500})
# Words choose between two refusals here, never between refused and unknown.
_WORDS: tuple[tuple[re.Pattern[str], type[Refused]], ...] = (
    (
        re.compile(r"buying power|insufficient|enough .*(cash|fund)|oversold|overbought", re.IGNORECASE),
        InsufficientFunds,
    ),
    (re.compile(r"(symbol|instrument)\b.*(not|invalid|unknown|unsupported)", re.IGNORECASE), InstrumentUnknown),
    (re.compile(r"(not|invalid|unknown|unsupported) .*(symbol|instrument)\b", re.IGNORECASE), InstrumentUnknown),
)
#: A 400 about the account in the path, not about the order. Schwab answers so to an account number in place of its hash
#: (github.com/alexgolec/schwab-py/issues/118, 203).
ACCOUNT_WORDS = re.compile(r"invalid account (number|hash|id)\b", re.IGNORECASE)
#: A 404 about the order in the path.
ORDER_WORDS = re.compile(r"\border\b", re.IGNORECASE)


def refusal(response: requests.Response, broker: str) -> BrokerError:
    """Classify an error answer; without a row, or from somebody in between, it is Unmapped: the outcome is unknown."""
    status, text = min(response.status_code, 500), _text(response)
    found = ERRORS.get(status, Unmapped) if text or status in _WHOEVER_SAYS_IT else Unmapped
    if found is OrderRejected:
        found = by_words(text)
    return found(
        f"{broker}: HTTP {response.status_code}: {text or response.reason}",
        broker=broker,
        code=str(response.status_code),
        retry_after=retry_after(response.headers),
    )


def by_words(text: str) -> type[Refused]:
    """Choose the leaf of a refusal."""
    return next((leaf for pattern, leaf in _WORDS if pattern.search(text)), OrderRejected)


def _text(response: requests.Response) -> str:
    """Return the words of the three shapes of error body; empty if it has anything else."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return ""
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors") or []
    if not isinstance(errors, list):
        return ""
    rows = [one.get("detail") or one.get("title") if isinstance(one, dict) else one for one in errors]
    parts = [part for part in (body.get("message"), body.get("error"), *rows) if part is not None]
    return "; ".join(part for part in parts if part)[:500] if all(isinstance(part, str) for part in parts) else ""
