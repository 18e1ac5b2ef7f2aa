"""Linked orders on the way to their broker, and back: a group is claimed, answered and looked for by its lead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from sqlalchemy import Connection

from models.errors import BrokerError, Denied, OutcomeUnknown, Refused
from models.groups import LEADS, GroupKind
from models.groups import why_not_whole as lacks
from models.lifecycle import Fact
from models.record.batch import OrderBatch
from models.record.groups import followers, is_follower, leg_rows, members
from models.record.intake import request_of
from models.record.linked import membership_of, signed_apart
from models.record.matching import Index, sent
from models.record.order import OrderRecord
from models.record.reading import newest_attempts
from models.record.rows import ReadableOrder
from models.reports import DONE, BrokerStatus, Found, OrderReport, Sighting
from models.terms import Rewrites, contradictions
from models.vocabulary import Denial, Outcome, Status
from worker.brokers.base import LinkedOrder, OrderRef


class Reporting(Protocol):
    """`Recorder.report`."""

    def __call__(
        self, entry: OrderRecord, attempt_no: int, report: OrderReport, *, infer: bool = False, asked: bool = False
    ) -> None:
        """Apply what a broker shows of an order."""


def why_not_whole(entry: OrderRecord, others: Sequence[OrderRecord], broker: str) -> Denied | None:
    """Say why the group of a lead must not be sent: a leg of it is missing, not there, or another's; None if it may."""
    if entry.order["group_id"] is None:
        return None
    legs = [entry, *others]
    words = lacks([linked for leg in legs if (linked := membership_of(leg.order)) is not None])
    words = words or signed_apart(str(entry.order["group_id"]), {leg.order["key_id"] for leg in legs})
    elsewhere = [f"the {leg.order['leg']} is {leg.status}" for leg in legs if leg.status is not Status.QUEUED]
    if words is None and not elsewhere:
        return None
    told = words or f"group {entry.order['group_id']}: {', '.join(elsewhere)}"
    return Denied(f"{broker}: {told}; a group is sent whole", broker=broker, code=Denial.UNSUPPORTED, everywhere=True)


def tell_legs(
    report_of: Reporting, lead: OrderRecord, report: OrderReport, rewrites: Rewrites, *, infer: bool, asked: bool
) -> None:
    """Apply what the report of a lead shows of its other legs; of one that was refused, what lives all the same."""
    refused = report.status is BrokerStatus.REJECTED and not report.filled_quantity
    if refused and all(leg.status in DONE and not leg.filled_quantity for leg in report.legs):
        return
    for leg, shown in matched(followers(lead), report.legs, rewrites):
        number = leg.order["attempt_no"]
        if (
            shown.broker_client_order_id
            and leg.attempts[number]["broker_client_order_id"] != shown.broker_client_order_id
        ):
            leg.set_attempt(number, broker_client_order_id=shown.broker_client_order_id)
        report_of(leg, number, shown, infer=infer, asked=asked)


def matched(
    legs: Sequence[OrderRecord], shown: Sequence[OrderReport], rewrites: Rewrites
) -> Iterator[tuple[OrderRecord, OrderReport]]:
    """Pair legs with the orders that a broker shows as theirs: by its id once that is known, else by their terms.

    A broker whose group has one id of ours (docs/facts/alpaca.md#2.1) names its legs itself: within the group, whose
    parent is ours, the terms tell which is which, as no two legs of one group have the same.
    """
    left = list(shown)
    for leg in legs:
        current = leg.current
        if current is None:
            continue
        known = current["broker_order_id"] if current["outcome"] == Outcome.ACCEPTED else None
        order = sent(leg.order, current)
        fits = (
            one
            for one in left
            if (known == one.broker_order_id if known else not contradictions(order, one, rewrites=rewrites))
        )
        if (found := next(fits, None)) is not None:
            left.remove(found)
            yield leg, found


def stays_with_group(leg: OrderRecord, attempt_no: int, error: BrokerError) -> bool:
    """Tell whether a leg goes nowhere by itself; one that its broker refused or has not ends, if its group is there.

    A lead goes on along its route and takes the others along, until one of them has lived; the others go with it.
    """
    lives = any(one["outcome"] == Outcome.ACCEPTED for other in members(leg) for one in other.attempts.values())
    ends = lives and not isinstance(error, OutcomeUnknown)
    if ends:
        fact = Fact.REJECTED if isinstance(error, Refused) else Fact.CANCELED
        leg.happen(fact, attempt_no=attempt_no, detail=str(error))
    return ends or is_follower(leg.order)


