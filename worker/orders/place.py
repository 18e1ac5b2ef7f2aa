"""Placing orders: from a message, or from the record what the queue lost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import structlog
from sqlalchemy import update

from models.crash_points import reached
from models.errors import BrokerError, CorroError, DatabaseUnavailable, NotRecorded, Stale
from models.messages import MAX_BATCH
from models.record.batch import Effects
from models.record.database import Database
from models.record.tables import attempts
from models.reports import OrderReport
from models.settings import Settings
from models.vocabulary import CLOSING, Outcome
from worker.brokers.accounts import check_account
from worker.brokers.base import BrokerInterface
from worker.gate import Gate
from worker.orders.batches import Batches
from worker.orders.claiming import Claims
from worker.orders.command import Claimed, Claiming
from worker.orders.marks import Marks
from worker.orders.record import Recorder
from worker.orders.selection import Selection, named, overdue
from worker.orders.vouching import Vouching
from worker.orders.way import Permit, Way
from worker.orders.wishes import Wishes
from worker.positions.closing import Asked
from worker.risk.limiter import Limiter
from worker.risk.prices import Quotes, ask_for_quotes
from worker.runtime.clock import utcnow

log = structlog.get_logger()


class Place(Claiming):
    """Places orders at one broker.

    Args:
        settings: the settings.
        database: the record.
        broker: the adapter, connected or not.
        worker: this worker's name.
        gate: of the broker.
        batches: for transactions and what follows.
        recorder: for the answers.
        way: to the broker.
        wishes: cancels that came before their order.
        read_positions: reads and stores the broker's positions; returns the symbols whose size could not be read.
        limiter: for the claims.
        vouching: knows who stands behind an order.
        arrived: takes note of a send whose answer is committed, without waiting.
    """

    event = "answer_not_recorded"
    lane = "send"

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: BrokerInterface,
        worker: str,
        gate: Gate,
        batches: Batches,
        recorder: Recorder,
        way: Way,
        wishes: Wishes,
        read_positions: Callable[[], Collection[str]],
        limiter: Limiter,
        vouching: Vouching,
        arrived: Callable[[Claimed], None],
    ) -> None:
        self.timing, self.database, self.broker = settings.timing, database, broker
        self.gate, self.batches, self.recorder, self.way, self.wishes = gate, batches, recorder, way, wishes
        self.capabilities, self.intake = broker.capabilities, batches.intake
        self.claims = Claims(database, broker, worker, self.timing, gate, batches, recorder, limiter, vouching)
        self._read_positions, self._arrived = read_positions, arrived

    # -- FROM A MESSAGE ---
    def submit(self, bodies: Sequence[Mapping[str, object]], *, recorded: bool = False) -> None:
        """Execute the orders of one message; orders without a row get one, copies change nothing.

        Args:
            bodies: order objects.
            recorded: their producer has recorded and checked them, so they have rows and need no second look.

        Raises:
            NotRecorded: they have none here. Their rows are in another database, whose own fleet may send them too.
        """
        if recorded and (ids := _ids(bodies)):
            left = set(ids) - set(self._run(named(ids, may_be_plain=self._may_be_plain(bodies))))
            if left and (lost := self.intake.without_row(list(left))):
                raise NotRecorded(
                    f"{', '.join(sorted(lost))}: recorded by a producer, but not in this database "
                    f"({self.database.url!r}, deployment {self.database.deployment}). That producer works on another "
                    "one: compare database_url, CORRO_HOME and its working directory"
                )
            return
        known = self.intake.take(bodies, queue_broker=self.broker.name)
        self.wishes.end_early(list(known))
        elsewhere = Effects()
        for client_order_id, broker in known.items():
            if broker != self.broker.name:
                elsewhere.ring(broker, client_order_id)
        self.work([i for i, broker in known.items() if broker == self.broker.name])
        self.batches.ring(elsewhere)

    def _may_be_plain(self, bodies: Sequence[Mapping[str, object]]) -> list[str]:
        """Spare closing orders the statement that would leave them to the careful way; the row decides."""
        minds = self.recorder.minds_positions
        closing = CLOSING if minds else ()
        return [
            str(body["client_order_id"]) for body in bodies if body.get("side") not in closing and not body.get("group")
        ]

    # -- FROM THE DATABASE ---
    def work(self, ids: Sequence[str]) -> list[str]:
        """Claim and execute these orders; returns those that were claimed."""
        return self._run(named(ids)) if ids else []

    def sweep(self) -> list[str]:
        """Claim and execute what has waited too long for its message, or whose pause is over; returns their ids."""
        which = overdue(self.timing.sweep_after)
        return self._run(which) if self.claims.is_overdue(which) else []

    def _run(self, which: Selection) -> list[str]:
        done = self.way.run(self, which)
        if which.asked.ids:  # they close a position of which it was not known whether it is there
            again = named(list(which.asked.ids), self._read_anew())
            done += self.way.run(self, again)
            which.quotes.ids.update(again.quotes.ids)
        if waiting := which.quotes.ids:  # their value is limited, and nobody knows a price
            ask_for_quotes(self.database, self.broker, {symbol for asked in waiting.values() for symbol in asked})
            done += self.way.run(self, named(list(waiting), which.asked, Quotes(asked=True)))
        return done

    def _read_anew(self) -> Asked:
        """Read the positions for orders that wait for them."""
        asked = Asked(since=utcnow())
        try:
            asked.unread = self._read_positions()
        except DatabaseUnavailable:
            raise
        except CorroError as error:
            asked.error = str(self.gate.heeded(error))
            log.warning("positions_unreadable", broker=self.broker.name, error=asked.error)
        return asked

    # -- THE COMMAND ---
    def claim(self, which: Selection) -> list[Claimed]:
        """Take queued orders: `submitted`, with the attempt that this send is."""
        claimed = self.claims.claim(which)
        if self.capabilities.marks_sends:
            marks = Marks(self.database, self.broker.name, claimed, self.capabilities.parallel_orders)
            for one in claimed:
                one.marks = marks
        return claimed

    def has_more(self, which: Selection, claimed: Sequence[Claimed], done: int) -> bool:
        """A full batch has left some behind; so has a broker where look-alikes go one after the other."""
        return (len(claimed) == MAX_BATCH and done < which.most) or self.claims.anonymous

    def send(self, item: Claimed, permit: Permit) -> OrderReport:
        """Place one order."""
        for one in (item, *item.legs):
            check_account(one.order, self.broker)
            self.capabilities.check(one.order, self.broker.name)
            self.broker.check_known(one.order)
        permit.check(item)
        if item.legs:
            self._number(item)
        if item.marks is not None:
            item.marks.mark(item)
        report = permit.in_turn(partial(self.broker.place_order, permit.ticket(item)))
        reached("after_send")
        return report

    def _number(self, lead: Claimed) -> None:
        """Have the record know the numbers of a group's orders before the first byte of the first.

        Raises:
            DatabaseUnavailable: it could not be noted, so nothing may be sent.
            Stale: an attempt was settled meanwhile, as never sent.
        """
        numbers = self.broker.reserve_ids(1 + len(lead.legs))
        if not numbers:
            return
        a = attempts.c
        with self.database.write() as connection:
            for one, number in zip((lead, *lead.legs), numbers, strict=True):
                one.session_order_id = number
                mine = (a.client_order_id == one.id) & (a.attempt_no == one.attempt_no)
                mine &= a.outcome == str(Outcome.SENDING)
                if connection.execute(update(attempts).where(mine).values(session_order_id=number)).rowcount != 1:
                    raise Stale(f"{self.broker.name}: the attempt was settled meanwhile", broker=self.broker.name)

    def follow(self, answers: Sequence[tuple[Claimed, OrderReport | BrokerError]]) -> None:
        """Have the quote at arrival read of what its broker has taken."""
        for item, answer in answers:
            if isinstance(answer, OrderReport):
                self._arrived(item)

    def tell(self, item: Claimed, answer: OrderReport | BrokerError) -> None:
        """One log line per answer; loud where a person may be needed."""
        context = {"client_order_id": item.id, "broker": self.broker.name, "attempt_no": item.attempt_no}
        if isinstance(answer, OrderReport):
            log.info("order_accepted", status=str(answer.status), broker_order_id=answer.broker_order_id, **context)
        else:
            log.warning("order_not_accepted", kind=type(answer).__name__, error=str(answer), **context)


def _ids(bodies: object) -> list[str] | None:
    """Return the ids of order objects, or None where they are no such things."""
    if not isinstance(bodies, list) or not all(isinstance(body, dict) for body in bodies):
        return None
    ids = [body.get("client_order_id") for body in bodies]
    return ids if all(isinstance(id_, str) for id_ in ids) else None
