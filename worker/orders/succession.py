"""Which attempt speaks for an order: replaces hand its voice on and back, and two attempts never trade side by side.

| what the broker shows                                     | what follows                                             |
|-----------------------------------------------------------|----------------------------------------------------------|
| a replace of ours is confirmed                            | the new attempt speaks, on its terms                     |
| the new order is rejected afterwards, without a fill      | the old one speaks again: it may live, nothing goes on   |
| ... and the old one had been replaced by it               | the order has ended: neither of them lives               |
| it was replaced, though we were told that ours was not    | what took its place is looked for: it may be ours        |
| a leg of a group is replaced by another order, its heir   | the heir is the leg from now on, on its terms and type   |
| somebody else replaced any other order                    | it has ended for us: its rest is their order             |
| an attempt that was given up has traded                   | the attempt that took its place is canceled and read     |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import structlog

from models.errors import InvalidOrder
from models.lifecycle import Fact
from models.messages import plain
from models.record.fills import filled_by
from models.record.groups import stands_alone
from models.record.intake import request_of
from models.record.order import RETYPED, TERMS, OrderRecord, is_changing
from models.record.replaces import TAKEN, terms_of, with_terms, words
from models.record.rows import AttemptRow, ReadableOrder, by_name
from models.reports import OrderReport
from models.terms import is_another
from models.vocabulary import OPEN, TERMINAL, Outcome, Status

log = structlog.get_logger()

#: Code of attempts whose order was there when their broker refused it.
LATE_REFUSAL = "refused_after_acceptance"
#: Code of attempts that their broker refused after listings had missed an earlier send under the same id.
REFUSED_AGAIN = "refused_after_absence"
#: Code of replaces that came to nothing by their broker's word, and whose old order it shows as replaced.
REPLACED_AFTER_ALL = "replaced_after_all"
#: Code of attempts that would trade what another attempt of the order has traded already.
SURPLUS = "surplus"
#: An order that ended in our books is called alive by a listing only this long after: listings are read before.
_SILENT_S = 30.0
#: Between two looks whether what lives has ended.
_LOOK = timedelta(seconds=2)


def is_doubted(attempt: Mapping[str, object]) -> bool:
    """Tell whether an attempt is to be canceled and looked at, before anything may be concluded about it."""
    return attempt["outcome"] == Outcome.UNKNOWN and attempt["code"] in (LATE_REFUSAL, SURPLUS)


def doubts(entry: OrderRecord, attempt_no: int, told: str) -> bool:
    """Have an order that exists at its broker, and is called rejected there, canceled and looked for.

    Brokers and exchanges reject after accepting, and some such orders work again seconds later. False: nothing would
    follow from its refusal, so it may be believed.
    """
    if attempt_no != entry.order["attempt_no"] or entry.status not in OPEN:
        return False
    entry.set_attempt(
        attempt_no, outcome=str(Outcome.UNKNOWN), code=LATE_REFUSAL, message=told, next_check_at=entry.now
    )
    words = "refused when it was there, so it is canceled and looked for before anything follows"
    entry.note("unknown", f"attempt {attempt_no} at {entry.attempts[attempt_no]['broker']}: {words}: {told}")
    return True


def doubts_rest(entry: OrderRecord, attempt_no: int, report: OrderReport, told: str) -> bool:
    """The same of an order that has traded, where the rest of it may come alive again."""
    may_revive = report.dormant and not entry.was_replaced(attempt_no) and not is_changing(entry)
    return may_revive and doubts(entry, attempt_no, told)


def may_stand_for(entry: OrderRecord, attempt_no: int) -> bool:
    """Tell whether an earlier send under the same id, which listings have missed, may be at the broker after all.

    It holds the money or the shares then for which the later one is refused.
    """
    attempt = entry.attempts[attempt_no]
    same = (attempt["broker"], attempt["broker_client_order_id"], Outcome.ABSENT, "absent")
    return attempt["outcome"] == Outcome.SENDING and any(
        (a["broker"], a["broker_client_order_id"], a["outcome"], a["code"]) == same
        for number, a in entry.attempts.items()
        if number < attempt_no
    )


# -- REPLACES ---
def promote(entry: OrderRecord, attempt_no: int) -> None:
    """The broker has confirmed a replace: the new attempt speaks for the order, which takes its terms."""
    attempt = entry.attempts[attempt_no]
    shown, replaces = by_name(entry.order), attempt["replaces"]
    assert replaces is not None
    terms = terms_of(attempt["terms"])
    kept = RETYPED if "order_type" in terms else TERMS
    before = {name: shown[name] for name in kept if shown[name] is not None}
    entry.set_attempt(replaces, terms={name: _stored(value) for name, value in before.items()})
    entry.set(attempt_no=attempt_no, **terms)
    if entry.order["replace_request"] == attempt["terms"]:
        entry.set(replace_request=None)
    entry.complete()
    entry.note("replaced", f"attempt {attempt_no} at {attempt['broker']}: {words(terms)}")


def steps_back(entry: OrderRecord, attempt_no: int, told: str) -> bool:
    """Give the voice back to the order that a rejected one was to replace; False where there is no such order.

    A broker that makes a new order may take a replace and reject the new order a moment later: the old one was not
    replaced then, so it lives, or has ended on its own, which a reading tells. Nothing of it may go on along the route.
    """
    attempt = entry.attempts[attempt_no]
    old = entry.attempts.get(attempt["replaces"]) if attempt["replaces"] is not None else None
    if old is None or old["broker_client_order_id"] == attempt["broker_client_order_id"]:
        return False  # changed in place, it is the same order
    ended = attempt["ended_at"] or entry.now
    entry.set_attempt(attempt_no, outcome=str(Outcome.REFUSED), message=told, next_check_at=None, ended_at=ended)
    entry.note("replace_refused", f"attempt {attempt_no} at {attempt['broker']}: {TAKEN}{told}")
    if attempt_no == entry.order["attempt_no"] and entry.status in OPEN:
        number = attempt["replaces"]
        assert number is not None
        entry.set(attempt_no=number, broker_order_id=old["broker_order_id"], **terms_of(old["terms"]))
        entry.set(cancel_sent_at=None)  # a cancel that is wanted is wanted of this one
        entry.set_attempt(number, next_check_at=None)
    return True


def replaced(entry: OrderRecord, attempt_no: int, report: OrderReport) -> None:
    """An order is shown as replaced: by one of ours, or by somebody in the broker's own tools."""
    heir, broker = _heir(entry, attempt_no, report), entry.attempts[attempt_no]["broker"]
    if is_changing(entry) or (heir is not None and heir["outcome"] != Outcome.REFUSED):
        return  # a replace of ours: what becomes of it says the rest
    if _follows(entry, attempt_no, report.heir):
        return
    looked_for = heir is not None and heir["code"] == REPLACED_AFTER_ALL
    if not looked_for and (denied := _denied(entry, attempt_no)) is not None:
        unknown = str(Outcome.UNKNOWN)
        entry.set_attempt(denied, outcome=unknown, code=REPLACED_AFTER_ALL, next_check_at=entry.now, missing=0)
        words = "it came to nothing, and the order was replaced all the same, so what took its place is looked for"
        entry.note("replace_unknown", f"attempt {denied} at {broker}: {words}")
        return
    if heir is not None:
        detail = f"replaced at {broker} by order {heir['broker_order_id']}, which {broker} then rejected"
        entry.happen(Fact.REJECTED, attempt_no=attempt_no, detail=detail)
        return
    name = f"order {report.replaced_by}" if report.replaced_by else "an order that the broker does not name"
    detail = f"replaced at {broker} by {name}, which is not ours: it is external"
    entry.happen(Fact.REPLACED_OUTSIDE, attempt_no=attempt_no, detail=detail)


