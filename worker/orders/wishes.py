"""The wish to cancel: recorded on the row, remembered where there is no row yet."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from models.errors import QueueUnavailable
from models.record.batch import OrderBatch
from models.record.order import cancel
from models.settings import Settings
from models.vocabulary import OPEN
from worker.orders.batches import Batches
from worker.orders.early_cancels import EarlyCancels
from worker.runtime.isolate import isolate

log = structlog.get_logger()


class CancelWishes:
    """Cancels that somebody asks for, in front of one broker's worker.

    Args:
        settings: for the queue, which remembers a cancel that came before its order.
        batches: for transactions.
        broker: whose worker this is.
    """

    def __init__(self, settings: Settings, batches: Batches, broker: str) -> None:
        self.batches, self.intake, self.broker = batches, batches.intake, broker
        self.early = EarlyCancels(settings)

    def close(self) -> None:
        """Close the connection to the queue."""
        self.early.close()

    def record(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Record that cancels are wanted; what is still queued is canceled at once.

        Returns:
            Ids whose order is at another broker, by broker.
        """
        elsewhere: dict[str, list[str]] = {}
        for found in isolate(self._record, ids, "cancel_not_recorded"):
            for broker, theirs in found.items():
                elsewhere.setdefault(broker, []).extend(theirs)
        return elsewhere

    def _record(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Record the wishes in one transaction; returns the ids of orders at other brokers, by broker."""

        def work(batch: OrderBatch) -> dict[str, list[str]]:
            elsewhere: dict[str, list[str]] = {}
            for entry in batch.entries.values():
                cancel(entry)
                if entry.status in OPEN and entry.order["broker"] != self.broker:
                    elsewhere.setdefault(entry.order["broker"], []).append(entry.id)
            return elsewhere

        elsewhere, _ = self.batches.change(ids, work)
        return elsewhere

    # -- BEFORE THEIR ORDER ---
    def wait_for_orders(self, ids: Sequence[str]) -> list[str]:
        """Remember the cancels of orders that have no row yet; returns those whose row has come meanwhile.

        Raises:
            QueueUnavailable: nobody would remember them.
        """
        early = self.intake.without_row(ids)
        if not early:
            return []
        self.early.remember(sorted(early))
        return sorted(early - self.intake.without_row(sorted(early)))

    def end_early(self, ids: Sequence[str]) -> None:
        """End orders from a message whose cancel was read before them; they have a row, and nobody has claimed them."""
        try:
            if early := self.early.of(ids):
                self.record(early)
                self.early.forget(early)
        except QueueUnavailable as error:  # they are executed as if nobody had wished a cancel, as far as anybody knows
            log.warning("early_cancels_not_known", error=str(error), orders=len(ids))
