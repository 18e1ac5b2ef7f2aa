"""Cancel orders at the broker: those somebody wants canceled, and those that should not be there.

A cancel that was requested is a wish on the row; asking the broker may be repeated until it has an effect, because a
cancel of an order that is gone changes nothing. "Requested" is not "canceled": the end is what the broker reports.

Cancels go out like orders: many at a time, each with its own outcome, waiting for their turn in the account's budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy import ColumnElement, Connection, RowMapping, exists, or_, select

from models.errors import AccessLost, BrokerError, NotSent, OutcomeUnknown
from models.lifecycle import Fact
from models.record.batch import OrderBatch
from models.record.database import Database
from models.record.evidence import LOST_AFTER
from models.record.order import OrderRecord
from models.record.steps import journal_of
from models.record.tables import STRAY, attempts, order_events, orders
from models.reports import Missing, Sighting
from models.vocabulary import LIVE, Status
from worker.brokers.base import BrokerInterface, OrderRef
from worker.orders.batches import Batches
from worker.orders.catch_up import CatchUp, readable
from worker.orders.command import Command
from worker.orders.deputies import Deputies
from worker.orders.under_way import UnderWay
from worker.orders.vouching import Vouching, be_as_asked
from worker.orders.way import Permit, Way
from worker.orders.windows import Pauses
from worker.runtime.clock import elapsed, utcnow
from worker.runtime.said import Said

log = structlog.get_logger()

#: A cancel that had no effect is sent again after pauses from this to that, seconds; one of a stray no later than that.
_AGAIN_S, _LONGEST_S, _STRAY_S = 10.0, 600.0, 60.0
#: A cancel waits so long for its turn in the account's budget; then the next look at the wishes takes it up.
_PATIENCE_S = 30.0

#: What an answer to a cancel is called in the events of its order.
_ANSWERS: tuple[tuple[type[BrokerError], str], ...] = (
    (OutcomeUnknown, "cancel_unknown"),
    (NotSent, "cancel_not_sent"),
    (BrokerError, "cancel_refused"),
)
#: client_order_id and attempt_no.
Stray = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Wish:
    """A cancel that is wanted of a live order."""

    ref: OrderRef
    entry: None = None

    @property
    def id(self) -> str:
        """The client_order_id."""
        return self.ref.order.client_order_id


class Cancels(Command[Wish, None]):
    """Cancels at one broker.

    Args:
        database: the record.
        broker: the adapter.
        batches: for transactions.
        way: to the broker.
        readings: read an order again whose cancel was refused.
        deputies: whose work a cancel is.
        vouching: knows whether rows have to be held against the journal.
    """

    event = "cancel_not_recorded"

    def __init__(
        self,
        database: Database,
        broker: BrokerInterface,
        batches: Batches,
        way: Way,
        readings: CatchUp,
        deputies: Deputies,
        vouching: Vouching,
    ) -> None:
        self.vouching = vouching
        self.database, self.broker, self.batches = database, broker, batches
        self.way, self.readings, self.deputies = way, readings, deputies
        #: Orders whose cancel is on its way from this process: a message and the regular look may meet.
        self._under_way = UnderWay()
        self._said = Said(broker.name)
        #: By client_order_id and the broker's id: a replace makes another order, which is asked for anew.
        self._pauses, self._stray_pauses = Pauses(_AGAIN_S, _LONGEST_S), Pauses(_AGAIN_S, _STRAY_S)

    def carry_out(self, ids: Sequence[str] | None = None) -> None:
        """Ask the broker to cancel live orders whose cancel was requested and not yet sent, as far as they are ours.

        Args:
            ids: only these, at once; None means all that are due, also those whose cancel was sent long ago without
                effect.
        """
        if self.vouching.reader.required() != "off":
            self._follow_journal(ids)
        self._tell_of_altered(ids)
        now, looked_at = utcnow(), elapsed()
        due = [
            orders.c.cancel_requested_at.is_not(None),
            or_(
                orders.c.cancel_sent_at.is_(None),
                orders.c.cancel_sent_at < now - timedelta(seconds=_AGAIN_S),
                orders.c.cancel_sent_at > now + timedelta(seconds=_AGAIN_S),  # by a clock that was wrong, or by nobody
            ),
            attempts.c.missing < LOST_AFTER,  # what no listing has any more is a question, and no daily refusal
        ]
        if ids is not None:
            due.append(orders.c.client_order_id.in_(list(ids)))
        with self.database.read() as connection:
            live = self.readings.live(connection, *due)
        if ids is None:
            live = [ref for ref in live if self._pauses.is_over(_key(ref), elapsed())]
        mine = self.deputies.mine(((ref.session, Wish(ref)) for ref in live), free=ids is not None)
        for session, wishes in mine.items():
            with self._under_way.taken([wish.id for wish in wishes], looked_at) as free:
                taken = [wish for wish in wishes if wish.id in free]
                send = partial(self.way.send, self, taken)
                self.deputies.carry_out("cancel", session, [wish.id for wish in taken], send)

    def _sent(self, ids: Sequence[str] | None, *which: ColumnElement[bool]) -> list[str]:
        """Return the orders at this broker, of these ones or of all, that were sent and for which conditions hold."""
        o = orders.c
        sent = o.status.in_([str(status) for status in (*LIVE, Status.SUBMITTED)])
        query = select(o.client_order_id).where(o.broker == self.broker.name, sent, *which)
        if ids is not None:
            query = query.where(o.client_order_id.in_(list(ids)))
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    def _follow_journal(self, ids: Sequence[str] | None) -> None:
        """Set right which live orders are to be canceled: where there are keys, the journal's word counts."""
        o, e = orders.c, order_events.c
        told = exists().where(e.client_order_id == o.client_order_id, e.kind == "cancel_requested")
        found = self._sent(ids, told != o.cancel_requested_at.is_not(None))

        def work(batch: OrderBatch) -> None:
            for id_, journaled in journal_of(batch.connection, batch.entries).items():
                log.error("cancel_wish_forged", client_order_id=id_)
                be_as_asked(batch[id_], journaled)

        if found:
            self.batches.change(found, work)

    def _tell_of_altered(self, ids: Sequence[str] | None) -> None:
        """Say of which orders no cancel can go out: their rows name an attempt that they were never at."""
        o, a = orders.c, attempts.c
        at_it = exists().where(a.client_order_id == o.client_order_id, a.attempt_no == o.attempt_no)
        found = self._sent(ids, o.cancel_requested_at.is_not(None), ~at_it)

        def work(batch: OrderBatch) -> None:
            for id_ in batch.entries:
                number = batch[id_].order["attempt_no"]
                self._said.once("row_altered", client_order_id=id_, attempt_no=number)
                why = f"its row was changed by hand: it names attempt {number}, that it was never at: `corro db verify`"
                batch[id_].note_once("cancel_not_sent", why, among=[kind for _, kind in _ANSWERS])

        if found:
            self.batches.change(found, work)

    # -- THE COMMAND ---
    def send(self, item: Wish, permit: Permit) -> None:
        """Ask the broker to cancel one order; neither a halt nor an old claim forbids that."""
        permit.in_turn(partial(self.broker.cancel_order, item.ref), _PATIENCE_S)

    def counts(self, answer: BrokerError | None) -> bool:
        """A cancel that was not sent is still wanted; one that is refused as if everything were is told."""
        return not isinstance(answer, NotSent) or isinstance(answer, AccessLost)

    def settle(self, entry: OrderRecord, item: Wish, answer: BrokerError | None) -> None:
        """Record that the broker was asked, and what it said: the same words once, however often they come."""
        if not isinstance(answer, NotSent):
            entry.set(cancel_sent_at=entry.now)
            entry.waits_no_more()
        if answer is None:
            entry.happen(Fact.CANCEL_SENT, attempt_no=entry.order["attempt_no"])
            return
        kind = next(kind for error, kind in _ANSWERS if isinstance(answer, error))
        entry.note_once(kind, str(answer), among=[kind for _, kind in _ANSWERS])

    def follow(self, answers: Sequence[tuple[Wish, BrokerError | None]]) -> None:
        """Too late, or not known under this id: what it is now, only the broker can tell."""
        for wish, answer in answers:
            if self.counts(answer):
                self._pauses.begin(_key(wish.ref), elapsed())
            if isinstance(answer, NotSent):
                log.warning("cancel_not_sent", client_order_id=wish.id, error=str(answer))
        self.readings.look_again(
            [wish.ref for wish, answer in answers if answer is not None and not isinstance(answer, NotSent)]
        )

    # -- STRAYS ---
    def strays(self, *, told: bool = False) -> None:
        """Cancel orders that are alive on attempts which had been given up, as far as they are ours, until they end.

        Args:
            told: this worker has just seen one: what any connection may cancel, it need not leave to the leader.
        """
        looked_at = elapsed()
        with self.database.read() as connection:
            rows = self._strays(connection)
        found = {_stray(row): ref for row in rows if (ref := readable(row)) is not None}
        if not told:
            found = {stray: ref for stray, ref in found.items() if self._stray_pauses.is_over(_key(ref), elapsed())}
        mine = self.deputies.mine(((ref.session, (stray, ref)) for stray, ref in found.items()), free=told)
        for session, work in mine.items():
            with self._under_way.taken({id_ for (id_, _), _ in work}, looked_at) as ids:
                if ours := {stray: ref for stray, ref in work if stray[0] in ids}:
                    self._cancel_strays(session, ours)

    def _strays(self, connection: Connection) -> list[RowMapping]:
        """Return the orders that are due to be canceled as strays, each with its attempt."""
        o, a = orders.c, attempts.c
        query = (
            select(orders, attempts)
            .join_from(attempts, orders, a.client_order_id == o.client_order_id)
            .where(STRAY, a.broker == self.broker.name, a.stray_at <= utcnow())
        )
        return list(connection.execute(query).mappings())

    def _cancel_strays(self, session: str | None, strays: dict[Stray, OrderRef]) -> None:
        """Ask for the cancel of strays under the session that may do so, then look at what became of them."""
        log.error("stray_orders", broker=self.broker.name, orders=[f"{id_}, attempt {no}" for id_, no in strays])
        try:
            with self.deputies.acting_as(session):
                for (id_, _), ref in strays.items():
                    error = self.way.ask(self, Wish(ref))
                    self._stray_pauses.begin(_key(ref), elapsed())
                    if error:
                        log.error("stray_not_canceled", client_order_id=id_, error=str(error))
        except NotSent as away:
            log.error("stray_not_canceled", orders=[id_ for id_, _ in strays], error=str(away))
        self._look_again(strays, self.readings.look_again(list(strays.values())))

    def _look_again(self, strays: dict[Stray, OrderRef], seen: Sequence[Sighting]) -> None:
        """Ask again later for what may be alive; what no listing has any more, some looks long, is no stray.

        An ambiguous answer is none of absence: the listings show something that may be it.
        """
        missing = {stray for stray, sighting in zip(strays, seen, strict=False) if isinstance(sighting, Missing)}

        def work(batch: OrderBatch) -> None:
            for id_, number in strays:
                entry, attempt = batch[id_], batch[id_].attempts[number]
                if attempt["stray_at"] is None:
                    continue  # its end has been told
                looks = attempt["missing"] + 1 if (id_, number) in missing else 0
                again = None if looks >= LOST_AFTER else entry.now + timedelta(seconds=_AGAIN_S)
                entry.set_attempt(number, missing=looks, stray_at=again)
                if again is None:
                    entry.note("stray_gone", f"attempt {number} at {self.broker.name}: in no listing any more")

        self.batches.change({id_ for id_, _ in strays}, work)


def _key(ref: OrderRef) -> tuple[str, str | None]:
    return ref.order.client_order_id, ref.broker_order_id


def _stray(row: RowMapping) -> Stray:
    return row[attempts.c.client_order_id], row[attempts.c.attempt_no]
