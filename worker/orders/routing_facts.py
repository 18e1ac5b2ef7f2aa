"""Read the facts of a routing decision from the record: what was tried, who could take the order, who holds what."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection

from models.destinations import broker_of, destination_of
from models.errors import BrokerError
from models.record.batch import OrderBatch
from models.record.order import OrderRecord, is_asked_for
from models.record.rows import AttemptRow, ReadableOrder
from models.settings import Settings
from models.sizes import left_of
from models.vocabulary import CLOSING, Denial, Outcome, Side, signed
from worker.control.brake import shut
from worker.fleet.liveness import alive_brokers
from worker.orders.routing import ACCESS_LOST, NoAnswer, RoutingFacts, Weight, said_by
from worker.positions.closing import Closings, closes
from worker.positions.holdings import holdings
from worker.positions.locks import locked_at

#: Codes of refusals that are only about the moment: the broker stays on the route.
_PASSING_CODES = frozenset({"429", "42910000"})


class FactsReader:
    """Reads what `worker.orders.routing` decides from, and what a claim of closing orders looks at.

    Args:
        settings: for the timing.
        broker: whose orders these are.
        dedupes: this broker refuses a second order under the same id.
    """

    def __init__(self, settings: Settings, broker: str, *, dedupes: bool) -> None:
        self.timing, self.broker, self.dedupes = settings.timing, broker, dedupes
        #: Everywhere an order can go.
        self.brokers = frozenset(settings.destinations)
        #: Closing orders are sent only where the position is.
        self.closes = settings.routing.sell == "closes"

    def read(self, entry: OrderRecord, attempt_no: int, error: BrokerError) -> RoutingFacts:
        """Return the facts of one decision; reads the database, so only for orders that did not get through."""
        row = entry.order
        earlier = [a for no, a in entry.attempts.items() if not attempt_no or no < attempt_no]
        broker = destination_of(entry.attempts[attempt_no] if attempt_no else row)
        side, connection = Side(row["side"]), entry.batch.connection
        held, doubtful = self._held(connection, row, side, entry.now) if side in CLOSING else (None, frozenset[str]())
        return RoutingFacts(
            broker=broker,
            error=error,
            route=row["route"] or [broker],
            side=side,
            quantity=left_of(row),
            now=entry.now,
            refused_by={destination_of(a) for a in earlier if _was_final(a)},
            tried={destination_of(a) for a in earlier},
            earlier=[
                NoAnswer(weight, said_by(destination_of(a), a["message"] or ""), a["code"])
                for a in earlier
                if (weight := _weight(a)) is not None
            ],
            holdings=held,
            doubtful=doubtful,
            unavailable=self._unavailable(entry) - {broker},
            expires_at=row["expires_at"],
            cancel_requested=is_asked_for(entry),
            dedupes=self.dedupes,
            pinned=any(_was_missed(a, broker) for a in earlier),
            shut_out=Counter(destination_of(a) for a in earlier if a["code"] == ACCESS_LOST),
            retry_pause=self.timing.retry_pause,
        )

    def _unavailable(self, entry: OrderRecord) -> set[str]:
        """Return the destinations that would not take an order now: stopped, without a live worker, or locked."""
        connection = entry.batch.connection
        alive = alive_brokers(connection, entry.now, self.timing.dead_after)
        locked = locked_at(connection, entry.order)
        dead = {name for name in self.brokers if broker_of(name) not in alive}
        return dead | shut(connection, entry.order, self.brokers) | locked

    def closings(self, batch: OrderBatch, *, anyway: bool = False) -> Closings | None:
        """Return what else closes positions here, if anything in the batch does: most claims ask nothing.

        Args:
            batch: the orders.
            anyway: also where a `sell` may open a position: a control lets closing orders pass, and no other.
        """
        if not (self.closes or anyway) or not any(closes(entry.order) for entry in batch.entries.values()):
            return None
        return Closings(batch.connection, self.broker, self.brokers, self.timing.positions_valid)

    def _held(
        self, connection: Connection, row: ReadableOrder, side: Side, now: datetime
    ) -> tuple[dict[str, Decimal], frozenset[str]]:
        """Return what brokers hold of the position that an order closes, and which of them have to look first."""
        route = row["route"] or [destination_of(row)]
        found = holdings(connection, route, row["symbol"], side, but=row["client_order_id"], queued=True)
        oldest, wanted = now - timedelta(seconds=self.timing.positions_valid), left_of(row)
        known = {b: held for b, held in found.items() if held.read_at is not None and held.read_at >= oldest}
        doubtful = {b for b in found if b not in known or known[b].least < wanted <= known[b].most}
        return (
            {b: -signed(side) * held.least for b, held in known.items()},
            frozenset(doubtful if self.closes else ()),
        )


def came_to_nothing(attempt: AttemptRow) -> bool:
    """Tell whether an attempt left nothing visible at its broker, which may be asked for the same order again."""
    passing = attempt["outcome"] == Outcome.REFUSED and not _was_refused(attempt)
    return passing or attempt["outcome"] in (Outcome.ABSENT, Outcome.NOT_SENT)


def _was_final(attempt: AttemptRow) -> bool:
    """Tell from the record whether a broker is off the route: it refused, or it cannot do it at all."""
    return _was_denied(attempt) or _was_refused(attempt)


def _was_refused(attempt: AttemptRow) -> bool:
    """Tell whether a broker refused the order, and not the moment at which it came."""
    return attempt["outcome"] == Outcome.REFUSED and attempt["code"] not in _PASSING_CODES


def _weight(attempt: AttemptRow) -> Weight | None:
    """Return how much an attempt tells of why its order went nowhere; None where nothing of it lasts."""
    if _was_refused(attempt):
        return Weight.REFUSED
    if not _was_denied(attempt):
        return None
    return Weight.CANNOT if attempt["code"] == Denial.UNSUPPORTED else Weight.FORBIDDEN


def _was_missed(attempt: AttemptRow, broker: str) -> bool:
    """Tell whether listings of a broker have missed an order that had left for it: it may still turn up there."""
    return (destination_of(attempt), attempt["outcome"], attempt["code"]) == (broker, Outcome.ABSENT, "absent")


def _was_denied(attempt: AttemptRow) -> bool:
    return attempt["outcome"] == Outcome.NOT_SENT and attempt["code"] in set(Denial)
