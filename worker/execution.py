"""The way of an order through a worker: ingest, claim, send, record.

The order of things is the safety: the row is committed as `submitted` with an attempt `sending` before a byte leaves,
the claim is checked again at the last moment, and what came back is committed before anything else happens to the
order. A process that dies in between leaves an attempt `sending`, which reconciliation settles by asking the broker.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, and_, or_, select, update

from models.book import Book, Entry, Row, cancel
from models.database import Database
from models.errors import BrokerError, DatabaseUnavailable, NotConnected, NotSent, Stale, Unmapped
from models.intake import Intake, request_of
from models.lifecycle import Fact
from models.messages import MAX_BATCH, OrderRequest
from models.reports import OrderReport
from models.settings import Settings
from models.tables import attempts, halts, orders
from models.vocabulary import OPEN, Outcome, Status
from producers.bell import Bell
from worker.brokers.base import BrokerInterface, Ticket
from worker.clock import Stopwatch, utcnow
from worker.points import reached
from worker.recording import Aftermath, Recorder

log = structlog.get_logger()

Answer = OrderReport | BrokerError
#: How long a recorded answer is tried against a database that is away; then reconciliation reads it again.
_RECORD_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Claimed:
    """An order that this worker owns for the length of a send."""

    order: OrderRequest
    attempt_no: int
    broker_client_order_id: str
    #: Set where it must not be sent after all (a look-alike is unresolved).
    blocked: BrokerError | None = None

    @property
    def id(self) -> str:
        """The client_order_id."""
        return self.order.client_order_id


def attempt_id(client_order_id: str, attempt_no: int, longest: int | None) -> str:
    """Return the id that the broker sees for an attempt.

    The first attempt carries the order's own id; later ones append `~n`, which no client_order_id contains, because
    Alpaca keeps an id used for ever (BROKERS.md 2.3). What is too long for the broker is shortened by its digest.
    """
    text = client_order_id if attempt_no == 1 else f"{client_order_id}~{attempt_no}"
    if longest is None or len(text) <= longest:
        return text
    digest = hashlib.sha256(client_order_id.encode()).hexdigest()[:16]
    return f"{client_order_id[: longest - 21]}.{digest}~{attempt_no}"


class Execution:
    """Executes orders at one broker.

    Args:
        settings: the settings.
        database: the record.
        broker: the adapter, connected or not.
        worker: this worker's name.
        bell: rings the next broker after a fallback.
        after_commit: called with what has to be done after a recording (cancel strays).
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: BrokerInterface,
        worker: str,
        bell: Bell,
        after_commit: Callable[[Aftermath], None] | None = None,
    ) -> None:
        self.settings, self.timing = settings, settings.timing
        self.database, self.broker, self.worker, self.bell = database, broker, worker, bell
        self.after_commit = after_commit
        self.capabilities = broker.capabilities
        self.intake = Intake(settings, database)
        self.recorder = Recorder(settings, broker.name, dedupes=self.capabilities.dedupes_client_order_id)
        #: Closed while the connection is down or not reconciled yet.
        self.gate: Callable[[], bool] = lambda: True
        #: False while the first connect is under way: orders wait for it instead of falling back at once.
        self.may_claim: Callable[[], bool] = lambda: True
        self._senders = ThreadPoolExecutor(self.capabilities.parallel_orders, thread_name_prefix="send")

    def close(self) -> None:
        """Wait for sends under way and stop."""
        self._senders.shutdown(wait=True)

    # -- FROM A MESSAGE ---
    def submit(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Execute the orders of one message; orders without a row get one, copies change nothing."""
        known = self.intake.take(bodies, queue_broker=self.broker.name)
        elsewhere = Aftermath()
        for client_order_id, broker in known.items():
            if broker != self.broker.name:
                elsewhere.ring(broker, client_order_id)
        self.work([i for i, broker in known.items() if broker == self.broker.name])
        self.ring(elsewhere)

    # -- FROM THE DATABASE ---
    def work(self, ids: Sequence[str]) -> int:
        """Claim and execute these orders; returns how many were claimed."""
        if not ids:
            return 0
        return self._rounds(orders.c.client_order_id.in_(list(ids)))

    def sweep(self) -> int:
        """Claim and execute what has waited too long for its message, or whose pause is over."""
        now = utcnow()
        late = orders.c.available_at <= now - timedelta(seconds=self.timing.sweep_after)
        rested = and_(orders.c.available_at > orders.c.updated_at, orders.c.available_at <= now)
        return self._rounds(or_(late, rested))

    def _rounds(self, which: Any) -> int:
        total = 0
        if not self.may_claim():
            return total  # the sweep comes by again
        while claimed := self.claim(which):
            total += len(claimed)
            self.send(claimed)
        return total

    # -- CANCEL ---
    def request_cancel(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Record that cancels are wanted; what is still queued is canceled at once.

        Returns:
            Ids whose order is at another broker, by broker.
        """
        elsewhere: dict[str, list[str]] = {}
        with self.database.write() as connection:
            book = Book.open(connection, ids, utcnow())
            for entry in book.entries.values():
                cancel(entry)
                if entry.status in OPEN and entry.order["broker"] != self.broker.name:
                    elsewhere.setdefault(entry.order["broker"], []).append(entry.id)
            book.write()
        for unknown in set(ids) - set(book.entries):
            log.warning("cancel_of_unknown_order", client_order_id=unknown)
        return elsewhere

    # -- CLAIM ---
    def claim(self, which: Any) -> list[Claimed]:
        """Take queued orders in one transaction: status, attempt and event move together.

        What must not be sent (stale, canceled, halted) is ended here instead.
        """
        baseline = self._baseline()
        now = utcnow()
        with self.database.write() as connection:
            stops = stopped(connection, self.broker.name)
            if stops:
                claimed = []
            else:
                after = Aftermath()
                book = Book.of(connection, self._claimable(which, now), now)
                alike = self._look_alikes(connection) if self._anonymous else None
                claimed = [c for entry in book.entries.values() if (c := self._take(entry, alike, baseline))]
                book.write()
        self.ring(after)
        reached("after_claim")
        return claimed

    def _claimable(self, which: Any, now: datetime) -> Any:
        return (
            select(orders)
            .where(orders.c.status == Status.QUEUED, orders.c.broker == self.broker.name)
            .where(orders.c.available_at <= now, which)
            .order_by(orders.c.available_at, orders.c.client_order_id)
            .limit(MAX_BATCH)
            .with_for_update(skip_locked=True)
        )

    def _take(self, entry: Entry, alike: dict[tuple[str, str], str] | None, baseline: list[Row]) -> Claimed | None:
        row = entry.order
        if row["cancel_requested_at"] is not None:
            entry.happen(Fact.CANCELED, detail="canceled before it was sent")
            return None
        if row["expires_at"] is not None and entry.now >= row["expires_at"]:
            waited = (entry.now - row["created_at"]).total_seconds()
            entry.happen(Fact.EXPIRED, detail=f"too old to be sent: waited {waited:.0f} s")
            return None
        blocked = None
        if alike is not None:
            key = (row["symbol"], row["side"])
            if alike.get(key) == Outcome.SENDING:
                return None  # its twin is on its way: stays queued until that is settled
            if key in alike:
                twin = f"an unresolved {key[1]} order for {key[0]} could not be told from this one"
                blocked = NotSent(f"{self.broker.name}: {twin}", broker=self.broker.name, code="look_alike")
            alike.setdefault(key, Outcome.SENDING)
        return self._begin(entry, blocked, [r["id"] for r in baseline if r["symbol"] == row["symbol"]])

    def _begin(self, entry: Entry, blocked: BrokerError | None, baseline: list[str]) -> Claimed:
        number = entry.order["attempt_no"] + 1
        theirs = self._their_id(entry, number)
        entry.happen(Fact.CLAIMED, attempt_no=number, detail=f"attempt {number} at {self.broker.name}")
        entry.order["submitted_at"] = entry.order["submitted_at"] or entry.now
        entry.begin(
            {
                "attempt_no": number,
                "broker": self.broker.name,
                "broker_client_order_id": theirs,
                "outcome": str(Outcome.SENDING),
                "worker": self.worker,
                "started_at": entry.now,
                "lease_until": entry.now + timedelta(seconds=self.timing.lease),
                "baseline": baseline or None,
            }
        )
        return Claimed(request_of(entry.order), number, theirs, blocked)

    def _their_id(self, entry: Entry, number: int) -> str:
        """Use the same id again where the broker dedupes by it and the last try there came to nothing visible."""
        last = entry.current
        if last and self.capabilities.dedupes_client_order_id and last["broker"] == self.broker.name:
            if last["outcome"] in (Outcome.ABSENT, Outcome.NOT_SENT):
                return str(last["broker_client_order_id"])
        return attempt_id(entry.id, number, self.capabilities.client_order_id_length)

    def _turn_away(self, connection: Connection, which: Any, stops: Row, now: datetime) -> Aftermath:
        """Halted or draining: what waits for this broker goes on along its route; under a halt the rest is denied."""
        book, after = Book.of(connection, self._claimable(which, now), now), Aftermath()
        for entry in book.entries.values():
            if stops["scope"] != "*":
                error = NotSent(f"{self.broker.name} takes no orders: {stops['words']}", broker=self.broker.name)
                self.recorder.turn_away(book, entry, error, after)
            if stops["kind"] == "halt" and entry.order["broker"] == self.broker.name:
                entry.happen(Fact.DENIED, detail=f"halted: {stops['words']}")
        book.write()
        return after

    # -- BROKERS WITHOUT CLIENT ORDER IDS ---
    @property
    def _anonymous(self) -> bool:
        return self.capabilities.client_order_id_length is None

    def _baseline(self) -> list[Row]:
        """List what exists before the send, where only the difference will tell which order is ours."""
        if not self._anonymous or not self.broker.is_connected():
            return []
        try:
            found = self.broker.get_orders(open_only=False, since=utcnow() - timedelta(minutes=10))
        except Exception as error:
            log.warning("baseline_unreadable", broker=self.broker.name, error=str(error))
            return []
        return [{"id": r.broker_order_id, "symbol": r.symbol} for r in found if r.broker_order_id]

    def _look_alikes(self, connection: Connection) -> dict[tuple[str, str], str]:
        a, o = attempts.c, orders.c
        query = (
            select(o.symbol, o.side, a.outcome)
            .join_from(attempts, orders, a.client_order_id == o.client_order_id)
            .where(a.broker == self.broker.name, a.outcome.in_([Outcome.SENDING, Outcome.UNKNOWN]))
        )
        return {(symbol, side): outcome for symbol, side, outcome in connection.execute(query)}

    def _mark_sent(self, batch: Sequence[Claimed]) -> None:
        """Note that bytes may leave from now on: what is not marked was provably not sent."""
        for c in batch:
            with self.database.write() as connection:
                connection.execute(
                    update(attempts)
                    .where(attempts.c.client_order_id == c.id, attempts.c.attempt_no == c.attempt_no)
                    .values(sent_at=utcnow())
                )

    # -- SEND ---
    def send(self, claimed: Sequence[Claimed]) -> None:
        """Send what was claimed, many at a time, and record answers as they come, several per transaction."""
        watch = Stopwatch()
        pending: dict[Future[Answer], Claimed] = {self._senders.submit(self._send_one, c, watch): c for c in claimed}
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            with contextlib.suppress(TimeoutError):
                done |= wait(pending, timeout=0.002).done  # take along what is nearly there
            self.record([(pending.pop(future), future.result()) for future in done])

    def _send_one(self, claimed: Claimed, watch: Stopwatch) -> Answer:
        if claimed.blocked is not None:
            return claimed.blocked

        def still_mine() -> None:
            if watch.age() > self.timing.fresh:
                raise Stale(
                    f"{self.broker.name}: claimed {watch.age():.1f} s ago, too long to send under that claim",
                    broker=self.broker.name,
                )
            reached("before_send")

        try:
            self.capabilities.check(claimed.order, self.broker.name)
            if not self.gate():
                raise NotConnected(
                    f"{self.broker.name} is not connected, or not reconciled yet", broker=self.broker.name
                )
            if self._anonymous:
                self._mark_sent([claimed])
            report = self.broker.place_order(
                Ticket(
                    order=claimed.order,
                    broker_client_order_id=claimed.broker_client_order_id,
                    deadline_s=self.timing.deadline,
                    still_mine=still_mine,
                )
            )
        except BrokerError as error:
            return error
        except DatabaseUnavailable as error:
            return NotSent(f"not sent, the database is away: {error}", broker=self.broker.name)
        except Exception as error:
            log.exception("adapter_leaked", broker=self.broker.name, client_order_id=claimed.id)
            return Unmapped(f"{self.broker.name}: {type(error).__name__}: {error}", broker=self.broker.name)
        reached("after_send")
        return report

    # -- RECORD ---
    def record(self, answers: Iterable[tuple[Claimed, Answer]]) -> None:
        """Commit what became of sends, then ring whoever is next."""
        answers = list(answers)
        patience = Stopwatch()
        while True:
            try:
                after = self._record(answers)
                break
            except DatabaseUnavailable as error:
                log.error("answer_not_recorded", orders=[c.id for c, _ in answers], error=str(error))
                if patience.age() > _RECORD_PATIENCE_S:
                    return  # the attempts stay `sending`; reconciliation will ask the broker
                time.sleep(0.5)
        self.finish(after)

    def _record(self, answers: Sequence[tuple[Claimed, Answer]]) -> Aftermath:
        after = Aftermath()
        with self.database.write() as connection:
            book = Book.open(connection, [c.id for c, _ in answers], utcnow())
            for claimed, answer in answers:
                self.recorder.settle(book, book[claimed.id], claimed.attempt_no, answer, after)
            reached("before_commit")
            book.write()
        for claimed, answer in answers:
            _tell(claimed, answer, self.broker.name)
        return after

    def finish(self, after: Aftermath) -> None:
        """Do what follows a commit: ring the brokers that are next, and cancel strays."""
        self.ring(after)
        if after.strays and self.after_commit:
            self.after_commit(after)

    def ring(self, after: Aftermath) -> None:
        """Wake the brokers that are next; the order travels as its id, the row has the rest."""
        if not after.rings:
            return
        ids = [i for found in after.rings.values() for i in found]
        with self.database.read() as connection:
            rows = connection.execute(select(orders).where(orders.c.client_order_id.in_(ids))).mappings()
            bodies = {row["client_order_id"]: request_of(row).to_wire() for row in rows}
        self.bell.ring(
            [
                ("orders.submit", f"orders.{broker}", {"orders": [bodies[i] for i in found if i in bodies]})
                for broker, found in after.rings.items()
            ]
        )


def _tell(claimed: Claimed, answer: Answer, broker: str) -> None:
    """One log line per answer; loud where a person may be needed."""
    context = {"client_order_id": claimed.id, "broker": broker, "attempt_no": claimed.attempt_no}
    if isinstance(answer, OrderReport):
        log.info("order_accepted", status=str(answer.status), broker_order_id=answer.broker_order_id, **context)
    else:
        log.warning("order_not_accepted", kind=type(answer).__name__, error=str(answer), **context)


def stopped(connection: Connection, broker: str) -> Row | None:
    """Return the halt or drain in force for a broker, the widest first: scope, kind and words; None if there is none."""
    query = select(halts).where(halts.c.scope.in_(["*", broker])).order_by(halts.c.kind.desc(), halts.c.scope)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    return {"scope": row["scope"], "kind": row["kind"], "words": f"{row['reason'] or row['kind']} (by {row['by']})"}
