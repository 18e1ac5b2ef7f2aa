"""Orders that are held: recorded, and kept from the queue until their time comes or somebody approves them.

| held for   | because                                                     | until                            |
|------------|-------------------------------------------------------------|----------------------------------|
| approval   | its value is above `approve_above_value`, or not known      | `corro approve`, or `corro deny` |
| not_before | it asks not to be sent before a moment                      | that moment                      |
| session    | it asks for the regular session                             | its instrument's session is on   |

An order may be held for several reasons; it is released when none is left. How long it may wait to be sent counts from
its release: until then `expires_at` is that far behind `available_at`, the moment of the release as far as it is known.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from models.errors import InvalidOrder
from models.lifecycle import Fact
from models.messages import OrderRequest
from models.record.order import OrderRecord
from models.record.rows import NewOrder
from models.vocabulary import Status

APPROVAL, NOT_BEFORE, SESSION = "approval", "not_before", "session"
#: How long an order may be held where no limit says so, seconds: seven days.
LONGEST_HOLD_S = 7 * 86_400.0


def hold(row: NewOrder, request: OrderRequest, now: datetime, approval: str | None, longest_s: float) -> NewOrder:
    """Hold a new order if there is a reason to.

    Args:
        row: the order's, queued.
        request: the order.
        now: the time.
        approval: why somebody has to approve it; None where nobody has to.
        longest_s: seconds that an order may be held.

    Raises:
        InvalidOrder: it would be held for too long.
    """
    why = {APPROVAL: approval} if approval else {}
    if request.not_before is not None and request.not_before > now:
        why[NOT_BEFORE] = f"not before {request.not_before:%Y-%m-%d %H:%M:%S} UTC"
        if (request.not_before - now).total_seconds() > longest_s:
            raise InvalidOrder(
                f"not_before: {request.not_before.isoformat()} is more than {longest_s:g} s away (risk.max_lifetime)"
            )
    if request.session == "regular":
        why[SESSION] = "until the regular session is on"
    if why:
        row["status"], row["held_for"] = str(Status.HELD), ",".join(why)
        row["reason"] = f"held: {'; '.join(why.values())}"
        row["available_at"] = max(now, request.not_before or now)
    return row


def reasons(entry: OrderRecord) -> list[str]:
    """Return what an order is held for."""
    return [name for name in (entry.order["held_for"] or "").split(",") if name]


def let_wait(entry: OrderRecord, held_for: list[str], until: datetime, words: str) -> None:
    """Hold an order on, to be looked at again at a moment; its life moves along."""
    row = entry.order
    later = until - row["available_at"]
    expires = None if row["expires_at"] is None else row["expires_at"] + later
    entry.set(held_for=",".join(held_for), available_at=until, expires_at=expires, reason=words)


def release(entry: OrderRecord, why: str) -> None:
    """Put a held order into its broker's queue: from now on its life counts."""
    row = entry.order
    life = timedelta(0) if row["expires_at"] is None else row["expires_at"] - row["available_at"]
    expires = None if row["expires_at"] is None else entry.now + life
    if entry.happen(Fact.RELEASED, detail=f"{why}; for {row['broker']}").changed:
        entry.set(held_for=None, available_at=entry.now, expires_at=expires, reason=None, reason_code=None)
        entry.effects.ring(row["broker"], entry.id)
