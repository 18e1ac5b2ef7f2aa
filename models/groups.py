"""Linked orders: what a group is, and what the states of its legs make of it. Pure.

| kind    | legs                          | what its broker does                                        |
|---------|-------------------------------|-------------------------------------------------------------|
| bracket | entry, take_profit, stop_loss | both exits wait for the entry; one filled cancels the other |
| oco     | first, second                 | both work at once; one filled cancels the other             |
| oto     | first, then                   | the second one waits for the first                          |

The link is the broker's own, so a broker that has none takes no group. A group goes to its broker as one: its first leg
is the *lead*, which is claimed, sent, routed and looked for like any order, and takes the others along. As long as
nothing of a group has lived, its legs stand where the lead stands; from then on each has a life of its own, which its
broker tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from models.encoding import plain
from models.explaining import shown
from models.vocabulary import CLOSING, LIVE, OPEN, TERMINAL, UNSENT, OrderType, Outcome, Side, Status, signed

if TYPE_CHECKING:
    from models.messages import OrderRequest

_ZERO = Decimal(0)


class GroupKind(StrEnum):
    """How orders are linked."""

    BRACKET = "bracket"
    OCO = "oco"
    OTO = "oto"


class GroupStatus(StrEnum):
    """Where a group stands, by its legs."""

    #: No leg has left.
    QUEUED = "queued"
    #: On its way: of a leg there is no answer yet.
    SUBMITTED = "submitted"
    #: Nobody knows of some leg what became of it.
    UNRESOLVED = "unresolved"
    #: At its broker, as it was asked for.
    LIVE = "live"
    #: Every leg has ended, and nothing is wrong with what is filled.
    CLOSED = "closed"
    #: What is left protects nothing, or more was filled than the link allows: see `GroupTrouble`.
    BROKEN = "broken"


#: The legs of each kind, the lead first.
LEGS: dict[GroupKind, tuple[str, ...]] = {
    GroupKind.BRACKET: ("entry", "take_profit", "stop_loss"),
    GroupKind.OCO: ("first", "second"),
    GroupKind.OTO: ("first", "then"),
}
LEADS = frozenset(legs[0] for legs in LEGS.values())
FOLLOWERS = frozenset(leg for legs in LEGS.values() for leg in legs[1:])
#: Legs that wait for the lead to be filled.
WAITING: dict[GroupKind, tuple[str, ...]] = {
    GroupKind.BRACKET: ("take_profit", "stop_loss"),
    GroupKind.OCO: (),
    GroupKind.OTO: ("then",),
}
#: Legs of which one alone may be filled.
EXCLUSIVE: dict[GroupKind, tuple[str, ...]] = {
    GroupKind.BRACKET: ("take_profit", "stop_loss"),
    GroupKind.OCO: ("first", "second"),
    GroupKind.OTO: (),
}
#: What closes the position that an entry opens; the other sides open none.
EXIT_SIDES: dict[Side, Side] = {Side.BUY: Side.SELL, Side.SELL_SHORT: Side.BUY_TO_COVER}
#: Columns in which a leg has to be as its lead is, to be in the same scopes.
SAME_SCOPES = ("symbol", "strategy", "key_id")
#: Ends that nobody wished.
_IN_VAIN = frozenset({Status.DENIED, Status.REJECTED, Status.EXPIRED})
_STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})


@dataclass(frozen=True, slots=True)
class Membership:
    """Which leg of which group an order is."""

    id: str
    kind: GroupKind
    leg: str

    @property
    def is_lead(self) -> bool:
        """Whether the others go where this one goes."""
        return self.leg in LEADS

    def __str__(self) -> str:
        return f"{self.leg} of {self.kind} {self.id}"

    def to_wire(self) -> dict[str, str]:
        """Return it as it travels."""
        return {"id": self.id, "kind": str(self.kind), "leg": self.leg}


def membership(value: object) -> Membership | None:
    """Read the field `group` of an order object.

    Raises:
        ValueError: it is none.
    """
    if value is None or isinstance(value, Membership):
        return value
    if not isinstance(value, Mapping) or set(value) != {"id", "kind", "leg"}:
        raise ValueError('must be {"id": ..., "kind": ..., "leg": ...}')
    id_, kind, leg = value["id"], value["kind"], value["leg"]
    if kind not in [str(known) for known in GroupKind]:
        raise ValueError(f"kind must be one of {', '.join(GroupKind)}, was {shown(kind)}")
    legs = LEGS[GroupKind(kind)]
    if leg not in legs:
        raise ValueError(f"leg of a group of kind {kind} must be one of {', '.join(legs)}, was {shown(leg)}")
    if not isinstance(id_, str):
        raise ValueError(f"id must be a text, was {shown(id_)}")
    return Membership(id_, GroupKind(kind), str(leg))


# -- WHAT A GROUP HAS TO BE ---
def why_not_whole(members: Sequence[Membership]) -> str | None:
    """Say what these legs of one group lack to be the whole of it; None if they are."""
    kinds, had = {member.kind for member in members}, sorted(member.leg for member in members)
    if len(kinds) != 1:
        return f"group {members[0].id}: its legs name {len(kinds)} kinds"
    (kind,) = kinds
    if had != sorted(LEGS[kind]):
        return f"group {members[0].id}: a group of kind {kind} has the legs {', '.join(LEGS[kind])}, had {had}"
    return None


def split_group(bodies: object) -> str | None:
    """Say which group of a message's order objects lacks a leg; None where each is whole, or cannot be read.

    Args:
        bodies: as they came, from anybody.
    """
    groups: dict[str, list[Membership]] = {}
    for body in bodies if isinstance(bodies, list) else ():
        with suppress(ValueError):
            if isinstance(body, dict) and (linked := membership(body.get("group"))) is not None:
                groups.setdefault(linked.id, []).append(linked)
    return next((words for members in groups.values() if (words := why_not_whole(members))), None)


def objection(orders: Sequence[OrderRequest]) -> str | None:
    """Say why orders with fields `group` are no complete groups that any broker could take; None where they are.

    Args:
        orders: of one message, or of one call; those without the field do not count.
    """
    groups: dict[str, dict[str, OrderRequest]] = {}
    owners: dict[str, OrderRequest] = {}
    for order in orders:
        if order.group is not None and (other := owners.setdefault(order.client_order_id, order)).group != order.group:
            return f"group {order.group.id}: two orders have the client_order_id {other.client_order_id}"
        if (
            order.group is not None
            and groups.setdefault(order.group.id, {}).setdefault(order.group.leg, order) != order
        ):
            return f"group {order.group.id}: it has two legs {order.group.leg}"
    found = (
        why_not_whole([o.group for o in legs.values() if o.group]) or _unfit(id_, legs) for id_, legs in groups.items()
    )
    return next((words for words in found if words), None)


def _unfit(id_: str, legs: Mapping[str, OrderRequest]) -> str | None:
    """Say what speaks against the terms of a whole group."""
    for name in ("route", "account", "strategy", "not_before", "session"):
        if len({getattr(order, name) for order in legs.values()}) > 1:
            return f"group {id_}: its legs differ in {name}, and go as one"
    return _unfit_bracket(id_, legs) if "entry" in legs else None


_EXITS_CLOSE = "the entry of a bracket is a buy and its exits sell, or it is a sell_short and they buy_to_cover"


def _unfit_bracket(id_: str, legs: Mapping[str, OrderRequest]) -> str | None:
    entry, target, stop = (legs[name] for name in LEGS[GroupKind.BRACKET])
    for exit_ in (target, stop):
        if exit_.symbol != entry.symbol or exit_.quantity != entry.quantity:
            had = f"{exit_.quantity} {exit_.symbol}"
            return f"group {id_}: the exits of a bracket have the symbol and the quantity of its entry, was {had}"
        if exit_.side != EXIT_SIDES.get(entry.side):
            return f"group {id_}: {_EXITS_CLOSE}, they were {entry.side} and {exit_.side}"
    if target.order_type is not OrderType.LIMIT or stop.order_type not in _STOPS:
        return f"group {id_}: a take_profit is a limit order, a stop_loss a stop or a stop_limit order"
    assert target.limit_price is not None
    assert stop.stop_price is not None
    if (target.limit_price - stop.stop_price) * signed(entry.side) <= 0:
        where, had = "above" if signed(entry.side) > 0 else "below", f"{target.limit_price:f} and {stop.stop_price:f}"
        return f"group {id_}: the take_profit has to lie {where} the stop_loss, they were {had}"
    return None


def exit_side(entry: Side) -> Side:
    """Return the side that closes what an entry opens."""
    return Side.SELL if signed(entry) > 0 else Side.BUY_TO_COVER


def is_mere_exit(lead: Mapping[str, Any], leg: Mapping[str, Any]) -> bool:
    """Tell whether a leg does nothing beside its lead but close what that opens, or close in its place.

    | the leg                                        | beside its lead it counts as                     |
    |------------------------------------------------|--------------------------------------------------|
    | waits for the lead, and closes what that opens | nothing: limits, controls and positions are the lead's |
    | excludes the lead, and both close              | nothing                                          |
    | anything else, in symbol, side, size, owner    | an order of its own                              |

    Args:
        lead: its row.
        leg: the row of another leg of its group.
    """
    waits = leg["leg"] in WAITING[GroupKind(leg["group_kind"])]
    side = EXIT_SIDES.get(Side(lead["side"])) if waits else Side(lead["side"])
    same = all(lead[name] == leg[name] for name in SAME_SCOPES)
    sized = None not in (lead["quantity"], leg["quantity"])
    return bool(same and sized and side in CLOSING and leg["side"] == side and leg["quantity"] <= lead["quantity"])


# -- WHAT ITS LEGS MAKE OF IT ---
@dataclass(frozen=True, slots=True)
class LegState:
    """A leg as the record has it."""

    leg: str
    status: Status
    quantity: Decimal
    filled: Decimal = _ZERO
    #: Of its newest attempt; None before the first.
    outcome: Outcome | None = None
    #: It does nothing but close what the lead opens.
    is_exit: bool = True
    #: When somebody wished its end, and when it ended.
    cancel_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def has_lived(self) -> bool:
        """Its broker had it, or has filled of it."""
        return self.outcome is Outcome.ACCEPTED or bool(self.filled)

    @property
    def end(self) -> str:
        """How it stands, and whether somebody asked for that, for a person."""
        asked = self.status is Status.CANCELED and self.cancel_at is not None
        return f"{self.leg} {self.status}{', as somebody asked' if asked else ''}"


@dataclass(frozen=True, slots=True)
class GroupTrouble:
    """What is wrong with a group that its broker has: the kind of the event, and the words for a person."""

    kind: str
    words: str


#: Kinds of `GroupTrouble`.
OVERFILLED, UNPROTECTED, PARTIAL, OVERCLOSED = "overfilled", "unprotected", "group_partial", "overclosed"


def troubles(kind: GroupKind, legs: Iterable[LegState]) -> list[GroupTrouble]:
    """Return what is wrong with a group.

    | event         | because                                                                                      |
    |---------------|----------------------------------------------------------------------------------------------|
    | overfilled    | of legs that exclude each other more is filled than one alone has: only its broker can do so |
    | unprotected   | part of the lead is filled, no exit of it is open, and they have filled less                 |
    | overclosed    | every leg has ended, and the exits have filled more than the lead: busts can do so             |
    | group_partial | the lead is open, or filled with another leg open, and a leg that belongs to it is not there |
    |               | nothing of the lead is filled, and its exits have ended, without a wish to end the lead      |
    """
    by_name = {leg.leg: leg for leg in legs}
    much = _overfilled(kind, by_name) or _overclosed(kind, by_name)
    found = [much, _unprotected(kind, by_name), _partial(kind, by_name) or _bare(kind, by_name)]
    return [trouble for trouble in found if trouble is not None]


def mark_of(wrong: Sequence[GroupTrouble], legs: Iterable[LegState]) -> str | None:
    """Return by what a trouble is known again: its kinds, and how much is filled of each leg; None where there is none.

    Words change, with a leg's end and from one version to the next; another trouble of a group that is over has other
    figures.
    """
    filled = ", ".join(f"{leg.leg} {plain(leg.filled)}" for leg in sorted(legs, key=lambda leg: leg.leg))
    return f"{' and '.join(sorted(trouble.kind for trouble in wrong))}: {filled}" if wrong else None


def _overfilled(kind: GroupKind, legs: Mapping[str, LegState]) -> GroupTrouble | None:
    exclusive = [legs[name] for name in EXCLUSIVE[kind] if name in legs]
    if sum(bool(leg.filled) for leg in exclusive) < 2 or sum(leg.filled / leg.quantity for leg in exclusive) <= 1:
        return None
    told = " and ".join(f"{plain(leg.filled)} of {plain(leg.quantity)} of the {leg.leg}" for leg in exclusive)
    return GroupTrouble(OVERFILLED, f"its broker filled {told}, which exclude each other")


def _unprotected(kind: GroupKind, legs: Mapping[str, LegState]) -> GroupTrouble | None:
    lead, exits = legs.get(LEGS[kind][0]), _exits(kind, legs)
    if lead is None or not exits or not lead.filled or any(leg.status in OPEN for leg in exits):
        return None
    closed, meant = sum((leg.filled for leg in exits), _ZERO), max(leg.quantity for leg in exits)
    if closed >= min(lead.filled, meant):
        return None
    ends = ", ".join(leg.end for leg in exits)
    open_ = plain(min(lead.filled, meant) - closed)
    return GroupTrouble(
        UNPROTECTED, f"{plain(lead.filled)} of the {lead.leg} are filled, and nothing closes {open_}: {ends}"
    )


def _overclosed(kind: GroupKind, legs: Mapping[str, LegState]) -> GroupTrouble | None:
    """Shares of an entry that were taken back when its exits had filled: what is left is a position the other way."""
    lead, exits = legs.get(LEGS[kind][0]), _exits(kind, legs)
    closed = sum((leg.filled for leg in exits), _ZERO)
    if lead is None or closed <= lead.filled or any(leg.status not in TERMINAL for leg in (lead, *exits)):
        return None
    told = " and ".join(f"{plain(leg.filled)} of the {leg.leg}" for leg in exits if leg.filled)
    words = f"{told} are filled, and {plain(lead.filled)} of the {lead.leg}"
    return GroupTrouble(OVERCLOSED, f"{words}: {plain(closed - lead.filled)} are held the wrong way")


def _exits(kind: GroupKind, legs: Mapping[str, LegState]) -> list[LegState]:
    """Return the legs that are to close what the lead opens."""
    return [legs[name] for name in WAITING[kind] if name in legs and legs[name].is_exit]


def _bare(kind: GroupKind, legs: Mapping[str, LegState]) -> GroupTrouble | None:
    """An entry that waits to be filled while nothing waits to close it; what expires ends the entry as well."""
    lead, exits = legs.get(LEGS[kind][0]), _exits(kind, legs)
    if lead is None or not exits or lead.filled or lead.status not in LIVE:
        return None
    if any(leg.status not in TERMINAL for leg in exits) or all(leg.status is Status.EXPIRED for leg in exits):
        return None
    if lead.cancel_at is not None and all(leg.ended_at and lead.cancel_at <= leg.ended_at for leg in exits):
        return None  # they end with it
    ends = ", ".join(leg.end for leg in exits)
    return GroupTrouble(PARTIAL, f"the {lead.leg} is {lead.status}, and nothing is open that would close it: {ends}")


def _partial(kind: GroupKind, legs: Mapping[str, LegState]) -> GroupTrouble | None:
    lead = legs.get(LEGS[kind][0])
    others = [leg for leg in legs.values() if leg is not lead]
    gone = [leg for leg in others if leg.status in TERMINAL and not leg.has_lived]
    if lead is None or not gone or not lead.has_lived:
        return None
    closes = any(leg.status in OPEN for leg in others if leg.leg in WAITING[kind])
    if not (closes if lead.filled and WAITING[kind] else lead.status in LIVE):
        return None
    return GroupTrouble(
        PARTIAL, f"the {lead.leg} is at its broker without the {' and the '.join(leg.leg for leg in gone)}"
    )


def status_of(kind: GroupKind, legs: Sequence[LegState]) -> GroupStatus:
    """Return where a group stands.

    | the first that is true                           | status     |
    |--------------------------------------------------|------------|
    | of an open leg nobody knows what became of it    | unresolved |
    | there is trouble                                 | broken     |
    | every leg has ended                              | closed     |
    | no leg has left                                  | queued     |
    | every leg that has not ended is at its broker    | live       |
    | else                                             | submitted  |
    """
    if any(leg.outcome is Outcome.UNKNOWN and leg.status in OPEN for leg in legs):
        return GroupStatus.UNRESOLVED
    if troubles(kind, legs):
        return GroupStatus.BROKEN
    if all(leg.status in TERMINAL for leg in legs):
        return GroupStatus.CLOSED
    if all(leg.status in UNSENT or leg.status in TERMINAL for leg in legs) and not any(leg.has_lived for leg in legs):
        return GroupStatus.QUEUED
    lives = all(leg.has_lived for leg in legs if leg.status not in TERMINAL)
    return GroupStatus.LIVE if lives else GroupStatus.SUBMITTED


def why_closed(legs: Sequence[LegState], reasons: Sequence[str | None]) -> str | None:
    """Say why a group of which nothing was filled came to nothing; None where somebody wished so, or it did.

    Args:
        legs: the lead first.
        reasons: why each of them has ended.
    """
    if any(leg.filled for leg in legs):
        return None
    ended = zip(legs, reasons, strict=True)
    return next((f"{leg.status}: {why or 'no reason is known'}" for leg, why in ended if leg.status in _IN_VAIN), None)
