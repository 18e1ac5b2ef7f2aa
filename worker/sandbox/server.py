"""The sandbox as one process: the market, its doors and the control door, on loopback only.

`python -m worker.sandbox.server --home DIR` runs it until SIGTERM or SIGINT; `DIR/sandbox.json` tells where it listens
and exists only while everything listens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from worker.sandbox.arrivals import PolledLoop
from worker.sandbox.control import ControlDoor
from worker.sandbox.market.accounts import Books
from worker.sandbox.market.market import NAMED, Market

HOST = "127.0.0.1"
PREFERRED_PORTS = {"control": 8180, "ibkr": 8181, "alpaca": 8182, "tda": 8183, "schwab": 8184}
DOORS = ("ibkr", "alpaca", "tda", "schwab")
FILE = "sandbox.json"
LOCK = "sandbox.lock"
#: Seconds between looks whether the process is still there that this one is to end with.
_PARENT_EVERY_S = 0.2
#: Seconds that one has whose `corro up` has just been killed.
_PREDECESSOR_S = 3.0


class Door(Protocol):
    """What every door can do."""

    async def start(self, host: str, port: int) -> int:
        """Listen; return the actual port, which for port 0 is any free one."""

    async def stop(self) -> None:
        """Cut every connection and stop listening."""


def make_door(market: Market, name: str, literal_location: bool = False) -> Door:
    """Return the door of that name. Raises ValueError for an unknown one.

    Args:
        market: behind the door.
        name: of the door.
        literal_location: let TDA and Schwab name their real host in Location headers; their own clients insist on it.
    """
    if name == "ibkr":
        from worker.sandbox.tws.door import TwsDoor

        return TwsDoor(market, name)
    if name == "alpaca":
        from worker.sandbox.alpaca.door import AlpacaDoor

        return AlpacaDoor(market, name)
    if name == "tda":
        from worker.sandbox.tda.door import TdaDoor

        return TdaDoor(market, name, dialect="tda", literal_location=literal_location)
    if name == "schwab":
        from worker.sandbox.tda.door import TdaDoor

        return TdaDoor(market, name, dialect="schwab", literal_location=literal_location)
    raise ValueError(f"unknown door {name!r}; one of {', '.join(DOORS)}")


class Sandbox:
    """A market with its doors. `start` and `stop` belong to one running loop; `ports` is filled by `start`."""

    def __init__(
        self,
        home: Path,
        ports: Mapping[str, int] | None = None,
        seed: int = 7,
        doors: Sequence[str] = DOORS,
        fill_delay: float = 0.02,
        literal_location: bool = False,
        accounts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.home = home
        self._literal_location = literal_location
        self.ports: dict[str, int] = {}
        self.doors: dict[str, Door] = {}
        self._token = ""
        self._wanted = dict(PREFERRED_PORTS if ports is None else ports)
        self._names = tuple(doors)
        self.market = Market(seed, fill_delay, home / "ledger.jsonl", name_of(home), Books(accounts))

    async def start(self) -> dict[str, int]:
        """Open every door, then write `sandbox.json`; return the ports by name, `control` among them."""
        try:
            for name in self._names:
                door = self.doors[name] = make_door(self.market, name, self._literal_location)
                self.ports[name] = await self._open(door, name)
            control = ControlDoor(self.market, {name: self.doors[name] for name in self._names}, self.ports)
            self._token = control.token
            self.doors["control"] = control
            self.ports["control"] = await self._open(control, "control")
        except BaseException:
            await self.stop()
            raise
        self.market.wake()
        self._announce()
        return self.ports

    async def stop(self) -> None:
        """Remove `sandbox.json`, close every door and the ledger."""
        (self.home / FILE).unlink(missing_ok=True)
        for door in reversed(list(self.doors.values())):
            await door.stop()
        self.market.close()

    async def _open(self, door: Door, name: str) -> int:
        """Listen on the wanted port, on any free one when it is taken."""
        try:
            return await door.start(HOST, self._wanted.get(name, 0))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return await door.start(HOST, 0)

    def _announce(self) -> None:
        path = self.home / FILE
        draft = path.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        told = {"pid": os.getpid(), "ports": self.ports, "name": self.market.name, "token": self._token}
        draft.write_text(json.dumps(told))
        draft.replace(path)


def name_of(home: Path) -> str:
    """Return the name of a home's sandbox: the same after a restart, another in another home."""
    return NAMED + hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]


