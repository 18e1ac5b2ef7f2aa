"""Words for scenarios: one guard each, on the simulated world of the claim protocol."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from models.messages import OrderRequest
from models.record.baselines import shift_baseline
from models.record.batch import OrderBatch
from models.record.replaces import request_replace
from models.record.tables import attempts, order_events, orders
from tests.property.ledger import Kept
from tests.property.simulation import SimulatedWorker, Simulation
from worker.orders.command import Claimed
from worker.orders.selection import named
from worker.runtime.clock import Stopwatch

#: The brokers by how they treat our ids: without any, deduping by them, keeping them.
ANONYMOUS, DEDUPES, KEEPS = "tda", "alpaca", "ibkr"
BROKERS = {DEDUPES: "dedupes", KEEPS: "keeps", ANONYMOUS: "anonymous"}
#: A send passes three points: behind the claim, before the first byte, behind the answer. A baseline adds two before.
BEHIND_BASELINE = 2


class Scenario:
    """A world with one worker of each broker, and short words for what tests do with it."""

    def __init__(self) -> None:
        self.world = Simulation(BROKERS)
        self.worker = {name: self.world.hire(name) for name in BROKERS}
        self._placed = 0

    def order(self, *route: str, side: str = "buy", quantity: int = 10, **terms: Any) -> str:
        """Record an order, and lose its message; returns its id."""
        self._placed += 1
        id_ = f"o-{self._placed}"
        request = OrderRequest(
            client_order_id=id_, side=side, quantity=quantity, route=list(route),
            created_at=self.world.clock.now(), **{"symbol": "KO", **terms},
        )  # fmt: skip
        self.world.submit(request)
        self.world.rung.clear()
        return id_

    def work(self, broker: str, *ids: str, meets: str = "accept", fault: str = "none", at: int = 1) -> None:
        """Have the broker's worker claim and send; `meets` are the answers it gets, separated by blanks."""
        self.do(self.worker[broker], *ids, meets=meets, fault=fault, at=at)

    def do(self, process: SimulatedWorker, *ids: str, meets: str = "accept", fault: str = "none", at: int = 1) -> None:
        """The same, by this process."""
        process.ledger.answers = meets.split()
        process.do(lambda: process.desk.place.work(list(ids)), fault, at)

    def claim(self, broker: str, id_: str) -> Claimed:
        """Have the broker's worker claim one order, and nothing more."""
        (claimed,) = self.worker[broker].desk.place.claim(named([id_]))
        return claimed

    def send(self, broker: str, claimed: Claimed, meets: str = "accept") -> None:
        """Have the broker's worker send what it has claimed, and record the answer."""
        self.world.ledgers[broker].answers = meets.split()
        self.worker[broker].desk.way.send(self.worker[broker].desk.place, [claimed], Stopwatch())

    def reconcile(self, broker: str, rounds: int = 1, pause: float = 6.0) -> None:
        """Have the broker asked about what is unknown, several times."""
        for _ in range(rounds):
            self.world.pass_time(pause)
            self.worker[broker].desk.reconciler.unknown()

    def row(self, id_: str) -> dict[str, Any]:
        """The order's row."""
        return next(row for row in self.world.rows(orders) if row["client_order_id"] == id_)

    def change(self, table: Any, id_: str, **values: Any) -> None:
        """Write columns of a row, as something outside would have."""
        with self.world.database.write() as connection:
            connection.execute(table.update().where(table.c.client_order_id == id_).values(**values))

    def wish(self, id_: str, **changes: Any) -> None:
        """Ask for other terms of a live order, as a client does."""
        with self.world.database.write() as connection:
            batch = OrderBatch.open(connection, [id_], self.world.clock.now())
            request_replace(batch[id_], changes)
            batch.write()

    def replace(self, broker: str, meets: str = "accept", fault: str = "none") -> None:
        """Have the broker's worker carry out what is wished for."""
        process = self.worker[broker]
        process.ledger.answers = meets.split()
        process.do(process.desk.replacements.carry_out, fault)

    def status(self, id_: str) -> str:
        """The order's status."""
        return str(self.row(id_)["status"])

    def tries(self, id_: str) -> list[tuple[str, str]]:
        """Broker and outcome of each attempt."""
        found = [a for a in self.world.rows(attempts) if a["client_order_id"] == id_]
        return [(a["broker"], a["outcome"]) for a in sorted(found, key=lambda a: a["attempt_no"])]

    def kinds(self, id_: str) -> list[str]:
        """The event log, in short."""
        return [e["kind"] for e in self.world.rows(order_events) if e["client_order_id"] == id_]

    def kept(self, broker: str) -> list[Kept]:
        """What the broker has in its own books."""
        return self.world.ledgers[broker].orders

    def at_brokers(self) -> list[str]:
        """The brokers that have taken an order, one name for each order."""
        return [name for name in BROKERS for _ in self.kept(name)]

    def holds(self, broker: str, quantity: int) -> None:
        """Give the account a position that our books explain, and have it read."""
        held = self.world.ledgers[broker].held
        with self.world.database.write() as connection:
            more = quantity - held.get("KO", Decimal(0))
            shift_baseline(connection, broker, "KO", more, self.world.clock.now())
        held["KO"] = Decimal(quantity)
        self.worker[broker].desk.positions.read()
