"""huey: threads that block on the queue, no results, no scheduler of periodic tasks."""

from __future__ import annotations

import common
from huey import RedisHuey

huey = RedisHuey("peer", url=common.URL, results=False)


@huey.task()
def place(order: dict[str, str]) -> None:
    common.execute(order)


def enqueue(order: dict[str, str]) -> None:
    place(order)


COMMAND = ["-m", "huey.bin.huey_consumer", "huey_peer.huey", "-k", "thread", "-w", str(common.PARALLEL), "-n", "-q"]