def is_whole_end(report_of: Reporting, lead: OrderRecord, sighting: Sighting | None, rewrites: Rewrites) -> bool:
    """Tell whether a lead's refusal is the end of its group, once what the same answer shows of the others is told.

    What waits for a lead dies with it. Of two orders that exclude each other the other one may work, or be filled.
    """
    if lead.order["group_kind"] != GroupKind.OCO or not isinstance(sighting, Found):
        return True
    report = sighting.report
    tell_legs(report_of, lead, report, rewrites, infer=True, asked=True)
    shown = matched(followers(lead), report.legs, rewrites)
    dead = {leg.id for leg, one in shown if one.status in DONE and not one.filled_quantity}
    return all(leg.id in dead for leg in lacking(lead))


def lacking(lead: OrderRecord) -> list[OrderRecord]:
    """Return the other legs of a group whose lead is at its broker, and of which nobody knows whether they are."""
    open_ = (Outcome.SENDING, Outcome.UNKNOWN)
    return [leg for leg in followers(lead) if leg.current is not None and leg.current["outcome"] in open_]


def doubt_legs(lead: OrderRecord, answer: OrderReport | BrokerError) -> None:
    """Have those legs asked for of which an answer has not told, though the lead is at its broker.

    An update may have told of the lead before the answer came, or was lost.
    """
    if lead.current is None or lead.current["outcome"] != Outcome.ACCEPTED:
        return
    for leg in lacking(lead):
        number = leg.order["attempt_no"]
        words = f"the answer about the {lead.order['leg']} of its group does not show it"
        words = str(answer) if isinstance(answer, BrokerError) else words
        leg.set_attempt(number, outcome=str(Outcome.UNKNOWN), message=words, ended_at=leg.now, next_check_at=leg.now)
        leg.note(str(Outcome.UNKNOWN), f"attempt {number} at {leg.order['broker']}: {words}")


def linked_orders(connection: Connection, rows: Iterable[ReadableOrder]) -> dict[str, tuple[LinkedOrder, ...]]:
    """Return the other legs of those of these orders that lead a group, by the lead's id, as they were sent."""
    leads = {row["group_id"]: row["client_order_id"] for row in rows if row["leg"] in LEADS}
    legs = leg_rows(connection, [id_ for id_ in leads if id_ is not None]) if leads else []
    found: dict[str, tuple[LinkedOrder, ...]] = {}
    tries = newest_attempts(connection, legs)
    for leg in legs:
        lead, sent_as = leads[leg["group_id"]], tries.get(leg["client_order_id"])
        one = LinkedOrder(
            order=request_of(leg),
            broker_client_order_id=sent_as["broker_client_order_id"] if sent_as else leg["client_order_id"],
            broker_order_id=sent_as["broker_order_id"] if sent_as else None,
            session_order_id=sent_as["session_order_id"] if sent_as else None,
        )
        found[lead] = (*found.get(lead, ()), one)
    return found


def named(lead: OrderRef) -> str:
    """Name every order of a group that nobody knows of, with what to look for; nothing for an order on its own."""
    if not lead.legs:
        return ""
    refs = [lead, *(lead.of(leg) for leg in lead.legs)]
    numbers = [ref.session_order_id for ref in refs if ref.session_order_id is not None]
    under = f"; session {lead.session}, orders {', '.join(numbers)}: transmit none of them there" if numbers else ""
    legs = (f"{ref.order.group.leg} {ref.broker_client_order_id}" for ref in refs if ref.order.group)
    return f" (look for its {', '.join(legs)}{under})"


def places_in(batch: OrderBatch) -> Index:
    """Return which attempts the ids name that the orders of a batch have in memory: a leg's may be told by its lead."""
    found: Index = {}
    for entry in batch.entries.values():
        if entry.order["group_id"] is not None and (current := entry.current) and current["broker_order_id"]:
            found["theirs", current["broker_order_id"]] = (entry.id, entry.order["attempt_no"])
    return found
