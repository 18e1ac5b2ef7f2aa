"""The floor: redis-py's LPUSH and BRPOP around the same task; nothing is acknowledged, retried or watched.

One thread where the broker answers at once, for more would only pass the interpreter's lock around.
"""

from __future__ import annotations

import json
import threading

import common
from redis import Redis

_client = Redis.from_url(common.URL)


def enqueue(order: dict[str, str]) -> None:
    _client.lpush("orders", json.dumps(order))


def enqueue_many(orders: list[dict[str, str]]) -> None:
    _client.lpush("orders", *(json.dumps(order) for order in orders))


def work() -> None:
    client = Redis.from_url(common.URL)
    while True:
        found = client.brpop(["orders"], timeout=1)
        if found:
            common.execute(json.loads(found[1]))


COMMAND = ["floor_peer.py"]

if __name__ == "__main__":
    for _ in range(0 if common.AT_ONCE else common.PARALLEL - 1):
        threading.Thread(target=work, daemon=True).start()
    work()
