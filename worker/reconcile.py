"""Ask the broker what is true: unknown outcomes, missed updates, everything after a reconnect.

`conclude` is the pure rule for an unknown attempt; `Reconciler` carries the questions and the answers.

| the broker shows | the sender is done | sightings and age suffice | conclusion                         |
|------------------|--------------------|---------------------------|------------------------------------|
| the order        | any                | any                       | adopt it                           |
| nothing          | no                 | any                       | wait: it may still be on its way   |
| nothing          | yes                | no                        | wait: look again                   |
| nothing          | yes                | yes, and absence possible | absent                             |
| several          | any                | any                       | wait for a person                  |
| no answer        | any                | any                       | wait: a failed reading is not an empty one |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import structlog
from sqlalchemy import Connection, func, select

from models.book import Book, Entry, Row
from models.database import Database
from models.errors import BrokerError, CorroError, NotSent, Refused
from models.evidence import fold
from models.intake import request_of
from models.points import reached
from models.replacing import changed_terms, terms_of
from models.reports import Ambiguous, FillReport, Found, Missing, OrderReport, Report, Sighting
from models.settings import Settings
from models.tables import attempts, fills, orders, position_ledgers, workers
from models.vocabulary import LIVE, Outcome, Status
from worker.apart import apart
from worker.brokers.base import AbsenceRule, BrokerInterface, OrderRef
from worker.clock import StepWatch, utcnow
from worker.execution import Execution
from worker.external import External
from worker.health import Identity, is_gone, is_silent
from worker.recording import Aftermath
from worker.routing import Absent

log = structlog.get_logger()

#: Executions are read again this far behind the last one seen; they dedupe by their ids.
_OVERLAP = timedelta(minutes=5)
#: How far back the first reading goes.
_FIRST_LOOK = timedelta(days=1)
_LOOKS_AT_ONCE = 50


def conclude(
    rule: AbsenceRule, sighting: Sighting | None, *, missing: int, age_s: float, sender_done: bool
) -> Literal["adopt", "absent", "wait"]:
    """Draw the conclusion about an unknown attempt.

    Args:
        rule: what this broker allows to conclude.
        sighting: what was seen now; None if it could not be read.
        missing: complete readings that missed the order, this one included.
        age_s: seconds since the last moment in which a byte of it can have left.
        sender_done: whoever sent it can send nothing more.
    """
    if isinstance(sighting, Found):
        return "adopt"
    if not isinstance(sighting, Missing) or not (rule.possible and sender_done):
        return "wait"
    return "absent" if missing >= rule.sightings and age_s >= rule.min_age_s else "wait"


@dataclass(frozen=True, slots=True)
class _Question:
    entry_id: str
    attempt_no: int
    ref: OrderRef
    checks: int
    missing: int
    sender_done: bool
    never_sent: bool
    #: No byte of it has left later than this.
    last_byte: datetime


class Reconciler:
    """Settles what is unknown at one broker, and reads what updates may have missed."""

    def __init__(
        self, settings: Settings, database: Database, broker: BrokerInterface, execution: Execution, me: Identity
    ) -> None:
        self.timing, self.database, self.broker = settings.timing, database, broker
        self.execution, self.recorder, self.me = execution, execution.recorder, me
        self.rule = broker.capabilities.absence
        self.external = External(database, broker.name)
        self.steps = StepWatch(self.timing.lease)

    # -- UNKNOWN ATTEMPTS ---
    def unknown(self, *, everything: bool = False) -> int:
        """Look for every attempt whose outcome is open and due; returns how many were asked about.

        Args:
            everything: also those that are not due yet (after a reconnect).
        """
        everything |= self.steps.look()  # what was due by the old clock may be an hour away by the new one
        self._orphans()
        questions = self._due(everything)
        for start in range(0, len(questions), _LOOKS_AT_ONCE):
            self._ask(questions[start : start + _LOOKS_AT_ONCE])
        return len(questions)

    def _orphans(self) -> None:
        """Attempts whose worker died, or whose lease ran out, during the send: their outcome is unknown."""
        now = utcnow()
        with self.database.read() as connection:
            orphans = [row for row in self._open(connection, [Outcome.SENDING]) if self._is_orphan(row, now)]
        if not orphans:
            return
        with self.database.write() as connection:
            book = Book.open(connection, [row["client_order_id"] for row in orphans], now)
            for row in orphans:
                entry, number = book[row["client_order_id"]], row["attempt_no"]
                if entry.attempts[number]["outcome"] != Outcome.SENDING:
                    continue
                words = f"worker {row['worker']} did not finish the send"
                entry.set_attempt(number, outcome=str(Outcome.UNKNOWN), message=words, next_check_at=now)
                entry.note("unknown", f"attempt {number} at {self.broker.name}: {words}")
                if number == entry.order["attempt_no"]:
                    entry.set(reason=f"{self.broker.name}: {words}")
            book.write()

    def _is_orphan(self, row: Row, now: datetime) -> bool:
        sender = row["sender"]
        return (
            row["lease_until"] < now
            or is_gone(sender, self.me, now, self.timing.sender_gone_after)
            or is_silent(sender, now, self.timing.dead_after)
        )

    def _open(self, connection: Connection, outcomes: Sequence[Outcome]) -> list[Row]:
        query = (
            select(attempts)
            .where(attempts.c.broker == self.broker.name, attempts.c.outcome.in_([str(o) for o in outcomes]))
            .order_by(attempts.c.started_at)
        )
        found = [dict(row) for row in connection.execute(query).mappings()]
        names = {row["worker"] for row in found}
        senders = {
            row["worker"]: row
            for row in connection.execute(select(workers).where(workers.c.worker.in_(names))).mappings()
        }
        return [{**row, "sender": senders.get(row["worker"])} for row in found]

    def _due(self, everything: bool) -> list[_Question]:
        now = utcnow()
        with self.database.read() as connection:
            found = self._open(connection, [Outcome.UNKNOWN])
            due = [r for r in found if everything or r["next_check_at"] is None or r["next_check_at"] <= now]
            rows = {
                row["client_order_id"]: row
                for row in connection.execute(
                    select(orders).where(orders.c.client_order_id.in_([r["client_order_id"] for r in due]))
                ).mappings()
            }
            known = self._known_ids(connection, due)
        return [self._question(r, rows[r["client_order_id"]], known, now) for r in due]

    def _question(self, row: Row, order: Any, known: frozenset[str], now: datetime) -> _Question:
        # A clock that was set ahead makes a send that is still under way look old, and its sender look past it.
        done = self._sender_done(row, now) and not self.steps.doubtful()
        anonymous = self.broker.capabilities.client_order_id_length is None
        return _Question(
            entry_id=row["client_order_id"],
            attempt_no=row["attempt_no"],
            ref=order_ref(order, row, known),
            checks=row["checks"],
            missing=row["missing"],
            sender_done=done,
            never_sent=anonymous and row["sent_at"] is None and done,
            last_byte=_last_byte(row),
        )

    def _sender_done(self, row: Row, now: datetime) -> bool:
        """Tell whether whoever sent it can send nothing more.

        It has recorded `unknown` itself, so it is back from its send; or it is gone; or it was seen running after its
        lease had ended, so that it was not merely suspended in the middle.
        """
        sender = row["sender"]
        if row["ended_at"] is not None or is_gone(sender, self.me, now, self.timing.sender_gone_after):
            return True
        return bool(sender["heartbeat_at"] > row["lease_until"])

    def _known_ids(self, connection: Connection, due: Sequence[Row]) -> frozenset[str]:
        """Return the broker's ids of our other orders: they are not the one we look for."""
        if not due or self.broker.capabilities.client_order_id_length is not None:
            return frozenset()
        since = min(row["started_at"] for row in due) - timedelta(minutes=10)
        query = select(attempts.c.broker_order_id).where(
            attempts.c.broker == self.broker.name,
            attempts.c.broker_order_id.is_not(None),
            attempts.c.started_at >= since,
        )
        return frozenset(connection.execute(query).scalars())

    def _ask(self, questions: Sequence[_Question]) -> None:
        lost = [q for q in questions if q.never_sent]
        asked = [q for q in questions if not q.never_sent]
        answers: Sequence[Sighting | CorroError] = []
        # What a reading proves, it proves of this moment: this process may be suspended before it is written down.
        at = utcnow()
        try:
            answers = self.broker.find_orders([q.ref for q in asked]) if asked else []
        except CorroError as error:
            log.warning("cannot_reconcile", broker=self.broker.name, orders=len(asked), error=str(error))
            answers = [self.execution.heeded(error)] * len(asked)
        reached("after_look")
        after = Aftermath()
        with self.database.write() as connection:
            book = Book.open(connection, [q.entry_id for q in questions], utcnow())
            for question in lost:
                unsent = NotSent("its worker died before it was sent", broker=self.broker.name, code="never_sent")
                self._settle(book, question, unsent, after)
            for question, answer in zip(asked, answers, strict=True):
                self._answer(book, question, answer, at, after)
            book.write()
        self.execution.finish(after)

    def _settle(self, book: Book, question: _Question, error: BrokerError, after: Aftermath) -> None:
        self.recorder.settle(book, book[question.entry_id], question.attempt_no, error, after)

    def _answer(
        self, book: Book, question: _Question, answer: Sighting | CorroError, at: datetime, after: Aftermath
    ) -> None:
        entry = book[question.entry_id]
        attempt = entry.attempts[question.attempt_no]
        if attempt["outcome"] != Outcome.UNKNOWN:
            return
        entry.set_attempt(question.attempt_no, evidence=fold(attempt["evidence"], answer, at, self._query()))
        sighting = None if isinstance(answer, CorroError) else answer
        # A reading counts only once nothing can be on its way any more.
        missing = question.missing + (isinstance(sighting, Missing) and question.sender_done)
        age = (at - question.ref.sent_at).total_seconds()
        rest = (at - question.last_byte).total_seconds()
        verdict = conclude(self.rule, sighting, missing=missing, age_s=rest, sender_done=question.sender_done)
        if verdict == "adopt":
            assert isinstance(sighting, Found)
            in_place = self.broker.capabilities.replaces == "in_place"
            if in_place and not _is_changed(entry.attempts[question.attempt_no], sighting.report):
                unchanged = Refused(f"{self.broker.name} shows the order unchanged", broker=self.broker.name)
                self._settle(book, question, unchanged, after)
                return
            entry.note("found", f"attempt {question.attempt_no} at {self.broker.name}: {sighting.report.status}")
            self.recorder.report(book, entry, question.attempt_no, sighting.report, after, infer=True)
        elif verdict == "absent":
            assert isinstance(sighting, Missing)
            words = f"{self.broker.name} does not have it: missed {missing} times in {age:.0f} s ({sighting.evidence})"
            self._settle(book, question, Absent(words, broker=self.broker.name, code="absent"), after)
        else:
            self._wait(entry, question, sighting, missing, age)

    def _query(self) -> str:
        if self.broker.capabilities.client_order_id_length is None:
            return "by its terms, among orders entered around the send that are not known to be others"
        return "by the id we gave it"

    def _wait(self, entry: Entry, question: _Question, sighting: Sighting | None, missing: int, age: float) -> None:
        pauses = self.timing.reconcile
        pause = pauses[min(question.checks + 1, len(pauses) - 1)]
        attempt = entry.attempts[question.attempt_no]
        values: Row = {
            "checks": question.checks + 1,
            "missing": missing,
            "next_check_at": entry.now + timedelta(seconds=pause),
        }
        if age >= self.timing.alert_after and attempt["alerted_at"] is None:
            values["alerted_at"] = entry.now
            words = _why_open(sighting, missing, self.rule)
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
        entry.set_attempt(question.attempt_no, **values)

    # -- MISSED UPDATES ---
    def open_orders(self) -> None:
        """Read again what is live at this broker in our books, if anything is."""
        with self.database.read() as connection:
            live = self.live(connection)
        if live:
            self.read()

    def read(self, *, everything: bool = False) -> bool:
        """Read executions since the last reading and the orders at this broker, ours and others', and book them.

        Args:
            everything: completed orders as well (after a reconnect); else only where an order has gone missing.

        Returns:
            Whether executions could be read; where they cannot be listed, the orders' own totals tell what was filled.

        Raises:
            CorroError: the orders could not be read.
        """
        begun = utcnow()
        with self.database.read() as connection:
            refs = self.live(connection)
            since = self._fills_since(connection)
        fills = self._fills(since)
        listed = list(self.broker.get_orders(open_only=not everything, since=since if everything else None))
        by_id = {r.broker_order_id: r for r in listed}
        gone = [ref for ref in refs if ref.broker_order_id not in by_id]
        reports: list[Report] = [*(fills or []), *(r for ref in refs if (r := by_id.get(ref.broker_order_id)))]
        reports += [s.report for s in self.broker.find_orders(gone) if isinstance(s, Found)] if gone else []
        self.apply(reports)
        decided = self.external.note([*(fills or []), *listed, *self._vanished(by_id)])
        if fills is not None and decided:
            self.external.read_until(begun)
        return fills is not None

    def _vanished(self, listed: Mapping[str | None, OrderReport]) -> list[OrderReport]:
        """Read what became of other people's orders that are not listed as open any more."""
        gone, since = self.external.vanished(listed)
        if not gone:
            return []
        found = self.broker.get_orders(open_only=False, since=since)
        self.external.lose(set(gone) - {r.broker_order_id for r in found})
        return [report for report in found if report.broker_order_id in gone]

    def _fills(self, since: datetime) -> Sequence[FillReport] | None:
        try:
            return self.broker.get_fills(since)
        except CorroError as error:
            log.warning("fills_unreadable", broker=self.broker.name, error=str(self.execution.heeded(error)))
            return None

    def apply(self, reports: Sequence[Report]) -> None:
        """Apply what was read in one transaction and do what follows."""
        for after in apart(self._apply, reports, "report_not_applied") if reports else ():
            self.execution.finish(after)

    def _apply(self, reports: Sequence[Report]) -> Aftermath:
        with self.database.write() as connection:
            return self.recorder.updates(connection, reports, utcnow(), infer=True)

    def live(self, connection: Connection, *which: Any) -> list[OrderRef]:
        """Return the orders that are live at this broker in our books; `which` narrows them.

        The way leads from the few live orders to their attempts. What the attempts have to be is hidden from the
        planner: SQLite, which has no statistics, would begin with every attempt that was ever accepted.
        """
        broker, outcome = (func.coalesce(column, "") for column in (attempts.c.broker, attempts.c.outcome))
        query = (
            select(orders, attempts)
            .join_from(
                orders,
                attempts,
                (orders.c.client_order_id == attempts.c.client_order_id)
                & (orders.c.attempt_no == attempts.c.attempt_no),
            )
            .where(broker == self.broker.name, outcome == str(Outcome.ACCEPTED))
            .where(orders.c.status.in_([str(s) for s in (*LIVE, Status.SUBMITTED)]), *which)
        )
        return [order_ref(_part(row, orders), _part(row, attempts)) for row in connection.execute(query).mappings()]

    def _fills_since(self, connection: Connection) -> datetime:
        name = self.broker.name
        ledger = select(position_ledgers.c.fills_read_at).where(position_ledgers.c.broker == name)
        last = connection.execute(ledger).scalar()
        if last is None:
            last = connection.execute(select(func.max(fills.c.filled_at)).where(fills.c.broker == name)).scalar()
        # Not from the last fill alone: one that was missed may be older than one that was seen.
        oldest = connection.execute(
            select(func.min(orders.c.submitted_at)).where(
                orders.c.broker == name, orders.c.status.in_([str(s) for s in (*LIVE, Status.SUBMITTED)])
            )
        ).scalar()
        known = [at for at in (last, oldest) if at is not None]
        return min(known) - _OVERLAP if known else utcnow() - _FIRST_LOOK


