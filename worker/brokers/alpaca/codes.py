"""Alpaca's refusals, by HTTP status and numeric code, as one table."""

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
from models.reports import Ambiguous, Missing
from worker.brokers.rest.http import retry_after
from worker.brokers.values import Raw


class KeysRefused(NotPermitted):
    """Who asks is not known: it is said of everything that these keys ask, and nothing was placed."""


class Forbidden(NotPermitted):
    """It is not allowed, and the code does not say whether this one thing is meant or everything."""


#: Kinds of error body, for rows that hold whatever the code: JSON with a code, JSON with words only, neither.
CODED, WORDED, BARE = "coded", "worded", "bare"
#: HTTP status and numeric code -> its meaning for a request (docs/facts/alpaca.md#3.1, #3.7). No row means Unmapped:
#: unknown.
ERRORS: dict[tuple[int, int | str], type[BrokerError]] = {
    (400, CODED): OrderRejected,
    (400, WORDED): OrderRejected,
    (401, CODED): KeysRefused,
    (401, WORDED): KeysRefused,
    (401, BARE): KeysRefused,
    (403, WORDED): Forbidden,
    (403, CODED): Forbidden,
    # About this one order: buying power, shares to sell, short selling, wash trades, orders switched off by the user.
    (403, 40310000): OrderRejected,
    # Pattern day trading protection.
    (403, 40310100): NotPermitted,
    (404, 40410000): InstrumentUnknown,
    (422, CODED): OrderRejected,
    (422, WORDED): OrderRejected,
    (429, CODED): RateLimited,
    (429, WORDED): RateLimited,
    (429, BARE): RateLimited,
    (500, CODED): ServerError,
    (500, WORDED): ServerError,
    (500, BARE): ServerError,
}
#: Alpaca's codes: an HTTP status, not always that of the answer, and five digits; the first of a server's errors.
_CODES, _SERVER = range(400_00000, 600_00000), 500_00000
#: Keys that only the answers 'insufficient buying power' and 'insufficient qty available' carry.
_FUNDS = frozenset({"buying_power", "cost_basis", "existing_qty", "held_for_orders"})
# Words choose between two refusals here, never between refused and unknown.
_NO_FUNDS = re.compile(r"insufficient", re.IGNORECASE)
_NO_INSTRUMENT = re.compile(r"asset .*(not found|not (active|trad))|find asset|invalid symbol", re.IGNORECASE)
# It says nothing of an order, an asset or a position: the path was not served (docs/facts/alpaca.md#3.8).
_NO_PATH = re.compile(r"endpoint not found", re.IGNORECASE)
# The one message that decides: it means the first send worked (docs/facts/alpaca.md#2.1).
_DUPLICATE = re.compile(r"client.?order.?id.*(unique|exist|duplicate|already)", re.IGNORECASE)


class Duplicate(Refused):
    """This client_order_id has been used: by our own first send, or by somebody else."""


def refusal(response: requests.Response, broker: str) -> BrokerError:
    """Classify an error answer by status and numeric code; without a row it is Unmapped: the outcome is unknown."""
    body = _body(response)
    code, kind = _kind(body)
    status = min(response.status_code, 500)
    text = str(body.get("message") or response.reason or "no words")
    found = ERRORS.get((status, code or kind)) or ERRORS.get((status, kind), Unmapped)
    found = Unmapped if status == 404 and _NO_PATH.search(text) else _by_words(found, body, text)
    return found(
        f"{broker}: HTTP {response.status_code}: {text}",
        broker=broker,
        code=str(code or response.status_code),
        retry_after=retry_after(response.headers),
    )


def told(seen: Missing | Ambiguous) -> str:
    """Say what looking a client_order_id up has shown, where that is no single order."""
    return f"no order is shown under it ({seen.evidence})" if isinstance(seen, Missing) else seen.text


def _kind(body: Raw) -> tuple[int | None, str]:
    """Return the numeric code of an error body, and its kind: a code that is no word about a request makes it bare."""
    code = body.get("code")
    if type(code) is int and code in _CODES:  # True is an int, too
        return code, CODED if code < _SERVER else BARE
    return None, WORDED if code is None and isinstance(body.get("message"), str) and body["message"] else BARE


def _body(response: requests.Response) -> Raw:
    try:
        body = response.json()
    except (ValueError, RecursionError):  # also JSON that is nothing but brackets
        return {}
    return body if isinstance(body, dict) else {}


def _by_words(found: type[BrokerError], body: Raw, text: str) -> type[BrokerError]:
    """Refine a refusal; the branch stays, except that a duplicate id is no refusal of the order."""
    if found is not OrderRejected:
        return found
    if _DUPLICATE.search(text):
        return Duplicate
    if _FUNDS & body.keys() or _NO_FUNDS.search(text):
        return InsufficientFunds
    return InstrumentUnknown if _NO_INSTRUMENT.search(text) else found
