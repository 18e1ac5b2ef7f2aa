"""One world under a rain of faults: waves of orders, each with its own troubles, and a machine that falls apart.

The seed and the number of the world decide every order, every fault and every blow; the moment at which a fault finds
its victim is the machine's. What struck is counted from what the doors, the queue and the exit statuses say.
"""

from __future__ import annotations

import contextlib
import faulthandler
import heapq
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import redis
import requests
from sqlalchemy import text

from models.errors import CorroError, DatabaseUnavailable
from models.messages import OrderRequest
from producers.bell import envelope
from tests.kit import ROOT, Postgres, World, clean_environment, environment
from tests.soak import menu
from tests.soak.evidence import TERMINAL, Intent, Verdict, fold, judge, read_books, read_ledger
from tests.soak.strikes import Crew, Outages, Slot, Struck, is_database

#: Quicker than production, by the same rules: a storm has to end.
TIMING: dict[str, Any] = {
    "sweep_after": 1.0, "sweep_every": 0.5, "heartbeat_every": 0.5, "dead_after": 3.0, "strand_after": 1.5,
    "lease": 6.0, "fresh": 3.0, "deadline": 1.5, "reconcile": [0.3, 0.5, 1.0], "open_orders_every": 1.0,
    "positions_every": 2.0, "reconnect_first": 0.1, "reconnect_longest": 0.5, "retry_pause": 0.3, "leader_lease": 2.0,
}  # fmt: skip
#: Orders under way at most.
UNDER_WAY = 160
#: Seconds until everything must have settled after the last blow.
SETTLES_S = 90.0
#: Blows a second.
BLOWS = {"shoot": 0.06, "suspend": 0.02, "queue": 0.10, "database": 0.05, "cut": 0.15, "ask": 3.0}
#: Shares of orders.
SHARES = {"placing": 0.7, "second": 0.4, "living": 0.45, "updating": 0.65, "copies": 1.3, "cancel": 0.12,
          "twin": 0.04, "sell": 0.08, "resting": 0.08, "dying": 0.10, "message first": 0.05}  # fmt: skip


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
        self.intents: list[Intent] = []
        self.requests: dict[str, OrderRequest] = {}
        self.struck: list[Struck] = []
        self.sells: list[tuple[str, Decimal]] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = iter(range(10**9))
        self._told = 0.0
        self._count = 0
        self._planned: Counter[tuple[str, str]] = Counter()
        self._struck: Counter[tuple[str, str]] = Counter()

    # -- LIFE ---
    def run(self) -> dict[str, Any]:
        """Send every order, wait until all is quiet, and check; returns the record of this world."""
        with contextlib.ExitStack() as stack:
            postgres = Postgres() if self.number % 2 else None
            if postgres:
                stack.callback(postgres.close)
            url = postgres.fresh() if postgres else None
            world = self.world = World(self.home, self.brokers, database_url=url, timing=TIMING)
            stack.callback(world.close, check=False)
            self._set_positions()
            slots = [Slot(name, name) for name in self.brokers]
            if self.dice.random() < 0.5:
                slots.append(Slot("alpaca-b", "alpaca"))
            self.crew = Crew(world, self.dice, TIMING["lease"], slots, self.struck)
            self.outages = Outages(world, self.dice, postgres)
            self.producers = self._start_producers()
            stack.callback(self._stop_producers)
            began = time.time()
            for slot in slots:
                self.crew.start(slot, armed=True)
            for slot in slots:
                assert slot.process is not None
                world.wait_ready(slot.process)
            self._rain()
            rained = time.time()
            verdict = self._settle()
            return self._record(verdict, began, rained)

    def _set_positions(self) -> None:
        """Sells need something to sell, wherever they go."""
        for n in range(40):
            symbol = f"SIM{960 + n:03d}"
            self.sells.append((symbol, Decimal(self.dice.randint(1, 5))))
            for door in self.brokers:
                self.world.control.set_position(door, symbol, 5)

    def _start_producers(self) -> subprocess.Popen[str]:
        with (self.home / "producers.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.soak.producer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, env={**clean_environment(), **self.world.environment}, cwd=ROOT, text=True,
            )  # fmt: skip

    def _stop_producers(self) -> None:
        assert self.producers.stdin is not None
        assert self.producers.stdout is not None
        self.producers.stdin.close()
        self.producers.wait(20)
        self.producers.stdout.close()

    # -- RAIN ---
    def _rain(self) -> None:
        under_way, looked, last = 0, 0.0, time.time()
        while len(self.intents) < self.total:
            now = time.time()
            self.crew.watch(armed=True)
            self._blow(now - last)
            last = now
            while self._due and self._due[0][0] <= time.time():
                heapq.heappop(self._due)[2]()
                self.crew.watch(armed=True)  # one that is suspended may hold the lock that all this waits for
            if now - looked > 0.25:
                under_way, looked = self._under_way(under_way), now
                self._progress()
            if under_way < UNDER_WAY:
                under_way += self._wave()
            else:
                time.sleep(0.05)

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.time() + seconds, next(self._ties), action))

    def _do_what_is_due(self) -> None:
        """Do it, but not without an end: what a locked database fails is due again before the last one has failed."""
        end = time.time() + 1.0
        while self._due and self._due[0][0] <= time.time() < end:
            heapq.heappop(self._due)[2]()

    def _progress(self) -> None:
        if time.time() - self._told > 1.0:
            self._told = time.time()
            with contextlib.suppress(requests.RequestException):
                news = self.world.control.strikes(self._count)
                self._struck.update((strike["door"], strike["label"]) for strike in news)
                self._count += len(news)
            self.tell(self._count + len(self.struck), len(self.intents))

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
            elif hit in ("queue", "database"):
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
        faults = [kind.fault(self.dice, door)]
        if kind.kind == "rollback_next_valid_id":  # told to whoever connects next
            cut = next(k for k in menu.CUTTING if k.kind == "disconnect")
            faults.append(cut.fault(self.dice, door))
        self.world.control.add_faults(faults)
        if kind.kind == "down":
            self._at(self.dice.uniform(0.3, 2.5), lambda: self.world.control.clear_faults(door, "down"))

    # -- ORDERS ---
    def _wave(self) -> int:
        wishes = [self._wish() for _ in range(min(self.dice.randint(1, 15), self.total - len(self.intents)))]
        self.world.control.add_faults([fault for wish in wishes for fault in self._troubles(wish)])
        fate = self.dice.random()
        if fate < SHARES["dying"]:
            self._submit_and_die(wishes)
        elif fate < SHARES["dying"] + SHARES["message first"]:
            self._push([wishes], "message before its row")
            self._at(self.dice.uniform(0.0, 0.3), lambda: self._submit(wishes))
        else:
            self._submit(wishes)
        return len(wishes)

    def _wish(self) -> OrderRequest:
        dice, n = self.dice, len(self.intents)
        route = dice.sample(self.brokers, dice.choice((1, 2, 2, 3, 3)))
        terms: dict[str, Any] = {"symbol": f"SIM{n % 960:03d}", "side": "buy", "quantity": Decimal(1 + n // 960)}
        if self.sells and dice.random() < SHARES["sell"]:
            symbol, quantity = self.sells.pop()
            terms = {"symbol": symbol, "side": "sell", "quantity": quantity}
        elif self.intents and self.intents[-1].side == "buy" and dice.random() < SHARES["twin"]:
            twin = self.intents[-1]
            terms = {"symbol": twin.symbol, "side": twin.side, "quantity": twin.quantity}
        elif dice.random() < SHARES["resting"]:
            terms |= {"order_type": "limit", "limit_price": "0.5"}
        id_ = f"s{self.seed}w{self.number}n{n}"
        created = time.time()
        request = OrderRequest(client_order_id=id_, route=route, expires_at=_utc(created + self.expires_s), **terms)
        self.requests[id_] = request
        self.intents.append(Intent(id_, request.symbol, str(request.side), request.quantity, tuple(route)))
        return request

    def _troubles(self, wish: OrderRequest) -> Iterator[dict[str, Any]]:
        assert wish.route is not None
        dice = self.dice
        for nth, door in enumerate(wish.route[:2]):
            if nth and dice.random() > SHARES["second"]:
                return
            for share, kinds in (("placing", menu.PLACING), ("living", menu.LIVING), ("updating", menu.UPDATING)):
                drawn = menu.draw(dice, kinds, [door]) if dice.random() < SHARES[share] else None
                if drawn is not None:
                    yield drawn[0].fault(dice, door, wish.symbol)

    def _submit(self, wishes: list[OrderRequest]) -> None:
        try:
            self.world.client.submit_many(wishes)
        except DatabaseUnavailable:
            self._at(1.0, lambda: self._submit(wishes))  # as a strategy would: again, under the same ids
            return
        except CorroError:
            raise
        except Exception as error:
            if not is_database(error):
                self.crew.died.append(f"submit raised {type(error).__name__}: {error}"[:300])
            self._at(1.0, lambda: self._submit(wishes))
            return
        self._recorded(wishes)
        self._copies(wishes)
        for wish in wishes:
            if self.dice.random() < SHARES["cancel"]:
                self._at(self.dice.choice((0.0, 0.1, 0.5, 3.0)), lambda id_=wish.client_order_id: self._cancel(id_))

    def _recorded(self, wishes: list[OrderRequest]) -> None:
        ids = {wish.client_order_id for wish in wishes}
        for intent in reversed(self.intents):
            if intent.client_order_id in ids:
                intent.recorded = True
                ids.discard(intent.client_order_id)
                if not ids:
                    return

    def _submit_and_die(self, wishes: list[OrderRequest]) -> None:
        dies: Any = "at the ring" if self.dice.random() < 0.6 else round(self.dice.uniform(0.0, 0.06), 3)
        assert self.producers.stdin is not None
        assert self.producers.stdout is not None
        task = {"orders": [wish.to_wire() for wish in wishes], "dies": dies}
        self.producers.stdin.write(json.dumps(task) + "\n")
        self.producers.stdin.flush()
        status = int(self.producers.stdout.readline())
        if status == -9:
            where = "between commit and ring" if dies == "at the ring" else "at random"
            ids = tuple(wish.client_order_id for wish in wishes)
            self.struck.append(Struck(time.time(), f"producer kill -9 {where}", ids=ids))
        if status == 0 or (status == -9 and dies == "at the ring"):
            self._recorded(wishes)
        if status == 1 or self.dice.random() < 0.5:
            self._at(self.dice.uniform(0.0, 4.0), lambda: self._submit(wishes))  # the strategy is back, and repeats

    def _cancel(self, client_order_id: str) -> None:
        try:
            after = self.world.client.cancel(client_order_id)
        except CorroError:
            return
        if after.status == "canceled" or after.status not in TERMINAL:
            self.struck.append(Struck(time.time(), "cancel races", ids=(client_order_id,)))

    # -- MESSAGES ---
    def _copies(self, wishes: list[OrderRequest]) -> None:
        """Deliver again: alone or in other company, shuffled, at once or much later, to the right broker or another."""
        chosen = [w for w in wishes for _ in range(int(SHARES["copies"] + self.dice.random()))]
        self.dice.shuffle(chosen)
        while chosen:
            size = self.dice.choice((1, 1, 1, 2, 4))
            batch, chosen = chosen[:size], chosen[size:]
            late = self.dice.choice((0.0, 0.0, 0.2, 1.0, 8.0))
            if late:
                self._at(late, lambda batch=batch: self._push([batch], "message again, late"))
            else:
                self._push([batch], "message twice")

    def _push(self, batches: list[list[OrderRequest]], label: str) -> None:
        for batch in batches:
            route = batch[0].route or self.brokers
            right = self.dice.random() < 0.8
            broker = route[0] if right else self.dice.choice(self.brokers)
            if label == "message before its row":
                broker = route[0]
            elif broker != route[0]:
                label = "message at another broker"
            queue = f"orders.{broker}"
            message = envelope("orders.submit", queue, {"orders": [wish.to_wire() for wish in batch]})
            push = self.world.queue.lpush if self.dice.random() < 0.5 else self.world.queue.rpush
            try:
                push(queue, message)
            except redis.RedisError:
                continue
            ids = tuple(wish.client_order_id for wish in batch)
            self.struck.append(Struck(time.time(), label, ids=ids))

    # -- THE END ---
    def _settle(self) -> Verdict:
        """Stop the blows, let everything come back, and look until nothing is open or the time is over."""
        self.crew.calm()
        self.outages.end()
        self.world.control.clear_faults()
        waiting, self._due = self._due, []
        for _, _, action in sorted(waiting, key=lambda due: due[:2]):
            self._at(0.0, action)
        deadline = time.time() + SETTLES_S
        released = False
        while True:
            self.crew.watch(armed=False)
            self.crew.calm()
            self._do_what_is_due()
            verdict = self._verdict()
            self._progress()
            if self._due:
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

    def _end_what_rests(self, verdict: Verdict) -> None:
        """Cancel half of what rests; the other half stays, as orders do."""
        resting = sorted(id_ for id_, (what, _) in verdict.became.items() if what == "resting")
        for id_ in resting[::2]:
            with contextlib.suppress(CorroError):
                self.world.client.cancel(id_)

    def _verdict(self) -> Verdict:
        wire_ids = {o["number"]: str(o["wire_id"]) for o in self.world.control.orders()}
        entries = fold(read_ledger(self.home / "ledger.jsonl"), wire_ids)
        url = self.world.settings.database
        return judge(self.intents, entries, read_books(url))

    def _record(self, verdict: Verdict, began: float, rained: float) -> dict[str, Any]:
        doors = [
            Struck(s["at"], f"{s['door']}: {s['label']}", s["door"], self._owners(s["symbol"]) if s["symbol"] else None)
            for s in self.world.control.strikes()
        ]
        table: dict[str, dict[str, Any]] = {}
        hits: Counter[str] = Counter()
        victims: dict[str, set[str]] = defaultdict(set)
        for blow in [*self.struck, *doors]:
            ids = self._under_it(blow, verdict) if blow.ids is None else blow.ids
            table.setdefault(blow.label, {"injected": 0})["injected"] += 1
            victims[blow.label] |= set(ids)
        for label, ids in victims.items():
            hits.update(ids)
            became = Counter(verdict.became[i][0] for i in ids if i in verdict.became)
            seconds = [round(s, 2) for i in ids if (s := verdict.became.get(i, ("", None))[1]) is not None]
            table[label] |= {"orders": len(ids), "became": dict(became), "seconds": seconds}
        return {
            "seed": self.seed, "world": self.number, "database": ("SQLite", "PostgreSQL")[self.number % 2],
            "brokers": self.brokers, "orders": len(self.intents), "faults": sum(r["injected"] for r in table.values()),
            "rained_s": round(rained - began, 1), "took_s": round(time.time() - began, 1),
            "unharmed": sum(1 for i in self.intents if not hits[i.client_order_id]),
            "crossed": sum(1 for i in self.intents if hits[i.client_order_id] > 1),
            "became": dict(Counter(what for what, _ in verdict.became.values())),
            "duplicates": verdict.duplicates, "losses": verdict.losses, "false_terminals": verdict.false_terminals,
            "died": self.crew.died, "table": table,
        }  # fmt: skip

    def _owners(self, symbol: str) -> tuple[str, ...]:
        if not hasattr(self, "_by_symbol"):
            self._by_symbol: dict[str, list[str]] = defaultdict(list)
            for intent in self.intents:
                self._by_symbol[intent.symbol].append(intent.client_order_id)
        return tuple(self._by_symbol.get(symbol, ()))

    def _under_it(self, blow: Struck, verdict: Verdict) -> tuple[str, ...]:
        """Orders that were on their way when it struck."""
        return tuple(
            id_ for id_, (began, ended, brokers) in verdict.spans.items()
            if began <= blow.at <= ended and (blow.broker is None or blow.broker in brokers)
        )  # fmt: skip


def _poisson(dice: random.Random, mean: float) -> int:
    """Draw how many times something that happens `mean` times on average happens now."""
    count, left = 0, mean
    while (left := left - dice.expovariate(1.0)) > 0:
        count += 1
    return count


def _utc(at: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC)


def main(argv: list[str]) -> None:
    """Run one world in a process of its own: seed, number, orders, home; the record goes to HOME/record.json."""
    faulthandler.register(signal.SIGUSR1)  # where does it hang?
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # everything is brought down in order
    seed, number, orders, home = int(argv[0]), int(argv[1]), int(argv[2]), Path(argv[3])
    with environment({}):
        storm = Storm(seed, number, orders, home, lambda faults, done: print(faults, done, flush=True))
        record = storm.run()
    (home / "record.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1:])
