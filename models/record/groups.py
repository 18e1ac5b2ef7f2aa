"""Groups of linked orders in the record: one life until something of them has lived, and a row that says how they are.

`keep_together` runs at the end of every batch that touched a leg, whoever did it: a claim, an answer, a cancel, a
release, a person. So nobody who changes an order has to think of its group.

| the lead                        | a leg that has not lived                                  |
|---------------------------------|-----------------------------------------------------------|
| queued, held                    | stands where the lead stands: status, broker, when it is due |
| its attempt came to nothing     | its attempt ended the same way                            |
| ended, and never lived          | ends the same way                                         |
| lives, and the leg is refused   | ends; the lead, which must not stand alone, is canceled   |
| ended, and the leg lives        | is canceled: it must not stand alone                      |

| a leg that has not lived        | the lead, and the others, if nothing of the group has left |
|---------------------------------|-----------------------------------------------------------|
| ended: canceled, denied ...     | end the same way: a group is whole or it is not at all     |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from models.destinations import destination_of
from models.groups import (
    EXCLUSIVE,
    EXIT_SIDES,
    LEADS,
    OVERFILLED,
    PARTIAL,
    SAME_SCOPES,
    WAITING,
    GroupKind,
    GroupStatus,
    GroupTrouble,
    LegState,
    is_mere_exit,
    mark_of,
    status_of,
    troubles,
    why_closed,
)
from models.lifecycle import Fact
from models.record.order import OrderRecord, cancel, is_asked_for
from models.record.rows import AnyOrder, ReadableOrder, by_name
from models.record.statements import Query, among, fetch, one_of, upsert
from models.record.tables import order_groups, orders, position_locks
from models.vocabulary import CLOSING, TERMINAL, UNSENT, Outcome, Status

if TYPE_CHECKING:
    from models.record.batch import OrderBatch

log = structlog.get_logger()

#: A leg that goes where the lead of its group goes: no claim, and nobody who moves orders, looks at it by itself.
IS_FOLLOWER = and_(orders.c.leg.is_not(None), *(orders.c.leg != lead for lead in sorted(LEADS)))
_lead = orders.alias("lead")
#: The same, while there is one to go with: a lead that somebody has taken out of its group leaves nobody behind.
IS_LED = and_(
    IS_FOLLOWER,
    select(_lead.c.client_order_id)
    .where(_lead.c.group_id == orders.c.group_id, or_(*(_lead.c.leg == lead for lead in sorted(LEADS))))
    .exists(),
)
_WAITS = one_of(orders.c.leg, {leg for legs in WAITING.values() for leg in legs})
#: The same in SQL as `models.groups.is_mere_exit`: a leg that counts as nothing beside its lead.
IS_MERE_EXIT = and_(
    IS_FOLLOWER,
    select(_lead.c.client_order_id)
    .where(
        _lead.c.group_id == orders.c.group_id,
        one_of(_lead.c.leg, LEADS),
        *(_lead.c[name].is_not_distinct_from(orders.c[name]) for name in SAME_SCOPES),
        orders.c.quantity <= _lead.c.quantity,
        or_(
            *(_WAITS & (_lead.c.side == opens) & (orders.c.side == closes) for opens, closes in EXIT_SIDES.items()),
            ~_WAITS & (_lead.c.side == orders.c.side) & one_of(orders.c.side, CLOSING),
        ),
    )
    .exists(),
)
_MEMBERS = among(orders.c.group_id, "ids")
_LOCKED = Query(
    select(orders).where(_MEMBERS).order_by(orders.c.client_order_id).with_for_update(key_share=True), ReadableOrder
)
_UNDECIDED = (Outcome.SENDING, Outcome.UNKNOWN)
_GONE = (Outcome.REFUSED, Outcome.ABSENT, Outcome.NOT_SENT)
_ENDS: dict[Status, Fact] = {
    Status.CANCELED: Fact.CANCELED,
    Status.EXPIRED: Fact.EXPIRED,
    Status.REJECTED: Fact.REJECTED,
    Status.DENIED: Fact.DENIED,
}
_CLOSED = (GroupStatus.CLOSED, GroupStatus.BROKEN)


# -- NEW ---
def insert_groups(connection: Connection, rows: Iterable[AnyOrder]) -> None:
    """Insert the groups of new orders; those that are there stay as they are."""
    new = {}
    for row in rows:
        if row["group_id"] is not None and row["leg"] in LEADS:
            ended = row["status"] in TERMINAL
            status = GroupStatus.CLOSED if ended else GroupStatus.QUEUED
            why = f"{row['status']}: {row['reason']}" if ended else None
            new[row["group_id"]] = {
                "group_id": row["group_id"], "kind": row["group_kind"], "status": str(status), "reason": why,
                "created_at": row["created_at"], "closed_at": row["closed_at"], "updated_at": row["updated_at"],
            }  # fmt: skip
    if new:
        connection.execute(upsert(connection, order_groups).on_conflict_do_nothing(), list(new.values()))


# -- TOGETHER ---
def members(entry: OrderRecord) -> list[OrderRecord]:
    """Return the legs of an order's group, the lead first; they are locked, and written with the batch."""
    return _together(entry.batch, [entry.order["group_id"]])[0] if entry.order["group_id"] else []


