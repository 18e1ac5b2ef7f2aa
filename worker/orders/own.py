"""Orders that a worker writes itself: the closing orders of a kill, and the oco that protects what an entry left open.

Where every order has to be signed (`[security] require = "all"`), so have these: the worker signs them with the key of
its own settings. No row passes a claim without a signature because of what its id, its side or a control says: whoever
can write to the database could write such a row too.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.errors import ConfigurationError, Untrusted
from models.messages import OrderRequest
from models.record.intake import request_of
from models.record.rows import NewOrder, OrderRow, ReadableOrder
from models.record.steps import journal_of
from models.settings import Settings
from models.signing import Signer
from models.trust import must_be_valid, must_reach, signed_by
from models.vocabulary import Denial
from producers.signer import signer_of
from worker.orders.batches import Batches
from worker.orders.vouching import Vouching
from worker.runtime.clock import utcnow

_WHY = "[security] require is all, and this worker"


class OwnOrders:
    """Records what a worker at one broker orders by itself.

    Args:
        settings: which key it signs with.
        broker: whose worker this is.
        batches: for the record.
        vouching: knows the keys, and whether every order has to be signed.
    """

    def __init__(self, settings: Settings, broker: str, batches: Batches, vouching: Vouching) -> None:
        self.settings, self.broker, self.batches, self.vouching = settings, broker, batches, vouching

    def may_be_ours(self, row: OrderRow) -> bool:
        """Tell whether a worker may have recorded an order: where all are signed, none without a signature is."""
        return row["key_id"] is not None or not self.vouching.always

    def record(self, requests: Sequence[OrderRequest]) -> Sequence[NewOrder]:
        """Record orders, all or none, signed where they have to be.

        Raises:
            As `Intake.record`, and as `must_be_signable`.
        """
        for request in requests:
            self.must_be_signable(request)
        signer = self._signer() if self.vouching.always else None
        return self.batches.intake.record(requests, signer)

    def must_be_signable(self, request: OrderRequest) -> None:
        """See that this worker can sign an order, where it has to be: before an order is recorded that is then denied.

        Raises:
            Untrusted: it has no key, or one that is not good for this order.
        """
        if not self.vouching.always:
            return
        signer = self._signer()
        key = self.vouching.reader.ring_with(signer.key_id).keys[signer.key_id]
        must_be_valid(key, utcnow())
        must_reach(key, strategies=request.strategy, symbols=request.symbol, brokers=self.broker)
        if key["needs_approval"]:
            raise Untrusted(f"key {key['key_id']!r}: its orders need somebody's approval", Denial.NOT_PERMITTED)

    def must_be_vouched_for(self, rows: Sequence[ReadableOrder]) -> None:
        """See that keys have signed the orders that one of this worker's follows from, where they have to.

        Raises:
            Untrusted: it is not so; else whoever can write their rows would have this worker sign for them.
        """
        if not self.vouching.always:
            return
        with self.batches.database.read() as connection:
            ring, told = (
                self.vouching.ring(connection),
                journal_of(connection, [row["client_order_id"] for row in rows]),
            )
        for row in rows:
            signed_by(ring, row, request_of(row), told[row["client_order_id"]], self.settings)

    def _signer(self) -> Signer:
        try:
            signer = signer_of(self.settings, self.batches.database)
        except ConfigurationError as error:
            raise Untrusted(f"{_WHY} cannot sign: {error}", Denial.NOT_SIGNED) from None
        if signer is None:
            raise Untrusted(f"{_WHY} has no key: [security] key and key_file name one", Denial.NOT_SIGNED)
        return signer
