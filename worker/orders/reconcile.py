"""Ask the broker what became of the attempts whose outcome is unknown (`worker.orders.absence` has the rules)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, cast

import structlog
from sqlalchemy import Connection, select

from models.crash_points import reached
from models.errors import BrokerError, CorroError, NotSent, OrderRejected, Refused
from models.record.batch import OrderBatch
from models.record.evidence import fold
from models.record.groups import is_follower
from models.record.matching import objections
from models.record.order import OrderRecord
from models.record.rows import AttemptRow, ReadableOrder, WorkerRow
from models.record.statements import fetch
from models.record.tables import attempts, orders, workers
from models.reports import Found, Missing, Sighting
from models.settings import Settings
from models.vocabulary import ID_TAKEN, OPEN, Outcome
from worker.brokers.base import BrokerInterface, LinkedOrder, OrderRef
from worker.fleet.identity import Identity
from worker.fleet.liveness import is_gone, is_silent
from worker.gate import Gate
from worker.orders.absence import after_cancel, after_refusal, after_replaced, conclude, is_changed, proven, why_open
from worker.orders.batches import Batches
from worker.orders.catch_up import order_ref
from worker.orders.deputies import Deputies
from worker.orders.legs import is_whole_end, linked_orders, named
from worker.orders.lost_legs import LostLegs
from worker.orders.record import Recorder
from worker.orders.routing import Absent
from worker.orders.succession import REFUSED_AGAIN, REPLACED_AFTER_ALL, SURPLUS, is_doubted
from worker.orders.withdrawal import Withdrawals, is_unsent
from worker.runtime.clock import StepWatch, utcnow

log = structlog.get_logger()

_LOOKS_AT_ONCE = 50


class _OpenAttempt(AttemptRow):
    """An attempt that has not been settled, with the worker that made it, if that is known."""

    sender: WorkerRow | None


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of a broker about one attempt, and what the record knows of it."""

    entry_id: str
    attempt_no: int
    ref: OrderRef
    checks: int
    missing: int
    sender_done: bool
    never_sent: bool
    #: It was refused after its broker had accepted it.
    doubted: bool
    #: No byte of it has left later than this.
    last_byte: datetime