def _follows(entry: OrderRecord, attempt_no: int, heir: OrderReport | None) -> bool:
    """Take the order that took the place of a leg for that leg: brokers replace legs themselves.

    Its terms are the broker's word. What it is told of besides comes with the next reading, under its own id.
    """
    row = entry.order
    speaks = attempt_no == row["attempt_no"] and entry.status in OPEN and stands_alone(row)
    if heir is None or not speaks or is_another(row, heir):
        return False
    if any(attempt["broker_order_id"] == heir.broker_order_id for attempt in entry.attempts.values()):
        return False  # that one has been followed already, and has come to nothing
    line = _line(entry, attempt_no)
    done = filled_by(entry, (fill for fill in entry.fills if fill["attempt_no"] in line))
    terms = RETYPED if heir.order_type != row["order_type"] else TERMS
    shown = {name: getattr(heir, name) for name in terms} | {"quantity": heir.quantity and done + heir.quantity}
    shown = stored(shown)
    if terms is RETYPED and not _is_an_order(row, shown):
        return False
    ours = heir.broker_client_order_id or str(heir.broker_order_id)
    take_over(entry, attempt_no, shown, ours, str(heir.broker_order_id), sent_at=heir.submitted_at)
    return True


def take_over(
    entry: OrderRecord,
    attempt_no: int,
    terms: dict[str, str],
    broker_client_order_id: str,
    broker_order_id: str,
    sent_at: datetime | None = None,
) -> None:
    """Have an order that nobody here has sent speak in the place of an attempt, on its terms: a reading shows it."""
    old, number = entry.attempts[attempt_no], entry.next_attempt
    entry.begin(
        number,
        broker=old["broker"],
        account=old["account"],
        broker_client_order_id=broker_client_order_id,
        broker_order_id=broker_order_id,
        outcome=str(Outcome.ACCEPTED),
        worker=old["worker"],
        session=old["session"],
        started_at=entry.now,
        sent_at=sent_at or entry.now,
        ended_at=entry.now,
        lease_until=entry.now,
        replaces=attempt_no,
        terms=terms,
        reserved=old["reserved"],
    )
    promote(entry, number)
    entry.set(broker_order_id=broker_order_id)  # a cancel that is wished goes to this one


