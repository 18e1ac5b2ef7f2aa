"""Write down what became of attempts: the one place where an answer, or a report, changes an order.

Everything here runs inside a transaction over an `OrderBatch`; what follows is left in its effects.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from models.destinations import broker_of, destination_of, split
from models.errors import (
    AccessLost,
    BrokerError,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    QuotaExhausted,
    RateLimited,
    Refused,
    UnreadableReply,
)
from models.lifecycle import Fact
from models.outward import discreet
from models.record import fills
from models.record.batch import Effects, OrderBatch
from models.record.matching import Index, denials, index_of, objections, place_of
from models.record.order import OrderRecord, is_changing
from models.record.spending import is_over
from models.reports import DONE, BrokerStatus, FillReport, OrderReport, Report
from models.settings import Settings
from models.sizes import filled_words
from models.terms import Rewrites
from models.vocabulary import OPEN, TERMINAL, UNCLEAR, Denial, Outcome, Status
from worker.orders.legs import places_in, stays_with_group, tell_legs
from worker.orders.routing import (
    ALONE_S,
    ROUND_S,
    Absent,
    AwaitEvidence,
    Decision,
    Go,
    Stop,
    code_of,
    decide,
    may_be_asked_again,
)
from worker.orders.routing_facts import FactsReader
from worker.orders.succession import (
    REFUSED_AGAIN,
    REPLACED_AFTER_ALL,
    SURPLUS,
    doubts,
    doubts_rest,
    give_up_again,
    is_doubted,
    lives_on,
    may_stand_for,
    promote,
    replaced,
    steps_back,
    withdraw_surplus,
)
from worker.orders.windows import pause_after
from worker.runtime.said import Said

_OUTCOMES: tuple[tuple[type[BrokerError], Outcome], ...] = (
    (OutcomeUnknown, Outcome.UNKNOWN),
    (Refused, Outcome.REFUSED),
    (Absent, Outcome.ABSENT),
    (NotSent, Outcome.NOT_SENT),
    #: No adapter may let it out; what none of the three says is not known.
    (BrokerError, Outcome.UNKNOWN),
)
_IN_VAIN = frozenset({Outcome.NOT_SENT, Outcome.REFUSED, Outcome.ABSENT})
_STOPS: dict[Status, Fact] = {
    Status.CANCELED: Fact.CANCELED,
    Status.EXPIRED: Fact.EXPIRED,
    Status.REJECTED: Fact.REJECTED,
    Status.DENIED: Fact.DENIED,
}
_REPORTED: dict[BrokerStatus, tuple[Fact, ...]] = {
    BrokerStatus.ACCEPTED: (Fact.ACCEPTED,),
    BrokerStatus.PARTIALLY_FILLED: (Fact.ACCEPTED,),
    BrokerStatus.PENDING_CANCEL: (Fact.ACCEPTED, Fact.CANCEL_SENT),
    BrokerStatus.FILLED: (Fact.ACCEPTED,),
    BrokerStatus.CANCELED: (Fact.CANCELED,),
    BrokerStatus.EXPIRED: (Fact.EXPIRED,),
    BrokerStatus.REJECTED: (Fact.REJECTED,),
    BrokerStatus.REPLACED: (),
    BrokerStatus.UNKNOWN: (),
}


class Recorder:
    """Applies answers and reports of one broker to the orders in a batch.

    Args:
        settings: for the timing.
        broker: whose answers these are.
        dedupes: this broker refuses a second order under the same id.
        rewrites: what this broker may make of an order's terms.
    """

    def __init__(self, settings: Settings, broker: str, *, dedupes: bool, rewrites: Rewrites | None = None) -> None:
        self.timing, self.broker, self.rewrites = settings.timing, broker, rewrites or {}
        reader = FactsReader(settings, broker, dedupes=dedupes)
        self.routing_facts, self.closings, self.minds_positions = reader.read, reader.closings, reader.closes
        self._said = Said(broker, logging.WARNING)  # it may be ours before its terms are shown

    # -- ANSWERS TO A SEND ---
    def settle(self, entry: OrderRecord, attempt_no: int, answer: OrderReport | BrokerError) -> None:
        """Record how an attempt ended, and decide what follows."""
        if isinstance(answer, OrderReport) and (wrong := denials(entry, attempt_no, answer, self.rewrites)):
            words = f"{self.broker} answered with order {answer.broker_order_id}: {', '.join(wrong)}"
            answer = UnreadableReply(words, broker=self.broker)
        if isinstance(answer, OrderReport):
            self.report(entry, attempt_no, answer, asked=True)
            return
        attempt = entry.attempts[attempt_no]
        if attempt["outcome"] not in (Outcome.SENDING, Outcome.UNKNOWN):
            entry.note("late_answer", f"attempt {attempt_no} was settled as {attempt['outcome']}: {answer}")
            return
        if isinstance(answer, Refused) and not isinstance(answer, RateLimited) and may_stand_for(entry, attempt_no):
            words = f"{answer}; looked for anew, as an earlier send of it may be there and be the reason"
            answer = OutcomeUnknown(words, broker=self.broker, code=REFUSED_AGAIN)
        if isinstance(answer, Refused) and answer.broker_order_id is not None:
            self._name(entry, attempt_no, answer.broker_order_id)
            entry.set_attempt(attempt_no, ended_at=attempt["ended_at"] or entry.now)
            if doubts(entry, attempt_no, str(answer)):
                return
        self.end(entry, attempt_no, answer)

    def end(self, entry: OrderRecord, attempt_no: int, error: BrokerError) -> None:
        """End an attempt with an error and route the order on."""
        outcome = next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))
        due = entry.now + timedelta(seconds=self.timing.reconcile[0]) if outcome is Outcome.UNKNOWN else None
        ended = entry.attempts[attempt_no]["ended_at"] or entry.now
        entry.set_attempt(attempt_no, outcome=str(outcome), code=code_of(error), message=str(error))
        entry.set_attempt(attempt_no, next_check_at=due, ended_at=ended)
        changes = entry.attempts[attempt_no]["replaces"] is not None and attempt_no != entry.order["attempt_no"]
        kind = f"replace_{outcome}" if changes else str(outcome)
        entry.note(kind, f"attempt {attempt_no} at {destination_of(entry.attempts[attempt_no])}: {error}")
        if changes:  # the order stands as it was, at this broker
            self._keep_wish(entry, attempt_no, error)
            return
        if not stays_with_group(entry, attempt_no, error) and attempt_no == entry.order["attempt_no"]:
            self.follow(entry, attempt_no, decide(self.routing_facts(entry, attempt_no, error)))

    def _keep_wish(self, entry: OrderRecord, attempt_no: int, error: BrokerError) -> None:
        """What came of a replace: the wish stays until it is done, refused or withdrawn."""
        terms = entry.attempts[attempt_no]["terms"]
        if isinstance(error, OutcomeUnknown) or entry.order["replace_request"] != terms:
            return  # nobody knows yet; or somebody wishes something else by now
        if not may_be_asked_again(error):
            entry.set(replace_request=None)
            return
        tries = sum(a["terms"] == terms and a["outcome"] in _IN_VAIN for a in entry.attempts.values())
        longest = ALONE_S if isinstance(error, AccessLost) else ROUND_S  # the broker answers others
        rest = pause_after(tries, self.timing.retry_pause, longest)
        if isinstance(error, QuotaExhausted):  # our own count says when its turn is; orders in the queue wait no longer
            rest = self.timing.retry_pause
        entry.set(available_at=entry.now + timedelta(seconds=max(error.retry_after or 0.0, rest)))

    def follow(self, entry: OrderRecord, attempt_no: int, decision: Decision) -> None:
        """Carry out a routing decision."""
        if isinstance(decision, AwaitEvidence):
            if entry.status in OPEN:  # filled by another attempt, it waits for nothing
                entry.set(reason=decision.reason)
        elif isinstance(decision, Stop):
            if decision.code in (Denial.HALTED, Denial.REDUCING):
                entry.note("halted", decision.reason)
            if entry.happen(_STOPS[decision.status], attempt_no=attempt_no, detail=decision.reason).changed:
                entry.set(reason_code=decision.code)
        elif self._requeue(entry, attempt_no, decision) and decision.after_s <= 0:
            entry.effects.ring(broker_of(decision.broker), entry.id)

    def turn_away(self, entry: OrderRecord, error: NotSent) -> None:
        """Move a queued order on although nothing was tried: its broker is draining, or has no worker alive."""
        decision = decide(self.routing_facts(entry, 0, error))
        if not isinstance(decision, Go) or decision.broker != destination_of(entry.order):
            self.follow(entry, 0, decision)  # else there is nowhere better to be: it waits, until it expires

    def _requeue(self, entry: OrderRecord, attempt_no: int, go: Go) -> bool:
        """Queue an order for a broker; tells whether it is queued. What is partly filled is not sent a second time."""
        step = entry.happen(Fact.REQUEUED, attempt_no=attempt_no, detail=f"to {go.broker}: {go.reason}")
        if entry.status is not Status.QUEUED:
            if attempt_no == entry.order["attempt_no"]:
                words = "part of it was filled on an earlier attempt, so the rest is not sent again"
                entry.happen(Fact.CANCELED, attempt_no=attempt_no, detail=f"{words} ({go.reason})")
            return False
        if not step.changed:
            entry.note("moved", f"to {go.broker}: {go.reason}")
        (broker, account), pause = split(go.broker), timedelta(seconds=max(go.after_s, 0.0))
        entry.set(broker=broker, account=account, broker_order_id=None, broker_status=None, reason=go.reason)
        entry.set(available_at=entry.now + pause)
        return True

    # -- REPORTS ---
    def report(
        self, entry: OrderRecord, attempt_no: int, report: OrderReport, *, infer: bool = False, asked: bool = False
    ) -> None:
        """Apply what the broker shows of an order.

        `infer`: the executions were read before this, so what the broker counts beyond them is booked as inferred; of
        an order that has ended, always.
        `asked`: it is the answer to a question about this very attempt, not something that was pushed.
        """
        if report.legs and attempt_no == entry.order["attempt_no"]:
            tell_legs(self.report, entry, report, self.rewrites, infer=infer, asked=asked)
        attempt = entry.attempts[attempt_no]
        report = fills.filled_with_nothing(entry, attempt_no, report)
        if report.status in DONE and attempt["stray_at"] is not None:
            entry.set_attempt(attempt_no, stray_at=None)
        if report.fills and attempt["replaces"] is not None and attempt_no > entry.order["attempt_no"]:
            _accept(entry, attempt_no)  # its executions prove the replace, so they are no late ones of somebody else
            promote(entry, attempt_no)
        late = [entry.fill(attempt_no, fill) for fill in report.fills]
        if infer or report.status in DONE:
            fills.infer(entry, attempt_no, report, complete=infer)
        if is_doubted(attempt) and not asked:
            entry.set_attempt(attempt_no, next_check_at=entry.now)
            return  # it was refused and is being canceled: what became of it is asked, not overheard
        dead = report.status is BrokerStatus.REJECTED and not report.filled_quantity and not report.fills
        if dead and not any(row["quantity"] for row in entry.fills_of(attempt_no)):
            self._refused(entry, attempt_no, report)
            return
        revived = attempt["outcome"] in (Outcome.ABSENT, Outcome.NOT_SENT, Outcome.REFUSED)
        answered = attempt["outcome"] != Outcome.ACCEPTED
        if answered:
            _accept(entry, attempt_no)
        if attempt["replaces"] is not None and attempt_no > entry.order["attempt_no"]:
            promote(entry, attempt_no)
        self._identify(entry, attempt_no, report)
        if doubts_rest(entry, attempt_no, report, _words(report) or "rejected"):
            return
        self._say_what_is_unclear(entry, attempt_no, report)
        lives = infer and lives_on(entry, report)
        if entry.was_replaced(attempt_no) and not lives:
            return  # its successor speaks for the order; its fills are booked
        if (
            lives
            or attempt_no != entry.order["attempt_no"]
            or entry.status is Status.QUEUED
            or (revived and entry.status in TERMINAL and report.status not in DONE)
        ):
            self._stray(entry, attempt_no, report)
        if any(late) or (answered and report.at_work):
            withdraw_surplus(entry)
        self._move(entry, attempt_no, report)
        if is_over(entry, report, complete=infer):
            entry.happen(
                Fact.COMPLETED, attempt_no=attempt_no, detail=f"its broker calls it {filled_words(entry.order)}"
            )

    def _say_what_is_unclear(self, entry: OrderRecord, attempt_no: int, report: OrderReport) -> None:
        """Let a person see a status that decides nothing, such as IB's Inactive without a code."""
        if attempt_no != entry.order["attempt_no"]:
            return
        code = entry.order["reason_code"]
        if report.status is not BrokerStatus.UNKNOWN and code == UNCLEAR:
            entry.waits_no_more()
        elif report.status is BrokerStatus.UNKNOWN and report.raw_status and entry.status in OPEN and code is None:
            shows = (
                f"{self.broker} shows it as {_words(report)}, which says neither that it works nor that it has ended"
            )
            entry.set(reason=shows, reason_code=UNCLEAR)
            entry.note(UNCLEAR, shows)

    def _move(self, entry: OrderRecord, attempt_no: int, report: OrderReport) -> None:
        if report.status is BrokerStatus.CANCELED and is_changing(entry):
            return  # some brokers call a replaced order canceled: wait for what becomes of the replace
        if report.status is BrokerStatus.REPLACED:
            replaced(entry, attempt_no, report)
        for fact in _REPORTED[report.status]:
            entry.happen(fact, attempt_no=attempt_no, detail=_words(report))

    def _refused(self, entry: OrderRecord, attempt_no: int, report: OrderReport) -> None:
        """Without a fill the route goes on, once it is sure that a refused order is dead."""
        attempt = entry.attempts[attempt_no]
        outcome = attempt["outcome"]
        if outcome == Outcome.REFUSED:
            return
        self._identify(entry, attempt_no, report)
        told = _words(report) or "rejected"
        if outcome == Outcome.ACCEPTED and steps_back(entry, attempt_no, told):
            return
        exists = outcome == Outcome.ACCEPTED or report.broker_order_id is not None
        if exists and doubts(entry, attempt_no, told):
            return
        code = report.code if attempt["code"] != REPLACED_AFTER_ALL else REPLACED_AFTER_ALL  # it has been looked for
        self.end(entry, attempt_no, OrderRejected(told, broker=self.broker, code=code))

    def _identify(self, entry: OrderRecord, attempt_no: int, report: OrderReport) -> None:
        if report.session and entry.attempts[attempt_no]["session"] is None:
            entry.set_attempt(attempt_no, session=report.session)
        if report.broker_order_id:
            self._name(entry, attempt_no, report.broker_order_id)
        entry.hear(attempt_no, report)

    def _name(self, entry: OrderRecord, attempt_no: int, broker_order_id: str) -> None:
        """Keep what the broker calls the order of an attempt."""
        if entry.attempts[attempt_no]["broker_order_id"] != broker_order_id:
            entry.set_attempt(attempt_no, broker_order_id=broker_order_id)
        speaks = attempt_no == entry.order["attempt_no"] and entry.status is not Status.QUEUED
        if speaks and entry.order["broker_order_id"] != broker_order_id:
            entry.set(broker_order_id=broker_order_id)

    def _stray(self, entry: OrderRecord, attempt_no: int, report: OrderReport) -> None:
        """An attempt that was given up is alive at its broker: say so loudly, and have it canceled there."""
        told = f"attempt {attempt_no} at {self.broker} is {report.status}, order {report.broker_order_id}"
        entry.note_once("stray", told)  # a listing shows it again and again
        if report.status not in DONE:
            give_up_again(entry, attempt_no)

    # -- UPDATES ---
    def updates(
        self, connection: Connection, reports: Sequence[Report], now: datetime, *, infer: bool = False
    ) -> Effects:
        """Apply reports; those about orders that are not ours are left alone.

        `infer`: these were read together with the executions, so what an order counts beyond them was missed. A pushed
        report is only taken so when it is the order's last.
        """
        index = index_of(connection, self.broker, reports)
        batch = OrderBatch.open(connection, {place[0] for place in index.values()}, now)
        batch.is_reading = infer
        left = self._each(batch, index, reports, infer)
        # An execution may stand before the order that shows whose it is.
        early = [report for report in left if isinstance(report, FillReport)]
        again = {id(report) for report in self._each(batch, index | places_in(batch), early, infer)}
        batch.effects.unmatched += [r for r in left if not isinstance(r, FillReport) or id(r) in again]
        batch.write()
        return batch.effects

    def _each(self, batch: OrderBatch, index: Index, reports: Sequence[Report], infer: bool) -> list[Report]:
        """Apply what is ours of these; returns the rest."""
        left: list[Report] = []
        for report in reports:
            found = place_of(report, index)
            entry = batch.get(found[0]) if found else None
            if found and entry and found[1] not in entry.attempts:  # nothing is booked by halves, nor as a stranger's
                self._said.once("row_altered", client_order_id=entry.id, attempt_no=entry.order["attempt_no"])
                continue
            if found is None or entry is None or self._is_strange(entry, found[1], report):
                left.append(report)
            elif isinstance(report, FillReport) and fills.is_unexplained(entry, found[1], report):
                left.append(report)  # what it changes may be on its way
            else:
                self._update(entry, found[1], report, infer)
        return left

    def _is_strange(self, entry: OrderRecord, attempt_no: int, report: Report) -> bool:
        """Tell whether a report only carries an id of ours: an order on other terms, perhaps a stranger's."""
        if against := objections(entry, attempt_no, report, self.rewrites):
            about = {"attempt_no": attempt_no, "why": ", ".join(against)}
            self._said.once("report_not_ours", client_order_id=entry.id, **about)
        return bool(against)

    def _update(self, entry: OrderRecord, attempt_no: int, report: Report, infer: bool) -> None:
        if isinstance(report, OrderReport):
            self.report(entry, attempt_no, report, infer=infer)
        elif isinstance(report, FillReport):
            self._fill(entry, attempt_no, report)
        else:
            fills.commission(entry, report)

    def _fill(self, entry: OrderRecord, attempt_no: int, report: FillReport) -> None:
        """An execution proves the order: the attempt is accepted whatever we believed."""
        given_up = attempt_no != entry.order["attempt_no"] or entry.status is Status.QUEUED
        attempt = entry.attempts[attempt_no]
        doubted = is_doubted(attempt)  # what it had traded before says nothing of its rest
        if attempt["outcome"] != Outcome.ACCEPTED and not doubted:
            _accept(entry, attempt_no)
        if report.broker_order_id and attempt["broker_order_id"] is None:
            entry.set_attempt(attempt_no, broker_order_id=report.broker_order_id)
            if attempt_no == entry.order["attempt_no"]:
                entry.set(broker_order_id=report.broker_order_id)
        is_new = entry.fill(attempt_no, report)
        if doubted and is_new and attempt["code"] != SURPLUS:  # which is too much, however much of it trades
            _accept(entry, attempt_no)
        if given_up and not entry.was_replaced(attempt_no):
            if not entry.is_filled_on(attempt_no):
                give_up_again(entry, attempt_no)  # what is left must not trade beside its successor
            if is_new:
                withdraw_surplus(entry)


def _accept(entry: OrderRecord, attempt_no: int) -> None:
    ended, outcome = entry.attempts[attempt_no]["ended_at"] or entry.now, str(Outcome.ACCEPTED)
    entry.set_attempt(attempt_no, outcome=outcome, ended_at=ended, next_check_at=None, code=None, message=None)


def _words(report: OrderReport) -> str | None:
    return discreet(" ".join(filter(None, (report.code, report.message or report.raw_status)))) or None
