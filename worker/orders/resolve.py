"""Settle an unknown outcome on a named person's word.

`--absent` ends the attempt like a proven absence: the order goes on along its route if it has not expired.
`--adopt` names the order at the broker: the attempt is accepted under that id, and the worker reads the rest there.
`--noted` changes nothing: somebody has looked at a change of an execution that the record does not have.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from models.errors import InvalidOrder
from models.groups import LEADS
from models.lifecycle import Fact
from models.record.batch import Effects, OrderBatch
from models.record.evidence import LOST_AFTER, reported
from models.record.groups import members
from models.record.intake import body_of
from models.record.matching import sent
from models.record.order import OrderRecord
from models.record.rows import ExternalOrderRow, ReadableOrder
from models.record.statements import fetch
from models.record.tables import attempts, external_orders, order_events
from models.reports import BrokerStatus, OrderReport
from models.terms import conflicts, contradictions
from models.vocabulary import LIVE, UNEXPLAINED, OrderType, Outcome, Side, TimeInForce
from producers.client import OrderClient
from worker.control.controls import journal
from worker.orders.record import Recorder
from worker.orders.routing import Absent
from worker.runtime.clock import utcnow


def resolve(
    client: OrderClient, client_order_id: str, *, adopt: str | None, by: str, reason: str | None = None
) -> ReadableOrder:
    """Settle the unknown attempt of an order.

    Args:
        client: for the database and the bell.
        client_order_id: the order.
        adopt: the broker's id of the order that is ours; None says that the broker does not have it.
        by: who decided.
        reason: why, for the record.

    Raises:
        NotFound: there is no such order.
        InvalidOrder: no attempt of it is unknown, and its broker lists it; or the order to adopt is another one of
            ours, has other terms, or was shown by no listing of the broker.
    """
    says = f"says {by}" + (f": {reason}" if reason else "")

    def work(connection: Connection) -> tuple[ReadableOrder, Effects]:
        batch = OrderBatch.open(connection, [client_order_id], utcnow())
        entry = batch.find(client_order_id)
        number = _unknown_attempt(entry)
        broker = entry.attempts[number]["broker"]
        if adopt is not None:
            _must_be_adoptable(connection, entry, number, adopt)
        found = "absent" if adopt is None else f"is order {adopt}"
        detail = f"attempt {number} at {broker}: {found}"
        journal(connection, "resolve", "order", client_order_id, by=by, reason=reason, detail=detail)
        recorder = Recorder(client.settings, broker, dedupes=False)
        entry.note("resolved", f"{detail}, {says}")
        lost = entry.attempts[number]["outcome"] == Outcome.ACCEPTED
        _must_be_decidable(entry)
        if lost:
            entry.set_attempt(number, missing=0, next_check_at=None, alerted_at=None, stray_at=None)
        if adopt is None and lost:  # the broker had it: it is not sent again, whatever became of it
            entry.happen(Fact.CANCELED, attempt_no=number, detail=f"{broker} does not have it any more, {says}")
        elif adopt is None:
            error = Absent(f"{broker} does not have it, {says}", broker=broker, code="resolved")
            recorder.settle(entry, number, error)
        else:
            recorder.settle(entry, number, _adopted(adopt))
        batch.write()
        return entry.order, batch.effects

    row, effects = client.database.transact(work)
    bodies = {b: [body_of(row)] for b in effects.rings}
    client._bell.ring([("orders.submit", f"orders.{b}", {"orders": found}) for b, found in bodies.items()])
    return row


def note(client: OrderClient, client_order_id: str, *, by: str, reason: str | None = None) -> ReadableOrder:
    """Keep that somebody has looked at the changes of an order that fit no execution of the record.

    Raises:
        NotFound: there is no such order.
        InvalidOrder: no such change of it is known.
    """

    def work(connection: Connection) -> ReadableOrder:
        batch = OrderBatch.open(connection, [client_order_id], utcnow())
        entry = batch.find(client_order_id)
        e = order_events.c
        asked = select(e.id).where(e.client_order_id == client_order_id, e.kind == UNEXPLAINED).limit(1)
        if connection.execute(asked).first() is None:
            raise InvalidOrder(f"nothing about {client_order_id} is unexplained: see `corro unresolved`")
        detail = "the changes that fit no execution are noted"
        journal(connection, "resolve", "order", client_order_id, by=by, reason=reason, detail=detail)
        entry.note("resolved", f"{detail}, says {by}" + (f": {reason}" if reason else ""))
        batch.write()
        return entry.order

    return client.database.transact(work)


def _must_be_decidable(entry: OrderRecord) -> None:
    """Raise where the lead of a group is unknown too: what became of it is what became of all."""
    lead = next((leg for leg in members(entry) if leg.order["leg"] in LEADS), entry)
    if lead is not entry and lead.current is not None and lead.current["outcome"] == Outcome.UNKNOWN:
        raise InvalidOrder(
            f"{entry.id} is a leg of a group whose {lead.order['leg']} {lead.id} is unknown: decide about that"
        )


def _must_be_adoptable(connection: Connection, entry: OrderRecord, number: int, adopt: str) -> None:
    """Raise where a person's word cannot be right: corro would cancel and count somebody else's order as this one."""
    attempt, broker = entry.attempts[number], entry.attempts[number]["broker"]
    a, e = attempts.c, external_orders.c
    theirs = select(a.client_order_id).where(a.broker == broker, a.broker_order_id == adopt)
    if owner := connection.execute(theirs.where(a.client_order_id != entry.id).limit(1)).scalar():
        raise InvalidOrder(f"order {adopt} at {broker} is {owner}'s, so it cannot be {entry.id}'s too")
    listed = select(external_orders).where(e.broker == broker, e.broker_order_id == adopt)
    row = next(iter(fetch(connection, listed, ExternalOrderRow)), None)
    answers = (attempt["evidence"] or {}).get("answers", {}).values()
    candidates = [c for answer in answers for c in answer.get("candidates", ())]
    shown = {str(candidate.get("broker_order_id")): candidate for candidate in candidates}
    if row is None and adopt not in {*shown, attempt["broker_order_id"]}:
        raise InvalidOrder(
            f"{broker} has shown corro no order {adopt}: see `corro unresolved` and `corro external` for those it shows"
        )
    account = shown.get(adopt, {}).get("account") if row is None else row["account"]
    if None not in (account, attempt["account"]) and account != attempt["account"]:
        raise InvalidOrder(f"order {adopt} at {broker} is in account {account}, {entry.id} in {attempt['account']}")
    ours, wrong = sent(entry.order, attempt), list[str]()
    if row is not None:
        wrong = contradictions(ours, _report_of(row), rewrites=_REWRITES)
    elif adopt in shown:  # what no listing of now has, such as last month's: what the look has kept of it says enough
        heir = attempt["replaces"] is not None
        wrong = conflicts(ours, reported(shown[adopt]), rewrites=_REWRITES, is_heir=heir)
    if wrong:
        raise InvalidOrder(f"order {adopt} at {broker} is not {entry.id}: it has {', '.join(wrong)}")


#: Terms that brokers may have rewritten: a preset makes any time in force a day order.
_REWRITES = {"time_in_force": frozenset({"day"})}


def _report_of(row: ExternalOrderRow) -> OrderReport:
    """Return a row of `external_orders` as the report that it came from."""
    return OrderReport(
        broker_order_id=row["broker_order_id"],
        status=BrokerStatus.UNKNOWN,
        symbol=row["symbol"],
        side=Side(row["side"]) if row["side"] else None,
        order_type=OrderType(row["order_type"]) if row["order_type"] else None,
        time_in_force=TimeInForce(row["time_in_force"]) if row["time_in_force"] else None,
        quantity=row["quantity"],
        limit_price=row["limit_price"],
        stop_price=row["stop_price"],
        submitted_at=row["submitted_at"],
    )


def _adopted(broker_order_id: str) -> OrderReport:
    return OrderReport(broker_order_id=broker_order_id, status=BrokerStatus.ACCEPTED)


def _unknown_attempt(entry: OrderRecord) -> int:
    """Return the number of the attempt that a person may decide about.

    Raises:
        InvalidOrder: the outcome of every attempt is known.
    """
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