def only_one(home: Path) -> IO[str]:
    """Hold the home's lock for as long as the file returned is open: two markets would write one ledger.

    Raises:
        SystemExit: another one runs in this home; names its pid.
    """
    file = (home / LOCK).open("a+")
    deadline = time.monotonic() + _PREDECESSOR_S
    while not _locked(file):
        if time.monotonic() > deadline:
            file.seek(0)
            raise SystemExit(f"a sandbox runs in {home.absolute()} already (pid {file.read().strip()})")
        time.sleep(0.05)
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


async def _end_with(parent: int, stopped: asyncio.Event) -> None:
    """End when the parent is gone, however it went."""
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_EVERY_S)
    stopped.set()


async def serve(
    home: Path,
    ports: Mapping[str, int] | None = None,
    seed: int = 7,
    doors: Sequence[str] = DOORS,
    fill_delay: float = 0.02,
    ready: Callable[[dict[str, int]], None] | None = None,
    literal_location: bool = False,
    parent: int = 0,
    accounts: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Run a sandbox until SIGTERM, SIGINT or cancellation.

    Args:
        home: directory for `sandbox.json` and `ledger.jsonl`; made when missing.
        ports: wanted port by door; 0 or left out is any free one, None takes the preferred ones.
        seed: of all prices.
        doors: which to open.
        fill_delay: seconds until a marketable order is filled.
        ready: called with the ports once everything listens.
        literal_location: let TDA and Schwab name their real host in Location headers.
        parent: pid of the process to end with; 0 is none.
        accounts: numbers of several accounts behind a door's login, by door; the others have one each.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: the caller cancels instead
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
    with only_one(home):
        sandbox = Sandbox(home, ports, seed, doors, fill_delay, literal_location, accounts)
        listening = await sandbox.start()
        watch = asyncio.create_task(_end_with(parent, stopped)) if parent else None
        try:
            if ready is not None:
                ready(listening)
            await stopped.wait()
        finally:
            if watch is not None:
                watch.cancel()
            await sandbox.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sandbox from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.sandbox.server", description="corro's simulated brokers")
    parser.add_argument("--home", type=Path, default=Path(".corro"), help="where sandbox.json and ledger.jsonl go")
    parser.add_argument("--ports-any", action="store_true", help="free ports instead of the preferred 8180-8184")
    parser.add_argument("--seed", type=int, default=7, help="seed of all prices")
    parser.add_argument("--fill-delay", type=float, default=0.02, help="seconds until a marketable order is filled")
    parser.add_argument("--doors", default=",".join(DOORS), help="comma-separated doors to open")
    parser.add_argument("--literal-location", action="store_true", help="Location headers name TDA's and Schwab's host")
    parser.add_argument(
        "--accounts", action="append", default=[], metavar="DOOR=NUMBER,NUMBER",
        help="several accounts behind a door's login; the first number should be the usual one",
    )  # fmt: skip
    parser.add_argument("--parent", type=int, default=0, help="pid of the process to end with")
    options = parser.parse_args(argv)
    os.umask(0o077)
    ports = dict.fromkeys(PREFERRED_PORTS, 0) if options.ports_any else None
    doors, delay, literal = options.doors.split(","), options.fill_delay, options.literal_location
    several = {door: numbers.split(",") for door, _, numbers in (text.partition("=") for text in options.accounts)}
    with asyncio.Runner(loop_factory=PolledLoop) as runner:
        runner.run(
            serve(
                options.home, ports, options.seed, doors, delay, literal_location=literal, parent=options.parent,
                accounts=several,
            )
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
