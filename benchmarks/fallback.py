"""From the primary's failure to the fill at the backup, with corro's usual settings and the sandbox's doors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target
from models.settings import load_settings
from producers.client import OrderClient
from producers.handles import Order
from worker.local.processes import Fleet
from worker.sandbox.control import SandboxControl

WORDS = """\
Submit until filled, as the strategy sees it, which looks every 5 to 100 ms; the sandbox fills after 20 ms. Route ibkr,
alpaca. No peer is beside it: none has a backup. A refusal by IB is slow on purpose: it is given half a second, in which
the order may still show itself alive. The primary's worker is killed with SIGKILL a moment before the order: it is
believed dead where that is proven, its process gone on this host; without proof it has to be silent for 10 s."""
_ROUTE = ("ibkr", "alpaca")
#: Milliseconds from the submit to the fill at the backup, where the primary's worker was killed.
_WANTED_MS = 3000
_KILLED = "the primary's worker is killed"


class HurtFleet:
    """A fleet of two brokers, and ways to hurt the first."""

    def __init__(self, fleet: Fleet, client: OrderClient) -> None:
        self.fleet, self.client, self.control = fleet, client, SandboxControl.at(fleet.home)

    def order(self, *route: str, timeout: float = 60.0) -> float:
        """Submit and wait; returns the seconds until it was filled at the last broker of the route."""
        from producers import OrderRequest

        began = time.monotonic()
        order: Order = self.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=1, route=list(route)))
        order = order.wait(timeout)
        spent = time.monotonic() - began
        if (order.status, order.broker) != ("filled", route[-1]):
            raise RuntimeError(f"{order.status} at {order.broker} instead of filled at {route[-1]}: {order.reason}")
        return spent

    def undisturbed(self) -> float:
        """The primary itself."""
        return self.order(_ROUTE[0])

    def backup_alone(self) -> float:
        """The backup, asked first."""
        return self.order(_ROUTE[1])

    def refused(self) -> float:
        """The primary says no."""
        self.control.add_fault("ibkr", "refuse", count=1)
        return self.order(*_ROUTE)

    def down(self) -> float:
        """The primary's line is cut a moment before."""
        self.control.add_fault("ibkr", "down")
        try:
            return self.order(*_ROUTE)
        finally:
            self.control.clear_faults()
            self.undisturbed()  # waits until the line is up again, which no measurement shall

    def worker_killed(self) -> float:
        """The primary's only worker is killed a moment before."""
        self.fleet.kill("ibkr")
        del self.fleet.processes["ibkr"]
        try:
            return self.order(*_ROUTE)
        finally:
            self.fleet.start_worker("ibkr")
            self.fleet.wait_ready()


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Hurt the primary in each way, in turn."""
    found: dict[str, list[float]] = {}
    with _stage(house) as stage:
        ways: dict[str, tuple[Callable[[], float], int]] = {
            "filled at the primary, undisturbed": (stage.undisturbed, scale.of(7, 3)),
            "filled at the backup, asked first": (stage.backup_alone, scale.of(7, 3)),
            "the primary refuses it": (stage.refused, scale.of(7, 3)),
            "the primary's line is down": (stage.down, scale.of(5, 2)),
            _KILLED: (stage.worker_killed, scale.of(3, 1)),
        }
        for round_ in range(7):
            for title, (way, rounds) in ways.items():
                if round_ < rounds:
                    found.setdefault(title, []).append(way() * 1e3)
    base = median(found["filled at the backup, asked first"])
    rows = [
        [title, f"{median(ms):,.0f} [{min(ms):,.0f}-{max(ms):,.0f}]", f"{median(ms) / base:.1f}"]
        for title, ms in found.items()
    ]
    part = Part("fallback", "From the primary's failure to the fill at the backup", WORDS, figures=found)
    part.tables.append(Table("submit to filled", ["case", "ms [rounds]", "of the backup alone"], rows))
    late = max(found[_KILLED])
    words = "primary's worker killed to fill at the backup: at most 3 s"
    part.targets.append(Target(words, late <= _WANTED_MS, f"{late / 1e3:.1f} s at worst", "dead"))
    return part


@contextmanager
def _stage(house: BenchHouse) -> Iterator[HurtFleet]:
    settings = load_settings(home=house.folder("fallback"))
    environment = {"CORRO_LOG_LEVEL": "WARNING"}
    with Fleet(settings, sandbox=True, any_port=True, brokers=_ROUTE, environment=environment) as fleet:
        fleet.wait_ready()
        with OrderClient(fleet.settings) as client:
            yield HurtFleet(fleet, client)
