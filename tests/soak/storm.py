"""One world under a rain of faults: waves of orders, each with its own troubles, and a machine that falls apart.

The seed and the number of the world decide every order, every fault and every blow; the moment at which a fault finds
its victim is the machine's. What struck is counted from what the doors, the queue and the exit statuses say.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import text

from models.errors import CorroError, DatabaseUnavailable
from tests.kit import PostgresServer, World, environment
from tests.soak import menu
from tests.soak.doors import fold, read_ledger
from tests.soak.evidence import SoakVerdict, judge, read_books
from tests.soak.outages import Outages
from tests.soak.record import record
from tests.soak.strategies import Strategies
from tests.soak.strikes import Crew, Slot, Struck

#: Quicker than production, by the same rules: a storm has to end.
TIMING: dict[str, Any] = {
    "sweep_after": 1.0, "sweep_every": 0.5, "heartbeat_every": 0.5, "dead_after": 3.0, "strand_after": 1.5,
    "lease": 6.0, "fresh": 3.0, "deadline": 1.5, "reconcile": [0.3, 0.5, 1.0], "open_orders_every": 1.0,
    "positions_every": 2.0, "reconnect_first": 0.1, "reconnect_longest": 0.5, "retry_pause": 0.3, "leader_lease": 2.0,
}  # fmt: skip
#: What else its settings say: exits that die with half an entry filled are sent anew.
TABLES = {"groups": {"on_partial": "protect"}}
#: Orders under way at most.
UNDER_WAY = 160
#: Seconds until everything must have settled after the last blow.
SETTLES_S = 90.0
#: Blows a second.
BLOWS = {"shoot": 0.06, "suspend": 0.02, "queue": 0.10, "database": 0.05, "people": 0.05, "cut": 0.2, "ask": 3.5}


class Storm:
    """One world.

    Args:
        seed: of the run.
        number: of the world within it; even ones stand on SQLite, odd ones on PostgreSQL.
        orders: how many to send.
        home: an empty directory.
        tell: called now and then with (faults so far, orders so far).
        expires_s: seconds until an order that was not sent is too old.
    """

    def __init__(
        self,
        seed: int,
        number: int,
        orders: int,
        home: Path,
        tell: Callable[[int, int], None] = lambda *_: None,
        expires_s: float = 40.0,
    ) -> None:
        self.seed, self.number, self.total, self.home, self.tell = seed, number, orders, home, tell
        self.expires_s = expires_s
        self.dice = random.Random(f"{seed}/{number}")
        self.brokers = ("ibkr", "alpaca", ("tda", "schwab")[number // 2 % 2])
        self.struck: list[Struck] = []
        self._told = 0.0
        self._count = 0
        self._planned: Counter[tuple[str, str]] = Counter()
        self._struck: Counter[tuple[str, str]] = Counter()

    # -- LIFE ---
    def run(self) -> dict[str, Any]:
        """Send every order, wait until all is quiet, and check; returns the record of this world."""
        with contextlib.ExitStack() as stack:
            postgres = PostgresServer() if self.number % 2 else None
            if postgres:
                stack.callback(postgres.close)
            url = postgres.fresh() if postgres else None
            world = self.world = World(self.home, self.brokers, database_url=url, timing=TIMING, tables=TABLES)
            stack.callback(world.close, check=False)
            slots = [Slot(name, name) for name in self.brokers]
            if self.dice.random() < 0.5:
                slots.append(Slot("alpaca-b", "alpaca"))
            self.crew = Crew(world, self.dice, TIMING["lease"], slots, self.struck)
            self.outages = Outages(world, self.dice, postgres)
            names = f"s{self.seed}w{self.number}"
            self.strategies = Strategies(world, self.dice, names, self.expires_s, self.struck, self.crew.died)
            stack.callback(self.strategies.stop)
            began = time.time()
            for slot in slots:
                self.crew.start(slot, armed=True)
            for slot in slots:
                assert slot.process is not None
                world.fleet.wait_ready(slot.process)
            self._rain()
            rained = time.time()
            verdict = self._settle()
            return self._record(verdict, began, rained)

    # -- RAIN ---
    def _rain(self) -> None:
        under_way, looked, last = 0, 0.0, time.time()
        agenda = self.strategies.agenda
        while len(self.strategies.intents) < self.total:
            now = time.time()
            self.crew.watch(armed=True)
            self._blow(now - last)
            last = now
            # One that is suspended may hold the lock that all this waits for.
            agenda.do(between=lambda: self.crew.watch(armed=True))
            if now - looked > 0.25:
                under_way, looked = self._under_way(under_way), now
                self._progress()
            if under_way < UNDER_WAY:
                under_way += self.strategies.wave(self.total)
            else:
                time.sleep(0.05)

    def _progress(self) -> None:
        if time.time() - self._told > 1.0:
            self._told = time.time()
            with contextlib.suppress(requests.RequestException):
                news = self.world.control.strikes(self._count)
                self._struck.update((strike["door"], strike["label"]) for strike in news)
                self._count += len(news)
            self.tell(self._count + len(self.struck), len(self.strategies.intents))

    def _under_way(self, before: int) -> int:
        try:
            with self.world.database.read() as connection:
                query = text("SELECT count(*) FROM orders WHERE status IN ('queued', 'submitted')")
                return int(connection.execute(query).scalar() or 0)
        except DatabaseUnavailable:
            return before

    def _blow(self, seconds: float) -> None:
        """Strike what is not one order's."""
        hits = [name for name, rate in BLOWS.items() for _ in range(_poisson(self.dice, rate * min(seconds, 1.0)))]
        for hit in hits:
            if hit == "shoot":
                self.crew.shoot()
            elif hit == "suspend":
                self.crew.suspend()
            elif hit in ("queue", "database", "people"):
                label = getattr(self.outages, hit)()
                if label:
                    self.struck.append(Struck(time.time(), label))
            else:
                self._strike_door(menu.CUTTING if hit == "cut" else menu.ASKING)

    def _strike_door(self, kinds: tuple[menu.Kind, ...]) -> None:
        drawn = menu.draw(self.dice, kinds, self.brokers)
        assert drawn is not None
        kind, door = drawn
        if self._planned[door, kind.label] > self._struck[door, kind.label]:
            return  # one at a time: saved up, they would keep a door from ever answering again
        self._planned[door, kind.label] += 1
        also = next((k for k in (*menu.CUTTING, *menu.ASKING) if k.kind == kind.also), None)
        self.world.control.add_faults([k.fault(self.dice, door) for k in (kind, also) if k is not None])
        if kind.lasts is not None:
            end = lambda: self.world.control.clear_faults(door, kind.kind)  # noqa: E731
            self.strategies.agenda.at(self.dice.uniform(*kind.lasts), end)

    # -- THE END ---
    def _settle(self) -> SoakVerdict:
        """Stop the blows, let everything come back, and look until nothing is open or the time is over."""
        self.crew.calm()
        self.outages.end()
        self.world.control.clear_faults()
        agenda = self.strategies.agenda
        agenda.hasten()
        deadline = time.time() + SETTLES_S
        released = False
        while True:
            self.crew.watch(armed=False)
            self.crew.calm()
            agenda.do(longest=1.0)
            verdict = self._verdict()
            self._progress()
            if agenda:
                verdict.unfinished.append("not everything is submitted")
            if not verdict.unfinished and not released:
                released = True
                self._end_what_rests(verdict)
                deadline = max(deadline, time.time() + 20.0)
            elif not verdict.unfinished and verdict.clean:
                return verdict
            if time.time() > deadline:
                verdict.losses += [
                    f"not settled {SETTLES_S:.0f} s after the last blow: {u}" for u in verdict.unfinished
                ]
                return verdict
            time.sleep(0.7)

    def _end_what_rests(self, verdict: SoakVerdict) -> None:
        """Cancel half of what rests; the other half stays, as orders do."""
        resting = sorted(id_ for id_, (what, _) in verdict.became.items() if what == "resting")
        for id_ in resting[::2]:
            with contextlib.suppress(CorroError):
                self.world.client.cancel(id_)

    def _verdict(self) -> SoakVerdict:
        wire_ids = {o["number"]: str(o["wire_id"]) for o in self.world.control.orders()}
        entries = fold(read_ledger(self.home / "ledger.jsonl"), wire_ids)
        url = self.world.settings.database
        return judge(self.strategies.intents, entries, read_books(url))

    def _record(self, verdict: SoakVerdict, began: float, rained: float) -> dict[str, Any]:
        summed = record(verdict, self.strategies.intents, self.struck, self.world.control.strikes())
        return {
            "seed": self.seed, "world": self.number, "database": ("SQLite", "PostgreSQL")[self.number % 2],
            "brokers": self.brokers, "rained_s": round(rained - began, 1), "took_s": round(time.time() - began, 1),
            "died": self.crew.died, **summed,
        }  # fmt: skip


def _poisson(dice: random.Random, mean: float) -> int:
    """Draw how many times something that happens `mean` times on average happens now."""
    count, left = 0, mean
    while (left := left - dice.expovariate(1.0)) > 0:
        count += 1
    return count


def main(argv: list[str]) -> None:
    """Run one world in a process of its own: seed, number, orders, home; the record goes to HOME/record.json."""
    faulthandler.register(signal.SIGUSR1)  # where does it hang?
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # everything is brought down in order
    seed, number, orders, home = int(argv[0]), int(argv[1]), int(argv[2]), Path(argv[3])
    with environment({}):
        storm = Storm(seed, number, orders, home, lambda faults, done: print(faults, done, flush=True))
        found = storm.run()
    (home / "record.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
