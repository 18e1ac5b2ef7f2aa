"""The digest of what was previewed, which an order may demand; and which of its terms have changed since. Pure.

A digest is that of the terms (`OrderRequest.body_hash`), a point, and two digits for each term: those only tell which
terms differ, where the first part says that some do. A group's is of all its legs. The strategy is a term: an order of
another strategy is another order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.encoding import dumps

if TYPE_CHECKING:
    from models.messages import OrderRequest

#: What is no term: who, when, where, and the digest itself; a leg's group has an id of its own each time.
_FREE = frozenset({
    "version", "client_order_id", "created_at", "expires_at", "route", "account", "decision_price", "preview", "group",
})  # fmt: skip
_DIGITS = 2
_FIRST = 64


def digest_of(request: OrderRequest) -> str:
    """Return the digest of an order."""
    return f"{request.body_hash}.{_details(request)}"


def group_digest(legs: Sequence[OrderRequest]) -> str:
    """Return the digest of linked orders, the lead first; each names its leg."""
    whole = [[str(leg.group and leg.group.kind), str(leg.group and leg.group.leg), _alone(leg)] for leg in legs]
    return f"{hashlib.sha256(dumps(whole)).hexdigest()}.{''.join(map(_details, legs))}"


def is_same(wanted: str, digest: str) -> bool:
    """Tell whether two digests are of the same terms."""
    return wanted[:_FIRST] == digest[:_FIRST]


def wrong_terms(legs: Sequence[OrderRequest], digest: str) -> str:
    """Say that an order, or a group, is not what was previewed, and which terms differ as far as the digest tells."""
    differ = ", ".join(_differing(legs, digest)) or "which, this digest does not tell"
    words = f"these are not the terms that were previewed (different: {differ}); preview this order"
    return f"preview: {words}, and read what has changed, was {digest!r:.100}"


def _differing(legs: Sequence[OrderRequest], digest: str) -> list[str]:
    had, have = digest[_FIRST + 1 :], "".join(map(_details, legs))
    if len(had) != len(have):
        return []
    named = [(leg, name) for leg in legs for name in _names(leg)]
    places = range(0, len(have), _DIGITS)
    return [
        f"{leg.group.leg}.{name}" if leg.group is not None else name
        for place, (leg, name) in zip(places, named, strict=True)
        if had[place : place + _DIGITS] != have[place : place + _DIGITS]
    ]


def _alone(leg: OrderRequest) -> str:
    return leg.model_copy(update={"group": None}).body_hash


def _names(request: OrderRequest) -> list[str]:
    return sorted(set(type(request).model_fields) - _FREE)


def _details(request: OrderRequest) -> str:
    told = request.to_wire() | {name: None for name in _names(request) if not getattr(request, name)}
    return "".join(hashlib.sha256(dumps(told.get(name))).hexdigest()[:_DIGITS] for name in _names(request))
