"""The strategies of a storm: waves of orders with their troubles, repeated, canceled, and told again by messages."""

from __future__ import annotations

import heapq
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import redis

from models.errors import CorroError, DatabaseUnavailable
from models.messages import OrderRequest
from producers.bell import envelope
from tests.kit import ROOT, World, clean_environment
from tests.soak import menu, wares
from tests.soak.doors import Intent
from tests.soak.evidence import TERMINAL
from tests.soak.strikes import Struck, is_database
from tests.soak.wares import Unit

#: Shares of orders.
SHARES = {"placing": 0.7, "second": 0.4, "living": 0.45, "updating": 0.65, "copies": 1.3, "cancel": 0.12,
          "twin": 0.04, "sell": 0.08, "resting": 0.08, "replaced": 0.3, "dying": 0.10,
          "message first": 0.05, "halved": 0.4}  # fmt: skip


class Agenda:
    """What is to be done later."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = iter(range(10**9))

    def __bool__(self) -> bool:
        return bool(self._due)

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many seconds."""
        heapq.heappush(self._due, (time.time() + seconds, next(self._ties), action))

    def hasten(self) -> None:
        """Let everything be due now, in its order."""
        waiting, self._due = self._due, []
        for _, _, action in sorted(waiting, key=lambda due: due[:2]):
            self.at(0.0, action)

    def do(self, between: Callable[[], None] = lambda: None, longest: float = float("inf")) -> None:
        """Do what is due, for so long at most: what a locked database fails is due again before the last has failed."""
        end = time.time() + longest
        while self._due and self._due[0][0] <= time.time() < end:
            heapq.heappop(self._due)[2]()
            between()


