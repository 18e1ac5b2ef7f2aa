"""Carry out replaces: a change of a live order is an attempt of its own, with an outcome of its own.

While it is under way the old attempt speaks for the order. When the broker has confirmed the change, the new one does,
and the order takes its terms. What is not confirmed is unknown, and reconciled like any other attempt; a refusal leaves
the order as it was. Nothing here ever falls back: the order is at this broker.

The wish stays on the row until it is done, refused or withdrawn: what was not sent is tried again after a pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, select

from models.errors import BrokerError, Denied, Stale, Unsupported
from models.record.batch import Effects, OrderBatch
from models.record.database import Database
from models.record.intake import request_of
from models.record.order import OrderRecord, is_changing
from models.record.replaces import changed_terms, lessens, words
from models.record.tables import attempts, orders
from models.reports import OrderReport
from models.vocabulary import Outcome, Status
from worker.brokers.base import BrokerInterface, OrderRef, Ticket
from worker.fleet.halts import denial, stopped
from worker.orders.cancel import Cancels
from worker.orders.catch_up import order_ref
from worker.orders.claiming import attempt_id
from worker.orders.in_parallel import Answer, Volley
from worker.orders.patience import NEAR_S, in_turn, written
from worker.orders.way import Execution, answer_of
from worker.positions.closing import AGAIN, Asked, Closings, closes
from worker.positions.locks import LOCKED, Locks
from worker.positions.locks import words as lock_words
from worker.runtime.clock import Stopwatch, utcnow
from worker.runtime.isolate import isolate

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Change:
    """One replace, claimed."""

    client_order_id: str
    attempt_no: int
    old: OrderRef
    ticket: Ticket
    #: It only makes the order smaller or less aggressive, so a halt lets it pass.
    lessens: bool
    #: Since before the claim.
    watch: Stopwatch


class Replacements:
    """Replaces at one broker."""

    def __init__(
        self, database: Database, broker: BrokerInterface, worker: str, execution: Execution, cancels: Cancels
    ) -> None:
        self.database, self.broker, self.worker = database, broker, worker
        self.execution, self.timing, self.cancels = execution, execution.timing, cancels
        self.deputies = cancels.deputies

    def send(self, ids: Sequence[str] | None = None) -> None:
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
            self.deputies.carry_out("replace", session, ours, partial(self._carry_out, ours))

    def _carry_out(self, ids: Sequence[str]) -> None:
        watch = Stopwatch()
        changes = [c for found in isolate(lambda some: self._claim(some, watch), ids, "not_replaced") for c in found]
        most = self.broker.capabilities.parallel_orders
        for came in Volley(changes, self._send, self.execution.changers, most):
            self._conclude(came)

    # -- CLAIM ---
    def _claim(self, ids: Sequence[str], watch: Stopwatch) -> list[_Change]:
        def work(connection: Connection) -> list[_Change | None]:
            batch = OrderBatch.open(connection, ids, utcnow())
            halt = stopped(connection, self.broker.name)
            halt = halt if halt and halt["kind"] == "halt" else None
            closings = self.execution.recorder.closings(batch)
            found = [self._claim_one(entry, halt, closings, watch) for entry in batch.entries.values()]
            batch.write()
            return found

        return [change for change in self.database.transact(work) if change is not None]

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

    def _claim_one(self, entry: OrderRecord, halt: Any, closings: Closings | None, watch: Stopwatch) -> _Change | None:
        wanted, current = entry.order["replace_request"], entry.current
        if not wanted or current is None or current["outcome"] != Outcome.ACCEPTED or is_changing(entry):
            return None
        if entry.order["available_at"] > entry.now:
            return None  # somebody has just tried
        number = entry.next_attempt
        change = self._change(entry, number, wanted, watch)
        if halt and not change.lessens:
            entry.set(replace_request=None)
            entry.note("replace_refused", str(denial(self.broker.name, halt)))
            return None
        growth = change.ticket.order.quantity - change.old.order.quantity
        if closings and closes(entry.order) and growth > 0 and not self._may_grow(entry, closings, growth):
            return None
        entry.begin(
            {
                "attempt_no": number,
                "broker": self.broker.name,
                "broker_client_order_id": change.ticket.broker_client_order_id,
                "outcome": str(Outcome.SENDING),
                "worker": self.worker,
                # Changed in place, it stays the order of whoever placed it.
                "session": current["session"] if self._in_place else self.broker.order_session,
                "started_at": entry.now,
                "sent_at": entry.now,
                "lease_until": entry.now + timedelta(seconds=self.timing.lease),
                "replaces": current["attempt_no"],
                "terms": wanted,
            }
        )
        entry.waits_no_more()
        entry.note("replacing", f"attempt {number} at {self.broker.name}: {words(wanted)}")
        return change

    @property
    def _in_place(self) -> bool:
        return self.broker.capabilities.replaces == "in_place"

    def _change(self, entry: OrderRecord, number: int, wanted: dict[str, Any], watch: Stopwatch) -> _Change:
        current = entry.attempts[entry.order["attempt_no"]]
        longest = self.broker.capabilities.client_order_id_length
        now = request_of(entry.order)
        new = changed_terms(now, wanted)
        is_less = lessens(now, new)

        def still_mine() -> None:
            if not is_less:
                self.execution.brake.gate()
            if watch.age() > self.timing.fresh:
                raise Stale(f"{self.broker.name}: the replace waited {watch.age():.1f} s", broker=self.broker.name)

        ticket = Ticket(
            order=new,
            broker_client_order_id=(
                current["broker_client_order_id"] if self._in_place else attempt_id(entry.id, number, longest)
            ),
            deadline_s=self.timing.deadline,
            still_mine=still_mine,
        )
        return _Change(entry.id, number, order_ref(entry.order, current), ticket, is_less, watch)

    # -- SEND AND RECORD ---
    def _send(self, change: _Change) -> Answer:
        def replace() -> OrderReport:
            if self.broker.capabilities.replaces == "no":
                raise Unsupported(f"{self.broker.name} cannot replace orders", broker=self.broker.name)
            self.broker.capabilities.check(change.ticket.order, self.broker.name)
            self.execution.must_be_open()
            self._must_not_grow_locked(change)
            return in_turn(
                lambda: self.broker.replace_order(change.old, change.ticket),
                lambda: min(NEAR_S, self.timing.fresh - change.watch.age()),
            )

        return self.execution.heeded(answer_of(replace, self.broker.name, change.client_order_id))

    def _must_not_grow_locked(self, change: _Change) -> None:
        """Raise Denied where an order would get bigger in a symbol that is locked; anything else may change."""
        if change.ticket.order.quantity <= change.old.order.quantity:
            return
        with self.database.read() as connection:
            lock = Locks(connection, self.broker.name).rows.get(change.ticket.order.symbol)
        if lock is not None:
            raise Denied(f"{self.broker.name}: {lock_words(lock)}", broker=self.broker.name, code=LOCKED)

    def _conclude(self, came: Sequence[tuple[_Change, Answer]]) -> None:
        event, names = "replace_not_recorded", [change.client_order_id for change, _ in came]
        for effects in written(lambda: isolate(self._record, came, event), event, names):
            self.execution.finish(effects)
        # It may be done by now: what stands, only the broker can tell.
        self.cancels.read_again([change.old for change, answer in came if isinstance(answer, BrokerError)])

    def _record(self, came: Sequence[tuple[_Change, Answer]]) -> Effects:
        def work(connection: Connection) -> Effects:
            batch = OrderBatch.open(connection, [change.client_order_id for change, _ in came], utcnow())
            for change, answer in came:
                entry = batch[change.client_order_id]
                self.execution.recorder.settle(entry, change.attempt_no, answer)
            batch.write()
            return batch.effects

        effects = self.database.transact(work)
        for change, answer in came:
            if isinstance(answer, BrokerError):
                log.warning("not_replaced", client_order_id=change.client_order_id, error=str(answer))
        return effects
