"""What is filled of an entry whose exits are gone gets exits of its own: `[groups] on_partial = "protect"`.

| the group                                                        | what follows                                   |
|------------------------------------------------------------------|------------------------------------------------|
| a leg of it has not ended                                        | wait                                           |
| somebody has wished the end of an exit                           | nothing: it was meant so                       |
| it ended longer ago than `_LATELY`                               | nothing: a person has been told                |
| its broker does not show the position, or it is locked           | wait                                           |
| it is a bracket, and exits have closed less than the entry opened | an oco of the two exits, for what is open, once |

The oco is a group of its own under an id that follows from the entry's, so whoever records it a second time finds it
there. It is claimed like any order that closes: sent where its broker holds the position, and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import structlog
from sqlalchemy import select

from models.destinations import destination_of
from models.errors import CorroError, IdempotencyConflict
from models.groups import EXCLUSIVE, LEGS, UNPROTECTED, GroupKind, GroupStatus, Membership, troubles
from models.messages import OrderRequest
from models.record.batch import OrderBatch
from models.record.destinations import is_behind
from models.record.groups import IS_FOLLOWER, leg_state
from models.record.holders import positions_shown
from models.record.intake import request_of
from models.record.rows import ReadableOrder
from models.record.statements import fetch
from models.record.tables import order_groups, orders, position_locks
from models.settings import Settings
from models.vocabulary import TERMINAL, Side, signed
from worker.brokers.base import BrokerInterface
from worker.orders.batches import Batches
from worker.orders.own import OwnOrders
from worker.positions.reading import PositionReader
from worker.runtime.clock import utcnow

log = structlog.get_logger()

#: So long after a group has ended something is done about it: later it may be on a person's screen.
_LATELY = timedelta(minutes=15)
_ZERO = Decimal(0)


class Protections:
    """Protects what is left open at one broker.

    Args:
        settings: whether it is wished at all.
        broker: the adapter.
        batches: for transactions and what follows.
        positions: reads the positions there.
        own: records the exits.
    """

    def __init__(
        self, settings: Settings, broker: BrokerInterface, batches: Batches, positions: PositionReader, own: OwnOrders
    ) -> None:
        self.is_wished = settings.groups.on_partial == "protect" and GroupKind.OCO in broker.capabilities.groups
        self.broker, self.batches, self.database, self.positions = broker, batches, batches.database, positions
        self.own = own

    def look(self) -> None:
        """Record an oco for each group that needs one and has none."""
        if not self.is_wished or not (found := self._unprotected()):
            return
        unread = self.positions.read_anew()
        with self.database.read() as connection:
            shown = {at: positions_shown(connection, at) for at in {destination_of(legs[0]) for legs in found}}
            p, mine = position_locks.c, is_behind(position_locks.c.broker, self.broker.name)
            locked = {(at, symbol) for at, symbol in connection.execute(select(p.broker, p.symbol).where(mine))}
        for legs in found:
            entry, open_, at = legs[0], open_of(legs), destination_of(legs[0])
            held = shown[at].get(entry["symbol"], _ZERO) * signed(Side(entry["side"]))
            if entry["symbol"] in unread or (at, entry["symbol"]) in locked or held < open_:
                continue
            self._protect(legs, open_)

    def _unprotected(self) -> list[list[ReadableOrder]]:
        """Return the brackets, the entry first, that need exits and have none of this kind yet."""
        g, o = order_groups.c, orders.c
        ended = select(o.group_id).where(o.closed_at > utcnow() - _LATELY, o.group_id.is_not(None))
        lately = select(g.group_id).where(
            g.kind == str(GroupKind.BRACKET), g.status == str(GroupStatus.BROKEN), g.group_id.in_(ended)
        )
        with self.database.read() as connection:
            query = select(orders).where(o.group_id.in_(lately)).order_by(IS_FOLLOWER, o.client_order_id)
            groups: dict[str | None, list[ReadableOrder]] = {}
            for row in fetch(connection, query, ReadableOrder):
                groups.setdefault(row["group_id"], []).append(row)
            needy = [legs for legs in groups.values() if legs[0]["broker"] == self.broker.name and needs_exits(legs)]
            ids = {protective_id(legs[0]["client_order_id"]) for legs in needy}
            there = set(connection.execute(select(o.client_order_id).where(o.client_order_id.in_(ids))).scalars())
        return [legs for legs in needy if protective_id(legs[0]["client_order_id"]) not in there]

    def _protect(self, legs: Sequence[ReadableOrder], open_: Decimal) -> None:
        entry, requests = legs[0], protective(legs, open_, destination_of(legs[0]))
        id_ = requests[0].client_order_id
        try:
            self.own.must_be_vouched_for(legs)
            self.own.record(requests)
        except IdempotencyConflict:
            return  # another leader was first
        except CorroError as error:
            log.error("not_protected", client_order_id=entry["client_order_id"], error=str(error))
            return
        words = f"an oco {id_} closes {open_:f} {entry['symbol']}, which the exits of this group left open"
        log.warning("protected", client_order_id=entry["client_order_id"], broker=self.broker.name, why=words)

        def note(batch: OrderBatch) -> None:
            batch[entry["client_order_id"]].note("protected", words)

        self.batches.change([entry["client_order_id"]], note)


def open_of(legs: Sequence[ReadableOrder]) -> Decimal:
    """Return how much of an entry, the first of these, its exits have not closed."""
    return legs[0]["filled_quantity"] - sum((leg["filled_quantity"] for leg in legs[1:]), _ZERO)


def needs_exits(legs: Sequence[ReadableOrder]) -> bool:
    """Tell whether a bracket is unprotected for good, and not because somebody wished so."""
    states = list(map(leg_state, legs))
    if len(legs) != len(LEGS[GroupKind.BRACKET]) or any(state.status not in TERMINAL for state in states):
        return False
    wished = any(leg["cancel_requested_at"] is not None for leg in legs[1:])
    return not wished and UNPROTECTED in [trouble.kind for trouble in troubles(GroupKind.BRACKET, states)]


def protective(legs: Sequence[ReadableOrder], quantity: Decimal, where: str) -> list[OrderRequest]:
    """Return the exits of a bracket anew, as an oco for so many, where its entry is alone."""
    by_leg = {leg["leg"]: leg for leg in legs}
    id_, now = protective_id(legs[0]["client_order_id"]), utcnow()
    found = []
    exits = EXCLUSIVE[GroupKind.BRACKET]
    for of, leg, own in zip(exits, LEGS[GroupKind.OCO], (id_, f"{id_}.sl"), strict=True):
        terms = request_of(by_leg[of]).to_wire()
        terms |= {"client_order_id": own, "quantity": quantity, "route": [where], "created_at": now}
        terms |= {"expires_at": None, "version": 2, "group": Membership(id_, GroupKind.OCO, leg)}
        found.append(OrderRequest(**terms))
    return found


def protective_id(entry_id: str) -> str:
    """Return the id of the oco that protects what an entry left open: always the same, so it is recorded once."""
    ending, longest = ".protect", 64 - len(".protect.sl")
    if len(entry_id) <= longest:
        return f"{entry_id}{ending}"
    digest = hashlib.sha256(entry_id.encode()).hexdigest()[:16]
    return f"{entry_id[: longest - len(digest) - 1]}.{digest}{ending}"
