"""Legs of a group that nobody knows of, though the lead is at its broker: asked for by the lead, whose id is known.

| the broker shows                     | what follows                                                                  |
|--------------------------------------|-------------------------------------------------------------------------------|
| the lead with the leg                | the leg is accepted                                                           |
| the lead without it, not long enough | look again                                                                    |
| the lead without it, often and late  | the leg is absent and ends, and with that the lead: it must not stand alone   |
| nothing, or several                  | look again; a person sees it as unresolved                                    |

Where absence from the listings proves nothing, a leg is first taken back by its number (`worker.orders.withdrawal`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import cast

import structlog
from sqlalchemy import select

from models.errors import CorroError
from models.groups import LEADS
from models.lifecycle import Fact
from models.record.batch import OrderBatch
from models.record.groups import IS_FOLLOWER
from models.record.order import OrderRecord
from models.record.reading import newest_attempts
from models.record.rows import AttemptRow, ReadableOrder
from models.record.statements import fetch
from models.record.tables import attempts, orders
from models.reports import Found, Missing, Sighting
from models.settings import TimingSettings
from models.vocabulary import Outcome
from worker.brokers.base import BrokerInterface, OrderRef
from worker.orders.absence import is_missed
from worker.orders.batches import Batches
from worker.orders.catch_up import order_ref
from worker.orders.legs import lacking, linked_orders
from worker.orders.record import Recorder
from worker.orders.withdrawal import Withdrawals
from worker.runtime.clock import utcnow

log = structlog.get_logger()


class LostLegs:
    """Looks for legs at one broker.

    Args:
        timing: how often.
        broker: the adapter.
        batches: for transactions and what follows.
        recorder: for what was found.
        withdrawals: take back what the broker may hold unseen.
    """

    def __init__(
        self,
        timing: TimingSettings,
        broker: BrokerInterface,
        batches: Batches,
        recorder: Recorder,
        withdrawals: Withdrawals,
    ) -> None:
        self.timing, self.broker, self.batches, self.recorder = timing, broker, batches, recorder
        self.withdrawals = withdrawals

    def look(self, *, everything: bool = False) -> int:
        """Ask for the leads of all legs that are due; returns how many.

        Args:
            everything: also those that are not due yet (after a reconnect).
        """
        lost = self._due(everything=everything)
        refs = [ref for ref, _ in lost]
        if not refs:
            return 0
        try:
            seen = self.broker.find_orders(refs)
        except CorroError as error:
            log.warning("cannot_reconcile", broker=self.broker.name, orders=len(refs), error=str(error))
            return 0
        gone = {id_ for (ref, legs), one in zip(lost, seen, strict=True) for id_ in self._gone(ref, legs, one)}

        def work(batch: OrderBatch) -> None:
            for ref, sighting in zip(refs, seen, strict=True):
                self._answer(batch[ref.order.client_order_id], sighting, gone)

        _, effects = self.batches.change([ref.order.client_order_id for ref in refs], work)
        self.batches.follow_up(effects)
        return len(refs)

    def _due(self, *, everything: bool) -> list[tuple[OrderRef, dict[str, AttemptRow]]]:
        """Return the leads, at this broker, of legs that nobody knows of and that are due, with the legs' attempts."""
        o, a, now = orders.c, attempts.c, utcnow()
        lost = (
            select(o.group_id, attempts)
            .join_from(attempts, orders, a.client_order_id == o.client_order_id)
            .where(a.broker == self.broker.name, a.outcome == str(Outcome.UNKNOWN), IS_FOLLOWER)
        )
        with self.batches.database.read() as connection:
            rows = list(connection.execute(lost).mappings())
            due = [row for row in rows if everything or row["next_check_at"] is None or row["next_check_at"] <= now]
            ids = {row["group_id"] for row in due}
            if not ids:
                return []
            leads = fetch(connection, select(orders).where(o.group_id.in_(ids), o.leg.in_(LEADS)), ReadableOrder)
            tries = newest_attempts(connection, leads)
            linked = linked_orders(connection, leads)
        found = ((lead, tries.get(lead["client_order_id"])) for lead in leads)
        # While the lead is unknown itself, the question about it is the question about all.
        return [
            (
                replace(order_ref(lead, row), legs=linked.get(lead["client_order_id"], ())),
                {r["client_order_id"]: cast("AttemptRow", r) for r in rows if r["group_id"] == lead["group_id"]},
            )
            for lead, row in found
            if row and row["outcome"] == Outcome.ACCEPTED
        ]

    def _gone(self, lead: OrderRef, lost: dict[str, AttemptRow], sighting: Sighting) -> list[str]:
        """Return the legs that their broker has provably not, and takes back first where it may hold them unseen."""
        if not isinstance(sighting, Found):
            return []
        shown = {report.broker_client_order_id for report in sighting.report.legs}
        gone = []
        for leg in lead.legs:
            attempt = lost.get(leg.order.client_order_id)
            if attempt is None or leg.broker_client_order_id in shown:
                continue
            age = (utcnow() - attempt["started_at"]).total_seconds()
            missing = attempt["missing"]
            unseen = Missing(evidence=f"{self.broker.name} shows its lead without it")
            seen = self.withdrawals.after(lead.of(leg), unseen, missing=missing, age_s=age, sender_done=True)
            possible = self.broker.capabilities.absence.possible and leg.session_order_id is None
            if isinstance(seen, Missing) and (seen.withdrawn or possible):
                gone.append(leg.order.client_order_id)
        return gone

    def _answer(self, lead: OrderRecord, sighting: Sighting, gone: Collection[str]) -> None:
        if isinstance(sighting, Found):
            self.recorder.report(lead, lead.order["attempt_no"], sighting.report, infer=True, asked=True)
        for leg in lacking(lead):
            self._wait(lead, leg, seen=isinstance(sighting, Found), gone=leg.id in gone)

    def _wait(self, lead: OrderRecord, leg: OrderRecord, *, seen: bool, gone: bool) -> None:
        """Look again later, or end a leg that its broker has not; its lead, which must not stand alone, follows."""
        number, rule = leg.order["attempt_no"], self.broker.capabilities.absence
        attempt = leg.attempts[number]
        missing, age = attempt["missing"] + seen, (leg.now - attempt["started_at"]).total_seconds()
        pauses = self.timing.reconcile
        due = leg.now + timedelta(seconds=pauses[min(attempt["checks"] + 1, len(pauses) - 1)])
        leg.set_attempt(number, checks=attempt["checks"] + 1, missing=missing, next_check_at=due)
        words = f"{self.broker.name} shows the {lead.order['leg']} of its group without it, {missing} times"
        if gone and is_missed(rule, missing, age):
            leg.set_attempt(number, outcome=str(Outcome.ABSENT), code="absent", message=words, next_check_at=None)
            leg.note(str(Outcome.ABSENT), f"attempt {number}: {words}")
            leg.happen(Fact.CANCELED, attempt_no=number, detail=words)
        elif age >= self.timing.alert_after and attempt["alerted_at"] is None:
            leg.set_attempt(number, alerted_at=leg.now)
            leg.note("unresolved", f"attempt {number} at {self.broker.name} for {age:.0f} s: {words}")
            log.error("order_unresolved", client_order_id=leg.id, broker=self.broker.name, attempt_no=number,
                      seconds=round(age), why=words)  # fmt: skip
