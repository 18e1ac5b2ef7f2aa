"""A whole corro in a temporary directory: queue, database, sandbox and workers as real processes.

`World` is what the integration and chaos tests stand on. Each has a home, a settings file and ports of its own, so any
number of them may run at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from models.history import History
from models.record.database import Database
from models.settings import Settings, load_settings
from producers.client import OrderClient
from tests.kit.client import RecordedClient
from tests.kit.configuration import write_settings
from tests.kit.fleet import FleetProcesses
from tests.kit.market import SimulatedMarket
from tests.kit.money import MoneyCheck
from tests.kit.process import ROOT, CommandResult, environment, run_python
from worker.sandbox.control import SandboxControl


class World:
    """A simulated market, a fleet whose workers a test starts, a client with its record, and the money check.

    Args:
        home: an empty directory.
        brokers: the brokers that exist, in the order of the default route.
        database_url: None means SQLite in the home.
        timing: over the usual one of tests.
        fill_delay: seconds until the sandbox fills a marketable order.
        more: keys over the usual ones in `[brokers.NAME]`, by name.
        tables: whatever else its settings say, by the name of the table.
        variables: of the environment of every process of it.
    """

    live: list[World] = []

    def __init__(
        self,
        home: Path,
        brokers: Sequence[str] = ("ibkr", "alpaca", "tda"),
        *,
        database_url: str | None = None,
        timing: Mapping[str, Any] | None = None,
        fill_delay: float = 0.02,
        more: Mapping[str, Mapping[str, Any]] | None = None,
        tables: Mapping[str, Mapping[str, Any]] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.home, self.brokers = home, tuple(brokers)
        self.home.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:  # what was started before something failed
            self.market = SimulatedMarket(home, self.brokers, fill_delay, variables or {})
            undo.callback(self.market.close)
            self.control: SandboxControl = self.market.control
            ports = self.control.ports()
            write_settings(
                home, self.brokers, ports, database_url=database_url, timing=timing, more=more, tables=tables
            )
            here = {"CORRO_HOME": str(home), "CORRO_CONFIG": str(home / "corro.toml")}
            self.environment: Mapping[str, str] = {**(variables or {}), **here}
            with environment(self.environment):
                self.settings: Settings = load_settings()
            self.fleet = FleetProcesses(self.settings, self.environment)
            self.database: Database = self.fleet.database
            self.client = OrderClient(self.settings)
            self.history = History(self.database)
            self.orders = RecordedClient(self.client, self.database, self.control)
            self.money = MoneyCheck(self.database, self.control)
            undo.pop_all()
        World.live.append(self)

    def corro(self, *arguments: str, timeout: float = 60.0, **more: str) -> CommandResult:
        """Run a command of `corro`; keywords in capitals go to its environment."""
        variables = {**self.environment, **more}
        return run_python("-m", "worker.cli", *arguments, cwd=ROOT, timeout=timeout, **variables)

    def script(self, text: str, *arguments: str, timeout: float = 60.0, **more: str) -> CommandResult:
        """Run a Python script in a process of its own, outside of the repository."""
        return run_python("-c", text, *arguments, cwd=self.home, timeout=timeout, **more)

    def close(self, *, check: bool = True) -> None:
        """Check the money, then end everything."""
        if self in World.live:
            World.live.remove(self)
        try:
            if check:
                self.money.check()
        finally:
            self.client.close()
            self.fleet.close()
            self.market.close()


def events_of(order: Mapping[str, Any]) -> list[str]:
    """Return the kinds of what happened to an order."""
    return [event["kind"] for event in order["events"]]


def outcomes_of(order: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (broker, outcome) of every attempt."""
    return [(attempt["broker"], attempt["outcome"]) for attempt in order["attempts"]]
