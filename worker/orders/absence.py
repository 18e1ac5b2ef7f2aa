"""What may be concluded about an attempt whose outcome is unknown: the pure rules.

| the broker shows               | sender done | sightings and age suffice | conclusion                            |
|--------------------------------|-------------|---------------------------|---------------------------------------|
| the order, on our terms        | any         | any                       | adopt it                              |
| a look-alike, by no id of ours | any         | age does not              | wait: ours may not be listed yet      |
| a look-alike, by no id of ours | any         | age does                  | adopt it                              |
| an order with our id, not ours | any         | any                       | wait for a person                     |
| nothing                        | no          | any                       | wait: it may still be on its way      |
| nothing                        | yes         | no                        | wait: look again                      |
| nothing                        | yes         | yes, absence possible     | absent                                |
| nothing                        | yes         | yes, not possible         | wait for evidence, or for a person    |
| nothing, and it was withdrawn  | yes         | any                       | absent                                |
| several                        | any         | any                       | wait for a person                     |
| no answer                      | any         | any                       | wait: a failed reading is not empty   |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from models.record.replaces import terms_of
from models.record.rows import AttemptRow
from models.reports import DONE, Ambiguous, BrokerStatus, Found, Missing, OrderReport, Sighting
from worker.brokers.base import AbsenceRule


def conclude(
    rule: AbsenceRule,
    sighting: Sighting | None,
    *,
    missing: int,
    age_s: float,
    sender_done: bool,
    by_terms: bool = False,
) -> Literal["adopt", "absent", "wait"]:
    """Draw the conclusion about an unknown attempt.

    Args:
        rule: what this broker allows to conclude.
        sighting: what was seen now; None if it could not be read.
        missing: complete readings that missed the order, this one included.
        age_s: seconds since the last moment in which a byte of it can have left.
        sender_done: whoever sent it can send nothing more.
        by_terms: it is looked for by its terms alone: its broker keeps no id of ours, and never told its own.
    """
    if isinstance(sighting, Found):
        return "wait" if by_terms and age_s < rule.min_age_s else "adopt"
    if not isinstance(sighting, Missing) or not sender_done:
        return "wait"
    if sighting.withdrawn:
        return "absent"
    if not rule.possible:
        return "wait"
    return "absent" if is_missed(rule, missing, age_s) else "wait"


def is_missed(rule: AbsenceRule, missing: int, age_s: float) -> bool:
    """Tell whether complete readings have missed an order often and late enough."""
    return missing >= rule.sightings and age_s >= rule.min_age_s


def after_refusal(report: OrderReport) -> Literal["adopt", "refused", "wait"]:
    """Draw the conclusion about an order that was refused after acceptance, once we have asked for its cancel.

    | the broker shows                  | filled | conclusion                                        |
    |-----------------------------------|--------|---------------------------------------------------|
    | rejected, but it may come alive   | any    | wait: only the broker's word of its end counts    |
    | anything else                     | some   | adopt it: it traded                               |
    | rejected, canceled, expired       | none   | refused: it is dead, and the route may go on      |
    | filled, or replaced by another    | none   | adopt it                                          |
    | working, or a state nobody knows  | none   | wait: it may still trade; it is canceled again    |
    """
    if report.dormant:
        return "wait"
    if report.filled_quantity or report.fills:
        return "adopt"
    if report.status in (BrokerStatus.REJECTED, BrokerStatus.CANCELED, BrokerStatus.EXPIRED):
        return "refused"
    return "adopt" if report.status in DONE else "wait"


def after_cancel(report: OrderReport) -> Literal["adopt", "wait"]:
    """Draw the conclusion about an order that is one too many, and whose cancel was asked for: only an end will do."""
    return "adopt" if report.status in DONE and not report.dormant else "wait"


def after_replaced(
    rule: AbsenceRule,
    verdict: Literal["adopt", "absent", "wait"],
    sighting: Sighting | None,
    missing: int,
    age_s: float,
) -> Literal["adopt", "refused", "wait"]:
    """Draw the conclusion about a replace that came to nothing by its broker's word, when its old order was replaced.

    | the broker shows                       | conclusion                                                    |
    |----------------------------------------|---------------------------------------------------------------|
    | the new order, rejected without a fill | refused, as its answer was                                    |
    | the new order otherwise                | as about any unknown attempt: adopt it                        |
    | nothing, often and late enough         | refused, as its answer was: also where absence proves nothing |
    | anything else                          | wait                                                          |
    """
    if isinstance(sighting, Missing):
        return "refused" if is_missed(rule, missing, age_s) else "wait"
    if verdict == "adopt" and isinstance(sighting, Found):
        report = sighting.report
        dead = report.status is BrokerStatus.REJECTED and not report.filled_quantity and not report.fills
        return "refused" if dead else "adopt"
    return "wait"


def proven(sighting: Sighting, objections: Sequence[str]) -> Sighting:
    """Return what a sighting is worth: an order that is not on our terms is found by its id alone, so a person decides.

    Args:
        sighting: as the adapter returned it.
        objections: what speaks against the order that it shows.
    """
    if not isinstance(sighting, Found) or not objections:
        return sighting
    words = f"order {sighting.report.broker_order_id} carries our id, but not our terms: {', '.join(objections)}"
    return Ambiguous(candidates=(sighting.report,), words=words)


def why_open(sighting: Sighting | None, missing: int, rule: AbsenceRule, *, is_taken: bool = False) -> str:
    """Say why an attempt stays unknown; `is_taken`: the broker has said that an order has its id."""
    if isinstance(sighting, Ambiguous):
        return sighting.text
    if sighting is None:
        return "the broker could not be asked"
    if isinstance(sighting, Found):
        return "an equal order is there, and listings lag: ours may not be listed yet"
    if is_taken:
        return f"its id is taken, says the broker, and {missing} readings show no order under it: a person decides"
    if not rule.possible:
        return (
            f"not seen in {missing} readings, but what this broker does not list may still be there: a person decides"
        )
    return f"not seen in {missing} readings so far"


def is_changed(attempt: AttemptRow, report: OrderReport) -> bool:
    """Tell whether an order that is changed in place shows its new terms."""
    shown = {name: getattr(report, name, None) for name in terms_of(attempt["terms"])}
    return all(shown[name] in (None, value) for name, value in terms_of(attempt["terms"]).items())
