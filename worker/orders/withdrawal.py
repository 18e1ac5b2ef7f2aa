"""Legs of a group that a broker may hold unseen: taken back by the numbers under which they were sent.

Where a group goes out order by order (IB), its sender may die between two of them. What has left by then stands in no
listing, and a person could send it on with one click. So what listings have missed often and late enough is canceled by
its number, through the session that sent it, and only then looked for once more.
"""

from __future__ import annotations

import structlog
from sqlalchemy import select

from models.errors import CorroError
from models.record.database import Database
from models.record.rows import AttemptRow
from models.record.tables import attempts
from models.reports import Missing, Sighting
from models.vocabulary import Outcome
from worker.brokers.base import BrokerInterface, Capabilities, OrderRef
from worker.orders.absence import is_missed
from worker.orders.deputies import Deputies

log = structlog.get_logger()


class Withdrawals:
    """Takes back, at one broker.

    Args:
        broker: the adapter.
        deputies: hold the session that sent it.
    """

    def __init__(self, broker: BrokerInterface, deputies: Deputies) -> None:
        self.broker, self.deputies, self.rule = broker, deputies, broker.capabilities.absence

    def is_mine_alone(self, row: AttemptRow) -> bool:
        """Tell whether nobody can take an attempt's order back but this worker, which leads nobody."""
        mine = row["session_order_id"] is not None and row["session"] == self.broker.order_session
        return mine and not self.deputies.pulse.leads

    def keep_reserved(self, database: Database) -> None:
        """Have the adapter give no number again under which an order that nobody knows of may wait at the broker."""
        a = attempts.c
        open_ = a.outcome.in_([str(Outcome.SENDING), str(Outcome.UNKNOWN)]) & a.session_order_id.is_not(None)
        mine = (a.broker == self.broker.name) & (a.session == self.broker.order_session)
        with database.read() as connection:
            numbers = list(connection.execute(select(a.session_order_id).where(open_, mine)).scalars())
        if numbers:
            self.broker.keep_reserved(numbers)

    def after(
        self, ref: OrderRef, seen: Sighting | CorroError, *, missing: int, age_s: float, sender_done: bool
    ) -> Sighting | CorroError:
        """Return what a reading has shown of orders, or what there is once they were withdrawn.

        Args:
            ref: the lead of a group with its legs, or one leg.
            seen: what the reading has shown.
            missing: complete readings before it that missed them.
            age_s: seconds since the last moment in which a byte of them can have left.
            sender_done: whoever sent them can send nothing more.
        """
        if not isinstance(seen, Missing) or ref.session_order_id is None or not sender_done:
            return seen
        if not is_missed(self.rule, missing + 1, age_s):
            return seen
        try:
            with self.deputies.acting_as(ref.session):
                return self.broker.withdraw(ref)
        except CorroError as error:
            log.warning("not_withdrawn", client_order_id=ref.order.client_order_id, error=str(error))
            return seen


def is_unsent(able: Capabilities, row: AttemptRow, *, is_group: bool) -> bool:
    """Tell whether no byte of an attempt can have left, once its sender is done.

    Sends are marked some at a time, before their turn; a group is numbered in its turn, which tells more.
    """
    if able.marks_sends and row["sent_at"] is None:
        return True
    return is_group and able.numbers_groups and row["session_order_id"] is None
