"""A package that has ended with its legs filled unevenly is told to people: what stands alone may be a short option.

A broker trades a package as one, so this is its own doing, or an execution that nobody has told. Executions may come
after the end of their order: what ended is looked at `_SETTLED` later. It is said once for the same figures; nothing is
sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

import structlog
from sqlalchemy import func, select

from models.encoding import plain
from models.legs import PackageLeg, stored_legs, whole_packages
from models.record.batch import OrderBatch
from models.record.tables import fills, order_events, orders
from models.vocabulary import TERMINAL
from worker.orders.batches import Batches
from worker.runtime.clock import utcnow

log = structlog.get_logger()

LEGS_UNEVEN = "legs_uneven"
#: How long after its end a package is looked at, and until when: no leader may be there for a weekend, and executions
#: may be read long after the end.
_SETTLED, _LATELY = timedelta(seconds=30), timedelta(days=7)
_ZERO = Decimal(0)


class UnevenPackages:
    """The ended packages of one broker; its leader's.

    Args:
        broker: its name.
        batches: for transactions.
    """

    def __init__(self, broker: str, batches: Batches) -> None:
        self.broker, self.batches = broker, batches

    def look(self) -> None:
        """Tell of packages that ended lately, and of which some legs are filled more than others."""
        for client_order_id, words in self._found().items():

            def tell(batch: OrderBatch, id_: str = client_order_id, said: str = words) -> None:
                batch[id_].note_once(LEGS_UNEVEN, said)

            self.batches.follow_up(self.batches.change([client_order_id], tell)[1])
            log.error("legs_uneven", client_order_id=client_order_id, broker=self.broker, why=words)

    def _found(self) -> dict[str, str]:
        """Return what there is to tell, by order."""
        o, f, e, now = orders.c, fills.c, order_events.c, utcnow()
        ended = select(o.client_order_id, o.status, o.legs).where(
            o.legs.is_not(None), o.broker == self.broker, o.closed_at.between(now - _LATELY, now - _SETTLED)
        )  # fmt: skip
        found: dict[str, str] = {}
        with self.batches.database.read() as connection:
            rows = {row.client_order_id: row for row in connection.execute(ended) if row.status in TERMINAL}
            if not rows:
                return found
            traded = select(f.client_order_id, f.leg, func.sum(f.quantity).label("done"))
            traded = traded.where(f.client_order_id.in_(rows)).group_by(f.client_order_id, f.leg)
            done: dict[str, dict[int, Decimal]] = {}
            for fill in connection.execute(traded):
                done.setdefault(fill.client_order_id, {})[fill.leg] = fill.done
            told = select(e.client_order_id, e.detail).where(e.client_order_id.in_(done), e.kind == LEGS_UNEVEN)
            said = {(row.client_order_id, row.detail) for row in connection.execute(told)}
        for id_, filled in done.items():
            words = uneven(stored_legs(rows[id_].legs), filled, str(rows[id_].status))
            if words is not None and (id_, words) not in said:
                found[id_] = words
        return found


def uneven(legs: Sequence[PackageLeg], filled: Mapping[int, Decimal], status: str) -> str | None:
    """Say which legs of a package stand without the others; None where all are filled alike: pure.

    Args:
        legs: of the package.
        filled: by the number of the leg, from 1.
        status: in which the order has ended.
    """
    done = [Decimal(filled.get(number, _ZERO)) for number, _ in enumerate(legs, 1)]
    whole = whole_packages(legs, done)
    alone = [
        f"{plain(more)} {leg.symbol} ({leg.side})"
        for leg, had in zip(legs, done, strict=True)
        if (more := had - whole * leg.ratio) > 0
    ]
    if not alone:
        return None
    return f"the package is {status} with {plain(whole)} whole; without the other legs stand {', '.join(alone)}"
