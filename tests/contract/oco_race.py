"""Exits that exclude each other, while a fill of one races the cancel of the other: many at once, each by its seed.

The door's own orders are held against the record. An overfill is *caused* by us where more was filled than one exit is
for and no fault of the broker let both live; it is *hidden* where the broker filled more and the record does not say
so, in both fills, as `overfilled`, with the symbol locked.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from sqlalchemy import select

from models.messages import OrderRequest
from models.record.tables import position_locks
from models.vocabulary import TERMINAL
from producers.client import OrderClient
from producers.groups import OrderGroup
from tests.contract.brokers import AdapterBench
from tests.contract.doors import SandboxThread
from worker.rehearsal import rehearsal
from worker.sandbox.market.market import MarketOrder

SIZE = Decimal(10)
START, TARGET, STOP = "100", "110", "95"
#: What is wished to end, and how often; `nothing` leaves it to the broker.
CANCELED = {"second": 5, "first": 2, "group": 2, "nothing": 1}
#: Faults of the broker on the way, and how often: both live on, updates come late or twice, or nothing goes wrong.
FAULTS = {"": 6, "both_fill": 2, "late": 1, "double": 1}
_KINDS = {
    "late": {"ibkr": "slow", "alpaca": "late_update", "schwab": "list_lag", "tda": "list_lag"},
    "double": {"ibkr": "duplicate_status", "alpaca": "duplicate_update"},
    "both_fill": dict.fromkeys(("ibkr", "alpaca", "schwab", "tda"), "both_fill"),
}
TIMING = {"lock_after": 0.5, "open_orders_every": 0.3, "positions_every": 0.5, "reconcile": (0.05, 0.2)}


@dataclass
class Race:
    """One group, decided by a seed.

    Args:
        seed: decides all.
        broker: where it is.
        symbol: only it trades that.
    """

    seed: int
    broker: str
    symbol: str
    cancels: str = field(init=False)
    fault: str = field(init=False)
    #: Seconds until the target is met, the cancel is wished, the price falls to the stop.
    met, wished, fell = 0.0, 0.0, 0.0

    def __post_init__(self) -> None:
        dice = random.Random(f"{self.seed}/{self.broker}")
        self.cancels = dice.choices(list(CANCELED), list(CANCELED.values()))[0]
        self.fault = dice.choices(list(FAULTS), list(FAULTS.values()))[0]
        self.met = dice.uniform(0.0, 0.6)
        self.wished = max(self.met + dice.uniform(-0.12, 0.06), 0.0)
        self.fell = self.met + dice.choice((0.0, 0.005, 0.03, 0.2))

    @property
    def name(self) -> str:
        return f"r{self.seed}-{self.broker}"

    def requests(self) -> tuple[OrderRequest, OrderRequest]:
        terms = {"symbol": self.symbol, "side": "sell", "quantity": SIZE, "route": [self.broker]}
        target = OrderRequest(**terms, order_type="limit", limit_price=TARGET, client_order_id=self.name)
        return target, OrderRequest(**terms, order_type="stop", stop_price=STOP, client_order_id=f"{self.name}.sl")


@contextmanager
def desk(home: Path, brokers: Sequence[str], races: Sequence[Race]) -> Iterator[RaceDesk]:
    """Open a client, doors with a position for each race, and workers, in this process."""
    with ExitStack() as stack:
        house = SandboxThread()
        stack.callback(house.close)
        benches = [AdapterBench(house, "ib_async" if name == "ibkr" else name, home) for name in brokers]
        for race in races:
            house.price(race.symbol, START)
            house.hold(race.broker, race.symbol, int(SIZE))
        client = stack.enter_context(rehearsal(home / "home", *(one.broker for one in benches), timing=TIMING))
        yield RaceDesk(client, house, races)


@dataclass
class RaceDesk:
    """Runs races."""

    client: OrderClient
    house: SandboxThread
    races: Sequence[Race]

    def run(self) -> list[str]:
        """Run the races side by side; returns what is wrong in the end."""
        races = self.races
        groups = {race.name: self.client.submit_oco(*race.requests()) for race in races}
        if late := self._until_none(races, lambda race: [] if self._is_live(race) else [f"{race.name} is not live"]):
            return late
        for race in races:
            if kind := _KINDS.get(race.fault, {}).get(race.broker):
                options = {"seconds": 0.3} if race.fault == "late" else {}
                self.house.fault(race.broker, kind, 2, race.symbol, **options)
        acts = sorted((at, n, what) for n, race in enumerate(races) for at, what in self._acts(race))
        began = time.monotonic()
        for at, n, what in acts:
            time.sleep(max(began + at - time.monotonic(), 0.0))
            self._do(what, races[n], groups[races[n].name])
        return self._until_none(races, self._wrong)

    @staticmethod
    def _until_none(races: Sequence[Race], look: Callable[[Race], list[str]], longest_s: float = 60.0) -> list[str]:
        """Look at each race until nothing is wrong with it, or the time is over; returns what still is."""
        left, end = list(races), time.monotonic() + longest_s
        while True:
            words = {race.name: look(race) for race in left}
            left = [race for race in left if words[race.name]]
            if not left or time.monotonic() > end:
                return [f"{one.name} ({one.cancels}, {one.fault}): {word}" for one in left for word in words[one.name]]
            time.sleep(0.2)

    @staticmethod
    def _acts(race: Race) -> list[tuple[float, str]]:
        return [(race.met, "met"), (race.wished, "wish"), (race.fell, "fall")]

    def _do(self, what: str, race: Race, group: OrderGroup) -> None:
        if what == "met":
            self.house.price(race.symbol, "111")
        elif what == "fall":
            self.house.price(race.symbol, "94")
        elif race.cancels == "group":
            group.cancel()
        elif race.cancels != "nothing":
            self.client.cancel(group.legs[race.cancels].client_order_id)

    # -- JUDGED ---
    def _is_live(self, race: Race) -> bool:
        return {str(leg.status) for leg in self.client.group(race.name).legs.values()} == {"accepted"}

    def _at_door(self, race: Race) -> dict[str, MarketOrder]:
        orders = self.house.call(lambda: list(self.house.market.orders(race.broker)))
        mine = [order for order in orders if order.symbol == race.symbol]
        assert len(mine) == 2, f"{race.name}: {len(mine)} orders at the door"
        return {{"limit": "first", "stop": "second"}[order.order_type]: order for order in mine}

    def _wrong(self, race: Race) -> list[str]:
        """Hold the record against the door; words that may go away while updates are on their way."""
        group, door = self.client.group(race.name), self._at_door(race)
        words = []
        if not all(order.status in TERMINAL for order in group.legs.values()):
            return ["has not ended"]
        for leg, order in group.legs.items():
            there = door[leg]
            listed = sum((fill["quantity"] for fill in order.fills), Decimal(0))
            if not order.filled_quantity == listed == there.filled_quantity:
                words.append(
                    f"{leg}: {order.filled_quantity} in its row, {listed} listed, {there.filled_quantity} there"
                )
            if str(order.status) != there.state:
                words.append(f"{leg} is {order.status}, at the door {there.state}")
        total = sum((order.filled_quantity for order in door.values()), Decimal(0))
        if total > SIZE and race.fault != "both_fill":
            words.append(f"caused: {total} of {SIZE} filled")
        said = [event["kind"] for order in group.legs.values() for event in order.events].count("overfilled")
        if (total > SIZE) != (said == 1) or (total > SIZE) != (group.status == "broken"):
            words.append(f"{total} filled, overfilled said {said} times, group {group.status}")
        if total > SIZE and (race.broker, race.symbol) not in self._locks():
            words.append("overfilled, and not locked")
        return words

    def overfilled(self) -> int:
        """Return how often the broker filled both."""
        return sum(sum(order.filled_quantity for order in self._at_door(race).values()) > SIZE for race in self.races)

    def _locks(self) -> set[tuple[str, str]]:
        with self.client.database.read() as connection:
            locks = connection.execute(select(position_locks.c.broker, position_locks.c.symbol))
            return {(broker, symbol) for broker, symbol in locks}


def races(brokers: Sequence[str], seeds: Sequence[int]) -> list[Race]:
    """Return one race for each seed at each broker, no two in one symbol."""
    pairs = [(seed, broker) for seed in seeds for broker in brokers]
    return [Race(seed, broker, f"SIM{n:03d}") for n, (seed, broker) in enumerate(pairs)]
