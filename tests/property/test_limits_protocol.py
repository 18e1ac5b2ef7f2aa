"""No interleaving of claims, fills, refusals, fallbacks, deaths and late news passes a limit.

The claim protocol's own machine, with limits set before the first order or while everything is under way: after each
step no broker has more than its limit lets it, or than it had when the limit was set, whatever the record knows; and
what is kept of the use of limits is what all orders use. Between the snapshot of a claim and its commit a limit can be
set on PostgreSQL alone: tests/integration/test_claims_together.py.
"""

from __future__ import annotations

import os
from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from models.record.tables import orders
from models.risk.names import EVERYTHING, Limit
from models.vocabulary import Side, Status
from tests.property.test_claim_protocol import ZERO, Protocol
from tests.property.test_guards_of_limits import kept, recomputed
from worker.risk.changes import set_limit

EXAMPLES = int(os.environ.get("CORRO_PROPERTY_EXAMPLES", "12"))
STEPS = int(os.environ.get("CORRO_PROPERTY_STEPS", "25"))
MOST_OPEN, MOST_HELD = 3, Decimal(9)


class LimitedProtocol(Protocol):
    """The same world, in which three orders may be open, and broker a may come to hold nine shares."""

    def __init__(self) -> None:
        super().__init__()
        #: Orders that were open when the limits were set, and what broker a held or had coming; None: not set yet.
        self.before: tuple[int, Decimal] | None = None

    @precondition(lambda self: self.world is not None and self.before is None)
    @rule()
    def limits_are_set(self) -> None:
        assert self.world is not None
        self.before = self._open()
        for limit in (
            Limit(EVERYTHING, EVERYTHING, "max_open_orders", Decimal(MOST_OPEN), set_by="a test"),
            Limit("broker", "a", "max_position", MOST_HELD, set_by="a test"),
        ):
            set_limit(self.world.database, self.world.settings.risk, limit, reason="a test")

    @initialize(early=st.booleans())
    def begin(self, early: bool) -> None:
        if early and self.world is not None:
            self.limits_are_set()

    def _open(self) -> tuple[int, Decimal]:
        """Return how many orders are open, and what broker a holds or may come to hold, of what is claimed as well.

        A claimed order of which its broker has filled shares that the record has not heard of is not counted twice:
        those shares are held.
        """
        assert self.world is not None
        live = [k for ledger in self._ledgers() for k in ledger.orders if k.is_live and k.ticket.order.side == Side.BUY]
        coming = [(n.name, t) for n in self._ledgers() for _, t in n.on_the_way if t.order.side == Side.BUY]
        ids = {k.owner for k in live} | {t.order.client_order_id for _, t in coming}
        claimed = [r for r in self.world.rows(orders) if r["side"] == Side.BUY and r["status"] == Status.SUBMITTED]
        unsent = [row for row in claimed if row["client_order_id"] not in ids]
        ledger = self.world.ledgers["a"]
        buying = sum((k.exposure - k.filled for k in live if k in ledger.orders), ZERO)
        buying += sum((t.order.quantity for name, t in coming if name == "a"), ZERO)
        mine = [row for row in unsent if row["broker"] == "a"]
        buying += sum((row["quantity"] - self._filled(row["client_order_id"]) for row in mine), ZERO)
        return len(ids) + len(unsent), ledger.held["KO"] + buying

    @invariant()
    def no_limit_is_passed(self) -> None:
        if self.world is None or self.before is None:
            return
        number, units = self._open()
        assert number <= max(MOST_OPEN, self.before[0])
        assert units <= max(MOST_HELD, self.before[1])
        self.before = min(number, self.before[0]), min(units, self.before[1])

    @invariant()
    def what_is_kept_is_what_orders_use(self) -> None:
        if self.world is not None:
            assert kept(self.world) == recomputed(self.world)


TestLimitedProtocol = LimitedProtocol.TestCase
TestLimitedProtocol.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)  # fmt: skip
