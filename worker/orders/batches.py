"""Every change of orders in a worker: one transaction over a batch, and once it is committed, its effects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from sqlalchemy import Connection

from models.record.batch import Effects, OrderBatch
from models.record.database import Database
from models.record.intake import Intake
from models.record.order import OrderRecord
from producers.bell import Bell
from worker.runtime.clock import utcnow

T = TypeVar("T")


class Batches:
    """Changes orders, and does what follows.

    Args:
        database: the record.
        intake: has what a ring carries of an order.
        bell: rings the brokers that are next.
        cancel_strays: has orders canceled that live on attempts which had been given up.
    """

    def __init__(self, database: Database, intake: Intake, bell: Bell, cancel_strays: Callable[[], None]) -> None:
        self.database, self.intake, self.bell = database, intake, bell
        self._cancel_strays = cancel_strays

    def change(
        self, ids: Iterable[str], work: Callable[[OrderBatch], T], kept: Mapping[str, OrderRecord | None] | None = None
    ) -> tuple[T, Effects]:
        """Lock the orders of these ids, change and commit them; the effects are left to the caller.

        Args:
            ids: client_order_ids; those that do not exist are left out.
            work: changes orders; done again where the transaction had to give way, so it does nothing else.
            kept: orders as an earlier batch wrote them; one that nobody has touched since is not read again.

        Raises:
            DatabaseUnavailable: nothing was changed.
        """
        wanted = list(ids)
        return self.over(lambda connection: OrderBatch.open(connection, wanted, utcnow(), kept=kept), work)

    def over(self, opened: Callable[[Connection], OrderBatch], work: Callable[[OrderBatch], T]) -> tuple[T, Effects]:
        """The same, over a batch that somebody opens in the transaction."""

        def tried(connection: Connection) -> tuple[T, Effects]:
            batch = opened(connection)
            done = work(batch)
            batch.write(ending=True)
            return done, batch.effects

        return self.database.transact(tried)

    def follow_up(self, effects: Effects) -> None:
        """Do what follows a commit: ring the brokers that are next, and cancel strays."""
        self.ring(effects)
        if effects.strays:
            self._cancel_strays()

    def ring(self, effects: Effects) -> None:
        """Wake the brokers that are next; the order travels as its id, the row has the rest."""
        if not effects.rings:
            return
        bodies = self.intake.bodies([i for found in effects.rings.values() for i in found])
        self.bell.ring(
            [
                ("orders.submit", f"orders.{broker}", {"orders": [bodies[i] for i in found if i in bodies]})
                for broker, found in effects.rings.items()
            ]
        )
