"""Take orders to send: the transaction in which an order becomes this worker's for the length of a send.

An order can be claimed once, because only a `queued` row can, and the claim ends that in the same transaction that
writes the attempt. Copies of a message, late messages and other workers find nothing left to claim.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

import structlog
from sqlalchemy import Connection

from models.crash_points import reached
from models.destinations import destination_of
from models.errors import DatabaseUnavailable, Denied, NotConnected, NotSent
from models.legs import symbols_priced
from models.lifecycle import Fact
from models.record.asking import Questionnaire
from models.record.batch import OrderBatch
from models.record.changes import AttemptChanges
from models.record.controls import in_force
from models.record.database import Database
from models.record.groups import gather, that_count
from models.record.intake import request_of
from models.record.order import OrderRecord, Row, has_ended
from models.record.rows import Json, ReadableOrder, by_name
from models.risk.decision import Hold, Pass, Refuse
from models.risk.names import EVERYTHING, Limit
from models.settings import TimingSettings
from models.sizes import left_of
from models.vocabulary import TERMINAL, Denial, Outcome, Status
from worker.brokers.base import BrokerInterface
from worker.control.brake import denial, drain_of, movement_of, stop_of, words
from worker.control.controls import trip
from worker.gate import Gate
from worker.orders.anonymity import look_alikes, read_baseline, why_not_told_apart
from worker.orders.batches import Batches
from worker.orders.command import Claimed
from worker.orders.legs import why_not_whole
from worker.orders.plain import PlainClaims, begun_words
from worker.orders.record import Recorder
from worker.orders.routing import Go, Stop, decide, is_known
from worker.orders.routing_facts import came_to_nothing
from worker.orders.selection import FLAGS, IS_OVERDUE, Selection
from worker.orders.succession import must_end_first
from worker.orders.vouching import Doubt, Vouching
from worker.positions.closing import AGAIN, Asked, Closings, closes
from worker.positions.locks import Locks
from worker.risk.limiter import Limiter, RiskQuestions
from worker.risk.prices import Quotes
from worker.runtime.clock import utcnow

log = structlog.get_logger()
_LegsOf = Mapping[str, Sequence[OrderRecord]]


def attempt_id(client_order_id: str, attempt_no: int, longest: int | None) -> str:
    """Return the id that the broker sees for an attempt.

    The first attempt carries the order's own id; later ones append `~n`, which no client_order_id contains, because
    Alpaca keeps an id used for ever (docs/facts/alpaca.md#2.1). What is too long for the broker is shortened by its
    digest.
    """
    text = client_order_id if attempt_no == 1 else f"{client_order_id}~{attempt_no}"
    if longest is None or len(text) <= longest:
        return text
    digest = hashlib.sha256(client_order_id.encode()).hexdigest()[:16]
    end = f"~{digest}~{attempt_no}"
    return client_order_id[: longest - len(end)] + end


class Claims:
    """Claims orders for one broker.

    Args:
        database: the record.
        broker: the adapter.
        worker: this worker's name.
        timing: for the lease.
        gate: of the broker.
        batches: for the transaction.
        recorder: routes on what cannot be claimed.
        limiter: asked before an attempt begins.
        vouching: knows who stands behind an order.
    """

    def __init__(
        self,
        database: Database,
        broker: BrokerInterface,
        worker: str,
        timing: TimingSettings,
        gate: Gate,
        batches: Batches,
        recorder: Recorder,
        limiter: Limiter,
        vouching: Vouching,
    ) -> None:
        self.database, self.broker, self.worker, self.timing = database, broker, worker, timing
        self.gate, self.batches, self.recorder, self.limiter = gate, batches, recorder, limiter
        self.vouching = vouching
        self.capabilities = broker.capabilities
        longest = self.capabilities.client_order_id_length
        self.plain = PlainClaims(database, longest, closing_is_plain=not recorder.minds_positions)

    def claim(self, which: Selection) -> list[Claimed]:
        """Take queued orders: status, attempt and event move together.

        Plain orders are taken by one statement; the others, and those that nobody named, in a transaction that looks at
        each. What must not be sent (stale, canceled, stopped) is ended there instead.

        Args:
            which: orders; its `asked` takes the ids of those that wait for a reading of this broker's positions, which
                is the caller's to make; they stay queued.
        """
        closed = self.gate.why_closed()
        careful = closed or self.anonymous or self.limiter.is_set or self.vouching.always
        taken = [] if careful or not which.may_be_plain else self._take_plain(which.may_be_plain)
        if not taken or len(taken) < len(which.ids):
            taken += self._take_others(which.but([one.id for one in taken]), closed, beside=bool(taken))
        reached("after_claim")
        return taken

    def _take_plain(self, ids: Collection[str]) -> list[Claimed]:
        now = utcnow()
        taken = self.plain.take(ids, self._begun(now), now)
        return [Claimed(request_of(entry.order), entry.order["attempt_no"], entry.id, entry) for entry in taken]

    def _take_others(self, which: Selection, closed: str | None, *, beside: bool) -> list[Claimed]:
        """Take what is not plain; where the database goes away meanwhile, what was taken `beside` it is still sent."""
        try:
            return self.carefully(which, closed)
        except DatabaseUnavailable as error:
            if not beside:
                raise
            log.warning("others_not_claimed", broker=self.broker.name, error=str(error))
            return []  # the sweep finds them

    def carefully(self, which: Selection, closed: str | None = None) -> list[Claimed]:
        """Take queued orders, plain or not, in one transaction that looks at each.

        Args:
            which: orders.
            closed: why nothing may be sent now; orders go on along their routes then.
        """
        baseline = read_baseline(self.broker) if self.anonymous and not closed else []
        now, seen, limits = utcnow(), dict[str, bool](), list[list[Limit] | None]()

        def opened(connection: Connection) -> OrderBatch:
            asking, rows = Questionnaire(connection), list[Row]()
            asking.ask(which.query, rows.extend, broker=self.broker.name, now=now, **which.values)
            limits[:] = [self.limiter.ask_rows(asking)]
            asking.answer()
            seen.update({flag: True in [row.pop(flag) for row in rows] for flag in FLAGS})
            return OrderBatch.of(connection, cast("list[ReadableOrder]", rows), now)

        def work(batch: OrderBatch) -> list[Claimed]:
            mine, legs_of = list(batch.entries.values()), gather(batch)
            # First of all: what a row says of a cancel ends no order that somebody has signed.
            doubt = self.vouching.over(batch, guarded=seen["guarded"] or any(map(_is_guarded, legs_of.values())))
            left = self._let_pass(batch.connection, mine, legs_of) if seen["stopped"] else mine
            if closed:
                self._send_on(left, closed)
                return []
            locks = Locks(batch.connection, self.broker.name) if seen["locked"] else None
            risk = self._risk(batch, left, legs_of, limits[0]) if seen["limited"] or self.limiter.is_set else None
            closings = self.recorder.closings(batch, anyway=seen["stopped"])
            return self._take_all(batch.connection, left, legs_of, locks, closings, baseline, which, risk, doubt)

        claimed, effects = self.batches.over(opened, work)
        self.batches.ring(effects)
        return claimed

    def is_overdue(self, which: Selection) -> bool:
        """Tell, without a lock, whether one of the overdue waits to be claimed."""
        with self.database.read() as connection:
            return bool(IS_OVERDUE.rows(connection, broker=self.broker.name, now=utcnow(), **which.values))

    def _take_all(
        self,
        connection: Connection,
        entries: Sequence[OrderRecord],
        legs_of: _LegsOf,
        locks: Locks | None,
        closings: Closings | None,
        baseline: list[Row] | None,
        which: Selection,
        risk: RiskQuestions | None,
        doubt: Doubt | None,
    ) -> list[Claimed]:
        """Take each order that may be sent; the others end, move on, wait for a twin, or for a reading of positions.

        Args:
            connection: of the transaction.
            entries: the orders, locked, that no control stops.
            legs_of: the other legs of those that lead a group.
            locks: of positions, if there are any.
            closings: what else closes positions here, where any of them does.
            baseline: what the broker lists, where it keeps no id of ours; None: it could not be read.
            which: its `asked` takes the ids of those that wait for positions.
            risk: what the limits say of these orders, where there are any.
            doubt: says who may not have an order sent, where somebody has to be asked.
        """
        alike = look_alikes(connection, self.broker.name) if self.anonymous else {}
        claimed = []
        for entry in entries:
            legs = legs_of.get(entry.id, ())
            if has_ended(entry) or any(leg.changed and leg.status in TERMINAL for leg in legs):
                continue  # a leg that has ended just now ends the others with it
            if denied := _doubted((entry, *legs), doubt) or why_not_whole(entry, legs, self.broker.name):
                self._stop(entry, denied)
                continue
            own = that_count(entry, legs)
            keys = [(one.order["account"], one.order["symbol"], one.order["side"]) for one in own]
            if any(alike.get(key) == Outcome.SENDING for key in keys) or must_end_first(entry, legs):
                continue  # its twin is on its way, or it lives on: stays queued until that is settled
            locked = next((why for one in own if locks and (why := locks.refusal(one.order))), None)
            if why := locked or why_not_told_apart(keys, alike, baseline, self.broker.name):
                self._pass_on(entry, why)
                continue
            if closings and not all(self._may_close(entry, one, closings, which.asked) for one in own):
                continue
            verdict = risk.judge_all([one.id for one in own]) if risk else Pass()
            if not isinstance(verdict, Pass):
                self._hold_or_refuse(entry, own, verdict, which.quotes)
                continue
            kept = risk.reserved([one.id for one in own]) if risk else {}
            begun = [self._begin(one, _known(baseline, one), kept.get(one.id)) for one in (entry, *legs)]
            begun[0].legs = begun[1:]
            claimed.append(begun[0])
            if self.anonymous:
                alike |= dict.fromkeys(keys, Outcome.SENDING)
        return claimed

    # -- LIMITS ---
    def _risk(
        self, batch: OrderBatch, left: Sequence[OrderRecord], legs_of: _LegsOf, rows: Sequence[Limit] | None
    ) -> RiskQuestions | None:
        """Read what limits say about the orders that may be sent; None where none applies to them."""
        waiting = [(entry, legs_of.get(entry.id, ())) for entry in left if not has_ended(entry)]
        return self.limiter.about(batch.connection, waiting, batch.now, rows) if waiting else None

    def _hold_or_refuse(
        self, entry: OrderRecord, own: Sequence[OrderRecord], verdict: Hold | Refuse, quotes: Quotes
    ) -> None:
        """An order that may not be sent now waits for its turn or for a price, goes on along its route, or ends.

        `own`: the order itself, and the legs behind it that count.
        """
        if isinstance(verdict, Hold):
            entry.set(available_at=entry.now + timedelta(seconds=verdict.seconds), reason=verdict.words)
            if verdict.code is not None:
                entry.set(reason_code=str(verdict.code))
            return
        if verdict.code is Denial.NO_PRICE and not quotes.asked:
            quotes.ids.update((one.id, symbols_priced(by_name(one.order))) for one in own)
            return
        name, words = self.broker.name, verdict.words
        error = Denied(f"{name}: {words}", broker=name, code=str(verdict.code), everywhere=not verdict.limit.is_local)
        if verdict.trips is not None:
            self._trip(entry, verdict, verdict.trips)
        entry.note("risk_denied", f"{verdict.code}: {words}")
        log.warning("risk_denied", client_order_id=entry.id, broker=name, code=str(verdict.code), why=words)
        if error.everywhere:
            self.recorder.follow(entry, 0, Stop(Status.DENIED, words, error.code))
        else:  # an attempt of its own, so that the history shows where it could not go
            self.recorder.end(entry, self._begin(entry, []).attempt_no, error)

    def _trip(self, entry: OrderRecord, verdict: Refuse, state: str) -> None:
        """Stop what has gone wild until a named person resumes: the strategy of orders alike, else the scope."""
        kind, scope, strategy = verdict.limit.scope_kind, verdict.limit.scope, entry.order["strategy"]
        if verdict.code is Denial.REPEAT:
            kind, scope = ("strategy", strategy) if strategy else (EVERYTHING, EVERYTHING)
        if trip(entry.batch.connection, kind, scope, state, verdict.words, f"order {entry.id}"):
            log.error("risk_tripped", scope_kind=kind, scope=scope, state=state, why=verdict.words)

    # -- CLOSING ORDERS ---
    def _may_close(self, entry: OrderRecord, one: OrderRecord, closings: Closings, asked: Asked) -> bool:
        """Tell whether the broker holds what an order, or a leg behind it, closes; else have it wait, move or end."""
        if not closes(one.order):
            return True
        verdict = closings.judge(one, left_of(one.order), asked)
        if verdict == "send":
            return True
        if verdict == "read anew":
            if asked.since is None:
                asked.ids[entry.id] = None
            else:
                entry.set(available_at=entry.now + AGAIN, reason=closings.doubt(one, asked))
            return False
        error = Denied(closings.words(one), broker=self.broker.name, code=str(Denial.NO_POSITION))
        facts = self.recorder.routing_facts(entry, 0, error)
        decision = decide(facts)
        if one is entry and isinstance(decision, Go) and is_known(facts, decision.broker):
            self.recorder.follow(entry, 0, decision)  # it begins where the position is
        else:  # an attempt of its own, so that the history shows where it could not go
            self.recorder.end(entry, self._begin(entry, []).attempt_no, error)
        return False

    def _pass_on(self, entry: OrderRecord, error: NotSent) -> None:
        """An order that cannot be sent here now goes on along its route, or waits here if there is nowhere to go."""
        decision = decide(self.recorder.routing_facts(entry, 0, error))
        if isinstance(decision, Go) and decision.broker == destination_of(entry.order):
            pause = timedelta(seconds=max(decision.after_s, self.timing.retry_pause))
            entry.set(available_at=entry.now + pause, reason=decision.reason)
        else:  # an attempt of its own, so that the history shows where it could not go
            number = self._begin(entry, []).attempt_no
            self.recorder.end(entry, number, error)

    def _begin(self, entry: OrderRecord, baseline: list[str], reserved: Json | None = None) -> Claimed:
        """Make an order ours: `submitted`, with an attempt whose lease runs from now."""
        number = entry.next_attempt
        if entry.order["reason_code"] in (Denial.RATE, Denial.SESSION):
            entry.set(reason=None, reason_code=None)  # it has its turn
        theirs = self._their_id(entry, number)
        entry.happen(Fact.CLAIMED, attempt_no=number, detail=begun_words(number, destination_of(entry.order)))
        entry.set(submitted_at=entry.order["submitted_at"] or entry.now)
        begun = self._begun(entry.now)
        begun["broker_client_order_id"], begun["baseline"] = theirs, baseline or None
        begun["reserved"], begun["decision_price"] = reserved, entry.order["decision_price"]
        begun["account"] = entry.order["account"]
        entry.begin(number, **begun)
        return Claimed(request_of(entry.order), number, theirs, entry)

    def _begun(self, now: datetime) -> AttemptChanges:
        """Return what the attempts of one claim have in common."""
        return {
            "broker": self.broker.name,
            "outcome": str(Outcome.SENDING),
            "worker": self.worker,
            "session": self.broker.order_session,
            "started_at": now,
            "lease_until": now + timedelta(seconds=self.timing.lease),
        }

    def _their_id(self, entry: OrderRecord, number: int) -> str:
        """Use the same id again where the broker dedupes by it and the last try there came to nothing visible."""
        last = entry.current
        same = last is not None and destination_of(last) == destination_of(entry.order)
        here = same and self.capabilities.dedupes_client_order_id
        if last and here and came_to_nothing(last):
            return str(last["broker_client_order_id"])
        return attempt_id(entry.id, number, self.capabilities.client_order_id_length)

    def _let_pass(self, connection: Connection, mine: Sequence[OrderRecord], legs_of: _LegsOf) -> list[OrderRecord]:
        """Return the orders that no control stops; the others are denied, or go on along their routes."""
        name, controls = self.broker.name, in_force(connection)
        drain, left = drain_of(controls, name), list[OrderRecord]()
        for entry in mine:
            if has_ended(entry):
                continue
            rows = [one.order for one in (entry, *legs_of.get(entry.id, ()))]
            stops = (stop_of(controls, row, name, movement_of(row)) for row in rows)
            if control := next(filter(None, stops), None):
                self._stop(entry, denial(name, control))
            elif drain:
                self.recorder.turn_away(entry, NotSent(f"{name} takes no orders: {words(drain)}", broker=name))
            else:
                left.append(entry)
        return left

    def _stop(self, entry: OrderRecord, denied: Denied) -> None:
        """Halted here: the order goes on, with an attempt that shows where it could not go. Everywhere: it ends."""
        if denied.everywhere:
            self.recorder.follow(entry, 0, Stop(Status.DENIED, str(denied), denied.code))
        else:
            self.recorder.end(entry, self._begin(entry, []).attempt_no, denied)

    def _send_on(self, entries: Sequence[OrderRecord], closed: str) -> None:
        """Not connected: orders go on along their routes at once; those that have nowhere else to go wait here."""
        error = NotConnected(f"{self.broker.name} is not connected: {closed}", broker=self.broker.name)
        for entry in entries:
            if not has_ended(entry):
                self._pass_on(entry, error)

    @property
    def anonymous(self) -> bool:
        """This broker keeps no id of ours."""
        return self.capabilities.client_order_id_length is None


def _is_guarded(legs: Sequence[OrderRecord]) -> bool:
    """Tell whether one of the legs behind a lead is signed, or has a wish on it: see `models.record.keys.GUARDED`."""
    return any(leg.order["key_id"] is not None or leg.order["wishes"] for leg in legs)


def _doubted(legs: Sequence[OrderRecord], doubt: Doubt | None) -> Denied | None:
    """Say of which leg nobody who may trade stands behind it."""
    return next((denied for leg in legs if (denied := doubt(leg)) is not None), None) if doubt else None


def _known(baseline: list[Row] | None, entry: OrderRecord) -> list[str]:
    mine = (entry.order["symbol"], None)  # of several legs it has none
    return [row["id"] for row in baseline or () if row["symbol"] in mine]
