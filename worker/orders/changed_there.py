"""Orders that somebody has changed at a broker where they keep their id: their terms are what the broker shows.

A person changes price, size or type of an order in TWS: at Interactive Brokers it stays the same order. What a complete
listing of open orders shows of one that is known is taken for its terms and type, as if a replace of ours had been
confirmed (event `replaced`), and said (`replaced_outside`). A listing that was asked for before our own last change was
answered tells what was before, so nothing is taken from it; nor while we change it ourselves, nor where our terms
with what is shown would not explain all that is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from models.errors import InvalidOrder
from models.messages import OrderRequest
from models.record.batch import OrderBatch
from models.record.matching import sent
from models.record.order import RETYPED, TERMS, is_changing
from models.record.replaces import terms_of, with_terms, words
from models.reports import OrderReport
from models.terms import Rewrites, conflicts
from models.vocabulary import OPEN, Outcome
from worker.brokers.base import OrderRef
from worker.orders.batches import Batches
from worker.orders.succession import stored, take_over

log = structlog.get_logger()

#: A listing is younger than an answer by this much at least: times are not told to the byte.
_MARGIN = timedelta(seconds=1)


def shown_otherwise(
    live: Sequence[tuple[OrderRef, OrderReport]], rewrites: Rewrites
) -> list[tuple[OrderRef, OrderReport]]:
    """Return the orders that a listing shows on other terms than ours."""
    return [(ref, seen) for ref, seen in live if seen.at_work and new_terms(ref.order, seen, rewrites)]


def new_terms(ours: OrderRequest, seen: OrderReport, rewrites: Rewrites) -> dict[str, str]:
    """Return the terms that an order of ours has been given, as an attempt keeps them; none where it has ours.

    None as well where more than a change of terms would have to explain what is shown.
    """
    if not conflicts(ours, seen, rewrites=rewrites):
        return {}
    retyped = seen.order_type is not None and seen.order_type is not ours.order_type
    names = RETYPED if retyped else TERMS
    pairs = ((name, getattr(ours, name), getattr(seen, name)) for name in names)
    found = stored({
        name: theirs for name, mine, theirs in pairs
        if (retyped or theirs != mine) and str(theirs) not in rewrites.get(name, ())
    })  # fmt: skip
    try:
        unexplained = conflicts(with_terms(ours, terms_of(found)), seen, rewrites=rewrites)
    except InvalidOrder:
        return {}
    return {} if unexplained else found


def take(
    batches: Batches,
    broker: str,
    changed: Sequence[tuple[OrderRef, OrderReport]],
    rewrites: Rewrites,
    asked_at: datetime,
) -> None:
    """Give orders the terms that their broker shows.

    Args:
        batches: for transactions.
        broker: its name.
        changed: what `shown_otherwise` has found.
        rewrites: what this broker may make of terms.
        asked_at: before the listing was asked for.
    """
    by_id = {ref.order.client_order_id: seen for ref, seen in changed}

    def work(batch: OrderBatch) -> list[tuple[str, str]]:
        told = []
        for id_, seen in by_id.items():
            entry = batch.get(id_)
            attempt = entry.current if entry is not None else None
            if entry is None or attempt is None or entry.status not in OPEN or is_changing(entry):
                continue
            is_it = (attempt["outcome"], attempt["broker_order_id"]) == (Outcome.ACCEPTED, seen.broker_order_id)
            answers = [row["ended_at"] for row in entry.attempts.values() if row["broker"] == broker]
            if not is_it or any(at is None or at + _MARGIN > asked_at for at in answers):
                continue
            number = attempt["attempt_no"]
            terms = new_terms(sent(entry.order, attempt), seen, rewrites)
            if not terms:
                continue
            what = words(terms)
            entry.note("replaced_outside", f"attempt {number} at {broker}: somebody has changed it there: {what}")
            take_over(entry, number, terms, attempt["broker_client_order_id"], str(seen.broker_order_id))
            told.append((id_, what))
        return told

    told, effects = batches.change(by_id, work)
    batches.follow_up(effects)
    for id_, what in told:
        log.warning("changed_at_its_broker", client_order_id=id_, broker=broker, terms=what)