def order_ref(order: Any, attempt: Any, known: frozenset[str] = frozenset()) -> OrderRef:
    """Return what an adapter needs to find an attempt at its broker."""
    request = request_of(order)
    return OrderRef(
        order=changed_terms(request, attempt["terms"]) if attempt["terms"] else request,
        broker_client_order_id=attempt["broker_client_order_id"],
        broker_order_id=attempt["broker_order_id"],
        sent_at=attempt["sent_at"] or attempt["started_at"],
        baseline=frozenset(attempt["baseline"] or ()),
        known=known,
    )


def _last_byte(row: Row) -> datetime:
    """Return when a byte of an attempt may have left at the latest: a send can be held up long after its claim.

    Whoever recorded an answer was done by then; who did not was at most as late as its last sign of life.
    """
    begun: datetime = row["sent_at"] or row["started_at"]
    ended: datetime | None = row["ended_at"]
    if ended is None and row["sender"] is not None:
        ended = min(row["sender"]["heartbeat_at"], row["lease_until"])
    return max(begun, ended or begun)


def _is_changed(attempt: Row, report: OrderReport) -> bool:
    """Tell whether an order that is changed in place shows its new terms."""
    shown = {name: getattr(report, name, None) for name in terms_of(attempt["terms"])}
    return all(shown[name] in (None, value) for name, value in terms_of(attempt["terms"]).items())


def _part(row: Any, table: Any) -> Row:
    return {column.name: row[column] for column in table.c}


def _why_open(sighting: Sighting | None, missing: int, rule: AbsenceRule) -> str:
    if isinstance(sighting, Ambiguous) and not sighting.candidates:
        return "it was sent before what the broker still lists, so not seeing it proves nothing"
    if isinstance(sighting, Ambiguous):
        ids = ", ".join(str(c.broker_order_id) for c in sighting.candidates)
        return f"several orders at the broker could be it: {ids}"
    if sighting is None:
        return "the broker could not be asked"
    if not rule.possible:
        return f"not seen in {missing} readings, but this broker offers no proof of absence"
    return f"not seen in {missing} readings so far"