def followers(entry: OrderRecord) -> list[OrderRecord]:
    """Return the legs that go where this lead goes; none of an order on its own."""
    return [leg for leg in members(entry) if leg is not entry] if entry.order["leg"] in LEADS else []


def gather(batch: OrderBatch) -> dict[str, list[OrderRecord]]:
    """Bring in the other legs of the groups that orders of a batch lead; returns them by the ids of their leads."""
    led = sorted({str(one.order["group_id"]) for one in batch.entries.values() if one.order["leg"] in LEADS})
    return {legs[0].id: legs[1:] for legs in _together(batch, led)} if led else {}


def that_count(lead: OrderRecord, legs: Sequence[OrderRecord]) -> list[OrderRecord]:
    """Return an order with those legs behind it that count as orders of their own: each is judged as any order is."""
    return [lead, *(leg for leg in legs if not is_mere_exit(by_name(lead.order), by_name(leg.order)))]


def leg_rows(connection: Connection, ids: Sequence[str]) -> list[ReadableOrder]:
    """Return the legs of these groups that go where their leads go, in the order of their ids."""
    query = select(orders).where(orders.c.group_id.in_(ids), IS_FOLLOWER).order_by(orders.c.client_order_id)
    return fetch(connection, query, ReadableOrder)


def is_follower(order: Mapping[str, object]) -> bool:
    """Tell whether an order's row is a leg that goes where its lead goes."""
    return order["leg"] is not None and order["leg"] not in LEADS


def stands_alone(order: Mapping[str, object]) -> bool:
    """Tell whether an order's row is a leg that no other leg waits for: an order in its place is that leg."""
    return order["leg"] is not None and (
        is_follower(order) or order["leg"] in EXCLUSIVE[GroupKind(str(order["group_kind"]))]
    )


def keep_together(batch: OrderBatch) -> None:
    """Let the legs of every group that this batch has touched stand as the tables of this module say."""
    touched = {
        entry.order["group_id"]
        for entry in batch.entries.values()
        if entry.order["group_id"] is not None and (entry.changed or entry.changed_attempts or entry.new_attempts)
    }
    for legs in _together(batch, sorted(map(str, touched))) if touched else ():
        lead = legs[0]
        _end_what_is_not_whole(legs)
        for leg in legs[1:]:
            _stand_where(lead, leg)
        _say_how_it_is(legs)


def _together(batch: OrderBatch, ids: Sequence[str | None]) -> list[list[OrderRecord]]:
    """Return the legs of groups, each with its lead first; what is not in the batch yet is locked and read."""
    groups: dict[str | None, list[OrderRecord]] = {}
    rows = _LOCKED.rows(batch.connection, ids=[id_ for id_ in ids if id_ is not None])
    batch.add([row for row in rows if batch.get(row["client_order_id"]) is None])
    for row in rows:
        if (entry := batch.entries.get(row["client_order_id"])) is not None:
            groups.setdefault(row["group_id"], []).append(entry)
    return [sorted(legs, key=lambda leg: (leg.order["leg"] not in LEADS, leg.id)) for legs in groups.values()]


