"""The whole claim protocol: simulated workers of honest brokers over a real SQLite file, and every fault between steps.

After each step the brokers' own ledgers are compared with the record; at the end everything is healed, and then every
order is terminal, live at its broker, or unknown and listed, and the fills are the ledgers'.

`CORRO_PROPERTY_EXAMPLES` and `CORRO_PROPERTY_STEPS` make the run longer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from models.errors import CorroError
from models.messages import OrderRequest
from models.record.tables import attempts, fills, orders
from models.reports import BrokerStatus
from models.vocabulary import CLOSING, LIVE, TERMINAL, Outcome, Status
from tests.property.ledger import (
    KINDS,
    NO,
    NOT_TAKEN_AND_LOST,
    ON_ITS_WAY,
    TAKEN,
    TAKEN_AND_LOST,
    UNSENT,
    BrokerLedger,
    Kept,
)
from tests.property.simulation import SimulatedWorker, Simulation
from worker.brokers.base import Ticket
from worker.control.controls import resume, stop
from worker.control.scopes import Scope

EXAMPLES = int(os.environ.get("CORRO_PROPERTY_EXAMPLES", "60"))
STEPS = int(os.environ.get("CORRO_PROPERTY_STEPS", "30"))
ZERO = Decimal(0)
MOST_ORDERS, MOST_PROCESSES = 6, 8

#: What strikes a step, and at which of the points that it passes.
FAULTS = [(fault, at) for fault in ("die", "suspend", "slow") for at in range(1, 6)]
STRIKES = st.sampled_from([("none", 0)] * 8 + FAULTS)
LOSSES = (*TAKEN_AND_LOST, *NOT_TAKEN_AND_LOST, *ON_ITS_WAY)
ANSWERS = st.lists(st.sampled_from([*TAKEN, *UNSENT, *NO, *LOSSES, *LOSSES]), min_size=1, max_size=3)
TERMS = st.tuples(
    st.permutations(["a", "b", "c"]),
    st.integers(1, 3),
    st.sampled_from([2, 2, 4]),
    st.sampled_from(["buy", "buy", "sell"]),
)
UPSETS = (
    "halt", "drain", "reduce", "halt all", "resume", "resume", "blind", "seeing", "up", "up", "down", "cancel",
    "cancel", "kill", "kill", "hire", "hire",
)  # fmt: skip
ENDS = (BrokerStatus.CANCELED, BrokerStatus.EXPIRED, BrokerStatus.REJECTED)
PICK = st.integers(0, 10**6)
BROKERS = st.sampled_from(["a", "b", "c"])


class Protocol(RuleBasedStateMachine):
    """Strategies, brokers, workers, an operator and the weather, each free to act at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.world: Simulation | None = None
        self.placed = 0

    @initialize(
        kinds=st.tuples(*[st.sampled_from(sorted(KINDS))] * 2), held=st.sampled_from([0, 4, 7]),
        terms=st.lists(TERMS, min_size=2, max_size=4), last=ANSWERS,
    )  # fmt: skip
    def build(self, kinds: tuple[str, str], held: int, terms: list[Any], last: list[str]) -> None:
        self.world = Simulation({"a": kinds[0], "b": kinds[1], "c": "keeps"})
        self.world.wire = self._on_wire
        self.last = last  # what the first sends meet when everything heals
        for name, ledger in self.world.ledgers.items():
            ledger.held["KO"] = Decimal(held)  # so little that sells meet each other
            self.world.hire(name)
        self.world.hire("a", host="there")
        for each in terms:
            self._submit(*each)

    # -- WHO CAN ACT ---
    def _one(self, pick: int, found: list[Any]) -> Any:
        return found[pick % len(found)] if found else None

    def _process(self, pick: int) -> SimulatedWorker | None:
        assert self.world is not None
        found: SimulatedWorker | None = self._one(pick, [p for p in self.world.processes if p.can_work])
        return found

    def _kept(self, pick: int, *, live: bool) -> tuple[BrokerLedger, Kept] | None:
        assert self.world is not None
        every = [(led, k) for led in self.world.ledgers.values() for k in led.orders if k.is_live or not live]
        found: tuple[BrokerLedger, Kept] | None = self._one(pick, every)
        return found

    # -- STRATEGIES ---
    @precondition(lambda self: self.placed < MOST_ORDERS)
    @rule(terms=TERMS)
    def submit(self, terms: Any) -> None:
        self._submit(*terms)

    def _submit(self, route: list[str], length: int, quantity: int, side: str) -> None:
        assert self.world is not None
        self.placed += 1
        request = OrderRequest(
            client_order_id=f"o-{self.placed}", symbol="KO", side=side, quantity=quantity, route=route[:length],
            created_at=self.world.clock.now(),
        )  # fmt: skip
        self.world.submit(request)

    def _cancel(self, pick: int) -> None:
        """A wish on the row; the message may go to whoever had the order last."""
        assert self.world is not None
        process = self._process(pick)
        if process is not None and self.placed:
            elsewhere = process.desk.wishes.record([f"o-{pick % self.placed + 1}"])
            self.world.ring([("orders.cancel", f"control.{b}", {"client_order_ids": i}) for b, i in elsewhere.items()])

    # -- THE QUEUE ---
    @precondition(lambda self: self.world.rung)
    @rule(pick=PICK, who=PICK, copies=st.sampled_from([0, 1, 1, 1, 2]), strike=STRIKES, answers=ANSWERS)
    def hear(self, pick: int, who: int, copies: int, strike: Any, answers: list[str]) -> None:
        """A worker takes a message from its queue: any one of them, or it is lost, or it comes again."""
        assert self.world is not None
        index = pick % len(self.world.rung)
        task, broker, kwargs = self.world.rung[index]
        if copies < 2:
            del self.world.rung[index]
        process = self._one(who, [p for p in self.world.processes if p.can_work and p.ledger.name == broker])
        if process is not None and copies:
            self._do(process, lambda: self._execute(process, task, kwargs), strike, answers)

    def _execute(self, process: SimulatedWorker, task: str, kwargs: Any) -> None:
        if task == "orders.submit":
            process.desk.place.submit(kwargs["orders"])
            return
        process.desk.wishes.record(kwargs["client_order_ids"])
        if process.desk.gate.is_open():
            process.desk.cancels.carry_out(kwargs["client_order_ids"])

    # -- WORKERS ---
    @rule(who=PICK, duty=st.sampled_from(["sweep", "heal"]), strike=STRIKES, answers=ANSWERS)
    def lead(self, who: int, duty: str, strike: Any, answers: list[str]) -> None:
        assert self.world is not None
        process = self._one(who, [p for p in self.world.processes if p.can_work and p.pulse.leads])
        if process is not None:
            self._do(process, lambda: _quietly(getattr(process.leader, duty)), strike, answers)

    def _staff(self, broker: str, pick: int, *, kill: bool) -> None:
        """A process is killed, or one more is started, on this machine or another."""
        assert self.world is not None
        alive = [p for p in self.world.processes if not p.is_dead]
        if kill and alive:
            alive[pick % len(alive)].die()
            alive[pick % len(alive)].wake()
        elif not kill and len(alive) < MOST_PROCESSES:
            self.world.hire(broker, ("here", "there")[pick % 2])

    @precondition(lambda self: any(p.paused for p in self.world.processes))
    @rule(who=PICK)
    def wake(self, who: int) -> None:
        assert self.world is not None
        self._one(who, [p for p in self.world.processes if p.paused]).wake()

    def _do(self, process: SimulatedWorker, work: Callable[[], Any], strike: Any, answers: list[str]) -> None:
        process.ledger.answers = list(answers)
        process.do(work, *strike)
        process.ledger.answers = []

    # -- BROKERS ---
    @rule(pick=PICK, what=st.sampled_from([1, 2, 6, *ENDS]))
    def market(self, pick: int, what: Any) -> None:
        """Some shares of an order trade, or its broker ends it."""
        found = self._kept(pick, live=True)
        if found is not None and isinstance(what, int):
            found[0].fill(found[1], Decimal(what))
        elif found is not None:
            found[0].end(found[1], what)

    @precondition(lambda self: self.world.pushed)
    @rule(picks=st.lists(PICK, min_size=1, max_size=4), again=st.booleans())
    def deliver(self, picks: list[int], again: bool) -> None:
        """Reports reach their worker in any order, and perhaps they come again."""
        assert self.world is not None
        for pick in picks:
            if not self.world.pushed:
                return
            index = pick % len(self.world.pushed)
            process, report = self.world.pushed[index]
            if process.is_suspended:
                continue
            if not again or process.is_dead:
                del self.world.pushed[index]
            if not process.is_dead:
                process.apply([report])

    def _connection(self, broker: str, *, up: bool, strike: Any) -> None:
        """The broker goes down, or is there and its workers connect."""
        assert self.world is not None
        self.world.ledgers[broker].is_up = up
        for process in self.world.processes:
            if process.ledger.name == broker and process.can_work and up and not process.desk.gate.is_open():
                process.connect(*strike)
            elif process.ledger.name == broker and not up:
                process.desk.gate.close("the connection was lost")
                process.seat.connected = False

    # -- THE OPERATOR, AND TIME ---
    @rule(what=st.sampled_from(UPSETS), broker=BROKERS, pick=PICK, strike=STRIKES)
    def upset(self, what: str, broker: str, pick: int, strike: Any) -> None:
        assert self.world is not None
        if what in ("halt", "drain", "reduce", "halt all"):
            stop(
                self.world.database,
                Scope() if what == "halt all" else Scope("broker", broker),
                what.split()[0],
                "a test",
                "somebody",
            )
        elif what == "resume":
            resume(self.world.database, None, by="a test")
        elif what in ("blind", "seeing"):
            self.world.ledgers[broker].readings_fail = what == "blind"
        elif what in ("up", "down"):
            self._connection(broker, up=what == "up", strike=strike)
        elif what in ("kill", "hire"):
            self._staff(broker, pick, kill=what == "kill")
        else:
            self._cancel(pick)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 6.0, 11.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        assert self.world is not None
        self.world.pass_time(seconds)

    # -- WHAT HOLDS ALWAYS ---
    def _on_wire(self, ticket: Ticket) -> None:
        """The moment of truth: the first byte of an order leaves."""
        assert self.world is not None
        owner = ticket.order.client_order_id
        assert self._exposure(owner) == 0, f"{owner} is sent while it is at a broker"
        row = next(row for row in self.world.rows(orders) if row["client_order_id"] == owner)
        assert row["status"] == Status.SUBMITTED, f"{owner} is sent while it is {row['status']}"

    def _exposure(self, owner: str) -> Decimal:
        assert self.world is not None
        ledgers = self.world.ledgers.values()
        there = sum((k.exposure for led in ledgers for k in led.orders if k.owner == owner), ZERO)
        coming = [t for led in ledgers for _, t in led.on_the_way if t.order.client_order_id == owner]
        return there + sum((t.order.quantity for t in coming), ZERO)

    def _filled(self, owner: str) -> Decimal:
        assert self.world is not None
        kept = [k for led in self.world.ledgers.values() for k in led.orders if k.owner == owner]
        return sum((k.filled for k in kept), ZERO)

    @invariant()
    def the_record_and_the_ledgers_agree(self) -> None:
        if self.world is None:
            return
        tried: dict[str, list[dict[str, Any]]] = {}
        for attempt in self.world.rows(attempts):
            tried.setdefault(attempt["client_order_id"], []).append(attempt)
        for row in self.world.rows(orders):
            self._look_at(row, tried.get(row["client_order_id"], []))
        for ledger in self._ledgers():
            sells = sum((k.exposure - k.filled for k in ledger.orders if k.ticket.order.side in CLOSING), ZERO)
            sells += sum((t.order.quantity for _, t in ledger.on_the_way if t.order.side in CLOSING), ZERO)
            assert sells <= ledger.held["KO"], f"{ledger.name}: {sells} to be sold of {ledger.held['KO']}"

    def _look_at(self, row: dict[str, Any], tries: list[dict[str, Any]]) -> None:
        owner, status = row["client_order_id"], Status(row["status"])
        exposure, filled = self._exposure(owner), self._filled(owner)
        assert exposure <= row["quantity"], f"{owner}: {exposure} of {row['quantity']} at brokers"
        assert row["filled_quantity"] <= filled, f"{owner}: fills nobody made"
        if status is Status.QUEUED:
            assert exposure == 0, f"{owner}: queued, and at a broker"
        if status in TERMINAL:
            assert exposure == filled, f"{owner}: {status}, and live at a broker"
        if status is Status.FILLED:
            assert filled == row["quantity"], f"{owner}: filled, and the broker says {filled}"
        open_ = [a for a in tries if a["outcome"] in (Outcome.SENDING, Outcome.UNKNOWN, Outcome.ACCEPTED)]
        assert len({a["broker"] for a in open_}) <= 1, f"{owner}: open at two brokers"
        places = {led.name for led in self._ledgers() for k in led.orders if k.owner == owner and k.exposure}
        assert len(places) <= 1, f"{owner}: at {places}"

    def _ledgers(self) -> list[BrokerLedger]:
        assert self.world is not None
        return list(self.world.ledgers.values())

    # -- THE END ---
    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            self._heal_everything()
        finally:
            self.world.close()

    def _heal_everything(self) -> None:
        assert self.world is not None
        world = self.world
        resume(world.database, None, by="a test")
        for ledger in self._ledgers():
            ledger.is_up, ledger.readings_fail, ledger.answers = True, False, list(self.last)
        for process in world.processes:
            process.wake()
            if not process.is_dead and not process.desk.gate.is_open():
                process.connect()
        for name in world.ledgers:
            if not any(p.ledger.name == name and p.can_work for p in world.processes):
                world.hire(name)
        for _ in range(40):
            self.the_record_and_the_ledgers_agree()
            if not self._unsettled():
                break
            world.pass_time(6.0)
            for process in world.processes:
                if process.can_work and process.pulse.leads:
                    process.do(process.leader.sweep)
                    process.do(process.leader.heal)
        assert not self._unsettled()

    def _unsettled(self) -> list[str]:
        """What is neither terminal, nor live at its broker, nor unknown for good; and fills that are missing."""
        assert self.world is not None
        found = []
        tries = {(a["client_order_id"], a["attempt_no"]): a for a in self.world.rows(attempts)}
        booked: dict[str, Decimal] = {}
        for row in self.world.rows(fills):
            booked[row["client_order_id"]] = booked.get(row["client_order_id"], ZERO) + row["quantity"]
        for row in self.world.rows(orders):
            owner = row["client_order_id"]
            current = tries.get((owner, row["attempt_no"]))
            live = [k for led in self._ledgers() for k in led.orders if k.owner == owner and k.is_live]
            if row["filled_quantity"] != self._filled(owner) or booked.get(owner, ZERO) != self._filled(owner):
                if not (current and current["outcome"] == Outcome.UNKNOWN and current["alerted_at"]):
                    found.append(f"{owner}: {row['filled_quantity']} filled, the ledger has {self._filled(owner)}")
            elif row["status"] in TERMINAL:
                assert not live
            elif row["status"] in LIVE:
                if [k.order_id for k in live] != [row["broker_order_id"]]:
                    found.append(f"{owner}: {row['status']}, at the broker {live}")
            elif not (current and current["outcome"] == Outcome.UNKNOWN and current["alerted_at"]):
                found.append(f"{owner}: {row['status']}, {current and current['outcome']}")
        return found


def _quietly(work: Callable[[], None]) -> None:
    """A healer's loop outlives what its broker does to it."""
    with contextlib.suppress(CorroError):
        work()


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)  # fmt: skip
