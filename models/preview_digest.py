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
from models.instruments import PLAIN

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


def wrong_terms(legs: Sequence[OrderRequest], digest: str) -> str | None:
    """Say that an order, or a group, is not what was previewed, and which terms differ as far as the digest tells.

    Args:
        legs: the order, or the group with its lead first.
        digest: as it was given; it has to be the whole of what the preview told, and nothing more.
    """
    own = digest_of(legs[0]) if len(legs) == 1 else group_digest(legs)
    if digest == own:
        return None
    if digest[:_FIRST] == own[:_FIRST]:
        words = (
            f"it begins as the digest of these terms, and is {len(digest)} characters, not {len(own)}, or other ones"
        )
        return (
            f"preview: {words}: copy the digest whole, was {digest[_FIRST:]!r:.100} from its character {_FIRST + 1} on"
        )
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
    """Return two digits for each term; the same for the same order, however it was written."""
    told = request.to_wire() | {name: None for name in _names(request) if not getattr(request, name)}
    if isinstance(request.tags, dict):
        told["tags"] = sorted(request.tags.items())
    if request.session == "any":
        told["session"] = None
    if request.asset_class in PLAIN or request.legs:
        told["asset_class"] = None
    if "@" not in request.symbol:
        told["currency"] = None
    return "".join(hashlib.sha256(dumps(told.get(name))).hexdigest()[:_DIGITS] for name in _names(request))