def _is_an_order(row: ReadableOrder, shown: Mapping[str, str]) -> bool:
    """Tell whether an order with the terms of another type that its broker shows has all that the type needs."""
    try:
        with_terms(request_of(row), terms_of(shown))
    except InvalidOrder:
        return False
    return "order_type" in shown


def _denied(entry: OrderRecord, attempt_no: int) -> int | None:
    """Return the newest replace of ours that was denied or not found, and has not been looked for since."""
    came_to_nothing = (Outcome.REFUSED, Outcome.NOT_SENT, Outcome.ABSENT)
    return max(
        (
            number
            for number, row in entry.attempts.items()
            if row["replaces"] == attempt_no and row["outcome"] in came_to_nothing and row["code"] != REPLACED_AFTER_ALL
        ),
        default=None,
    )


def _heir(entry: OrderRecord, attempt_no: int, report: OrderReport) -> AttemptRow | None:
    """Return the attempt of ours that a replaced order names, or that was to replace it where it names none."""
    if report.replaced_by is None:
        tried = (row for row in entry.attempts.values() if row["replaces"] == attempt_no and row["broker_order_id"])
        return next((row for row in tried if row["outcome"] == Outcome.REFUSED), None)
    return next((row for row in entry.attempts.values() if row["broker_order_id"] == report.replaced_by), None)


def stored(terms: Mapping[str, object]) -> dict[str, str]:
    """Return terms as an attempt keeps them: those that there are."""
    return {name: _stored(value) for name, value in terms.items() if value is not None}


def _stored(value: object) -> str:
    return plain(value) if not isinstance(value, str) else value  # type: ignore[arg-type]


# -- ONE AT A TIME ---
def withdraw_surplus(entry: OrderRecord) -> None:
    """Have the attempt that speaks canceled where an earlier one has traded after all: both together are too much."""
    number = entry.order["attempt_no"]
    current = entry.current
    if current is None or current["outcome"] != Outcome.ACCEPTED or entry.status not in OPEN | {Status.FILLED}:
        return  # what is on its way is judged when its answer comes
    if not entry.order["filled_quantity"]:
        return  # nor is anything filled: its executions need not be read for that
    own = filled_by(entry, (row for row in entry.fills if row["attempt_no"] in _line(entry, number)))
    others = entry.order["filled_quantity"] - own
    whole = entry.order["quantity"]
    if others <= 0 or (entry.status is Status.FILLED if whole is None else own >= whole):
        return
    told = f"{plain(others)} were filled by another attempt, so this one is canceled and looked for"
    entry.set_attempt(number, outcome=str(Outcome.UNKNOWN), code=SURPLUS, message=told, next_check_at=entry.now)
    entry.note("surplus", f"attempt {number} at {current['broker']}: {told}")
    log.error("surplus_order", client_order_id=entry.id, broker=current["broker"], attempt_no=number, why=told)


def give_up_again(entry: OrderRecord, attempt_no: int) -> None:
    """Have an order canceled that is alive on an attempt which had been given up."""
    if entry.attempts[attempt_no]["stray_at"] is None:
        entry.set_attempt(attempt_no, stray_at=entry.now, missing=0)
    entry.effects.strays.append((entry.id, attempt_no))


def must_end_first(entry: OrderRecord, legs: Iterable[OrderRecord]) -> bool:
    """Tell whether an order, or a leg of its group, lives on an attempt that was given up; then it waits for its end.

    Its cancel is on its way, and may come too late: with another attempt there would be two.
    """
    tries = (attempt for one in (entry, *legs) for attempt in one.attempts.values())
    alive = next((attempt for attempt in tries if attempt["stray_at"] is not None), None)
    if alive is None:
        return False
    words = f"attempt {alive['attempt_no']} at {alive['broker']} was given up and lives: it is canceled first"
    entry.set(available_at=entry.now + _LOOK, reason=words)
    return True


def lives_on(entry: OrderRecord, report: OrderReport) -> bool:
    """Tell whether a broker shows an order at work that ended in our books long ago."""
    closed = entry.order["closed_at"]
    ended = entry.status in TERMINAL and closed is not None and (entry.now - closed).total_seconds() > _SILENT_S
    return ended and report.at_work


def _line(entry: OrderRecord, number: int) -> set[int]:
    """Return an attempt and those that it took the place of, one after the other."""
    line: set[int] = set()
    following: int | None = number
    while following is not None and following not in line:
        line.add(following)
        following = entry.attempts[following]["replaces"] if following in entry.attempts else None
    same = {entry.attempts[no]["broker_client_order_id"] for no in line if no in entry.attempts}
    broker = entry.attempts[number]["broker"]
    return line | {
        no for no, row in entry.attempts.items() if row["broker"] == broker and row["broker_client_order_id"] in same
    }
