"""This worker's share of the work on live orders, and standing in for a session whose worker is gone."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from typing import TypeVar

import structlog
from sqlalchemy import or_, select

from models.errors import BrokerError, NotSent
from models.record.batch import OrderBatch
from models.record.tables import orders
from models.settings import TimingSettings
from models.vocabulary import WAITS_FOR_OWNER
from worker.brokers.base import BrokerInterface
from worker.fleet.liveness import alive_sessions
from worker.fleet.members import Heartbeat
from worker.orders.batches import Batches
from worker.orders.owners import is_told_to_wait, is_wished, takes, waiting
from worker.orders.windows import pause_after
from worker.runtime.clock import elapsed, utcnow

log = structlog.get_logger()
T = TypeVar("T")

#: A session that somebody else holds is tried again after pauses from this to that, seconds.
_AGAIN_S, _LONGEST_S = 2.0, 15.0


class Deputies:
    """Decides which orders of a broker this worker takes, and acts under sessions of workers that are gone.

    Args:
        batches: for transactions.
        broker: the adapter.
        timing: how old a heartbeat may be.
        pulse: tells whether this worker leads.
    """

    def __init__(self, batches: Batches, broker: BrokerInterface, timing: TimingSettings, pulse: Heartbeat) -> None:
        self.batches, self.database = batches, batches.database
        self.broker, self.timing, self.pulse = broker, timing, pulse
        #: Sessions that could not be had: how often, until when not to try again, and why.
        self._held: dict[str, tuple[int, float, str]] = {}

    def mine(self, work: Iterable[tuple[str | None, T]], *, free: bool = False) -> dict[str | None, list[T]]:
        """Return this worker's share of the work, by the session under which it has to be done; None is our own.

        Args:
            work: session of the order, and what is to be done.
            free: what any connection may do is ours, leader or not: a message has told us.
        """
        found: dict[str | None, list[T]] = defaultdict(list)
        if not (given := list(work)):
            return found
        me, leads = self.broker.order_session, self.pulse.leads
        foreign = leads and any(session not in (None, me) for session, _ in given)
        alive = self._alive() if foreign else frozenset[str]()
        for session, what in given:
            if takes(session, me, leads or (free and session is None), alive):
                found[None if session == me else session].append(what)
        return found

    def _alive(self) -> frozenset[str]:
        with self.database.read() as connection:
            return alive_sessions(connection, self.broker.name, utcnow(), self.timing.dead_after)

    @contextlib.contextmanager
    def acting_as(self, session: str | None) -> Iterator[None]:
        """Hold another session for a while; ours we have, and None is no session.

        Raises:
            NotSent: somebody else holds it, or did a moment ago: the next try comes later.
        """
        if session in (None, self.broker.order_session):
            yield
            return
        times, until, why = self._held.get(session, (0, 0.0, ""))
        if elapsed() < until:
            raise NotSent(why, broker=self.broker.name)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self.broker.acting_as(session))
            except BrokerError as error:
                pause = pause_after(times + 1, _AGAIN_S, _LONGEST_S)
                self._held[session] = (times + 1, elapsed() + pause, str(error))
                raise NotSent(str(error), broker=self.broker.name) from error
            self._held.pop(session, None)
            yield

    def carry_out(self, wish: str, session: str | None, ids: Collection[str], work: Callable[[], object]) -> None:
        """Do what is wished for these orders under a session; where it cannot be had, say who has to be alive."""
        since = utcnow()
        try:
            with self.acting_as(session):
                work()
        except NotSent as away:
            self._wait(ids, session, wish, str(away), since)

    def _wait(self, ids: Collection[str], session: str | None, wish: str, why: str, since: datetime) -> None:
        """Say of orders, once for each wish, whose worker has to be alive."""
        words = waiting(wish, self.broker.name, self.broker.session_kind, str(session), why)
        untold = or_(orders.c.reason_code.is_(None), orders.c.reason_code != WAITS_FOR_OWNER)
        untold = or_(untold, orders.c.reason.not_like(f"{wish} %"))
        query = select(orders.c.client_order_id).where(orders.c.client_order_id.in_(ids), untold)
        with self.database.read() as connection:
            news = list(connection.execute(query).scalars())
        if not news:
            return

        def work(batch: OrderBatch) -> list[str]:
            wished = [entry for entry in batch.entries.values() if is_wished(wish, entry, since)]
            waits = [entry for entry in wished if not is_told_to_wait(wish, entry)]  # somebody else was quicker
            for entry in waits:
                entry.set(reason=words, reason_code=WAITS_FOR_OWNER)
                entry.note(f"{wish}_waits", words)
            return [entry.id for entry in waits]

        waits, _ = self.batches.change(news, work)
        if waits:
            log.warning("nobody_can_take_it", wish=wish, orders=waits, why=words)
