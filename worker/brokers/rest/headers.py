"""What an answer's headers say of a broker's limits: numbers from outside, so each has a range.

Retry-After is seconds or an HTTP date (RFC 9110, 10.2.3); X-RateLimit-Reset is seconds since 1970 at Alpaca. `inf`,
`nan`, 1e12, negative numbers, dates of other centuries and plain garbage have all been seen in the wild.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite, isnan

import requests

from worker.pacing.budget import LONGEST_PAUSE_S, Budget


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds, 0 to 300, that a throttled answer asks to wait; None if it says nothing that can be read."""
    for wait in (_seconds(headers, "Retry-After"), _until(headers, "Retry-After"), _reset(headers)):
        if wait is not None:
            return wait
    return None


def pass_on(response: requests.Response, budget: Budget) -> None:
    """Tell the budget the broker's word about it: 429, or its own count in X-RateLimit-Limit, -Remaining and -Reset."""
    headers = response.headers
    if response.status_code == 429:
        budget.limited(retry_after(headers))
        return
    left, limit, seconds = (
        _number(headers, "X-RateLimit-Remaining"),
        _number(headers, "X-RateLimit-Limit"),
        _reset(headers),
    )
    if left is None or limit is None or seconds is None or not (isfinite(left) and isfinite(limit) and limit > 0):
        return
    budget.hear(min(max(left / limit, 0.0), 1.0), seconds)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        found = float(headers[name])
    except (KeyError, ValueError):
        return None
    return None if isnan(found) else found


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_PAUSE_S)


def _seconds(headers: Mapping[str, str], name: str) -> float | None:
    found = _number(headers, name)
    return None if found is None else _bounded(found)


def _reset(headers: Mapping[str, str]) -> float | None:
    found = _number(headers, "X-RateLimit-Reset")
    return None if found is None else _bounded(found - time.time())


def _until(headers: Mapping[str, str], name: str) -> float | None:
    """Read an HTTP date."""
    try:
        return _bounded(parsedate_to_datetime(headers[name]).timestamp() - time.time())
    except (KeyError, ValueError, TypeError, OverflowError, IndexError, OSError):
        return None
