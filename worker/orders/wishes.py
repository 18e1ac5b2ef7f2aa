"""The wish to cancel or to replace: judged where it is taken, recorded on the row, remembered where there is none yet.

Where signatures are required, a message without one is only a ring: it carries out what is on the rows already.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog
from sqlalchemy import select

from models.errors import InvalidOrder, QueueUnavailable, Untrusted
from models.explaining import shown
from models.record.batch import OrderBatch
from models.record.key_rows import KeyRow
from models.record.order import cancel, is_asked_for
from models.record.tables import WISHED, orders
from models.settings import Settings
from models.signing import Envelope
from models.vocabulary import OPEN, Denial
from models.wishes import SignedWish
from worker.orders.batches import Batches
from worker.orders.early_cancels import EarlyCancels
from worker.orders.vouching import Kind, Vouching, carry, deny, judged, take_left
from worker.runtime.isolate import isolate

log = structlog.get_logger()
#: Orders that have wishes, looked at in one go.
_MANY = 100


class Wishes:
    """Cancels and replaces that somebody asks for, in front of one broker's worker.

    Args:
        settings: for the queue, which remembers a cancel that came before its order.
        batches: for transactions.
        broker: whose worker this is.
        vouching: knows who stands behind a wish.
    """

    def __init__(self, settings: Settings, batches: Batches, broker: str, vouching: Vouching) -> None:
        self.batches, self.intake, self.broker, self.vouching = batches, batches.intake, broker, vouching
        self.early = EarlyCancels(settings)

    def close(self) -> None:
        """Close the connection to the queue."""
        self.early.close()

    # -- SIGNED ---
    def judge(self, kind: Kind, body: object) -> SignedWish:
        """Return the wish in an envelope.

        Raises:
            Untrusted: nobody who may trade stands behind it.
            InvalidOrder: it cannot be read, or is not good at this time.
        """
        envelope = Envelope.of(body)
        if envelope is None:
            raise InvalidOrder(f"a {kind} comes with ids, or signed, was {shown(body)}")
        return judged(self.vouching.reader.ring(), kind, envelope, self.intake.clock.now)

    def record_replace(self, wish: SignedWish) -> dict[str, list[str]]:
        """Record the new terms that a key wants for an order; returns orders of other brokers, as `record`."""

        def work(batch: OrderBatch) -> dict[str, list[str]]:
            for entry in batch.entries.values():
                carry(entry, wish)
            return self._elsewhere(batch)

        elsewhere, _ = self.batches.change(wish.ids, work)
        return elsewhere

    # -- CANCELS ---
    def record(self, ids: Sequence[str], key: KeyRow | None = None) -> dict[str, list[str]]:
        """Record that cancels are wanted; what is still queued is canceled at once.

        Args:
            ids: client_order_ids.
            key: whose signature the cancel has; without one it counts where none is required.

        Returns:
            Ids whose order is at another broker, by broker.
        """
        elsewhere: dict[str, list[str]] = {}
        for found in isolate(partial(self._record, key), ids, "cancel_not_recorded"):
            for broker, theirs in found.items():
                elsewhere.setdefault(broker, []).extend(theirs)
        return elsewhere

    def _record(self, key: KeyRow | None, ids: Sequence[str]) -> dict[str, list[str]]:
        """Record the wishes in one transaction; returns the ids of orders at other brokers, by broker."""
        required = "off" if key is not None else self.vouching.reader.required()

        def work(batch: OrderBatch) -> dict[str, list[str]]:
            had = {entry.id for entry in batch.entries.values() if entry.order["wishes"]}
            self._take_all_left(batch)
            for entry in batch.entries.values():
                if key is not None:
                    carry(entry, SignedWish([entry.id], key, {}, None), cancel)
                elif required == "off" or is_asked_for(entry):
                    cancel(entry)
                elif entry.status in OPEN and entry.id not in had:
                    words = f"a cancel in a message has to be signed, here ([security] require is {required})"
                    deny(entry, Untrusted(words, Denial.NOT_SIGNED))
            return self._elsewhere(batch)

        elsewhere, _ = self.batches.change(ids, work)
        return elsewhere

    def _elsewhere(self, batch: OrderBatch) -> dict[str, list[str]]:
        elsewhere: dict[str, list[str]] = {}
        for entry in batch.entries.values():
            if entry.status in OPEN and entry.order["broker"] != self.broker:
                elsewhere.setdefault(entry.order["broker"], []).append(entry.id)
        return elsewhere

    # -- LEFT ON ROWS ---
    def take_left(self) -> None:
        """Judge and record the wishes that producers have left on orders here, which they may not change themselves.

        A file has no roles: whoever can write to it can change its orders.
        """
        if self.batches.database.is_sqlite:
            return
        query = select(orders.c.client_order_id).where(WISHED, orders.c.broker == self.broker).limit(_MANY)
        with self.batches.database.read() as connection:
            found = list(connection.execute(query).scalars())
        if found:
            isolate(lambda some: self.batches.change(some, self._take_all_left), found, "wishes_not_taken")

    def _take_all_left(self, batch: OrderBatch) -> None:
        if any(entry.order["wishes"] for entry in batch.entries.values()):
            take_left(self.vouching.ring(batch.connection), batch)

    # -- BEFORE THEIR ORDER ---
    def wait_for_orders(self, ids: Sequence[str], key: KeyRow | None = None) -> list[str]:
        """Remember the cancels of orders that have no row yet; returns those whose row has come meanwhile.

        Raises:
            QueueUnavailable: nobody would remember them.
        """
        early = self.intake.without_row(ids)
        if not early or (key is None and self.vouching.reader.required() != "off"):
            return []
        self.early.remember(sorted(early), "" if key is None else key["key_id"])
        return sorted(early - self.intake.without_row(sorted(early)))

    def end_early(self, ids: Sequence[str]) -> None:
        """End orders from a message whose cancel was read before them; they have a row, and nobody has claimed them."""
        try:
            if early := self.early.of(ids):
                keys = self.vouching.reader.ring().keys if any(early.values()) else {}
                for key_id in sorted(set(early.values())):
                    self.record([id_ for id_, by in early.items() if by == key_id], keys.get(key_id))
                self.early.forget(list(early))
        except QueueUnavailable as error:  # they are executed as if nobody had wished a cancel, as far as anybody knows
            log.warning("early_cancels_not_known", error=str(error), orders=len(ids))
