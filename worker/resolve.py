"""Settle an unknown outcome on a named person's word.

`--absent` ends the attempt like a proven absence: the order goes on along its route if it has not expired.
`--adopt` names the order at the broker: the attempt is accepted under that id, and the worker reads the rest there.
"""

from __future__ import annotations

from typing import Any

from models.book import Book, Entry
from models.errors import InvalidOrder, NotFound
from models.evidence import LOST_AFTER
from models.intake import body_of
from models.lifecycle import Fact
from models.reports import BrokerStatus, OrderReport
from models.vocabulary import LIVE, Outcome
from producers.client import OrderClient
from worker.clock import utcnow
from worker.halts import journal
from worker.recording import Aftermath, Recorder
from worker.routing import Absent


def resolve(
    client: OrderClient, client_order_id: str, *, adopt: str | None, by: str, reason: str | None = None
) -> dict[str, Any]:
    """Settle the unknown attempt of an order.

    Args:
        client: for the database and the bell.
        client_order_id: the order.
        adopt: the broker's id of the order that is ours; None says that the broker does not have it.
        by: who decided.
        reason: why, for the record.

    Raises:
        NotFound: there is no such order.
        InvalidOrder: no attempt of it is unknown, and its broker lists it.
    """
    after, says = Aftermath(), f"says {by}" + (f": {reason}" if reason else "")
    with client.database.write() as connection:
        book = Book.open(connection, [client_order_id], utcnow())
        entry = book.get(client_order_id)
        if entry is None:
            raise NotFound(f"no order has the client_order_id {client_order_id!r}")
        number = _unknown_attempt(entry)
        broker = entry.attempts[number]["broker"]
        found = "absent" if adopt is None else f"is order {adopt}"
        detail = f"attempt {number} at {broker}: {found}"
        journal(connection, "resolve", "order", client_order_id, by=by, reason=reason, detail=detail)
        recorder = Recorder(client.settings, broker, dedupes=False)
        entry.note("resolved", f"{detail}, {says}")
        lost = entry.attempts[number]["outcome"] == Outcome.ACCEPTED
        if lost:
            entry.set_attempt(number, missing=0, next_check_at=None, alerted_at=None)
        if adopt is None and lost:  # the broker had it: it is not sent again, whatever became of it
            entry.happen(Fact.CANCELED, attempt_no=number, detail=f"{broker} does not have it any more, {says}")
        elif adopt is None:
            error = Absent(f"{broker} does not have it, {says}", broker=broker, code="resolved")
            recorder.settle(book, entry, number, error, after)
        else:
            recorder.settle(book, entry, number, _adopted(adopt), after)
        book.write()
        row = dict(entry.order)
        bodies = {b: [body_of(row)] for b in after.rings}
    client._bell.ring([("orders.submit", f"orders.{b}", {"orders": found}) for b, found in bodies.items()])
    return row


def _adopted(broker_order_id: str) -> OrderReport:
    return OrderReport(broker_order_id=broker_order_id, status=BrokerStatus.ACCEPTED)


def _unknown_attempt(entry: Entry) -> int:
    for number in sorted(entry.attempts, reverse=True):
        if entry.attempts[number]["outcome"] == Outcome.UNKNOWN:
            return number
    current = entry.current
    if current is not None and entry.status in LIVE and current["missing"] >= LOST_AFTER:
        return int(current["attempt_no"])
    outcomes = {no: row["outcome"] for no, row in sorted(entry.attempts.items())}
    raise InvalidOrder(
        f"no attempt of {entry.id} is unknown: the order is {entry.status}, its attempts are {outcomes or 'none'}"
    )
