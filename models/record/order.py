"""One order as a batch holds it: its row, its attempts and executions, and how facts change them.

Everything that changes an order goes through an `OrderRecord`, so that status, attempts, fills and the event log move
together; `models.record.batch` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Unpack, cast

import structlog

from models.destinations import destination_of
from models.lifecycle import Event, Fact, State, Step, apply, is_whole
from models.record import fills as order_fills
from models.record.baselines import Moved
from models.record.changes import AttemptChanges, FillChanges, OrderChanges
from models.record.rows import AttemptRow, FillRow, ReadableOrder, by_name
from models.record.statements import Change
from models.record.statements import Row as Row
from models.record.tables import attempts
from models.record.usage import Uses, is_counted, uses
from models.reports import DONE, FillReport, OrderReport
from models.vocabulary import LIVE, OPEN, TERMINAL, UNCLEAR, UNSENT, WAITS_FOR_OWNER, Outcome, Side, Status, signed

if TYPE_CHECKING:
    from models.record.batch import Effects, OrderBatch

log = structlog.get_logger()

#: What a replace changes.
TERMS = ("quantity", "limit_price", "stop_price", "trail_amount", "trail_percent", "time_in_force")
#: What somebody who replaces an order at its broker may change besides: with its type go the prices that it has.
RETYPED = ("order_type", *TERMS, "limit_offset")
#: The broker has it, or had it: whatever was said of an outcome that nobody knew is answered.
_ANSWERED = LIVE | {Status.FILLED}
#: What changes an order that has been filled.
_AMENDED = (Fact.FILL_CORRECTED, Fact.FILL_BUSTED)
#: Ends that a broker tells without a fill.
_ENDS = (Fact.CANCELED, Fact.EXPIRED, Fact.REJECTED)
#: Nothing is left to cancel or to change, or the broker has been asked.
_WISH_IS_OVER = TERMINAL | {Status.PENDING_CANCEL}
#: Kinds of events that are one line each in the log; what the broker accepted is told with its answer, or as found.
_TOLD = frozenset(
    {
        "claimed", "requeued", "moved", "replaced", "replaced_outside", "filled", "completed", "canceled", "rejected",
        "expired", "denied", "found", "released", "approved",
    }
)  # fmt: skip
_NO_ATTEMPT: Row = dict.fromkeys(column.name for column in attempts.c) | {"checks": 0, "missing": 0}


@dataclass(slots=True)
class OrderRecord:
    """One order in a batch, with its attempts and, when somebody asks, its executions."""

    #: Weak: orders outlive their batch, and a circle of all of them would wait for the garbage collector.
    batch: OrderBatch = field(repr=False, compare=False)
    order: ReadableOrder
    attempts: dict[int, AttemptRow] = field(default_factory=dict)
    known_fills: list[FillRow] | None = None
    events: list[Row] = field(default_factory=list)
    #: Those of them that have a line in the log, with what it says: the broker of that moment.
    steps: list[tuple[str, Row]] = field(default_factory=list)
    #: Names of the order's columns that changed, and of each attempt's.
    changed: set[str] = field(default_factory=set)
    changed_attempts: dict[int, set[str]] = field(default_factory=dict)
    #: Numbers of the attempts that have no row yet.
    new_attempts: list[int] = field(default_factory=list)
    new_fills: list[FillRow] = field(default_factory=list)
    #: What it used of limits when it was read.
    used: Uses = field(default_factory=dict)
    #: Names of the columns of executions that changed, by broker and execution_id; and what those counted before.
    changed_fills: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    counted: dict[tuple[str, str], Decimal] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        """The time of the transaction."""
        return self.batch.now

    @property
    def effects(self) -> Effects:
        """What follows the commit."""
        return self.batch.effects

    @property
    def fills(self) -> list[FillRow]:
        """Every execution of the order; read from the database when somebody asks."""
        if self.known_fills is None:
            self.batch.load_fills()
        assert self.known_fills is not None
        return self.known_fills

    @property
    def id(self) -> str:
        """The client_order_id."""
        return str(self.order["client_order_id"])

    @property
    def status(self) -> Status:
        """The status now."""
        return Status(self.order["status"])

    @property
    def current(self) -> AttemptRow | None:
        """The newest attempt."""
        return self.attempts.get(self.order["attempt_no"])

    @property
    def next_attempt(self) -> int:
        """The number of the next attempt; a replace that came to nothing has used one up too."""
        return max(self.attempts, default=0) + 1

    def count(self) -> None:
        """Remember what the order uses of limits, as it was read."""
        if is_counted(self.attempts):
            self.used = uses(self.order, self.attempts)

    @property
    def state(self) -> State:
        """The order as the lifecycle sees it."""
        row = self.order
        return State(Status(row["status"]), row["quantity"], row["filled_quantity"], row["attempt_no"])

    def happen(
        self, fact: Fact, *, attempt_no: int = 0, quantity: Decimal = Decimal(0), detail: str | None = None
    ) -> Step:
        """Apply a fact to the order; note it in the event log if it changed anything."""
        before = self.status
        step = apply(self.state, Event(fact, attempt_no, quantity))
        if not step.changed:
            self._hear_end(fact, attempt_no, detail)
            return step
        self.set(
            status=str(step.state.status),
            filled_quantity=step.state.filled_quantity,
            attempt_no=step.state.attempt_no,
        )
        self._stamp(step.state.status)
        if fact is Fact.FILLED and step.state.status is Status.FILLED and before is not Status.FILLED:
            self.set(broker_status=None)  # its broker's last word is of when it worked
        ended = step.state.status in TERMINAL - {Status.FILLED} and before not in TERMINAL
        if step.state.status in _WISH_IS_OVER:
            self.waits_no_more()
        if ended and detail:
            self.set(reason=detail)
        elif before in TERMINAL and step.state.status is not before:  # why it ended is not how it came to this
            self.set(reason=order_fills.after_the_end(before, step.state, self.order["reason"]), reason_code=None)
        elif self._is_answered(before, step.state.status):
            self.set(reason=None)  # "it may have been received" is no reason of an order that stands at its broker
        if step.state.status is Status.FILLED and (fact in _AMENDED or not step.state.filled_quantity):
            self.set(reason=order_fills.shortfall(step.state, detail, self._ended_as))
        self.note(str(fact), detail, before)
        if step.late:
            self.note("late_fill", detail, before)
        if step.overfilled:
            self.note("overfilled", f"filled {step.state.filled_quantity} of {step.state.quantity}", before)
        return step

    def _hear_end(self, fact: Fact, attempt_no: int, detail: str | None) -> None:
        """Take in that its broker ended an order otherwise that was filled, and of which shares were taken back."""
        state = self.state
        is_short = state.status is Status.FILLED and state.filled_quantity < (state.quantity or Decimal(0))
        if not is_short or fact not in _ENDS or attempt_no not in (0, state.attempt_no):
            return
        before = self._ended_as
        self.note_once(str(fact), detail or f"its broker says {fact}", among=[str(end) for end in _ENDS])
        told, now = str(self.order["reason"] or ""), self._ended_as
        if before != now:
            self.set(reason=told.replace(f"ended it as {before}", f"ended it as {now}", 1))

    @property
    def _ended_as(self) -> str:
        """The end that its broker told last; an order of which it told none was filled."""
        kinds = [str(end) for end in _ENDS]
        said = [event["kind"] for event in self.events if event["kind"] in kinds]
        said = said or [kind for kind, _ in self.batch.last_event(self.id, kinds)]
        return str(said[-1]) if said else str(Status.FILLED)

    def _is_answered(self, before: Status, now: Status) -> bool:
        waits = self.order["reason_code"] == WAITS_FOR_OWNER
        return before not in TERMINAL and before is not now and now in _ANSWERED and not waits

    def waits_no_more(self) -> None:
        """Forget why it has waited, for a worker or for a word that decides: somebody acts on it, or it has ended."""
        if self.order["reason_code"] in (WAITS_FOR_OWNER, UNCLEAR):
            self.set(reason=None, reason_code=None)

    def _stamp(self, status: Status) -> None:
        row = self.order
        if status in (Status.ACCEPTED, Status.PARTIALLY_FILLED, Status.FILLED) and row["accepted_at"] is None:
            self.set(accepted_at=self.now)
        if status in TERMINAL and row["closed_at"] is None:
            self.set(closed_at=self.now)

    def set(self, **changes: Unpack[OrderChanges]) -> None:
        """Change columns of the order."""
        self.order.update(changes)
        self.order["updated_at"] = self.now
        self.changed.update(changes)

    def hear(self, attempt_no: int, report: OrderReport) -> None:
        """Keep the broker's own word for where the order stands; of one that has ended only the word of an end.

        Another word for an order that works as before is no write of its own, but of a leg, whose exits sleep and wake,
        and of what a reading of all orders shows.
        """
        speaks = attempt_no == self.order["attempt_no"] and self.status is not Status.QUEUED
        fits = self.status in OPEN or report.status in DONE
        alone = self.status in LIVE and report.at_work and not self.changed
        matters = not alone or self.order["group_id"] is not None or self.batch.is_reading
        if speaks and fits and matters and report.word not in (None, self.order["broker_status"]):
            self.set(broker_status=report.word)

    def complete(self) -> None:
        """End the order if a replace has left nothing to do: more fills will not come to say so."""
        if self.status in OPEN and is_whole(self.order["filled_quantity"], self.order["quantity"]):
            self.set(status=str(Status.FILLED), reason=None, reason_code=None)
            self._stamp(Status.FILLED)

    def set_attempt(self, attempt_no: int, /, **changes: Unpack[AttemptChanges]) -> None:
        """Change columns of one attempt."""
        self.attempts[attempt_no].update(changes)
        self.changed_attempts.setdefault(attempt_no, set()).update(changes)

    def begin(self, attempt_no: int, /, **columns: Unpack[AttemptChanges]) -> None:
        """Add a new attempt."""
        row = {**_NO_ATTEMPT, **columns, "client_order_id": self.id, "attempt_no": attempt_no}
        self.attempts[attempt_no] = cast("AttemptRow", row)
        self.new_attempts.append(attempt_no)

    # -- WHAT CHANGED ---
    @property
    def mark(self) -> tuple[object, ...]:
        """Fingerprint of the order as read: updated_at, status, outcome of its newest attempt.

        Equal later means that nobody has changed it, so it need not be read again.
        """
        current = self.current
        return (self.order["updated_at"], self.order["status"], current and current["outcome"])

    def order_changes(self) -> list[Change]:
        """Return what the order's row has to learn."""
        row = by_name(self.order)
        news = {name: row[name] for name in self.changed}
        return [({"client_order_id": self.id}, {**news, "updated_at": self.order["updated_at"]})] if news else []

    def attempt_changes(self) -> list[Change]:
        """Return what the rows of attempts that exist already have to learn."""
        return [
            ({"client_order_id": self.id, "attempt_no": no}, {name: by_name(self.attempts[no])[name] for name in names})
            for no, names in self.changed_attempts.items()
            if no not in self.new_attempts
        ]

    def note(self, kind: str, detail: str | None = None, before: Status | None = None) -> None:
        """Append to the order's event log."""
        self.events.append(
            {
                "client_order_id": self.id,
                "at": self.now,
                "kind": kind,
                "from_status": str(before) if before else self.order["status"],
                "to_status": self.order["status"],
                "detail": detail,
            }
        )
        if kind in _TOLD:
            about = {"status": self.order["status"], "broker": self.order["broker"], "detail": detail}
            self.steps.append((kind, about | ({"recorded_at": self.order["created_at"]} if kind == "claimed" else {})))

    def note_once(self, kind: str, detail: str, among: Collection[str] = ()) -> None:
        """Append to the order's event log, unless the last event of these kinds says the same.

        Args:
            kind: of the event.
            detail: its words.
            among: kinds that answer the same question; by default this one alone.
        """
        kinds = among or (kind,)
        said = [(event["kind"], event["detail"]) for event in self.events if event["kind"] in kinds]
        if not said:
            said = self.batch.last_event(self.id, kinds)
        if said[-1:] != [(kind, detail)]:
            self.note(kind, detail)

    def tell(self) -> None:
        """Write one log line for each step of the order's way, so that it can be followed by its id."""
        for kind, about in self.steps:
            log.info(f"order_{kind}", client_order_id=self.id, **about)

    # -- FILLS ---
    def fill(self, attempt_no: int, report: FillReport) -> bool:
        """Record one execution; returns False if it was known."""
        return order_fills.fill(self, attempt_no, report)

    def add_fill(self, row: FillRow) -> None:
        """Add a row of an execution."""
        self.fills.append(row)
        self.new_fills.append(row)

    def change_fill(self, row: FillRow, **changes: Unpack[FillChanges]) -> None:
        """Change columns of an execution."""
        old = by_name(row)
        news = {name: value for name, value in changes.items() if old[name] != value}
        if news and row not in self.new_fills:
            key = (row["broker"], row["execution_id"])
            self.counted.setdefault(key, row["quantity"])
            self.changed_fills.setdefault(key, set()).update(news)
        old.update(news)

    def fill_changes(self) -> list[Change]:
        """Return what the rows of executions that exist already have to learn."""
        rows = {(row["broker"], row["execution_id"]): row for row in self.known_fills or ()}
        return [
            ({"broker": key[0], "execution_id": key[1]}, {name: by_name(rows[key])[name] for name in names})
            for key, names in self.changed_fills.items()
        ]

    def moves(self) -> list[Moved]:
        """Return what a position gains by executions that count more or less than they did."""
        if not self.counted:
            return []
        rows = {(row["broker"], row["execution_id"]): row for row in self.known_fills or ()}
        return [
            Moved(destination_of(row), row["id"], *self._direction(row, row["quantity"] - before))
            for row, before in ((rows[key], before) for key, before in self.counted.items())
            if row["quantity"] != before
        ]

    def _direction(self, row: FillRow, units: Decimal) -> tuple[str, Decimal]:
        """Return in which symbol, and which way, an execution moves a position."""
        sign = signed(Side(row["side"] or self.order["side"]))
        return row["symbol"] or self.order["symbol"], sign * units

    def speaker(self, attempt_no: int) -> int:
        """Return the attempt that speaks for a fill of this one: the newest, if that has taken its place."""
        return int(self.order["attempt_no"]) if self.was_replaced(attempt_no) else attempt_no

    def is_filled_on(self, attempt_no: int) -> bool:
        """Tell whether all that was ordered is booked on the order that an attempt made at its broker."""
        return is_whole(order_fills.filled_by(self, self.fills_of(attempt_no)), self.order["quantity"])

    def fills_of(self, attempt_no: int) -> list[FillRow]:
        """Return the executions of one order at a broker: several attempts may be about the same one."""
        mine = self.attempts[attempt_no]
        order = (mine["broker"], mine["broker_client_order_id"])
        same = {no for no, row in self.attempts.items() if (row["broker"], row["broker_client_order_id"]) == order}
        return [row for row in self.fills if row["attempt_no"] in same]

    def was_replaced(self, attempt_no: int) -> bool:
        """Tell whether another attempt has taken this one's place."""
        return any(
            row["replaces"] == attempt_no and row["outcome"] == Outcome.ACCEPTED for row in self.attempts.values()
        )