@dataclass
class Strategies:
    """Whoever sends orders into a world.

    Args:
        world: the world.
        dice: decides all.
        names: prefix of the orders' ids.
        expires_s: seconds until an order that was not sent is too old.
        struck: what happened to them is added here.
        died: so is whatever raised that should not.
    """

    world: World
    dice: random.Random
    names: str
    expires_s: float
    struck: list[Struck]
    died: list[str]
    agenda: Agenda = field(default_factory=Agenda)
    intents: list[Intent] = field(default_factory=list)
    sells: list[tuple[str, Decimal]] = field(default_factory=list)
    closes: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.brokers = self.world.brokers
        self._set_positions()
        self.producers = self._start_producers()

    def _set_positions(self) -> None:
        """Sells need something to sell, wherever they go: shares, options, both legs of a vertical; and buys, money.

        What a door refuses because its account has run dry is refused for good, and no fault.
        """
        for door in self.brokers:
            self.world.control.pay(door, "deposit", amount=100_000_000)
        for n in range(40):
            symbol, size = f"SIM{960 + n:03d}", self.dice.randint(1, 5)
            held = {symbol: 5}
            if n % 5 == 3:
                held = {wares.call(symbol): 5}
            elif n % 5 == 4:
                held = {part["symbol"]: 5 if part["side"] == "buy" else -5 for part in wares.vertical(symbol)}
                self.closes.append((symbol, size))
            if n % 5 != 4:
                self.sells.append((next(iter(held)), Decimal(size)))
            for door in self.brokers:
                for name, quantity in held.items():
                    self.world.control.set_position(door, name, quantity)
        if wares.COIN_DOOR in self.brokers:
            for n, symbol in enumerate(wares.COINS * 2, 1):
                self.sells.insert(self.dice.randint(0, len(self.sells)), (symbol, Decimal(n) / 1000))
                self.world.control.set_position(wares.COIN_DOOR, symbol, 5)

    def _start_producers(self) -> subprocess.Popen[str]:
        with (self.world.home / "producers.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.soak.producer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, env={**clean_environment(), **self.world.environment}, cwd=ROOT, text=True,
            )  # fmt: skip

    def stop(self) -> None:
        """End the processes that submit."""
        assert self.producers.stdin is not None
        assert self.producers.stdout is not None
        self.producers.stdin.close()
        self.producers.wait(20)
        self.producers.stdout.close()

    # -- ORDERS ---
    def wave(self, total: int) -> int:
        """Send some orders, with their troubles; returns how many."""
        units = [self._unit() for _ in range(min(self.dice.randint(1, 15), total - len(self.intents)))]
        wishes = [wish for unit in units for wish in unit]
        self.world.control.add_faults([fault for unit in units for fault in self._troubles(unit[0])])
        fate = self.dice.random()
        if fate < SHARES["dying"]:
            self._submit_and_die(wishes)
        elif fate < SHARES["dying"] + SHARES["message first"]:
            self._push([wishes], "message before its row")
            self.agenda.at(self.dice.uniform(0.0, 0.3), lambda: self._submit(wishes))
        else:
            self._submit(wishes)
        return len(wishes)

    def _unit(self) -> Unit:
        """Make an order: plain, linked to others, of an option, or with legs."""
        lead = self._wish()
        if lead.order_type != "market" or not wares.is_plain(self.intents[-1]):
            return [lead]
        self.intents.pop()
        unit, intents = wares.unit(self.dice, lead, self.closes)
        self.intents += intents
        if intents[0].kind == "bracket" and self.dice.random() < SHARES["halved"]:
            self._halve(unit[0])
        return unit

    def _halve(self, entry: OrderRequest) -> None:
        """Have half of an entry filled, and its cancel wished once that is known: its exits die with it."""
        assert entry.route is not None
        door, symbol = str(entry.route[0]), entry.symbol
        half = {"door": door, "kind": "partial", "count": 1, "symbol": symbol}
        self.world.control.add_faults([{**half, "options": {"label": "half a fill, then a cancel"}}])
        self.agenda.at(1.0, lambda: self._cancel_half(entry.client_order_id, looks=20))

    def _cancel_half(self, client_order_id: str, looks: int) -> None:
        """Cancel what is partly filled, or look again in a second, so many times."""
        try:
            status = str(self.world.client.order(client_order_id).status)
        except CorroError:
            status = "unknown"
        if status == "partially_filled":
            self._cancel(client_order_id)
        elif looks and status not in TERMINAL:
            self.agenda.at(1.0, lambda: self._cancel_half(client_order_id, looks - 1))

    def _wish(self) -> OrderRequest:
        dice, n = self.dice, len(self.intents)
        route = dice.sample(self.brokers, dice.choice((1, 2, 2, 3, 3)))
        terms: dict[str, Any] = {"symbol": f"SIM{n % 960:03d}", "side": "buy", "quantity": Decimal(1 + n // 960)}
        if self.sells and dice.random() < SHARES["sell"]:
            symbol, quantity = self.sells.pop()
            terms = {"symbol": symbol, "side": "sell", "quantity": quantity, **wares.coin_terms(symbol)}
            route = [wares.COIN_DOOR] if symbol in wares.COINS else route
        elif (
            self.intents
            and self.intents[-1].side == "buy"
            and wares.is_plain(self.intents[-1])
            and dice.random() < SHARES["twin"]
        ):
            twin = self.intents[-1]
            terms = {"symbol": twin.symbol, "side": twin.side, "quantity": twin.quantity}
        elif dice.random() < SHARES["resting"]:
            terms |= {"order_type": "limit", "limit_price": "0.5"}
        id_ = f"{self.names}n{n}"
        created = time.time()
        request = OrderRequest(
            client_order_id=id_, route=route, expires_at=datetime.fromtimestamp(created + self.expires_s, UTC), **terms
        )
        asked = Intent(id_, request.symbol, str(request.side), request.quantity, tuple(route))
        asked.order_type = str(request.order_type)
        self.intents.append(asked)
        return request

    def _troubles(self, wish: OrderRequest) -> Iterator[dict[str, Any]]:
        assert wish.route is not None
        dice = self.dice
        for nth, door in enumerate(wish.route[:2]):
            if nth and dice.random() > SHARES["second"]:
                return
            menus = {"placing": menu.PLACING, "living": menu.LIVING, "updating": menu.UPDATING}
            if wish.limit_price is not None and wish.group is None and not wish.legs:
                menus["replaced"] = menu.RESTING
            for share, kinds in menus.items():
                drawn = menu.draw(dice, kinds, [door]) if dice.random() < SHARES[share] else None
                if drawn is not None and not (wish.legs and drawn[0].kind in menu.OF_ONE_EXECUTION):
                    yield drawn[0].fault(dice, door, wares.symbol_at(door, wish))

    def _submit(self, wishes: list[OrderRequest]) -> None:
        try:
            self.world.client.submit_many(wishes)
        except DatabaseUnavailable:
            self.agenda.at(1.0, lambda: self._submit(wishes))  # as a strategy would: again, under the same ids
            return
        except CorroError:
            raise
        except Exception as error:
            if not is_database(error):
                self.died.append(f"submit raised {type(error).__name__}: {error}"[:300])
            self.agenda.at(1.0, lambda: self._submit(wishes))
            return
        self._recorded(wishes)
        self._copies(wishes)
        for wish in wishes:
            if self.dice.random() < SHARES["cancel"]:
                self.agenda.at(
                    self.dice.choice((0.0, 0.1, 0.5, 3.0)), lambda id_=wish.client_order_id: self._cancel(id_)
                )

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
            self.agenda.at(
                self.dice.uniform(0.0, 4.0), lambda: self._submit(wishes)
            )  # the strategy is back, and repeats

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
        units = _units(wishes)
        chosen = [unit for unit in units for _ in range(int(SHARES["copies"] + self.dice.random()))]
        self.dice.shuffle(chosen)
        while chosen:
            size = self.dice.choice((1, 1, 1, 2, 4))
            batch, chosen = [wish for unit in chosen[:size] for wish in unit], chosen[size:]
            late = self.dice.choice((0.0, 0.0, 0.2, 1.0, 8.0))
            if late:
                self.agenda.at(late, lambda batch=batch: self._push([batch], "message again, late"))
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
            push = self.world.fleet.queue.lpush if self.dice.random() < 0.5 else self.world.fleet.queue.rpush
            try:
                push(queue, message)
            except redis.RedisError:
                continue
            ids = tuple(wish.client_order_id for wish in batch)
            self.struck.append(Struck(time.time(), label, ids=ids))


def _units(wishes: list[OrderRequest]) -> list[Unit]:
    """Return orders with those together that are one group: a message has all of it."""
    units: dict[str, Unit] = {}
    for wish in wishes:
        units.setdefault(wish.group.id if wish.group else wish.client_order_id, []).append(wish)
    return list(units.values())
