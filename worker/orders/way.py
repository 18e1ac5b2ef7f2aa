"""The way of every order to its broker: claim, send, record, follow up, until nothing is left.

The order of things is the safety: what is sent was committed before as an attempt, the permit is asked again at the
last moment, and what came back is committed before anything else happens to the order. A process that dies in between
leaves an attempt `sending`, which reconciliation settles by asking the broker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import structlog

from models.crash_points import reached
from models.errors import BrokerError, DatabaseUnavailable, NotSent, Stale, Unmapped
from models.record.batch import Effects, OrderBatch
from models.settings import TimingSettings
from models.troubles import trouble
from worker.brokers.base import BrokerInterface, LinkedOrder, Ticket
from worker.gate import Gate
from worker.orders.batches import Batches
from worker.orders.command import A, Claimed, Claiming, Command, I
from worker.orders.in_parallel import in_parallel
from worker.orders.lane import Lane, Threads
from worker.orders.patience import NEAR_S, in_turn, written
from worker.orders.selection import Selection
from worker.runtime.clock import Stopwatch
from worker.runtime.isolate import isolate

log = structlog.get_logger()
T = TypeVar("T")


class Permit:
    """The leave to send one order: good while the gate is open, no control stops it and the claim is fresh.

    Args:
        gate: of the broker.
        timing: for how long a claim is fresh.
        watch: started before the claim, so a pause behind the claim counts as well.
    """

    def __init__(self, gate: Gate, timing: TimingSettings, watch: Stopwatch) -> None:
        self.gate, self.timing, self.watch = gate, timing, watch

    def check(self, item: Claimed) -> None:
        """Before a turn is waited for: see that the order may be sent at all, as it may have stood in a row for long.

        Raises:
            NotSent: it may not.
        """
        self.gate.must_be_open()
        for one in (item, *item.legs):
            self.gate.brake.look(one.facts, one.movement)
        self._must_be_fresh()

    def still_mine(self, item: Claimed) -> None:
        """The same, immediately before the first byte; raises NotSent."""
        for one in (item, *item.legs):
            self.gate.brake.gate(one.facts, one.movement)
        self._must_be_fresh()
        reached("before_send")

    def ticket(self, item: Claimed) -> Ticket:
        """Return what an adapter needs to send a claimed order under this permit."""
        return Ticket(
            order=item.order,
            broker_client_order_id=item.broker_client_order_id,
            deadline_s=self.timing.deadline,
            still_mine=partial(self.still_mine, item),
            legs=tuple(
                LinkedOrder(
                    order=leg.order,
                    broker_client_order_id=leg.broker_client_order_id,
                    session_order_id=leg.session_order_id,
                )
                for leg in item.legs
            ),
            session_order_id=item.session_order_id,
        )

    def in_turn(self, ask: Callable[[], T], patience_s: float | None = None) -> T:
        """Ask the broker, and wait for a turn that is near instead of giving the order back.

        Args:
            ask: asks; may be called again while it raises QuotaExhausted.
            patience_s: how far away a turn may be; by default as long as the claim stays fresh, 2 s at most.
        """
        if patience_s is not None:
            waiting = Stopwatch()
            return in_turn(ask, lambda: patience_s - waiting.age())
        return in_turn(ask, lambda: min(NEAR_S, self.timing.fresh - self.watch.age()))

    def _must_be_fresh(self) -> None:
        age, broker = self.watch.age(), self.gate.broker.name
        if age > self.timing.fresh:
            raise Stale(f"{broker}: claimed {age:.1f} s ago, too long to send under that claim", broker=broker)


class Way:
    """The way to one broker.

    Args:
        broker: the adapter.
        timing: for freshness.
        gate: of the broker.
        batches: for what came back.
        threads: makes those of a lane.
    """

    def __init__(
        self,
        broker: BrokerInterface,
        timing: TimingSettings,
        gate: Gate,
        batches: Batches,
        threads: Threads = ThreadPoolExecutor,
    ) -> None:
        self.broker, self.timing, self.gate, self.batches = broker, timing, gate, batches
        most = broker.capabilities.parallel_orders
        #: Cancels and replaces have a lane of their own: they do not wait behind orders.
        self.lanes = {name: Lane(name, most, threads) for name in ("send", "change")}

    def close(self) -> None:
        """Wait for what is under way and stop."""
        for lane in self.lanes.values():
            lane.threads.shutdown(wait=True)

    def run(self, command: Claiming, which: Selection) -> list[str]:
        """Claim, send and record until the selection is used up; returns the ids that were claimed.

        At a slow broker a part at a time: no more than the lane can send while their claims are fresh.
        """
        shares = self.lanes[command.lane].shares(which, self.timing.fresh / 2)
        return [id_ for share in shares for id_ in self._run(command, share)]

    def _run(self, command: Claiming, which: Selection) -> list[str]:
        done: list[str] = []
        more = True
        while more and self.gate.may_claim():  # what is not claimed now, the sweep finds later
            watch = Stopwatch()
            claimed = command.claim(which)
            done += [one.id for one in claimed]
            self.send(command, claimed, watch)
            more = bool(claimed) and command.has_more(which, claimed, len(done))
        return done

    def send(self, command: Command[I, A], items: Sequence[I], watch: Stopwatch | None = None) -> None:
        """Send what is claimed, or wished, many at a time, and record answers as they come.

        Args:
            command: how.
            items: the orders.
            watch: started before they were claimed.
        """
        lane, ask = self.lanes[command.lane], partial(self.ask, command, watch=watch or Stopwatch())
        for answers in in_parallel(items, ask, lane.threads, lane.most):
            self.record(command, answers)

    def ask(self, command: Command[I, A], item: I, watch: Stopwatch | None = None) -> A | BrokerError:
        """Send one and return the answer; what an adapter should not have let out is unknown."""
        permit, broker = Permit(self.gate, self.timing, watch or Stopwatch()), self.broker.name
        try:
            with self.lanes[command.lane].place():
                return command.send(item, permit)
        except BrokerError as error:
            return self.gate.heeded(error)
        except DatabaseUnavailable as error:
            return NotSent(f"not sent, the database is away: {error}", broker=broker)
        except Exception as error:
            log.exception("adapter_leaked", broker=broker, client_order_id=item.id)
            return Unmapped(f"{broker}: {trouble(error)}", broker=broker)

    def record(self, command: Command[I, A], answers: Sequence[tuple[I, A | BrokerError]]) -> None:
        """Commit what became of sends, then do what follows."""
        if told := [(item, answer) for item, answer in answers if command.counts(answer)]:
            commit, ids = partial(self._commit, command), [item.id for item, _ in told]
            for effects in written(lambda: isolate(commit, told, command.event), command.event, ids):
                self.batches.follow_up(effects)
        command.follow(answers)

    def _commit(self, command: Command[I, A], answers: Sequence[tuple[I, A | BrokerError]]) -> Effects:
        """Write some answers in one transaction; returns what follows the commit."""
        kept = {item.id: item.entry for item, _ in answers if item.entry is not None}

        def work(batch: OrderBatch) -> None:
            for item, answer in answers:
                command.settle(batch[item.id], item, answer)
            reached("before_commit")

        _, effects = self.batches.change([item.id for item, _ in answers], work, kept)
        reached("after_commit")
        for item, answer in answers:
            command.tell(item, answer)
        return effects
