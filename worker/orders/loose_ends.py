"""What is healthy in our books and not at its broker: orders that no listing has any more, cancels without an answer.

Both become questions that `corro unresolved` lists, the log raises once, and a person may close. Nothing is concluded:
an order that was accepted may have traded, so it is never sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import and_, select

from models.record.batch import OrderBatch
from models.record.evidence import LOST_AFTER, fold
from models.record.order import OrderRecord
from models.record.rows import AttemptRow
from models.record.tables import attempts, orders
from models.reports import Found, Sighting
from models.settings import Settings
from models.vocabulary import LIVE, Outcome
from worker.brokers.base import OrderRef
from worker.orders.batches import Batches
from worker.orders.windows import pause_after
from worker.runtime.clock import utcnow

log = structlog.get_logger()

#: Pauses between looks for an order that no listing has: from this, doubled, to that, seconds.
_FIRST_S, _LONGEST_S = 10.0, 600.0


@dataclass(frozen=True, slots=True)
class Loose:
    """A live order that the listing of open orders does not show."""

    ref: OrderRef
    attempt: AttemptRow


def is_due(attempt: AttemptRow, now: datetime) -> bool:
    """Tell whether to look for such an order: less often the longer it is in vain."""
    return attempt["next_check_at"] is None or bool(attempt["next_check_at"] <= now)


class LooseEnds:
    """Questions about orders that are live in our books at one broker."""

    def __init__(self, settings: Settings, batches: Batches, broker: str) -> None:
        self.timing, self.broker = settings.timing, broker
        self.batches, self.database = batches, batches.database

    def note(self, looked: Sequence[tuple[Loose, Sighting]], at: datetime) -> None:
        """Keep what was seen of live orders that the listing of open orders did not show.

        Args:
            looked: each with what came back when it was looked for by itself.
            at: when.
        """
        telling = [
            (loose, sighting)
            for loose, sighting in looked
            if not isinstance(sighting, Found) or loose.attempt["missing"]
        ]
        if not telling:
            return

        def work(batch: OrderBatch) -> None:
            for loose, sighting in telling:
                entry = batch[loose.attempt["client_order_id"]]
                if entry.status in LIVE and entry.order["attempt_no"] == loose.attempt["attempt_no"]:
                    self._note(entry, sighting, at)

        self.batches.change([loose.attempt["client_order_id"] for loose, _ in telling], work)

    def _note(self, entry: OrderRecord, sighting: Sighting, at: datetime) -> None:
        """Keep what one look at an order has shown: it is back, or missing once more."""
        number = entry.order["attempt_no"]
        attempt = entry.attempts[number]
        if isinstance(sighting, Found):
            entry.set_attempt(number, missing=0, next_check_at=None, alerted_at=None)
            return
        missing = attempt["missing"] + 1
        pause = timedelta(seconds=pause_after(missing, _FIRST_S, _LONGEST_S))
        evidence = fold(attempt["evidence"], sighting, at, "live in our books, in no listing of open orders")
        entry.set_attempt(number, missing=missing, next_check_at=at + pause, evidence=evidence)
        if missing >= LOST_AFTER and attempt["alerted_at"] is None:
            self._raise(entry, number, f"live in our books, and in no listing any more ({missing} readings)")

    # -- WHAT NOBODY CAN ANSWER ---
    def alarm(self, closed: str | None) -> None:
        """Raise what is due, whether or not the broker can be asked.

        Args:
            closed: why this broker cannot be asked now; None while it can.
        """
        now, a, o = utcnow(), attempts.c, orders.c
        unknown = and_(
            a.broker == self.broker,
            a.outcome == str(Outcome.UNKNOWN),
            a.started_at <= now - timedelta(seconds=self.timing.alert_after),
            a.alerted_at.is_(None),
        )
        canceling = and_(
            o.status.in_([str(status) for status in LIVE]),
            o.broker == self.broker,
            o.cancel_requested_at <= now - timedelta(seconds=self.timing.cancel_alert_after),
            a.alerted_at.is_(None),
            a.attempt_no == o.attempt_no,
        )
        due: list[tuple[str, int, str]] = []
        same = a.client_order_id == o.client_order_id
        joined = select(a.client_order_id, a.attempt_no).join_from(attempts, orders, same)
        with self.database.read() as connection:
            if closed is not None:
                due += [(id_, no, f"cannot ask: {closed}") for id_, no in connection.execute(joined.where(unknown))]
            words = f"a cancel was asked for more than {self.timing.cancel_alert_after:g} s ago, and nothing came of it"
            due += [(id_, no, words) for id_, no in connection.execute(joined.where(canceling))]
        if not due:
            return

        def work(batch: OrderBatch) -> None:
            for id_, number, words in due:
                if batch[id_].attempts[number]["alerted_at"] is None:
                    self._raise(batch[id_], number, words)

        self.batches.change([id_ for id_, _, _ in due], work)

    def _raise(self, entry: OrderRecord, number: int, words: str) -> None:
        """Tell a person, once for each time that an order is lost."""
        entry.set_attempt(number, alerted_at=entry.now)
        entry.note("unresolved", f"attempt {number} at {self.broker}: {words}")
        log.error(
            "order_unresolved",
            client_order_id=entry.id,
            broker=self.broker,
            attempt_no=number,
            status=str(entry.status),
            why=words,
            hint=f"see `corro order {entry.id}`; close it with `corro resolve`",
        )