def cancel(entry: OrderRecord, why: str | None = None) -> None:
    """Record the wish to cancel: an order that is still queued ends here, a live one waits for its broker's word."""
    if entry.status in TERMINAL:
        return
    if not is_asked_for(entry):  # whatever its row says: the wish of whoever asks is in the journal
        entry.set(cancel_requested_at=entry.now)
        entry.note("cancel_requested", why)
    before = "canceled before it was sent"
    if entry.status in UNSENT:
        entry.happen(Fact.CANCELED, detail=f"{before}: {why}" if why else before)


def is_asked_for(entry: OrderRecord) -> bool:
    """Tell whether a cancel is wished of an order by its row and by its journal: a row alone can have been forged."""
    if entry.order["cancel_requested_at"] is None:
        return False
    said = ("cancel_requested",)
    return any(event["kind"] in said for event in entry.events) or bool(entry.batch.last_event(entry.id, said))


def has_ended(entry: OrderRecord) -> bool:
    """End an order that must not be sent any more: canceled, or too old."""
    row = entry.order
    if row["cancel_requested_at"] is not None:
        entry.happen(Fact.CANCELED, detail="canceled before it was sent")
    elif row["expires_at"] is not None and entry.now >= row["expires_at"]:
        waited = f"too old to be sent: waited {(entry.now - row['created_at']).total_seconds():.0f} s"
        entry.happen(Fact.EXPIRED, detail=f"{waited}; {row['reason']}" if row["reason"] else waited)
    return entry.status is not Status.QUEUED


def is_changing(entry: OrderRecord) -> bool:
    """Tell whether a replace of this order is under way or unknown."""
    return any(
        row["replaces"] is not None and row["outcome"] in (Outcome.SENDING, Outcome.UNKNOWN)
        for row in entry.attempts.values()
    )
