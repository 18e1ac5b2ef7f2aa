"""dramatiq: one process with threads; its messages are acknowledged when done, and no result is kept."""

from __future__ import annotations

import common
import dramatiq
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url=common.URL)
dramatiq.set_broker(broker)


@dramatiq.actor
def place(order: dict[str, str]) -> None:
    common.execute(order)


def enqueue(order: dict[str, str]) -> None:
    place.send(order)


COMMAND = ["-m", "dramatiq", "dramatiq_peer", "-p", "1", "-t", str(common.PARALLEL)]
