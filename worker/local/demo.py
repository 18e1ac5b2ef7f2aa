"""The demo: a sample strategy against the sandbox, a broker failure with fallback, the history, and the proof.

It always runs on the sandbox, in a home of its own, whatever the settings say: a demo never touches a real broker.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from models.history import History, Row, v_attempts, v_latency, v_orders
from models.logs import configure
from models.messages import OrderRequest
from models.record.reading import events_after, newest_event
from models.settings import Settings, config_file, load_settings
from models.vocabulary import Status
from producers.cli import show
from producers.client import OrderClient
from producers.handles import Order
from worker.local.audit import Audit, audit
from worker.local.processes import Fleet
from worker.runtime.clock import utcnow
from worker.sandbox.control import SandboxControl
from worker.sandbox.market.accounts import CENT, STARTING_CASH

_BASKET = ("AAPL", "MSFT", "SPY", "KO", "NVDA", "AMZN")
_ENDED_BADLY = (Status.REJECTED, Status.DENIED, Status.EXPIRED)
_COLUMNS = (
    "client_order_id", "side", "quantity", "symbol", "order_type", "status", "broker", "attempt_count",
    "filled_quantity", "avg_fill_price",
)  # fmt: skip


def run(*, keep: bool = False, json: bool = False, brake: bool = False) -> int:
    """Run the demo, or the one of the brake; returns the exit status: 0 only if the books agree with the doors."""
    configure("ERROR")
    with _own_home(keep) as settings:
        from worker.local.brake_demo import BrakeStage

        stage = BrakeStage(settings, quiet=json) if brake else Stage(settings, quiet=json)
        found = stage.play()
        if json:
            show.document(found)
        return 0 if found["ok"] else 1


@contextmanager
def _own_home(keep: bool):  # type: ignore[no-untyped-def]
    """Settings that see neither a settings file nor the environment: the embedded default in `CORRO_HOME/demo`."""
    home = (Path(os.environ.get("CORRO_HOME") or ".corro") / "demo").absolute()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / "corro.toml").write_text("# The demo uses no settings: everything is the default.\n")
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("CORRO_", "APCA_"))]:
        del os.environ[name]
    os.environ |= {"CORRO_HOME": str(home), "CORRO_CONFIG": str(home / "corro.toml"), "CORRO_LOG_LEVEL": "INFO"}
    try:
        assert config_file() == home / "corro.toml"
        yield load_settings()
    finally:
        os.environ.clear()
        os.environ.update(before)
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


class Stage:
    """The scenes, and a narrator that tells what happens while it happens."""

    def __init__(self, settings: Settings, *, quiet: bool) -> None:
        self.settings, self.quiet = settings, quiet
        self.started = time.monotonic()
        self.orders: list[Order] = []
        self.problems: list[str] = []
        self.made = 0

    def play(self) -> dict[str, object]:
        """Play all scenes; returns what was found."""
        self.say("Starting: embedded queue, database, sandbox (3 doors), one worker per broker ...")
        with Fleet(self.settings, sandbox=True, any_port=True) as fleet:
            fleet.wait_ready(tell=lambda name: self.say(f"  worker of {name} is connected and reconciled"))
            self.control = SandboxControl.at(fleet.home)
            with OrderClient(fleet.settings) as self.client, Narrator(self.client, self.tell) as narrator:
                for scene in self.scenes():
                    scene()
                    narrator.settle()
                self.control.clear_faults()
            return self.ending(fleet)

    # -- SCENES ---
    def scenes(self) -> Sequence[Callable[[], None]]:
        """Return what is played, in its order."""
        return (self.normal, self.each_broker, self.primary_fails, self.unknown, self.resting)

    def normal(self) -> None:
        """A basket over the primary broker."""
        self.scene("A strategy buys a basket; the route is " + " > ".join(self.settings.route))
        self.send([("buy", 10, symbol, {}) for symbol in _BASKET])

    def each_broker(self) -> None:
        """An order at each broker on purpose."""
        self.scene("One order for each broker, by its route")
        self.send([("buy", 5, "AAPL", {"route": [name]}) for name in self.settings.route])

    def primary_fails(self) -> None:
        """The gateway goes down, the next broker refuses some: orders fall back, and never to two brokers."""
        first, second, *_ = self.settings.route
        self.scene(f"{first} goes down, and {second} refuses KO: orders fall back along the route")
        self.control.add_fault(first, "down")
        self.control.add_fault(second, "refuse", symbol="KO")
        self.send([("buy", 7, symbol, {}) for symbol in _BASKET[:4]], must_move=True)
        self.control.clear_faults()

    def unknown(self) -> None:
        """A broker takes the order and the line goes dead: the outcome is unknown, so it is asked, not sent again."""
        _, second, third = self.settings.route
        self.scene(
            f"{third} takes an order and hangs up before answering: unknown, so it is looked for, not sent again"
        )
        self.control.add_fault(third, "accept_drop", count=1, symbol="NVDA")
        (order,) = self.send([("buy", 3, "NVDA", {"route": [third, second]})])
        if order.broker != third:
            self.problems.append(f"{order.client_order_id} left {third}, which had it")

    def resting(self) -> None:
        """A limit order far from the market, canceled."""
        second = self.settings.route[1]
        self.scene("A limit order rests, and is canceled")
        request = self.request("buy", 1, "MSFT", {"order_type": "limit", "limit_price": "1.00", "route": [second]})
        order = self.client.submit(request).wait(10, until=lambda o: o.is_live or o.is_terminal)
        order = order.cancel().wait(10)
        self.orders.append(order)
        if order.status is not Status.CANCELED:
            self.problems.append(f"{order.client_order_id} should be canceled, is {order.status}")

    def send(self, terms: Sequence[tuple[str, int, str, dict[str, object]]], *, must_move: bool = False) -> list[Order]:
        """Submit orders together, wait until they are filled, and return them."""
        placed = self.client.submit_many([self.request(*t) for t in terms])
        ended = self.client.wait_all(placed, 40)
        self.orders += ended
        for order in ended:
            if order.status is not Status.FILLED:
                self.problems.append(f"{order.client_order_id} should be filled, is {order.status}: {order.reason}")
            elif must_move and order.broker == order.row["route"][0]:
                self.problems.append(f"{order.client_order_id} did not fall back")
        return ended

    def request(
        self, side: str, quantity: int, symbol: str, more: dict[str, object], strategy: str = "demo"
    ) -> OrderRequest:
        """Make a request with an id that reads well."""
        self.made += 1
        return OrderRequest(
            client_order_id=f"{strategy}-{self.made:02d}-{symbol}", symbol=symbol, side=side, quantity=quantity,
            strategy=strategy, **more,
        )  # fmt: skip

    # -- ENDING ---
    def ending(self, fleet: Fleet) -> dict[str, object]:
        """Print the history and compare the ledger of the doors with the database."""
        result = self.compare(fleet)
        history = History(fleet.database)
        rows = history.rows(v_orders, newest_first=False)
        tries = history.rows(v_attempts, newest_first=False)
        latency = history.rows(v_latency)
        if not self.quiet:
            self.scene("The order history (corro orders)")
            show.rows(rows, _COLUMNS)
            self.scene("Attempts that did not get through (corro order ID shows them all)")
            columns = ("client_order_id", "attempt_no", "broker", "outcome", "code", "message")
            show.rows([t for t in tries if t["outcome"] != "accepted"], columns)
        profit, differences = self.profit(history)
        fills = sorted(float(row["fill_ms"]) for row in latency if row["fill_ms"] is not None)
        brokers = sorted({row["broker"] for row in rows if row["status"] == "filled"})
        fell_back = sum(bool(row["fell_back"]) for row in rows)
        problems = self.problems + result.problems + differences
        if set(brokers) != set(self.settings.route):
            problems.append(f"orders were filled at {brokers} only")
        if not fell_back:
            problems.append("no order fell back")
        found = {
            "ok": not problems, "orders": len(rows), "filled": sum(r["status"] == "filled" for r in rows),
            "filled_at": brokers, "fell_back": fell_back, "orders_at_doors": result.at_doors, "problems": problems,
            "pnl": profit, "median_fill_ms": fills[len(fills) // 2] if fills else None,
            "seconds": round(time.monotonic() - self.started, 1),
        }  # fmt: skip
        self.verdict(found)
        return found

    def profit(self, history: History) -> tuple[list[Row], list[str]]:
        """Print what was earned; returns it, and where it is not the money that the doors' accounts have gained."""
        deadline = time.monotonic() + 10
        while True:  # a last commission may still be on its way
            rows, held = history.pnl("broker", method="fifo"), history.positions(method="fifo")
            problems = [words for row in rows if (words := self._differs(row, held))]
            if not problems or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if not self.quiet:
            self.scene("Profit and loss, first in, first out (corro pnl --by broker)")
            show.rows(rows, ("broker", "realized", "unrealized", "fees", "currency"))
        return rows, problems

    def _differs(self, row: Row, held: list[Row]) -> str | None:
        """Hold what the record says was earned against cash gained and shares held, at the same prices."""
        name = str(row["broker"])
        worth = sum((p["quantity"] * p["price"] for p in held if p["broker"] == name), Decimal(0))
        gained = Decimal(self.control.accounts()[name]["cash"]) - STARTING_CASH + worth
        earned = row["realized"] + (row["unrealized"] or 0) - (row["fees"] or 0)
        return None if abs(gained - earned) < CENT else f"{name} earned {earned} by the record, {gained} by its account"

    def compare(self, fleet: Fleet) -> Audit:
        """Compare until both are quiet; a last fill may still be on its way."""
        deadline = time.monotonic() + 10
        while True:
            result = audit(fleet.database, self.control.orders())
            if result.ok or time.monotonic() > deadline:
                return result
            time.sleep(0.1)

    def verdict(self, found: dict[str, Any]) -> None:
        """Say how it ended."""
        self.scene("The ledger of the doors against the database")
        for problem in found["problems"]:
            self.say(("  PROBLEM ", "red"), problem)
        if found["ok"]:
            self.say(
                ("  they agree", "green"),
                f": {found['orders']} orders, {found['filled']} filled at "
                f"{', '.join(found['filled_at'])}; {found['fell_back']} fell back; each share bought once. "
                "Profit and loss is what their accounts have gained.",
            )
        self.say(f"  median time from submit to fill {found['median_fill_ms']} ms; all of it {found['seconds']} s")
        self.say()
        self.say("To look at it while it runs: ", ("corro up --web", "cyan"), ", and the page at http://127.0.0.1:8190")

    # -- TELLING ---
    def scene(self, title: str) -> None:
        """Begin a scene."""
        self.say()
        self.say((title, "bold"))

    def say(self, *parts: show.Part) -> None:
        """Say something, unless only the JSON document is wanted."""
        if not self.quiet:
            show.say(*parts)

    def tell(self, row: Any) -> None:
        """Tell one event."""
        at = row["at"].strftime("%H:%M:%S.%f")[:-3]
        colour = {"filled": "green", "requeued": "magenta", "unknown": "bold red", "found": "cyan"}.get(row["kind"], "")
        words = f"{row['kind']:<12} {row['detail'] or ''}"
        self.say(f"  {at}  {row['client_order_id']:<16} ", (words, colour))


class Narrator:
    """Follows the event log in the database and tells each new row; a context manager."""

    def __init__(self, client: OrderClient, tell: Callable[[object], None]) -> None:
        self._client, self._tell = client, tell
        self._stop = threading.Event()
        self._last = 0
        self._thread = threading.Thread(target=self._run, name="narrator", daemon=True)

    def __enter__(self) -> Narrator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()
        self._stop.set()
        self._thread.join()

    def settle(self) -> None:
        """Wait until what has happened so far is told."""
        deadline = utcnow().timestamp() + 2
        while utcnow().timestamp() < deadline:
            with self._client.database.read() as connection:
                newest = newest_event(connection)
            if newest <= self._last:
                return
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._client.database.read() as connection:
                for row in events_after(connection, self._last):
                    self._tell(row)
                    self._last = row["id"]
            self._stop.wait(0.05)
