"""The long run (`make soak`): orders under a rain of faults, many seeds; never in the default run.

`CORRO_SOAK_ROUNDS` says how many rounds; each has its own seed, which the failing one prints.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from models.vocabulary import LIVE, TERMINAL, Outcome
from tests.kit import World, eventually

MakeWorld = Callable[..., World]
ROUNDS = int(os.environ.get("CORRO_SOAK_ROUNDS", "20"))
SYMBOLS = ("AAPL", "MSFT", "KO", "PEP", "SPY", "QQQ", "WMT", "NVDA")
FAULTS = (
    ("alpaca", "accept_drop"), ("alpaca", "refuse"), ("alpaca", "disconnect"), ("alpaca", "hang"),
    ("ibkr", "accept_drop"), ("ibkr", "refuse"), ("ibkr", "disconnect"), ("ibkr", "swallow_status"),
)  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_whatever_happens_every_share_is_bought_once(make_world: MakeWorld, seed: int) -> None:
    dice = random.Random(seed)
    world = make_world(["ibkr", "alpaca"])
    world.start_all()
    placed = []
    for _ in range(6):
        for broker, kind in dice.sample(FAULTS, 2):
            world.control.add_fault(broker, kind, count=1)
        wishes = [
            world.request(dice.choice(SYMBOLS), "buy", dice.randint(1, 20), route=dice.sample(["ibkr", "alpaca"], 2))
            for _ in range(dice.randint(1, 40))
        ]
        placed += world.client.submit_many(wishes)
        strike = dice.choice(("kill", "wipe", "nothing"))
        if strike == "kill":
            world.kill_all()
            world.start_all()
        elif strike == "wipe":
            world.kill_queue(wipe=True)
            world.start_queue()
    world.control.clear_faults()

    def unsettled() -> list[Any]:
        return [world.whole(o.client_order_id) for o in placed if not _is_settled(world, o.client_order_id)]

    eventually(lambda: not unsettled(), 120, unsettled)


def _is_settled(world: World, client_order_id: str) -> bool:
    whole = world.whole(client_order_id)
    open_ = [a for a in whole["attempts"] if a["outcome"] in (Outcome.SENDING, Outcome.UNKNOWN)]
    return whole["status"] in {*map(str, TERMINAL), *map(str, LIVE)} and not open_
