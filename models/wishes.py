"""Signed wishes: to cancel orders, or to replace one; read from the text that was signed, and bounded in time.

A copy of a cancel does no harm, for ids are used once. A copy of a replace could bring old terms back: each says when
it was made and until when it is good, and one that is not younger than the last is not carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from models.errors import InvalidOrder
from models.explaining import shown
from models.lifetimes import AHEAD_S
from models.messages import UtcTime, is_id
from models.signing import Envelope

if TYPE_CHECKING:
    from models.record.key_rows import KeyRow

_TIME: TypeAdapter[datetime] = TypeAdapter(UtcTime)
#: The most orders that one cancel names.
_MOST = 1_000


@dataclass(frozen=True, slots=True)
class SignedWish:
    """A cancel or a replace that a key has signed.

    Args:
        ids: of the orders.
        key: whose it is.
        terms: of a replace.
        created_at: when it was made; None where a cancel does not say.
    """

    ids: list[str]
    key: KeyRow
    terms: Mapping[str, object]
    created_at: datetime | None


def read_cancel(envelope: Envelope, key: KeyRow, now: datetime) -> SignedWish:
    """Read a cancel: `client_order_ids`, and `created_at` and `expires_at` if it has them.

    Raises:
        InvalidOrder: names the field and the value.
    """
    content = envelope.content()
    times = _times(content, now)
    ids = content.pop("client_order_ids", None)
    if not isinstance(ids, list) or not 0 < len(ids) <= _MOST or not all(isinstance(i, str) and is_id(i) for i in ids):
        raise InvalidOrder(f"client_order_ids: must be a list of 1 to {_MOST} ids, was {shown(ids)}")
    if content:
        raise InvalidOrder(f"{min(content)}: a signed cancel has no such field")
    return SignedWish(ids, key, {}, times.get("created_at"))


def read_replace(envelope: Envelope, key: KeyRow, now: datetime) -> SignedWish:
    """Read a replace: `client_order_id`, `created_at`, `expires_at` and the new terms.

    Raises:
        InvalidOrder: names the field and the value.
    """
    content = envelope.content()
    times = _times(content, now)
    if len(times) < len(_WHEN):
        raise InvalidOrder(f"{min(set(_WHEN) - set(times))}: is required in a signed replace")
    client_order_id = content.pop("client_order_id", None)
    if not isinstance(client_order_id, str) or not is_id(client_order_id):
        raise InvalidOrder(f"client_order_id: must be an id, was {shown(client_order_id)}")
    return SignedWish([client_order_id], key, content, times["created_at"])


_WHEN = ("created_at", "expires_at")


def _times(content: dict[str, object], now: datetime) -> dict[str, datetime]:
    """Take the times out of a wish, and see that it is good now."""
    found = {}
    for name in _WHEN:
        if (value := content.pop(name, None)) is not None:
            try:
                found[name] = _TIME.validate_python(value)
            except ValidationError:
                raise InvalidOrder(f"{name}: must be an ISO 8601 time with a zone, was {shown(value)}") from None
    made, until = found.get("created_at", now), found.get("expires_at", now)
    if (made - now).total_seconds() > AHEAD_S:
        raise InvalidOrder(f"created_at: {made.isoformat()} is ahead of our clock ({now.isoformat()})")
    if until < now:
        raise InvalidOrder(f"expires_at: {until.isoformat()} is over")
    return found
