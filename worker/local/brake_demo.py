"""The demo of the brake: a strategy runs away, a limit trips it, a person kills it, and its positions are closed.

What is shown is what is there: a limit by `risk.changes`, orders by the client, the kill by the command itself. At the
end the ledger of the doors has to agree with the database, and another strategy has to have traded on.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from models.history import History, v_orders
from models.record.controls import HALTED, in_force
from models.record.holders import holders
from models.record.tables import control_events
from models.risk.names import Limit
from models.vocabulary import Status
from producers.cli import show
from producers.handles import Order
from worker.local.demo import Stage
from worker.local.processes import Fleet
from worker.risk.changes import set_limit

#: The strategy that runs away, and the one that does what it should.
_RUNAWAY, _STEADY = "runaway", "steady"
#: Orders alike within `repeat_seconds` (10): that of this number is denied, and trips its strategy.
_REPEATS = Decimal(6)
#: The runaway gives up after so many: by then the limit has failed.
_MOST = 60
_PAUSE_S = 0.03
_KILL_S = 45.0
_WHO = ("--by", "ann", "--reason", "it buys and buys")
_LOG = ("at", "kind", "scope_kind", "scope", "by", "reason", "detail")


class BrakeStage(Stage):
    """The scenes of the brake."""

    killed = False

    def scenes(self) -> Sequence[Callable[[], None]]:
        """Return what is played, in its order."""
        return (self.limit, self.normal, self.runs_away, self.goes_on, self.kill)

    # -- SCENES ---
    def limit(self) -> None:
        """A risk officer sets a limit, while the fleet runs."""
        self.scene("A risk officer sets a limit: six orders alike within ten seconds are one too many")
        words = f"corro limits set repeat_count {_REPEATS} --strategy {_RUNAWAY} --by risk --reason 'house rule'"
        self.say("  $ ", (words, "cyan"))
        limit = Limit("strategy", _RUNAWAY, "repeat_count", _REPEATS, None, "risk")
        set_limit(self.client.database, self.settings.risk, limit, reason="house rule")

    def normal(self) -> None:
        """Two strategies trade; orders of both rest at brokers."""
        first, second, third = self.settings.route
        self.scene("Two strategies trade, and orders of both rest")
        self.placed(_STEADY, 10, "KO", first)
        for name in (second, third):
            self.placed(_RUNAWAY, 4, "MSFT", name)
            self.rests(_RUNAWAY, "SPY", name)
        self.rests(_STEADY, "KO", second)

    def runs_away(self) -> None:
        """One of them has lost its mind: it sends the same order again and again, until a limit trips it."""
        first, *_ = self.settings.route
        self.scene(f"The strategy {_RUNAWAY} loses its mind: it buys 5 NVDA, and again, and again")
        sent: list[Order] = []
        while len(sent) < _MOST and not self.stopped():
            sent.append(self.client.submit(self.request("buy", 5, "NVDA", {"route": [first]}, _RUNAWAY)))
            time.sleep(_PAUSE_S)
        ended = self.client.wait_all(sent, 20)
        codes = [str(order.row["reason_code"]) for order in ended if order.status is Status.DENIED]
        if "repeat" not in codes:
            self.problems.append(f"no limit has tripped after {len(ended)} orders alike")
        filled = sum(order.status is Status.FILLED for order in ended)
        self.say(f"  {len(ended)} orders alike: {filled} filled, {len(codes)} denied ({', '.join(sorted(set(codes)))})")
        if filled >= _REPEATS:
            self.problems.append(f"{filled} orders alike were filled, the limit denies number {_REPEATS}")

    def goes_on(self) -> None:
        """The limit has stopped one strategy, and nobody else."""
        first, *_ = self.settings.route
        self.scene(f"{_RUNAWAY} stays halted until a named person resumes it; {_STEADY} trades on")
        denied = self.client.submit(self.request("buy", 1, "AAPL", {"route": [first]}, _RUNAWAY)).wait(10)
        if (denied.status, denied.row["reason_code"]) != (Status.DENIED, HALTED):
            self.problems.append(f"{denied.client_order_id} should be denied, is {denied.status}")
        self.placed(_STEADY, 3, "AAPL", first)

    def kill(self) -> None:
        """A person ends it: what rests is canceled, what it holds is closed; nothing of anybody else's."""
        self.scene("A person kills it: everything of it is canceled, then its positions are closed")
        words = ["kill", "--strategy", _RUNAWAY, "--flatten", *_WHO]
        self.say("  $ ", ("corro " + " ".join(repr(word) if " " in word else word for word in words), "cyan"))
        command = [sys.executable, "-m", "worker.cli", *words, "--patience", str(_KILL_S)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
            for line in running.stdout or ():
                self.say("  ", line.rstrip())
        self.killed = running.returncode == 0
        if not self.killed:
            self.problems.append(f"the kill ended with status {running.returncode}")

    # -- WHAT THEY DO ---
    def placed(self, strategy: str, quantity: int, symbol: str, broker: str) -> None:
        """Buy something at a broker, and see that it is bought."""
        order = self.client.submit(self.request("buy", quantity, symbol, {"route": [broker]}, strategy)).wait(20)
        if order.status is not Status.FILLED:
            self.problems.append(f"{order.client_order_id} should be filled, is {order.status}: {order.reason}")

    def rests(self, strategy: str, symbol: str, broker: str) -> None:
        """Put an order far below the market."""
        terms: dict[str, object] = {"order_type": "limit", "limit_price": "1.00", "route": [broker]}
        order = self.client.submit(self.request("buy", 2, symbol, terms, strategy)).wait(20, until=lambda o: o.is_live)
        if not order.is_live:
            self.problems.append(f"{order.client_order_id} should rest, is {order.status}: {order.reason}")

    def stopped(self) -> bool:
        """Tell whether the runaway is halted."""
        with self.client.database.read() as connection:
            return any(row["scope"] == _RUNAWAY and row["state"] == HALTED for row in in_force(connection))

    # -- ENDING ---
    def ending(self, fleet: Fleet) -> dict[str, object]:
        """Print what was done by whom, and compare the ledger of the doors with the database."""
        result, history = self.compare(fleet), History(fleet.database)
        held = self.held(fleet)
        orders = history.rows(v_orders, newest_first=False)
        still = [row["client_order_id"] for row in orders if row["strategy"] == _RUNAWAY and row["closed_at"] is None]
        steady = [row for row in orders if row["strategy"] == _STEADY]
        problems = self.problems + result.problems
        if held.get(_RUNAWAY):
            problems.append(f"{_RUNAWAY} still holds {held[_RUNAWAY]}")
        if still:
            problems.append(f"orders of {_RUNAWAY} are live: {still}")
        if held.get(_STEADY) != {"KO": Decimal(10), "AAPL": Decimal(3)} or all(row["closed_at"] for row in steady):
            problems.append(f"{_STEADY} was touched: it holds {held.get(_STEADY)}")
        if not self.quiet:
            self.scene("Who did what (corro controls --log)")
            show.rows(history.rows(control_events, newest_first=False), _LOG)
        flattened = [row for row in orders if str(row["client_order_id"]).startswith("flatten-")]
        found: dict[str, object] = {
            "ok": not problems, "orders": len(orders), "killed": self.killed,
            "denied": sum(row["status"] == "denied" for row in orders),
            "canceled": sum(row["status"] == "canceled" for row in orders),
            "flattened": sum(row["status"] == "filled" for row in flattened),
            "orders_at_doors": result.at_doors, "problems": problems,
            "seconds": round(time.monotonic() - self.started, 1),
        }  # fmt: skip
        self.verdict(found)
        return found

    def held(self, fleet: Fleet) -> dict[str, dict[str, Decimal]]:
        """Return what each strategy holds, by its fills at all brokers."""
        found: dict[str, dict[str, Decimal]] = {}
        with fleet.database.read() as connection:
            for broker in self.settings.route:
                for (strategy, symbol), quantity in holders(connection, broker).items():
                    mine = found.setdefault(str(strategy), {})
                    mine[symbol] = mine.get(symbol, Decimal(0)) + quantity
        return found

    def verdict(self, found: dict[str, Any]) -> None:
        """Say how it ended."""
        self.scene("The ledger of the doors against the database")
        for problem in found["problems"]:
            self.say(("  PROBLEM ", "red"), problem)
        if found["ok"]:
            self.say(
                ("  they agree", "green"),
                f": {found['denied']} orders were denied, {found['canceled']} canceled, {found['flattened']} positions "
                f"closed; {_RUNAWAY} holds nothing and has nothing live, {_STEADY} has what it bought.",
            )
        self.say(f"  all of it {found['seconds']} s")