def leg_state(row: ReadableOrder, outcome: Outcome | None = None) -> LegState:
    """Return a leg as its row has it; `outcome`: of its newest attempt, where somebody asks for that."""
    return LegState(
        leg=str(row["leg"]),
        status=Status(row["status"]),
        quantity=row["quantity"] or Decimal(0),
        filled=row["filled_quantity"],
        outcome=outcome,
        cancel_at=row["cancel_requested_at"],
        ended_at=row["closed_at"],
    )


def _state(entry: OrderRecord) -> LegState:
    lived = any(attempt["outcome"] == Outcome.ACCEPTED for attempt in entry.attempts.values())
    return leg_state(
        entry.order, Outcome.ACCEPTED if lived else Outcome(entry.current["outcome"]) if entry.current else None
    )


def states_of(legs: Sequence[OrderRecord]) -> list[LegState]:
    """Return the legs of a group as the record has them; the lead is the first."""
    lead = by_name(legs[0].order)
    return [replace(_state(leg), is_exit=is_mere_exit(lead, by_name(leg.order))) for leg in legs]


def _end_what_is_not_whole(legs: Sequence[OrderRecord]) -> None:
    """What ends one leg before anything of its group has left ends the others."""
    for leg in legs:
        if leg.status in UNSENT and is_asked_for(leg):
            leg.happen(Fact.CANCELED, detail="canceled before it was sent")
    ended = next((leg for leg in legs if leg.status in TERMINAL and not _state(leg).has_lived), None)
    waiting = [leg for leg in legs if leg.status in UNSENT]
    if ended is not None and len(waiting) == sum(leg.status not in TERMINAL for leg in legs):
        for leg in waiting:
            _end_like(ended, leg)


def _stand_where(lead: OrderRecord, leg: OrderRecord) -> None:
    """Have a leg that has not lived stand where its lead stands."""
    if leg.status in TERMINAL:
        return
    lead_has_lived = _state(lead).has_lived
    lead_never_was = lead.status in TERMINAL and not lead_has_lived
    if _state(leg).has_lived:
        if lead_never_was:
            cancel(leg, f"it must not stand without the {lead.order['leg']} of its group: {lead.status}")
        return
    _settle_like(lead, leg)
    if lead.status in UNSENT:
        _wait_like(lead, leg)
    elif lead_never_was:
        _end_like(lead, leg)
    elif lead_has_lived and leg.current is not None and leg.current["outcome"] in _GONE:
        words = str(leg.current["message"] or leg.current["outcome"])
        fact = Fact.REJECTED if leg.current["outcome"] == Outcome.REFUSED else Fact.CANCELED
        leg.happen(fact, attempt_no=leg.order["attempt_no"], detail=words)


def _wait_like(lead: OrderRecord, leg: OrderRecord) -> None:
    """Have a leg wait where its lead waits, as long, and for the same reason."""
    row, words = lead.order, f"with the {lead.order['leg']} of its group"
    if leg.status is Status.SUBMITTED:
        leg.happen(Fact.REQUEUED, attempt_no=leg.order["attempt_no"], detail=words)
    elif leg.status is Status.HELD and lead.status is Status.QUEUED:
        leg.happen(Fact.RELEASED, detail=words)
    if leg.status not in UNSENT:
        return
    if destination_of(leg.order) != destination_of(row):
        leg.note("moved", f"to {destination_of(row)} {words}")
    if _place(leg) != _place(lead):
        leg.set(broker=row["broker"], account=row["account"], broker_order_id=None, broker_status=None)
        leg.set(available_at=row["available_at"], expires_at=row["expires_at"])
        leg.set(reason=row["reason"], held_for=row["held_for"], reason_code=row["reason_code"])


def _place(entry: OrderRecord) -> tuple[object, ...]:
    row, names = by_name(entry.order), ("available_at", "expires_at", "reason", "held_for", "reason_code")
    return (destination_of(row), *(row[name] for name in names))


