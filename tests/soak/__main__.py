"""`make soak`: worlds under a rain of faults until enough faults have struck, then the table and the three zeros.

Every world is a process of its own with a queue, a database, brokers and workers of its own; several run side by side.
A world whose check found something keeps its directory, and is run again alone by `make soak SEED=s WORLD=n`.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit import ROOT, clean_environment
from tests.soak.tally import Tally

#: A world that says nothing for so long hangs, and that is a finding.
SILENCE_S = 300.0


@dataclass
class Running:
    """One world in its process."""

    number: int
    home: Path
    popen: subprocess.Popen[str]
    faults: int = 0
    orders: int = 0
    heard_at: float = field(default_factory=time.monotonic)

    def listen(self) -> None:
        """Follow what it says of itself."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            parts = line.split()
            if len(parts) == 2 and all(part.isdecimal() for part in parts):
                self.faults, self.orders = int(parts[0]), int(parts[1])
            self.heard_at = time.monotonic()


class SoakRun:
    """All worlds of one run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.home = Path(options.keep or tempfile.mkdtemp(prefix="corro-soak-"))
        self.home.mkdir(parents=True, exist_ok=True)
        self.tally = Tally()
        self.running: list[Running] = []
        self.began = time.monotonic()
        self._next = 0 if options.world is None else options.world
        self._told = 0.0

    def go(self) -> Tally:
        """Run until enough has struck, or the time is over."""
        try:
            while self._start_some() or self.running:
                for world in list(self.running):
                    self._look_at(world)
                self._tell()
                time.sleep(0.2)
        finally:
            for world in self.running:
                world.popen.terminate()
            for world in self.running:
                world.popen.wait(90)
        return self.tally

    def _start_some(self) -> bool:
        while self._wants_more() and len(self.running) < self.options.jobs:
            self._start(self._next)
            self._next += 1
        return bool(self.running)

    def _wants_more(self) -> bool:
        options = self.options
        if options.world is not None:
            return self._next == options.world
        if options.worlds is not None and self._next >= options.worlds:
            return False
        if options.minutes and time.monotonic() - self.began > options.minutes * 60:
            return False
        expected = [max(world.faults, self._usual()) for world in self.running]
        return options.worlds is not None or self.tally.faults + sum(expected) < options.faults

    def _usual(self) -> int:
        return self.tally.faults // self.tally.worlds if self.tally.worlds else self.options.orders * 2

    def _start(self, number: int) -> None:
        home = self.home / f"w{number}"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        command = [sys.executable, "-m", "tests.soak.storm", str(self.options.seed), str(number)]
        log = (home / "storm.log").open("wb")
        popen = subprocess.Popen(
            [*command, str(self.options.orders), str(home)], stdout=subprocess.PIPE, stderr=log,
            stdin=subprocess.DEVNULL,
            text=True, cwd=ROOT, env=clean_environment(),
        )  # fmt: skip
        world = Running(number, home, popen)
        threading.Thread(target=world.listen, daemon=True).start()
        self.running.append(world)

    def _look_at(self, world: Running) -> None:
        status = world.popen.poll()
        if status is None:
            if time.monotonic() - world.heard_at > SILENCE_S:
                world.heard_at = time.monotonic()  # what it takes to end in order
                world.popen.send_signal(signal.SIGUSR1)
                world.popen.terminate()
            return
        self.running.remove(world)
        path = world.home / "record.json"
        if not path.exists():
            tail = (world.home / "storm.log").read_text(errors="replace")[-2000:]
            self.tally.found["died"].append(f"world {world.number} ended with {status}: {tail}")
            return
        record = json.loads(path.read_text())
        self.tally.add(record)
        if any(record[name] for name in self.tally.found):
            found = {name: record[name] for name in self.tally.found if record[name]}
            print(
                f"world {world.number} found something, kept in {world.home}:\n{json.dumps(found, indent=2)}",
                flush=True,
            )
        elif self.options.keep is None:
            shutil.rmtree(world.home, ignore_errors=True)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told < (2.0 if sys.stdout.isatty() else 30.0):
            return
        self._told = now
        faults = self.tally.faults + sum(world.faults for world in self.running)
        orders = self.tally.orders + sum(world.orders for world in self.running)
        spent = now - self.began
        rate = faults / spent if spent else 0.0
        left = max(self.options.faults - faults, 0) / rate / 60 if rate > 1 else float("nan")
        line = (
            f"{spent / 60:5.1f} min  {faults:,} faults  {orders:,} orders  {rate:.0f} faults/s  "
            f"{self.tally.worlds} worlds done  about {left:.0f} min left  "
            + ("all zero" if self.tally.clean else "NOT ZERO")
        )
        print(f"\r{line}" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)


def _cpu_minutes() -> float:
    """Minutes of one core that the worlds took; the queues' and PostgreSQL's own are not among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--faults", type=int, default=100_000, help="faults that must strike")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worlds", type=int, help="so many worlds instead of so many faults")
    parser.add_argument("--world", type=int, help="only this one")
    parser.add_argument("--minutes", type=float, help="start no more worlds after this")
    parser.add_argument("--orders", type=int, default=960, help="orders of one world")
    parser.add_argument("--jobs", type=int, default=3, help="worlds side by side")
    parser.add_argument("--json", type=Path, help="write the record there")
    parser.add_argument("--keep", type=Path, help="keep every world's directory there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    run = SoakRun(options)
    tally = run.go()
    minutes = (time.monotonic() - run.began) / 60
    print(f"\n{tally.table()}\n")
    struck = tally.orders - tally.unharmed
    print(
        f"{tally.faults:,} faults struck {struck:,} of {tally.orders:,} orders in {tally.worlds} worlds "
        f"({tally.crossed:,} orders by two kinds or more) in {minutes:.1f} min, "
        f"{tally.faults / minutes / 60:.0f} faults/s; {_cpu_minutes():.0f} CPU minutes"
    )
    print(tally.zeros())
    print(f"seed {options.seed}; one world again: make soak SEED={options.seed} WORLD=n")
    if options.json:
        document = {"seed": options.seed, "minutes": round(minutes, 1), **tally.document()}
        options.json.write_text(json.dumps(document, indent=1))
    if tally.clean and options.keep is None:
        shutil.rmtree(run.home, ignore_errors=True)
    return 0 if tally.clean and tally.worlds else 1


if __name__ == "__main__":
    raise SystemExit(main())
