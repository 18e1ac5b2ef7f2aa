"""Four eyes: who says yes to an order is not who submitted it. A pure decision.

| facts                                                                  | answer         |
|------------------------------------------------------------------------|----------------|
| `[security] self_approval = true`                                      | yes            |
| no key was given, and there is one that may approve                    | not_permitted  |
| a key was given, and it may not approve                                | not_permitted  |
| a key was given: the order's own, or another one of the same owner     | not_permitted  |
| the name is that of the order's key, or of its owner                   | not_permitted  |

The first row that fits decides; else it is somebody else. That a key is valid, and that whoever names it has its
secret, is seen before (`models.trust`). Saying no needs no other pair of eyes: whoever submitted an order may give it
up.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from models.errors import Untrusted
from models.trust import must_be_valid
from models.vocabulary import Denial

if TYPE_CHECKING:
    from models.record.key_rows import KeyRow


def must_be_another(
    keys: Mapping[str, KeyRow], submitted: str | None, by: str, approver: KeyRow | None, now: datetime
) -> None:
    """See that whoever approves an order may, and has not submitted it.

    Args:
        keys: all of them, by key_id.
        submitted: the key of the order; None where it was not signed.
        by: who says yes, in their own words.
        approver: the key that has signed the approval; None where none has.
        now: the moment.

    Raises:
        Untrusted: it is not so; says why.
    """
    if approver is None and any(_may_approve(key, now) for key in keys.values()):
        raise _no("there are keys that may approve, so an approval is signed by one: --key and --key-file")
    if approver is not None and not approver["may_approve"]:
        raise _no(f"key {approver['key_id']!r} may not approve orders")
    mine = keys.get(submitted or "")
    if mine is None:
        return
    if approver is not None and _alike(approver["owner"], mine["owner"]):
        raise _no(f"the order was submitted by key {mine['key_id']!r} of {mine['owner']}, as {approver['key_id']!r} is")
    if _alike(by, mine["key_id"]) or _alike(by, mine["owner"]):
        raise _no(f"the order was submitted by key {mine['key_id']!r} of {mine['owner']}")


def _no(why: str) -> Untrusted:
    return Untrusted(f"four eyes: {why}; [security] self_approval = true lets it pass", Denial.NOT_PERMITTED)


def _alike(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _may_approve(key: KeyRow, now: datetime) -> bool:
    try:
        must_be_valid(key, now)
    except Untrusted:
        return False
    return key["may_approve"] and key["alg"] != "token"