def _settle_like(lead: OrderRecord, leg: OrderRecord) -> None:
    """End a leg's attempt as that of its lead has ended: both went in one message, and nothing of it has lived."""
    theirs, mine = lead.current, leg.current
    if theirs is None or mine is None or mine["outcome"] not in _UNDECIDED:
        return
    if destination_of(mine) != destination_of(theirs):
        return
    if theirs["outcome"] in (Outcome.SENDING, Outcome.ACCEPTED, mine["outcome"]):
        return
    number = leg.order["attempt_no"]
    leg.set_attempt(number, outcome=theirs["outcome"], code=theirs["code"], message=theirs["message"])
    leg.set_attempt(number, ended_at=theirs["ended_at"], next_check_at=theirs["next_check_at"])
    leg.note(str(theirs["outcome"]), f"attempt {number} at {mine['broker']}, with the {lead.order['leg']} of its group")


def _end_like(ended: OrderRecord, leg: OrderRecord) -> None:
    words = f"with the {ended.order['leg']} of its group: {ended.order['reason'] or ended.status}"
    fact = _ENDS.get(ended.status, Fact.CANCELED)
    if leg.happen(fact, attempt_no=leg.order["attempt_no"], detail=words).changed:
        leg.set(reason_code=ended.order["reason_code"])


# -- HOW IT IS ---
def _say_how_it_is(legs: Sequence[OrderRecord]) -> None:
    """Write where the group stands; what is wrong with it is an event of its lead, and said loudly, once."""
    lead, states = legs[0], states_of(legs)
    kind = GroupKind(str(lead.order["group_kind"]))
    status, wrong = status_of(kind, states), troubles(kind, states)
    told = "; ".join(trouble.words for trouble in wrong) or None
    if status is GroupStatus.CLOSED:
        told = why_closed(states, [leg.order["reason"] for leg in legs])
    connection, now, g = lead.batch.connection, lead.now, order_groups.c
    is_other: ColumnElement[bool] = g.status.is_distinct_from(str(status)) | g.reason.is_distinct_from(told)
    if status is GroupStatus.BROKEN and _is_settled(legs, mark_of(wrong, states)):
        status, told = GroupStatus.CLOSED, f"{told}; that has been dealt with"
        is_other = g.status != str(status)  # else it has the person's own words
    else:
        for trouble in wrong:
            _say(trouble, legs)
    news = {"status": str(status), "reason": told, "closed_at": now if status in _CLOSED else None, "updated_at": now}
    connection.execute(update(order_groups).where(g.group_id == lead.order["group_id"], is_other).values(**news))


def _is_settled(legs: Sequence[OrderRecord], mark: str | None) -> bool:
    """Tell whether a person has dealt with just this trouble of a group that is over."""
    if any(leg.status not in TERMINAL for leg in legs):
        return False
    known = select(order_groups.c.settled).where(order_groups.c.group_id == legs[0].order["group_id"])
    return bool(legs[0].batch.connection.execute(known).scalar() == mark)


def _say(trouble: GroupTrouble, legs: Sequence[OrderRecord]) -> None:
    """Note a trouble on the lead, and tell it loudly, once for the same words."""
    lead, said = legs[0], len(legs[0].events)
    lead.note_once(trouble.kind, trouble.words)
    if len(lead.events) == said:
        return
    about = {"group_id": lead.order["group_id"], "broker": lead.order["broker"], "why": trouble.words}
    log.error("group_broken", kind=trouble.kind, orders=[leg.id for leg in legs], **about)
    if trouble.kind == OVERFILLED:
        _lock(legs, trouble.words)
    if trouble.kind == PARTIAL:
        cancel(lead, f"it must not stand alone: {trouble.words}")


def _lock(legs: Sequence[OrderRecord], words: str) -> None:
    """Lock the symbol at the broker that filled too much until a person unlocks it: nothing is sent to repair it."""
    row = legs[-1].order
    connection, now = legs[0].batch.connection, legs[0].now
    lock: dict[str, object] = {"symbol": row["symbol"], "expected": 0, "found": 0, "since": now, "read_at": now}
    lock |= {"broker": destination_of(row), "note": words}
    connection.execute(upsert(connection, position_locks).on_conflict_do_nothing(), [lock])
