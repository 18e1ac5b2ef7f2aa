"""No interleaving of claims, fills, refusals, fallbacks, deaths and late news passes a limit.

The claim protocol's own machine, with limits set: after each step no broker has more than its limit lets it, whatever
the record knows, and what is kept of the use of limits is what all orders use.
"""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant

from models.record.limits import put_limit
from models.risk.names import EVERYTHING, Limit
from models.vocabulary import Side
from tests.property.test_claim_protocol import ZERO, Protocol
from tests.property.test_guards_of_limits import kept, recomputed

EXAMPLES = int(os.environ.get("CORRO_PROPERTY_EXAMPLES", "12"))
STEPS = int(os.environ.get("CORRO_PROPERTY_STEPS", "25"))
MOST_OPEN, MOST_HELD = 3, Decimal(9)


class LimitedProtocol(Protocol):
    """The same world, in which three orders may be open, and broker a may come to hold nine shares."""

    def _submit(self, *terms: Any) -> None:
        assert self.world is not None
        if not self.placed:
            limits = (
                Limit(EVERYTHING, EVERYTHING, "max_open_orders", Decimal(MOST_OPEN), set_by="a test"),
                Limit("broker", "a", "max_position", MOST_HELD, set_by="a test"),
            )
            with self.world.database.write() as connection:
                for limit in limits:
                    put_limit(connection, limit, "a test", self.world.clock.now())
        super()._submit(*terms)

    @invariant()
    def no_limit_is_passed(self) -> None:
        if self.world is None:
            return
        live = [k for ledger in self._ledgers() for k in ledger.orders if k.is_live and k.ticket.order.side == Side.BUY]
        coming = [t for ledger in self._ledgers() for _, t in ledger.on_the_way if t.order.side == Side.BUY]
        assert len(live) + len(coming) <= MOST_OPEN
        ledger = self.world.ledgers["a"]
        buying = sum((k.exposure - k.filled for k in live if k in ledger.orders), ZERO)
        buying += sum((t.order.quantity for _, t in ledger.on_the_way if t.order.side == Side.BUY), ZERO)
        assert ledger.held["KO"] + buying <= MOST_HELD

    @invariant()
    def what_is_kept_is_what_orders_use(self) -> None:
        if self.world is not None:
            assert kept(self.world) == recomputed(self.world)


TestLimitedProtocol = LimitedProtocol.TestCase
TestLimitedProtocol.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)  # fmt: skip