class Reconciler:
    """Settles what is unknown at one broker.

    Args:
        settings: the settings.
        broker: the adapter.
        gate: of the broker.
        batches: for transactions and what follows.
        recorder: for what was found.
        deputies: whose work an order is that was refused after its acceptance.
        me: this worker.
        clock: the wall time; None is `utcnow`.
    """

    def __init__(
        self,
        settings: Settings,
        broker: BrokerInterface,
        gate: Gate,
        batches: Batches,
        recorder: Recorder,
        deputies: Deputies,
        me: Identity,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._now = clock or utcnow
        self.timing, self.broker, self.gate = settings.timing, broker, gate
        self.batches, self.database, self.recorder = batches, batches.database, recorder
        self.deputies, self.me, self.rule = deputies, me, broker.capabilities.absence
        self.steps = StepWatch(self.timing.lease)
        self.withdrawals = Withdrawals(broker, deputies)
        self.lost_legs = LostLegs(self.timing, broker, batches, recorder, self.withdrawals)

    # -- UNKNOWN ATTEMPTS ---
    def unknown(self, *, everything: bool = False) -> int:
        """Look for every attempt whose outcome is open and due; returns how many were asked about.

        Args:
            everything: also those that are not due yet (after a reconnect).
        """
        if everything:
            self.withdrawals.keep_reserved(self.database)
        everything |= self.steps.look()  # what was due by the old clock may be an hour away by the new one
        self._orphans()
        return self._settle_open(self._due(everything=everything)) + self.lost_legs.look(everything=everything)

    def doubted(self) -> int:
        """Cancel, and look for, what is ours of the orders that were refused after acceptance; returns how many."""
        return self._settle_open(self._due(only_doubted=True))

    def _settle_open(self, questions: Sequence[_Question]) -> int:
        mine = self.deputies.mine((q.ref.session, q) for q in questions if q.doubted)
        ours = {id(q) for found in mine.values() for q in found}
        questions = [q for q in questions if not q.doubted or id(q) in ours]
        for start in range(0, len(questions), _LOOKS_AT_ONCE):
            self._ask(questions[start : start + _LOOKS_AT_ONCE])
        return len(questions)

    def _orphans(self) -> None:
        """Attempts whose worker died, or whose lease ran out, during the send: their outcome is unknown."""
        now = self._now()
        with self.database.read() as connection:
            orphans = [row for row in self._open(connection, [Outcome.SENDING]) if self._is_orphan(row, now)]
        if not orphans:
            return

        def work(batch: OrderBatch) -> None:
            for row in orphans:
                entry, number = batch[row["client_order_id"]], row["attempt_no"]
                if entry.attempts[number]["outcome"] != Outcome.SENDING:
                    continue
                words = f"worker {row['worker']} did not finish the send"
                entry.set_attempt(number, outcome=str(Outcome.UNKNOWN), message=words, next_check_at=now)
                entry.note("unknown", f"attempt {number} at {self.broker.name}: {words}")
                if number == entry.order["attempt_no"] and entry.status in OPEN:
                    entry.set(reason=f"{self.broker.name}: {words}")

        self.batches.change([row["client_order_id"] for row in orphans], work)

    def _is_orphan(self, row: _OpenAttempt, now: datetime) -> bool:
        sender = row["sender"]
        return (
            row["lease_until"] < now
            or is_gone(sender, self.me, now, self.timing.sender_gone_after)
            or is_silent(sender, now, self.timing.dead_after)
        )

    def _open(self, connection: Connection, outcomes: Sequence[Outcome]) -> list[_OpenAttempt]:
        """Return the attempts here with these outcomes, the oldest first, with their workers."""
        query = (
            select(attempts)
            .where(attempts.c.broker == self.broker.name, attempts.c.outcome.in_([str(o) for o in outcomes]))
            .order_by(attempts.c.started_at)
        )
        found = fetch(connection, query, AttemptRow)
        if not found:
            return []
        query = select(workers).where(workers.c.worker.in_({row["worker"] for row in found}))
        senders = {row["worker"]: row for row in fetch(connection, query, WorkerRow)}
        return [cast("_OpenAttempt", {**row, "sender": senders.get(row["worker"])}) for row in found]

    def _due(self, *, everything: bool = False, only_doubted: bool = False) -> list[_Question]:
        """Return the questions whose time has come.

        Args:
            everything: all that are open, due or not.
            only_doubted: those that were refused after acceptance, or which this worker alone can take back.
        """
        now = self._now()
        with self.database.read() as connection:
            found = self._open(connection, [Outcome.UNKNOWN])
            due = [r for r in found if everything or r["next_check_at"] is None or r["next_check_at"] <= now]
            due = [r for r in due if not only_doubted or is_doubted(r) or self.withdrawals.is_mine_alone(r)]
            if not due:
                return []
            query = select(orders).where(orders.c.client_order_id.in_([r["client_order_id"] for r in due]))
            rows = {row["client_order_id"]: row for row in fetch(connection, query, ReadableOrder)}
            known = self._known_ids(connection, due)
            linked = linked_orders(connection, rows.values())
        asked = ((r, rows[r["client_order_id"]]) for r in due)  # a leg is asked for by the lead of its group
        return [
            self._question(r, order, known, now, linked.get(order["client_order_id"], ()))
            for r, order in asked
            if not is_follower(order)
        ]

    def _question(
        self,
        row: _OpenAttempt,
        order: ReadableOrder,
        known: frozenset[str],
        now: datetime,
        legs: tuple[LinkedOrder, ...],
    ) -> _Question:
        """Return what to ask about one attempt."""
        # A clock that was set ahead makes a send that is still under way look old, and its sender look past it.
        done = self._sender_done(row, now) and not self.steps.doubtful()
        return _Question(
            entry_id=row["client_order_id"],
            attempt_no=row["attempt_no"],
            ref=replace(order_ref(order, row, known), legs=legs),
            checks=row["checks"],
            missing=row["missing"],
            sender_done=done,
            doubted=is_doubted(row),
            never_sent=done and is_unsent(self.broker.capabilities, row, is_group=bool(legs)),
            last_byte=_last_byte(row),
        )

    def _sender_done(self, row: _OpenAttempt, now: datetime) -> bool:
        """Tell whether whoever sent it can send nothing more.

        It has recorded `unknown` itself, so it is back from its send; or it is gone; or it was seen running after its
        lease had ended, so that it was not merely suspended in the middle.
        """
        sender = row["sender"]
        if row["ended_at"] is not None or is_gone(sender, self.me, now, self.timing.sender_gone_after):
            return True
        return sender is not None and sender["heartbeat_at"] > row["lease_until"]

    def _known_ids(self, connection: Connection, due: Sequence[AttemptRow]) -> frozenset[str]:
        """Return the broker's ids of our other orders: they are not the one we look for."""
        if not self._keeps_no_id:
            return frozenset()
        since = min(row["started_at"] for row in due) - timedelta(minutes=10)
        query = select(attempts.c.broker_order_id).where(
            attempts.c.broker == self.broker.name,
            attempts.c.broker_order_id.is_not(None),
            attempts.c.started_at >= since,
        )
        return frozenset(connection.execute(query).scalars())

    def _ask(self, questions: Sequence[_Question]) -> None:
        """Ask about all of these at once, and write down what came back, each for itself."""
        lost = [q for q in questions if q.never_sent]
        asked = [q for q in questions if not q.never_sent]
        answers: Sequence[Sighting | CorroError] = []
        alive = {q.entry_id: error for q in asked if q.doubted and (error := self._cancel_doubted(q))}
        # What a reading proves, it proves of this moment: this process may be suspended before it is written down.
        at = self._now()
        try:
            found = self.broker.find_orders([q.ref for q in asked]) if asked else []
            answers = [self._withdrawn(q, one, at) for q, one in zip(asked, found, strict=True)]
        except CorroError as error:
            log.warning("cannot_reconcile", broker=self.broker.name, orders=len(asked), error=str(error))
            answers = [self.gate.heeded(error)] * len(asked)
        reached("after_look")

        def work(batch: OrderBatch) -> None:
            for question in lost:
                unsent = NotSent("its worker died before it was sent", broker=self.broker.name, code="never_sent")
                self.recorder.settle(batch[question.entry_id], question.attempt_no, unsent)
            for question, answer in zip(asked, answers, strict=True):
                self._answer(batch[question.entry_id], question, alive.get(question.entry_id, answer), at)

        _, effects = self.batches.change([q.entry_id for q in questions], work)
        self.batches.follow_up(effects)

    def _withdrawn(self, question: _Question, seen: Sighting, at: datetime) -> Sighting | CorroError:
        age, done = (at - question.last_byte).total_seconds(), question.sender_done
        return self.withdrawals.after(question.ref, seen, missing=question.missing, age_s=age, sender_done=done)

    def _cancel_doubted(self, question: _Question) -> BrokerError | None:
        """What was refused after acceptance may work again: ask for its cancel before the look that may end it.

        Returns:
            Why nothing may be concluded from the look; None where the broker has taken the cancel, or refused it: then
            the order is gone, or not known, and the look tells.
        """
        try:
            with self.deputies.acting_as(question.ref.session):
                self.broker.cancel_order(question.ref)
        except Refused:
            return None
        except BrokerError as error:
            log.warning("doubted_not_canceled", client_order_id=question.entry_id, error=str(error))
            return self.gate.heeded(error)
        return None

    def _answer(self, entry: OrderRecord, question: _Question, answer: Sighting | CorroError, at: datetime) -> None:
        """Write down one answer: the evidence always, an outcome where there is proof."""
        attempt = entry.attempts[question.attempt_no]
        if attempt["outcome"] != Outcome.UNKNOWN:
            return
        if not isinstance(answer, CorroError):
            answer = self._proven(entry, question, answer)
        entry.set_attempt(question.attempt_no, evidence=fold(attempt["evidence"], answer, at, self._query()))
        sighting = None if isinstance(answer, CorroError) else answer
        # A reading counts only once nothing can be on its way any more.
        missing = question.missing + (isinstance(sighting, Missing) and question.sender_done)
        age = (at - question.ref.sent_at).total_seconds()
        verdict = self._verdict(attempt, question, sighting, missing, at)
        if verdict == "refused" and not is_whole_end(self.recorder.report, entry, sighting, self.recorder.rewrites):
            verdict = "wait"
        if verdict == "refused":
            self.recorder.settle(entry, question.attempt_no, self._refusal(attempt, sighting))
        elif verdict == "adopt":
            assert isinstance(sighting, Found)
            if self._changes_in_place(attempt) and not is_changed(attempt, sighting.report):
                unchanged = Refused(f"{self.broker.name} shows the order unchanged", broker=self.broker.name)
                self.recorder.settle(entry, question.attempt_no, unchanged)
                return
            entry.note("found", f"attempt {question.attempt_no} at {self.broker.name}: {sighting.report.status}")
            self.recorder.report(entry, question.attempt_no, sighting.report, infer=True, asked=True)
        elif verdict == "absent":
            assert isinstance(sighting, Missing)
            words = f"{self.broker.name} does not have it: missed {missing} times in {age:.0f} s ({sighting.evidence})"
            self.recorder.settle(entry, question.attempt_no, Absent(words, broker=self.broker.name, code="absent"))
        else:
            self._wait(entry, question, sighting, missing, age)

    def _verdict(
        self, attempt: AttemptRow, question: _Question, sighting: Sighting | None, missing: int, at: datetime
    ) -> Literal["adopt", "absent", "refused", "wait"]:
        """Draw the conclusion that this attempt's history allows."""
        # An id that is taken says that an order has it, and one of a group may be held back: no listing tells.
        hidden = attempt["code"] == ID_TAKEN or attempt["session_order_id"] is not None
        rule = replace(self.rule, possible=False) if hidden else self.rule
        rest = (at - question.last_byte).total_seconds()
        by_terms = self._keeps_no_id and question.ref.broker_order_id is None
        verdict = conclude(
            rule, sighting, missing=missing, age_s=rest, sender_done=question.sender_done, by_terms=by_terms
        )
        if attempt["code"] == REPLACED_AFTER_ALL:
            return after_replaced(rule, verdict, sighting, missing, rest)
        if question.doubted and verdict != "wait":
            after_all = after_cancel if attempt["code"] == SURPLUS else after_refusal
            return after_all(sighting.report) if isinstance(sighting, Found) else "refused"
        return "refused" if verdict == "absent" and attempt["code"] == REFUSED_AGAIN else verdict

    def _refusal(self, attempt: AttemptRow, sighting: Sighting | None) -> OrderRejected:
        """Return the refusal that was looked into, as it stands now."""
        told, looked = attempt["message"] or "rejected", attempt["code"] == REPLACED_AFTER_ALL
        order_id = sighting.report.broker_order_id if looked and isinstance(sighting, Found) else None
        code = REPLACED_AFTER_ALL if looked else None
        return OrderRejected(told, broker=self.broker.name, code=code, broker_order_id=order_id)

    def _proven(self, entry: OrderRecord, question: _Question, sighting: Sighting) -> Sighting:
        """Look at the terms of an order that was found; one that is changed in place has the old or the new ones."""
        attempt = entry.attempts[question.attempt_no]
        if not isinstance(sighting, Found) or self._changes_in_place(attempt):
            return sighting
        return proven(sighting, objections(entry, question.attempt_no, sighting.report, self.recorder.rewrites))

    def _changes_in_place(self, attempt: AttemptRow) -> bool:
        return attempt["replaces"] is not None and self.broker.capabilities.replaces == "in_place"

    @property
    def _keeps_no_id(self) -> bool:
        return self.broker.capabilities.client_order_id_length is None

    def _query(self) -> str:
        if self._keeps_no_id:
            return "by its terms, among orders entered around the send that are not known to be others"
        return "by the id we gave it"

    def _wait(
        self, entry: OrderRecord, question: _Question, sighting: Sighting | None, missing: int, age: float
    ) -> None:
        """Put the next look off: 1, 2, 5, 5 ... s by the settings; alert once when it has taken too long."""
        pauses = self.timing.reconcile
        pause = pauses[min(question.checks + 1, len(pauses) - 1)]
        attempt = entry.attempts[question.attempt_no]
        due = entry.now + timedelta(seconds=pause)
        entry.set_attempt(question.attempt_no, checks=question.checks + 1, missing=missing, next_check_at=due)
        if age >= self.timing.alert_after and attempt["alerted_at"] is None:
            entry.set_attempt(question.attempt_no, alerted_at=entry.now)
            words = why_open(sighting, missing, self.rule, is_taken=attempt["code"] == ID_TAKEN) + named(question.ref)
            entry.note("unresolved", f"attempt {question.attempt_no} at {self.broker.name} for {age:.0f} s: {words}")
            log.error(
                "order_unresolved",
                client_order_id=entry.id,
                broker=self.broker.name,
                attempt_no=question.attempt_no,
                seconds=round(age),
                why=words,
                hint=f"see `corro order {entry.id}`; close it with `corro resolve`",
            )


def _last_byte(row: _OpenAttempt) -> datetime:
    """Return when a byte of an attempt may have left at the latest: a send can be held up long after its claim.

    Whoever recorded an answer was done by then; who did not was at most as late as its last sign of life.
    """
    begun: datetime = row["sent_at"] or row["started_at"]
    ended: datetime | None = row["ended_at"]
    if ended is None and row["sender"] is not None:
        ended = min(row["sender"]["heartbeat_at"], row["lease_until"])
    return max(begun, ended or begun)
