"""Carry out replaces: a change of a live order is an attempt of its own, with an outcome of its own.

While it is under way the old attempt speaks for the order. When the broker has confirmed the change, the new one does,
and the order takes its terms. What is not confirmed is unknown, and reconciled like any other attempt; a refusal leaves
the order as it was. Nothing here ever falls back: the order is at this broker.

The wish stays on the row until it is done, refused or withdrawn: what was not sent is tried again after a pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import cast

import structlog
from sqlalchemy import select

from models.destinations import joined
from models.errors import BrokerError, Denied, Unsupported
from models.record.batch import OrderBatch
from models.record.controls import ControlRow, in_force
from models.record.database import Database
from models.record.intake import request_of
from models.record.order import OrderRecord, is_changing
from models.record.replaces import changed_terms, is_told, lessens, unapproved, words
from models.record.rows import AttemptRow, Json
from models.record.tables import attempts, orders
from models.reports import OrderReport
from models.risk.decision import Hold, Pass, Refuse, RiskVerdict
from models.settings import TimingSettings
from models.vocabulary import Outcome, Status
from worker.brokers.base import BrokerInterface, OrderRef
from worker.control.brake import denial, stop_of
from worker.orders.batches import Batches
from worker.orders.catch_up import CatchUp, order_ref
from worker.orders.claiming import attempt_id
from worker.orders.command import Claimed, Claiming
from worker.orders.deputies import Deputies
from worker.orders.record import Recorder
from worker.orders.selection import Selection, named
from worker.orders.way import Permit, Way
from worker.positions.closing import AGAIN, Asked, Closings, closes
from worker.positions.locks import LOCKED, Locks
from worker.positions.locks import words as lock_words
from worker.risk.limiter import Limiter
from worker.runtime.clock import utcnow
from worker.runtime.isolate import isolate

log = structlog.get_logger()


class Replacements(Claiming):
    """Replaces at one broker.

    Args:
        timing: for leases.
        database: the record.
        broker: the adapter.
        worker: this worker's name.
        batches: for transactions.
        recorder: for the answers.
        way: to the broker.
        readings: read an order again whose replace came to nothing.
        deputies: whose work a replace is.
        limiter: asked about what a replace adds.
    """

    event = "replace_not_recorded"

    def __init__(
        self,
        timing: TimingSettings,
        database: Database,
        broker: BrokerInterface,
        worker: str,
        batches: Batches,
        recorder: Recorder,
        way: Way,
        readings: CatchUp,
        deputies: Deputies,
        limiter: Limiter,
    ) -> None:
        self.timing, self.database, self.broker, self.worker = timing, database, broker, worker
        self.batches, self.recorder, self.way = batches, recorder, way
        self.readings, self.deputies, self.limiter = readings, deputies, limiter

    def carry_out(self, ids: Sequence[str] | None = None) -> None:
        """Carry out what is wanted and not sent yet, as far as it is ours; None means every order at this broker."""
        o, a = orders.c, attempts.c
        mine = (a.client_order_id == o.client_order_id) & (a.attempt_no == o.attempt_no)
        query = (
            select(a.session, o.client_order_id)
            .join_from(orders, attempts, mine)
            .where(
                o.broker == self.broker.name,
                o.replace_request.is_not(None),
                o.available_at <= utcnow(),
                o.cancel_requested_at.is_(None),
                o.status.in_([str(Status.ACCEPTED), str(Status.PARTIALLY_FILLED)]),
            )
        )
        if ids is not None:
            query = query.where(o.client_order_id.in_(list(ids)))
        with self.database.read() as connection:
            due = [(row.session, row.client_order_id) for row in connection.execute(query)]
        for session, ours in self.deputies.mine(due, free=ids is not None).items():
            # Where the session cannot be had, no attempt is begun.
            self.deputies.carry_out("replace", session, ours, partial(self.way.run, self, named(ours)))

    # -- CLAIM ---
    def claim(self, which: Selection) -> list[Claimed]:
        """Begin an attempt for each replace that may be sent; a refusal ends its wish, each by itself."""
        ids = cast("Sequence[str]", which.values["ids"])
        return [change for found in isolate(self._claim, ids, "not_replaced") for change in found]

    def _claim(self, ids: Sequence[str]) -> list[Claimed]:
        """Begin the attempts of these replaces in one transaction."""

        def work(batch: OrderBatch) -> list[Claimed | None]:
            controls = in_force(batch.connection)
            closings = self.recorder.closings(batch, anyway=bool(controls))
            return [self._claim_one(entry, controls, closings) for entry in batch.entries.values()]

        found, _ = self.batches.change(ids, work)
        return [change for change in found if change is not None]

    def _may_grow(self, entry: OrderRecord, closings: Closings, growth: Decimal) -> bool:
        """Tell whether the broker holds what a closing order takes beyond what it has; else refuse, or put it off."""
        asked = Asked(since=entry.now - timedelta(seconds=self.timing.positions_valid))
        verdict = closings.judge(entry, growth, asked, growing=True)
        if verdict == "read anew":
            entry.set(available_at=entry.now + AGAIN)
        elif verdict == "no position":
            entry.set(replace_request=None)
            entry.note("replace_refused", f"it would close more than is held: {closings.words(entry)}")
        return verdict == "send"

    def _claim_one(
        self, entry: OrderRecord, controls: Sequence[ControlRow], closings: Closings | None
    ) -> Claimed | None:
        """Begin the attempt of one replace; None where it has to wait, or is refused.

        A halt refuses it unless it lessens the order; a closing order may not grow beyond what is held.
        """
        wanted, current = entry.order["replace_request"], entry.current
        if not wanted or current is None or current["outcome"] != Outcome.ACCEPTED or is_changing(entry):
            return None
        if entry.order["available_at"] > entry.now:
            return None  # somebody has just tried
        if not is_told(entry, wanted):  # whatever its row says of a key: that can be written like the wish
            entry.set(replace_request=None)
            entry.note("replace_refused", f"nobody is known to have asked for it: {words(wanted)}")
            return None
        change = self._change(entry, current, wanted)
        assert change.old is not None
        if control := stop_of(controls, entry.order, self.broker.name, change.movement):
            entry.set(replace_request=None)
            entry.note("replace_refused", str(denial(self.broker.name, control)))
            return None
        if words_of_approval := unapproved(entry, change.order):
            entry.set(replace_request=None)
            entry.note("replace_refused", words_of_approval)
            return None
        growth = change.order.units - change.old.order.units
        if closings and closes(entry.order) and growth > 0 and not self._may_grow(entry, closings, growth):
            return None
        verdict, reserved = self._ask_limits(entry, change)
        if isinstance(verdict, Hold) and verdict.code is None:
            entry.set(available_at=entry.now + AGAIN)
            return None
        if not isinstance(verdict, Pass):
            entry.set(replace_request=None)
            entry.note("replace_refused", verdict.words)
            return None
        entry.begin(
            change.attempt_no,
            broker=self.broker.name,
            account=current["account"],
            broker_client_order_id=change.broker_client_order_id,
            outcome=str(Outcome.SENDING),
            worker=self.worker,
            # Changed in place, it stays the order of whoever placed it.
            session=current["session"] if self._in_place else self.broker.order_session,
            started_at=entry.now,
            sent_at=entry.now,
            lease_until=entry.now + timedelta(seconds=self.timing.lease),
            replaces=current["attempt_no"],
            terms=wanted,
            reserved=reserved,
        )
        entry.waits_no_more()
        entry.note("replacing", f"attempt {change.attempt_no} at {self.broker.name}: {words(wanted)}")
        return change

    def _ask_limits(self, entry: OrderRecord, change: Claimed) -> tuple[RiskVerdict, Json | None]:
        """Return what limits say of a replace, and as what it counts; a mere lessening is not asked about."""
        connection, risk = entry.batch.connection, None
        before = entry.current and entry.current["reserved"]
        if not change.lessens:
            risk = self.limiter.about_change(connection, entry, change.order)
        if risk is None:
            return Pass(), before
        verdict = risk.judge(entry.id)
        if isinstance(verdict, Refuse):
            entry.note("risk_denied", f"replace: {verdict.code}: {verdict.words}")
        return verdict, risk.reserved([entry.id]).get(entry.id) if isinstance(verdict, Pass) else None

    @property
    def _in_place(self) -> bool:
        return self.broker.capabilities.replaces == "in_place"

    def _change(self, entry: OrderRecord, current: AttemptRow, wanted: Json) -> Claimed:
        now, number = request_of(entry.order), entry.next_attempt
        new = changed_terms(now, wanted)
        longest = self.broker.capabilities.client_order_id_length
        theirs = current["broker_client_order_id"] if self._in_place else attempt_id(entry.id, number, longest)
        old, key_id = order_ref(entry.order, current), entry.order["key_id"]
        return Claimed(new, number, theirs, old=old, key_id=key_id, lessens=lessens(now, new))

    # -- THE COMMAND ---
    def send(self, item: Claimed, permit: Permit) -> OrderReport:
        """Change one order."""
        old = item.old
        assert old is not None
        if self.broker.capabilities.replaces == "no":
            raise Unsupported(f"{self.broker.name} cannot replace orders", broker=self.broker.name)
        self.broker.capabilities.check(item.order, self.broker.name)
        self.broker.check_known(item.order)
        permit.check(item)
        self._must_not_grow_locked(item, old)
        return permit.in_turn(partial(self.broker.replace_order, old, permit.ticket(item)))

    def _must_not_grow_locked(self, item: Claimed, old: OrderRef) -> None:
        """Raise Denied where an order would get bigger in a symbol that is locked; anything else may change."""
        if item.order.units <= old.order.units:
            return
        with self.database.read() as connection:
            where = joined(self.broker.name, item.order.account)
            lock = Locks(connection, self.broker.name).rows.get((where, item.order.symbol))
        if lock is not None:
            raise Denied(f"{self.broker.name}: {lock_words(lock)}", broker=self.broker.name, code=LOCKED)

    def tell(self, item: Claimed, answer: OrderReport | BrokerError) -> None:
        """One log line about a replace that came to nothing, or of which nobody knows."""
        if isinstance(answer, BrokerError):
            log.warning("not_replaced", client_order_id=item.id, error=str(answer))

    def follow(self, answers: Sequence[tuple[Claimed, OrderReport | BrokerError]]) -> None:
        """It may be done by now: what stands, only the broker can tell."""
        self.readings.look_again([item.old for item, answer in answers if item.old and isinstance(answer, BrokerError)])
